/* Frames, and reading the log of an unclean epoch back into memory. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"
#include "segment.h"

#define COUNT_TO_END 0xffffffffffffULL /* 48 bits */
enum { UNSYNCED_MAX = 65536 /* pages that one frame names; more than a transaction carries */ };

static bool counts_pages(unsigned kind)
{
	return kind == FRAME_RELEASE || kind == FRAME_UNSYNCED;
}

void frame_encode(const struct frame *f, uint8_t out[static FRAME_SIZE])
{
	uint64_t count = f->count < COUNT_TO_END ? f->count : COUNT_TO_END;

	out[0] = f->kind;
	out[1] = f->flags;
	put_le16(out + 2, counts_pages(f->kind) ? (uint16_t)(count >> 32) : f->offset);
	put_le32(out + 4, counts_pages(f->kind) ? (uint32_t)count : f->length);
	put_le64(out + 8, f->object);
	put_le64(out + 16, f->page);
}

int frame_decode(const uint8_t in[static FRAME_SIZE], struct frame *ret)
{
	*ret = (struct frame){ .kind = in[0], .flags = in[1], .object = get_le64(in + 8), .page = get_le64(in + 16) };
	if (counts_pages(ret->kind)) {
		ret->count = (uint64_t)get_le16(in + 2) << 32 | get_le32(in + 4);
		if (ret->count == COUNT_TO_END)
			ret->count = UINT64_MAX;
	} else {
		ret->offset = get_le16(in + 2);
		ret->length = get_le32(in + 4);
	}
	return ret->kind < FRAME_START || ret->kind > FRAME_SYNCED ||
			       (uint64_t)ret->offset + ret->length > BLOCK_SIZE ||
			       (ret->flags & FRAME_BULK && ret->length != BLOCK_SIZE) ||
			       (ret->kind == FRAME_UNSYNCED && ret->count > UNSYNCED_MAX)
		       ? -EBADMSG
		       : 0;
}

static int apply_write(struct generation *g, struct dirty_object *o, const struct frame *f,
		       const struct payload *payload)
{
	map_remove(&o->unsynced, f->page + 1);
	if (f->flags & FRAME_BULK && payload->segment != NOT_LOGGED)
		return dirty_bulk(g, o, f->page, payload);

	struct overlay_page *p = dirty_page(g, o, f->page, (size_t)f->offset + f->length);

	if (!p)
		return -ENOMEM;
	memcpy(p->data + f->offset, payload->bytes, f->length);
	if (f->flags & FRAME_WHOLE)
		memset(p->data + f->length, 0, p->size - f->length);
	return 0;
}

static int apply_unsynced(struct dirty_object *o, const struct frame *f, uint64_t seq)
{
	for (uint64_t i = 0; i < f->count; i++) {
		int r = map_put(&o->unsynced, f->page + i + 1, (void *)1);

		if (r < 0)
			return r;
	}
	o->unsynced_seq = seq;
	return 0;
}

int frame_apply(struct store *s, struct generation *g, const struct frame *f, const struct payload *payload,
		uint64_t seq)
{
	struct dirty_object *o = generation_object(g, f->object);
	int r = 0;

	if (!o)
		return -ENOMEM;
	switch (f->kind) {
	case FRAME_WRITE:
		r = apply_write(g, o, f, payload);
		break;
	case FRAME_RELEASE:
		r = dirty_release(g, o, f->page, f->count);
		o->released_seq = seq;
		if (r == 0)
			r = map_put(&s->released, f->object, (void *)(uintptr_t)g->number);
		break;
	case FRAME_REMOVE:
		dirty_remove(g, o, seq);
		map_remove(&s->orphans, f->object + 1);
		break;
	case FRAME_ORPHAN:
		r = map_put(&s->orphans, f->object + 1, (void *)1);
		break;
	case FRAME_ADOPT:
		map_remove(&s->orphans, f->object + 1);
		break;
	case FRAME_UNSYNCED:
		r = apply_unsynced(o, f, seq);
		break;
	case FRAME_SYNCED:
		if (o->unsynced_seq <= f->page)
			map_free(&o->unsynced);
		break;
	default:
		break;
	}
	return r;
}

/* `end` is where the chunk ends in its segment. */
static int apply_chunk(struct store *s, struct generation *g, const struct chunk *c, unsigned segment, size_t end)
{
	struct payload payload = { c->body + c->frames_len, segment, end - c->payload_len };

	for (size_t at = 0; at < c->frames_len; at += FRAME_SIZE) {
		struct frame f;
		int r = frame_decode(c->body + at, &f);

		if (r == 0 && f.kind == FRAME_WRITE && end - payload.offset < f.length)
			r = -EBADMSG;
		if (r == 0)
			r = frame_apply(s, g, &f, &payload, c->seq);
		if (r < 0) {
			log_error("the log's chunk %" PRIu64 " is not of this program's making: %s", c->seq,
				  strerror(-r));
			return r;
		}
		if (f.kind == FRAME_WRITE) {
			payload.bytes += f.length;
			payload.offset += f.length;
		}
	}
	return 0;
}

/* The last sequence number of the chain in one segment, and what its first chunk says came before. */
static int measure_segment(struct store *s, unsigned i, uint64_t generation, uint64_t *ret_last, uint64_t *ret_before)
{
	size_t pos = SEGMENT_HEADER;
	int r;

	*ret_last = *ret_before = 0;
	for (;;) {
		struct chunk c;

		r = segment_next_chunk(&s->log, s->log.aead, i, generation, &pos, ret_last, &c);
		if (r < 0)
			return r == -ENODATA ? 0 : r;
		struct frame f;

		if (pos == SEGMENT_HEADER + chunk_size(c.frames_len, c.payload_len) && c.frames_len >= FRAME_SIZE &&
		    frame_decode(c.body, &f) == 0 && f.kind == FRAME_START)
			*ret_before = f.page;
		free(c.body);
	}
}

static int replay_segment(struct store *s, unsigned i, uint64_t generation, uint64_t *chunks)
{
	size_t pos = SEGMENT_HEADER;
	uint64_t seq = 0;
	int r = 0;

	while (r == 0) {
		struct chunk c;

		r = segment_next_chunk(&s->log, s->log.aead, i, generation, &pos, &seq, &c);
		if (r == -ENODATA)
			return 0;
		if (r < 0)
			break;
		s->log.next_seq = c.seq + 1;
		r = apply_chunk(s, s->current, &c, i, pos);
		free(c.body);
		++*chunks;
	}
	return r;
}

/* Which segments count, oldest first. A segment is taken into use only after the one before was synced whole; so where the
 * older one does not reach up to what the newer one says came before it, it had been written home, and was being reused. */
int log_replay(struct store *s, uint64_t *ret_chunks)
{
	struct found {
		unsigned segment;
		uint64_t generation, last, before;
	} found[SEGMENTS], *first = found;
	unsigned count = 0;
	int r = 0;

	*ret_chunks = 0;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		struct found *f = &found[count];

		f->segment = i;
		r = segment_read_header(&s->log, s->log.aead, i, &f->generation);
		if (r == -ENOENT || r == -EBADMSG)
			continue;
		if (r == 0)
			r = measure_segment(s, i, f->generation, &f->last, &f->before);
		if (r < 0)
			return r;
		count++;
	}
	if (count == 2 && found[0].generation > found[1].generation) {
		struct found swap = found[0];

		found[0] = found[1];
		found[1] = swap;
	}
	if (count && !found[count - 1].last) /* was made ready, and not used */
		count--;
	if (count == 2 && found[0].last < found[1].before) {
		/* A segment that is being reused has a new header first. One that has not, and ends early, was damaged: it had
		 * been synced whole. It may have been home already; if it was not, what it said is lost. */
		log_error("segment %u of the log is damaged after record %" PRIu64 " of %" PRIu64
			  ": what was done last may be "
			  "incomplete; run coffer fsck",
			  found[0].segment, found[0].last, found[1].before);
		first++;
		count--;
	}
	for (r = 0; r == 0 && count; count--, first++)
		r = replay_segment(s, first->segment, first->generation, ret_chunks);
	return r;
}
