/* Answers, between kmip_answer.c (the message and its results) and kmip_payload.c (what a result brings). */
#ifndef COFFER_KEY_KMIP_ANSWER_H
#define COFFER_KEY_KMIP_ANSWER_H

#include "kmip_message.h"
#include "kmip_protocol.h"
#include "kmip_ttlv.h"

struct reading {
	const struct kmip_request *q;
	unsigned minor;
	enum kmip_operation operations[OPERATIONS_MAX]; /* that were asked for */
	unsigned count;
	struct kmip_answer *a;
};
/* The payload `i` of a result, which lies in the structure that `c` walks through. Errors as kmip_answer_read. */
int kmip_read_payload(struct reading *r, enum kmip_operation operation, const struct ttlv_cursor *c,
		      const struct ttlv_item *i);

/* Remembers why; returns `r`. */
int kmip_fail(struct kmip_answer *a, int r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int kmip_malformed(struct kmip_answer *a, const char *what); /* -EPROTO */

/* ---- structures. All return 0 or -EPROTO, with the reason why, unless said otherwise ---- */
struct field {
	uint32_t tag;
	bool found;
	struct ttlv_item item;
};
/* 1: the next item; 0: the end. */
int kmip_next(struct kmip_answer *a, struct ttlv_cursor *c, struct ttlv_item *ret);
int kmip_enter(struct kmip_answer *a, const struct ttlv_cursor *c, const struct ttlv_item *i, struct ttlv_cursor *ret);
/* Finds the fields of the structure `i`, which lies in the one that `c` walks through; each may come once. */
int kmip_collect(struct kmip_answer *a, const struct ttlv_cursor *c, const struct ttlv_item *i, struct field *fields,
		 size_t count);
/* What fields found that way lie in. */
struct ttlv_cursor kmip_within(const struct ttlv_cursor *c);
/* A field that must be there, of that type. */
int kmip_need_enum(struct kmip_answer *a, const struct field *f, uint32_t *ret);
int kmip_need_integer(struct kmip_answer *a, const struct field *f, int32_t *ret);
int kmip_need_bytes(struct kmip_answer *a, const struct field *f, size_t len);

#endif
