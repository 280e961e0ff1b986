/* A scratch directory for the tests of the key layer, and what was logged in the meantime. */
#ifndef COFFER_TESTS_KEY_FIXTURE_H
#define COFFER_TESTS_KEY_FIXTURE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <coffer/manager.h>
#include <coffer/util.h>

static char scratch[PATH_MAX];
static int log_fd = -1; /* stderr goes there, so that tests can look for messages */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void scratch_start(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(scratch, sizeof(scratch), "%s/coffer-test-XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(scratch));
	cr_assert_eq(crypto_start(), 0);
	log_fd = open(scratch, O_TMPFILE | O_RDWR | O_APPEND, 0600);
	cr_assert(log_fd >= 0);
	cr_assert(dup2(log_fd, STDERR_FILENO) >= 0);
}

/* On memory, where there is enough of it: for tests that sync often. */
static inline void scratch_in_memory(void)
{
	struct statvfs fs;

	if (!getenv("TMPDIR") && statvfs("/dev/shm", &fs) == 0 && fs.f_bavail * fs.f_frsize > (1u << 30) &&
	    access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
	scratch_start();
}

static void scratch_end(void)
{
	close(log_fd);
	nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* true: something logged since the last call holds `what`. */
static inline bool logged(const char *what)
{
	static char text[1 << 20];
	ssize_t len = pread(log_fd, text, sizeof(text) - 1, 0);

	cr_assert(len >= 0);
	text[len] = '\0';
	cr_assert_eq(ftruncate(log_fd, 0), 0);
	return strstr(text, what) != NULL;
}

/* A path in the scratch directory. Good until the eighth call after it. */
static inline const char *in_scratch(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline const char *in_scratch(const char *fmt, ...)
{
	static char paths[8][2 * PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];
	int len = sprintf(path, "%s/", scratch);
	va_list args;

	va_start(args, fmt);
	vsnprintf(path + len, sizeof(paths[0]) - (size_t)len, fmt, args);
	va_end(args);
	return path;
}

static inline void put_file(const char *path, const void *data, size_t len, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	cr_assert(fd >= 0);
	cr_assert_eq(write_all(fd, data, len), 0);
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
}

static inline int open_dir_at(const char *path)
{
	int fd;

	cr_assert(!mkdir(path, 0700) || errno == EEXIST);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	cr_assert(fd >= 0);
	return fd;
}

static inline bool same_secret(const struct secret *a, const struct secret *b)
{
	return secret_size(a) == secret_size(b) && !memcmp(secret_bytes(a), secret_bytes(b), secret_size(a));
}

#endif
