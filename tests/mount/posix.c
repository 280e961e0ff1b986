/*
 * posix DIR [--hook CMD] [--coffer] [--brief] [--fill] [CASE...]
 *
 * Runs the cases (all, or those named) in DIR and counts. With --fill the cases that fill the file system of DIR, which
 * should be a small one. CMD is called with "remount" or "crash" appended.
 */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct suite suite;
static char test_dir[PATH_MAX];

void report(const char *file, int line, const char *what)
{
	int error = errno;
	const char *name = strrchr(file, '/');

	printf("  %s:%d: %s (errno %s)\n", name ? name + 1 : file, line, what, error ? strerrorname_np(error) : "0");
	fflush(stdout);
}

bool errno_is(int wanted)
{
	if (errno != wanted)
		printf("  wanted %s\n", strerrorname_np(wanted));
	return errno == wanted;
}

const char *path_of(const char *format, ...)
{
	static char paths[16][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 16];
	size_t length = (size_t)snprintf(path, PATH_MAX, "%s/", test_dir);
	va_list list;

	va_start(list, format);
	vsnprintf(path + length, PATH_MAX - length, format, list);
	va_end(list);
	return path;
}

static bool call_hook(const char *what)
{
	char command[PATH_MAX];

	if (!suite.hook)
		return true;
	snprintf(command, sizeof(command), "%s %s", suite.hook, what);
	return system(command) == 0;
}

bool remount(void)
{
	return call_hook("remount");
}

bool crash(void)
{
	return call_hook("crash");
}

void fill(unsigned char *data, size_t length, uint64_t seed)
{
	for (size_t i = 0; i < length; i++) {
		if (i % 8 == 0)
			seed = seed * 6364136223846793005U + 1442695040888963407U;
		data[i] = (unsigned char)(seed >> (56 - 8 * (i % 8)));
	}
}

bool put_file(const char *path, size_t length, uint64_t seed)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	unsigned char *data = malloc(length + 1);
	bool good;

	fill(data, length, seed);
	good = fd >= 0 && write(fd, data, length) == (ssize_t)length;
	free(data);
	if (fd >= 0 && close(fd) < 0)
		good = false;
	return good;
}

bool has_contents(const char *path, size_t length, uint64_t seed)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *data = malloc(length + 1), *found = malloc(length + 1);
	bool good;

	fill(data, length, seed);
	good = fd >= 0 && read(fd, found, length + 1) == (ssize_t)length && memcmp(data, found, length) == 0;
	free(data);
	free(found);
	if (fd >= 0)
		close(fd);
	return good;
}

bool as_user(uid_t uid, gid_t gid, bool (*function)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		bool good = setgroups(0, NULL) == 0 && setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0;

		if (!good)
			perror("changing the user");
		good = good && function();
		fflush(stdout);
		_exit(good ? 0 : 1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static bool run_test(const char *root, const struct test *test)
{
	double begin = now();
	bool good;

	snprintf(test_dir, sizeof(test_dir), "%s/%s", root, test->name);
	good = mkdir(test_dir, 0777) == 0 && chmod(test_dir, 0777) == 0;
	if (!good)
		perror(test_dir);
	errno = 0;
	good = good && test->run();
	if (nftw(test_dir, remove_one, 32, FTW_DEPTH | FTW_PHYS) != 0) {
		printf("  its directory cannot be removed: %s\n", strerror(errno));
		good = false;
	}
	printf("%s %s (%.1f s)\n", good ? "pass" : "FAIL", test->name, now() - begin);
	fflush(stdout);
	return good;
}

static bool is_wanted(const char *name, int count, char **names)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return count == 0;
}

int main(int argc, char **argv)
{
	static const struct test *const all[] = {
		name_tests, dir_tests, attr_tests, acl_tests, data_tests, handle_tests
	};
	static const struct test *const fills[] = { full_tests };
	static const struct option longs[] = { { "hook", 1, NULL, 'h' },
					       { "coffer", 0, NULL, 'c' },
					       { "brief", 0, NULL, 'b' },
					       { "fill", 0, NULL, 'l' },
					       { 0 } };
	int passed = 0, failed = 0;
	bool filling = false;
	size_t count;

	for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (option) {
		case 'h':
			suite.hook = optarg;
			break;
		case 'c':
			suite.coffer = true;
			break;
		case 'b':
			suite.brief = true;
			break;
		case 'l':
			filling = true;
			break;
		default:
			return 2;
		}
	}
	if (optind == argc) {
		fprintf(stderr, "usage: posix DIR [--hook CMD] [--coffer] [--brief] [--fill] [CASE...]\n");
		return 2;
	}
	umask(0);
	count = filling ? 1 : sizeof(all) / sizeof(all[0]);
	for (size_t i = 0; i < count; i++) {
		for (const struct test *test = (filling ? fills : all)[i]; test->name; test++) {
			if (!is_wanted(test->name, argc - optind - 1, argv + optind + 1))
				continue;
			if (run_test(argv[optind], test))
				passed++;
			else
				failed++;
		}
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || !passed ? 1 : 0;
}
