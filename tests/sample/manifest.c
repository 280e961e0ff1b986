/*
 * manifest DIR: prints all that a tree is, a line for each name in order of names: kind, mode, owner, links, device, size, times of
 * change, target, extended attributes, and for each piece of data between holes its place and SHA-256.
 *
 * Times of access and of status changes are left out, and directories' sizes; times of directories and links are there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <coffer/crypto.h>
#include <coffer/util.h>

static void die(const char *path)
{
	fprintf(stderr, "manifest: %s: %s\n", path, strerror(errno));
	exit(1);
}

static void print_escaped(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c <= ' ' || c >= 0x7f || c == '\\')
			printf("\\%03o", c);
		else
			putchar(c);
	}
}

static void print_hash(const void *data, size_t len)
{
	uint8_t hash[32];
	char hex[65];

	if (sha256(data, len, hash) < 0)
		die("hash");
	hex_encode(hash, sizeof(hash), hex);
	printf("%s", hex);
}

static void print_piece(int fd, const char *path, off_t at, off_t end)
{
	AUTO_FREE uint8_t *data = malloc((size_t)(end - at));

	if (!data || pread_all(fd, data, (size_t)(end - at), at, NULL) < 0)
		die(path);
	printf(" %lld+%lld:", (long long)at, (long long)(end - at));
	print_hash(data, (size_t)(end - at));
}

static void print_data(const char *path, off_t size)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOATIME);
	off_t at = 0;

	if (fd < 0)
		die(path);
	while (at < size && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(fd, at, SEEK_HOLE);

		if (end < 0)
			die(path);
		print_piece(fd, path, at, end);
		at = end;
	}
	if (at < 0 && errno != ENXIO)
		die(path);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_xattrs(const char *path)
{
	char names[65536], *list[256];
	static char value[65536];
	ssize_t len = llistxattr(path, names, sizeof(names));
	size_t count = 0;

	if (len < 0)
		die(path);
	for (ssize_t at = 0; at < len && count < 256; at += (ssize_t)strlen(names + at) + 1)
		if (strncmp(names + at, "security.selinux", 16) != 0)
			list[count++] = names + at;
	qsort(list, count, sizeof(*list), by_name);
	for (size_t i = 0; i < count; i++) {
		len = lgetxattr(path, list[i], value, sizeof(value));
		if (len < 0)
			die(path);
		printf(" %s=%zd:", list[i], len);
		print_hash(value, (size_t)len);
	}
}

static void print_object(const char *path, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t len;

	print_escaped(name, strlen(name));
	printf(" %o %u:%u links=%u", st->st_mode, st->st_uid, st->st_gid, (unsigned)st->st_nlink);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		printf(" device=%u:%u", major(st->st_rdev), minor(st->st_rdev));
	if (!S_ISDIR(st->st_mode))
		printf(" size=%lld", (long long)st->st_size);
	printf(" mtime=%lld.%09ld", (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	if (S_ISLNK(st->st_mode)) {
		len = readlink(path, target, sizeof(target));
		if (len < 0)
			die(path);
		printf(" target=");
		print_escaped(target, (size_t)len);
	}
	print_xattrs(path);
	if (S_ISREG(st->st_mode))
		print_data(path, st->st_size);
	putchar('\n');
}

/* `name` is the path below the tree's top. */
static void walk(const char *path, const char *name)
{
	struct dirent **entries;
	struct stat st;

	if (lstat(path, &st) < 0)
		die(path);
	print_object(path, name, &st);
	if (!S_ISDIR(st.st_mode))
		return;
	int n = scandir(path, &entries, NULL, NULL);
	AUTO_FREE char **names = n < 0 ? NULL : calloc((size_t)n + 1, sizeof(*names));

	if (!names)
		die(path);
	for (int i = 0; i < n; i++)
		names[i] = entries[i]->d_name;
	qsort(names, (size_t)n, sizeof(*names), by_name);
	for (int i = 0; i < n; i++) {
		AUTO_FREE char *below = NULL, *below_name = NULL;

		if (!strcmp(names[i], ".") || !strcmp(names[i], ".."))
			continue;
		if (asprintf(&below, "%s/%s", path, names[i]) < 0 || asprintf(&below_name, "%s/%s", name, names[i]) < 0)
			die(path);
		walk(below, below_name);
	}
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: manifest DIR\n");
		return 2;
	}
	if (crypto_start() < 0)
		die("cryptography");
	walk(argv[1], ".");
	return 0;
}
