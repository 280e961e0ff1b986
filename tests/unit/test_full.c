/* A volume on a disk that fills up: what was accepted is there, removing works and gives the room back. */
#include "volume_fixture.h"

#include <linux/falloc.h>
#include <sched.h>
#include <sys/mount.h>

#include <coffer/volume_keys.h>

#undef BLOCK_SIZE /* <sys/mount.h> brings another one */

TestSuite(full, .init = scratch_start, .fini = scratch_end, .timeout = 120);

static const char *number(unsigned i)
{
	static char name[16];

	snprintf(name, sizeof(name), "%u", i);
	return name;
}

static bool small_disk(const char *path, const char *size)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mkdir(path, 0700) < 0 || mount("small", path, "tmpfs", 0, size) < 0)
		return false;
	return true;
}

static void fill_up(unsigned *ret_files, bool reads)
{
	static uint8_t data[100000], got[sizeof(data) + 3 * BLOCK_SIZE];
	int r = 0;

	for (*ret_files = 0; r == 0; ++*ret_files) {
		struct attr a;

		memset(data, (int)*ret_files, sizeof(data));
		r = volume_make(vol, &me, ROOT_OBJECT, number(*ret_files), S_IFREG | 0644, 0, NULL, &a);
		if (r == 0)
			r = volume_write(vol, a.st.st_ino, 0, *ret_files % 2 ? 20000 : sizeof(data), data, KEEP_IDS);
		if (r == 0 && reads) /* access times to be written, when there is no room for them */
			cr_assert_gt(volume_read(vol, a.st.st_ino, 0, sizeof(data), got), 0);
	}
	cr_assert_eq(r, -ENOSPC, "%s", strerror(-r));
	--*ret_files;
}

Test(full, disk)
{
	char uri[2 * PATH_MAX];
	uint8_t key[KEY_SIZE] = { 7 }, got[32 * BLOCK_SIZE];
	unsigned files, again;

	if (!small_disk(in_scratch("small"), "size=24m"))
		cr_skip_test("needs root, for a small file system");
	put_file(in_scratch("key"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("key"));
	backing = open_dir_at(in_scratch("small"));
	cr_assert_eq(volume_create(backing, SUITE_XTS_GMAC, uri, NULL, in_scratch("state")), 0);

	struct volume_options o = { .state_dir = in_scratch("state"), .sync_interval = 1 };

	cr_assert_eq(volume_open(backing, &o, &vol), 0);
	fill_up(&files, true);
	cr_assert_gt(files, 100);
	sleep(3); /* the background thread must not hang on what it has to do itself */
	for (unsigned i = 0; i < files; i++) {
		uint64_t file;

		file = lookup(ROOT_OBJECT, number(i));
		cr_assert_neq(file, 0);
		cr_assert_gt(volume_read(vol, file, 0, 100000, got), 0);
		for (unsigned j = 0; j < 20000; j++)
			cr_assert_eq(got[j], (uint8_t)i, "file %u", i);
		volume_forget(vol, file, 2);
	}
	/* Removing works, and gives the room back. */
	for (unsigned i = 0; i < files; i += 2) {
		int r = volume_unlink(vol, ROOT_OBJECT, number(i));

		cr_assert_eq(r, 0, "unlink: %s", strerror(-r));
	}
	for (unsigned i = 1; i < files; i += 2) {
		cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, number(i)), 0);
	}
	cr_assert_eq(volume_close(vol), 0);
	cr_assert_eq(volume_open(backing, &o, &vol), 0);
	(void)volume_unlink(vol, ROOT_OBJECT, number(files)); /* the one that was not written */
	expect_sound(0);
	fill_up(&again, false);
	cr_assert_geq(again, files - 12, "%u files, before %u", again, files);
	cr_assert_eq(volume_close(vol), 0);
	close(backing);
	umount2(in_scratch("small"), MNT_DETACH);
}

static void wait_for_version(uint32_t scope, uint32_t version)
{
	struct scope_view s = { 0 };

	for (int i = 0; i < 6000 && (s.entry.dek_count != 1 || s.entry.deks[0].version != version); i++) {
		usleep(10000);
		cr_assert_eq(volume_scope(vol, scope, &s), 0);
	}
	cr_assert_eq(s.entry.dek_count, 1);
	cr_assert_eq(s.entry.deks[0].version, version);
}

static void expect_bytes(uint64_t file, uint64_t from, size_t len, uint8_t byte)
{
	uint8_t *got = malloc(len + BLOCK_SIZE);
	size_t i = 0;

	cr_assert_eq(volume_read(vol, file, from, len, got), (ssize_t)len);
	while (i < len && got[i] == byte)
		i++;
	cr_assert_eq(i, len);
	free(got);
}

static void expect_space(uint64_t object, size_t least)
{
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "objects/%03lx/%03lx", object >> 12, object & 0xfff);
	cr_assert_eq(fstatat(backing, path, &st, 0), 0);
	cr_assert_geq((size_t)st.st_blocks * 512, least);
}

/* Moving to other keys needs no room: what there is of it is rewritten in its place, and what was set aside stays so. */
Test(full, moving_to_other_keys)
{
	enum { MIB = 1 << 20, KEPT = 2 };
	static uint8_t data[MIB];
	struct volume_options o = { .state_dir = in_scratch("state"), .sync_interval = 1 };
	uint8_t key[KEY_SIZE] = { 7 };
	char uri[2 * PATH_MAX];
	unsigned n = 0;
	int r;

	if (!small_disk(in_scratch("small"), "size=24m"))
		cr_skip_test("needs root, for a small file system");
	put_file(in_scratch("key"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("key"));
	backing = open_dir_at(in_scratch("small"));
	cr_assert_eq(volume_create(backing, SUITE_XTS_GMAC, uri, NULL, in_scratch("state")), 0);
	cr_assert_eq(volume_open(backing, &o, &vol), 0);
	cr_assert_eq(volume_scope_create(vol, "team", uri, SUITE_XTS_GCM, NULL), 0);
	cr_assert_eq(volume_keeper_start(vol, &(struct kernel_cache){ 0 }), 0);

	uint64_t kept = make(ROOT_OBJECT, "kept", S_IFREG | 0600), filler = make(ROOT_OBJECT, "f", S_IFREG | 0600);

	cr_assert_eq(volume_fallocate(vol, kept, FALLOC_FL_KEEP_SIZE, 0, (KEPT + 1) * MIB, KEEP_IDS), 0);
	memset(data, 'k', sizeof(data));
	cr_assert_eq(volume_write(vol, kept, 0, MIB, data, KEEP_IDS), 0);
	memset(data, 'f', sizeof(data));
	while ((r = volume_write(vol, filler, (uint64_t)n * MIB, MIB, data, KEEP_IDS)) == 0)
		cr_assert_lt(++n, 24);
	cr_assert_eq(r, -ENOSPC);
	cr_assert_gt(n, 4);

	r = volume_reencrypt(vol, 0, 0);
	cr_assert_eq(r, 0, "%s", strerror(-r));
	wait_for_version(0, 2);
	cr_assert_eq(volume_scope_assign(vol, kept, 1, false), 0);
	cr_assert_eq(volume_scope_assign(vol, filler, 1, false), 0);
	expect_bytes(kept, 0, MIB, 'k');
	for (unsigned i = 0; i < n; i++)
		expect_bytes(filler, (uint64_t)i * MIB, MIB, 'f');
	expect_space(kept, (KEPT + 1) * MIB);
	volume_keeper_stop(vol);
	cr_assert_eq(volume_close(vol), 0);
	cr_assert_eq(volume_open(backing, &o, &vol), 0);
	expect_bytes(kept, 0, MIB, 'k');
	expect_space(kept, (KEPT + 1) * MIB);
	expect_bytes(filler, (uint64_t)(n - 1) * MIB, MIB, 'f');
	expect_sound(0);
	close_volume();
}
