/* POSIX suite: access control lists. */
#include "posix.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { USER = 1000, OTHER = 1001, TEAM = 2000 };
enum { USER_OBJ = 0x01, NAMED_USER = 0x02, GROUP_OBJ = 0x04, NAMED_GROUP = 0x08, MASK = 0x10, OTHERS = 0x20 };

#define ACCESS "system.posix_acl_access"
#define PRESET "system.posix_acl_default"

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};

/* The kernel's form of an ACL. */
struct acl {
	uint32_t version;
	struct entry entries[16];
};

static const struct entry team[] = { { USER_OBJ, 7, ~0U },     { NAMED_USER, 6, USER }, { GROUP_OBJ, 5, ~0U },
				     { NAMED_GROUP, 4, TEAM }, { MASK, 7, ~0U },        { OTHERS, 0, ~0U } };

static bool set_acl(const char *path, const char *key, const struct entry *entries, int count)
{
	struct acl acl = { .version = htole32(2) };

	for (int i = 0; i < count; i++)
		acl.entries[i] = (struct entry){ htole16(entries[i].tag), htole16(entries[i].perm),
						 htole32(entries[i].id) };
	return setxattr(path, key, &acl, 4 + (size_t)count * sizeof(struct entry), 0) == 0;
}

/* The permissions of an entry, -1 if there is no such entry, -2 if there is no such ACL. */
static int perm_of(const char *path, const char *key, int tag)
{
	struct acl acl;
	ssize_t length = getxattr(path, key, &acl, sizeof(acl));

	if (length < 0)
		return -2;
	for (size_t i = 0; 4 + (i + 1) * sizeof(struct entry) <= (size_t)length; i++) {
		if (le16toh(acl.entries[i].tag) == tag)
			return le16toh(acl.entries[i].perm);
	}
	return -1;
}

static int mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 ? -1 : (int)(st.st_mode & 07777);
}

static bool acl_inheritance(void)
{
	CHECK(mkdir(path_of("d"), 0755) == 0 && set_acl(path_of("d"), PRESET, team, 6));
	CHECK(perm_of(path_of("d"), ACCESS, MASK) == -2 && mode_of(path_of("d")) == 0755);
	for (int round = 0; round < 2; round++) {
		/* With a default ACL the umask does not count, the mode asked for limits owner, mask and others. */
		umask(0077);
		CHECK(put_file(path_of("d/f%d", round), 1, 1) && mkdir(path_of("d/sub%d", round), 0777) == 0);
		umask(0);
		CHECK(mode_of(path_of("d/f%d", round)) == 0640 && mode_of(path_of("d/sub%d", round)) == 0770);
		CHECK(perm_of(path_of("d/f%d", round), ACCESS, NAMED_USER) == 6);
		CHECK(perm_of(path_of("d/f%d", round), ACCESS, MASK) == 4);
		CHECK(perm_of(path_of("d/f%d", round), PRESET, MASK) == -2);
		CHECK(perm_of(path_of("d/sub%d", round), PRESET, NAMED_USER) == 6);
		CHECK(perm_of(path_of("d/sub%d", round), ACCESS, NAMED_GROUP) == 4);
		CHECK(mknod(path_of("d/p%d", round), S_IFIFO | 0600, 0) == 0 &&
		      mode_of(path_of("d/p%d", round)) == 0600);
		CHECK(perm_of(path_of("d/p%d", round), ACCESS, MASK) == 0);
		CHECK(symlink("x", path_of("d/l%d", round)) == 0);
		CHECK(remount());
	}
	CHECK(mkdir(path_of("d/sub0/deep"), 0700) == 0 && perm_of(path_of("d/sub0/deep"), PRESET, MASK) == 7);
	CHECK(removexattr(path_of("d"), PRESET) == 0);
	umask(0022);
	CHECK(mkdir(path_of("d/plain"), 0777) == 0 && mode_of(path_of("d/plain")) == 0755);
	umask(0);
	return true;
}

static bool write_shared(void)
{
	int fd = open(path_of("f"), O_RDWR);

	CHECK(fd >= 0);
	close(fd);
	return true;
}

static bool cannot_write(void)
{
	CHECK_ERROR(EACCES, open(path_of("f"), O_RDWR));
	return true;
}

static bool only_read(void)
{
	int fd = open(path_of("f"), O_RDONLY);

	CHECK(fd >= 0);
	close(fd);
	return cannot_write();
}

static bool cannot_read(void)
{
	CHECK_ERROR(EACCES, open(path_of("f"), O_RDONLY));
	return true;
}

static bool acl_permissions(void)
{
	CHECK(put_file(path_of("f"), 10, 1) && chmod(path_of("f"), 0600) == 0);
	CHECK(as_user(USER, USER, cannot_read));
	CHECK(set_acl(path_of("f"), ACCESS, team, 6) && mode_of(path_of("f")) == 0770);
	for (int round = 0; round < 2; round++) {
		CHECK(as_user(USER, USER, write_shared) && as_user(OTHER, TEAM, only_read));
		CHECK(as_user(OTHER, OTHER, cannot_read));
		CHECK(remount());
	}
	/* The group bits of the mode are the mask. */
	CHECK(chmod(path_of("f"), 0740) == 0 && perm_of(path_of("f"), ACCESS, MASK) == 4);
	CHECK(perm_of(path_of("f"), ACCESS, NAMED_USER) == 6 && as_user(USER, USER, only_read));
	CHECK(chmod(path_of("f"), 0770) == 0 && as_user(USER, USER, write_shared));
	CHECK(removexattr(path_of("f"), ACCESS) == 0 && perm_of(path_of("f"), ACCESS, MASK) == -2);
	CHECK(as_user(USER, USER, cannot_write));
	return true;
}

static bool set_acl_as_other(void)
{
	CHECK(!set_acl(path_of("f"), ACCESS, team, 6) && errno_is(EPERM));
	CHECK_ERROR(EPERM, removexattr(path_of("f"), ACCESS));
	return true;
}

static bool acl_rules(void)
{
	static const struct entry minimal[] = { { USER_OBJ, 6, ~0U }, { GROUP_OBJ, 4, ~0U }, { OTHERS, 4, ~0U } };
	static const struct entry no_mask[] = {
		{ USER_OBJ, 6, ~0U }, { NAMED_USER, 4, USER }, { GROUP_OBJ, 4, ~0U }, { OTHERS, 4, ~0U }
	};

	CHECK(put_file(path_of("f"), 10, 1) && mkdir(path_of("d"), 0755) == 0);
	CHECK(!set_acl(path_of("f"), ACCESS, no_mask, 4) && errno_is(EINVAL));
	CHECK(!set_acl(path_of("f"), PRESET, team, 6) && errno_is(EACCES));
	CHECK(set_acl(path_of("f"), ACCESS, team, 6));
	/* What says no more than the mode is not kept. */
	CHECK(set_acl(path_of("f"), ACCESS, minimal, 3) && mode_of(path_of("f")) == 0644);
	CHECK(perm_of(path_of("f"), ACCESS, USER_OBJ) == -2);
	CHECK(as_user(USER, USER, set_acl_as_other));
	CHECK(set_acl(path_of("d"), ACCESS, team, 6) && mode_of(path_of("d")) == 0770);
	CHECK(perm_of(path_of("d"), ACCESS, NAMED_USER) == 6);
	return true;
}

const struct test acl_tests[] = {
	{ "acl_inheritance", acl_inheritance },
	{ "acl_permissions", acl_permissions },
	{ "acl_rules", acl_rules },
	{ 0 },
};
