/* libFuzzer's entry for the client's connections, versions and failover; replay.c runs it over the corpus as an ordinary test.
 *
 * The first byte is the number of servers, the second a question that is asked three times; the rest is what comes from them: a
 * byte for each call of the transport, with which it fails or not, and what it receives. Every connection is closed once, and
 * none is used after an error or after it was closed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "../../src/key/kmip_client.h"
#include "fuzz.h"

static struct {
	const uint8_t *at;
	size_t left;
	unsigned opened, closed;
	int connection; /* what stands for one: its address */
	bool open, broken;
} world;

static void require(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "fuzz_kmip_client: %s\n", what);
		abort();
	}
}

/* The outcome of a call: mostly that it works. */
static int outcome(void)
{
	static const int errors[] = { ECONNRESET, ETIMEDOUT, EPIPE, EPROTO };

	if (!world.left)
		return -ECONNRESET;
	world.left--;
	return *world.at++ >= 0xf0 ? -errors[world.at[-1] & 3] : 0;
}

static int memory_connect(const struct kmip_server *server, int64_t deadline, void **ret,
			  char why[static KMIP_WHY_SIZE])
{
	int r = outcome();

	(void)deadline, (void)why;
	require(server->host[0] && !world.open, "connected twice");
	if (r)
		return r;
	world.open = true;
	world.broken = false;
	world.opened++;
	*ret = &world.connection;
	return 0;
}

static void use(const void *connection)
{
	require(connection == &world.connection && world.open && !world.broken, "a dead connection is used");
}

static int memory_send(void *connection, const void *in, size_t len, int64_t deadline)
{
	int r = outcome();

	(void)deadline;
	use(connection);
	require(in && len >= 8 && len % 8 == 0, "something is sent that is no message");
	world.broken = r != 0;
	return r;
}

static int memory_receive(void *connection, void *out, size_t len, int64_t deadline)
{
	int r = outcome();

	(void)deadline;
	use(connection);
	require(len <= KMIP_ANSWER_MAX, "more is awaited than is allowed");
	if (!r && len > world.left)
		r = -ECONNRESET;
	world.broken = r != 0;
	if (r)
		return r;
	memcpy(out, world.at, len);
	world.at += len;
	world.left -= len;
	return 0;
}

static const char *memory_why(void *connection)
{
	require(connection == &world.connection && world.open, "a closed connection is asked");
	return "";
}

static void memory_close(void *connection)
{
	require(connection == &world.connection && world.open, "closed twice");
	world.open = false;
	world.closed++;
}

static const struct kmip_transport memory = {
	.connect = memory_connect,
	.send = memory_send,
	.receive = memory_receive,
	.why = memory_why,
	.close = memory_close,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct kmip_server servers[KMIP_SERVERS_MAX];
	struct kmip_request q = { .key = "1", .nonce = "nonce-nonce" };
	struct wrapped_key wrapped = { .len = KMIP_WRAPPED_SIZE };
	struct kmip_client *c;
	struct secret *plain;

	log_set_level((enum log_level)0);
	require(crypto_start() == 0, "no locked memory");
	if (len < 2)
		return 0;
	for (int i = 0; i < KMIP_SERVERS_MAX; i++)
		servers[i] = (struct kmip_server){ "host", "5696" };
	memset(&world, 0, sizeof(world));
	world.at = data + 2;
	world.left = len - 2;
	c = kmip_client_new(servers, 1 + data[0] % 3, &memory, 1000);
	plain = secret_new(KEY_SIZE);
	require(c && plain, "out of memory");
	q.question = (enum kmip_question)(data[1] % 6);
	q.plain = plain;
	q.wrapped = &wrapped;
	for (int i = 0; i < 3; i++) {
		struct kmip_answer a;
		int r = kmip_client_ask(c, &q, &a);

		require(!r || (!a.key && r != -EPROTO && r != -EREMOTEIO && r != -EPROTONOSUPPORT), "a wrong error");
		secret_free(a.key);
	}
	kmip_client_free(c);
	secret_free(plain);
	require(world.opened == world.closed, "a connection was left open");
	return 0;
}
