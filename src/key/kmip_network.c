/* The way to a KMIP server: resolve, connect, TLS; each with the same deadline, and none of them blocks past it. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include <coffer/tls.h>
#include <coffer/util.h>

#include "kmip_client.h"
#include "provider.h"

/* ---- resolving: getaddrinfo knows no deadline, so it runs in a thread of its own that may be left behind ---- */

struct lookup {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned users; /* who has it: the asker, the thread. The last one frees it */
	bool done;
	int error; /* of getaddrinfo */
	struct addrinfo *found;
	struct kmip_server server;
};

static void leave(struct lookup *l)
{
	bool last;

	pthread_mutex_lock(&l->lock);
	last = --l->users == 0;
	pthread_mutex_unlock(&l->lock);
	if (!last)
		return;
	if (l->found)
		freeaddrinfo(l->found);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void *run_lookup(void *arg)
{
	static const struct addrinfo wanted = { .ai_family = AF_UNSPEC,
						.ai_socktype = SOCK_STREAM,
						.ai_flags = AI_NUMERICSERV };
	struct lookup *l = arg;
	struct addrinfo *found = NULL;
	int error = getaddrinfo(l->server.host, l->server.port, &wanted, &found);

	pthread_mutex_lock(&l->lock);
	l->error = error;
	l->found = error ? NULL : found;
	l->done = true;
	pthread_cond_signal(&l->changed);
	pthread_mutex_unlock(&l->lock);
	leave(l);
	return NULL;
}

static struct lookup *lookup_new(const struct kmip_server *server)
{
	struct lookup *l = calloc(1, sizeof(*l));
	pthread_condattr_t attr;

	if (!l)
		return NULL;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->changed, &attr);
	pthread_condattr_destroy(&attr);
	l->users = 1;
	l->server = *server;
	return l;
}

static int start_lookup(struct lookup *l)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	l->users++;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, run_lookup, l);
	pthread_attr_destroy(&attr);
	if (r)
		l->users--;
	return -r;
}

static int await_lookup(struct lookup *l, int64_t deadline, char why[static KMIP_WHY_SIZE])
{
	struct timespec until = { .tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000 };
	LOCK_SCOPE(&l->lock);

	while (!l->done) {
		if (pthread_cond_timedwait(&l->changed, &l->lock, &until) == ETIMEDOUT && !l->done) {
			snprintf(why, KMIP_WHY_SIZE, "its name could not be resolved in time");
			return -ETIMEDOUT;
		}
	}
	if (!l->error)
		return 0;
	snprintf(why, KMIP_WHY_SIZE, "its name cannot be resolved: %s", gai_strerror(l->error));
	return -EHOSTUNREACH;
}

/* ---- connecting ---- */

static int connect_to(const struct addrinfo *a, int64_t deadline, int *ret)
{
	int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
	int error = 0, one = 1, r = 0;
	socklen_t len = sizeof(error);

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
		r = errno == EINPROGRESS ? wait_for(fd, POLLOUT, deadline) : -errno;
		if (!r && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
			r = -errno;
		if (!r)
			r = -error;
	}
	if (r) {
		close(fd);
		return r;
	}
	*ret = fd;
	return 0;
}

/* One address that swallows packets must not keep the others from being tried. */
static int connect_to_any(const struct addrinfo *found, int64_t deadline, int *ret)
{
	int r = -EHOSTUNREACH, count = 0;

	for (const struct addrinfo *a = found; a; a = a->ai_next)
		count++;
	for (const struct addrinfo *a = found; a; a = a->ai_next, count--) {
		int64_t now = clock_ms();

		r = connect_to(a, now + (deadline - now) / count, ret);
		if (!r)
			return 0;
	}
	return r;
}

static int open_socket(const struct kmip_server *server, int64_t deadline, int *ret, char why[static KMIP_WHY_SIZE])
{
	struct lookup *l = lookup_new(server);
	int r = l ? start_lookup(l) : -ENOMEM;

	if (!l)
		return r;
	if (!r) {
		r = await_lookup(l, deadline, why);
		if (!r) {
			r = connect_to_any(l->found, deadline, ret);
			if (r)
				snprintf(why, KMIP_WHY_SIZE, "%s", strerror(-r));
		}
	}
	leave(l);
	return r;
}

/* ---- TLS ---- */

enum { KEY_FILE_MAX = 1 << 15 };

/* The files are read for each connection: certificates are renewed while volumes are mounted. */
static int network_connect(const struct kmip_server *server, int64_t deadline, void **ret,
			   char why[static KMIP_WHY_SIZE])
{
	const struct key_settings *s = key_settings();
	AUTO_SECRET struct secret *key = secret_new(KEY_FILE_MAX);
	struct tls_files files = { .ca = s->kmip_ca, .certificate = s->kmip_certificate, .key = key };
	struct tls *tls;
	int fd = -1, r;

	_Static_assert((int)KMIP_WHY_SIZE == (int)TLS_WHY_SIZE, "reasons are handed through");
	if (!key)
		return -ENOMEM;
	r = key_file_read(AT_FDCWD, s->kmip_key, s->kmip_key, key, &files.key_len);
	if (r) {
		snprintf(why, KMIP_WHY_SIZE, "the client's private key cannot be used");
		return r;
	}
	r = open_socket(server, deadline, &fd, why);
	if (!r)
		r = tls_connect(fd, server->host, &files, deadline, &tls, why);
	if (!r)
		*ret = tls;
	return r;
}

static int network_send(void *connection, const void *in, size_t len, int64_t deadline)
{
	return tls_write(connection, in, len, deadline);
}

static int network_receive(void *connection, void *out, size_t len, int64_t deadline)
{
	return tls_read(connection, out, len, deadline);
}

static const char *network_why(void *connection)
{
	return tls_why(connection);
}

static void network_close(void *connection)
{
	tls_close(connection);
}

const struct kmip_transport kmip_network = {
	.connect = network_connect,
	.send = network_send,
	.receive = network_receive,
	.why = network_why,
	.close = network_close,
};
