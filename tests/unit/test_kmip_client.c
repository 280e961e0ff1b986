/* The client above a scripted transport: which server is asked when, in which version, and what becomes of broken connections. */
#include <errno.h>

#include "key_fixture.h"
#include "kmip_fixture.h"

#include "../../src/key/kmip_client.h"
#include "../../src/key/kmip_uri.h"

TestSuite(kmip_client, .init = scratch_start, .fini = scratch_end);
TestSuite(kmip_uri, .init = scratch_start, .fini = scratch_end);

enum fault { FINE, REFUSES, DROPS, HANGS, NONSENSE, FAILS, DENIES };
/* Server N of the world below, whose host is the digit N. */
static struct server {
	enum fault fault;
	unsigned newest;   /* the newest version that it knows */
	bool undiscovered; /* it does not know Discover Versions */
	unsigned connects, asked;
} world[KMIP_SERVERS_MAX];
static struct connection {
	struct server *server;
	bool open, drops_next;
	uint8_t answer[FIXTURE_SIZE];
	size_t len, done;
} one;
static enum kmip_question last_question;
static unsigned last_minor;

static int script_connect(const struct kmip_server *server, int64_t deadline, void **ret,
			  char why[static KMIP_WHY_SIZE])
{
	struct server *s = &world[server->host[0] - '0'];

	cr_assert(!one.open && deadline > clock_ms());
	s->connects++;
	if (s->fault == REFUSES) {
		strcpy(why, "it refuses");
		return -ECONNREFUSED;
	}
	one = (struct connection){ .server = s, .open = true };
	*ret = &one;
	return 0;
}

/* The operation and the version of a request. */
static enum kmip_operation look(const uint8_t *in, size_t len)
{
	struct ttlv_cursor c, message, header, version, batch;
	struct ttlv_item i;
	uint32_t operation = 0;
	int32_t minor = 0;

	ttlv_read(&c, in, len);
	cr_assert(ttlv_next(&c, &i) == 1 && !ttlv_enter(&c, &i, &message));
	cr_assert(ttlv_next(&message, &i) == 1 && !ttlv_enter(&message, &i, &header));
	cr_assert(ttlv_next(&header, &i) == 1 && !ttlv_enter(&header, &i, &version));
	cr_assert(ttlv_next(&version, &i) == 1 && ttlv_next(&version, &i) == 1 && !ttlv_integer(&i, &minor));
	last_minor = (unsigned)minor;
	cr_assert(ttlv_next(&message, &i) == 1 && !ttlv_enter(&message, &i, &batch));
	cr_assert(ttlv_next(&batch, &i) == 1 && !ttlv_enum(&i, &operation));
	return (enum kmip_operation)operation;
}

static void answer(struct server *s, enum kmip_operation operation)
{
	enum kmip_question q = operation == OPERATION_DISCOVER_VERSIONS ? KMIP_VERSIONS : last_question;

	if (last_minor > s->newest)
		one.len = make_refusal(q, 0, 0, false, REASON_INVALID_MESSAGE, "bad version", one.answer);
	else if (q == KMIP_VERSIONS && s->undiscovered)
		one.len = make_refusal(q, last_minor, 0, true, REASON_OPERATION_NOT_SUPPORTED, NULL, one.answer);
	else if (q == KMIP_VERSIONS)
		one.len = make_answer(q, last_minor, s->newest == 2 ? VERSIONS_1_2 : RIGHT, one.answer);
	else if (s->fault == NONSENSE)
		one.len = make_answer(q, last_minor, OTHER_UID, one.answer);
	else if (s->fault == FAILS || s->fault == DENIES)
		one.len = make_refusal(q, last_minor, 0, true, s->fault == FAILS ? 0x100 : REASON_PERMISSION_DENIED,
				       "no", one.answer);
	else
		one.len = make_answer(q, last_minor, RIGHT, one.answer);
}

static int script_send(void *connection, const void *in, size_t len, int64_t deadline)
{
	cr_assert(connection == &one && one.open && deadline > clock_ms());
	one.server->asked++;
	one.done = 0;
	if (one.drops_next || one.server->fault == DROPS)
		return -EPIPE;
	answer(one.server, look(in, len));
	return 0;
}

static int script_receive(void *connection, void *out, size_t len, int64_t deadline)
{
	cr_assert(connection == &one && one.open && deadline > clock_ms());
	if (one.server->fault == HANGS)
		return -ETIMEDOUT;
	if (len > one.len - one.done)
		return -ECONNRESET;
	memcpy(out, one.answer + one.done, len);
	one.done += len;
	return 0;
}

static const char *script_why(void *connection)
{
	cr_assert(connection == &one && one.open);
	return "";
}

static void script_close(void *connection)
{
	cr_assert(connection == &one && one.open);
	one.open = false;
}

static const struct kmip_transport script = { script_connect, script_send, script_receive, script_why, script_close };

static struct kmip_client *client(size_t count)
{
	struct kmip_server servers[KMIP_SERVERS_MAX] = { 0 };
	struct kmip_client *c;

	for (size_t i = 0; i < count; i++) {
		snprintf(servers[i].host, sizeof(servers[i].host), "%zu", i);
		strcpy(servers[i].port, KMIP_PORT);
		if (!world[i].newest)
			world[i].newest = 4;
	}
	c = kmip_client_new(servers, count, &script, 5000);
	cr_assert(c);
	return c;
}

static int ask(struct kmip_client *c, enum kmip_question question)
{
	static struct wrapped_key wrapped = { .len = KMIP_WRAPPED_SIZE };
	struct kmip_request q = { .question = question, .key = "1", .wrapped = &wrapped };
	struct kmip_answer a;
	int r;

	last_question = question;
	r = kmip_client_ask(c, &q, &a);
	secret_free(a.key);
	return r;
}

Test(kmip_client, the_first_server_that_works_is_kept)
{
	struct kmip_client *c;

	world[0].fault = REFUSES;
	world[1].fault = HANGS;
	c = client(4);
	cr_assert_eq(ask(c, KMIP_GET), 0);
	cr_assert(logged("0:5696 cannot be used: it refuses"));
	cr_assert_eq(ask(c, KMIP_DESCRIBE), 0);
	cr_assert_eq(ask(c, KMIP_DECRYPT), 0);
	cr_assert_eq(world[0].connects, 1);
	cr_assert_eq(world[1].connects, 1);
	cr_assert_eq(world[2].connects, 1);
	cr_assert_eq(world[2].asked, 4, "versions, and three questions");
	cr_assert_eq(world[3].connects, 0);
	kmip_client_free(c);
	cr_assert(!one.open);
}

Test(kmip_client, an_idle_connection_that_is_dead_is_made_anew_once)
{
	struct kmip_client *c = client(1);

	cr_assert_eq(ask(c, KMIP_GET), 0);
	one.drops_next = true;
	cr_assert_eq(ask(c, KMIP_GET), 0);
	cr_assert_eq(world[0].connects, 2);
	one.drops_next = true;
	world[0].fault = DROPS;
	cr_assert_eq(ask(c, KMIP_GET), -EHOSTUNREACH);
	cr_assert_eq(world[0].connects, 3);
	kmip_client_free(c);
}

Test(kmip_client, a_server_that_fails_or_answers_nonsense_is_passed_over)
{
	static const enum fault faults[] = { DROPS, HANGS, NONSENSE, FAILS };

	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		struct kmip_client *c;

		memset(world, 0, sizeof(world));
		world[0].fault = faults[i];
		c = client(2);
		cr_assert_eq(ask(c, KMIP_GET), 0, "fault %d", faults[i]);
		cr_assert_eq(world[1].connects, 1);
		kmip_client_free(c);
	}
}

Test(kmip_client, a_denial_is_an_answer)
{
	struct kmip_client *c;

	world[0].fault = DENIES;
	c = client(2);
	cr_assert_eq(ask(c, KMIP_GET), -EACCES);
	cr_assert_eq(world[1].connects, 0);
	world[0].fault = FINE;
	cr_assert_eq(ask(c, KMIP_GET), 0);
	cr_assert_eq(world[0].connects, 1, "over the same connection");
	kmip_client_free(c);
}

Test(kmip_client, nobody_waits_again_right_after_all_servers_failed)
{
	struct kmip_client *c;

	world[0].fault = HANGS;
	c = client(1);
	cr_assert_eq(ask(c, KMIP_GET), -EHOSTUNREACH);
	cr_assert_eq(ask(c, KMIP_GET), -EHOSTUNREACH);
	cr_assert_eq(world[0].connects, 1);
	world[0].fault = FINE;
	usleep((KMIP_PAUSE_MS + 50) * 1000);
	cr_assert_eq(ask(c, KMIP_GET), 0);
	kmip_client_free(c);
}

Test(kmip_client, versions)
{
	for (unsigned newest = 1; newest <= 4; newest++) {
		for (int undiscovered = 0; undiscovered < 2; undiscovered++) {
			struct kmip_client *c;

			memset(world, 0, sizeof(world));
			world[0].newest = newest;
			world[0].undiscovered = undiscovered;
			/* What the fixture's server says that it knows is 1.4, or 1.2; one that knows 1.3 must not be told so. */
			if (newest == 3 && !undiscovered)
				continue;
			c = client(1);
			cr_assert_eq(ask(c, KMIP_DESCRIBE), newest < 2 ? -EHOSTUNREACH : 0, "1.%u", newest);
			if (newest >= 2) {
				cr_assert_eq(last_minor, newest);
				cr_assert_eq(ask(c, KMIP_DECRYPT), newest < 4 ? -EOPNOTSUPP : 0);
			}
			kmip_client_free(c);
		}
	}
}

/* ---- URIs ---- */

static int parse(const char *uri, struct kmip_uri *ret)
{
	int r = kmip_uri_parse(uri, ret);

	cr_assert_eq(r != 0, logged("is named by"), "%s", uri);
	return r;
}

Test(kmip_uri, good_ones)
{
	struct kmip_uri u;

	cr_assert_eq(parse("kmip://keys.example.org/b4faee10-aa2a", &u), 0);
	cr_assert_eq(u.count, 1);
	cr_assert_str_eq(u.servers[0].host, "keys.example.org");
	cr_assert_str_eq(u.servers[0].port, "5696");
	cr_assert_str_eq(u.name, "b4faee10-aa2a");
	cr_assert(!u.by_name && !u.remote);
	kmip_uri_free(&u);
	cr_assert_eq(parse("kmip://a:1,192.0.2.1,[2001:db8::1]:65535,[::1]/?name=a%20key%26&mode=remote", &u), 0);
	cr_assert_eq(u.count, 4);
	cr_assert_str_eq(u.servers[0].port, "1");
	cr_assert_str_eq(u.servers[1].host, "192.0.2.1");
	cr_assert_str_eq(u.servers[2].host, "2001:db8::1");
	cr_assert_str_eq(u.servers[2].port, "65535");
	cr_assert_str_eq(u.servers[3].host, "::1");
	cr_assert_str_eq(u.servers[3].port, "5696");
	cr_assert_str_eq(u.name, "a key&");
	cr_assert(u.by_name && u.remote);
	kmip_uri_free(&u);
	cr_assert_eq(parse("kmip://a/x%2Fy?mode=remote", &u), 0);
	cr_assert_str_eq(u.name, "x/y");
	cr_assert(!u.by_name && u.remote);
	kmip_uri_free(&u);
	cr_assert_eq(parse("kmip://a/?mode=remote&name=n", &u), 0);
	cr_assert(u.by_name && u.remote);
	kmip_uri_free(&u);
}

Test(kmip_uri, bad_ones)
{
	static const char *const bad[] = {
		"kmip:",
		"kmip://",
		"kmip:///1",
		"kmip://a",
		"kmip://a/",
		"kmip://a/?",
		"kmip://a/?name=",
		"kmip://a/?mode=remote",
		"kmip://a/1?",
		"kmip://a/1?mode=local",
		"kmip://a/1?mode=remote&",
		"kmip://a/1?mode=remote&mode=remote",
		"kmip://a/1?name=n",
		"kmip://a/?name=n&name=m",
		"kmip://a/?name=n&",
		"kmip://a/?name=n&other=1",
		"kmip://a/1#x",
		"kmip://a:/1",
		"kmip://a:0/1",
		"kmip://a:65536/1",
		"kmip://a:123456/1",
		"kmip://a:1x/1",
		"kmip://a:-1/1",
		"kmip://,a/1",
		"kmip://a,/1",
		"kmip://a,,b/1",
		"kmip://[::1/1",
		"kmip://[::1]x/1",
		"kmip://[]/1",
		"kmip://::1/1",
		"kmip://u@a/1",
		"kmip://a b/1",
		"kmip://a/%",
		"kmip://a/%2",
		"kmip://a/%2g",
		"kmip://a/x%00",
		"kmip://a/%0a",
		"kmip://a/with%20space",
		"kmip://a/%22",
		"kmip://a/@include",
		"kmip://a/?name=%1b[31m",
		"kmip://a,a,a,a,a,a,a,a,a/1",
		"http://a/1",
	};
	char longest[700];
	struct kmip_uri u;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		cr_assert_eq(parse(bad[i], &u), -EINVAL, "%s", bad[i]);
	for (int len = 1; len < 600; len++) {
		snprintf(longest, sizeof(longest), "kmip://a/%0*d", len, 0);
		cr_assert_eq(parse(longest, &u), len < KMIP_ID_SIZE ? 0 : -EINVAL, "%d", len);
		kmip_uri_free(&u);
		snprintf(longest, sizeof(longest), "kmip://%0*d/1", len, 0);
		cr_assert_eq(parse(longest, &u), len < KMIP_HOST_SIZE ? 0 : -EINVAL, "%d", len);
		kmip_uri_free(&u);
	}
}
