/* The control socket, the daemon's side: one thread accepts, one thread per connection answers one request. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <coffer/crypto.h>

#include "daemon_internal.h"

enum {
	CONNECTIONS_MAX = 16,
	REQUEST_LINE_MAX = 65536, /* bytes */
	REQUEST_SECONDS = 10,     /* for the request to arrive, and for each line of the answer to be taken */
};

struct control {
	int dir_fd, listen_fd, stop_fd;
	char name[SOCKET_NAME_SIZE], mount_name[SOCKET_NAME_SIZE];
	ino_t inode; /* of the socket, as its names have it */
	struct control_facts facts;
	bool bound, serving;
	pthread_t thread;
	pthread_mutex_t lock; /* protects what follows */
	pthread_cond_t idle;
	unsigned busy; /* verbs under way */
	int waiters[CONNECTIONS_MAX];
	unsigned waiter_count;
};

struct job {
	struct control *control;
	int fd;
	struct audit_requester peer;
};

int control_socket_dir(const char *state_dir, bool make, int *ret_fd)
{
	AUTO_FREE char *path = NULL;
	int fd;

	if (asprintf(&path, "%s/run", state_dir) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (make) {
		int r = make_dirs(path, 0700);

		if (r < 0)
			return r;
	}
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int control_name(const char *backing, char out[static SOCKET_NAME_SIZE])
{
	char name[BACKING_NAME_SIZE];
	int r = backing_name(backing, name);

	if (r == 0)
		snprintf(out, SOCKET_NAME_SIZE, "%s.sock", name);
	return r;
}

void control_mount_name(dev_t device, char out[static SOCKET_NAME_SIZE])
{
	snprintf(out, SOCKET_NAME_SIZE, "mount-%u-%u.sock", major(device), minor(device));
}

/* By way of /proc, because a socket's path may have 107 bytes only and a state directory more. */
struct sockaddr_un control_address(int dir_fd, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	return a;
}

static bool is_answered(const struct sockaddr_un *a)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN);
}

/* A socket that nobody answers on is what a killed daemon left. The volume's lock has been taken by now, but on a read-only backing
 * directory that may not keep others out. */
static int bind_socket(struct control *c)
{
	struct sockaddr_un address = control_address(c->dir_fd, c->name);
	mode_t mask;
	int r;

	if (is_answered(&address))
		return -EADDRINUSE;
	unlinkat(c->dir_fd, c->name, 0);
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->listen_fd < 0)
		return -errno;
	mask = umask(0177);
	r = bind(c->listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	c->bound = r == 0;
	if (r == 0) {
		struct stat st;

		r = fstatat(c->dir_fd, c->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
		c->inode = st.st_ino;
	}
	if (r == 0 && listen(c->listen_fd, CONNECTIONS_MAX) < 0)
		r = -errno;
	return r;
}

int control_start(const char *state_dir, const char *backing, struct control **ret)
{
	struct control *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (!c)
		return r;
	c->dir_fd = c->listen_fd = c->stop_fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	r = control_socket_dir(state_dir, true, &c->dir_fd);
	if (r == 0)
		r = control_name(backing, c->name);
	if (r == 0)
		r = bind_socket(c);
	if (r == 0 && (c->stop_fd = eventfd(0, EFD_CLOEXEC)) < 0)
		r = -errno;
	if (r < 0) {
		if (r == -EADDRINUSE)
			log_error("%s: a daemon serves this volume already", backing);
		else
			log_error("control socket in %s/run: %s", state_dir, strerror(-r));
		control_free(c, r);
		return r;
	}
	*ret = c;
	return 0;
}

int control_write(int fd, const json_t *message)
{
	AUTO_FREE char *text = json_dumps(message, JSON_COMPACT);
	struct iovec iov[2];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (!text)
		return -ENOMEM;
	iov[0] = (struct iovec){ .iov_base = text, .iov_len = strlen(text) };
	iov[1] = (struct iovec){ .iov_base = (char[]){ '\n' }, .iov_len = 1 };
	while (m.msg_iovlen > 0) {
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		while (m.msg_iovlen > 0 && (size_t)n >= m.msg_iov->iov_len) {
			n -= (ssize_t)m.msg_iov->iov_len;
			m.msg_iov++;
			m.msg_iovlen--;
		}
		if (m.msg_iovlen > 0) {
			m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + n;
			m.msg_iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static bool peer_may(int fd, struct audit_requester *ret)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0;

	*ret = (struct audit_requester){ .uid = peer.uid, .pid = peer.pid };
	return known && (peer.uid == 0 || peer.uid == geteuid());
}

/* Goes on even if it cannot be recorded, which has been logged then. */
static void record_refusal(struct control *c, const struct audit_requester *peer, int error, const char *detail)
{
	struct audit_event e = { .event = "control-refused", .requester = peer, .outcome = error, .detail = detail };

	log_warning("control socket: process %d of user %u was refused: %s", (int)peer->pid, (unsigned)peer->uid,
		    strerror(-error));
	audit_record(c->facts.audit, &e, 1);
}

static json_t *read_request(int fd)
{
	AUTO_FREE char *line = malloc(REQUEST_LINE_MAX);
	size_t len = 0;
	ssize_t n;

	while (line && len < REQUEST_LINE_MAX) {
		n = recv(fd, line + len, REQUEST_LINE_MAX - len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		len += (size_t)n;
		if (memchr(line + len - n, '\n', (size_t)n))
			return json_loadb(line, len, 0, NULL);
	}
	return NULL;
}

static void send_result(int fd, int result, json_t *more)
{
	json_t *message = json_pack("{s:i}", "result", result);

	if (message && more)
		json_object_update_missing(message, more);
	if (message)
		control_write(fd, message);
	json_decref(message);
	json_decref(more);
}

/* Keeps the connection for the end of the daemon. */
static bool keep_waiter(struct control *c, int fd)
{
	json_t *line = json_pack("{s:s}", "line", "waiting");
	bool kept = false;

	pthread_mutex_lock(&c->lock);
	if (line && c->waiter_count < CONNECTIONS_MAX && control_write(fd, line) == 0) {
		c->waiters[c->waiter_count++] = fd;
		kept = true;
	}
	pthread_mutex_unlock(&c->lock);
	json_decref(line);
	return kept;
}

/* What a person has done with keys: first that it was asked for, so that nothing is done that cannot be recorded, then what came of
 * it. What follows from it, a scope that was locked for instance, the volume records itself. */
static int record_request(struct control *c, const struct connection *from, const struct control_verb *verb,
			  int outcome, const char *what)
{
	const json_t *objects = json_object_get(from->request, "objects");
	json_int_t first = json_integer_value(json_object_get(json_array_get(objects, 0), "object"));
	char detail[128];
	const char *scope = json_string_value(json_object_get(from->request, "scope"));
	struct audit_event e = {
		.event = verb->name,
		.scope = scope,
		.key_source = json_string_value(json_object_get(from->request, "key")),
		.requester = &from->peer,
		.outcome = outcome,
		.detail = detail,
	};

	if (objects)
		snprintf(detail, sizeof(detail), "%s: %zu objects, the first is %" JSON_INTEGER_FORMAT, what,
			 json_array_size(objects), first);
	else
		snprintf(detail, sizeof(detail), "%s", what);
	if (audit_record(c->facts.audit, &e, 1) == 0)
		return 0;
	log_error("no key is used without an audit trail; make room or give access there, and try again");
	return -ECANCELED;
}

static void answer(struct control *c, const struct job *job, json_t *request)
{
	struct connection connection = { .fd = job->fd, .request = request, .peer = job->peer, .facts = &c->facts };
	const char *name = json_string_value(json_object_get(request, "verb"));
	const struct control_verb *verb = name ? control_find_verb(name) : NULL;
	json_t *more = NULL;
	int result = verb ? 0 : -EOPNOTSUPP;

	/* Who asked wants to know why, too. */
	log_tap(control_send_line, &connection);
	if (verb && verb->recorded)
		result = record_request(c, &connection, verb, 0, "asked for");
	if (verb && result == 0) {
		more = verb->run(&connection, &result);
		wipe_traces(); /* its keys, where it handled some, are not needed here any more */
		if (verb->recorded)
			(void)record_request(c, &connection, verb, result, "answered");
	}
	if (!verb)
		record_refusal(c, &job->peer, result, name);
	log_tap(NULL, NULL);
	send_result(job->fd, result, more);
}

static void *run_job(void *arg)
{
	struct job *job = arg;
	struct control *c = job->control;
	struct timeval patience = { .tv_sec = REQUEST_SECONDS };
	const char *name;
	json_t *request = NULL;
	bool kept = false;

	setsockopt(job->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(job->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	request = read_request(job->fd);
	name = json_string_value(json_object_get(request, "verb"));
	if (name && strcmp(name, "wait") == 0) {
		/* Who waits is about to unmount, for which the kernel writes what it holds. */
		fs_end_freeze(c->facts.fs, "the volume was to be unmounted");
		kept = keep_waiter(c, job->fd);
	} else if (request) {
		answer(c, job, request);
	}
	json_decref(request);
	if (!kept)
		close(job->fd);
	free(job);
	pthread_mutex_lock(&c->lock);
	if (--c->busy == 0)
		pthread_cond_broadcast(&c->idle);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static bool take_slot(struct control *c)
{
	LOCK_SCOPE(&c->lock);

	if (c->busy == CONNECTIONS_MAX)
		return false;
	c->busy++;
	return true;
}

static void accept_one(struct control *c)
{
	struct job *job = calloc(1, sizeof(*job));
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	pthread_attr_t detached;
	pthread_t thread;

	int refused = 0;

	if (fd >= 0 && job && !peer_may(fd, &job->peer))
		refused = -EACCES;
	else if (fd >= 0 && job && !take_slot(c))
		refused = -EBUSY;
	if (refused)
		record_refusal(c, &job->peer, refused, "connection");
	if (fd < 0 || !job || refused) {
		if (fd >= 0)
			close(fd);
		free(job);
		return;
	}
	job->control = c;
	job->fd = fd;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &detached, run_job, job) != 0) {
		close(fd);
		free(job);
		pthread_mutex_lock(&c->lock);
		c->busy--;
		pthread_mutex_unlock(&c->lock);
	}
	pthread_attr_destroy(&detached);
}

static void *run_control(void *arg)
{
	struct control *c = arg;
	struct pollfd p[2] = { { .fd = c->listen_fd, .events = POLLIN }, { .fd = c->stop_fd, .events = POLLIN } };

	while (p[1].revents == 0) {
		if (poll(p, 2, -1) > 0 && p[0].revents)
			accept_one(c);
	}
	return NULL;
}

int control_serve(struct control *c, const struct control_facts *f)
{
	c->facts = *f;
	control_mount_name(f->device, c->mount_name);
	unlinkat(c->dir_fd, c->mount_name, 0); /* of a daemon that was killed: its mount is gone */
	if (linkat(c->dir_fd, c->name, c->dir_fd, c->mount_name, 0) < 0)
		log_warning("%s: commands will not find the daemon by its mount point: %s", f->mountpoint,
			    strerror(errno));
	c->serving = pthread_create(&c->thread, NULL, run_control, c) == 0;
	return c->serving ? 0 : -EAGAIN;
}

/* If the backing directory was replaced by another of the same path, the name may be that one's daemon's by now. */
static void remove_name(const struct control *c, const char *name)
{
	struct stat st;

	if (name[0] && fstatat(c->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == c->inode)
		unlinkat(c->dir_fd, name, 0);
}

void control_stop(struct control *c)
{
	uint64_t one = 1;

	if (c->bound) {
		remove_name(c, c->name);
		remove_name(c, c->mount_name);
	}
	c->bound = false;
	if (c->serving && write(c->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(c->thread, NULL);
	c->serving = false;
	pthread_mutex_lock(&c->lock);
	if (c->busy)
		log_notice("waiting for what was asked for over the control socket to finish");
	while (c->busy)
		pthread_cond_wait(&c->idle, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void control_free(struct control *c, int result)
{
	if (!c)
		return;
	control_stop(c);
	for (unsigned i = 0; i < c->waiter_count; i++) {
		send_result(c->waiters[i], result, NULL);
		close(c->waiters[i]);
	}
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->stop_fd >= 0)
		close(c->stop_fd);
	if (c->dir_fd >= 0)
		close(c->dir_fd);
	pthread_cond_destroy(&c->idle);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
