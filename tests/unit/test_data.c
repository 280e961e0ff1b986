/* Contents: read-modify-write with every kind of unaligned head and tail, over holes, blocks and the end, against a model. */
#include "volume_fixture.h"

TestSuite(data, .init = scratch_in_memory, .fini = scratch_end, .timeout = 250);

enum { MODEL_BLOCKS = 6, MODEL = MODEL_BLOCKS * BLOCK_SIZE };

static uint8_t model[MODEL], got[MODEL + 2 * BLOCK_SIZE], fill[MODEL];
static uint64_t model_size, base; /* base: byte of the file that is model[0]; before it, and between, a hole */

static const size_t edges[] = { 0, 1, 15, 16, 17, 511, 512, 2048, 4080, 4095 };
static const size_t lengths[] = { 1, 15, 16, 17, 512, 4095, 4096, 4097, 8191, 8192, 8193, 12287, 12288 };
enum { EDGES = sizeof(edges) / sizeof(*edges), LENGTHS = sizeof(lengths) / sizeof(*lengths) };

static void expect_model(uint64_t file, const char *when)
{
	ssize_t n = volume_read(vol, file, base, MODEL + 1, got);

	cr_assert_eq(n, (ssize_t)model_size, "%s: %zd bytes, not %lu", when, n, model_size);
	for (size_t i = 0; i < model_size; i++)
		cr_assert_eq(got[i], model[i], "%s: byte %zu is %02x, not %02x", when, i, got[i], model[i]);
	cr_assert_eq((uint64_t)attributes(file).st_size, base + model_size);
}

static void put(uint64_t file, size_t off, size_t len, uint8_t seed)
{
	for (size_t i = 0; i < len; i++)
		fill[i] = (uint8_t)(seed + i * 7 + (i >> 8));
	int r = volume_write(vol, file, base + off, len, fill, KEEP_IDS);

	cr_assert_eq(r, 0, "write %zu at %zu: %s", len, off, strerror(-r));
	if (off > model_size)
		memset(model + model_size, 0, off - model_size);
	memcpy(model + off, fill, len);
	if (off + len > model_size)
		model_size = off + len;
}

static void cut(uint64_t file, size_t size)
{
	truncate_to(file, base + size);
	if (size > model_size)
		memset(model + model_size, 0, size - model_size);
	model_size = size;
}

static void punch(uint64_t file, size_t off, size_t len)
{
	cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, base + off, len, KEEP_IDS),
		     0);
	if (off < model_size)
		memset(model + off, 0, len < model_size - off ? len : model_size - off);
}

/* What the file holds before the write under test. */
enum before { EMPTY, SPARSE, FULL, SHORT, HOLE_WITHIN, BEFORES };

static void prepare(uint64_t file, enum before before)
{
	truncate_to(file, base);
	model_size = 0;
	switch (before) {
	case SPARSE:
		cut(file, MODEL);
		break;
	case FULL:
		put(file, 0, MODEL, 100);
		break;
	case SHORT:
		put(file, 0, BLOCK_SIZE + 100, 101);
		break;
	case HOLE_WITHIN:
		put(file, 0, MODEL, 102);
		punch(file, BLOCK_SIZE, BLOCK_SIZE);
		break;
	default:
		break;
	}
}

static void all_writes(uint64_t file, size_t edge_step)
{
	for (enum before before = EMPTY; before < BEFORES; before++)
		for (size_t i = 0; i < EDGES; i += edge_step)
			for (size_t j = 0; j < LENGTHS; j++)
				for (size_t block = 0; block < 2; block++) {
					char when[64];

					snprintf(when, sizeof(when), "state %d, %zu at %zu", before, lengths[j],
						 block * BLOCK_SIZE + edges[i]);
					prepare(file, before);
					put(file, block * BLOCK_SIZE + edges[i], lengths[j], (uint8_t)(i * 13 + j));
					expect_model(file, when);
				}
}

/* Where the span under test begins: in the header's tags, across to the first group, across groups. */
static const uint64_t bases[] = { 0, HEADER_TAGS - 2, HEADER_TAGS + GROUP_BLOCKS - 3 };

static void unaligned(enum suite suite)
{
	make_volume(suite);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

	for (unsigned i = 0; i < 3; i++) {
		base = bases[i] * BLOCK_SIZE;
		all_writes(file, i ? 2 : 1);
	}
	reopen_volume();
	expect_model(file, "after closing and opening");
	expect_sound(0);
	close_volume();
}

Test(data, unaligned_writes_xts)
{
	unaligned(SUITE_XTS);
}

Test(data, unaligned_writes_gmac)
{
	unaligned(SUITE_XTS_GMAC);
}

Test(data, unaligned_writes_gcm)
{
	unaligned(SUITE_XTS_GCM);
}

Test(data, unaligned_reads)
{
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

	put(file, 0, MODEL - 100, 5);
	punch(file, 2 * BLOCK_SIZE, BLOCK_SIZE);
	for (size_t block = 0; block < MODEL_BLOCKS; block++)
		for (size_t i = 0; i < EDGES; i++)
			for (size_t j = 0; j < LENGTHS; j++) {
				size_t off = block * BLOCK_SIZE + edges[i], len = lengths[j];
				size_t want = off >= model_size ? 0 : len < model_size - off ? len : model_size - off;

				memset(got, 0xee, sizeof(got));
				cr_assert_eq(volume_read(vol, file, off, len, got), (ssize_t)want);
				cr_assert_arr_eq(got, model + off, want);
			}
	close_volume();
}

/* Cutting and growing at every kind of place: what was cut off never comes back. */
Test(data, cut_and_grow)
{
	static const size_t sizes[] = { 0, 1, 100, 4095, 4096, 4097, 8191, 8192, 12288, 12289, MODEL - 1, MODEL };
	enum { SIZES = sizeof(sizes) / sizeof(*sizes) };

	for (unsigned s = 0; s < SUITES; s++) {
		make_volume(suites[s]);
		open_volume();
		uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

		for (unsigned b = 0; b < 3; b++)
			for (unsigned i = 0; i < SIZES; i++)
				for (unsigned j = 0; j < SIZES; j++) {
					base = bases[b] * BLOCK_SIZE;
					prepare(file, FULL);
					cut(file, sizes[i]);
					expect_model(file, "cut");
					cut(file, sizes[j]);
					expect_model(file, "cut or grown again");
					if (sizes[j] < MODEL)
						put(file, MODEL - 1, 1, 9);
					expect_model(file, "written beyond");
				}
		close_volume();
	}
}

Test(data, punch_and_zero)
{
	for (unsigned s = 0; s < SUITES; s++) {
		make_volume(suites[s]);
		open_volume();
		uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

		for (unsigned i = 0; i < EDGES * LENGTHS * 2; i++) {
			size_t off = edges[i % EDGES] + i / EDGES / LENGTHS * BLOCK_SIZE;
			size_t len = lengths[i / EDGES % LENGTHS];

			base = bases[i % 3] * BLOCK_SIZE;
			prepare(file, i % 5 ? FULL : SHORT);
			if (i % 2) {
				punch(file, off, len);
			} else {
				cr_assert_eq(
					volume_fallocate(vol, file, FALLOC_FL_ZERO_RANGE, base + off, len, KEEP_IDS),
					0);
				if (off + len > model_size) {
					memset(model + model_size, 0, off + len - model_size);
					model_size = off + len;
				}
				memset(model + off, 0, len);
			}
			expect_model(file, "zeroed");
		}
		expect_sound(0);
		close_volume();
	}
}

/* Requests large enough to go home directly, over what is there and what is not, and after releases. */
Test(data, large_writes)
{
	enum { BIG = 3 << 20 };
	uint8_t *want = calloc(1, BIG), *buf = malloc(BIG + 2 * BLOCK_SIZE), *data = malloc(BIG);

	for (unsigned s = 0; s < SUITES; s++) {
		make_volume(suites[s]);
		open_volume();
		uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);
		size_t size = 0;

		memset(want, 0, BIG);
		srand(s);
		for (unsigned step = 0; step < 60; step++) {
			size_t off = (size_t)rand() % BIG, len = (size_t)rand() % (BIG - off) + 1;

			if (step % 3 == 0) {
				off &= ~(size_t)(BLOCK_SIZE - 1);
				len = (BIG - off) & ~(size_t)(BLOCK_SIZE - 1);
			}
			if (step % 7 == 6) {
				cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
							      off, len, KEEP_IDS),
					     0);
				memset(want + off, 0, len);
			} else {
				random_bytes(data, len);
				cr_assert_eq(volume_write(vol, file, off, len, data, KEEP_IDS), 0);
				memcpy(want + off, data, len);
				size = off + len > size ? off + len : size;
			}
			if (step % 20 == 19)
				reopen_volume(); /* only then may released blocks go home directly again */
			cr_assert_eq(volume_read(vol, file, 0, BIG, buf), (ssize_t)size);
			cr_assert(!memcmp(buf, want, size), "suite %u, step %u", s, step);
		}
		expect_sound(0);
		close_volume();
	}
	free(want);
	free(buf);
	free(data);
}

Test(data, limits)
{
	uint8_t byte = 1;
	uint64_t at;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644), max = vol->max_size;

	cr_assert_eq(volume_write(vol, file, max, 1, &byte, KEEP_IDS), -EFBIG);
	cr_assert_eq(volume_write(vol, file, UINT64_MAX, 1, &byte, KEEP_IDS), -EFBIG);
	cr_assert_eq(volume_write(vol, file, max - 1, 2, &byte, KEEP_IDS), -EFBIG);
	cr_assert_eq(volume_fallocate(vol, file, 0, max, 1, KEEP_IDS), -EFBIG);
	cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_KEEP_SIZE, 0, 0, KEEP_IDS), -EINVAL);
	cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_PUNCH_HOLE, 0, 1, KEEP_IDS), -EOPNOTSUPP);
	cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096, KEEP_IDS), -EOPNOTSUPP);
	cr_assert_eq(volume_write(vol, ROOT_OBJECT, 0, 1, &byte, KEEP_IDS), -EISDIR);
	cr_assert_eq(volume_read(vol, ROOT_OBJECT, 0, 1, got), -EISDIR);
	cr_assert_eq(volume_seek(vol, ROOT_OBJECT, 0, SEEK_DATA, &at), -EINVAL);
	cr_assert_eq(volume_seek(vol, file, 0, SEEK_DATA, &at), -ENXIO);
	cr_assert_eq(volume_read(vol, 12345, 0, 1, got), -ESTALE);
	cr_assert_eq(volume_write(vol, file, max - 1, 1, &byte, KEEP_IDS), 0);
	cr_assert_eq(volume_read(vol, file, max - 1, 10, got), 1);
	cr_assert_eq(got[0], 1);
	cr_assert_eq(volume_seek(vol, file, 0, SEEK_DATA, &at), 0);
	cr_assert_eq(at, (max - 1) / BLOCK_SIZE * BLOCK_SIZE);
	expect_sound(0);
	close_volume();
}
