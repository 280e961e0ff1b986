/* libFuzzer's entry for the log: a segment as an attacker may write it, and chunks that are authentic with frames that may be
 * anything. The first byte chooses. In the second case the rest is chunks: length of the frames u8 (in frames), of the payload
 * u16, frames, payload; after them a byte of the segment is changed, and exactly the chunks before it must be read back. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <coffer/util.h>

#include "../../src/store/segment.h"
#include "fuzz.h"

enum { GENERATION = 3, CHUNKS_MAX = 64 };

static void require(bool good)
{
	if (!good)
		abort();
}

static void start(struct log *l)
{
	uint8_t bytes[KEY_SIZE] = { 1 }, salt[32] = { 2 };

	require(crypto_start() == 0);
	struct secret *key = secret_take(bytes, sizeof(bytes));
	struct kdf *kdf = kdf_new(key);

	require(kdf && log_key(kdf, salt, sizeof(salt), &l->aead) == 0);
	require(log_key(kdf, salt, sizeof(salt), &l->header_aead) == 0);
	kdf_free(kdf);
	secret_free(key);
	l->segments[0].fd = memfd_create("segment", MFD_CLOEXEC);
	require(l->segments[0].fd >= 0);
	l->segments[0].size = 1 << 24;
}

/* Applies what the chunk says, as replay does. */
static void apply(struct store *s, struct generation *g, const struct chunk *c)
{
	struct payload payload = { c->body + c->frames_len, NOT_LOGGED, 0 };
	size_t left = c->payload_len;

	for (size_t at = 0; at < c->frames_len; at += FRAME_SIZE) {
		uint8_t again[FRAME_SIZE];
		struct frame f;

		if (frame_decode(c->body + at, &f) < 0)
			return;
		frame_encode(&f, again);
		require(!memcmp(again, c->body + at, FRAME_SIZE));
		if (f.kind == FRAME_WRITE && left < f.length)
			return;
		require(frame_apply(s, g, &f, &payload, c->seq) == 0);
		if (f.kind == FRAME_WRITE) {
			payload.bytes += f.length;
			left -= f.length;
		}
	}
}

static unsigned read_all_chunks(struct log *l)
{
	struct generation *g = generation_new(GENERATION);
	struct store *s = calloc(1, sizeof(*s));
	uint64_t seq = 0, generation = GENERATION;
	size_t pos = SEGMENT_HEADER;
	unsigned n = 0;
	struct chunk c;

	require(g && s);
	(void)segment_read_header(l, l->aead, 0, &generation);
	while (segment_next_chunk(l, l->aead, 0, GENERATION, &pos, &seq, &c) == 0) {
		apply(s, g, &c);
		free(c.body);
		n++;
	}
	generation_free(g);
	map_free(&s->orphans);
	map_free(&s->released);
	free(s);
	return n;
}

static size_t put_chunk(struct log *l, const uint8_t *data, size_t len, size_t *pos, uint64_t *seq)
{
	size_t frames = (size_t)data[0] * FRAME_SIZE, payload = get_le16(data + 1);

	if (frames > len - 3)
		frames = (len - 3) / FRAME_SIZE * FRAME_SIZE;
	if (payload > len - 3 - frames)
		payload = len - 3 - frames;
	struct iovec piece = { (void *)(uintptr_t)(data + 3 + frames), payload };

	*seq += 1 + data[0] % 3;
	require(log_append(l, GENERATION, pos, *seq, data + 3, frames, &piece, payload ? 1 : 0) == 0);
	return 3 + frames + payload;
}

static void chunks(struct log *l, const uint8_t *data, size_t len)
{
	size_t ends[CHUNKS_MAX + 1] = { SEGMENT_HEADER }, pos = SEGMENT_HEADER;
	unsigned n = 0, want = 0;
	uint64_t seq = 0;
	uint8_t byte;

	if (len < 4)
		return;
	size_t changed = get_le32(data);

	data += 4;
	len -= 4;
	while (len >= 3 && n < CHUNKS_MAX) {
		size_t used = put_chunk(l, data, len, &pos, &seq);

		data += used;
		len -= used;
		ends[++n] = pos;
	}
	require(read_all_chunks(l) == n);
	if (pos == SEGMENT_HEADER)
		return;
	changed = SEGMENT_HEADER + changed % (pos - SEGMENT_HEADER);
	require(pread_all(l->segments[0].fd, &byte, 1, (off_t)changed, NULL) == 0);
	byte ^= 1;
	require(pwrite_all(l->segments[0].fd, &byte, 1, (off_t)changed) == 0);
	while (want < n && ends[want + 1] <= changed)
		want++;
	require(read_all_chunks(l) == want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct log l;

	log_set_level((enum log_level)0);
	if (!l.aead)
		start(&l);
	if (len < 1)
		return 0;
	require(ftruncate(l.segments[0].fd, 0) == 0);
	if (*data & 1) {
		require(pwrite_all(l.segments[0].fd, data + 1, len - 1, 0) == 0);
		(void)read_all_chunks(&l);
	} else {
		require(log_start_segment(&l, 0, GENERATION) == 0);
		chunks(&l, data + 1, len - 1);
	}
	return 0;
}
