/* POSIX suite: times, owners, modes, extended attributes, statfs. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { USER = 1000, OTHER = 1001 };

static bool far_times(void)
{
	static const struct timespec times[] = {
		{ 0, 0 },
		{ -1, 1 },
		{ -2147483000L, 999999999 },
		{ 2147483648L, 1 },
		{ 4294967296L, 123456789 },
		{ 10000000000L, 987654321 },
		{ 1000000000L, 999999999 },
		{ -86400L * 365 * 60, 5 },
	};
	struct timespec pair[2];
	struct stat st;

	for (int i = 0; i < 8; i++) {
		CHECK(put_file(path_of("f%d", i), 10, 1) && mkdir(path_of("d%d", i), 0755) == 0);
		CHECK(symlink("x", path_of("l%d", i)) == 0);
		pair[0] = times[(i + 1) % 8];
		pair[1] = times[i];
		for (const char *kind = "fdl"; *kind; kind++)
			CHECK(utimensat(AT_FDCWD, path_of("%c%d", *kind, i), pair, AT_SYMLINK_NOFOLLOW) == 0);
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 24; i++) {
			CHECK(lstat(path_of("%c%d", "fdl"[i % 3], i / 3), &st) == 0);
			CHECK(st.st_mtim.tv_sec == times[i / 3].tv_sec && st.st_mtim.tv_nsec == times[i / 3].tv_nsec);
			CHECK(st.st_atim.tv_sec == times[(i / 3 + 1) % 8].tv_sec);
			CHECK(st.st_atim.tv_nsec == times[(i / 3 + 1) % 8].tv_nsec);
		}
		CHECK(remount());
	}
	return true;
}

static bool birth_of(const char *path, struct statx *ret)
{
	return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_BASIC_STATS, ret) == 0 &&
	       ret->stx_mask & STATX_BTIME;
}

/* The time of birth is told, and nothing moves it. */
static bool birth_stays(void)
{
	const struct timespec old[2] = { { 1000, 1 }, { 2000, 2 } };
	struct statx born, later;
	struct timespec start, end;

	clock_gettime(CLOCK_REALTIME_COARSE, &start);
	CHECK(put_file(path_of("f"), 100, 1) && birth_of(path_of("f"), &born));
	clock_gettime(CLOCK_REALTIME_COARSE, &end);
	CHECK(born.stx_btime.tv_sec >= start.tv_sec && born.stx_btime.tv_sec <= end.tv_sec);
	CHECK(born.stx_ino && born.stx_size == 100 && S_ISREG(born.stx_mode) && born.stx_nlink == 1);
	usleep(20000);
	CHECK(put_file(path_of("f"), 50, 2) && chmod(path_of("f"), 0600) == 0);
	CHECK(utimensat(AT_FDCWD, path_of("f"), old, 0) == 0 && rename(path_of("f"), path_of("g")) == 0);
	for (int round = 0; round < 2; round++) {
		CHECK(birth_of(path_of("g"), &later) && later.stx_mtime.tv_sec == 2000);
		CHECK(later.stx_btime.tv_sec == born.stx_btime.tv_sec);
		CHECK(later.stx_btime.tv_nsec == born.stx_btime.tv_nsec);
		CHECK(remount());
	}
	return true;
}

static bool order_is(const char *path, struct timespec *last)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	bool later = st.st_mtim.tv_sec != last->tv_sec ? st.st_mtim.tv_sec > last->tv_sec
						       : st.st_mtim.tv_nsec >= last->tv_nsec;

	*last = st.st_mtim;
	return later;
}

/* Stamps come in the order of events, whoever gives them: with the write-back cache the kernel does for writes, and we do for
 * names; and the kernel's clock for one file system is moved on by what it stamps on another. */
static bool stamps_are_in_order(void)
{
	int other = memfd_create("other", 0), fd = open(path_of("written"), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	const struct timespec touch[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
	struct timespec last = { 0 };
	struct stat st;

	CHECK(other >= 0 && fd >= 0);
	for (int i = 0; i < 300; i++) {
		CHECK(futimens(other, touch) == 0 && fstat(other, &st) == 0);
		CHECK(write(fd, "x", 1) == 1 && order_is(path_of("written"), &last));
		CHECK(mknod(path_of("made%d", i), S_IFREG | 0644, 0) == 0 && order_is(path_of("made%d", i), &last));
		CHECK(write(fd, "x", 1) == 1 && order_is(path_of("written"), &last));
		CHECK(unlink(path_of("made%d", i)) == 0 && order_is(path_of("."), &last));
	}
	close(fd);
	close(other);
	return true;
}

static bool newer(const struct timespec *one, const struct timespec *other)
{
	return one->tv_sec != other->tv_sec ? one->tv_sec > other->tv_sec : one->tv_nsec > other->tv_nsec;
}

/* What changes a file's or directory's times; an old time is set before each step. */
static bool times_move(void)
{
	const struct timespec old[2] = { { 1000, 1 }, { 2000, 2 } }, keep[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };
	struct stat before, after;
	struct timespec start;

	clock_gettime(CLOCK_REALTIME_COARSE, &start);
	start.tv_sec--;
	CHECK(put_file(path_of("f"), 100, 1) && utimensat(AT_FDCWD, path_of("f"), old, 0) == 0);
	CHECK(stat(path_of("f"), &before) == 0 && before.st_mtim.tv_sec == 2000 && newer(&before.st_ctim, &start));
	CHECK(put_file(path_of("f"), 50, 2) && stat(path_of("f"), &after) == 0);
	CHECK(newer(&after.st_mtim, &start) && after.st_atim.tv_sec == 1000);
	CHECK(utimensat(AT_FDCWD, path_of("f"), old, 0) == 0 && truncate(path_of("f"), 10) == 0);
	CHECK(stat(path_of("f"), &after) == 0 && newer(&after.st_mtim, &start));
	CHECK(utimensat(AT_FDCWD, path_of("f"), old, 0) == 0);
	CHECK(utimensat(AT_FDCWD, path_of("f"), keep, 0) == 0 && stat(path_of("f"), &after) == 0);
	CHECK(newer(&after.st_mtim, &start) && after.st_atim.tv_sec == 1000);
	CHECK(mkdir(path_of("d"), 0755) == 0);
	for (int i = 0; i < 5; i++) {
		CHECK(utimensat(AT_FDCWD, path_of("d"), old, 0) == 0);
		CHECK(i != 0 || put_file(path_of("d/a"), 1, 1));
		CHECK(i != 1 || link(path_of("d/a"), path_of("d/b")) == 0);
		CHECK(i != 2 || rename(path_of("d/a"), path_of("d/c")) == 0);
		CHECK(i != 3 || unlink(path_of("d/b")) == 0);
		CHECK(i != 4 || rename(path_of("f"), path_of("d/c")) == 0);
		CHECK(stat(path_of("d"), &after) == 0 && newer(&after.st_mtim, &start));
	}
	CHECK(stat(path_of("d/c"), &before) == 0);
	usleep(20000);
	CHECK(chmod(path_of("d/c"), 0600) == 0 && stat(path_of("d/c"), &after) == 0);
	CHECK(newer(&after.st_ctim, &before.st_ctim) && !newer(&after.st_mtim, &before.st_mtim));
	return true;
}

static bool create_in_setgid(void)
{
	return put_file(path_of("d/f"), 1, 1) && mkdir(path_of("d/sub"), 0755) == 0;
}

static bool setgid_dirs(void)
{
	struct stat st;

	CHECK(mkdir(path_of("d"), 0777) == 0 && chown(path_of("d"), USER, 4242) == 0);
	CHECK(chmod(path_of("d"), 02777) == 0 && as_user(OTHER, OTHER, create_in_setgid));
	CHECK(stat(path_of("d/f"), &st) == 0 && st.st_gid == 4242 && st.st_uid == OTHER);
	CHECK(stat(path_of("d/sub"), &st) == 0 && st.st_gid == 4242 && st.st_mode & S_ISGID);
	CHECK(mknod(path_of("d/p"), S_IFIFO | 0600, 0) == 0 && symlink("x", path_of("d/l")) == 0);
	CHECK(lstat(path_of("d/p"), &st) == 0 && st.st_gid == 4242);
	CHECK(lstat(path_of("d/l"), &st) == 0 && st.st_gid == 4242);
	return true;
}

static bool sticky_as_other(void)
{
	CHECK_ERROR(EPERM, unlink(path_of("t/f")));
	CHECK_ERROR(EPERM, rename(path_of("t/f"), path_of("t/g")));
	CHECK(put_file(path_of("t/mine"), 1, 1) && unlink(path_of("t/mine")) == 0);
	return true;
}

static bool sticky(void)
{
	CHECK(mkdir(path_of("t"), 0777) == 0 && chmod(path_of("t"), 01777) == 0);
	CHECK(put_file(path_of("t/f"), 1, 1) && chown(path_of("t/f"), USER, USER) == 0);
	return as_user(OTHER, OTHER, sticky_as_other);
}

static bool write_as_other(void)
{
	int fd = open(path_of("w"), O_WRONLY);

	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
	CHECK(truncate(path_of("t"), 1) == 0);
	fd = open(path_of("o"), O_WRONLY | O_TRUNC);
	CHECK(fd >= 0);
	close(fd);
	return true;
}

static bool chmod_as_owner(void)
{
	/* Not a member of the file's group: set-group-ID is not for him to set. */
	CHECK(chmod(path_of("g"), 02755) == 0);
	CHECK_ERROR(EPERM, chown(path_of("g"), OTHER, (gid_t)-1));
	CHECK_ERROR(EPERM, chown(path_of("g"), (uid_t)-1, 4243));
	CHECK_ERROR(EPERM, chmod(path_of("w"), 0777));
	return true;
}

static bool set_ids_cleared(void)
{
	struct stat st;

	CHECK(put_file(path_of("c"), 9, 1) && chmod(path_of("c"), 06755) == 0 && chown(path_of("c"), USER, USER) == 0);
	CHECK(stat(path_of("c"), &st) == 0 && (st.st_mode & 07777) == 0755);
	for (const char *name = "wto"; *name; name++) {
		CHECK(put_file(path_of("%c", *name), 9, 1) && chmod(path_of("%c", *name), 06777) == 0);
		CHECK(stat(path_of("%c", *name), &st) == 0 && (st.st_mode & 07777) == 06777);
	}
	CHECK(as_user(OTHER, OTHER, write_as_other));
	for (const char *name = "wto"; *name; name++)
		CHECK(stat(path_of("%c", *name), &st) == 0 && (st.st_mode & 07777) == 0777);
	CHECK(put_file(path_of("g"), 1, 1) && chown(path_of("g"), USER, 4242) == 0);
	CHECK(as_user(USER, USER, chmod_as_owner));
	CHECK(stat(path_of("g"), &st) == 0 && (st.st_mode & 07777) == 0755);
	return true;
}

static bool create_as_user(void)
{
	CHECK(put_file(path_of("mine"), 1, 1) && mkdir(path_of("dir"), 0700) == 0 &&
	      symlink("x", path_of("link")) == 0);
	CHECK_ERROR(EACCES, open(path_of("secret"), O_RDONLY));
	CHECK_ERROR(EACCES, open(path_of("closed/f"), O_RDONLY));
	CHECK_ERROR(EACCES, open(path_of("closed/new"), O_CREAT | O_WRONLY, 0600));
	CHECK_ERROR(EACCES, mkdir(path_of("closed/new"), 0700));
	CHECK_ERROR(EACCES, truncate(path_of("secret"), 0));
	CHECK(open(path_of("group"), O_RDONLY) >= 0);
	return true;
}

static bool owners(void)
{
	struct stat st;

	CHECK(put_file(path_of("secret"), 1, 1) && chmod(path_of("secret"), 0600) == 0);
	CHECK(put_file(path_of("group"), 1, 1) && chmod(path_of("group"), 0640) == 0);
	CHECK(chown(path_of("group"), 0, OTHER) == 0);
	CHECK(mkdir(path_of("closed"), 0700) == 0 && put_file(path_of("closed/f"), 1, 1));
	CHECK(as_user(USER, OTHER, create_as_user) && remount());
	CHECK(stat(path_of("mine"), &st) == 0 && st.st_uid == USER && st.st_gid == OTHER);
	CHECK(stat(path_of("dir"), &st) == 0 && st.st_uid == USER && st.st_gid == OTHER);
	CHECK(lstat(path_of("link"), &st) == 0 && st.st_uid == USER && st.st_gid == OTHER);
	CHECK(chown(path_of("mine"), 4000000000U, 4294967294U) == 0 && remount());
	CHECK(stat(path_of("mine"), &st) == 0 && st.st_uid == 4000000000U && st.st_gid == 4294967294U);
	return true;
}

static bool has_xattr(const char *path, const char *key, size_t length, uint64_t seed)
{
	static unsigned char wanted[XATTR_SIZE_MAX], found[XATTR_SIZE_MAX];

	fill(wanted, length, seed);
	return lgetxattr(path, key, found, sizeof(found)) == (ssize_t)length && memcmp(wanted, found, length) == 0;
}

static bool set_xattr(const char *path, const char *key, size_t length, uint64_t seed, int flags)
{
	static unsigned char data[XATTR_SIZE_MAX + 1];

	fill(data, length, seed);
	return lsetxattr(path, key, data, length, flags) == 0;
}

static bool xattr_sizes(void)
{
	static const int sizes[] = { 0, 1, 100, 255, 256, 1000, 3000, 4000, 4096, 5000, 16384, 40000, 65535, 65536 };
	char key[300], list[32768], value[8];

	CHECK(put_file(path_of("f"), 5000, 1) && mkdir(path_of("d"), 0755) == 0);
	for (int i = 0; i < 14; i++) {
		snprintf(key, sizeof(key), "user.%d", i);
		CHECK(set_xattr(path_of("f"), key, (size_t)sizes[i], (uint64_t)i, XATTR_CREATE));
	}
	/* Through all sizes with one key, growing and shrinking. */
	for (int i = 0; i < 28; i++) {
		CHECK(set_xattr(path_of("d"), "user.k", (size_t)sizes[i * 5 % 14], (uint64_t)i, 0));
		CHECK(has_xattr(path_of("d"), "user.k", (size_t)sizes[i * 5 % 14], (uint64_t)i));
	}
	CHECK(!set_xattr(path_of("d"), "user.k", XATTR_SIZE_MAX + 1, 1, 0) && errno_is(E2BIG));
	memset(key, 'k', sizeof(key));
	memcpy(key, "user.", 5);
	key[255] = '\0';
	CHECK(set_xattr(path_of("f"), key, 10, 99, 0) && has_xattr(path_of("f"), key, 10, 99));
	CHECK(remount());
	CHECK(has_xattr(path_of("f"), key, 10, 99) && has_contents(path_of("f"), 5000, 1));
	for (int i = 0; i < 14; i++) {
		snprintf(key, sizeof(key), "user.%d", i);
		CHECK(has_xattr(path_of("f"), key, (size_t)sizes[i], (uint64_t)i));
	}
	CHECK_ERROR(ERANGE, getxattr(path_of("f"), "user.9", value, sizeof(value)));
	CHECK(getxattr(path_of("f"), "user.9", value, 0) == 5000);
	CHECK_ERROR(ERANGE, listxattr(path_of("f"), value, sizeof(value)));
	CHECK(listxattr(path_of("f"), list, sizeof(list)) == listxattr(path_of("f"), list, 0));
	for (int i = 0; i < 14; i++) {
		snprintf(key, sizeof(key), "user.%d", i);
		CHECK(removexattr(path_of("f"), key) == 0);
		CHECK_ERROR(ENODATA, removexattr(path_of("f"), key));
	}
	return true;
}

static bool lists_user_alone(void)
{
	char list[256];

	CHECK(listxattr(path_of("f"), NULL, 0) == sizeof("user.a"));
	CHECK(listxattr(path_of("f"), list, sizeof(list)) == sizeof("user.a") && strcmp(list, "user.a") == 0);
	return true;
}

static bool xattr_rules(void)
{
	char key[32], list[32768];

	CHECK(put_file(path_of("f"), 1, 1) && symlink("f", path_of("l")) == 0 && mkfifo(path_of("p"), 0600) == 0);
	CHECK(set_xattr(path_of("f"), "user.a", 5, 1, XATTR_CREATE));
	CHECK(!set_xattr(path_of("f"), "user.a", 5, 2, XATTR_CREATE) && errno_is(EEXIST));
	CHECK(!set_xattr(path_of("f"), "user.b", 5, 2, XATTR_REPLACE) && errno_is(ENODATA));
	CHECK(set_xattr(path_of("f"), "user.a", 6, 3, XATTR_REPLACE) && has_xattr(path_of("f"), "user.a", 6, 3));
	CHECK(!set_xattr(path_of("l"), "user.a", 5, 1, 0) && errno_is(EPERM));
	CHECK(!set_xattr(path_of("p"), "user.a", 5, 1, 0) && errno_is(EPERM));
	CHECK(set_xattr(path_of("l"), "trusted.a", 5, 1, 0) && has_xattr(path_of("l"), "trusted.a", 5, 1));
	CHECK(set_xattr(path_of("p"), "security.a", 5, 1, 0) && has_xattr(path_of("p"), "security.a", 5, 1));
	CHECK(!set_xattr(path_of("f"), "nospace.a", 5, 1, 0) && errno_is(EOPNOTSUPP));
	CHECK_ERROR(ENODATA, getxattr(path_of("f"), "user.none", list, sizeof(list)));
	/* Names in trusted. are for root alone. */
	CHECK(set_xattr(path_of("f"), "trusted.secret", 5, 1, 0) && chmod(path_of("."), 0755) == 0);
	CHECK(as_user(OTHER, OTHER, lists_user_alone));
	CHECK(listxattr(path_of("f"), list, sizeof(list)) == sizeof("user.a") + sizeof("trusted.secret"));
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "user.many-%d", i);
		CHECK(set_xattr(path_of("f"), key, (size_t)i, (uint64_t)i, 0));
	}
	CHECK(remount());
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "user.many-%d", i);
		CHECK(has_xattr(path_of("f"), key, (size_t)i, (uint64_t)i));
	}
	return true;
}

/* What encryption an object has is readable, but it is not the object's own: not listed, not to be changed. */
static bool virtual_xattrs(void)
{
	char value[256], list[4096];
	ssize_t length;

	if (!suite.coffer)
		return true;
	CHECK(put_file(path_of("f"), 1, 1) && mkdir(path_of("d"), 0755) == 0);
	for (const char *name = "fd"; *name; name++) {
		length = getxattr(path_of("%c", *name), "user.coffer.scope", value, sizeof(value));
		CHECK(length == 7 && memcmp(value, "default", 7) == 0);
		CHECK(getxattr(path_of("%c", *name), "user.coffer.scope", value, 0) == 7);
		CHECK_ERROR(ERANGE, getxattr(path_of("%c", *name), "user.coffer.scope", value, 3));
		CHECK_ERROR(ENODATA, getxattr(path_of("%c", *name), "user.coffer.nonsense", value, sizeof(value)));
		CHECK(listxattr(path_of("%c", *name), list, sizeof(list)) == 0);
		CHECK(setxattr(path_of("%c", *name), "user.coffer.scope", "x", 1, 0) < 0);
		CHECK(setxattr(path_of("%c", *name), "user.coffer.other", "x", 1, 0) < 0);
		CHECK(removexattr(path_of("%c", *name), "user.coffer.scope") < 0);
	}
	return true;
}

static bool statfs_values(void)
{
	enum { SIZE = 40 << 20 };
	struct statvfs before, after;
	int fd;

	CHECK(statvfs(path_of("."), &before) == 0);
	CHECK(before.f_bsize >= 512 && before.f_frsize >= 512 && before.f_namemax == NAME_MAX);
	CHECK(before.f_blocks > 0 && before.f_bfree <= before.f_blocks && before.f_bavail <= before.f_bfree);
	CHECK(before.f_files > 0 && before.f_ffree <= before.f_files);
	/* Other files come and go on the disk below, of other tests too: half of what is written must show, once in a while. */
	for (int i = 0; i < 10; i++) {
		CHECK(statvfs(path_of("."), &before) == 0);
		CHECK(put_file(path_of("f%d", i), SIZE, 1));
		fd = open(path_of("f%d", i), O_RDONLY);
		CHECK(fd >= 0 && fsync(fd) == 0);
		close(fd);
		CHECK(statvfs(path_of("."), &after) == 0);
		if (before.f_bfree > after.f_bfree && (before.f_bfree - after.f_bfree) * before.f_frsize > SIZE / 2)
			return true;
		sleep(1);
	}
	CHECK(!"what is written takes no space");
	return true;
}

const struct test attr_tests[] = {
	{ "far_times", far_times },
	{ "birth_stays", birth_stays },
	{ "stamps_are_in_order", stamps_are_in_order },
	{ "times_move", times_move },
	{ "setgid_dirs", setgid_dirs },
	{ "sticky", sticky },
	{ "set_ids_cleared", set_ids_cleared },
	{ "owners", owners },
	{ "xattr_sizes", xattr_sizes },
	{ "xattr_rules", xattr_rules },
	{ "virtual_xattrs", virtual_xattrs },
	{ "statfs_values", statfs_values },
	{ 0 },
};
