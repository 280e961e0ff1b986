/* Access control lists: the rules one by one, and thousands of lists against what the kernel's own file systems make of them. */
#include "volume_fixture.h"

#include <sys/xattr.h>

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32, ENTRIES_MAX = 12 };

struct list {
	uint8_t bytes[4 + 8 * ENTRIES_MAX];
	size_t len;
};

static void add(struct list *l, unsigned tag, unsigned perm, uint32_t id)
{
	if (!l->len) {
		put_le32(l->bytes, 2);
		l->len = 4;
	}
	put_le16(l->bytes + l->len, (uint16_t)tag);
	put_le16(l->bytes + l->len + 2, (uint16_t)perm);
	put_le32(l->bytes + l->len + 4, id);
	l->len += 8;
}

static struct list minimal(mode_t mode)
{
	struct list l = { .len = 0 };

	add(&l, USER_OBJ, mode >> 6 & 7, UINT32_MAX);
	add(&l, GROUP_OBJ, mode >> 3 & 7, UINT32_MAX);
	add(&l, OTHER, mode & 7, UINT32_MAX);
	return l;
}

/* In the kernel's order. */
static struct list random_list(void)
{
	struct list l = { .len = 0 };
	unsigned users = rand() % 2 ? (unsigned)rand() % 4 : 0, groups = rand() % 2 ? (unsigned)rand() % 4 : 0;

	add(&l, USER_OBJ, (unsigned)rand() % 8, UINT32_MAX);
	for (unsigned i = 0; i < users; i++)
		add(&l, USER, (unsigned)rand() % 8, 1000 + i);
	add(&l, GROUP_OBJ, (unsigned)rand() % 8, UINT32_MAX);
	for (unsigned i = 0; i < groups; i++)
		add(&l, GROUP, (unsigned)rand() % 8, 2000 + i);
	if (users || groups || rand() % 4 == 0)
		add(&l, MASK, (unsigned)rand() % 8, UINT32_MAX);
	add(&l, OTHER, (unsigned)rand() % 8, UINT32_MAX);
	return l;
}

Test(acl, what_is_one)
{
	struct list l = minimal(0640);

	cr_assert_eq(acl_check(l.bytes, l.len), 0);
	for (size_t len = 0; len < l.len; len++)
		cr_assert_eq(acl_check(l.bytes, len), -EINVAL, "%zu", len);
	l.bytes[0] = 1;
	cr_assert_eq(acl_check(l.bytes, l.len), -EINVAL);
	l.bytes[0] = 2;
	l.bytes[6] = 8; /* a permission that there is not */
	cr_assert_eq(acl_check(l.bytes, l.len), -EINVAL);
	l = minimal(0640);
	add(&l, OTHER, 0, UINT32_MAX);
	cr_assert_eq(acl_check(l.bytes, l.len), -EINVAL);
	l = minimal(0640);
	add(&l, USER, 0, 5); /* named, without mask */
	cr_assert_eq(acl_check(l.bytes, l.len), -EINVAL);
	add(&l, MASK, 0, UINT32_MAX);
	cr_assert_eq(acl_check(l.bytes, l.len), 0);
	add(&l, MASK, 0, UINT32_MAX);
	cr_assert_eq(acl_check(l.bytes, l.len), -EINVAL);
	l = minimal(0640);
	add(&l, 64, 0, UINT32_MAX);
	cr_assert_eq(acl_check(l.bytes, l.len), -EINVAL);
}

Test(acl, mode_and_equivalence)
{
	for (mode_t mode = 0; mode < 01000; mode++) {
		struct list l = minimal(mode);
		mode_t got = S_IFREG | 07000 | (~mode & 0777);

		cr_assert_eq(acl_to_mode(l.bytes, l.len, &got), 1);
		cr_assert_eq(got, S_IFREG | 07000 | mode);
		/* With a mask, that is the group's bits, and the list says more. */
		add(&l, MASK, mode & 7, UINT32_MAX);
		cr_assert_eq(acl_to_mode(l.bytes, l.len, &got), 0);
		cr_assert_eq(got & 0777, (mode & 0707) | (mode & 7) << 3);
	}
}

Test(acl, order_of_entries_does_not_matter)
{
	srand(4);
	for (unsigned i = 0; i < 2000; i++) {
		struct list l = random_list(), mixed = { .len = l.len };
		unsigned n = (unsigned)(l.len - 4) / 8, at[ENTRIES_MAX];
		mode_t a = 0, b = 0;

		for (unsigned j = 0; j < n; j++)
			at[j] = j;
		for (unsigned j = n; j-- > 1;) {
			unsigned k = (unsigned)rand() % (j + 1), swap = at[j];

			at[j] = at[k];
			at[k] = swap;
		}
		memcpy(mixed.bytes, l.bytes, 4);
		for (unsigned j = 0; j < n; j++)
			memcpy(mixed.bytes + 4 + 8 * j, l.bytes + 4 + 8 * at[j], 8);
		cr_assert_eq(acl_check(mixed.bytes, mixed.len), 0);
		cr_assert_eq(acl_to_mode(l.bytes, l.len, &a), acl_to_mode(mixed.bytes, mixed.len, &b));
		cr_assert_eq(a, b);
		acl_chmod(l.bytes, l.len, (mode_t)i & 0777);
		acl_chmod(mixed.bytes, mixed.len, (mode_t)i & 0777);
		acl_to_mode(l.bytes, l.len, &a);
		acl_to_mode(mixed.bytes, mixed.len, &b);
		cr_assert_eq(a, b);
		cr_assert_eq(a & 0777, i & 0777);
	}
}

/* ---- against a file system of the kernel ---- */
static char native_dir[PATH_MAX], native_file[PATH_MAX + 8];

static void start_native(void)
{
	struct list l = minimal(0600);

	scratch_start();
	snprintf(native_dir, sizeof(native_dir), "%s", in_scratch("dir"));
	cr_assert_eq(mkdir(native_dir, 0755), 0);
	snprintf(native_file, sizeof(native_file), "%s/file", native_dir);
	put_file(native_file, "", 0, 0644);
	if (setxattr(native_file, ACL_ACCESS, l.bytes, l.len, 0) < 0)
		cr_skip_test("no access control lists on %s", scratch);
	umask(0);
}

TestSuite(native_acl, .init = start_native, .fini = scratch_end, .timeout = 120);

/* The list of a file there; length 0: none. */
static struct list native_list(const char *path, const char *name)
{
	struct list l;
	ssize_t n = getxattr(path, name, l.bytes, sizeof(l.bytes));

	l.len = n < 0 ? 0 : (size_t)n;
	return l;
}

static mode_t native_mode(const char *path)
{
	struct stat s;

	cr_assert_eq(stat(path, &s), 0);
	return s.st_mode;
}

Test(native_acl, set_and_chmod)
{
	srand(5);
	for (unsigned i = 0; i < 3000; i++) {
		struct list l = random_list(), there;
		mode_t mode = native_mode(native_file);

		cr_assert_eq(setxattr(native_file, ACL_ACCESS, l.bytes, l.len, 0), 0);
		int plain = acl_to_mode(l.bytes, l.len, &mode);

		cr_assert_eq(native_mode(native_file), mode);
		there = native_list(native_file, ACL_ACCESS);
		cr_assert_eq(there.len, plain ? 0 : l.len);
		cr_assert_arr_eq(there.bytes, l.bytes, there.len);

		mode = (mode_t)rand() & 0777;
		cr_assert_eq(chmod(native_file, mode), 0);
		acl_chmod(l.bytes, l.len, mode);
		there = native_list(native_file, ACL_ACCESS);
		cr_assert_eq(there.len, plain ? 0 : l.len);
		cr_assert_arr_eq(there.bytes, l.bytes, there.len);
		cr_assert_eq(native_mode(native_file) & 07777, mode);
	}
}

Test(native_acl, refused_alike)
{
	srand(6);
	unsigned refused = 0;

	for (unsigned i = 0; i < 3000; i++) {
		struct list l = random_list();

		l.bytes[(unsigned)rand() % l.len] ^= (uint8_t)(1 << rand() % 8);
		if (rand() % 3 == 0)
			l.len -= (unsigned)rand() % 9;
		int native = setxattr(native_file, ACL_ACCESS, l.bytes, l.len, 0);

		/* The kernel also wants an order, and ids that it knows, and checks before us. */
		if (acl_check(l.bytes, l.len) < 0) {
			cr_assert_lt(native, 0, "%u", i);
			refused++;
		}
	}
	cr_assert_gt(refused, 100);
}

Test(native_acl, inherited)
{
	char path[PATH_MAX + 16];

	srand(7);
	for (unsigned i = 0; i < 3000; i++) {
		struct list l = random_list(), there;
		bool directory = i % 2;
		mode_t want = (mode_t)rand() & 0777, mode = (directory ? S_IFDIR : S_IFREG) | want;
		struct acl_pair made = { 0 };

		cr_assert_eq(setxattr(native_dir, ACL_DEFAULT, l.bytes, l.len, 0), 0);
		snprintf(path, sizeof(path), "%s/new", native_dir);
		if (directory) {
			cr_assert_eq(mkdir(path, want), 0);
		} else {
			int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, want);

			cr_assert(fd >= 0);
			close(fd);
		}
		cr_assert_eq(acl_inherit(l.bytes, l.len, &mode, &made), 0);
		cr_assert_eq(native_mode(path), mode, "%u: %o, not %o", i, mode, native_mode(path));
		there = native_list(path, ACL_ACCESS);
		cr_assert_eq(there.len, made.access_len);
		if (there.len) /* not with NULL */
			cr_assert_arr_eq(there.bytes, made.access, there.len);
		there = native_list(path, ACL_DEFAULT);
		cr_assert_eq(there.len, directory ? made.inherit_len : 0);
		if (there.len)
			cr_assert_arr_eq(there.bytes, made.inherit, there.len);
		free(made.access);
		free(made.inherit);
		cr_assert_eq(remove(path), 0);
	}
}

/* ---- in a volume ---- */
TestSuite(volume_acl, .init = scratch_in_memory, .fini = scratch_end, .timeout = 120);

static struct list volume_list(uint64_t object, const char *name)
{
	struct list l;
	ssize_t n = volume_getxattr(vol, object, name, l.bytes, sizeof(l.bytes));

	cr_assert(n >= 0 || n == -ENODATA);
	l.len = n < 0 ? 0 : (size_t)n;
	return l;
}

Test(volume_acl, follow_the_mode)
{
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	uint64_t file = make(ROOT_OBJECT, "file", S_IFREG | 0644);
	struct list l = minimal(0751), there;
	struct stat s = { .st_mode = S_IFREG | 0604 };
	struct attr a;

	cr_assert_eq(volume_setxattr(vol, file, ACL_ACCESS, l.bytes, l.len, 0, false), 0);
	cr_assert_eq(attributes(file).st_mode, S_IFREG | 0751);
	cr_assert_eq(volume_list(file, ACL_ACCESS).len, 0);
	cr_assert_eq(volume_setxattr(vol, file, ACL_DEFAULT, l.bytes, l.len, 0, false), -EACCES);

	add(&l, USER, 7, 1234);
	add(&l, MASK, 6, UINT32_MAX);
	cr_assert_eq(volume_setxattr(vol, file, ACL_ACCESS, l.bytes, l.len, 0, false), 0);
	cr_assert_eq(attributes(file).st_mode, S_IFREG | 0761);
	cr_assert_eq(volume_setattr(vol, file, &s, SET_MODE, &a), 0);
	reopen_volume();
	there = volume_list(file, ACL_ACCESS);
	acl_chmod(l.bytes, l.len, 0604);
	cr_assert_eq(there.len, l.len);
	cr_assert_arr_eq(there.bytes, l.bytes, l.len);
	cr_assert_eq(volume_setxattr(vol, file, ACL_ACCESS, l.bytes, l.len - 1, 0, false), -EINVAL);
	/* A list that is no more than the mode takes the old one away. */
	l = minimal(0640);
	cr_assert_eq(volume_setxattr(vol, file, ACL_ACCESS, l.bytes, l.len, 0, false), 0);
	cr_assert_eq(volume_list(file, ACL_ACCESS).len, 0);
	cr_assert_eq(volume_removexattr(vol, file, ACL_ACCESS), 0);
	expect_sound(0);
	close_volume();
}

/* Owner and mode set at once: the capability goes, and the list follows the mode. */
Test(volume_acl, owner_and_mode_at_once)
{
	uint8_t big[2000] = { 1 };

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	for (unsigned companion = 0; companion < 2; companion++) {
		uint64_t file = make(ROOT_OBJECT, companion ? "a" : "b", S_IFREG | 0644);
		struct list l = minimal(0640), there;
		struct stat s = { .st_mode = S_IFREG | 0600, .st_uid = 77 };
		struct attr a;

		add(&l, USER, 7, 1234);
		add(&l, MASK, 6, UINT32_MAX);
		if (companion)
			cr_assert_eq(volume_setxattr(vol, file, "user.big", big, sizeof(big), 0, false), 0);
		cr_assert_eq(volume_setxattr(vol, file, "security.capability", "cap", 3, 0, false), 0);
		cr_assert_eq(volume_setxattr(vol, file, ACL_ACCESS, l.bytes, l.len, 0, false), 0);
		cr_assert_eq(volume_setattr(vol, file, &s, SET_MODE | SET_UID, &a), 0);
		for (unsigned i = 0; i < 2; i++) {
			cr_assert_eq(volume_getxattr(vol, file, "security.capability", NULL, 0), -ENODATA);
			there = volume_list(file, ACL_ACCESS);
			cr_assert_eq(there.len, l.len);
			if (i == 0)
				acl_chmod(l.bytes, l.len, 0600);
			cr_assert_arr_eq(there.bytes, l.bytes, l.len);
			cr_assert_eq(attributes(file).st_mode, S_IFREG | 0600);
			cr_assert_eq(attributes(file).st_uid, 77);
			reopen_volume();
		}
	}
	expect_sound(0);
	close_volume();
}

Test(volume_acl, inherited)
{
	make_volume(SUITE_XTS_GCM);
	open_volume();
	uint64_t dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	struct list l = minimal(0750), many = minimal(0770), there;

	add(&l, GROUP, 7, 5);
	add(&l, MASK, 7, UINT32_MAX);
	cr_assert_eq(volume_setxattr(vol, dir, ACL_DEFAULT, l.bytes, l.len, 0, false), 0);
	uint64_t sub = make(dir, "sub", S_IFDIR | 0777), file = make(sub, "file", S_IFREG | 0666);

	/* The creator's umask does not count. */
	cr_assert_eq(attributes(sub).st_mode, S_IFDIR | 0770);
	cr_assert_eq(attributes(file).st_mode, S_IFREG | 0660);
	cr_assert_eq(volume_list(sub, ACL_DEFAULT).len, l.len);
	cr_assert_eq(volume_list(file, ACL_DEFAULT).len, 0);
	there = volume_list(file, ACL_ACCESS);
	cr_assert_eq(there.len, l.len);
	cr_assert_eq(make(dir, "link", S_IFLNK | 0777), file + 1);
	cr_assert_eq(volume_list(file + 1, ACL_ACCESS).len, 0);

	/* A list too long for a header, inherited into a companion. */
	uint8_t *long_list = malloc(4 + 8 * 500);
	size_t len = many.len;

	memcpy(long_list, many.bytes, len);
	for (unsigned i = 0; i < 400; i++, len += 8) {
		put_le16(long_list + len, i ? USER : MASK);
		put_le16(long_list + len + 2, 7);
		put_le32(long_list + len + 4, i);
	}
	cr_assert_eq(volume_setxattr(vol, dir, ACL_DEFAULT, long_list, len, 0, false), 0);
	uint64_t other = make(dir, "other", S_IFDIR | 0777);

	reopen_volume();
	cr_assert_eq(volume_getxattr(vol, other, ACL_DEFAULT, NULL, 0), (ssize_t)len);
	cr_assert_eq(volume_getxattr(vol, other, ACL_ACCESS, NULL, 0), (ssize_t)len);
	expect_sound(0);
	free(long_list);
	close_volume();
}
