/* Sparse files at every boundary of the geometry, of many TiB where the backing file system takes them, against a model that
 * knows which blocks are there and what is in them. */
#include "volume_fixture.h"

TestSuite(sparse, .init = scratch_in_memory, .fini = scratch_end, .timeout = 250);

enum { PLACES_MAX = 64, NEAR = 3 };

static struct map model; /* block + 1 -> its 4096 bytes */
static uint64_t size, places[PLACES_MAX];
static unsigned place_count;

static void forget_model(void)
{
	size_t pos = 0;

	for (void *b; (b = map_next(&model, &pos, NULL));)
		free(b);
	map_free(&model);
	size = 0;
}

static void add_place(uint64_t group)
{
	uint64_t block = geometry_group_first(group);

	if (block + 2 * NEAR < vol->max_size / BLOCK_SIZE)
		places[place_count++] = block;
}

static void find_places(void)
{
	const uint64_t fan = MAP_FANOUT;

	place_count = 0;
	places[place_count++] = NEAR;
	add_place(0);
	add_place(1);
	add_place(2);
	add_place(ROOT_BITS);
	add_place(fan);
	add_place(fan + 1);
	add_place(3 * fan);
	add_place(ROOT_BITS * fan);
	add_place(fan * fan);
	add_place(2 * fan * fan);
	add_place(ROOT_BITS * fan * fan);
	add_place(ROOT_BITS * fan * fan * 2);
	places[place_count++] = vol->max_size / BLOCK_SIZE - NEAR - 1;
}

static uint64_t some_block(void)
{
	return places[(unsigned)rand() % place_count] + (uint64_t)(rand() % (2 * NEAR)) - NEAR;
}

static uint64_t some_byte(void)
{
	static const size_t edges[] = { 0, 0, 0, 1, 17, 2000, 4095 };

	return some_block() * BLOCK_SIZE + edges[rand() % 7];
}

static uint8_t *model_block(uint64_t block, bool make_it)
{
	uint8_t *b = map_get(&model, block + 1);

	if (!b && make_it) {
		b = calloc(1, BLOCK_SIZE);
		cr_assert_eq(map_put(&model, block + 1, b), 0);
	}
	return b;
}

static void model_drop(uint64_t from, uint64_t to)
{
	for (size_t pos = 0;;) {
		uint64_t key;
		void *b = map_next(&model, &pos, &key);

		if (!b)
			return;
		if (key - 1 < from || key - 1 >= to)
			continue;
		free(map_remove(&model, key));
		pos = 0;
	}
}

static void model_zero(uint64_t off, uint64_t end)
{
	size_t pos = 0;
	uint64_t key;

	model_drop((off + BLOCK_SIZE - 1) / BLOCK_SIZE, end / BLOCK_SIZE);
	for (uint8_t *b; (b = map_next(&model, &pos, &key));) {
		uint64_t first = (key - 1) * BLOCK_SIZE;
		uint64_t from = off > first ? off - first : 0;
		uint64_t to = end > first ? end - first : 0;

		if (to > BLOCK_SIZE)
			to = BLOCK_SIZE;
		if (from < to)
			memset(b + from, 0, to - from);
	}
}

static void do_write(uint64_t file)
{
	uint8_t data[3 * BLOCK_SIZE];
	uint64_t off = some_byte();
	size_t len = 1 + (size_t)rand() % (rand() % 2 ? sizeof(data) : 100);

	if (len > vol->max_size - off)
		len = vol->max_size - off;
	for (size_t i = 0; i < len; i++) /* from rand(), so that another process does the same */
		data[i] = (uint8_t)rand();
	int r = volume_write(vol, file, off, len, data, KEEP_IDS);

	cr_assert_eq(r, 0, "%zu at %lu: %s", len, off, strerror(-r));
	for (size_t i = 0; i < len; i++)
		model_block((off + i) / BLOCK_SIZE, true)[(off + i) % BLOCK_SIZE] = data[i];
	if (off + len > size)
		size = off + len;
}

static void do_truncate(uint64_t file)
{
	uint64_t to = rand() % 4 ? some_byte() : 0;

	truncate_to(file, to);
	model_zero(to, UINT64_MAX);
	model_drop((to + BLOCK_SIZE - 1) / BLOCK_SIZE, UINT64_MAX);
	size = to;
}

static void do_zero(uint64_t file)
{
	bool hole = rand() % 2, keep = hole || rand() % 2;
	uint64_t off = some_byte(), end = rand() % 2 ? some_byte() : off + 1 + (uint64_t)(rand() % 20000);

	if (end <= off)
		end = off + 1;
	if (!hole && end - off > (1 << 20)) /* that takes real space */
		end = off + 5000;
	if (end > vol->max_size)
		end = vol->max_size;
	int r = volume_fallocate(
		vol, file, (hole ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | (keep ? FALLOC_FL_KEEP_SIZE : 0), off,
		end - off, KEEP_IDS);

	cr_assert_eq(r, 0, "zero %lu to %lu: %s", off, end, strerror(-r));
	model_zero(off, end);
	if (!keep && end > size)
		size = end;
}

/* Reads round every place, and walks data and holes. */
static void expect_model(uint64_t file)
{
	static uint8_t buf[2 * (NEAR + 2) * BLOCK_SIZE];
	const uint8_t zeros[BLOCK_SIZE] = { 0 };
	uint64_t at = 0, blocks = 0, next;

	cr_assert_eq((uint64_t)attributes(file).st_size, size);
	cr_assert_eq((uint64_t)attributes(file).st_blocks, model.count * (BLOCK_SIZE / 512));
	for (unsigned i = 0; i < place_count; i++) {
		uint64_t first = places[i] - NEAR;
		ssize_t n = volume_read(vol, file, first * BLOCK_SIZE, 2 * NEAR * BLOCK_SIZE, buf);

		cr_assert_geq(n, 0, "read at block %lu: %zd", first, n);
		for (ssize_t done = 0; done < n; done += BLOCK_SIZE) {
			const uint8_t *want = model_block(first + (uint64_t)done / BLOCK_SIZE, false);
			size_t len = n - done < BLOCK_SIZE ? (size_t)(n - done) : BLOCK_SIZE;

			cr_assert(!memcmp(buf + done, want ? want : zeros, len), "block %lu",
				  first + (uint64_t)done / BLOCK_SIZE);
		}
	}
	while (at < size) {
		int r = volume_seek(vol, file, at, SEEK_DATA, &next);

		if (r == -ENXIO)
			break;
		cr_assert_eq(r, 0);
		cr_assert(next == at || at == 0 || next % BLOCK_SIZE == 0);
		for (at = next / BLOCK_SIZE; model_block(at, false) && at * BLOCK_SIZE < size; at++)
			blocks++;
		cr_assert_eq(volume_seek(vol, file, next, SEEK_HOLE, &next), 0);
		cr_assert_eq(next, at * BLOCK_SIZE < size ? at * BLOCK_SIZE : size);
		at = next;
	}
	/* All that is there was found, but what was given up beyond the end. */
	cr_assert_eq(blocks, model.count);
}

static void random_work(uint64_t file, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		int what = rand() % 10;

		if (what < 6)
			do_write(file);
		else if (what < 8)
			do_zero(file);
		else if (what == 8)
			do_truncate(file);
		expect_model(file);
	}
}

static void against_model(enum suite suite, unsigned rounds)
{
	make_volume(suite);
	open_volume();
	find_places();
	srand(suite * 7);
	for (unsigned round = 0; round < rounds; round++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", round);
		uint64_t file = make(ROOT_OBJECT, name, S_IFREG | 0644);

		forget_model();
		random_work(file, 60);
		reopen_volume();
		expect_model(file);
		expect_sound(0);
		cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, name), 0);
	}
	close_volume();
	forget_model();
}

Test(sparse, random_xts)
{
	against_model(SUITE_XTS, 3);
}

Test(sparse, random_gmac)
{
	against_model(SUITE_XTS_GMAC, 8);
}

Test(sparse, random_gcm)
{
	against_model(SUITE_XTS_GCM, 4);
}

static uint64_t doomed;

static void work(void *arg)
{
	(void)arg;
	srand(99);
	random_work(doomed, 40);
}

/* The same work, here and in a process that is killed: what it had done is there. */
Test(sparse, killed)
{
	for (unsigned s = 0; s < SUITES; s++) {
		make_volume(suites[s]);
		open_volume();
		find_places();
		doomed = make(ROOT_OBJECT, "doomed", S_IFREG | 0644);
		uint64_t mine = make(ROOT_OBJECT, "mine", S_IFREG | 0644);

		forget_model();
		srand(99);
		random_work(mine, 40);
		close_volume();
		struct map kept = model;
		uint64_t kept_size = size;

		model = (struct map){ 0 };
		size = 0;
		work_and_die(work, NULL);
		model = kept;
		size = kept_size;
		open_volume();
		expect_model(mine);
		expect_model(doomed);
		expect_sound(0);
		close_volume();
	}
}

/* One block behind another hole each, over all that the root covers at one height and the next. */
Test(sparse, many_groups_cut_at_once)
{
	uint8_t byte = 1;
	uint64_t next;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

	for (uint64_t group = 0; group < 3000; group++)
		cr_assert_eq(volume_write(vol, file, geometry_group_first(group) * BLOCK_SIZE, 1, &byte, KEEP_IDS), 0);
	cr_assert_eq(attributes(file).st_blocks, 3000 * 8);
	cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      geometry_group_first(100) * BLOCK_SIZE, 800ull * GROUP_BLOCKS * BLOCK_SIZE,
				      KEEP_IDS),
		     0);
	cr_assert_eq(attributes(file).st_blocks, 2200 * 8);
	cr_assert_eq(volume_seek(vol, file, geometry_group_first(100) * BLOCK_SIZE, SEEK_DATA, &next), 0);
	cr_assert_eq(next, geometry_group_first(900) * BLOCK_SIZE);
	expect_sound(0);
	truncate_to(file, 5000);
	cr_assert_eq(attributes(file).st_blocks, 0);
	cr_assert_eq(volume_seek(vol, file, 0, SEEK_DATA, &next), -ENXIO);
	truncate_to(file, geometry_group_first(3000) * BLOCK_SIZE);
	cr_assert_eq(volume_seek(vol, file, 0, SEEK_DATA, &next), -ENXIO);
	expect_sound(0);
	close_volume();
}
