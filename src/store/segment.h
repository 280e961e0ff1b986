/* The log's bytes (FORMAT.md, "The log"): what writing it and replaying it share. Integers are little-endian. */
#ifndef COFFER_STORE_SEGMENT_H
#define COFFER_STORE_SEGMENT_H

#include <assert.h>

#include "internal.h"

#define SEGMENT_MAGIC "COFFERLG"
enum {
	SEGMENT_HEADER_AAD = 16,  /* magic, generation; then the tag */
	CHUNK_MAGIC = 0x4b4e4843, /* "CHNK" */
	CHUNK_HEADER_AAD = 24,    /* magic, frames length, payload length, zero, sequence number; then the tag */
	CHUNK_BOUND = 16,         /* generation, place in the segment: authenticated, not stored */
	NONCE_CHUNK = 0,
	NONCE_SEGMENT = 1,
};

struct chunk {
	uint64_t seq;
	size_t frames_len, payload_len;
	uint8_t *body; /* frames, decrypted, then the payload; the caller frees it */
};

/* The generation that a segment holds under this key. -ENOENT: none; -EBADMSG: of another epoch. */
int segment_read_header(struct log *l, struct aead *aead, unsigned i, uint64_t *ret_generation);
/* Reads the chunk at *pos, if it belongs to the generation and its number is above *seq; moves both. -ENODATA: the end. */
int segment_next_chunk(struct log *l, struct aead *aead, unsigned i, uint64_t generation, size_t *pos, uint64_t *seq,
		       struct chunk *ret);

#endif
