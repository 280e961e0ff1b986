/* The log: frames, and what is replayed of segments that are cut, torn, changed, foreign, stale or out of order. */
#include "store_fixture.h"

TestSuite(log, .init = store_fixture_start, .fini = store_fixture_end, .timeout = 250);

enum { CHUNKS = 12, OBJECT = 5, PAGE = 3, USED = 100 };

static size_t ends[CHUNKS + 1]; /* where the start and each chunk end in the segment */
static uint8_t *image;          /* of the segment that was written */
static size_t image_len;

static void path_of(unsigned segment, char out[static PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/log/segment%u", in_scratch("store"), segment);
}

static void put_segment(unsigned segment, const uint8_t *bytes, size_t len)
{
	char path[PATH_MAX];

	path_of(segment, path);
	put_file(path, bytes, len, 0600);
}

static uint8_t *get_segment(unsigned segment, size_t len)
{
	char path[PATH_MAX];
	uint8_t *bytes = malloc(len);

	path_of(segment, path);
	int fd = open(path, O_RDONLY);

	cr_assert(fd >= 0);
	cr_assert_eq(pread_all(fd, bytes, len, 0, NULL), 0);
	close(fd);
	return bytes;
}

static void write_number(unsigned n)
{
	uint8_t data[USED];
	struct txn t;

	memset(data, (int)n, sizeof(data));
	begin(&t, 1);
	cr_assert_eq(txn_write(&t, OBJECT, PAGE, data, USED), 0);
	commit(&t);
}

/* The number that was written last, or 0. */
static unsigned read_number(void)
{
	static uint8_t page[BLOCK_SIZE];

	cr_assert_eq(store_read(st, OBJECT, PAGE, 1, page), 0);
	for (unsigned i = 0; i < BLOCK_SIZE; i++)
		cr_assert_eq(page[i], i < USED ? page[0] : 0);
	return page[0];
}

static void write_chain(void)
{
	open_clean();
	ends[0] = st->current->log_used;
	for (unsigned i = 1; i <= CHUNKS; i++) {
		write_number(i);
		ends[i] = st->current->log_used;
	}
	image_len = ends[CHUNKS] + 1000;
	die();
	image = get_segment(0, image_len);
}

/* Replays what stands in the segments; the chain must hold `n` of the numbers, and the state be the one after them. */
static void expect_numbers(unsigned n, const char *what, size_t at)
{
	uint64_t chunks = replay();

	cr_assert_eq(read_number(), n, "%s %zu: number %u, not %u", what, at, read_number(), n);
	cr_assert_eq(chunks, n || chunks ? n + 1 : 0, "%s %zu: %lu chunks, not %u", what, at, chunks, n + 1);
	store_free(st);
}

static unsigned whole_below(size_t len)
{
	unsigned n = 0;

	while (n < CHUNKS && ends[n + 1] <= len)
		n++;
	return n;
}

Test(log, frames)
{
	static const struct frame frames[] = {
		{ .kind = FRAME_START, .page = UINT64_MAX },
		{ .kind = FRAME_WRITE, .object = 1, .page = 2, .offset = 4000, .length = 96 },
		{ .kind = FRAME_WRITE, .object = UINT64_MAX, .page = 1ull << 51, .length = 4096, .flags = FRAME_WHOLE },
		{ .kind = FRAME_WRITE, .object = 7, .length = 4096, .flags = FRAME_WHOLE | FRAME_BULK },
		{ .kind = FRAME_RELEASE, .object = 3, .page = 4, .count = UINT64_MAX },
		{ .kind = FRAME_RELEASE, .object = 3, .page = 4, .count = 0xfffffffffffeULL },
		{ .kind = FRAME_RELEASE, .object = 3, .page = 4, .count = 1 },
		{ .kind = FRAME_REMOVE, .object = 9 },
		{ .kind = FRAME_ORPHAN, .object = 9 },
		{ .kind = FRAME_ADOPT, .object = 9 },
		{ .kind = FRAME_UNSYNCED, .object = 9, .page = 77, .count = 65536 },
		{ .kind = FRAME_SYNCED, .object = 9, .page = 123456789012345 },
	};
	uint8_t bytes[FRAME_SIZE];
	struct frame f;

	for (unsigned i = 0; i < sizeof(frames) / sizeof(*frames); i++) {
		frame_encode(&frames[i], bytes);
		cr_assert_eq(frame_decode(bytes, &f), 0, "frame %u", i);
		cr_assert_eq(f.kind, frames[i].kind);
		cr_assert_eq(f.flags, frames[i].flags);
		cr_assert_eq(f.object, frames[i].object);
		cr_assert_eq(f.page, frames[i].page);
		cr_assert_eq(f.count, frames[i].count);
		cr_assert_eq(f.offset, frames[i].offset);
		cr_assert_eq(f.length, frames[i].length);
	}
	/* Nonsense. */
	frame_encode(&frames[1], bytes);
	put_le32(bytes + 4, 97);
	cr_assert_eq(frame_decode(bytes, &f), -EBADMSG);
	put_le32(bytes + 4, UINT32_MAX);
	cr_assert_eq(frame_decode(bytes, &f), -EBADMSG);
	put_le16(bytes + 2, UINT16_MAX);
	cr_assert_eq(frame_decode(bytes, &f), -EBADMSG);
	frame_encode(&frames[10], bytes);
	put_le32(bytes + 4, 65537);
	cr_assert_eq(frame_decode(bytes, &f), -EBADMSG);
	frame_encode(&frames[3], bytes);
	put_le32(bytes + 4, 4095);
	cr_assert_eq(frame_decode(bytes, &f), -EBADMSG);
	for (unsigned kind = 0; kind < 256; kind++) {
		frame_encode(&frames[7], bytes);
		bytes[0] = (uint8_t)kind;
		cr_assert_eq(frame_decode(bytes, &f), kind < FRAME_START || kind > FRAME_SYNCED ? -EBADMSG : 0);
	}
}

Test(log, whole)
{
	write_chain();
	expect_numbers(CHUNKS, "whole", 0);
}

Test(log, cut_at_every_length)
{
	write_chain();
	uint8_t *torn = malloc(image_len);

	for (size_t len = 0; len <= ends[CHUNKS]; len++) {
		if (len >= ends[0] || len < SEGMENT_HEADER || len % 7 == 0) {
			put_segment(0, image, len);
			expect_numbers(whole_below(len), "cut at", len);
		}
		/* The same with zeros there, as a preallocated segment has. */
		if (len % 5 == 0) {
			memset(torn, 0, image_len);
			memcpy(torn, image, len);
			put_segment(0, torn, image_len);
			expect_numbers(whole_below(len), "zeros from", len);
		}
	}
	free(torn);
}

Test(log, every_byte_counts)
{
	write_chain();
	for (size_t at = 0; at < ends[CHUNKS]; at++) {
		if (at >= SEGMENT_HEADER_AAD + TAG_SIZE && at < SEGMENT_HEADER)
			continue; /* nothing is there */
		image[at] ^= (uint8_t)(1 << at % 8);
		put_segment(0, image, image_len);
		expect_numbers(at < ends[0] ? 0 : whole_below(at), "changed at", at);
		image[at] ^= (uint8_t)(1 << at % 8);
	}
}

Test(log, order)
{
	size_t len;
	uint8_t chunk[2048];

	write_chain();
	len = ends[4] - ends[3];
	cr_assert(ends[5] - ends[4] == len && len <= sizeof(chunk));
	/* Two that changed places. */
	memcpy(chunk, image + ends[3], len);
	memcpy(image + ends[3], image + ends[4], len);
	memcpy(image + ends[4], chunk, len);
	put_segment(0, image, image_len);
	expect_numbers(3, "swapped", 0);
	/* One instead of another. */
	memcpy(image + ends[4], image + ends[3], len);
	put_segment(0, image, image_len);
	expect_numbers(3, "doubled", 0);
	/* One taken out, and the rest moved up. */
	free(image);
	image = NULL;
	put_segment(0, (const uint8_t *)"", 0);
	put_segment(1, (const uint8_t *)"", 0);
	write_chain();
	memmove(image + ends[3], image + ends[4], ends[CHUNKS] - ends[4]);
	memset(image + ends[CHUNKS] - len, 0, len);
	put_segment(0, image, image_len);
	expect_numbers(3, "taken out", 0);
}

Test(log, of_another_epoch_or_volume)
{
	write_chain();
	salt[5] ^= 1;
	expect_numbers(0, "other salt", 0);
	salt[5] ^= 1;
	expect_numbers(CHUNKS, "own salt", 0);

	uint8_t bytes[KEY_SIZE] = { 8 };
	struct secret *key = secret_take(bytes, sizeof(bytes));
	struct kdf *own = structure;

	structure = kdf_new(key);
	expect_numbers(0, "other key", 0);
	kdf_free(structure);
	structure = own;
	secret_free(key);
}

/* The same segment in both places: replayed twice, to the same result. */
Test(log, copied_segment)
{
	write_chain();
	put_segment(1, image, image_len);
	replay();
	cr_assert_eq(read_number(), CHUNKS);
	store_free(st);
	put_segment(0, (const uint8_t *)"", 0);
	expect_numbers(CHUNKS, "in the other place", 0);
}

/* ---- two segments ---- */
static size_t second_start, second_end;
static uint8_t *second;

/* Numbers 1 to 4 in the first segment, whose generation is not home, 5 to 7 in the second. */
static void write_two(bool checkpoint)
{
	open_clean();
	for (unsigned i = 1; i <= 4; i++) {
		write_number(i);
		ends[i] = st->current->log_used;
	}
	rotate();
	second_start = st->current->log_used;
	if (checkpoint)
		cr_assert_eq(store_checkpoint(st), 0);
	for (unsigned i = 5; i <= 7; i++)
		write_number(i);
	second_end = st->current->log_used;
	die();
	image = get_segment(0, ends[4] + 500);
	image_len = ends[4] + 500;
	second = get_segment(1, second_end + 500);
}

static void expect_two(unsigned number, uint64_t want_chunks, const char *what)
{
	uint64_t chunks = replay();

	cr_assert_eq(read_number(), number, "%s: %u", what, read_number());
	cr_assert_eq(chunks, want_chunks, "%s: %lu chunks", what, chunks);
	store_free(st);
}

Test(log, both_segments)
{
	write_two(false);
	expect_two(7, 5 + 4, "both");
	put_segment(1, second, second_start);
	expect_two(4, 5 + 1, "the second only begun");
	put_segment(1, second, SEGMENT_HEADER);
	expect_two(4, 5, "the second empty");
	put_segment(1, second, 10);
	expect_two(4, 5, "the second's header torn");
	/* In each other's place. */
	put_segment(0, second, second_end);
	put_segment(1, image, image_len);
	expect_two(7, 5 + 4, "exchanged");
}

Test(log, first_segment_home)
{
	write_two(true);
	expect_two(7, 4, "the first is free again");
	store_new(backing, false, &st);
	uint64_t chunks;

	/* Were the freed one's old bytes still there in part, they would not count. */
	cr_assert_eq(store_replay(st, structure, salt, SALT, &chunks), 0);
	cr_assert_eq(chunks, 4);
	store_free(st);
}

/* A segment is used again over the chunks of the generation before: they end the chain, whatever the new ones' lengths. */
Test(log, stale_chunks_behind_new_ones)
{
	open_clean();
	for (unsigned i = 1; i <= 30; i++)
		write_number(i);
	for (int i = 0; i < 2; i++) { /* the first segment comes into use again */
		rotate();
		cr_assert_eq(store_checkpoint(st), 0);
	}
	for (unsigned i = 31; i <= 40; i++) {
		write_number(i);
		die();
		expect_two(i, 1 + (i - 30), "over stale chunks");
		recover();
		for (unsigned j = 1; j <= i; j++)
			write_number(j);
		for (int k = 0; k < 2; k++) {
			rotate();
			cr_assert_eq(store_checkpoint(st), 0);
		}
		for (unsigned j = 31; j <= i; j++)
			write_number(j);
	}
	die();
}

/* The orphans are said again at the start of each generation. */
Test(log, orphans_outlive_their_segment)
{
	struct txn t;

	open_clean();
	begin(&t, 1);
	cr_assert_eq(txn_orphan(&t, 77), 0);
	cr_assert_eq(txn_orphan(&t, 78), 0);
	cr_assert_eq(txn_orphan(&t, 79), 0);
	commit(&t);
	begin(&t, 1);
	cr_assert_eq(txn_adopt(&t, 78), 0);
	cr_assert_eq(txn_remove(&t, 79), 0);
	commit(&t);
	for (int i = 0; i < 3; i++) {
		rotate();
		cr_assert_eq(store_checkpoint(st), 0);
	}
	die();
	replay();
	cr_assert_eq(st->orphans.count, 1);
	cr_assert(map_get(&st->orphans, 77 + 1));
	store_free(st);
}
