/* POSIX suite: open files, locks, files without names, opening by handle. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
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

enum { OBJECTS = 60 };

/* A file that holds its number, or a directory with such a file in it. */
struct kept {
	struct handle handle;
	int home;
	char name[24];
	ino_t inode;
	bool is_dir, gone;
};

static const char *homes[] = { "a", "a/b", "c" }; /* the second one moves */

static const char *kept_path(const struct kept *k)
{
	return path_of("%s/%s", homes[k->home], k->name);
}

static bool make_kept(struct kept *k, int number, int round)
{
	struct stat st;
	int fd;

	*k = (struct kept){ .is_dir = number % 2, .home = number % 3 };
	snprintf(k->name, sizeof(k->name), "%d-%d", number, round);
	CHECK(!k->is_dir || mkdir(kept_path(k), 0755) == 0);
	fd = open(path_of("%s/%s%s", homes[k->home], k->name, k->is_dir ? "/f" : ""), O_CREAT | O_EXCL | O_WRONLY,
		  0644);
	/* A killed daemon may lose what is not synced. */
	CHECK(fd >= 0 && write(fd, &number, sizeof(number)) == sizeof(number) && fsync(fd) == 0 && close(fd) == 0);
	CHECK(stat(kept_path(k), &st) == 0 && get_handle(kept_path(k), &k->handle));
	k->inode = st.st_ino;
	return true;
}

static bool move_kept(struct kept *k, int number, int round)
{
	const char *old = kept_path(k);

	k->home = (number + round) % 3;
	snprintf(k->name, sizeof(k->name), "moved-%d-%d", number, round);
	CHECK(rename(old, kept_path(k)) == 0);
	return true;
}

static bool move_home(void)
{
	const char *old = path_of("%s", homes[1]);

	homes[1] = homes[1][0] == 'a' ? "c/b" : "a/b";
	CHECK(rename(old, path_of("%s", homes[1])) == 0);
	return true;
}

static bool remove_kept(struct kept *k)
{
	CHECK(!k->is_dir || unlink(path_of("%s/%s/f", homes[k->home], k->name)) == 0);
	CHECK((k->is_dir ? rmdir : unlink)(kept_path(k)) == 0);
	k->gone = true;
	return true;
}

static bool check_kept(struct kept *k, int number)
{
	int flags = k->is_dir ? O_RDONLY | O_DIRECTORY : O_RDWR, found = -1, fd, file;
	struct stat st, parent;

	if (k->gone) {
		CHECK_ERROR(ESTALE, open_handle(&k->handle, flags));
		return true;
	}
	fd = open_handle(&k->handle, flags);
	CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == k->inode && S_ISDIR(st.st_mode) == k->is_dir);
	file = k->is_dir ? openat(fd, "f", O_RDWR) : dup(fd);
	CHECK(file >= 0 && pread(file, &found, sizeof(found), 0) == sizeof(found) && found == number);
	if (k->is_dir) {
		CHECK(fstatat(fd, "..", &st, 0) == 0 && stat(path_of("%s", homes[k->home]), &parent) == 0);
		CHECK(st.st_ino == parent.st_ino);
	}
	close(file);
	close(fd);
	return true;
}

/* What an NFS server does: a handle means the same object after the kernel forgot it, after a remount and after the daemon was
 * killed, wherever it was moved; once the object is gone, it means nothing. */
static bool handles(void)
{
	static bool (*const upsets[])(void) = { drop_caches, remount, crash };
	static struct kept kept[OBJECTS];

	homes[1] = "a/b";
	CHECK(mkdir(path_of("a"), 0755) == 0 && mkdir(path_of("a/b"), 0755) == 0 && mkdir(path_of("c"), 0755) == 0);
	for (int i = 0; i < OBJECTS; i++)
		CHECK(make_kept(&kept[i], i, 0));
	for (int round = 1; round <= 6; round++) {
		for (int i = 0; i < OBJECTS / 2; i++) {
			if (kept[i].gone)
				continue;
			if (i % 4 == round % 4)
				CHECK(move_kept(&kept[i], i, round));
			else if (i % 7 == round)
				CHECK(remove_kept(&kept[i]));
		}
		/* New ones do not take over the old ones' identities. */
		for (int i = OBJECTS / 2; i < OBJECTS; i++) {
			struct kept removed = kept[i];

			CHECK(remove_kept(&removed) && make_kept(&kept[i], i, round) && check_kept(&removed, i));
		}
		CHECK(move_home() && upsets[round % 3]());
		for (int i = 0; i < OBJECTS; i++)
			CHECK(check_kept(&kept[i], i));
	}
	return true;
}

/* What no object ever had, or what belongs to one and is none itself. */
static bool forged_handles(void)
{
	static const uint64_t numbers[] = { 0, UINT64_MAX, UINT64_MAX / 2, UINT32_MAX, 1000000000 };
	struct handle handle, forged;
	struct stat st;

	CHECK(put_file(path_of("f"), 100, 1) && get_handle(path_of("f"), &handle) && stat(path_of("f"), &st) == 0);
	for (int known = 0; known < 2; known++) {
		for (size_t i = 0; i < handle.head.handle_bytes; i++) {
			forged = handle;
			forged.bytes[i] ^= 0x80;
			CHECK_ERROR(ESTALE, open_handle(&forged, O_RDONLY));
		}
		CHECK(drop_caches());
	}
	if (!suite.coffer)
		return true;
	/* FUSE's handles: the object's number, its halves swapped, and a generation. */
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		uint32_t halves[2] = { (uint32_t)(numbers[i] >> 32), (uint32_t)numbers[i] };

		forged = handle;
		memcpy(forged.bytes, halves, sizeof(halves));
		CHECK_ERROR(ESTALE, open_handle(&forged, O_RDONLY));
	}
	/* The next number is that of the object that holds a large attribute. */
	static char value[30000];

	CHECK(setxattr(path_of("f"), "user.large", value, sizeof(value), 0) == 0);
	for (uint32_t after = 1; after < 4; after++) {
		uint32_t low = (uint32_t)st.st_ino + after;

		forged = handle;
		memcpy(forged.bytes + 4, &low, sizeof(low));
		CHECK_ERROR(ESTALE, open_handle(&forged, O_RDONLY));
	}
	return true;
}

/* An NFS client continues a listing with a place that it was given before. */
static bool places_in_directories(void)
{
	enum { COUNT = 700 };
	static bool (*const upsets[])(void) = { remount, crash, drop_caches };
	static char names[COUNT][24];
	static long places[COUNT];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	for (int i = 0; i < COUNT; i++)
		CHECK(put_file(path_of("some-name-%d", i), 0, 0));
	CHECK((dir = opendir(path_of("."))));
	for (long place; place = telldir(dir), (entry = readdir(dir));) {
		if (entry->d_name[0] == '.')
			continue;
		CHECK(count < COUNT);
		places[count] = place;
		snprintf(names[count++], sizeof(names[0]), "%.23s", entry->d_name);
	}
	CHECK(closedir(dir) == 0 && count == COUNT);
	for (int round = 0; round < 3; round++) {
		/* Of what is removed, the place stays good for what comes after it. */
		for (int i = round; i < COUNT; i += 7)
			CHECK(unlink(path_of("%s", names[i])) == 0);
		for (int i = 0; i < 40; i++)
			CHECK(put_file(path_of("new-%d-%d", round, i), 0, 0));
		CHECK(upsets[round]() && (dir = opendir(path_of("."))));
		for (int i = 0; i < COUNT; i++) {
			int wanted = i;

			while (wanted < COUNT && wanted % 7 <= round)
				wanted++;
			seekdir(dir, places[i]);
			do
				entry = readdir(dir);
			while (entry && !strncmp(entry->d_name, "new-", 4));
			CHECK(wanted == COUNT || (entry && strcmp(entry->d_name, names[wanted]) == 0));
		}
		closedir(dir);
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
	{ "forged_handles", forged_handles },
	{ "places_in_directories", places_in_directories },
	{ "inode_numbers", inode_numbers },
	{ 0 },
};
