/* A volume on a disk that fills up: what was accepted is there, removing works and gives the room back. */
#include "volume_fixture.h"

#include <sched.h>
#include <sys/mount.h>
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
