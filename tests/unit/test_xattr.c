/* Extended attributes against a model: from none to the header to a companion object and back, values of every size. */
#include "volume_fixture.h"

#include <sys/xattr.h>

TestSuite(xattr, .init = scratch_in_memory, .fini = scratch_end, .timeout = 250);

enum { NAMES = 14 };

static struct {
	bool there;
	uint8_t value[VOLUME_XATTR_MAX];
	size_t size;
} model[NAMES];
static uint64_t file;

static const char *name_of(unsigned i)
{
	static char names[NAMES][256];

	if (!*names[i]) {
		memset(names[i], 'a' + (int)i, 255);
		memcpy(names[i], i % 2 ? "user." : "trusted.", i % 2 ? 5 : 8);
		names[i][i == NAMES - 1 ? 255 : 10 + i] = 0;
	}
	return names[i];
}

static size_t total(void)
{
	size_t sum = 0;

	for (unsigned i = 0; i < NAMES; i++)
		sum += model[i].there ? 5 + strlen(name_of(i)) + model[i].size : 0;
	return sum;
}

static void expect_model(void)
{
	static uint8_t got[VOLUME_XATTR_MAX];
	char list[NAMES * 256];
	size_t want = 0;

	for (unsigned i = 0; i < NAMES; i++) {
		ssize_t n = volume_getxattr(vol, file, name_of(i), got, sizeof(got));

		cr_assert_eq(n, model[i].there ? (ssize_t)model[i].size : -ENODATA, "%s: %zd", name_of(i), n);
		if (n > 0)
			cr_assert_arr_eq(got, model[i].value, (size_t)n);
		cr_assert_eq(volume_getxattr(vol, file, name_of(i), NULL, 0), n);
		if (n > 1)
			cr_assert_eq(volume_getxattr(vol, file, name_of(i), got, (size_t)n - 1), -ERANGE);
		want += model[i].there ? strlen(name_of(i)) + 1 : 0;
	}
	cr_assert_eq(volume_listxattr(vol, file, true, NULL, 0), (ssize_t)want);
	cr_assert_eq(volume_listxattr(vol, file, true, list, sizeof(list)), (ssize_t)want);
	if (want)
		cr_assert_eq(volume_listxattr(vol, file, true, list, want - 1), want == 1 ? 0 : -ERANGE);
	for (size_t at = 0; at < want; at += strlen(list + at) + 1) {
		bool known = false;

		for (unsigned i = 0; i < NAMES; i++)
			known = known || (model[i].there && !strcmp(list + at, name_of(i)));
		cr_assert(known, "%s", list + at);
	}
}

static void set_some(void)
{
	static const size_t sizes[] = { 0, 1, 10, 100, 600, 1300, 1400, 1401, 4096, 5000, 20000, VOLUME_XATTR_MAX };
	static uint8_t value[VOLUME_XATTR_MAX];
	unsigned i = (unsigned)rand() % NAMES;
	int flags = rand() % 4 ? 0 : rand() % 2 ? XATTR_CREATE : XATTR_REPLACE;
	size_t size = sizes[rand() % 12], old = model[i].there ? 5 + strlen(name_of(i)) + model[i].size : 0;

	for (size_t j = 0; j < size; j++)
		value[j] = (uint8_t)rand();
	int r = volume_setxattr(vol, file, name_of(i), value, size, flags, false);

	if (flags == XATTR_CREATE && model[i].there) {
		cr_assert_eq(r, -EEXIST);
	} else if (flags == XATTR_REPLACE && !model[i].there) {
		cr_assert_eq(r, -ENODATA);
	} else if (total() - old + 5 + strlen(name_of(i)) + size > XATTR_TOTAL) {
		cr_assert_eq(r, -ENOSPC);
	} else {
		cr_assert_eq(r, 0, "%zu bytes: %s", size, strerror(-r));
		model[i].there = true;
		model[i].size = size;
		memcpy(model[i].value, value, size);
	}
}

static void random_work(void *arg)
{
	for (unsigned step = 0; step < *(unsigned *)arg; step++) {
		unsigned i = (unsigned)rand() % NAMES;

		if (rand() % 5 < 3) {
			set_some();
		} else {
			cr_assert_eq(volume_removexattr(vol, file, name_of(i)), model[i].there ? 0 : -ENODATA);
			model[i].there = false;
		}
		if (step % 10 == 0)
			expect_model();
	}
}

static void against_model(enum suite suite)
{
	unsigned steps = 250;

	make_volume(suite);
	open_volume();
	file = make(ROOT_OBJECT, "file", S_IFREG | 0644);
	srand(suite);
	for (unsigned round = 0; round < 3; round++) {
		random_work(&steps);
		reopen_volume();
		expect_model();
		expect_sound(0);
	}
	for (unsigned i = 0; i < NAMES; i++) {
		(void)volume_removexattr(vol, file, name_of(i));
		model[i].there = false;
	}
	expect_model();
	expect_sound(0); /* no companion is left over */
	cr_assert_eq(volume_setxattr(vol, file, "user.a", model, VOLUME_XATTR_MAX, 0, false), 0);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "file"), 0);
	reopen_volume();
	expect_sound(0);
	close_volume();
}

Test(xattr, random_xts)
{
	against_model(SUITE_XTS);
}

Test(xattr, random_gmac)
{
	against_model(SUITE_XTS_GMAC);
}

Test(xattr, random_gcm)
{
	against_model(SUITE_XTS_GCM);
}

Test(xattr, killed)
{
	unsigned steps = 120;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	file = make(ROOT_OBJECT, "a", S_IFREG | 0644);
	uint64_t other = make(ROOT_OBJECT, "b", S_IFREG | 0644);

	srand(12);
	random_work(&steps);
	close_volume();
	/* The same on the other file, by a process that does not live. */
	typeof(model) *kept = malloc(sizeof(model));

	memcpy(kept, model, sizeof(model));
	memset(model, 0, sizeof(model));
	file = other;
	srand(12);
	work_and_die(random_work, &steps);
	memcpy(model, kept, sizeof(model));
	open_volume();
	expect_model();
	expect_sound(0);
	close_volume();
	free(kept);
}

Test(xattr, limits)
{
	static uint8_t value[VOLUME_XATTR_MAX + 1];
	char name[300];

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	file = make(ROOT_OBJECT, "file", S_IFREG | 0644);
	cr_assert_eq(volume_setxattr(vol, file, "user.a", value, sizeof(value), 0, false), -E2BIG);
	memset(name, 'n', sizeof(name));
	name[256] = 0;
	cr_assert_eq(volume_setxattr(vol, file, name, value, 1, 0, false), -ERANGE);
	cr_assert_eq(volume_setxattr(vol, file, "", value, 1, 0, false), -ERANGE);
	cr_assert_eq(volume_setxattr(vol, file, "user.a", NULL, 0, 0, false), 0);
	cr_assert_eq(volume_getxattr(vol, file, "user.a", value, 10), 0);
	cr_assert_eq(volume_getxattr(vol, 4711, "user.a", value, 10), -ESTALE);
	/* Directories and special files have them, too. */
	uint64_t dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755), fifo = make(ROOT_OBJECT, "fifo", S_IFIFO | 0644);
	uint64_t link = make(ROOT_OBJECT, "link", S_IFLNK | 0777);

	cr_assert_eq(volume_setxattr(vol, dir, "user.d", value, 5000, 0, false), 0);
	cr_assert_eq(volume_setxattr(vol, fifo, "trusted.f", value, 100, 0, false), 0);
	cr_assert_eq(volume_setxattr(vol, link, "trusted.l", value, 3000, 0, false), 0);
	reopen_volume();
	cr_assert_eq(volume_getxattr(vol, dir, "user.d", NULL, 0), 5000);
	cr_assert_eq(volume_getxattr(vol, fifo, "trusted.f", NULL, 0), 100);
	cr_assert_eq(volume_getxattr(vol, link, "trusted.l", NULL, 0), 3000);
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "dir"), 0);
	expect_sound(0);
	close_volume();
}

/* A change of the content takes the capability, wherever it is kept, and nothing else. */
Test(xattr, capability)
{
	static uint8_t value[3000] = { 7 };
	struct stat s = { .st_uid = 5, .st_size = 10 };
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	for (unsigned i = 0; i < 8; i++) {
		char name[8];

		snprintf(name, sizeof(name), "%u", i);
		file = make(ROOT_OBJECT, name, S_IFREG | 0644);
		if (i & 1)
			cr_assert_eq(volume_setxattr(vol, file, "user.big", value, sizeof(value), 0, false), 0);
		cr_assert_eq(volume_setxattr(vol, file, "user.small", value, 10, 0, false), 0);
		cr_assert_eq(volume_setxattr(vol, file, "security.capability", value, 20, 0, false), 0);
		if (i / 2 == 0)
			cr_assert_eq(volume_write(vol, file, 0, 5, "hello", KILL_IDS), 0);
		else if (i / 2 == 1)
			cr_assert_eq(volume_setattr(vol, file, &s, SET_UID, &a), 0);
		else if (i / 2 == 2)
			cr_assert_eq(volume_setattr(vol, file, &s, SET_SIZE, &a), 0);
		else
			cr_assert_eq(volume_fallocate(vol, file, FALLOC_FL_ZERO_RANGE, 0, 100, KILL_IDS), 0);
		cr_assert_eq(volume_getxattr(vol, file, "security.capability", NULL, 0), -ENODATA, "%u", i);
		cr_assert_eq(volume_getxattr(vol, file, "user.small", NULL, 0), 10);
		cr_assert_eq(volume_getxattr(vol, file, "user.big", NULL, 0),
			     i & 1 ? (ssize_t)sizeof(value) : -ENODATA);
	}
	expect_sound(0);
	close_volume();
}

/* Bytes that are no list: nothing is found beyond them, and what is made of them has what was set. */
Test(xattr, random_bytes_as_list)
{
	srand(3);
	for (unsigned i = 0; i < 100000; i++) {
		size_t len = (size_t)rand() % 60, size, made_len;
		uint8_t *blob = malloc(len ? len : 1), *made;

		for (size_t j = 0; j < len; j++)
			blob[j] = rand() % 3 ? (uint8_t)(rand() % 8) : (uint8_t)rand();
		const uint8_t *found = xattr_find(blob, len, "\1", &size);

		if (found)
			cr_assert(found >= blob && found + size <= blob + len);
		cr_assert_eq(blob_set(blob, len, "user.x", "value", 5, &made, &made_len), 0);
		cr_assert_leq(made_len, len + 5 + 6 + 5);
		free(made);
		cr_assert_eq(blob_set(blob, len, "\1", NULL, 0, &made, &made_len), 0);
		cr_assert_leq(made_len, len);
		free(made);
		free(blob);
	}
}
