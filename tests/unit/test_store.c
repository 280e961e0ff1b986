/* The store against a model of pages: transactions, what is read from memory, log and home, removal, direct writes,
 * checkpoints, restarts after a kill. */
#include "store_fixture.h"

TestSuite(store, .init = store_fixture_start, .fini = store_fixture_end, .timeout = 250);

static void fill(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8) + 1);
}

static void expect_page(uint64_t object, uint64_t page, unsigned seed, size_t used)
{
	uint8_t got[BLOCK_SIZE], want[BLOCK_SIZE] = { 0 };

	fill(want, used, seed);
	cr_assert_eq(store_read(st, object, page, 1, got), 0);
	cr_assert_arr_eq(got, want, BLOCK_SIZE, "object %lu, page %lu", object, page);
}

static void write_page(uint64_t object, uint64_t page, unsigned seed, size_t used)
{
	uint8_t data[BLOCK_SIZE];
	struct txn t;

	fill(data, used, seed);
	begin(&t, 1);
	cr_assert_eq(txn_write(&t, object, page, data, used), 0);
	commit(&t);
}

Test(store, all_or_nothing)
{
	uint8_t a[BLOCK_SIZE], b[BLOCK_SIZE];
	struct txn t;

	open_clean();
	write_page(1, 0, 1, BLOCK_SIZE);
	fill(a, BLOCK_SIZE, 2);
	fill(b, 300, 3);
	begin(&t, 2);
	txn_write(&t, 1, 0, a, BLOCK_SIZE);
	txn_write(&t, 2, 9, b, 300);
	txn_orphan(&t, 5);
	store_abort(&t);
	store_abort(&t);
	cr_assert_eq(st->reserved, 0);
	expect_page(1, 0, 1, BLOCK_SIZE);
	expect_page(2, 9, 0, 0);
	cr_assert_not(store_exists(st, 2));
	cr_assert_eq(st->orphans.count, 0);
	begin(&t, 2);
	txn_write(&t, 1, 0, a, BLOCK_SIZE);
	txn_write(&t, 2, 9, b, 300);
	commit(&t);
	cr_assert_eq(st->reserved, 0);
	expect_page(1, 0, 2, BLOCK_SIZE);
	expect_page(2, 9, 3, 300);
	cr_assert(store_exists(st, 2));
	die();
	recover();
	expect_page(1, 0, 2, BLOCK_SIZE);
	expect_page(2, 9, 3, 300);
	stop_clean();
}

Test(store, empty_transaction)
{
	struct txn t;

	open_clean();
	begin(&t, 0);
	commit(&t);
	write_page(1, 1, 1, 16);
	die();
	cr_assert_eq(replay(), 3);
	expect_page(1, 1, 1, 16);
	store_free(st);
}

/* Sizes that shrink and grow, in memory, over what is at home, and read back after a restart. */
Test(store, used_part_and_zeros)
{
	static const size_t sizes[] = { 4096, 16, 512, 511, 4095, 1, 513, 348, 4096, 604 };

	open_clean();
	for (unsigned i = 0; i < 10; i++) {
		write_page(1, 0, i, sizes[i]);
		expect_page(1, 0, i, sizes[i]);
		if (i % 3 == 2) {
			rotate();
			expect_page(1, 0, i, sizes[i]);
			cr_assert_eq(store_checkpoint(st), 0);
			expect_page(1, 0, i, sizes[i]);
		}
		if (i % 4 == 3) {
			die();
			recover();
			expect_page(1, 0, i, sizes[i]);
		}
	}
	stop_clean();
	open_clean();
	expect_page(1, 0, 9, sizes[9]);
	stop_clean();
}

/* A page that changes a little costs a little of the log, and replays as what it became. */
Test(store, only_what_differs)
{
	uint8_t data[BLOCK_SIZE];
	struct txn t;

	open_clean();
	write_page(1, 4, 1, BLOCK_SIZE);
	size_t before = st->current->log_used;

	fill(data, BLOCK_SIZE, 1);
	data[2000] ^= 1;
	begin(&t, 1);
	txn_write(&t, 1, 4, data, BLOCK_SIZE);
	commit(&t);
	cr_assert_lt(st->current->log_used - before, 200);
	data[0] ^= 1;
	data[BLOCK_SIZE - 1] ^= 1;
	begin(&t, 1);
	txn_write(&t, 1, 4, data, BLOCK_SIZE);
	commit(&t);
	begin(&t, 1); /* nothing differs */
	txn_write(&t, 1, 4, data, BLOCK_SIZE);
	commit(&t);
	die();
	for (int i = 0; i < 2; i++) {
		uint8_t got[BLOCK_SIZE];

		if (i == 0)
			replay();
		else
			recover();
		cr_assert_eq(store_read(st, 1, 4, 1, got), 0);
		cr_assert_arr_eq(got, data, BLOCK_SIZE);
		if (i == 0)
			store_free(st);
	}
	stop_clean();
}

Test(store, removed)
{
	struct txn t;

	open_clean();
	for (unsigned home = 0; home < 2; home++) {
		write_page(10 + home, 0, 1, 100);
		if (home) {
			rotate();
			cr_assert_eq(store_checkpoint(st), 0);
			cr_assert(headers_has(&st->home, 11));
		}
		begin(&t, 1);
		txn_remove(&t, 10 + home);
		commit(&t);
		cr_assert_not(store_exists(st, 10 + home));
		expect_page(10 + home, 0, 0, 0);
	}
	rotate();
	cr_assert_not(store_exists(st, 11));
	expect_page(11, 0, 0, 0);
	die();
	recover();
	cr_assert_not(store_exists(st, 10));
	cr_assert_not(store_exists(st, 11));
	cr_assert_not(headers_has(&st->home, 11));
	stop_clean();
}

/* ---- what happens while a checkpoint syncs; the calls are wrapped by the linker (--wrap) ---- */
static void (*during_sync)(void);

static void in_between(void)
{
	void (*call)(void) = during_sync;

	during_sync = NULL;
	if (call)
		call();
}

#define WRAP(name)                        \
	int __real_##name(int fd);        \
	int __wrap_##name(int fd);        \
	int __wrap_##name(int fd)         \
	{                                 \
		in_between();             \
		return __real_##name(fd); \
	}
WRAP(fsync)
WRAP(syncfs)

static void write_directly(void)
{
	uint8_t data[BLOCK_SIZE];
	struct txn t = { .store = st };

	fill(data, BLOCK_SIZE, 9);
	cr_assert_eq(store_write_home(&t, 20, 5, 1, data), 0);
	store_abort(&t);
}

/* Only the header of an object goes home, and its own file is made by a direct write just then: its name is not durable by that
 * sync, and the next fsync must not take it for so. */
Test(store, file_made_during_a_sync)
{
	struct txn t;
	uint64_t seq;

	for (int order_free = 0; order_free < 2; order_free++) {
		open_clean();
		st->home.order_free = order_free;
		write_page(20, 0, 1, 100);
		write_page(21, 3, 2, 100);
		rotate();
		during_sync = write_directly;
		cr_assert_eq(store_checkpoint(st), 0);
		cr_assert_null(during_sync);
		cr_assert(home_name_is_new(&st->home, 20));
		cr_assert_not(home_name_is_new(&st->home, 21), "that was there before");
		begin(&t, 1);
		txn_unsynced(&t, 20, 5, 1);
		cr_assert_eq(store_commit(&t, &seq), 0);
		cr_assert_eq(store_sync(st, 20, seq), 0);
		cr_assert_not(home_name_is_new(&st->home, 20));
		stop_clean();
		if (!order_free) {
			store_fixture_end();
			store_fixture_start();
		}
	}
}

static uint64_t each[32];
static unsigned each_count;

static int note_each(void *arg, uint64_t object)
{
	(void)arg;
	cr_assert_lt(each_count, 32);
	each[each_count++] = object;
	return 0;
}

static void expect_each(uint64_t first, uint64_t end, const uint64_t *want, unsigned count)
{
	each_count = 0;
	cr_assert_eq(store_each_object(st, first, end, note_each, NULL), 0);
	cr_assert_eq(each_count, count);
	for (unsigned i = 0; i < count; i++) {
		unsigned found = 0;

		for (unsigned j = 0; j < count; j++)
			found += each[j] == want[i];
		cr_assert_eq(found, 1, "object %lu", want[i]);
	}
}

/* Headers share a file for each folder: neighbours at both sides of folders' ends, and of runs that are removed, stay. */
Test(store, headers_share_a_file)
{
	static const uint64_t all[] = { 1, 2, 4094, 4095, 4096, 4097, 8191, 8192, 9000 };
	static const uint64_t left[] = { 1, 4096, 8191, 9000 };
	enum { ALL = sizeof(all) / sizeof(*all), LEFT = sizeof(left) / sizeof(*left) };
	struct txn t;
	struct stat own;

	open_clean();
	for (unsigned i = 0; i < ALL; i++)
		write_page(all[i], 0, i, 100 + i);
	write_page(9000, 7, 77, BLOCK_SIZE);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	expect_each(0, UINT64_MAX, all, ALL);
	expect_each(4095, 8192, all + 3, 4);
	cr_assert(fstatat(backing, "objects/001/000", &own, 0) < 0, "a header alone needs no file of its own");
	cr_assert_eq(fstatat(backing, "objects/002/328", &own, 0), 0);
	for (unsigned i = 0; i < ALL; i++)
		expect_page(all[i], 0, i, 100 + i);
	/* A folder that is empty goes, but for the last. */
	write_page(4 * 4096 + 5, 0, 1, 100);
	write_page(5 * 4096 + 5, 0, 1, 100);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	begin(&t, 1);
	txn_remove(&t, 4 * 4096 + 5);
	txn_remove(&t, 5 * 4096 + 5);
	commit(&t);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	cr_assert(fstatat(backing, "objects/004", &own, 0) < 0 && errno == ENOENT);
	cr_assert_eq(fstatat(backing, "objects/005/headers", &own, 0), 0);
	write_page(4 * 4096 + 6, 0, 6, 100); /* a number that was taken long ago */
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	expect_page(4 * 4096 + 6, 0, 6, 100);
	begin(&t, 1);
	txn_remove(&t, 4 * 4096 + 6);
	commit(&t);
	begin(&t, 1);
	for (unsigned i = 0; i < ALL; i++)
		if (all[i] != 1 && all[i] != 4096 && all[i] != 8191 && all[i] != 9000)
			txn_remove(&t, all[i]);
	commit(&t);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	expect_each(0, UINT64_MAX, left, LEFT);
	for (unsigned i = 0; i < ALL; i++) {
		bool stays = false;

		for (unsigned j = 0; j < LEFT; j++)
			stays = stays || left[j] == all[i];
		cr_assert_eq(store_exists(st, all[i]), stays, "object %lu", all[i]);
		expect_page(all[i], 0, i, stays ? 100 + i : 0);
	}
	expect_page(9000, 7, 77, BLOCK_SIZE);
	stop_clean();
	/* Also after a new start, in whatever order. */
	open_clean();
	store_expect(st, 9 * 4096);
	begin(&t, 1);
	txn_remove(&t, 4096);
	txn_remove(&t, 8191);
	txn_remove(&t, 9000);
	commit(&t);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	cr_assert(fstatat(backing, "objects/001", &own, 0) < 0 && fstatat(backing, "objects/002", &own, 0) < 0);
	expect_each(0, UINT64_MAX, left, 1);
	stop_clean();
}

/* What somebody put in the place of a file is put aside, and stops neither writing home nor recovery. */
Test(store, no_regular_file)
{
	struct stat there;
	struct txn t;

	open_clean();
	write_page(1, 0, 1, 100);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	cr_assert_eq(mkdirat(backing, "objects/000/002", 0700), 0);
	cr_assert_eq(mkfifoat(backing, "objects/000/003", 0600), 0);
	cr_assert_eq(symlinkat("/nothing", backing, "objects/000/004"), 0);
	cr_assert_eq(mkdirat(backing, "objects/000/005", 0700), 0);
	for (unsigned i = 2; i < 5; i++)
		write_page(i, 3, i, BLOCK_SIZE);
	begin(&t, 1);
	txn_remove(&t, 5);
	commit(&t);
	rotate();
	cr_assert_eq(store_checkpoint(st), 0);
	for (unsigned i = 2; i < 5; i++)
		expect_page(i, 3, i, BLOCK_SIZE);
	cr_assert_eq(fstatat(backing, "objects/000/003.aside", &there, AT_SYMLINK_NOFOLLOW), 0);
	cr_assert(S_ISFIFO(there.st_mode));
	cr_assert_eq(mkfifoat(backing, "objects/000/006", 0600), 0);
	write_page(6, 1, 6, BLOCK_SIZE);
	die();
	recover();
	expect_page(6, 1, 6, BLOCK_SIZE);
	stop_clean();
	open_clean();
	for (unsigned i = 2; i < 5; i++)
		expect_page(i, 3, i, BLOCK_SIZE);
	stop_clean();
}

/* Pages that went home directly are there, unsynced until they are synced, and doubted by a replay until then. */
static uint64_t doubted[8];
static unsigned doubted_count;

static int note_doubt(void *arg, uint64_t object, uint64_t page)
{
	(void)arg;
	doubted[doubted_count++] = object << 32 | page;
	return 0;
}

static void write_direct(uint64_t object, uint64_t page, unsigned count)
{
	uint8_t *data = malloc((size_t)count * BLOCK_SIZE);
	struct txn t;

	for (unsigned i = 0; i < count; i++)
		fill(data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE, (unsigned)page + i);
	cr_assert(store_may_write_home(st, object));
	begin(&t, count);
	cr_assert_eq(store_write_home(&t, object, page, count, data), 0);
	txn_unsynced(&t, object, page, count);
	commit(&t);
	for (unsigned i = 0; i < count; i++)
		expect_page(object, page + i, (unsigned)page + i, BLOCK_SIZE);
	free(data);
}

Test(store, directly_home)
{
	open_clean();
	write_page(3, 0, 7, 100);
	write_direct(3, 10, 2);
	write_direct(4, 20, 1);
	write_direct(5, 30, 1);
	write_page(4, 20, 9, BLOCK_SIZE); /* overwritten through the log: no doubt any more */
	cr_assert_eq(store_sync(st, 5, st->current->last_seq), 0);
	write_direct(3, 40, 1);
	die();
	replay();
	cr_assert_eq(store_each_unsynced(st, note_doubt, NULL), 0);
	cr_assert_eq(doubted_count, 3, "%u", doubted_count);
	for (unsigned i = 0; i < doubted_count; i++)
		cr_assert_eq(doubted[i] >> 32, 3);
	expect_page(4, 20, 9, BLOCK_SIZE);
	store_free(st);

	/* Again; now all is synced. */
	recover();
	write_direct(6, 1, 1);
	cr_assert_eq(store_sync(st, 0, st->current->last_seq), 0); /* the log alone: not the object */
	cr_assert(map_get(&st->home.new_names, 6 + 1));
	cr_assert_eq(store_sync_all(st), 0);
	cr_assert_null(map_get(&st->home.new_names, 6 + 1));
	die();
	replay();
	doubted_count = 0;
	cr_assert_eq(store_each_unsynced(st, note_doubt, NULL), 0);
	cr_assert_eq(doubted_count, 0, "%u", doubted_count);
	expect_page(6, 1, 1, BLOCK_SIZE);
	store_free(st);
}

/* After a release nothing may go home directly until the release cannot be replayed any more. */
Test(store, not_directly_after_a_release)
{
	struct txn t;

	open_clean();
	write_direct(3, 10, 4);
	begin(&t, 1);
	txn_release(&t, 3, 11, 2);
	commit(&t);
	cr_assert_not(store_may_write_home(st, 3));
	cr_assert(store_may_write_home(st, 4));
	rotate();
	cr_assert_not(store_may_write_home(st, 3));
	cr_assert_eq(store_checkpoint(st), 0);
	cr_assert(store_may_write_home(st, 3));
	write_direct(3, 11, 1);
	die();
	recover();
	expect_page(3, 10, 10, BLOCK_SIZE);
	expect_page(3, 11, 11, BLOCK_SIZE);
	expect_page(3, 13, 13, BLOCK_SIZE);
	stop_clean();
}

/* A release and a write of the same page in one transaction: the write stays, whole. */
Test(store, released_and_written)
{
	uint8_t data[BLOCK_SIZE];
	struct txn t;

	open_clean();
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 5; i++)
			write_page(1, i, i, BLOCK_SIZE);
		fill(data, BLOCK_SIZE, 2);
		data[5] ^= 0xff;
		begin(&t, 1);
		txn_write(&t, 1, 2, data, BLOCK_SIZE);
		txn_release(&t, 1, 1, round == 1 ? UINT64_MAX : 3);
		commit(&t);
		if (round == 2)
			rotate();
		die();
		recover();
		uint8_t got[BLOCK_SIZE];

		cr_assert_eq(store_read(st, 1, 2, 1, got), 0);
		cr_assert_arr_eq(got, data, BLOCK_SIZE);
		expect_page(1, 0, 0, BLOCK_SIZE);
	}
	stop_clean();
}

Test(store, too_large)
{
	struct txn t;
	int r = 0;

	open_clean();
	write_page(1, 1, 1, 100);
	begin(&t, 1);
	for (unsigned i = 0; r == 0 && i < COMMIT_MAX / FRAME_SIZE + 1; i++)
		r = txn_release(&t, 2, i, 1);
	cr_assert_eq(r, 0);
	cr_assert_neq(store_commit(&t, NULL), 0);
	write_page(1, 2, 2, 100);
	die();
	recover();
	expect_page(1, 1, 1, 100);
	expect_page(1, 2, 2, 100);
	stop_clean();
}

Test(store, read_only)
{
	struct txn t;

	open_clean();
	write_page(1, 1, 1, 100);
	die();
	uint64_t chunks;

	cr_assert_eq(store_new(backing, true, &st), 0);
	cr_assert_eq(store_replay(st, structure, salt, SALT, &chunks), 0);
	cr_assert_eq(store_activate(st, structure, salt, SALT, 5), 0);
	expect_page(1, 1, 1, 100);
	cr_assert_not(home_file_exists(&st->home, 1));
	cr_assert_eq(store_begin(st, &t, 100, true), -EROFS);
	cr_assert_eq(store_begin(st, &t, 100, false), -EROFS);
	cr_assert(store_read_only(st));
	store_free(st);
	recover();
	expect_page(1, 1, 1, 100);
	stop_clean();
}

/* ---- against a model ---- */
enum { OBJECTS = 6, PAGES = 12, STEPS = 6000 };
static struct expected {
	bool known; /* released pages may read as anything */
	bool hole;  /* in every state that a crash may leave */
	unsigned seed;
	size_t used;
} model[OBJECTS][PAGES];
static uint64_t numbers[OBJECTS], next_number = 100;

static void new_object(unsigned o)
{
	numbers[o] = next_number++;
	for (unsigned p = 0; p < PAGES; p++)
		model[o][p] = (struct expected){ .known = true, .hole = true };
}

static void expect_model(void)
{
	for (unsigned o = 0; o < OBJECTS; o++) {
		bool holds = false, held = false; /* an object all of whose pages were released may be there or not */

		for (unsigned p = 0; p < PAGES; p++) {
			if (model[o][p].known)
				expect_page(numbers[o], p, model[o][p].seed, model[o][p].used);
			holds = holds || (model[o][p].known && !model[o][p].hole);
			held = held || !model[o][p].hole;
		}
		if (holds == held)
			cr_assert_eq(store_exists(st, numbers[o]), holds, "object %u", o);
	}
}

static void random_txn(unsigned step)
{
	static uint8_t data[8][BLOCK_SIZE];
	bool written[OBJECTS][PAGES] = { 0 };
	unsigned pages = 1 + (unsigned)rand() % 8;
	struct txn t;

	begin(&t, pages);
	for (unsigned i = 0; i < pages; i++) {
		unsigned o = (unsigned)rand() % OBJECTS, p = (unsigned)rand() % PAGES;
		struct expected *e = &model[o][p];
		bool bulk = rand() % 3 == 0;

		if (written[o][p])
			continue;
		written[o][p] = true;
		e->used = bulk || rand() % 2 ? BLOCK_SIZE : 1 + (size_t)rand() % BLOCK_SIZE;
		if (rand() % 2)
			e->seed = step * 10 + i;
		e->known = true;
		e->hole = false;
		fill(data[i], e->used, e->seed);
		cr_assert_eq(bulk ? txn_write_bulk(&t, numbers[o], p, data[i])
				  : txn_write(&t, numbers[o], p, data[i], e->used),
			     0);
	}
	commit(&t);
}

static void random_release(void)
{
	unsigned o = (unsigned)rand() % OBJECTS, first = (unsigned)rand() % PAGES;
	uint64_t count = rand() % 2 ? UINT64_MAX : 1 + (uint64_t)rand() % PAGES;
	struct txn t;

	begin(&t, 0);
	if (rand() % 4 == 0) {
		txn_remove(&t, numbers[o]);
		commit(&t);
		expect_page(numbers[o], first, 0, 0);
		new_object(o);
		return;
	}
	txn_release(&t, numbers[o], first, count);
	commit(&t);
	for (unsigned p = first; p < PAGES && p - first < count; p++)
		model[o][p].known = false;
}

static void random_direct(unsigned step)
{
	unsigned o = (unsigned)rand() % OBJECTS, p = 1 + (unsigned)rand() % (PAGES - 1); /* headers never go directly */
	uint8_t data[BLOCK_SIZE];
	struct txn t;

	if (!model[o][p].hole || !store_may_write_home(st, numbers[o]))
		return;
	model[o][p] = (struct expected){ .known = true, .seed = step, .used = BLOCK_SIZE };
	fill(data, BLOCK_SIZE, step);
	begin(&t, 1);
	cr_assert_eq(store_write_home(&t, numbers[o], p, 1, data), 0);
	txn_unsynced(&t, numbers[o], p, 1);
	commit(&t);
}

Test(store, against_a_model)
{
	srand(3);
	open_clean();
	for (unsigned o = 0; o < OBJECTS; o++)
		new_object(o);
	for (unsigned step = 0; step < STEPS; step++) {
		int what = rand() % 100;

		if (what < 60)
			random_txn(step);
		else if (what < 70)
			random_release();
		else if (what < 85)
			random_direct(step);
		else if (what < 88)
			cr_assert_eq(store_sync_all(st), 0);
		else if (what < 92)
			cr_assert_eq(store_sync(st, numbers[0], st->current->last_seq), 0);
		else if (what < 95 && !st->frozen)
			rotate();
		else if (what < 98 && st->frozen)
			cr_assert_eq(store_checkpoint(st), 0);
		else if (what == 98) {
			die();
			recover();
		} else if (what == 99 && step % 5 == 0) {
			stop_clean();
			open_clean();
		}
		if (step % 20 == 0)
			expect_model();
	}
	expect_model();
	stop_clean();
}
