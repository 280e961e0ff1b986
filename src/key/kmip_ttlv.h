/* TTLV, the encoding of KMIP (OASIS KMIP 1.4 section 9.1): tag (3 bytes), type (1), length (4), value, zeros up to a multiple of
 * eight; big-endian. Pure: no I/O, no allocation; nothing outside of the caller's buffers is ever read or written.
 *
 * Values are not copied: what an item points to lives as long as the buffer that was decoded.
 */
#ifndef COFFER_KEY_KMIP_TTLV_H
#define COFFER_KEY_KMIP_TTLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ttlv_type {
	TTLV_STRUCTURE = 1,
	TTLV_INTEGER = 2,
	TTLV_LONG = 3,
	TTLV_BIG = 4,
	TTLV_ENUM = 5,
	TTLV_BOOLEAN = 6,
	TTLV_TEXT = 7,
	TTLV_BYTES = 8,
	TTLV_TIME = 9,
	TTLV_INTERVAL = 10,
};
enum {
	TTLV_HEADER = 8,     /* bytes: tag, type, length */
	TTLV_DEPTH_MAX = 12, /* structures within structures; KMIP's own messages need nine */
};

/* ---- encoding. Errors stick: the caller checks once, at the end ---- */
struct ttlv_writer {
	uint8_t *out;
	size_t size, len;
	size_t open[TTLV_DEPTH_MAX]; /* where the structures begin that are not ended yet */
	unsigned depth;
	bool failed; /* no room, or structures too deep */
};
void ttlv_start(struct ttlv_writer *w, void *out, size_t size);
void ttlv_begin(struct ttlv_writer *w, uint32_t tag); /* a structure, up to the matching ttlv_end */
void ttlv_end(struct ttlv_writer *w);
void ttlv_put_integer(struct ttlv_writer *w, uint32_t tag, int32_t value);
void ttlv_put_enum(struct ttlv_writer *w, uint32_t tag, uint32_t value);
void ttlv_put_boolean(struct ttlv_writer *w, uint32_t tag, bool value);
void ttlv_put_text(struct ttlv_writer *w, uint32_t tag, const char *value);
void ttlv_put_bytes(struct ttlv_writer *w, uint32_t tag, const void *value, size_t len);
int ttlv_finish(const struct ttlv_writer *w, size_t *ret_len); /* -EMSGSIZE: failed, or structures are open */

/* ---- decoding: a cursor over the items of one structure, or of a message ---- */
struct ttlv_item {
	uint32_t tag;
	enum ttlv_type type;
	const uint8_t *value;
	size_t len; /* without the zeros that fill it up */
};
struct ttlv_cursor {
	const uint8_t *at;
	size_t left;    /* bytes */
	unsigned depth; /* structures around it */
};
void ttlv_read(struct ttlv_cursor *c, const void *in, size_t len);
/* 1: *ret is the next item, well-formed but for what is inside of a structure. 0: the end. -EPROTO: malformed; the cursor
 * stays where it was. */
int ttlv_next(struct ttlv_cursor *c, struct ttlv_item *ret);
/* All of these: -EPROTO if the item is of another type (or, ttlv_enter, lies too deep; ttlv_text, does not fit or has a NUL). */
int ttlv_enter(const struct ttlv_cursor *c, const struct ttlv_item *i, struct ttlv_cursor *ret);
int ttlv_integer(const struct ttlv_item *i, int32_t *ret);
int ttlv_enum(const struct ttlv_item *i, uint32_t *ret);
int ttlv_text(const struct ttlv_item *i, char *out, size_t size);

/* From the first eight bytes of a message: its whole length. -EPROTO: not that tag, or longer than `max`. */
int ttlv_message_length(const uint8_t header[static TTLV_HEADER], uint32_t tag, size_t max, size_t *ret);

#endif
