/* Whole files: reading, replacing, directories. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "coffer/util.h"

int read_file_at(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len)
{
	AUTO_CLOSE int fd = -1;
	AUTO_FREE char *text = NULL;
	size_t len;
	int r;

	if (max > SIZE_MAX - 2)
		return -EINVAL;
	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
	if (fd < 0)
		return -errno;
	text = malloc(max + 2); /* one byte more than may be there, and the NUL */
	if (!text)
		return -ENOMEM;
	r = read_all(fd, text, max + 1, &len);
	if (r < 0)
		return r;
	if (len > max)
		return -EFBIG;
	text[len] = '\0';
	*ret_text = text;
	*ret_len = len;
	text = NULL;
	return 0;
}

/* Opens the directory that holds `path`; *ret_base is the last component, within `path`. */
static int open_parent(int dirfd, const char *path, const char **ret_base)
{
	char dir[PATH_MAX] = ".";
	const char *slash = strrchr(path, '/');
	int fd;

	if (slash && (size_t)(slash - path) + 2 > sizeof(dir))
		return -ENAMETOOLONG;
	if (slash) {
		size_t len = slash == path ? 1 : (size_t)(slash - path);
		memcpy(dir, path, len);
		dir[len] = '\0';
	}
	fd = openat(dirfd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*ret_base = slash ? slash + 1 : path;
	return fd;
}

static int write_new_file(int dir, const char *name, mode_t mode, const void *data, size_t len)
{
	AUTO_CLOSE int fd = -1;
	int r;

	/* What a killed process left there is worthless; O_EXCL then refuses whatever appears in between. */
	if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir, name, 0);
	return r;
}

int replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len)
{
	AUTO_CLOSE int dir = -1;
	char temporary[NAME_MAX + 1];
	const char *base;
	int n, r;

	dir = open_parent(dirfd, name, &base);
	if (dir < 0)
		return dir;
	n = snprintf(temporary, sizeof(temporary), "%s.new", base);
	if (n < 0 || (size_t)n >= sizeof(temporary))
		return -ENAMETOOLONG;
	r = write_new_file(dir, temporary, mode, data, len);
	if (r < 0)
		return r;
	if (renameat(dir, temporary, dir, base) < 0) {
		r = -errno;
		unlinkat(dir, temporary, 0);
		return r;
	}
	return fsync(dir) < 0 ? -errno : 0;
}

static int make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int make_dirs(const char *path, mode_t mode)
{
	AUTO_FREE char *part = strdup(path);

	if (!part)
		return -ENOMEM;
	for (char *p = part + 1; *part && *p; p++) {
		int r;
		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		r = make_dir(part, mode);
		if (r < 0)
			return r;
		*p = '/';
	}
	return make_dir(path, mode);
}
