/* POSIX suite: open files, locks, files without names, opening by handle. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool unlinked_files(void)
{
	unsigned char data[10000], found[10000];
	struct stat st;
	int fd, other;

	fill(data, sizeof(data), 3);
	CHECK(put_file(path_of("f"), 100, 1));
	fd = open(path_of("f"), O_RDWR);
	CHECK(fd >= 0 && unlink(path_of("f")) == 0 && fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 100);
	CHECK(write(fd, data, sizeof(data)) == sizeof(data) && fsync(fd) == 0);
	CHECK(pread(fd, found, sizeof(found), 0) == sizeof(found) && memcmp(data, found, sizeof(data)) == 0);
	CHECK(ftruncate(fd, 50000) == 0 && fchmod(fd, 0600) == 0 && fstat(fd, &st) == 0);
	CHECK(st.st_size == 50000 && (st.st_mode & 07777) == 0600);
	/* The name is free for another file. */
	CHECK(put_file(path_of("f"), 7, 2) && has_contents(path_of("f"), 7, 2));
	CHECK(pread(fd, found, sizeof(found), 0) == sizeof(found) && memcmp(data, found, sizeof(data)) == 0);
	other = open(path_of("f"), O_RDONLY);
	CHECK(other >= 0 && rename(path_of("f"), path_of("g")) == 0 && put_file(path_of("h"), 9, 4));
	CHECK(rename(path_of("h"), path_of("g")) == 0 && fstat(other, &st) == 0 && st.st_nlink == 0);
	CHECK(read(other, found, 10) == 7);
	close(fd);
	close(other);
	return true;
}

static bool files_without_names(void)
{
	char name[64];
	struct stat st;
	int fd;

	fd = open(path_of("."), O_TMPFILE | O_RDWR, 0640);
	CHECK(fd >= 0 && write(fd, "hello", 5) == 5 && fstat(fd, &st) == 0 && st.st_nlink == 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, name, AT_FDCWD, path_of("f"), AT_SYMLINK_FOLLOW) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 1 && write(fd, "+", 1) == 1);
	close(fd);
	fd = open(path_of("."), O_TMPFILE | O_RDWR | O_EXCL, 0640);
	CHECK(fd >= 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	CHECK_ERROR(ENOENT, linkat(AT_FDCWD, name, AT_FDCWD, path_of("g"), AT_SYMLINK_FOLLOW));
	close(fd);
	CHECK(remount() && stat(path_of("f"), &st) == 0 && st.st_size == 6 && (st.st_mode & 07777) == 0640);
	return true;
}

/* In a process of its own: 0 if the lock can be had, 1 if another one holds it. */
static int try_lock(short type, off_t from, off_t length)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = length };
		int fd = open(path_of("f"), O_RDWR);

		if (fcntl(fd, F_SETLK, &lock) == 0)
			_exit(0);
		_exit(errno == EAGAIN || errno == EACCES ? 1 : 2);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 100 };
	int one, other;

	CHECK(put_file(path_of("f"), 1000, 1));
	one = open(path_of("f"), O_RDWR);
	other = open(path_of("f"), O_RDWR);
	CHECK(fcntl(one, F_SETLK, &lock) == 0);
	CHECK(try_lock(F_WRLCK, 0, 100) == 0 && try_lock(F_RDLCK, 150, 1) == 1 && try_lock(F_WRLCK, 200, 0) == 0);
	lock.l_type = F_RDLCK;
	CHECK(fcntl(one, F_SETLK, &lock) == 0 && try_lock(F_RDLCK, 150, 1) == 0 && try_lock(F_WRLCK, 150, 1) == 1);
	lock.l_type = F_UNLCK;
	CHECK(fcntl(one, F_SETLK, &lock) == 0 && try_lock(F_WRLCK, 0, 0) == 0);
	CHECK(flock(one, LOCK_EX) == 0);
	CHECK_ERROR(EWOULDBLOCK, flock(other, LOCK_EX | LOCK_NB));
	CHECK_ERROR(EWOULDBLOCK, flock(other, LOCK_SH | LOCK_NB));
	CHECK(flock(one, LOCK_SH) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0 && flock(one, LOCK_UN) == 0);
	lock = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	CHECK(fcntl(one, F_OFD_SETLK, &lock) == 0);
	CHECK_ERROR(EAGAIN, fcntl(other, F_OFD_SETLK, &lock));
	close(one);
	CHECK(fcntl(other, F_OFD_SETLK, &lock) == 0);
	close(other);
	return true;
}

struct handle {
	struct file_handle head;
	unsigned char bytes[MAX_HANDLE_SZ];
};

static bool get_handle(const char *path, struct handle *handle)
{
	int mount;

	handle->head.handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(AT_FDCWD, path, &handle->head, &mount, 0) == 0;
}

static int open_handle(struct handle *handle, int flags)
{
	int mount = open(path_of("."), O_RDONLY | O_DIRECTORY);
	int fd = mount < 0 ? -1 : open_by_handle_at(mount, &handle->head, flags);
	int error = errno;

	if (mount >= 0)
		close(mount);
	errno = error;
	return fd;
}

static bool drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	bool good = fd >= 0 && write(fd, "3", 1) == 1;

	if (fd >= 0)
		close(fd);
	return good;
}

/* What an NFS server does: a handle means the same object after the kernel forgot it, and after a remount. */
static bool handles(void)
{
	struct handle file, dir, gone, removed;
	char byte[8] = "";
	struct stat st;
	int fd;

	CHECK(mkdir(path_of("d"), 0755) == 0 && mkdir(path_of("d/e"), 0755) == 0 && mkdir(path_of("x"), 0755) == 0);
	CHECK(put_file(path_of("d/e/f"), 5000, 1) && put_file(path_of("gone"), 10, 2));
	CHECK(get_handle(path_of("d/e/f"), &file) && get_handle(path_of("d/e"), &dir));
	CHECK(get_handle(path_of("gone"), &gone) && get_handle(path_of("x"), &removed));
	for (int round = 0; round < 3; round++) {
		CHECK(drop_caches());
		fd = open_handle(&file, O_RDWR);
		CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 5000 && pread(fd, byte, 1, 4999) == 1);
		close(fd);
		CHECK(drop_caches());
		fd = open_handle(&dir, O_RDONLY | O_DIRECTORY);
		CHECK(fd >= 0 && fstatat(fd, "f", &st, 0) == 0 &&
		      fstatat(fd, round ? "../moved" : "../e", &st, 0) == 0);
		close(fd);
		CHECK(round != 0 || rename(path_of("d/e"), path_of("moved")) == 0);
		CHECK(round != 1 || remount());
	}
	CHECK(unlink(path_of("gone")) == 0 && rmdir(path_of("x")) == 0);
	for (int round = 0; round < 3; round++) {
		CHECK_ERROR(ESTALE, open_handle(&gone, O_RDONLY));
		CHECK_ERROR(ESTALE, open_handle(&removed, O_RDONLY | O_DIRECTORY));
		/* New files do not take over the old ones' identities. */
		CHECK(put_file(path_of("new%d", round), 10, 2) && mkdir(path_of("newdir%d", round), 0755) == 0);
		CHECK(drop_caches());
		CHECK(round != 1 || remount());
	}
	return true;
}

static bool inode_numbers(void)
{
	struct stat before[20], after;

	for (int i = 0; i < 20; i++) {
		CHECK(put_file(path_of("%d", i), 10, 1) && stat(path_of("%d", i), &before[i]) == 0);
		for (int j = 0; j < i; j++)
			CHECK(before[i].st_ino != before[j].st_ino);
	}
	CHECK(drop_caches() && remount());
	for (int i = 0; i < 20; i++)
		CHECK(stat(path_of("%d", i), &after) == 0 && after.st_ino == before[i].st_ino);
	return true;
}

const struct test handle_tests[] = {
	{ "unlinked_files", unlinked_files },
	{ "files_without_names", files_without_names },
	{ "locks", locks },
	{ "handles", handles },
	{ "inode_numbers", inode_numbers },
	{ 0 },
};
