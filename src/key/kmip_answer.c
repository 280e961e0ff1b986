/* Reading a server's answers: every field that matters is there once, is of its type, and answers what was asked. What the
 * specification does not give a meaning to here, such as extensions, is skipped, but must be well-formed where it is passed.
 */
#include "kmip_answer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What a server wrote goes to logs and terminals: only printable characters of it. */
int kmip_fail(struct kmip_answer *a, int r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(a->why, sizeof(a->why), fmt, args);
	va_end(args);
	for (char *c = a->why; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return r;
}

int kmip_malformed(struct kmip_answer *a, const char *what)
{
	return kmip_fail(a, -EPROTO, "its answer is malformed: %s", what);
}

/* ---- structures ---- */

/* The next item of a structure that must be well-formed: 1, 0 at the end, or an error. */
int kmip_next(struct kmip_answer *a, struct ttlv_cursor *c, struct ttlv_item *ret)
{
	int r = ttlv_next(c, ret);

	return r < 0 ? kmip_malformed(a, "lengths, types or padding") : r;
}

int kmip_enter(struct kmip_answer *a, const struct ttlv_cursor *c, const struct ttlv_item *i, struct ttlv_cursor *ret)
{
	int r = ttlv_enter(c, i, ret);

	return r < 0 ? kmip_malformed(a, "something else in place of a structure, or too many within each other") : 0;
}

int kmip_collect(struct kmip_answer *a, const struct ttlv_cursor *c, const struct ttlv_item *i, struct field *fields,
		 size_t count)
{
	struct ttlv_cursor inner;
	struct ttlv_item item;
	int r = kmip_enter(a, c, i, &inner);

	while (!r && (r = kmip_next(a, &inner, &item)) > 0) {
		r = 0;
		for (size_t n = 0; n < count; n++) {
			if (fields[n].tag != item.tag)
				continue;
			if (fields[n].found)
				r = kmip_malformed(a, "a field comes twice");
			fields[n].found = true;
			fields[n].item = item;
		}
	}
	return r;
}

struct ttlv_cursor kmip_within(const struct ttlv_cursor *c)
{
	return (struct ttlv_cursor){ .depth = c->depth + 1 };
}

int kmip_need_enum(struct kmip_answer *a, const struct field *f, uint32_t *ret)
{
	if (!f->found)
		return kmip_malformed(a, "a field is missing");
	return ttlv_enum(&f->item, ret) ? kmip_malformed(a, "a field has a wrong type") : 0;
}

int kmip_need_integer(struct kmip_answer *a, const struct field *f, int32_t *ret)
{
	if (!f->found)
		return kmip_malformed(a, "a field is missing");
	return ttlv_integer(&f->item, ret) ? kmip_malformed(a, "a field has a wrong type") : 0;
}

int kmip_need_bytes(struct kmip_answer *a, const struct field *f, size_t len)
{
	if (!f->found)
		return kmip_malformed(a, "a field is missing");
	if (f->item.type != TTLV_BYTES || f->item.len != len)
		return kmip_malformed(a, "a byte string has a wrong length");
	return 0;
}

/* ---- batch items and the message ---- */

static int meaning_of(uint32_t reason)
{
	switch (reason) {
	case REASON_NOT_FOUND:
	case REASON_OBJECT_NOT_FOUND:
		return -ENOENT;
	case REASON_AUTHENTICATION:
	case REASON_PERMISSION_DENIED:
	case REASON_NOT_AUTHORISED:
	case REASON_ARCHIVED:
	case REASON_DESTROYED:
	case REASON_WRONG_STATE:
	case REASON_SENSITIVE:
	case REASON_NOT_EXTRACTABLE:
	case REASON_VALUE_NOT_PRESENT:
		return -EACCES;
	case REASON_CRYPTOGRAPHIC_FAILURE:
		return -EBADMSG;
	case REASON_OPERATION_NOT_SUPPORTED:
	case REASON_FEATURE_NOT_SUPPORTED:
	case REASON_KEY_FORMAT:
		return -EOPNOTSUPP;
	case REASON_INVALID_MESSAGE:
	case REASON_UNSUPPORTED_VERSION:
		return -EPROTONOSUPPORT;
	default:
		return -EREMOTEIO;
	}
}

static int read_failure(struct reading *r, uint32_t status, const struct field *reason, const struct field *message)
{
	uint32_t code = 0;
	char text[160] = "no message";

	if (status != STATUS_FAILED)
		return kmip_malformed(r->a, "a result that is neither success nor failure");
	if (reason->found && ttlv_enum(&reason->item, &code))
		return kmip_malformed(r->a, "a field has a wrong type");
	if (message->found && message->item.type == TTLV_TEXT)
		snprintf(text, sizeof(text), "%.*s", (int)(message->item.len < 159 ? message->item.len : 159),
			 (const char *)message->item.value);
	return kmip_fail(r->a, meaning_of(code), "it says: %s (reason %#x)", text, (unsigned)code);
}

/* The item at that place among those that were asked for. `alone`: there is no other in the answer. */
static int read_item(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i, unsigned at, bool alone)
{
	struct field f[] = { { TAG_OPERATION },     { TAG_BATCH_ITEM_ID },  { TAG_RESULT_STATUS },
			     { TAG_RESULT_REASON }, { TAG_RESULT_MESSAGE }, { TAG_RESPONSE_PAYLOAD } };
	struct ttlv_cursor inner = kmip_within(c);
	uint32_t operation = 0, status = 0;
	int e = kmip_collect(r->a, c, i, f, sizeof(f) / sizeof(*f));

	if (!e)
		e = kmip_need_enum(r->a, &f[2], &status);
	/* A message that was refused as a whole: the failure is of no operation. */
	if (!e && status != STATUS_SUCCESS && alone && !f[0].found)
		return read_failure(r, status, &f[3], &f[4]);
	if (!e)
		e = kmip_need_enum(r->a, &f[0], &operation);
	if (!e && operation != r->operations[at])
		e = kmip_malformed(r->a, "the result of another operation");
	if (!e && r->count > 1)
		e = kmip_need_bytes(r->a, &f[1], 1);
	if (!e && r->count > 1 && f[1].item.value[0] != at + 1)
		e = kmip_malformed(r->a, "results in a wrong order");
	if (e)
		return e;
	if (status != STATUS_SUCCESS)
		return read_failure(r, status, &f[3], &f[4]);
	if (!f[5].found)
		return kmip_malformed(r->a, "a result without payload");
	return kmip_read_payload(r, r->operations[at], &inner, &f[5].item);
}

static int read_header(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i, bool *ret_our_version,
		       int32_t *ret_count)
{
	struct field f[] = { { TAG_VERSION }, { TAG_BATCH_COUNT } };
	struct field v[] = { { TAG_VERSION_MAJOR }, { TAG_VERSION_MINOR } };
	struct ttlv_cursor inner = kmip_within(c);
	int32_t major = 0, minor = 0;
	int e = i->tag == TAG_RESPONSE_HEADER ? 0 : kmip_malformed(r->a, "it does not begin with a header");

	if (!e)
		e = kmip_collect(r->a, c, i, f, 2);
	if (!e && !f[0].found)
		e = kmip_malformed(r->a, "no version");
	if (!e)
		e = kmip_collect(r->a, &inner, &f[0].item, v, 2);
	if (!e)
		e = kmip_need_integer(r->a, &v[0], &major);
	if (!e)
		e = kmip_need_integer(r->a, &v[1], &minor);
	if (!e)
		e = kmip_need_integer(r->a, &f[1], ret_count);
	*ret_our_version = major == 1 && minor == (int32_t)r->minor;
	return e;
}

static int read_items(struct reading *r, struct ttlv_cursor *c, int32_t count)
{
	struct ttlv_item item;
	int e = 0;

	if (count < 1 || count > (int32_t)r->count)
		return kmip_malformed(r->a, "a wrong number of results");
	for (int32_t at = 0; at < count && !e; at++) {
		e = kmip_next(r->a, c, &item);
		if (e == 1)
			e = item.tag == TAG_BATCH_ITEM ? read_item(r, c, &item, (unsigned)at, count == 1)
						       : kmip_malformed(r->a, "something else in place of a result");
		else if (!e)
			e = kmip_malformed(r->a, "fewer results than it announces");
	}
	if (!e && kmip_next(r->a, c, &item))
		e = kmip_malformed(r->a, "more than it announces");
	/* Only after a failure may the rest be left out. */
	if (!e && count < (int32_t)r->count)
		e = kmip_malformed(r->a, "a result is missing");
	return e;
}

static int read_message(struct reading *r, const uint8_t *in, size_t len)
{
	struct ttlv_cursor whole, c;
	struct ttlv_item item, more;
	bool our_version = false;
	int32_t count = 0;
	int e;

	ttlv_read(&whole, in, len);
	e = kmip_next(r->a, &whole, &item);
	if (e >= 0)
		e = e == 1 && item.tag == TAG_RESPONSE && !ttlv_next(&whole, &more)
			    ? 0
			    : kmip_malformed(r->a, "no message");
	if (!e)
		e = kmip_enter(r->a, &whole, &item, &c);
	if (!e) {
		e = kmip_next(r->a, &c, &item);
		e = e == 1 ? read_header(r, &c, &item, &our_version, &count)
		    : e    ? e
			   : kmip_malformed(r->a, "it is empty");
	}
	if (!e)
		e = read_items(r, &c, count);
	/* A version that a server does not know it may refuse in another one, and for whatever reason. */
	if (!our_version && e == -EREMOTEIO)
		e = -EPROTONOSUPPORT;
	if (!e && !our_version)
		e = kmip_malformed(r->a, "it has another version than the request");
	return e;
}

int kmip_answer_read(const struct kmip_request *q, unsigned minor, const uint8_t *in, size_t len,
		     struct kmip_answer *ret)
{
	struct reading r = { .q = q, .minor = minor, .a = ret };
	int e;

	*ret = (struct kmip_answer){ 0 };
	r.count = kmip_operations(q->question, r.operations);
	e = read_message(&r, in, len);
	if (e) {
		secret_free(ret->key);
		ret->key = NULL;
	}
	return e;
}

int kmip_answer_length(const uint8_t header[static 8], size_t *ret)
{
	return ttlv_message_length(header, TAG_RESPONSE, KMIP_ANSWER_MAX, ret);
}
