/* Rewriting a scope under a new DEK version: nothing is lost over kills, locks, damage and work that goes on, and the older version is
 * given up when nothing needs it any more, and not before. */
#include "volume_fixture.h"

#include <pthread.h>

#include <coffer/volume_keys.h>

#include "../../src/store/internal.h"
#include "../../src/volume/keeper.h"

enum { FILES = 40, FILE_SIZE = 300000, TEAM = 1 };

/* When a descriptor is replaced, is all that was committed durable? */
static bool watched, was_durable;
static unsigned replaced;

int __real_replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len);
int __wrap_replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len);
int __wrap_replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len)
{
	if (watched && !strcmp(name, DESCRIPTOR_NAME)) {
		LOCK_SCOPE(&vol->store->log_lock);
		was_durable = atomic_load(&vol->store->durable_seq) >= vol->store->current->last_seq;
		replaced++;
	}
	return __real_replace_file_at(dirfd, name, mode, data, len);
}

static uint64_t files[FILES], dir, links, companion;

static void fill(uint64_t file, unsigned seed)
{
	static uint32_t words[FILE_SIZE / 4];

	for (unsigned i = 0; i < FILE_SIZE / 4; i++)
		words[i] = seed * 1000003 + i;
	cr_assert_eq(volume_write(vol, file, 0, FILE_SIZE, words, KILL_IDS), 0);
}

static void expect_filled(uint64_t file, unsigned seed)
{
	static uint32_t words[FILE_SIZE / 4 + BLOCK_SIZE];
	unsigned i = 0;

	cr_assert_eq(volume_read(vol, file, 0, FILE_SIZE, words), FILE_SIZE);
	while (i < FILE_SIZE / 4 && words[i] == seed * 1000003 + i)
		i++;
	cr_assert_eq(i, FILE_SIZE / 4, "object %lu, seed %u: word %u", file, seed, i);
}

static uint64_t companion_of(uint64_t number)
{
	struct object *o;
	uint64_t c;

	cr_assert_eq(object_get(vol, number, &o), 0);
	c = o->m->companion;
	object_put(vol, o);
	return c;
}

static void populate(void)
{
	char uri[2 * PATH_MAX], name[64], value[5000] = { 'v' };
	uint8_t key[KEY_SIZE] = { 77 };

	put_file(in_scratch("team"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("team"));
	cr_assert_eq(volume_scope_create(vol, "team", uri, SUITE_XTS_GMAC, NULL), 0);
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	cr_assert_eq(volume_scope_assign(vol, dir, TEAM, false), 0);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		files[i] = make(dir, name, S_IFREG | 0644);
		fill(files[i], i);
	}
	links = make(dir, "link", S_IFLNK | 0777);
	cr_assert_eq(volume_setxattr(vol, files[0], "user.large", value, sizeof(value), 0, false), 0);
	companion = companion_of(files[0]);
	cr_assert(companion);
}

static void begin(enum suite suite)
{
	make_volume(suite);
	open_volume();
	populate();
}

static void start(void)
{
	scratch_in_memory();
	begin(SUITE_XTS_GMAC);
}

static void end(void)
{
	watched = false;
	if (vol) {
		volume_keeper_stop(vol);
		close_volume();
	}
	scratch_end();
}

TestSuite(reencrypt, .init = start, .fini = end, .timeout = 200);

static void go_on(void)
{
	cr_assert_eq(volume_keeper_start(vol, &(struct kernel_cache){ 0 }), 0);
}

static struct scope_view view(uint32_t scope)
{
	struct scope_view s;

	cr_assert_eq(volume_scope(vol, scope, &s), 0);
	return s;
}

/* Until `done` says so, a minute at most. */
static void wait_until(bool (*done)(void))
{
	for (int i = 0; i < 6000 && !done(); i++)
		usleep(10000);
	cr_assert(done());
}

static bool team_is_through(void)
{
	LOCK_SCOPE(&vol->key_lock); /* what gives the older version up has it to the end */
	return view(TEAM).entry.dek_count == 1;
}

static bool default_is_through(void)
{
	LOCK_SCOPE(&vol->key_lock);
	return view(0).entry.dek_count == 1;
}

static bool team_rests(void)
{
	return !view(TEAM).reencryption.running;
}

static struct prologue prologue(uint64_t number)
{
	struct prologue p;

	cr_assert_eq(object_peek(vol, number, &p), 0);
	return p;
}

static void expect_version(uint32_t scope, uint32_t version)
{
	cr_assert_eq(view(scope).entry.dek_count, 1);
	cr_assert_eq(view(scope).entry.deks[0].version, version);
	cr_assert_eq(keys_access(vol->keys, scope, version), SCOPE_OPEN);
	for (uint32_t old = 1; old < version; old++) {
		cr_assert_eq(keys_access(vol->keys, scope, old), SCOPE_UNKNOWN);
		cr_assert_null(keys_cryptor(vol->keys, scope, old));
	}
	for (unsigned i = 0; i < FILES; i++)
		cr_assert(prologue(files[i]).dek_version == version && !prologue(files[i]).old_dek_version);
	cr_assert_eq(prologue(dir).dek_version, version);
	cr_assert_eq(prologue(links).dek_version, version);
	cr_assert_eq(prologue(companion_of(files[0])).dek_version, version);
}

static void expect_content(unsigned plus)
{
	char value[5000], buf[BLOCK_SIZE];

	for (unsigned i = 0; i < FILES; i++)
		expect_filled(files[i], i + plus);
	cr_assert_eq(volume_getxattr(vol, files[0], "user.large", value, sizeof(value)), sizeof(value));
	cr_assert_eq(volume_readlink(vol, links, buf, sizeof(buf)), 6);
	cr_assert_eq(lookup(dir, "file 7"), files[7]);
	expect_sound(0);
}

Test(reencrypt, rewrites_everything_and_gives_the_old_version_up)
{
	struct attr a;
	uint64_t orphan;

	go_on();
	cr_assert_eq(volume_tmpfile(vol, &me, dir, 0600, &a), 0);
	orphan = a.st.st_ino;
	fill(orphan, 99);
	for (uint32_t version = 2; version < 5; version++) {
		watched = true;
		replaced = 0;
		cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
		wait_until(team_is_through);
		watched = false;
		cr_assert_eq(replaced, 2, "one descriptor with the new version, one without the old");
		cr_assert(was_durable);
		expect_version(TEAM, version);
		cr_assert_eq(prologue(orphan).dek_version, version);
		expect_filled(orphan, 99);
		cr_assert_eq(prologue(ROOT_OBJECT).dek_version, 1, "another scope");
	}
	volume_forget(vol, orphan, 1);
	expect_content(0);
	volume_keeper_stop(vol);
	reopen_volume();
	expect_version(TEAM, 4);
	expect_content(0);
}

Test(reencrypt, with_infrastructure_encryption)
{
	close_volume();
	begin(SUITE_XTS_GCM);
	go_on();
	cr_assert_eq(volume_reencrypt(vol, 0, 0), 0);
	wait_until(default_is_through);
	cr_assert_eq(view(0).entry.deks[0].version, 2);
	cr_assert_eq(prologue(ROOT_OBJECT).dek_version, 2);
	expect_content(0);
}

Test(reencrypt, an_old_descriptor_with_the_old_key_opens_nothing)
{
	struct volume_options o = { .state_dir = in_scratch("state"), .accept_changes = true };
	char *text = NULL;
	size_t len = 0;
	struct attr a;

	cr_assert_eq(read_file_at(backing, DESCRIPTOR_NAME, DESCRIPTOR_MAX, &text, &len), 0);
	go_on();
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
	wait_until(team_is_through);
	volume_keeper_stop(vol);
	close_volume();
	cr_assert_eq(replace_file_at(backing, DESCRIPTOR_NAME, 0600, text, len), 0);
	free(text);
	cr_assert_eq(volume_open(backing, &o, &vol), 0);
	for (unsigned i = 0; i < FILES; i++)
		cr_assert_eq(volume_getattr(vol, files[i], &a), -EIO);
	cr_assert_eq(volume_getattr(vol, dir, &a), -EIO);
}

/* ---- kills ---- */

static void rewrite_and_die(void *arg)
{
	const unsigned *ms = arg;

	go_on();
	(void)volume_reencrypt(vol, TEAM, 2);
	usleep(*ms * 1000);
}

Test(reencrypt, goes_on_after_a_kill)
{
	unsigned moving = 0, pending = 0;

	close_volume();
	for (unsigned ms = 0; ms < 900; ms += 90) {
		work_and_die(rewrite_and_die, &ms);
		open_volume();
		pending += view(TEAM).entry.dek_count > 1;
		if (view(TEAM).entry.dek_count > 1)
			cr_assert_eq(view(TEAM).entry.reencrypt_rate, 2);
		for (unsigned i = 0; i < FILES; i++)
			moving += prologue(files[i]).dek_version == 2;
		expect_content(0);
		close_volume();
	}
	cr_assert_gt(pending, 5);
	cr_assert_gt(moving, 10);
	open_volume();
	go_on(); /* by itself */
	wait_until(team_is_through);
	expect_version(TEAM, 2);
	expect_content(0);
}

/* ---- while others work ---- */

static atomic_bool enough;

static void *keep_working(void *arg)
{
	unsigned round = 0;
	struct attr a;

	(void)arg;
	for (; !atomic_load(&enough); round++) {
		for (unsigned i = 0; i < FILES; i++) {
			fill(files[i], i + round + 1);
			expect_filled(files[i], i + round + 1);
			expect_filled(files[FILES - 1 - i], FILES - 1 - i + round + (FILES - 1 - i <= i));
		}
		uint64_t made = make(dir, "made", S_IFREG | 0600);

		fill(made, round);
		cr_assert_eq(volume_rename(vol, dir, "made", dir, "renamed", 0), 0);
		cr_assert_eq(volume_lookup(vol, dir, "renamed", &a), 0);
		cr_assert_eq(volume_unlink(vol, dir, "renamed"), 0);
		volume_forget(vol, made, 2);
	}
	return (void *)(uintptr_t)round;
}

Test(reencrypt, everybody_goes_on_working)
{
	pthread_t worker;
	void *rounds;

	go_on();
	atomic_store(&enough, false);
	cr_assert_eq(pthread_create(&worker, NULL, keep_working, NULL), 0);
	for (uint32_t version = 2; version < 6; version++) {
		cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
		wait_until(team_is_through);
	}
	atomic_store(&enough, true);
	cr_assert_eq(pthread_join(worker, &rounds), 0);
	expect_version(TEAM, 5);
	expect_content((unsigned)(uintptr_t)rounds);
}

/* ---- what stops it ---- */

Test(reencrypt, a_lock_stops_it_and_unlocking_goes_on)
{
	go_on();
	cr_assert_eq(volume_reencrypt(vol, TEAM, 4), 0);
	usleep(300000);
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), -ENOKEY);
	wait_until(team_rests);
	cr_assert_eq(view(TEAM).entry.dek_count, 2);
	/* Another scope does not wait for it. */
	cr_assert_eq(volume_reencrypt(vol, 0, 0), 0);
	wait_until(default_is_through);
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
	wait_until(team_is_through);
	expect_version(TEAM, 2);
	expect_content(0);
}

Test(reencrypt, what_is_on_its_way_elsewhere_comes_through)
{
	struct rekey_target t = { 0, 1 };
	unsigned blocks;
	bool done;

	/* Each file half-way: out of the scope, and into it. */
	for (unsigned i = 0; i < 6; i++)
		cr_assert_eq(volume_write(vol, files[i], 4 << 20, 1, "x", KILL_IDS), 0);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(volume_scope_assign(vol, files[i], 0, false), 0);
	t.scope = TEAM;
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(rekey_piece(vol, files[i], &t, false, &done, &blocks), 0);
	t.scope = 0;
	for (unsigned i = 3; i < 6; i++)
		cr_assert_eq(rekey_piece(vol, files[i], &t, false, &done, &blocks), 0);
	for (unsigned i = 0; i < 6; i++)
		cr_assert_neq(prologue(files[i]).old_dek_version, 0);
	go_on();
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
	wait_until(team_is_through);
	for (unsigned i = 0; i < 6; i++) {
		struct prologue p = prologue(files[i]);

		cr_assert_eq(p.old_dek_version, 0);
		cr_assert_eq(p.scope, i < 3 ? TEAM : 0);
		cr_assert_eq(p.dek_version, i < 3 ? 2 : 1);
	}
	for (unsigned i = 0; i < FILES; i++) {
		truncate_to(files[i], FILE_SIZE);
		expect_filled(files[i], i);
	}
	expect_sound(0);
}

Test(reencrypt, damage_keeps_the_old_version_alive)
{
	uint8_t noise[BLOCK_SIZE] = { 1, 2, 3 };
	char path[64];

	close_volume(); /* all of it is home */
	snprintf(path, sizeof(path), "objects/%03lx/%03lx", files[5] >> 12, files[5] & 0xfff);
	int fd = openat(backing, path, O_WRONLY);

	cr_assert_eq(pwrite(fd, noise, sizeof(noise), 20 * BLOCK_SIZE), sizeof(noise));
	close(fd);
	open_volume();
	go_on();
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
	wait_until(team_rests);
	cr_assert_eq(view(TEAM).entry.dek_count, 2);
	cr_assert_eq(view(TEAM).reencryption.failed, 1);
	cr_assert_eq(prologue(files[6]).dek_version, 2);
	cr_assert_eq(volume_unlink(vol, dir, "file 5"), 0);
	volume_forget(vol, files[5], 100);
	files[5] = make(dir, "file 5", S_IFREG | 0600);
	fill(files[5], 5);
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
	wait_until(team_is_through);
	expect_version(TEAM, 2);
	expect_content(0);
}

Test(reencrypt, does_not_take_more_than_it_may)
{
	struct timespec before, after;

	go_on();
	clock_gettime(CLOCK_MONOTONIC, &before);
	cr_assert_eq(volume_reencrypt(vol, TEAM, 4), 0); /* of 12 MB */
	wait_until(team_is_through);
	clock_gettime(CLOCK_MONOTONIC, &after);
	cr_assert_geq(after.tv_sec - before.tv_sec, 2);
	expect_content(0);
}

/* A limit that comes late does not count what was done without it. */
Test(reencrypt, another_rate_counts_from_now_on)
{
	go_on();
	cr_assert_eq(volume_reencrypt(vol, TEAM, 64), 0);
	for (int i = 0; i < 6000 && view(TEAM).reencryption.blocks_done < FILES * FILE_SIZE / BLOCK_SIZE / 2; i++)
		usleep(1000);
	cr_assert_eq(view(TEAM).entry.dek_count, 2);
	cr_assert_eq(volume_reencrypt(vol, TEAM, 1), 0);
	cr_assert_eq(view(TEAM).entry.reencrypt_rate, 1);
	usleep(800000); /* at least one piece under the limit */
	cr_assert_eq(volume_reencrypt(vol, TEAM, 0), 0);
	for (int i = 0; i < 300 && !team_is_through(); i++)
		usleep(10000);
	cr_assert(team_is_through(), "what was done before the limit is paid for");
	expect_content(0);
}

Test(reencrypt, a_read_only_mount_says_so)
{
	go_on();
	cr_assert_eq(volume_reencrypt(vol, TEAM, 1), 0);
	volume_keeper_stop(vol);
	close_volume();
	cr_assert_eq(try_open(true), 0);
	cr_assert_eq(volume_reencrypt(vol, TEAM, 1), -EROFS, "nobody would do it");
	cr_assert_eq(volume_reencrypt(vol, 0, 0), -EROFS);
	cr_assert_eq(volume_scope_assign(vol, files[3], 0, false), -EROFS);
	for (unsigned i = 0; i < FILES; i++)
		expect_filled(files[i], i);
}

static bool default_rests(void)
{
	return view(0).reencryption.failed && !view(0).reencryption.running;
}

/* An object between two scopes, the other one of which is locked, comes last. */
Test(reencrypt, goes_on_when_the_other_scope_is_unlocked)
{
	struct rekey_target t = { TEAM, 1 };
	uint64_t f = make(ROOT_OBJECT, "between", S_IFREG | 0600);
	unsigned blocks;
	bool done;

	fill(f, 9);
	cr_assert_eq(volume_write(vol, f, 4 << 20, 1, "x", KILL_IDS), 0);
	cr_assert_eq(rekey_piece(vol, f, &t, false, &done, &blocks), 0);
	cr_assert_eq(prologue(f).old_dek_version, 1);
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	go_on();
	cr_assert_eq(volume_reencrypt(vol, 0, 0), 0);
	wait_until(default_rests);
	cr_assert_eq(view(0).entry.dek_count, 2);
	cr_assert_eq(view(0).reencryption.failed, 1);
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	wait_until(default_is_through);
	cr_assert_eq(prologue(f).scope, TEAM);
	cr_assert_eq(prologue(f).old_dek_version, 0);
	truncate_to(f, FILE_SIZE);
	expect_filled(f, 9);
	expect_content(0);
}

/* The descriptor has the new version a moment before the volume has its key: what is made in it then must not be missed. */
Test(reencrypt, waits_until_the_new_key_is_in_force)
{
	uint8_t key[KEY_SIZE] = { 78 };
	struct opened_source *source;
	struct opened_scope *o = NULL;
	char uri[2 * PATH_MAX];
	struct scope_entry s;
	uint64_t f;

	put_file(in_scratch("empty"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("empty"));
	cr_assert_eq(volume_scope_create(vol, "empty", uri, SUITE_XTS_GMAC, NULL), 0);
	go_on();
	f = make(ROOT_OBJECT, "f", S_IFREG | 0600);
	fill(f, 5);

	pthread_mutex_lock(&vol->key_lock);
	cr_assert_eq(keeper_entry(vol, 2, &s), 0);
	source = keys_source(vol->keys, 2);
	cr_assert_eq(keys_new_dek(vol->keys, source, &vol->d->recovery, &s, &o), 0);
	opened_source_free(source);
	cr_assert_eq(keeper_store(vol, &s), 0);
	reencrypt_wake(vol);
	usleep(300000);
	cr_assert_eq(volume_scope_assign(vol, f, 2, false), 0);
	cr_assert_eq(prologue(f).dek_version, 1);
	gate_close(vol);
	cr_assert_eq(keys_make_room(vol->keys, vol->d), 0);
	keys_take_deks(vol->keys, &o);
	gate_open(vol);
	pthread_mutex_unlock(&vol->key_lock);
	usleep(300000);
	expect_filled(f, 5);

	cr_assert_eq(volume_reencrypt(vol, 2, 0), 0);
	for (int i = 0; i < 1000 && view(2).entry.dek_count > 1; i++)
		usleep(10000);
	cr_assert_eq(view(2).entry.dek_count, 1);
	expect_filled(f, 5);
	cr_assert_eq(prologue(f).dek_version, 2);
	expect_sound(0);
}

/* What was put elsewhere since it was looked at stays there. */
Test(reencrypt, does_not_bring_back_what_was_assigned_elsewhere)
{
	struct rekey_target t = { TEAM, 1 };
	unsigned blocks;
	bool done;

	cr_assert_eq(volume_scope_assign(vol, files[2], 0, false), 0);
	cr_assert_eq(rekey_piece(vol, files[2], &t, true, &done, &blocks), 0);
	cr_assert(done);
	cr_assert_eq(prologue(files[2]).scope, 0);
	cr_assert_eq(prologue(files[2]).old_dek_version, 0);
	expect_content(0);
}
