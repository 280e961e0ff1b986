/* Life of a volume, names and links, and what is left after a kill. */
#include "volume_fixture.h"

#include <sys/sysmacros.h>

#include <coffer/volume_keys.h>

TestSuite(volume, .init = scratch_in_memory, .fini = scratch_end, .timeout = 250);

Test(volume, made_and_opened)
{
	struct volume_status status;
	struct volume *first;

	for (unsigned s = 0; s < SUITES; s++) {
		make_volume(suites[s]);
		cr_assert_eq(volume_create(backing, suites[s], "platform:", NULL, in_scratch("state")), -ENOTEMPTY);
		open_volume();
		first = vol;
		cr_assert_eq(try_open(false), -EBUSY);
		cr_assert_eq(try_open(true), -EBUSY);
		vol = first;
		cr_assert(S_ISDIR(attributes(ROOT_OBJECT).st_mode));
		cr_assert_eq(attributes(ROOT_OBJECT).st_nlink, 2);
		cr_assert_eq(attributes(ROOT_OBJECT).st_uid, geteuid());
		volume_status(vol, &status);
		cr_assert_eq(vol->d->epoch, 1);
		cr_assert_not(status.read_only);
		expect_sound(0);
		reopen_volume();
		cr_assert_eq(vol->d->epoch, 2);
		close_volume();
	}
}

static void make_some(void *arg)
{
	(void)arg;
	make(make(ROOT_OBJECT, "dir", S_IFDIR | 0755), "file", S_IFREG | 0644);
}

static void expect_no_changes(void)
{
	struct stat s = { 0 };
	struct attr a;

	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, "new", S_IFREG, 0, NULL, &a), -EROFS);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "dir"), -EROFS);
	cr_assert_eq(volume_setattr(vol, ROOT_OBJECT, &s, SET_MODE, &a), -EROFS);
	cr_assert_eq(volume_setxattr(vol, ROOT_OBJECT, "user.a", "", 0, 0, false), -EROFS);
	cr_assert_eq(volume_sync(vol), 0);
}

/* A volume that was not closed, read without anything being written. */
Test(volume, read_only)
{
	make_volume(SUITE_XTS_GMAC);
	work_and_die(make_some, NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct volume *first;

		cr_assert_eq(try_open(true), 0);
		first = vol;
		cr_assert_eq(try_open(true), 0); /* any number of them */
		cr_assert_neq(lookup(lookup(ROOT_OBJECT, "dir"), "file"), 0);
		expect_no_changes();
		expect_sound(0);
		cr_assert_eq(try_open(false), -EBUSY);
		cr_assert_eq(volume_close(first), 0);
		cr_assert_eq(volume_close(vol), 0);
	}
	open_volume();
	cr_assert_neq(lookup(lookup(ROOT_OBJECT, "dir"), "file"), 0);
	close_volume();
	cr_assert_eq(try_open(true), 0);
	cr_assert_neq(lookup(lookup(ROOT_OBJECT, "dir"), "file"), 0);
	close_volume();
}

/* Who serves a volume read-only has it alone, too. */
Test(volume, read_only_alone)
{
	struct volume_options alone = { .read_only = true }, shared = alone;
	struct volume *other;

	alone.state_dir = shared.state_dir = strdup(in_scratch("state"));
	shared.shared = true;
	make_volume(SUITE_XTS_GMAC);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(volume_open(backing, &alone, &vol), 0);
		cr_assert_eq(volume_open(backing, &alone, &other), -EBUSY);
		cr_assert_eq(volume_open(backing, &shared, &other), -EBUSY);
		cr_assert_eq(volume_close(vol), 0);
		cr_assert_eq(volume_open(backing, &shared, &vol), 0);
		cr_assert_eq(volume_open(backing, &alone, &other), -EBUSY);
		close_volume();
		cr_assert_eq(try_open(false), 0); /* makes the file that is locked as well */
		close_volume();
	}
	free((char *)(uintptr_t)alone.state_dir);
}

static int64_t access_time(uint64_t object)
{
	struct stat st = attributes(object);

	return st.st_atim.tv_sec * INT64_C(1000000000) + st.st_atim.tv_nsec;
}

/* Made read-only and writable again while it is open: it changes nothing by itself, and takes what the kernel has for it still. */
Test(volume, read_only_for_a_while)
{
	struct volume_status status;
	char block[BLOCK_SIZE];
	uint64_t file;
	int64_t before;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	file = make(ROOT_OBJECT, "file", S_IFREG | 0644);
	cr_assert_eq(volume_write(vol, file, 0, 1, "a", KEEP_IDS), 0);
	cr_assert_eq(volume_set_read_only(vol, true), 0);
	volume_status(vol, &status);
	cr_assert(status.read_only);
	before = access_time(file);
	cr_assert_eq(volume_read(vol, file, 0, 1, block), 1);
	cr_assert_eq(access_time(file), before);
	cr_assert_eq(volume_key_rotate(vol, 0), -EROFS);
	cr_assert_eq(volume_scope_create(vol, "team", "platform:", SUITE_XTS_GMAC, NULL), -EROFS);
	cr_assert_eq(volume_write(vol, file, 0, 1, "b", WRITTEN_BACK), 0);
	reopen_volume();
	cr_assert_eq(volume_read(vol, file, 0, 1, block), 1);
	cr_assert_eq(block[0], 'b');
	cr_assert_eq(volume_set_read_only(vol, true), 0);
	cr_assert_eq(volume_set_read_only(vol, true), 0);
	cr_assert_eq(volume_set_read_only(vol, false), 0);
	volume_status(vol, &status);
	cr_assert_not(status.read_only);
	cr_assert_eq(volume_key_rotate(vol, 0), 0);
	close_volume();
	cr_assert_eq(try_open(true), 0);
	cr_assert_eq(volume_set_read_only(vol, true), 0);
	cr_assert_eq(volume_set_read_only(vol, false), -EROFS, "it was opened read-only");
	close_volume();
}

Test(volume, every_kind)
{
	static const mode_t kinds[] = { S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };
	struct attr a;

	make_volume(SUITE_XTS_GCM);
	open_volume();
	for (unsigned i = 0; i < 6; i++) {
		char name[8];
		dev_t rdev = makedev(4000, 1000000 + i);

		snprintf(name, sizeof(name), "%u", i);
		cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, name, kinds[i] | 06777, rdev, NULL, &a), 0);
		for (unsigned j = 0; j < 2; j++) {
			cr_assert_eq(a.st.st_mode, kinds[i] | 06755);
			cr_assert_eq(a.st.st_uid, me.uid);
			cr_assert_eq(a.st.st_gid, me.gid);
			cr_assert_eq(a.st.st_nlink, S_ISDIR(kinds[i]) ? 2 : 1);
			cr_assert_eq(a.st.st_rdev, S_ISCHR(kinds[i]) || S_ISBLK(kinds[i]) ? rdev : 0);
			cr_assert_eq(a.st.st_size, 0);
			cr_assert_eq(a.st.st_blksize, BLOCK_SIZE);
			reopen_volume();
			cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, name, &a), 0);
		}
	}
	cr_assert_eq(attributes(ROOT_OBJECT).st_nlink, 3);
	close_volume();
}

Test(volume, symlinks_of_every_length)
{
	char target[VOLUME_SYMLINK_MAX + 2], got[VOLUME_SYMLINK_MAX + 1], name[16];
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	for (size_t len = 1; len <= VOLUME_SYMLINK_MAX + 1; len += len < 40 || (len > 1190 && len < 1210) ? 1
								   : len > 4090                           ? 1
													  : 61) {
		memset(target, 'a' + (int)(len % 26), len);
		target[len] = 0;
		snprintf(name, sizeof(name), "%zu", len);
		int r = volume_make(vol, &me, ROOT_OBJECT, name, S_IFLNK | 0777, 0, target, &a);

		if (len > VOLUME_SYMLINK_MAX) {
			cr_assert_eq(r, -ENAMETOOLONG);
			break;
		}
		cr_assert_eq(r, 0);
		cr_assert_eq((size_t)a.st.st_size, len);
		if (len % 2)
			reopen_volume();
		cr_assert_eq(volume_readlink(vol, a.st.st_ino, got, sizeof(got)), (int)len);
		cr_assert_str_eq(got, target);
		cr_assert_eq(volume_readlink(vol, a.st.st_ino, got, len), -ENAMETOOLONG);
	}
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, "none", S_IFLNK | 0777, 0, "", &a), -ENOENT);
	cr_assert_eq(volume_readlink(vol, ROOT_OBJECT, got, sizeof(got)), -EINVAL);
	expect_sound(0);
	close_volume();
}

Test(volume, times)
{
	static const struct timespec times[] = { { 0, 0 },
						 { -1, 999999999 },
						 { 1, 1 },
						 { INT32_MAX, 999999999 },
						 { (time_t)INT32_MAX + 1, 5 },
						 { 1ll << 34, 123456789 },
						 { -(1ll << 33), 7 } };
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

	for (unsigned i = 0; i < sizeof(times) / sizeof(*times); i++) {
		struct stat s = { .st_atim = times[i], .st_mtim = times[(i + 1) % 7], .st_ctim = times[(i + 2) % 7] };

		cr_assert_eq(volume_setattr(vol, file, &s, SET_ATIME | SET_MTIME | SET_CTIME, &a), 0);
		reopen_volume();
		struct stat got = attributes(file);

		cr_assert_arr_eq(&got.st_atim, &s.st_atim, sizeof(s.st_atim));
		cr_assert_arr_eq(&got.st_mtim, &s.st_mtim, sizeof(s.st_mtim));
		cr_assert_arr_eq(&got.st_ctim, &s.st_ctim, sizeof(s.st_ctim));
	}
	/* A read moves the access time, and that outlives the volume's closing. */
	struct stat old = { .st_atim = { 100, 0 } };
	char byte[BLOCK_SIZE];

	cr_assert_eq(volume_write(vol, file, 0, 1, "x", KEEP_IDS), 0);
	cr_assert_eq(volume_setattr(vol, file, &old, SET_ATIME, &a), 0);
	cr_assert_eq(volume_read(vol, file, 0, 1, byte), 1);
	time_t moved = attributes(file).st_atime;

	cr_assert_gt(moved, 1000);
	reopen_volume();
	cr_assert_eq(attributes(file).st_atime, moved);
	close_volume();
}

Test(volume, setgid_directory)
{
	struct stat s = { .st_mode = S_IFDIR | 02775, .st_gid = 4242 };
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);

	cr_assert_eq(volume_setattr(vol, dir, &s, SET_MODE | SET_GID, &a), 0);
	struct stat file = attributes(make(dir, "file", S_IFREG | 0644)),
		    sub = attributes(make(dir, "sub", S_IFDIR | 0755));

	cr_assert_eq(file.st_gid, 4242);
	cr_assert_eq(file.st_mode, S_IFREG | 0644);
	cr_assert_eq(sub.st_gid, 4242);
	cr_assert_eq(sub.st_mode, S_IFDIR | 02755);
	close_volume();
}

/* ---- names ---- */
Test(volume, dot_and_dotdot)
{
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755), sub = make(dir, "sub", S_IFDIR | 0755);
	uint64_t file = make(sub, "file", S_IFREG | 0644);

	cr_assert_eq(lookup(sub, ".."), dir);
	cr_assert_eq(lookup(dir, ".."), ROOT_OBJECT);
	cr_assert_eq(lookup(ROOT_OBJECT, ".."), ROOT_OBJECT);
	cr_assert_eq(lookup(file, "."), file);
	cr_assert_eq(volume_lookup(vol, file, "..", &a), -ENOTDIR);
	cr_assert_eq(volume_lookup(vol, 99999, ".", &a), -ESTALE);
	cr_assert_eq(volume_rename(vol, dir, "sub", ROOT_OBJECT, "sub", 0), 0);
	cr_assert_eq(lookup(sub, ".."), ROOT_OBJECT);
	reopen_volume(); /* by number alone, after all was forgotten */
	cr_assert_eq(lookup(sub, ".."), ROOT_OBJECT);
	cr_assert_eq(lookup(file, "."), file);
	cr_assert_eq(volume_unlink(vol, sub, "file"), 0);
	cr_assert_eq(volume_lookup(vol, file, ".", &a), -ESTALE);
	close_volume();
}

Test(volume, renames_of_directories)
{
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t a = make(ROOT_OBJECT, "a", S_IFDIR | 0755), b = make(a, "b", S_IFDIR | 0755);
	uint64_t c = make(b, "c", S_IFDIR | 0755), d = make(ROOT_OBJECT, "d", S_IFDIR | 0755);

	/* Not below themselves. */
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "a", a, "x", 0), -EINVAL);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "a", c, "x", 0), -EINVAL);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "a", b, "c", RENAME_EXCHANGE), -EINVAL);
	cr_assert_eq(volume_rename(vol, b, "c", ROOT_OBJECT, "a", RENAME_EXCHANGE), -EINVAL);
	cr_assert_eq(volume_rename(vol, b, "c", ROOT_OBJECT, "a", 0), -ENOTEMPTY);
	cr_assert_eq(volume_rename(vol, a, "b", ROOT_OBJECT, "d", 0), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, "d"), b);
	cr_assert_eq(lookup(b, ".."), ROOT_OBJECT);
	cr_assert_eq(attributes(ROOT_OBJECT).st_nlink, 4);
	cr_assert_eq(attributes(a).st_nlink, 2);
	volume_forget(vol, d, 1);
	/* A directory and a file change places. */
	uint64_t file = make(a, "file", S_IFREG | 0644);

	cr_assert_eq(volume_rename(vol, a, "file", b, "c", RENAME_EXCHANGE), 0);
	cr_assert_eq(lookup(a, "file"), c);
	cr_assert_eq(lookup(b, "c"), file);
	cr_assert_eq(attributes(a).st_nlink, 3);
	cr_assert_eq(attributes(b).st_nlink, 2);
	cr_assert_eq(lookup(c, ".."), a);
	/* One over the other. */
	cr_assert_eq(volume_rename(vol, b, "c", a, "file", 0), -EISDIR);
	cr_assert_eq(volume_rename(vol, a, "file", b, "c", 0), -ENOTDIR);
	cr_assert_eq(volume_rename(vol, a, "none", b, "c", 0), -ENOENT);
	cr_assert_eq(volume_rename(vol, a, "file", a, "file", 0), 0);
	cr_assert_eq(volume_rename(vol, a, "file", b, "c", RENAME_NOREPLACE | RENAME_EXCHANGE), -EINVAL);
	cr_assert_eq(volume_rename(vol, a, "file", b, "c", RENAME_WHITEOUT | RENAME_EXCHANGE), -EINVAL);
	cr_assert_eq(volume_rename(vol, a, "file", b, "c", RENAME_WHITEOUT << 1), -EINVAL);
	/* What an overlay leaves behind. */
	uint64_t moved = lookup(a, "file");

	cr_assert_eq(volume_rename(vol, a, "file", b, "moved", RENAME_WHITEOUT | RENAME_NOREPLACE), 0);
	cr_assert_eq(attributes(lookup(a, "file")).st_mode, S_IFCHR);
	cr_assert_eq(attributes(lookup(a, "file")).st_rdev, 0);
	cr_assert_eq(attributes(lookup(a, "file")).st_nlink, 1);
	cr_assert_eq(lookup(b, "moved"), moved);
	expect_sound(0);
	reopen_volume();
	expect_sound(0);
	close_volume();
}

Test(volume, links)
{
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755), file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

	cr_assert_eq(volume_link(vol, dir, ROOT_OBJECT, "x", &a), -EPERM);
	cr_assert_eq(volume_link(vol, file, ROOT_OBJECT, "dir", &a), -EEXIST);
	for (unsigned i = 2; i <= 500; i++) { /* more than the header lists */
		char name[32];

		snprintf(name, sizeof(name), "another name, the %u", i);
		cr_assert_eq(volume_link(vol, file, i % 2 ? dir : ROOT_OBJECT, name, &a), 0);
		cr_assert_eq(a.st.st_nlink, i);
	}
	/* Two names of one object: a rename of one over the other does nothing. */
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "file", dir, "another name, the 3", 0), 0);
	cr_assert_eq(attributes(file).st_nlink, 500);
	reopen_volume();
	expect_sound(0);
	for (unsigned i = 2; i <= 500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "another name, the %u", i);
		cr_assert_eq(volume_unlink(vol, i % 2 ? dir : ROOT_OBJECT, name), 0);
	}
	cr_assert_eq(attributes(file).st_nlink, 1);
	expect_sound(0);
	close_volume();
}

Test(volume, most_links)
{
	struct attr a;
	char name[16];

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "0", S_IFREG | 0644);

	for (unsigned i = 1; i < VOLUME_LINK_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		cr_assert_eq(volume_link(vol, file, ROOT_OBJECT, name, &a), 0);
	}
	cr_assert_eq(volume_link(vol, file, ROOT_OBJECT, "one more", &a), -EMLINK);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "0", ROOT_OBJECT, "renamed", 0), 0);
	cr_assert_eq(attributes(file).st_nlink, VOLUME_LINK_MAX);
	reopen_volume();
	expect_sound(0);
	close_volume();
}

/* ---- what has no name ---- */
Test(volume, open_without_a_name)
{
	char got[3 * BLOCK_SIZE];
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644), dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);

	cr_assert_eq(volume_write(vol, file, 0, 5, "hello", KEEP_IDS), 0);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "file"), 0);
	cr_assert_eq(attributes(file).st_nlink, 0);
	cr_assert_eq(volume_read(vol, file, 0, 10, got), 5);
	cr_assert_eq(volume_write(vol, file, 5, 6, " world", KEEP_IDS), 0);
	cr_assert_eq(volume_read(vol, file, 0, 100, got), 11);
	/* Both are reported until they go. */
	uint64_t large = make(ROOT_OBJECT, "large", S_IFREG | 0644);
	static const char data[70000] = "x";

	cr_assert_eq(volume_write(vol, large, 0, sizeof(data), data, KEEP_IDS), 0);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "large"), 0);
	expect_sound(2);
	volume_forget(vol, large, 1);
	volume_forget(vol, file, 1);
	cr_assert_eq(volume_read(vol, file, 0, 10, got), -ESTALE);
	expect_sound(0);
	/* A directory that is gone takes nothing new. */
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "dir"), 0);
	cr_assert_eq(volume_make(vol, &me, dir, "new", S_IFREG, 0, NULL, &a), -ENOENT);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "none", dir, "new", 0), -ENOENT);
	cr_assert_eq(lookup(dir, "new"), 0);
	volume_forget(vol, dir, 1);
	/* Made without a name, and given one. */
	cr_assert_eq(volume_tmpfile(vol, &me, ROOT_OBJECT, 0600, &a), 0);
	cr_assert_eq(a.st.st_nlink, 0);
	uint64_t first = a.st.st_ino;

	cr_assert_eq(volume_tmpfile(vol, &me, ROOT_OBJECT, 0600, &a), 0);
	cr_assert_eq(volume_link(vol, first, ROOT_OBJECT, "named", &a), 0);
	reopen_volume(); /* takes the other one away */
	cr_assert_eq(lookup(ROOT_OBJECT, "named"), first);
	expect_sound(0);
	close_volume();
}

static uint64_t kept;

static void leave_orphans(void *arg)
{
	static const char data[200000] = "x";
	struct attr a;

	(void)arg;
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(volume_tmpfile(vol, &me, ROOT_OBJECT, 0600, &a), 0);
		cr_assert_eq(volume_write(vol, a.st.st_ino, 0, sizeof(data), data, KEEP_IDS), 0);
	}
	cr_assert_eq(volume_link(vol, a.st.st_ino, ROOT_OBJECT, "kept", &a), 0);
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);

	cr_assert_eq(volume_setxattr(vol, file, "user.big", data, 50000, 0, false), 0);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "file"), 0);
	make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "dir"), 0);
}

Test(volume, orphans_go_at_recovery)
{
	for (unsigned s = 0; s < SUITES; s++) {
		struct volume_status status;

		make_volume(suites[s]);
		work_and_die(leave_orphans, NULL);
		open_volume();
		volume_status(vol, &status);
		cr_assert_eq(status.orphans_removed, 21);
		expect_sound(0);
		kept = lookup(ROOT_OBJECT, "kept");
		cr_assert_neq(kept, 0);
		cr_assert_eq(attributes(kept).st_size, 200000);
		close_volume();
	}
}

/* Killed again and again, each time in the middle of the next: all that was answered is there. */
static unsigned round_number;

static void make_round(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 30; i++) {
		char name[32], to[32];
		uint64_t file;

		snprintf(name, sizeof(name), "%u.%u", round_number, i);
		snprintf(to, sizeof(to), "%u.%u.moved", round_number, i);
		file = make(ROOT_OBJECT, name, S_IFREG | 0644);
		cr_assert_eq(volume_write(vol, file, i * 1000, strlen(name), name, KEEP_IDS), 0);
		if (i % 3 == 0)
			cr_assert_eq(volume_rename(vol, ROOT_OBJECT, name, ROOT_OBJECT, to, 0), 0);
		if (i % 7 == 0)
			cr_assert_eq(volume_fsync(vol, file), 0);
		if (i % 5 == 0)
			cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, i % 3 ? name : to), 0);
	}
}

Test(volume, killed_again_and_again)
{
	char got[2 * BLOCK_SIZE];

	make_volume(SUITE_XTS_GMAC);
	for (round_number = 0; round_number < 12; round_number++) {
		work_and_die(make_round, NULL);
		if (round_number % 4 == 3) {
			open_volume();
			expect_sound(0);
			close_volume();
		}
	}
	open_volume();
	for (unsigned r = 0; r < 12; r++)
		for (unsigned i = 0; i < 30; i++) {
			char name[32], written[32];

			snprintf(written, sizeof(written), "%u.%u", r, i);
			snprintf(name, sizeof(name), "%u.%u%s", r, i, i % 3 ? "" : ".moved");
			uint64_t file = lookup(ROOT_OBJECT, name);

			cr_assert_eq(file != 0, i % 5 != 0, "%s", name);
			if (!file)
				continue;
			cr_assert_eq(volume_read(vol, file, i * 1000, 100, got), (ssize_t)strlen(written));
			cr_assert_arr_eq(got, written, strlen(written));
		}
	expect_sound(0);
	close_volume();
}
