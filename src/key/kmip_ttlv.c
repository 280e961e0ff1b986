#include "kmip_ttlv.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static uint32_t get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static void put_be32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

/* ---- encoding ---- */

void ttlv_start(struct ttlv_writer *w, void *out, size_t size)
{
	*w = (struct ttlv_writer){ .out = out, .size = size };
}

/* Header and room for the value, already zero. NULL: failed, now or before. */
static uint8_t *add(struct ttlv_writer *w, uint32_t tag, enum ttlv_type type, size_t len)
{
	size_t left = w->size - w->len, padded;
	uint8_t *p = w->out + w->len;

	/* Neither sum wraps: `len` is at most what is left. */
	if (w->failed || left < TTLV_HEADER || len > left - TTLV_HEADER || len > INT32_MAX) {
		w->failed = true;
		return NULL;
	}
	padded = (len + 7) / 8 * 8;
	if (padded > left - TTLV_HEADER) {
		w->failed = true;
		return NULL;
	}
	put_be32(p, tag << 8 | (uint32_t)type);
	put_be32(p + 4, (uint32_t)len);
	memset(p + TTLV_HEADER, 0, padded);
	w->len += TTLV_HEADER + padded;
	return p + TTLV_HEADER;
}

void ttlv_begin(struct ttlv_writer *w, uint32_t tag)
{
	if (w->depth == TTLV_DEPTH_MAX)
		w->failed = true;
	if (add(w, tag, TTLV_STRUCTURE, 0))
		w->open[w->depth++] = w->len;
}

void ttlv_end(struct ttlv_writer *w)
{
	size_t start;

	if (!w->depth)
		w->failed = true;
	if (w->failed)
		return;
	start = w->open[--w->depth];
	put_be32(w->out + start - 4, (uint32_t)(w->len - start));
}

static void put_number(struct ttlv_writer *w, uint32_t tag, enum ttlv_type type, uint32_t value)
{
	uint8_t *p = add(w, tag, type, 4);

	if (p)
		put_be32(p, value);
}

void ttlv_put_integer(struct ttlv_writer *w, uint32_t tag, int32_t value)
{
	put_number(w, tag, TTLV_INTEGER, (uint32_t)value);
}

void ttlv_put_enum(struct ttlv_writer *w, uint32_t tag, uint32_t value)
{
	put_number(w, tag, TTLV_ENUM, value);
}

void ttlv_put_boolean(struct ttlv_writer *w, uint32_t tag, bool value)
{
	uint8_t *p = add(w, tag, TTLV_BOOLEAN, 8);

	if (p)
		p[7] = value;
}

static void put_string(struct ttlv_writer *w, uint32_t tag, enum ttlv_type type, const void *value, size_t len)
{
	uint8_t *p = add(w, tag, type, len);

	if (p && len)
		memcpy(p, value, len);
}

void ttlv_put_text(struct ttlv_writer *w, uint32_t tag, const char *value)
{
	put_string(w, tag, TTLV_TEXT, value, strlen(value));
}

void ttlv_put_bytes(struct ttlv_writer *w, uint32_t tag, const void *value, size_t len)
{
	put_string(w, tag, TTLV_BYTES, value, len);
}

int ttlv_finish(const struct ttlv_writer *w, size_t *ret_len)
{
	if (w->failed || w->depth)
		return -EMSGSIZE;
	*ret_len = w->len;
	return 0;
}

/* ---- decoding ---- */

void ttlv_read(struct ttlv_cursor *c, const void *in, size_t len)
{
	*c = (struct ttlv_cursor){ .at = in, .left = len };
}

static bool length_fits(enum ttlv_type type, size_t len)
{
	switch (type) {
	case TTLV_STRUCTURE:
		return len % 8 == 0; /* each item within it is */
	case TTLV_INTEGER:
	case TTLV_ENUM:
	case TTLV_INTERVAL:
		return len == 4;
	case TTLV_LONG:
	case TTLV_BOOLEAN:
	case TTLV_TIME:
		return len == 8;
	case TTLV_BIG:
		return len && len % 8 == 0;
	case TTLV_TEXT:
	case TTLV_BYTES:
		return true;
	}
	return false;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	uint8_t any = 0;

	for (size_t i = 0; i < len; i++)
		any |= p[i];
	return !any;
}

int ttlv_next(struct ttlv_cursor *c, struct ttlv_item *ret)
{
	struct ttlv_item i;
	size_t room, fill;

	if (!c->left)
		return 0;
	if (c->left < TTLV_HEADER)
		return -EPROTO;
	room = c->left - TTLV_HEADER;
	i.tag = get_be32(c->at) >> 8;
	i.type = (enum ttlv_type)c->at[3];
	i.len = get_be32(c->at + 4);
	i.value = c->at + TTLV_HEADER;
	if (!length_fits(i.type, i.len) || i.len > room)
		return -EPROTO;
	fill = -i.len & 7;
	if (fill > room - i.len || !all_zero(i.value + i.len, fill))
		return -EPROTO;
	if (i.type == TTLV_BOOLEAN && (i.value[7] > 1 || !all_zero(i.value, 7)))
		return -EPROTO;
	c->at += TTLV_HEADER + i.len + fill;
	c->left -= TTLV_HEADER + i.len + fill;
	*ret = i;
	return 1;
}

int ttlv_enter(const struct ttlv_cursor *c, const struct ttlv_item *i, struct ttlv_cursor *ret)
{
	if (i->type != TTLV_STRUCTURE || c->depth == TTLV_DEPTH_MAX)
		return -EPROTO;
	*ret = (struct ttlv_cursor){ .at = i->value, .left = i->len, .depth = c->depth + 1 };
	return 0;
}

int ttlv_integer(const struct ttlv_item *i, int32_t *ret)
{
	if (i->type != TTLV_INTEGER)
		return -EPROTO;
	*ret = (int32_t)get_be32(i->value);
	return 0;
}

int ttlv_enum(const struct ttlv_item *i, uint32_t *ret)
{
	if (i->type != TTLV_ENUM)
		return -EPROTO;
	*ret = get_be32(i->value);
	return 0;
}

int ttlv_text(const struct ttlv_item *i, char *out, size_t size)
{
	if (i->type != TTLV_TEXT || i->len >= size || memchr(i->value, 0, i->len))
		return -EPROTO;
	memcpy(out, i->value, i->len);
	out[i->len] = '\0';
	return 0;
}

int ttlv_message_length(const uint8_t header[static TTLV_HEADER], uint32_t tag, size_t max, size_t *ret)
{
	size_t len = get_be32(header + 4);

	if (get_be32(header) != (tag << 8 | TTLV_STRUCTURE) || len % 8 || len > max || max - len < TTLV_HEADER)
		return -EPROTO;
	*ret = TTLV_HEADER + len;
	return 0;
}
