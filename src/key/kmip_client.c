#include "kmip_client.h"

#include <errno.h>
#include <stdio.h>

#include <coffer/util.h>

#include "kmip_ttlv.h"
#include "provider.h"

struct kmip_client {
	pthread_mutex_t lock;
	const struct kmip_transport *transport;
	int64_t timeout_ms;
	size_t count;
	struct kmip_server servers[KMIP_SERVERS_MAX];
	void *connection;      /* NULL: none */
	unsigned minor;        /* the protocol version that was agreed on with it; 0: not yet */
	int64_t not_before_ms; /* no attempt until then */
};

struct kmip_client *kmip_client_new(const struct kmip_server *servers, size_t count,
				    const struct kmip_transport *transport, int64_t timeout_ms)
{
	struct kmip_client *c = count && count <= KMIP_SERVERS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	pthread_mutex_init(&c->lock, NULL);
	c->transport = transport;
	c->timeout_ms = timeout_ms;
	c->count = count;
	memcpy(c->servers, servers, count * sizeof(*servers));
	return c;
}

static void disconnect(struct kmip_client *c)
{
	if (c->connection)
		c->transport->close(c->connection);
	c->connection = NULL;
	c->minor = 0;
}

void kmip_client_free(struct kmip_client *c)
{
	if (!c)
		return;
	disconnect(c);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- one exchange ---- */

/* What came from the server has a meaning, so that no other needs to be asked. */
static bool is_answer(int r)
{
	return !r || r == -ENOENT || r == -EACCES || r == -EINVAL || r == -EBADMSG || r == -EOPNOTSUPP || r == -ENOMEM;
}

/* A message there and one back. Both may hold keys. *ret_len: of the answer, which is in `buf`. */
static int exchange(struct kmip_client *c, const struct kmip_request *q, unsigned minor, struct secret *buf,
		    size_t *ret_len)
{
	int64_t deadline = clock_ms() + c->timeout_ms;
	uint8_t *bytes = secret_data(buf);
	size_t len = 0;
	int r = kmip_request_write(q, minor, buf, &len);

	if (!r)
		r = c->transport->send(c->connection, bytes, len, deadline);
	if (!r)
		r = c->transport->receive(c->connection, bytes, TTLV_HEADER, deadline);
	if (!r)
		r = kmip_answer_length(bytes, &len);
	if (!r)
		r = c->transport->receive(c->connection, bytes + TTLV_HEADER, len - TTLV_HEADER, deadline);
	if (!r)
		*ret_len = len;
	return r;
}

/* Any error that is no answer leaves the connection closed: what comes next on it would belong to something else. */
static int ask(struct kmip_client *c, const struct kmip_request *q, unsigned minor, struct kmip_answer *ret)
{
	AUTO_SECRET struct secret *buf = secret_new(KMIP_ANSWER_MAX);
	size_t len = 0;
	const char *why;
	int r;

	*ret = (struct kmip_answer){ 0 };
	if (!buf) {
		snprintf(ret->why, sizeof(ret->why), "no locked memory is left");
		return -ENOMEM;
	}
	r = exchange(c, q, minor, buf, &len);
	if (!r) {
		r = kmip_answer_read(q, minor, secret_bytes(buf), len, ret);
	} else {
		why = r == -EPROTO ? c->transport->why(c->connection) : strerror(-r);
		snprintf(ret->why, sizeof(ret->why), "%s", why[0] ? why : "what it sends is not KMIP, or too long");
	}
	if (!is_answer(r) && r != -EPROTONOSUPPORT)
		disconnect(c);
	return r;
}

/* The newest version that both sides know. A server need not know the version in which it is asked for others. */
static int agree_on_version(struct kmip_client *c, struct kmip_answer *a)
{
	static const struct kmip_request q = { .question = KMIP_VERSIONS };
	int r = -EPROTONOSUPPORT;

	for (unsigned minor = KMIP_MINOR_MAX; r == -EPROTONOSUPPORT && minor >= KMIP_MINOR_MIN; minor--) {
		if (!c->connection)
			return r;
		r = ask(c, &q, minor, a);
		if (!r)
			c->minor = a->minor;
		if (r == -EOPNOTSUPP) {
			c->minor = minor; /* cannot tell its versions, but speaks this one */
			r = 0;
		}
	}
	return r;
}

/* ---- servers ---- */

static int use_server(struct kmip_client *c, size_t n, struct kmip_answer *a)
{
	int r = c->transport->connect(&c->servers[n], clock_ms() + c->timeout_ms, &c->connection, a->why);

	/* Whatever it was, it was no answer about a key. */
	if (r) {
		if (!a->why[0])
			snprintf(a->why, sizeof(a->why), "%s", strerror(-r));
		return -EHOSTUNREACH;
	}
	r = agree_on_version(c, a);
	if (r)
		disconnect(c);
	return r;
}

static int ask_version(struct kmip_client *c, const struct kmip_request *q, struct kmip_answer *ret)
{
	if ((q->question == KMIP_ENCRYPT || q->question == KMIP_DECRYPT) && c->minor < 4) {
		*ret = (struct kmip_answer){ 0 };
		snprintf(ret->why, sizeof(ret->why), "mode=remote needs KMIP 1.4, and it speaks 1.%u only", c->minor);
		return -EOPNOTSUPP;
	}
	return ask(c, q, c->minor, ret);
}

static int ask_all(struct kmip_client *c, const struct kmip_request *q, struct kmip_answer *ret)
{
	int r = -EHOSTUNREACH;

	for (size_t n = 0; n < c->count; n++) {
		*ret = (struct kmip_answer){ 0 };
		r = use_server(c, n, ret);
		if (!r)
			r = ask_version(c, q, ret);
		if (is_answer(r))
			return r;
		disconnect(c);
		log_warning("the key server %s:%s cannot be used: %s", c->servers[n].host, c->servers[n].port,
			    ret->why);
	}
	c->not_before_ms = clock_ms() + KMIP_PAUSE_MS;
	return -EHOSTUNREACH;
}

static int ask_connected(struct kmip_client *c, const struct kmip_request *q, struct kmip_answer *ret)
{
	int r = -EHOSTUNREACH;

	if (c->connection) {
		r = ask_version(c, q, ret);
		if (is_answer(r))
			return r;
		disconnect(c); /* perhaps it was dead for long */
	} else if (clock_ms() < c->not_before_ms) {
		return r;
	}
	return ask_all(c, q, ret);
}

int kmip_client_ask(struct kmip_client *c, const struct kmip_request *q, struct kmip_answer *ret)
{
	LOCK_SCOPE(&c->lock);
	int r;

	*ret = (struct kmip_answer){ 0 };
	r = ask_connected(c, q, ret);
	wipe_traces();
	return r;
}
