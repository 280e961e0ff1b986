/* A connection to the first of several KMIP servers that answers, kept as long as it works.
 *
 * Servers are tried in order, each with a deadline of its own; a connection that was idle and turns out to be dead, as load
 * balancers leave them, is made anew, once. After all of them failed, further questions fail at once for a moment, so that
 * many scopes that share a hung server do not wait for it one after the other. Thread-safe: one question at a time.
 */
#ifndef COFFER_KEY_KMIP_CLIENT_H
#define COFFER_KEY_KMIP_CLIENT_H

#include "kmip_message.h"

enum {
	KMIP_SERVERS_MAX = 8,
	KMIP_HOST_SIZE = 256, /* bytes of a name or an address, with its NUL */
	KMIP_WHY_SIZE = 256,
	KMIP_PAUSE_MS = 1000, /* between two attempts when no server was to be had */
};
struct kmip_server {
	char host[KMIP_HOST_SIZE];
	char port[6];
};

/* How bytes get there: kmip_network, or memory for tests. All but `connect` have the connection that it returned; all return
 * 0 or -errno, and wait no longer than until `deadline` (clock_ms()). */
struct kmip_transport {
	int (*connect)(const struct kmip_server *server, int64_t deadline, void **ret, char why[static KMIP_WHY_SIZE]);
	int (*send)(void *connection, const void *in, size_t len, int64_t deadline);
	int (*receive)(void *connection, void *out, size_t len, int64_t deadline); /* exactly `len` bytes */
	const char *(*why)(void *connection);                                      /* after -EPROTO */
	void (*close)(void *connection);
};
extern const struct kmip_transport kmip_network; /* TLS over TCP, by the settings of key_configure */

struct kmip_client;
/* `timeout_ms`: for connecting to one server, and for each answer. NULL: out of memory. */
struct kmip_client *kmip_client_new(const struct kmip_server *servers, size_t count,
				    const struct kmip_transport *transport, int64_t timeout_ms);
void kmip_client_free(struct kmip_client *c);
/* Asks, connecting where need be. Errors of kmip_answer_read that are answers: -ENOENT, -EACCES, -EINVAL, -EBADMSG,
 * -EOPNOTSUPP, with the reason in ret->why; else -EHOSTUNREACH, with the reason for each server logged; or -ENOMEM. */
int kmip_client_ask(struct kmip_client *c, const struct kmip_request *q, struct kmip_answer *ret);

#endif
