/* Taking scopes away: what is in use stays, what is purged is gone whole, what was of others is not lost, and a stop in between is
 * mended by doing it again. */
#include "volume_fixture.h"

#include <coffer/volume_keys.h>

#include "../../src/volume/keeper.h"

enum { TEAM = 1, OTHER = 2 };

/* How many changes are still committed before the process dies; -1: it lives. */
static int lives = -1;

int __real_store_commit(struct txn *t, uint64_t *ret_seq);
int __wrap_store_commit(struct txn *t, uint64_t *ret_seq);
int __wrap_store_commit(struct txn *t, uint64_t *ret_seq)
{
	int r = __real_store_commit(t, ret_seq);

	if (lives == 0)
		raise(SIGKILL);
	lives -= lives > 0;
	return r;
}

static uint64_t dir, theirs, beside;

static void add_scope(const char *name)
{
	uint8_t key[KEY_SIZE] = { (uint8_t)name[0], 9 };
	char uri[2 * PATH_MAX];

	put_file(in_scratch("%s", name), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("%s", name));
	cr_assert_eq(volume_scope_create(vol, name, uri, SUITE_XTS_GMAC, NULL), 0);
}

/* A directory of the team with files of three scopes in it, and the team's files elsewhere. */
static void populate(void)
{
	struct attr a;

	add_scope("team");
	add_scope("other");
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	cr_assert_eq(volume_scope_assign(vol, dir, TEAM, false), 0);
	for (unsigned i = 0; i < 50; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file %u", i);
		uint64_t f = make(dir, name, S_IFREG | 0644);

		cr_assert_eq(volume_write(vol, f, 0, 9, "the teams", KILL_IDS), 0);
	}
	make(make(dir, "sub", S_IFDIR | 0755), "deep", S_IFREG | 0600);
	theirs = make(dir, "theirs", S_IFREG | 0644);
	cr_assert_eq(volume_write(vol, theirs, 0, 6, "theirs", KILL_IDS), 0);
	cr_assert_eq(volume_scope_assign(vol, theirs, OTHER, false), 0);
	uint64_t d = make(dir, "their dir", S_IFDIR | 0755);

	make(d, "in it", S_IFREG | 0644);
	cr_assert_eq(volume_scope_assign(vol, lookup(d, "in it"), OTHER, false), 0);
	cr_assert_eq(volume_scope_assign(vol, d, OTHER, false), 0);
	beside = make(ROOT_OBJECT, "beside", S_IFREG | 0644);
	cr_assert_eq(volume_write(vol, beside, 0, 6, "beside", KILL_IDS), 0);
	cr_assert_eq(volume_link(vol, beside, dir, "a name in there", &a), 0);
	uint64_t f = make(ROOT_OBJECT, "the team's", S_IFREG | 0644);

	cr_assert_eq(volume_scope_assign(vol, f, TEAM, false), 0);
	cr_assert_eq(volume_link(vol, f, ROOT_OBJECT, "twice", &a), 0);
	make(ROOT_OBJECT, "d", S_IFDIR | 0755);
	cr_assert_eq(volume_rename(vol, dir, "sub", lookup(ROOT_OBJECT, "d"), "sub", 0), 0);
}

static void start(void)
{
	scratch_in_memory();
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	populate();
}

static void end(void)
{
	if (vol) {
		volume_keeper_stop(vol);
		close_volume();
	}
	scratch_end();
}

TestSuite(purge, .init = start, .fini = end, .timeout = 100);

static bool exists(uint32_t scope)
{
	struct scope_view s;

	return volume_scope(vol, scope, &s) == 0;
}

static void expect_text(uint64_t f, const char *text)
{
	char buf[BLOCK_SIZE];

	cr_assert_eq(volume_read(vol, f, 0, 100, buf), (ssize_t)strlen(text));
	cr_assert_arr_eq(buf, text, strlen(text));
}

static int count_scope(void *arg, uint64_t number)
{
	struct prologue p;

	if (object_peek(vol, number, &p) == 0 && p.scope == TEAM)
		++*(unsigned *)arg;
	return 0;
}

static unsigned objects_of_team(void)
{
	unsigned n = 0;

	cr_assert_eq(store_each_object(vol->store, 0, UINT64_MAX, count_scope, &n), 0);
	return n;
}

static void expect_purged(void)
{
	char name[64];
	uint64_t lost = lookup(ROOT_OBJECT, "lost+found");

	cr_assert_not(exists(TEAM));
	cr_assert_eq(objects_of_team(), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, "dir"), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, "the team's"), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, "twice"), 0);
	cr_assert_eq(lookup(lookup(ROOT_OBJECT, "d"), "sub"), 0);
	cr_assert_eq(attributes(lookup(ROOT_OBJECT, "d")).st_nlink, 2);
	expect_text(beside, "beside");
	cr_assert_eq(attributes(beside).st_nlink, 1);
	snprintf(name, sizeof(name), "%lu-theirs", theirs);
	cr_assert_eq(lookup(lost, name), theirs);
	expect_text(theirs, "theirs");
	cr_assert_eq(attributes(lost).st_nlink, 3, "theirs is a directory, too");
	expect_sound(0);
}

Test(purge, what_is_in_use_stays)
{
	cr_assert_eq(volume_scope_purge(vol, TEAM), -EBUSY);
	cr_assert_eq(volume_scope_purge(vol, 0), -EINVAL);
	cr_assert_eq(volume_scope_purge(vol, 77), -ENOENT);
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), -EBUSY, "locked by hand only");
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	expect_text(lookup(dir, "file 7"), "the teams");
	cr_assert_eq(volume_scope_assign(vol, ROOT_OBJECT, OTHER, false), 0);
	cr_assert_eq(volume_scope_enable(vol, OTHER, false), 0);
	cr_assert_eq(volume_scope_purge(vol, OTHER), -EBUSY, "the root is in it");
	cr_assert_eq(volume_scope_enable(vol, OTHER, true), 0);
	expect_sound(0);
}

Test(purge, one_that_nothing_is_in)
{
	add_scope("empty");
	cr_assert_eq(volume_scope_purge(vol, 3), 0);
	cr_assert_not(exists(3));
	cr_assert_eq(lookup(ROOT_OBJECT, "lost+found"), 0);
	reopen_volume();
	cr_assert_not(exists(3));
	expect_sound(0);
}

Test(purge, all_of_one_whose_key_is_gone)
{
	cr_assert_eq(unlink(in_scratch("team")), 0);
	poll_now();
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	expect_purged();
	reopen_volume();
	expect_purged();
}

Test(purge, frees_the_space)
{
	uint64_t f = make(dir, "large", S_IFREG | 0600);
	static char data[1 << 20];
	struct statvfs before, after;

	for (unsigned i = 0; i < 32; i++)
		cr_assert_eq(volume_write(vol, f, (uint64_t)i << 20, sizeof(data), data, KILL_IDS), 0);
	reopen_volume();
	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	cr_assert_eq(fstatvfs(backing, &before), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	close_volume();
	cr_assert_eq(fstatvfs(backing, &after), 0);
	cr_assert_gt((after.f_bfree - before.f_bfree) * before.f_frsize, 30 << 20);
	open_volume();
	expect_purged();
}

static void expect_found(void)
{
	struct scope_view s = { .entry.look_for_lost = true };

	for (int i = 0; i < 1000 && s.entry.look_for_lost; i++) {
		usleep(10000);
		cr_assert_eq(volume_scope(vol, OTHER, &s), 0);
	}
	cr_assert_not(s.entry.look_for_lost);
}

Test(purge, other_scopes_that_are_locked_find_theirs_later)
{
	struct attr a;

	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	cr_assert_eq(volume_key_lock(vol, OTHER), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	cr_assert_eq(objects_of_team(), 0);
	cr_assert_eq(volume_getattr(vol, theirs, &a), -EACCES);
	reopen_volume();
	cr_assert_eq(volume_keeper_start(vol, &(struct kernel_cache){ 0 }), 0);
	expect_found();
	expect_purged();
}

Test(purge, a_new_scope_may_have_the_name)
{
	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	add_scope("team");
	uint64_t f = make(ROOT_OBJECT, "f", S_IFREG | 0600);

	cr_assert_eq(volume_scope_assign(vol, f, 3, false), 0);
	reopen_volume();
	expect_sound(0);
}

/* A file whose header lists none of its names; `kept` of those are in the root, all others in the team's directory. */
static uint64_t with_unlisted_names(const char *text, unsigned kept)
{
	enum { LISTED = 20, ALL = 40, LENGTH = 100 }; /* of 20 names not all are listed, then */
	uint64_t f = make(ROOT_OBJECT, "f", S_IFREG | 0644);
	char name[LENGTH + 1];
	struct attr a;

	cr_assert_eq(volume_write(vol, f, 0, strlen(text), text, KILL_IDS), 0);
	for (unsigned i = 0; i < ALL; i++) {
		snprintf(name, sizeof(name), "%s %0*u", text, (int)(LENGTH - strlen(text) - 1), i);
		cr_assert_eq(volume_link(vol, f, i < LISTED + kept ? ROOT_OBJECT : dir, name, &a), 0);
	}
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "f"), 0);
	for (unsigned i = 0; i < LISTED; i++) {
		snprintf(name, sizeof(name), "%s %0*u", text, (int)(LENGTH - strlen(text) - 1), i);
		cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, name), 0);
	}
	return f;
}

static bool is_in_lost(uint64_t object)
{
	uint64_t lost = lookup(ROOT_OBJECT, "lost+found");
	char name[64];

	snprintf(name, sizeof(name), "%lu-", object);
	return lookup(lost, name) == object;
}

Test(purge, names_that_no_header_lists)
{
	uint64_t gone = with_unlisted_names("gone", 0), kept = with_unlisted_names("kept", 1);

	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	cr_assert(is_in_lost(gone));
	expect_text(gone, "gone");
	cr_assert_not(is_in_lost(kept), "it has a name still");
	expect_text(kept, "kept");
}

static void purge_and_die(void *arg)
{
	lives = *(const int *)arg;
	(void)volume_scope_purge(vol, TEAM);
}

Test(purge, stopped_anywhere_it_is_done_again)
{
	unsigned unfinished = 0;

	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	close_volume();
	for (int i = 0; i < 200; i++) {
		int steps = i % 4;

		work_and_die(purge_and_die, &steps);
		open_volume();
		expect_text(beside, "beside");
		if (!exists(TEAM))
			break;
		unfinished++;
		close_volume();
	}
	if (!vol)
		open_volume();
	if (exists(TEAM))
		cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	cr_assert_gt(unfinished, 20);
	expect_purged();
}

/* Killed after each single step: so the last purge finds nothing left to remove, and the other scope was locked all the time. */
Test(purge, stopped_anywhere_others_that_are_locked_find_theirs_later)
{
	static const int one = 0;

	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	cr_assert_eq(volume_scope_enable(vol, OTHER, false), 0);
	for (int i = 0; i < 300 && exists(TEAM) && objects_of_team(); i++) {
		close_volume();
		work_and_die(purge_and_die, (void *)(uintptr_t)&one);
		open_volume();
	}
	cr_assert(exists(TEAM));
	cr_assert_eq(objects_of_team(), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	cr_assert_eq(volume_scope_enable(vol, OTHER, true), 0);
	cr_assert_eq(volume_keeper_start(vol, &(struct kernel_cache){ 0 }), 0);
	expect_found();
	expect_purged();
}

/* Names that lead into the scope go from the blocks of a directory that can be read, though one between them cannot. */
Test(purge, names_beside_a_damaged_block)
{
	enum { NAMES_IN = 600, DAMAGED = 2 };
	uint64_t d = make(ROOT_OBJECT, "large", S_IFDIR | 0755), f = lookup(dir, "file 3"), offset = 0;
	char name[VOLUME_NAME_MAX + 1], path[64];
	uint8_t noise[BLOCK_SIZE] = { 1, 2, 3 };
	struct dir_entry e;
	struct object *o;
	unsigned damaged = 0;
	struct attr a;
	int r;

	for (unsigned i = 0; i < NAMES_IN; i++) {
		snprintf(name, sizeof(name), "%0200u", i);
		cr_assert_eq(volume_link(vol, f, d, name, &a), 0);
	}
	close_volume();
	snprintf(path, sizeof(path), "objects/%03lx/%03lx", d >> 12, d & 4095);
	int fd = openat(backing, path, O_WRONLY);

	cr_assert_eq(pwrite(fd, noise, sizeof(noise), (1 + DAMAGED) * BLOCK_SIZE), (ssize_t)sizeof(noise));
	close(fd);
	open_volume();
	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	cr_assert_eq(volume_scope_purge(vol, TEAM), 0);
	cr_assert_eq(objects_of_team(), 0);
	cr_assert_eq(dir_get(vol, d, &o), 0);
	while ((r = dir_next(o, &offset, &e, name)) == -EIO) {
		damaged++;
		offset = (offset / BLOCK_SIZE + 1) * BLOCK_SIZE;
	}
	cr_assert_eq(r, -ENOENT, "an entry is left");
	cr_assert_gt(damaged, 0);
	object_put(vol, o);
}
