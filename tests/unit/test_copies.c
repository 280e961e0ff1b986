/* What copies rest on: a frozen volume, and recovery with a descriptor that is older than the objects. */
#include "volume_fixture.h"

TestSuite(copies, .init = scratch_in_memory, .fini = scratch_end, .timeout = 200);

enum { SIZE = 300000 };
static uint8_t content[SIZE], got[SIZE + BLOCK_SIZE];
static unsigned held;

static void hold(void *arg)
{
	(void)arg;
	held++;
}

static void expect_content(const char *name)
{
	uint64_t file = lookup(ROOT_OBJECT, name);

	cr_assert_eq(volume_read(vol, file, 0, SIZE, got), SIZE);
	cr_assert_arr_eq(got, content, SIZE);
}

static void change_and_freeze(void *arg)
{
	struct attr a;
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644), gone;
	struct volume_status s;

	(void)arg;
	cr_assert_eq(volume_write(vol, file, 0, SIZE, content, KEEP_IDS), 0);
	gone = make(ROOT_OBJECT, "gone", S_IFREG | 0644);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "gone"), 0); /* it is still referred to */
	cr_assert_eq(volume_freeze(vol, hold, NULL), 0);
	volume_status(vol, &s);
	cr_assert_eq(s.store.dirty_pages, 0);
	/* Nothing gets through, and nothing of it was begun. */
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, "new", S_IFREG, 0, NULL, &a), -EBUSY);
	cr_assert_eq(volume_write(vol, file, 0, 1, content, KEEP_IDS), -EBUSY);
	cr_assert_eq(volume_fsync(vol, file), 0);
	expect_content("file");
	volume_forget(vol, gone, 1);
}

Test(copies, frozen_and_killed)
{
	for (unsigned s = 0; s < SUITES; s++) {
		struct volume_status status;

		memset(content, (int)s + 1, SIZE);
		make_volume(suites[s]);
		work_and_die(change_and_freeze, NULL);
		open_volume();
		volume_status(vol, &status);
		cr_assert_eq(status.recovered_chunks, 1);
		cr_assert_eq(status.orphans_removed, 1);
		expect_content("file");
		cr_assert_eq(lookup(ROOT_OBJECT, "new"), 0);
		expect_sound(0);
		close_volume();
	}
}

Test(copies, frozen_and_thawed)
{
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	memset(content, 7, SIZE);
	held = 0;
	change_and_freeze(NULL);
	cr_assert_eq(held, 1);
	expect_sound(1);
	volume_thaw(vol);
	expect_sound(0); /* what was forgotten meanwhile went */
	make(ROOT_OBJECT, "new", S_IFREG | 0644);
	cr_assert_eq(volume_freeze(vol, hold, NULL), 0);
	volume_thaw(vol);
	cr_assert_eq(volume_write(vol, lookup(ROOT_OBJECT, "new"), 0, SIZE, content, KEEP_IDS), 0);
	reopen_volume();
	expect_content("new");
	expect_sound(0);
	close_volume();
}

Test(copies, frozen_before_anything_was_done)
{
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	cr_assert_eq(volume_freeze(vol, hold, NULL), 0);
	volume_thaw(vol);
	close_volume();
	cr_assert_eq(try_open(true), 0);
	cr_assert_eq(volume_freeze(vol, hold, NULL), 0);
	volume_thaw(vol);
	close_volume();
}

/* So many that numbers are reserved once more. */
enum { MANY = 70000, IN_DIRECTORY = 1000 };
static char *early;
static size_t early_len;

static void make_many(void *arg)
{
	uint64_t dir = ROOT_OBJECT, last = 0;
	char name[16];
	int saved;

	(void)arg;
	cr_assert_eq(read_file_at(backing, DESCRIPTOR_NAME, DESCRIPTOR_MAX, &early, &early_len), 0);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%u", i);
		if (i % IN_DIRECTORY == 0)
			dir = make(ROOT_OBJECT, name, S_IFDIR | 0755);
		else
			last = make(dir, name, S_IFREG | 0644);
	}
	saved = openat(backing, DESCRIPTOR_NAME, O_WRONLY | O_TRUNC);
	cr_assert(saved >= 0);
	cr_assert_eq(write_all(saved, early, early_len), 0);
	put_file(in_scratch("last"), &last, sizeof(last), 0600);
}

Test(copies, descriptor_older_than_the_objects)
{
	struct volume_options o = { .state_dir = in_scratch("state"), .sync_interval = 1000, .accept_changes = true };
	uint64_t last;
	AUTO_CLOSE int fd = -1;

	make_volume(SUITE_XTS_GMAC);
	work_and_die(make_many, NULL);
	fd = open(in_scratch("last"), O_RDONLY);
	cr_assert_eq(read_all(fd, &last, sizeof(last), NULL), 0);
	cr_assert_gt(last, 65536);
	cr_assert_eq(volume_open(backing, &o, &vol), 0);
	cr_assert_gt(make(ROOT_OBJECT, "new", S_IFREG | 0644), last);
	expect_sound(0);
	close_volume();
}
