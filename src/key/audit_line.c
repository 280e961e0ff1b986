/* Lines of an audit trail. The MAC is over the bytes as they stand, so nothing depends on how JSON is written. */
#include "audit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <coffer/util.h>

enum {
	TEXT_MAX = 1024,                                         /* bytes of one text, with its NUL */
	MAC_FIELD = sizeof(",\"mac\":\"\"}") - 1 + 2 * MAC_SIZE, /* what a line ends in */
};

void audit_line_end(struct audit_line *l)
{
	json_decref(l->json);
	l->json = NULL;
}

static bool get_mac(const json_t *o, const char *key, uint8_t out[static MAC_SIZE])
{
	const json_t *s = json_object_get(o, key);
	size_t len = 0;

	return hex_decode(json_string_value(s) ? json_string_value(s) : "", json_string_length(s), out, MAC_SIZE,
			  &len) == 0 &&
	       len == MAC_SIZE;
}

int audit_line_parse(const struct audit *a, const char *text, size_t len, struct audit_line *ret)
{
	struct audit_line l = { 0 };
	uint8_t mac[MAC_SIZE];
	const json_t *head;
	int r;

	/* Only what the daemon wrote reaches the parser. */
	if (len <= MAC_FIELD)
		return -EBADMSG;
	r = hmac_sha256(a->line_key, text, len - MAC_FIELD, mac);
	if (r < 0)
		return r;
	char end[MAC_FIELD + 1], hex[2 * MAC_SIZE + 1];

	hex_encode(mac, MAC_SIZE, hex);
	snprintf(end, sizeof(end), ",\"mac\":\"%s\"}", hex);
	if (!equal_in_constant_time(end, text + len - MAC_FIELD, MAC_FIELD))
		return -EBADMSG;
	l.json = json_loadb(text, len, 0, NULL);
	if (!l.json)
		return -ENOMEM;
	l.at.number = (uint64_t)json_integer_value(json_object_get(l.json, "number"));
	memcpy(l.at.mac, mac, MAC_SIZE);
	head = json_object_get(l.json, "head");
	l.headless = head != NULL;
	l.head = (uint64_t)json_integer_value(head);
	if (!get_mac(l.json, "previous", l.previous)) {
		audit_line_end(&l);
		return -EBADMSG;
	}
	*ret = l;
	return 0;
}

/* Whatever it holds: what is not UTF-8 loses the bytes that are not ASCII. */
static json_t *json_text(const char *text)
{
	char clean[TEXT_MAX];
	json_t *s;

	snprintf(clean, sizeof(clean), "%s", text);
	s = json_string(clean);
	if (s)
		return s;
	for (char *c = clean; *c; c++)
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	return json_string(clean);
}

static void set_text(json_t *o, const char *key, const char *text)
{
	if (text)
		json_object_set_new(o, key, json_text(text));
}

static void now_as_text(char out[static 40])
{
	struct timespec now;
	struct tm tm;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	len = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + len, 40 - len, ".%03ldZ", now.tv_nsec / 1000000);
}

json_t *audit_fields(const struct audit_event *e)
{
	json_t *o = json_object();
	char time[40];

	now_as_text(time);
	set_text(o, "time", time);
	set_text(o, "event", e->event);
	set_text(o, "scope", e->scope);
	set_text(o, "key_source", e->key_source);
	set_text(o, "key", e->key);
	if (e->key_version)
		json_object_set_new(o, "key_version", json_integer(e->key_version));
	json_object_set_new(o, "requester", json_string(e->requester ? "user" : "daemon"));
	json_object_set_new(o, "uid", json_integer(e->requester ? e->requester->uid : geteuid()));
	json_object_set_new(o, "pid", json_integer(e->requester ? e->requester->pid : getpid()));
	json_object_set_new(o, "result", json_integer(e->outcome));
	set_text(o, "outcome", e->outcome ? strerror(-e->outcome) : "done");
	set_text(o, "detail", e->detail);
	return o;
}

/* The number comes first, the chain last; in between what happened. */
static char *line_text(json_t *fields, const struct audit_position *at)
{
	json_t *o = json_pack("{s:I}", "number", (json_int_t)at->number + 1);
	char hex[2 * MAC_SIZE + 1], *text = NULL;

	hex_encode(at->mac, MAC_SIZE, hex);
	if (o && fields && json_object_update(o, fields) == 0 &&
	    json_object_set_new(o, "previous", json_string(hex)) == 0)
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	json_decref(fields);
	return text;
}

int audit_line_add(const struct audit *a, struct audit_batch *b, struct audit_position *at, json_t *fields)
{
	AUTO_FREE char *text = line_text(fields, at);
	char hex[2 * MAC_SIZE + 1], *bigger;
	struct audit_position next = { .number = at->number + 1 };
	size_t len;
	int r;

	if (!text)
		return -ENOMEM;
	len = strlen(text) - 1; /* without the closing brace */
	r = hmac_sha256(a->line_key, text, len, next.mac);
	if (r < 0)
		return r;
	bigger = realloc(b->text, b->len + len + MAC_FIELD + 2);
	if (!bigger)
		return -ENOMEM;
	hex_encode(next.mac, MAC_SIZE, hex);
	memcpy(bigger + b->len, text, len);
	snprintf(bigger + b->len + len, MAC_FIELD + 2, ",\"mac\":\"%s\"}\n", hex);
	b->text = bigger;
	b->len += len + MAC_FIELD + 1;
	*at = next;
	return 0;
}
