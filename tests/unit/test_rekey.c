/* Moving objects to other keys, piece by piece: their content stays what it is at every step, over kills, changes and locks. */
#include "volume_fixture.h"

#include <coffer/volume_keys.h>

#include "../../src/volume/keeper.h"

static const enum suite targets[] = { SUITE_XTS_GMAC, SUITE_XTS, SUITE_XTS_GCM };
enum { TARGETS = sizeof(targets) / sizeof(*targets) };

/* A volume with a scope of each suite: numbers 1, 2, 3. */
static void start(void)
{
	char uri[2 * PATH_MAX];

	scratch_in_memory();
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	for (unsigned i = 0; i < TARGETS; i++) {
		uint8_t key[KEY_SIZE] = { 40, (uint8_t)i };
		char name[8];

		put_file(in_scratch("scope%u", i), key, sizeof(key), 0600);
		snprintf(uri, sizeof(uri), "file://%s", in_scratch("scope%u", i));
		snprintf(name, sizeof(name), "s%u", i + 1);
		cr_assert_eq(volume_scope_create(vol, name, uri, targets[i], NULL), 0);
	}
}

static void end(void)
{
	if (vol)
		close_volume();
	scratch_end();
}

TestSuite(rekey, .init = start, .fini = end, .timeout = 200);

/* ---- a file whose every byte is known from its place and a number ---- */

static uint8_t byte_at(unsigned seed, uint64_t at)
{
	uint64_t x = (at / 8 + 1) * 0x9e3779b97f4a7c15ULL + seed;

	x ^= x >> 31;
	return (uint8_t)(x >> (at % 8 * 8));
}

static void fill(uint64_t file, unsigned seed, uint64_t from, size_t len)
{
	uint8_t *buf = malloc(len);

	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at(seed, from + i);
	cr_assert_eq(volume_write(vol, file, from, len, buf, KILL_IDS), 0);
	free(buf);
}

static void expect_filled(uint64_t file, unsigned seed, uint64_t from, size_t len)
{
	uint8_t *buf = malloc(len + BLOCK_SIZE);
	size_t i = 0;

	cr_assert_eq(volume_read(vol, file, from, len, buf), (ssize_t)len);
	while (i < len && buf[i] == byte_at(seed, from + i))
		i++;
	cr_assert_eq(i, len, "object %lu, seed %u: byte %lu of %lu from %lu", file, seed, i, len, from);
	free(buf);
}

static void expect_zeros(uint64_t file, uint64_t from, size_t len)
{
	uint8_t *buf = malloc(len + BLOCK_SIZE);
	size_t i = 0;

	cr_assert_eq(volume_read(vol, file, from, len, buf), (ssize_t)len);
	while (i < len && !buf[i])
		i++;
	cr_assert_eq(i, len);
	free(buf);
}

static void expect_keys(uint64_t object, uint32_t scope, uint32_t version)
{
	struct prologue p;

	cr_assert_eq(object_peek(vol, object, &p), 0);
	cr_assert_eq(p.scope, scope);
	cr_assert_eq(p.dek_version, version);
	cr_assert_eq(p.old_dek_version, 0);
	cr_assert_eq(p.moved, 0);
}

static bool step(uint64_t object, uint32_t scope)
{
	struct rekey_target t = { scope, keys_current_version(vol->keys, scope) };
	unsigned blocks;
	bool done;

	cr_assert_eq(rekey_piece(vol, object, &t, false, &done, &blocks), 0);
	return !done;
}

static struct prologue prologue(uint64_t object)
{
	struct prologue p;

	cr_assert_eq(object_peek(vol, object, &p), 0);
	return p;
}

/* ---- every kind of object ---- */

enum { LARGE = 3 << 20 };
static uint64_t small, large, dir, link_short, link_long, fifo, many;

static void make_kinds(void)
{
	char target[2000], name[64];
	struct attr a;

	small = make(ROOT_OBJECT, "small", S_IFREG | 0644);
	fill(small, 1, 0, 100);
	large = make(ROOT_OBJECT, "large", S_IFREG | 0644);
	fill(large, 2, 0, LARGE);
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "an entry with a name of some length, number %u", i);
		cr_assert_eq(volume_link(vol, small, dir, name, &a), 0);
	}
	link_short = make(ROOT_OBJECT, "short", S_IFLNK | 0777);
	memset(target, 't', sizeof(target) - 1);
	target[sizeof(target) - 1] = 0;
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, "long", S_IFLNK | 0777, 0, target, &a), 0);
	link_long = a.st.st_ino;
	fifo = make(ROOT_OBJECT, "fifo", S_IFIFO | 0600);
	many = make(ROOT_OBJECT, "many", S_IFREG | 0600);
	for (unsigned i = 0; i < 40; i++) {
		static uint8_t value[10000];

		memset(value, (int)i, sizeof(value));
		snprintf(name, sizeof(name), "user.number%u", i);
		cr_assert_eq(volume_setxattr(vol, many, name, value, sizeof(value), 0, false), 0);
	}
}

static void expect_kinds(void)
{
	static char buf[10001];
	char name[64];

	expect_filled(small, 1, 0, 100);
	expect_filled(large, 2, 0, LARGE);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "an entry with a name of some length, number %u", i);
		cr_assert_eq(lookup(dir, name), small, "%s", name);
	}
	cr_assert_eq(volume_readlink(vol, link_short, buf, sizeof(buf)), 6);
	cr_assert_eq(volume_readlink(vol, link_long, buf, sizeof(buf)), 1999);
	cr_assert(S_ISFIFO(attributes(fifo).st_mode));
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "user.number%u", i);
		cr_assert_eq(volume_getxattr(vol, many, name, buf, sizeof(buf)), 10000);
		cr_assert(buf[0] == (char)i && buf[9999] == (char)i);
	}
}

static const uint64_t *kinds(unsigned *ret_count)
{
	static uint64_t all[7];

	all[0] = small, all[1] = large, all[2] = dir, all[3] = link_short, all[4] = link_long, all[5] = fifo;
	all[6] = many;
	*ret_count = 7;
	return all;
}

Test(rekey, every_kind_goes_to_every_suite_and_back)
{
	static const uint32_t way[] = { 1, 2, 3, 1, 3, 2, 0 };
	unsigned count;

	make_kinds();
	for (unsigned w = 0; w < sizeof(way) / sizeof(*way); w++) {
		const uint64_t *all = kinds(&count);

		for (unsigned i = 0; i < count; i++) {
			cr_assert_eq(volume_scope_assign(vol, all[i], way[w], false), 0);
			expect_keys(all[i], way[w], 1);
		}
		cr_assert_eq(object_peek(vol, many, &(struct prologue){ 0 }), 0);
		expect_kinds();
		reopen_volume();
		expect_kinds();
		expect_sound(0);
	}
}

Test(rekey, what_holds_the_attributes_goes_along)
{
	struct object *o;
	uint64_t companion;

	make_kinds();
	cr_assert_eq(object_get(vol, many, &o), 0);
	companion = o->m->companion;
	object_put(vol, o);
	cr_assert(companion);
	cr_assert_eq(volume_scope_assign(vol, many, 3, false), 0);
	expect_keys(companion, 3, 1);
	expect_kinds();
}

/* ---- while it moves ---- */

/* Blocks of all sorts of places, far apart, so that the tree has maps; then every step of the move is looked at. */
Test(rekey, a_sparse_file_is_whole_at_every_step)
{
	static const uint64_t places[] = { 0,
					   31,
					   32,
					   33,
					   157,
					   158,
					   300,
					   32256,
					   40000,
					   32 + 126ULL * 256,
					   32 + 126ULL * 257,
					   32 + 126ULL * MAP_FANOUT - 1,
					   32 + 126ULL * MAP_FANOUT,
					   32 + 126ULL * MAP_FANOUT * 300 };
	enum { PLACES = sizeof(places) / sizeof(*places) };

	for (uint32_t scope = 1; scope <= 3; scope++) {
		uint64_t f = make(ROOT_OBJECT, scope == 1 ? "a" : scope == 2 ? "b" : "c", S_IFREG | 0644);
		unsigned steps = 0, seen = 0;

		for (unsigned i = 0; i < PLACES; i++)
			fill(f, 7, places[i] * BLOCK_SIZE + 5, 3000);
		for (bool more = true; more; steps++) {
			more = step(f, scope);
			seen += prologue(f).old_dek_version != 0;
			if (steps % 2)
				reopen_volume();
			for (unsigned i = 0; i < PLACES; i++) {
				expect_filled(f, 7, places[i] * BLOCK_SIZE + 5, 3000);
				expect_zeros(f, places[i] * BLOCK_SIZE, 5);
			}
			expect_sound(0);
		}
		cr_assert_gt(seen, 5);
		expect_keys(f, scope, 1);
	}
}

/* A map page goes with the first block that it covers, also where no tag page near that block is there. */
Test(rekey, map_pages_that_begin_in_a_hole)
{
	const uint64_t last = vol->max_size / BLOCK_SIZE - 1;
	const uint64_t ways[][4] = {
		{ 0, 32 + 126ULL * 3000, 0, 0 },
		{ 32 + 126ULL * MAP_FANOUT - 1, 32 + 126ULL * (MAP_FANOUT + 7), 0, 0 },
		{ 0, 32 + 126ULL * MAP_FANOUT - 3, 32 + 126ULL * (2 * MAP_FANOUT + 5), 32 + 126ULL * MAP_FANOUT * 400 },
		{ 32 + 126ULL * MAP_FANOUT * 400, 32 + 126ULL * MAP_FANOUT * 400 + 126ULL * 9, 0, 0 },
		{ 3, last - 300, last - 1, last },
	};

	for (unsigned w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
		char name[8] = { (char)('a' + w) };
		uint64_t f = make(ROOT_OBJECT, name, S_IFREG | 0644);

		for (unsigned i = 0; i < 4; i++)
			if (i == 0 || ways[w][i])
				fill(f, 9, ways[w][i] * BLOCK_SIZE, 3000);
		for (bool more = true; more;) {
			more = step(f, 3);
			reopen_volume();
			for (unsigned i = 0; i < 4; i++)
				if (i == 0 || ways[w][i])
					expect_filled(f, 9, ways[w][i] * BLOCK_SIZE, 3000);
			expect_sound(0);
		}
		expect_keys(f, 3, 1);
	}
}

/* Random changes between the steps, compared with a plain copy. */
static void change_at_random(uint64_t f, uint8_t *model, size_t *size, size_t max)
{
	size_t at = (size_t)rand() % max, len = 1 + (size_t)rand() % (rand() % 4 ? 9000 : 300000);
	unsigned seed = (unsigned)rand();

	if (at + len > max)
		len = max - at;
	switch (rand() % 4) {
	case 0:
		truncate_to(f, at);
		if (at < *size)
			memset(model + at, 0, *size - at);
		*size = at;
		break;
	case 1:
		cr_assert_eq(volume_fallocate(vol, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len, KILL_IDS),
			     0);
		memset(model + at, 0, len);
		break;
	default:
		fill(f, seed, at, len);
		for (size_t i = 0; i < len; i++)
			model[at + i] = byte_at(seed, at + i);
		*size = at + len > *size ? at + len : *size;
	}
}

static void expect_model(uint64_t f, const uint8_t *model, size_t size)
{
	uint8_t *buf = malloc(size + BLOCK_SIZE);

	cr_assert_eq((size_t)attributes(f).st_size, size);
	cr_assert_eq(volume_read(vol, f, 0, size, buf), (ssize_t)size);
	cr_assert_eq(memcmp(buf, model, size), 0);
	free(buf);
}

Test(rekey, changes_on_both_sides_of_the_border)
{
	enum { MAX = 8 << 20 };
	uint8_t *model = calloc(1, MAX);
	size_t size = 0;
	uint64_t f = make(ROOT_OBJECT, "f", S_IFREG | 0644);
	unsigned moving = 0;

	srand(11);
	for (unsigned round = 0; round < 12; round++) {
		uint32_t scope = round % 4;

		for (unsigned i = 0; i < 6; i++)
			change_at_random(f, model, &size, MAX);
		while (step(f, scope)) {
			moving += prologue(f).old_dek_version != 0;
			change_at_random(f, model, &size, MAX);
			expect_model(f, model, size);
			if (rand() % 4 == 0)
				reopen_volume();
		}
		expect_model(f, model, size);
		expect_sound(0);
	}
	cr_assert_gt(moving, 20);
	free(model);
}

/* ---- kills ---- */

struct killed {
	uint64_t f;
	uint32_t scope;
	unsigned steps;
};

static void step_and_die(void *arg)
{
	const struct killed *k = arg;

	for (unsigned i = 0; i < k->steps; i++)
		(void)step(k->f, k->scope);
	fill(k->f, 3, (uint64_t)k->steps << 18, 5000); /* new data, past the log */
	fill(k->f, 4, (10ULL << 20) + ((uint64_t)k->steps << 20), 1 << 20);
}

Test(rekey, a_kill_between_any_two_steps)
{
	struct killed k = { .scope = 3 };

	k.f = make(ROOT_OBJECT, "f", S_IFREG | 0644);
	fill(k.f, 2, 0, LARGE);
	for (k.steps = 0; k.steps < 5; k.steps++) {
		for (unsigned i = 0; i < k.steps; i++)
			expect_filled(k.f, 3, (uint64_t)i << 18, 5000);
		close_volume();
		work_and_die(step_and_die, &k);
		open_volume();
		expect_filled(k.f, 3, (uint64_t)k.steps << 18, 5000);
		expect_filled(k.f, 4, (10ULL << 20) + ((uint64_t)k.steps << 20), 1 << 20);
		expect_filled(k.f, 2, 2 << 20, 1 << 20);
		expect_sound(0);
	}
	while (step(k.f, 3))
		;
	expect_keys(k.f, 3, 1);
	expect_filled(k.f, 2, 2 << 20, 1 << 20);
	expect_sound(0);
}

/* ---- locks ---- */

Test(rekey, both_scopes_must_be_open_while_it_moves)
{
	uint64_t f = make(ROOT_OBJECT, "f", S_IFREG | 0644);
	struct attr a;

	fill(f, 5, 0, LARGE);
	while (step(f, 1))
		;
	cr_assert(step(f, 2));
	cr_assert_eq(prologue(f).old_scope, 1);
	for (uint32_t scope = 1; scope <= 2; scope++) {
		cr_assert_eq(volume_key_lock(vol, scope), 0);
		cr_assert_eq(volume_getattr(vol, f, &a), -EACCES);
		cr_assert_eq(volume_scope_assign(vol, f, 2, false), -EACCES);
		cr_assert_eq(volume_key_unlock(vol, scope), 0);
		expect_filled(f, 5, 0, LARGE);
	}
	/* To a third one it goes by way of the second. */
	cr_assert_eq(volume_scope_assign(vol, f, 3, false), 0);
	expect_keys(f, 3, 1);
	expect_filled(f, 5, 0, LARGE);
	cr_assert_eq(volume_key_lock(vol, 1), 0);
	cr_assert_eq(volume_key_lock(vol, 2), 0);
	expect_filled(f, 5, 0, LARGE);
}

/* ---- directories that deny other scopes ---- */

Test(rekey, what_is_made_inherits_and_what_moves_keeps)
{
	uint64_t d = make(ROOT_OBJECT, "d", S_IFDIR | 0755), before = make(d, "before", S_IFREG | 0644), in, sub;

	cr_assert_eq(volume_scope_assign(vol, d, 1, false), 0);
	in = make(d, "in", S_IFREG | 0644);
	sub = make(d, "sub", S_IFDIR | 0755);
	expect_keys(before, 0, 1);
	expect_keys(in, 1, 1);
	expect_keys(make(sub, "deep", S_IFLNK | 0777), 1, 1);
	cr_assert_eq(volume_rename(vol, d, "in", ROOT_OBJECT, "out", 0), 0);
	expect_keys(in, 1, 1);
	expect_sound(0);
}

Test(rekey, a_directory_denies_other_scopes)
{
	uint64_t d = make(ROOT_OBJECT, "d", S_IFDIR | 0755), f = make(d, "f", S_IFREG | 0644), sub, other;
	struct attr a;

	cr_assert_eq(volume_scope_assign(vol, f, 1, true), -ENOTDIR);
	cr_assert_eq(volume_scope_assign(vol, d, 1, true), -EXDEV, "f is in another scope");
	expect_keys(d, 0, 1);
	cr_assert_eq(volume_scope_assign(vol, f, 1, false), 0);
	sub = make(d, "sub", S_IFDIR | 0755);
	cr_assert_eq(volume_scope_assign(vol, sub, 1, false), 0);
	cr_assert_eq(volume_scope_assign(vol, d, 1, true), -EXDEV, "sub does not deny");
	cr_assert_eq(volume_scope_assign(vol, sub, 1, true), 0);
	cr_assert_eq(volume_scope_assign(vol, d, 1, true), 0);
	expect_keys(d, 1, 1);

	/* Nothing of another scope gets in, by any way. */
	other = make(ROOT_OBJECT, "other", S_IFREG | 0644);
	cr_assert_eq(volume_scope_assign(vol, f, 0, false), -EXDEV);
	cr_assert_eq(volume_scope_assign(vol, sub, 2, false), -EXDEV);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "other", d, "other", 0), -EXDEV);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "other", sub, "other", 0), -EXDEV);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "other", d, "f", 0), -EXDEV);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "other", d, "f", RENAME_EXCHANGE), -EXDEV);
	cr_assert_eq(volume_rename(vol, d, "f", ROOT_OBJECT, "other", RENAME_EXCHANGE), -EXDEV);
	cr_assert_eq(volume_link(vol, other, d, "other", &a), -EXDEV);
	make(ROOT_OBJECT, "full", S_IFDIR | 0755);
	cr_assert_eq(volume_scope_assign(vol, lookup(ROOT_OBJECT, "full"), 1, false), 0);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "full", d, "empty", 0), 0, "of the same scope, and empty");
	cr_assert_eq(volume_rename(vol, d, "empty", ROOT_OBJECT, "full", 0), 0);
	cr_assert_eq(volume_scope_assign(vol, lookup(ROOT_OBJECT, "full"), 1, false), 0, "and it denies no more");
	make(lookup(ROOT_OBJECT, "full"), "file", S_IFREG | 0644);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "full", d, "full", 0), -EXDEV, "nobody looks what is in it");

	/* What is of the scope does, and what is made there denies, too. */
	cr_assert_eq(volume_scope_assign(vol, other, 1, false), 0);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "other", sub, "other", 0), 0);
	cr_assert_eq(volume_link(vol, other, d, "again", &a), 0);
	cr_assert_eq(volume_rename(vol, d, "f", sub, "f", 0), 0);
	uint64_t deep = make(make(sub, "x", S_IFDIR | 0755), "y", S_IFDIR | 0755);

	make(ROOT_OBJECT, "z", S_IFREG | 0644);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "z", deep, "z", 0), -EXDEV);
	cr_assert_eq(volume_rename(vol, d, "sub", d, "sub2", 0), 0);
	cr_assert_eq(volume_rename(vol, d, "sub2", ROOT_OBJECT, "sub2", 0), 0);
	reopen_volume();
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "z", deep, "z", 0), -EXDEV);

	/* Names that are only counted are not forgotten. */
	uint64_t linked = make(ROOT_OBJECT, "linked", S_IFREG | 0644);
	char name[VOLUME_NAME_MAX + 1];

	cr_assert_eq(volume_scope_assign(vol, linked, 1, false), 0);
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "%0200u", i);
		cr_assert_eq(volume_link(vol, linked, i == 7 ? deep : ROOT_OBJECT, name, &a), 0);
	}
	cr_assert_eq(volume_scope_assign(vol, linked, 2, false), -EXDEV);
	cr_assert_eq(volume_unlink(vol, deep, name), 0);
	for (unsigned i = 0; i < 7; i++) {
		snprintf(name, sizeof(name), "%0200u", i);
		cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, name), 0);
	}
	cr_assert_eq(volume_scope_assign(vol, linked, 2, false), 0);

	/* And it can be taken back. */
	cr_assert_eq(volume_scope_assign(vol, deep, 1, false), 0);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "z", deep, "z", 0), 0);
	expect_sound(0);
}

/* ---- states of before beside those of after ---- */

enum { SWAP_BLOCKS = 512, SWAP_PAGES = 640 };
struct below {
	uint8_t header[BLOCK_SIZE], pages[SWAP_PAGES * BLOCK_SIZE];
};

static void file_below(uint64_t object, bool write, struct below *b)
{
	char path[64];

	snprintf(path, sizeof(path), "objects/%03lx/headers", object >> 12);
	int headers = openat(backing, path, O_RDWR);
	off_t at = (off_t)(object & 4095) * BLOCK_SIZE;

	snprintf(path, sizeof(path), "objects/%03lx/%03lx", object >> 12, object & 4095);
	int file = openat(backing, path, O_RDWR);

	cr_assert(headers >= 0 && file >= 0);
	if (write) {
		cr_assert_eq(pwrite(headers, b->header, BLOCK_SIZE, at), BLOCK_SIZE);
		cr_assert_eq(pwrite(file, b->pages, sizeof(b->pages), 0), (ssize_t)sizeof(b->pages));
	} else {
		memset(b, 0, sizeof(*b));
		cr_assert_eq(pread(headers, b->header, BLOCK_SIZE, at), BLOCK_SIZE);
		cr_assert_gt(pread(file, b->pages, sizeof(b->pages), 0), (ssize_t)SWAP_BLOCKS * BLOCK_SIZE);
	}
	close(headers);
	close(file);
}

/* Each block of `mixed` is the truth of either state, or an error; *ret: how many are of the first, of the second, errors. */
static void read_mixed(uint64_t f, struct below *mixed, unsigned ret[static 3])
{
	uint8_t block[2 * BLOCK_SIZE];

	close_volume();
	file_below(f, true, mixed);
	open_volume();
	memset(ret, 0, 3 * sizeof(*ret));
	for (uint64_t i = 0; i < SWAP_BLOCKS; i++) {
		ssize_t n = volume_read(vol, f, i * BLOCK_SIZE, BLOCK_SIZE, block);
		bool first = n == BLOCK_SIZE, second = first;

		for (size_t j = 0; n == BLOCK_SIZE && j < BLOCK_SIZE; j++) {
			first = first && block[j] == byte_at(1, i * BLOCK_SIZE + j);
			second = second && block[j] == byte_at(2, i * BLOCK_SIZE + j);
		}
		cr_assert(first || second || n == -EIO, "block %lu reads as what it never was: %zd", i, n);
		ret[n == -EIO ? 2 : !first]++;
	}
}

/* What an older state of the whole object is, and nothing else, may be taken for true; whatever is put together of two is an error
 * where it does not fit. */
Test(rekey, older_pages_beside_newer_ones)
{
	static struct below before, after, mixed;
	uint64_t f = make(ROOT_OBJECT, "f", S_IFREG | 0644);
	unsigned got[3];

	fill(f, 1, 0, SWAP_BLOCKS * BLOCK_SIZE);
	close_volume();
	file_below(f, false, &before);
	open_volume();
	cr_assert(step(f, 1));
	uint64_t border = prologue(f).moved;

	cr_assert_eq(border, 128);
	fill(f, 2, 0, 10 * BLOCK_SIZE);
	fill(f, 2, 500 * BLOCK_SIZE, 10 * BLOCK_SIZE);
	close_volume();
	file_below(f, false, &after);
	open_volume();

	read_mixed(f, &after, got);
	cr_assert(got[0] == SWAP_BLOCKS - 20 && got[1] == 20 && got[2] == 0);
	read_mixed(f, &before, got); /* an older state, whole */
	cr_assert(got[0] == SWAP_BLOCKS && got[2] == 0);

	/* The header of before: what was moved is not under the keys that it says. What was written behind the border reads as
	 * ever: its tag page is as authentic as any state of it. */
	mixed = after;
	memcpy(mixed.header, before.header, BLOCK_SIZE);
	read_mixed(f, &mixed, got);
	cr_assert(got[1] == 10 && got[2] == HEADER_TAGS + GROUP_BLOCKS, "%u errors", got[2]);

	mixed = before; /* and the other way round */
	memcpy(mixed.header, after.header, BLOCK_SIZE);
	read_mixed(f, &mixed, got);
	cr_assert(got[1] == 0 && got[2] == HEADER_TAGS + GROUP_BLOCKS, "%u errors", got[2]);

	mixed = after; /* single pages: an old block under the new key's tag, an old tag page, an old block that was written since */
	memcpy(mixed.pages + geometry_page(20) * BLOCK_SIZE, before.pages + geometry_page(20) * BLOCK_SIZE, BLOCK_SIZE);
	memcpy(mixed.pages + geometry_page(505) * BLOCK_SIZE, before.pages + geometry_page(505) * BLOCK_SIZE,
	       BLOCK_SIZE);
	read_mixed(f, &mixed, got);
	cr_assert(got[1] == 19 && got[2] == 2, "%u errors", got[2]);
	memcpy(mixed.pages + geometry_meta_page(1, 0) * BLOCK_SIZE,
	       before.pages + geometry_meta_page(1, 0) * BLOCK_SIZE, BLOCK_SIZE);
	read_mixed(f, &mixed, got);
	cr_assert(got[2] == 2 + GROUP_BLOCKS, "%u errors", got[2]);

	mixed = after; /* parts swapped: what is under the new keys where the old ones are due, and the reverse */
	memcpy(mixed.pages + geometry_page(300) * BLOCK_SIZE, after.pages + geometry_page(15) * BLOCK_SIZE, BLOCK_SIZE);
	memcpy(mixed.pages + geometry_page(15) * BLOCK_SIZE, after.pages + geometry_page(300) * BLOCK_SIZE, BLOCK_SIZE);
	memcpy(mixed.pages + geometry_meta_page(1, 0) * BLOCK_SIZE, after.pages + geometry_meta_page(1, 2) * BLOCK_SIZE,
	       BLOCK_SIZE);
	read_mixed(f, &mixed, got);
	cr_assert(got[2] == 2 + GROUP_BLOCKS, "%u errors", got[2]);

	read_mixed(f, &after, got);
	while (step(f, 1))
		;
	expect_filled(f, 2, 500 * BLOCK_SIZE, 10 * BLOCK_SIZE);
	expect_sound(0);
}

/* Nobody waits for a large file to come to its end when the volume is closed. */
Test(rekey, ends_early_when_the_volume_is_to_be_closed)
{
	uint64_t f = make(ROOT_OBJECT, "f", S_IFREG | 0644);

	fill(f, 2, 0, LARGE);
	cr_assert(step(f, 1));
	volume_hurry(vol);
	cr_assert_eq(volume_scope_assign(vol, f, 1, false), -ECANCELED);
	cr_assert_eq(prologue(f).old_dek_version, 1);
	reopen_volume();
	expect_filled(f, 2, 0, LARGE);
	cr_assert_eq(volume_scope_assign(vol, f, 1, false), 0);
	expect_keys(f, 1, 1);
	expect_filled(f, 2, 0, LARGE);
}
