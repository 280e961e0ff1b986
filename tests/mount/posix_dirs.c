/* POSIX suite: directories and special files. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENTRIES = 100000, PARTS = 10, SLOWER = 3 };

/* Counts how often each of the names 0..count-1 is listed; -1 on an error or a strange name. */
static int list_numbers(const char *path, unsigned char *seen, int count)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int found = 0;

	if (!dir)
		return -1;
	memset(seen, 0, (size_t)count);
	while ((errno = 0, entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (atoi(entry->d_name) >= count)
			found = -count;
		seen[atoi(entry->d_name)]++;
		found++;
	}
	if (errno)
		found = -1;
	closedir(dir);
	return found;
}

static double best_of_three(const double times[static 3])
{
	double best = times[0] < times[1] ? times[0] : times[1];

	return best < times[2] ? best : times[2];
}

static bool many_entries(void)
{
	static unsigned char seen[ENTRIES];
	int entries = suite.brief ? ENTRIES / 20 : ENTRIES, part_size = entries / PARTS, fd;
	double times[PARTS], begin, first, last;
	struct stat st;

	for (int part = 0; part < PARTS; part++) {
		begin = now();
		for (int i = 0; i < part_size; i++) {
			fd = open(path_of("%d", part * part_size + i), O_CREAT | O_EXCL | O_WRONLY, 0644);
			CHECK(fd >= 0);
			close(fd);
		}
		times[part] = now() - begin;
	}
	/* The best of three: other programs may have had the processor. */
	first = best_of_three(times);
	last = best_of_three(times + PARTS - 3);
	printf("  %d creates: %.2f s at first, %.2f s at last\n", part_size, first, last);
	CHECK(last < SLOWER * first + 0.2);
	CHECK(list_numbers(path_of("."), seen, entries) == entries);
	for (int i = 0; i < entries; i++)
		CHECK(seen[i] == 1);
	CHECK(remount());
	CHECK(list_numbers(path_of("."), seen, entries) == entries);
	for (int i = 0; i < entries; i += 97)
		CHECK(lstat(path_of("%d", i), &st) == 0);
	begin = now();
	for (int i = 0; i < entries; i++)
		CHECK(unlink(path_of("%d", i)) == 0);
	printf("  %d unlinks: %.2f s\n", entries, now() - begin);
	CHECK(list_numbers(path_of("."), seen, entries) == 0);
	return true;
}

/* While half of the names are removed, each of the others is listed exactly once, and no name twice. */
static bool readdir_during_deletes(void)
{
	enum { COUNT = 3000 };
	static unsigned char seen[COUNT];
	int status;
	pid_t pid;

	for (int round = 0; round < (suite.brief ? 1 : 4); round++) {
		for (int i = 0; i < COUNT; i++)
			CHECK(put_file(path_of("%d", i), 0, 0));
		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			for (int i = round % 2; i < COUNT; i += 2)
				unlink(path_of("%d", i));
			_exit(0);
		}
		do {
			CHECK(list_numbers(path_of("."), seen, COUNT) >= COUNT / 2);
			for (int i = 0; i < COUNT; i++)
				CHECK(i % 2 == round % 2 ? seen[i] <= 1 : seen[i] == 1);
		} while (waitpid(pid, &status, WNOHANG) == 0);
		CHECK(list_numbers(path_of("."), seen, COUNT) == COUNT / 2);
	}
	return true;
}

static bool telldir_seekdir(void)
{
	enum { COUNT = 1500 };
	static char names[COUNT + 2][NAME_MAX + 1];
	static long places[COUNT + 2];
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	for (int i = 0; i < COUNT; i++)
		CHECK(put_file(path_of("some-name-%d", i), 0, 0));
	dir = opendir(path_of("."));
	CHECK(dir);
	for (;;) {
		long place = telldir(dir);

		entry = readdir(dir);
		if (!entry)
			break;
		CHECK(count < COUNT + 2);
		places[count] = place;
		snprintf(names[count++], sizeof(names[0]), "%s", entry->d_name);
	}
	CHECK(count == COUNT + 2);
	for (int i = 0; i < count; i++) {
		int at = i * 739 % count;

		seekdir(dir, places[at]);
		entry = readdir(dir);
		CHECK(entry && strcmp(entry->d_name, names[at]) == 0);
	}
	/* A place stays valid while other names go. */
	for (int i = 0; i < count; i += 2) {
		if (names[i][0] != '.')
			CHECK(unlink(path_of("%s", names[i])) == 0);
	}
	for (int i = 1; i < count; i += 2) {
		seekdir(dir, places[i]);
		entry = readdir(dir);
		CHECK(entry && strcmp(entry->d_name, names[i]) == 0);
	}
	CHECK(put_file(path_of("late"), 0, 0));
	rewinddir(dir);
	count = 0;
	while ((entry = readdir(dir)))
		count += strcmp(entry->d_name, "late") == 0;
	closedir(dir);
	return count == 1;
}

static bool remove_dirs(void)
{
	struct stat st;
	int fd;

	CHECK(mkdir(path_of("d"), 0755) == 0 && put_file(path_of("d/f"), 1, 1));
	CHECK_ERROR(ENOTEMPTY, rmdir(path_of("d")));
	CHECK_ERROR(EINVAL, rmdir(path_of("d/.")));
	CHECK_ERROR(ENOTEMPTY, rmdir(path_of("d/..")));
	CHECK_ERROR(EISDIR, unlink(path_of("d")));
	CHECK_ERROR(ENOTDIR, rmdir(path_of("d/f")));
	CHECK_ERROR(EEXIST, mkdir(path_of("d"), 0755));
	CHECK_ERROR(ENOENT, mkdir(path_of("none/d"), 0755));
	CHECK(unlink(path_of("d/f")) == 0);
	fd = open(path_of("d"), O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0 && rmdir(path_of("d")) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0);
	CHECK_ERROR(ENOENT, openat(fd, "new", O_CREAT | O_WRONLY, 0644));
	CHECK_ERROR(ENOENT, mkdirat(fd, "new", 0755));
	close(fd);
	CHECK_ERROR(ENOENT, lstat(path_of("d"), &st));
	return true;
}

static bool deep_dirs(void)
{
	enum { DEPTH = 60 };
	char name[220];
	int fd = open(path_of("."), O_RDONLY | O_DIRECTORY), next;

	/* Deeper than PATH_MAX allows in one path. */
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	for (int i = 0; i < DEPTH; i++) {
		CHECK(mkdirat(fd, name, 0755) == 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY);
		CHECK(next >= 0);
		close(fd);
		fd = next;
	}
	next = openat(fd, "bottom", O_CREAT | O_WRONLY, 0644);
	CHECK(next >= 0 && write(next, "bottom", 6) == 6);
	close(next);
	CHECK(unlinkat(fd, "bottom", 0) == 0);
	for (int i = 0; i < DEPTH; i++) {
		next = openat(fd, "..", O_RDONLY | O_DIRECTORY);
		CHECK(next >= 0 && unlinkat(next, name, AT_REMOVEDIR) == 0);
		close(fd);
		fd = next;
	}
	close(fd);
	return true;
}

static bool device_numbers(void)
{
	const dev_t devices[] = { makedev(1, 3), makedev(255, 255), makedev(4095, 1048575), makedev(10, 70000) };
	struct stat st;

	for (int i = 0; i < 4; i++) {
		/* Not every native file system has all 20 bits of a minor number. */
		if (!suite.coffer && i == 2)
			continue;
		CHECK(mknod(path_of("c%d", i), S_IFCHR | 0640, devices[i]) == 0);
		CHECK(mknod(path_of("b%d", i), S_IFBLK | 0604, devices[i]) == 0);
	}
	CHECK(mknod(path_of("f"), S_IFIFO | 0600, 0) == 0 && mknod(path_of("s"), S_IFSOCK | 0666, 0) == 0);
	CHECK(mknod(path_of("r"), S_IFREG | 0444, 0) == 0);
	CHECK(remount());
	for (int i = 0; i < 4; i++) {
		if (!suite.coffer && i == 2)
			continue;
		CHECK(lstat(path_of("c%d", i), &st) == 0 && st.st_mode == (S_IFCHR | 0640) && st.st_rdev == devices[i]);
		CHECK(lstat(path_of("b%d", i), &st) == 0 && st.st_mode == (S_IFBLK | 0604) && st.st_rdev == devices[i]);
	}
	CHECK(lstat(path_of("f"), &st) == 0 && st.st_mode == (S_IFIFO | 0600));
	CHECK(lstat(path_of("s"), &st) == 0 && st.st_mode == (S_IFSOCK | 0666));
	CHECK(lstat(path_of("r"), &st) == 0 && st.st_mode == (S_IFREG | 0444) && st.st_size == 0);
	return true;
}

static bool fifos_and_sockets(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int in, out, server, client;
	char byte = 0;

	CHECK(mkfifo(path_of("fifo"), 0600) == 0);
	in = open(path_of("fifo"), O_RDONLY | O_NONBLOCK);
	out = open(path_of("fifo"), O_WRONLY | O_NONBLOCK);
	CHECK(in >= 0 && out >= 0 && write(out, "x", 1) == 1 && read(in, &byte, 1) == 1 && byte == 'x');
	close(in);
	close(out);
	/* An address has room for few bytes: go by the descriptor of the directory. */
	in = open(path_of("."), O_RDONLY | O_DIRECTORY);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/socket", in);
	server = socket(AF_UNIX, SOCK_STREAM, 0);
	client = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(server, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(server, 1) == 0);
	CHECK(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
	close(in);
	close(server);
	close(client);
	return true;
}

const struct test dir_tests[] = {
	{ "many_entries", many_entries },
	{ "readdir_during_deletes", readdir_during_deletes },
	{ "telldir_seekdir", telldir_seekdir },
	{ "remove_dirs", remove_dirs },
	{ "deep_dirs", deep_dirs },
	{ "device_numbers", device_numbers },
	{ "fifos_and_sockets", fifos_and_sockets },
	{ 0 },
};
