/* POSIX suite: a full file system. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { OLD = 20, SIZE = 200000, MOST = 100000 };

/* Like put_file(), but synced, and with the error of the step that failed first: 0 or an error number. */
static int put_synced(const char *path, size_t length, uint64_t seed)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	unsigned char *data = malloc(length);
	int error = fd < 0 ? errno : 0;
	ssize_t done;

	fill(data, length, seed);
	if (!error) {
		done = write(fd, data, length);
		if (done != (ssize_t)length)
			error = done < 0 ? errno : ENOSPC;
		if (!error && fsync(fd) < 0)
			error = errno;
		if (close(fd) < 0 && !error)
			error = errno;
	}
	free(data);
	return error;
}

static bool old_files_are_unharmed(void)
{
	for (int i = 0; i < OLD; i++)
		CHECK(has_contents(path_of("old%d", i), SIZE, (uint64_t)i));
	return true;
}

/* Fills up, with files of this size; returns how many fitted. The writer must learn why no more do. */
static int fill_up(const char *name, size_t size)
{
	int count = 0, error = 0;

	while (count < MOST && (error = put_synced(path_of("%s%d", name, count), size, (uint64_t)count)) == 0)
		count++;
	printf("  %d files of %zu bytes, then %s\n", count, size, strerrorname_np(error));
	return error == ENOSPC ? count : -1;
}

static bool full_disk(void)
{
	struct stat st;
	int count, small;

	for (int i = 0; i < OLD; i++)
		CHECK(put_synced(path_of("old%d", i), SIZE, (uint64_t)i) == 0);
	for (int round = 0; round < 3; round++) {
		count = fill_up("big", 1 << 20);
		CHECK(count > 0);
		small = fill_up("small", 3000);
		CHECK(small >= 0 && old_files_are_unharmed());
		/* What was synced is there; what failed may be there in part. */
		for (int i = 0; i < count; i++)
			CHECK(has_contents(path_of("big%d", i), 1 << 20, (uint64_t)i));
		/* Overwriting in place, and changing attributes, either works or says so. */
		CHECK(chmod(path_of("old0"), 0600) == 0 || errno == ENOSPC);
		CHECK(rename(path_of("old1"), path_of("renamed")) == 0 || errno == ENOSPC);
		if (stat(path_of("renamed"), &st) == 0)
			CHECK(rename(path_of("renamed"), path_of("old1")) == 0 || errno == ENOSPC);
		CHECK(round != 1 || remount());
		/* Removing always works. */
		for (int i = 0; i <= count; i++)
			CHECK(unlink(path_of("big%d", i)) == 0 || (i == count && errno == ENOENT));
		for (int i = 0; i <= small; i++)
			CHECK(unlink(path_of("small%d", i)) == 0 || (i == small && errno == ENOENT));
		/* And makes room, for as much as before. */
		CHECK(put_synced(path_of("after"), 1 << 20, 77) == 0 && has_contents(path_of("after"), 1 << 20, 77));
		CHECK(unlink(path_of("after")) == 0 && old_files_are_unharmed());
	}
	CHECK(remount());
	return old_files_are_unharmed();
}

/* Names, too: creation fails with ENOSPC, and nothing else happens. */
static bool full_of_names(void)
{
	/* The last few names may come slowly, each with what makes room for it: not all of them are needed. */
	double end = now() + 20;
	int count = 0, fd = 0, made;
	struct stat st;

	CHECK(put_synced(path_of("old"), SIZE, 1) == 0 && fill_up("f", 1 << 20) > 0);
	while (count < MOST && now() < end) {
		fd = open(path_of("n%d", count), O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0)
			break;
		close(fd);
		count++;
	}
	printf("  %d empty files, then %s\n", count, fd < 0 ? strerrorname_np(errno) : "no time");
	CHECK(fd >= 0 || errno == ENOSPC);
	CHECK_ERROR(ENOENT, stat(path_of("n%d", count), &st));
	made = mkdir(path_of("dir"), 0755);
	CHECK(made == 0 || errno == ENOSPC);
	CHECK(has_contents(path_of("old"), SIZE, 1) && remount() && has_contents(path_of("old"), SIZE, 1));
	for (int i = 0; i < count; i++)
		CHECK(unlink(path_of("n%d", i)) == 0);
	CHECK(made != 0 || rmdir(path_of("dir")) == 0);
	return true;
}

static unsigned long free_bytes(void)
{
	struct statvfs st;

	return statvfs(path_of("."), &st) == 0 ? st.f_bavail * st.f_frsize : 0;
}

/* Room that was reserved is there even when the disk is full, also where something was cut off just before. What could not be
 * reserved as a whole, and what is cut off behind the end, is given back. */
static bool full_but_reserved(void)
{
	enum { ROOM = 4 << 20 };
	unsigned char *data = malloc(ROOM);
	int fd = open(path_of("f"), O_CREAT | O_RDWR, 0644);
	int other = open(path_of("g"), O_CREAT | O_RDWR, 0644);

	CHECK(fd >= 0 && other >= 0 && data);
	fill(data, ROOM, 4);
	CHECK(pwrite(fd, data, ROOM, 0) == ROOM && fsync(fd) == 0 && ftruncate(fd, 0) == 0);
	CHECK(fallocate(fd, 0, 0, ROOM) == 0 && fsync(fd) == 0);
	unsigned long before = free_bytes();

	CHECK_ERROR(ENOSPC, fallocate(other, 0, 0, (off_t)1 << 40));
	if (suite.coffer) {
		CHECK(free_bytes() > before / 2);
		CHECK(fallocate(other, FALLOC_FL_KEEP_SIZE, 0, 4 * ROOM) == 0);
		before = free_bytes();
		CHECK(ftruncate(other, 0) == 0 && fallocate(other, 0, 0, 1) == 0); /* waits for what goes */
		CHECK(free_bytes() > before + 2UL * ROOM);
	}
	/* Some file systems keep what they had reserved when it was not enough. */
	close(other);
	CHECK(unlink(path_of("g")) == 0);
	CHECK(fill_up("f", 1 << 20) > 0);
	if (suite.coffer) {
		fill(data, ROOM, 5);
		CHECK(pwrite(fd, data, ROOM, 0) == ROOM && fsync(fd) == 0);
	}
	free(data);
	close(fd);
	return true;
}

/* Who never syncs nor closes hears of a full disk as well, not long after it is; and can go on once there is room. */
static bool full_without_sync(void)
{
	enum { PIECE = 1 << 20, SLACK = 512 /* pieces that the kernel may take before it learns */ };
	unsigned long most = free_bytes() / PIECE + SLACK, count = 0;
	unsigned char *data = malloc(PIECE);
	int fd = open(path_of("f"), O_CREAT | O_RDWR, 0644), error = 0;

	CHECK(data && fd >= 0);
	fill(data, PIECE, 6);
	while (count < most && !error) {
		ssize_t n = write(fd, data, PIECE);

		error = n < 0 ? errno : 0;
		count += n > 0;
	}
	printf("  %lu MiB taken, then %s\n", count, strerrorname_np(error));
	CHECK(error == ENOSPC);
	struct stat st;

	CHECK(fstat(fd, &st) == 0 && stat(path_of("f"), &st) == 0);
	CHECK(ftruncate(fd, 0) == 0);
	fsync(fd); /* reports what was lost */
	for (int tries = 0; tries < 100 && free_bytes() < 4 * PIECE; tries++)
		usleep(100000);
	CHECK(pwrite(fd, data, PIECE, 0) == PIECE && fsync(fd) == 0);
	CHECK(close(fd) == 0 && has_contents(path_of("f"), PIECE, 6));
	free(data);
	return true;
}

const struct test full_tests[] = {
	{ "full_disk", full_disk },
	{ "full_of_names", full_of_names },
	{ "full_but_reserved", full_but_reserved },
	{ "full_without_sync", full_without_sync },
	{ 0 },
};
