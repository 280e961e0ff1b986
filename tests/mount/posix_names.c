/* POSIX suite: names, links, renames. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINKS = 65000 };

static const char *long_name(char letter, int length)
{
	static char names[8][300];
	static unsigned next;
	char *name = names[next++ % 8];

	memset(name, letter, (size_t)length);
	name[length] = '\0';
	return path_of("%s", name);
}

static bool names_of_every_length(void)
{
	struct stat st;

	for (int length = 1; length <= NAME_MAX; length++) {
		CHECK(put_file(long_name('a', length), 10, (uint64_t)length));
		CHECK(mkdir(long_name('d', length), 0755) == 0);
		CHECK(symlink("target", long_name('s', length)) == 0);
		CHECK(mkfifo(long_name('f', length), 0644) == 0);
		CHECK(link(long_name('a', length), long_name('l', length)) == 0);
		/* A rename to the mirrored length: every pair of short and long occurs. */
		CHECK(rename(long_name('s', length), long_name('S', NAME_MAX + 1 - length)) == 0);
		CHECK(rename(long_name('d', length), long_name('D', NAME_MAX + 1 - length)) == 0);
	}
	CHECK(remount());
	for (int length = 1; length <= NAME_MAX; length++) {
		CHECK(has_contents(long_name('a', length), 10, (uint64_t)length));
		CHECK(stat(long_name('l', length), &st) == 0 && st.st_nlink == 2);
		CHECK(lstat(long_name('S', length), &st) == 0 && S_ISLNK(st.st_mode));
		CHECK(lstat(long_name('D', length), &st) == 0 && S_ISDIR(st.st_mode));
		CHECK_ERROR(ENOENT, lstat(long_name('s', length), &st));
		CHECK_ERROR(ENOENT, lstat(long_name('d', length), &st));
		CHECK(rename(long_name('a', length), long_name('l', NAME_MAX + 1 - length)) == 0);
	}
	return true;
}

static bool names_too_long(void)
{
	struct stat st;

	CHECK(put_file(path_of("x"), 1, 1));
	CHECK_ERROR(ENAMETOOLONG, open(long_name('a', NAME_MAX + 1), O_CREAT | O_WRONLY, 0644));
	CHECK_ERROR(ENAMETOOLONG, mkdir(long_name('a', NAME_MAX + 1), 0755));
	CHECK_ERROR(ENAMETOOLONG, symlink("x", long_name('a', NAME_MAX + 1)));
	CHECK_ERROR(ENAMETOOLONG, link(path_of("x"), long_name('a', NAME_MAX + 1)));
	CHECK_ERROR(ENAMETOOLONG, rename(path_of("x"), long_name('a', NAME_MAX + 1)));
	CHECK_ERROR(ENAMETOOLONG, lstat(long_name('a', NAME_MAX + 1), &st));
	CHECK_ERROR(ENAMETOOLONG, unlink(long_name('a', NAME_MAX + 1)));
	return true;
}

static bool odd_names(void)
{
	char name[2] = "";
	struct stat st;
	int count = 0;

	for (int byte = 1; byte < 256; byte++) {
		name[0] = (char)byte;
		if (byte == '/' || byte == '.')
			continue;
		CHECK(put_file(path_of("%s", name), (size_t)byte, (uint64_t)byte));
		count++;
	}
	CHECK(put_file(path_of("..."), 3, 3) && put_file(path_of("a\nb"), 3, 3) && put_file(path_of(" "), 32, 32));
	CHECK(remount());
	for (int byte = 1; byte < 256; byte++) {
		name[0] = (char)byte;
		if (byte == '/' || byte == '.')
			continue;
		CHECK(has_contents(path_of("%s", name), (size_t)byte, (uint64_t)byte));
	}
	CHECK(has_contents(path_of("..."), 3, 3));
	CHECK_ERROR(ENOENT, lstat(path_of("A "), &st));
	return count == 253;
}

static bool hard_links(void)
{
	int wanted = suite.brief ? MAX_LINKS / 20 : MAX_LINKS + 500, count = 1;
	struct stat st;

	CHECK(put_file(path_of("0"), 5000, 9));
	while (count <= wanted && link(path_of("0"), path_of("%d", count)) == 0)
		count++;
	CHECK(stat(path_of("0"), &st) == 0 && st.st_nlink == (nlink_t)count);
	if (suite.coffer && !suite.brief) {
		CHECK(errno == EMLINK && count == MAX_LINKS);
		CHECK_ERROR(EMLINK, link(path_of("0"), path_of("beyond")));
		CHECK(unlink(path_of("%d", count - 1)) == 0);
		CHECK(link(path_of("0"), path_of("%d", count - 1)) == 0);
	}
	CHECK(remount());
	CHECK(stat(path_of("%d", count - 1), &st) == 0 && st.st_nlink == (nlink_t)count);
	CHECK(has_contents(path_of("%d", count / 2), 5000, 9));
	for (int i = 0; i < count - 1; i++)
		CHECK(unlink(path_of("%d", i)) == 0);
	CHECK(stat(path_of("%d", count - 1), &st) == 0 && st.st_nlink == 1);
	CHECK(has_contents(path_of("%d", count - 1), 5000, 9));
	return true;
}

static bool link_errors(void)
{
	CHECK(mkdir(path_of("d"), 0755) == 0 && put_file(path_of("f"), 1, 1));
	CHECK_ERROR(EPERM, link(path_of("d"), path_of("d2")));
	CHECK_ERROR(EEXIST, link(path_of("f"), path_of("d")));
	CHECK_ERROR(ENOENT, link(path_of("none"), path_of("x")));
	CHECK_ERROR(ENOTDIR, link(path_of("f"), path_of("f/x")));
	return true;
}

static nlink_t links_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 ? 0 : st.st_nlink;
}

static ino_t ino_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 ? 0 : st.st_ino;
}

static bool rename_dirs(void)
{
	CHECK(mkdir(path_of("a"), 0755) == 0 && mkdir(path_of("b"), 0755) == 0);
	CHECK(mkdir(path_of("a/in"), 0755) == 0 && put_file(path_of("a/in/f"), 100, 1));
	CHECK(links_of(path_of("a")) == 3 && links_of(path_of("b")) == 2);
	CHECK(rename(path_of("a/in"), path_of("b/out")) == 0);
	CHECK(links_of(path_of("a")) == 2 && links_of(path_of("b")) == 3);
	CHECK(ino_of(path_of("b/out/..")) == ino_of(path_of("b")));
	CHECK(has_contents(path_of("b/out/f"), 100, 1));
	CHECK(remount());
	CHECK(ino_of(path_of("b/out/..")) == ino_of(path_of("b")));
	CHECK_ERROR(EINVAL, rename(path_of("b"), path_of("b/x")));
	CHECK_ERROR(EINVAL, rename(path_of("b"), path_of("b/out/x")));
	CHECK(rename(path_of("a"), path_of("b/out")) < 0 && (errno == ENOTEMPTY || errno == EEXIST));
	CHECK(rename(path_of("b/out/f"), path_of("f")) == 0);
	CHECK(rename(path_of("a"), path_of("b/out")) == 0 && links_of(path_of("b")) == 3);
	CHECK_ERROR(EISDIR, rename(path_of("f"), path_of("b")));
	CHECK_ERROR(ENOTDIR, rename(path_of("b"), path_of("f")));
	CHECK_ERROR(ENOENT, rename(path_of("none"), path_of("f")));
	CHECK_ERROR(ENOTDIR, rename(path_of("f"), path_of("f/x")));
	CHECK(rename(path_of("f"), path_of("f")) == 0 && has_contents(path_of("f"), 100, 1));
	return true;
}

static int exchange(const char *one, const char *other)
{
	return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

static bool rename_exchange(void)
{
	ino_t a, b, f;

	CHECK(mkdir(path_of("p"), 0755) == 0 && mkdir(path_of("q"), 0755) == 0);
	CHECK(mkdir(path_of("p/a"), 0755) == 0 && mkdir(path_of("q/b"), 0755) == 0);
	CHECK(put_file(path_of("p/a/one"), 10, 1) && put_file(path_of("q/b/two"), 20, 2) &&
	      put_file(path_of("f"), 30, 3));
	a = ino_of(path_of("p/a")), b = ino_of(path_of("q/b")), f = ino_of(path_of("f"));
	CHECK(exchange(path_of("p/a"), path_of("q/b")) == 0);
	CHECK(ino_of(path_of("p/a")) == b && ino_of(path_of("q/b")) == a);
	CHECK(has_contents(path_of("q/b/one"), 10, 1) && has_contents(path_of("p/a/two"), 20, 2));
	CHECK(ino_of(path_of("q/b/..")) == ino_of(path_of("q")));
	/* A directory and a file change places: the parents' link counts follow. */
	CHECK(exchange(path_of("p/a"), path_of("f")) == 0);
	CHECK(ino_of(path_of("f")) == b && ino_of(path_of("p/a")) == f);
	CHECK(links_of(path_of("p")) == 2 && links_of(path_of("q")) == 3);
	CHECK(remount());
	CHECK(ino_of(path_of("f")) == b && ino_of(path_of("p/a")) == f && ino_of(path_of("q/b")) == a);
	CHECK(has_contents(path_of("f/two"), 20, 2) && has_contents(path_of("p/a"), 30, 3));
	CHECK_ERROR(EINVAL, exchange(path_of("q"), path_of("q/b")));
	CHECK_ERROR(EINVAL, exchange(path_of("q/b"), path_of("q")));
	CHECK_ERROR(ENOENT, exchange(path_of("q"), path_of("none")));
	CHECK_ERROR(EEXIST, renameat2(AT_FDCWD, path_of("q"), AT_FDCWD, path_of("p"), RENAME_NOREPLACE));
	CHECK(renameat2(AT_FDCWD, path_of("q"), AT_FDCWD, path_of("r"), RENAME_NOREPLACE) == 0);
	CHECK(has_contents(path_of("r/b/one"), 10, 1));
	return true;
}

static int whiteout(const char *one, const char *other, unsigned flags)
{
	return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_WHITEOUT | flags);
}

static bool is_whiteout(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0 && st.st_nlink == 1;
}

/* What an overlay does in its upper layer. */
static bool rename_whiteout(void)
{
	ino_t dir;

	CHECK(mkdir(path_of("w"), 0755) == 0 && mkdir(path_of("w/dir"), 0755) == 0 && mkdir(path_of("to"), 0755) == 0);
	CHECK(put_file(path_of("w/f"), 10, 1) && put_file(path_of("w/g"), 20, 2));
	dir = ino_of(path_of("w/dir"));
	CHECK(whiteout(path_of("w/f"), path_of("to/f"), 0) == 0);
	CHECK(is_whiteout(path_of("w/f")) && has_contents(path_of("to/f"), 10, 1));
	CHECK_ERROR(EEXIST, whiteout(path_of("w/g"), path_of("to/f"), RENAME_NOREPLACE));
	CHECK_ERROR(EINVAL, whiteout(path_of("w/g"), path_of("to/f"), RENAME_EXCHANGE));
	CHECK(whiteout(path_of("w/g"), path_of("to/f"), 0) == 0); /* over another */
	CHECK(is_whiteout(path_of("w/g")) && has_contents(path_of("to/f"), 20, 2));
	CHECK(whiteout(path_of("w/dir"), path_of("to/dir"), RENAME_NOREPLACE) == 0);
	CHECK(links_of(path_of("w")) == 2 && links_of(path_of("to")) == 3);
	CHECK(whiteout(path_of("to/f"), path_of("to/h"), 0) == 0 &&
	      is_whiteout(path_of("to/f"))); /* in one directory */
	CHECK(remount());
	CHECK(is_whiteout(path_of("w/f")) && is_whiteout(path_of("w/dir")) && is_whiteout(path_of("to/f")));
	CHECK(ino_of(path_of("to/dir")) == dir && has_contents(path_of("to/h"), 20, 2));
	CHECK(rename(path_of("to/h"), path_of("w/f")) == 0 && has_contents(path_of("w/f"), 20, 2));
	CHECK(unlink(path_of("w/g")) == 0 && unlink(path_of("w/dir")) == 0);
	return true;
}

static bool rename_over(void)
{
	struct stat st;
	int fd;

	CHECK(put_file(path_of("old"), 9000, 1) && put_file(path_of("new"), 10, 2));
	fd = open(path_of("old"), O_RDONLY);
	CHECK(fd >= 0 && rename(path_of("new"), path_of("old")) == 0);
	CHECK(has_contents(path_of("old"), 10, 2));
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 9000);
	close(fd);
	/* Two names of one file: nothing happens. */
	CHECK(link(path_of("old"), path_of("same")) == 0 && rename(path_of("old"), path_of("same")) == 0);
	CHECK(lstat(path_of("old"), &st) == 0 && st.st_nlink == 2);
	return true;
}

static bool symlinks(void)
{
	static const int lengths[] = { 1, 15, 16, 31, 59, 60, 255, 256, 1023, 1024, 2048, 3900, 4094, 4095 };
	char target[PATH_MAX + 1], found[PATH_MAX + 1];
	struct stat st;

	memset(target, 't', sizeof(target));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		target[lengths[i]] = '\0';
		CHECK(symlink(target, path_of("%d", lengths[i])) == 0);
		target[lengths[i]] = 't';
	}
	CHECK(remount());
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		CHECK(lstat(path_of("%d", lengths[i]), &st) == 0 && st.st_size == lengths[i] &&
		      st.st_mode == (S_IFLNK | 0777));
		CHECK(readlink(path_of("%d", lengths[i]), found, sizeof(found)) == lengths[i]);
		CHECK(memcmp(found, target, (size_t)lengths[i]) == 0);
		CHECK(readlink(path_of("%d", lengths[i]), found, 1) == 1);
	}
	target[PATH_MAX] = '\0';
	CHECK_ERROR(ENAMETOOLONG, symlink(target, path_of("long")));
	CHECK_ERROR(ENOENT, symlink("", path_of("empty")));
	CHECK(symlink("loop", path_of("loop")) == 0);
	CHECK_ERROR(ELOOP, open(path_of("loop"), O_RDONLY));
	CHECK(put_file(path_of("file"), 100, 1) && symlink("file", path_of("to")) == 0);
	CHECK(has_contents(path_of("to"), 100, 1));
	CHECK_ERROR(ELOOP, open(path_of("to"), O_RDONLY | O_NOFOLLOW));
	return true;
}

const struct test name_tests[] = {
	{ "names_of_every_length", names_of_every_length },
	{ "names_too_long", names_too_long },
	{ "odd_names", odd_names },
	{ "hard_links", hard_links },
	{ "link_errors", link_errors },
	{ "rename_dirs", rename_dirs },
	{ "rename_exchange", rename_exchange },
	{ "rename_over", rename_over },
	{ "rename_whiteout", rename_whiteout },
	{ "symlinks", symlinks },
	{ 0 },
};
