/*
 * Power-cut test, the recorder: a library to preload. It does what it is asked, and appends each change of the file system
 * that POWERCUT_ROOT lies on to the trace POWERCUT_TRACE. System calls are made directly.
 */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "powercut.h"

#define EXPORT __attribute__((visibility("default")))

static struct shared *shared;
static dev_t device;
static int trace = -1;
static uint64_t nameless; /* the file that O_TMPFILE made last: no cut leaves it */

static void give_up(const char *what)
{
	char text[200];
	int n = snprintf(text, sizeof(text), "powercut recorder: %s: %s\n", what, strerror(errno));

	syscall(SYS_write, 2, text, (size_t)n);
	abort();
}

__attribute__((constructor)) static void start(void)
{
	const char *root = getenv("POWERCUT_ROOT"), *path = getenv("POWERCUT_TRACE"), *map = getenv("POWERCUT_SHARED");
	struct stat st;

	if (!root || !map)
		return;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, map, O_RDWR | O_CLOEXEC);

	shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED || stat(root, &st) < 0)
		give_up("starting");
	syscall(SYS_close, fd);
	device = st.st_dev;
	if (path) {
		fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
		/* Out of the way of what closes low descriptors. */
		trace = fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 500);
		if (trace < 0)
			give_up("opening the trace");
		syscall(SYS_close, fd);
	}
}

static int lock_up(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if (pthread_mutex_lock(&shared->lock) != 0)
		give_up("the lock");
	return state;
}

static void lock_down(int state)
{
	int error = errno;

	pthread_mutex_unlock(&shared->lock);
	pthread_setcancelstate(state, NULL);
	errno = error;
}

static void append(struct trace_record r, const void *name, const struct iovec *data, int count)
{
	struct iovec out[1100] = { { &r, sizeof(r) }, { (void *)(uintptr_t)name, r.name_len } };
	size_t total = sizeof(r) + r.name_len;
	int n = 2, error = errno;

	for (int i = 0; i < count; i++) {
		if (n == 1100 || data[i].iov_len > UINT32_MAX - r.data_len)
			give_up("too large a write");
		out[n++] = data[i];
		r.data_len += (uint32_t)data[i].iov_len;
		total += data[i].iov_len;
	}
	r.magic = TRACE_MAGIC;
	if ((size_t)syscall(SYS_writev, trace, out, n) != total)
		give_up("appending to the trace");
	errno = error;
}

static void append_named(uint32_t kind, uint64_t dir, uint64_t ino, const char *name)
{
	append((struct trace_record){ .kind = kind, .a = dir, .b = ino, .name_len = (uint32_t)strlen(name) }, name,
	       NULL, 0);
}

/* A file of ours, by descriptor: its inode, else 0. */
static uint64_t inode_of(int fd)
{
	struct stat st;

	if (trace < 0)
		return 0;
	int error = errno;
	bool ours = fstat(fd, &st) == 0 && st.st_dev == device && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) &&
		    st.st_ino != nameless;

	errno = error;
	return ours ? st.st_ino : 0;
}

static uint64_t inode_at(int dir, const char *path)
{
	struct stat st;
	int error = errno;
	bool ours = fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == device;

	errno = error;
	return ours ? st.st_ino : 0;
}

/* The directory that holds `path`, if it is ours, and the last component. */
static uint64_t parent_of(int dir, const char *path, const char **name)
{
	char copy[4096];
	const char *slash = strrchr(path, '/');

	*name = slash ? slash + 1 : path;
	if (trace < 0)
		return 0;
	if (!slash)
		return inode_at(dir, ".") ? inode_at(dir, ".") : 0;
	snprintf(copy, sizeof(copy), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	return inode_at(dir, copy);
}

/* ---- names ---- */
static int do_open(int dir, const char *path, int flags, mode_t mode)
{
	const char *name;
	uint64_t parent = 0, before = 0;
	bool temporary = (flags & O_TMPFILE) == O_TMPFILE;

	if (temporary || !(flags & (O_CREAT | O_TRUNC)) || !(parent = parent_of(dir, path, &name))) {
		int fd = (int)syscall(SYS_openat, dir, path, flags, mode);

		if (temporary && fd >= 0)
			nameless = inode_of(fd);
		return fd;
	}
	int state = lock_up();

	before = inode_at(dir, path);
	int fd = (int)syscall(SYS_openat, dir, path, flags, mode);

	if (fd >= 0 && !before)
		append_named(TRACE_CREATE, parent, inode_of(fd), name);
	if (fd >= 0 && before && (flags & O_TRUNC))
		append((struct trace_record){ .kind = TRACE_TRUNCATE, .a = before }, NULL, NULL, 0);
	lock_down(state);
	return fd;
}

#define OPEN_MODE(flags, last)                                                             \
	({                                                                                 \
		va_list list;                                                              \
		va_start(list, last);                                                      \
		mode_t mode_ = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
		va_end(list);                                                              \
		mode_;                                                                     \
	})

#define DEFINE_OPEN(name)                                                       \
	EXPORT int name(const char *path, int flags, ...)                       \
	{                                                                       \
		return do_open(AT_FDCWD, path, flags, OPEN_MODE(flags, flags)); \
	}
#define DEFINE_OPENAT(name)                                                \
	EXPORT int name(int dir, const char *path, int flags, ...)         \
	{                                                                  \
		return do_open(dir, path, flags, OPEN_MODE(flags, flags)); \
	}
int __open_2(const char *path, int flags, ...);
int __open64_2(const char *path, int flags, ...);
int __openat_2(int dir, const char *path, int flags, ...);
int __openat64_2(int dir, const char *path, int flags, ...);
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPEN(__open_2)
DEFINE_OPEN(__open64_2)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
DEFINE_OPENAT(__openat_2)
DEFINE_OPENAT(__openat64_2)

EXPORT int mkdirat(int dir, const char *path, mode_t mode)
{
	const char *name;
	uint64_t parent = parent_of(dir, path, &name);

	if (!parent)
		return (int)syscall(SYS_mkdirat, dir, path, mode);
	int state = lock_up(), r = (int)syscall(SYS_mkdirat, dir, path, mode);

	if (r == 0)
		append_named(TRACE_MKDIR, parent, inode_at(dir, path), name);
	lock_down(state);
	return r;
}
EXPORT int mkdir(const char *path, mode_t mode)
{
	return mkdirat(AT_FDCWD, path, mode);
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
	const char *name;
	uint64_t parent = parent_of(dir, path, &name);

	if (!parent)
		return (int)syscall(SYS_unlinkat, dir, path, flags);
	int state = lock_up(), r = (int)syscall(SYS_unlinkat, dir, path, flags);

	if (r == 0)
		append_named(TRACE_UNLINK, parent, 0, name);
	lock_down(state);
	return r;
}
EXPORT int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}
EXPORT int rmdir(const char *path)
{
	return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int renameat2(int dir, const char *path, int dir2, const char *path2, unsigned flags)
{
	const char *name, *name2;
	char both[600];
	uint64_t parent = parent_of(dir, path, &name), parent2 = parent_of(dir2, path2, &name2);

	if (!parent && !parent2)
		return (int)syscall(SYS_renameat2, dir, path, dir2, path2, flags);
	int state = lock_up();
	uint64_t ino = inode_at(dir, path);
	int r = (int)syscall(SYS_renameat2, dir, path, dir2, path2, flags);

	if (r == 0 && (flags || strlen(name) + strlen(name2) + 2 > sizeof(both)))
		append_named(TRACE_UNKNOWN, 0, 0, "renameat2");
	else if (r == 0) {
		struct trace_record rec = { .kind = TRACE_RENAME, .a = parent, .b = parent2, .c = ino };

		rec.name_len = (uint32_t)(strlen(name) + strlen(name2) + 1);
		snprintf(both, sizeof(both), "%s", name);
		snprintf(both + strlen(name) + 1, sizeof(both) - strlen(name) - 1, "%s", name2);
		append(rec, both, NULL, 0);
	}
	lock_down(state);
	return r;
}
EXPORT int renameat(int dir, const char *path, int dir2, const char *path2)
{
	return renameat2(dir, path, dir2, path2, 0);
}
EXPORT int rename(const char *path, const char *path2)
{
	return renameat2(AT_FDCWD, path, AT_FDCWD, path2, 0);
}
EXPORT int linkat(int dir, const char *path, int dir2, const char *path2, int flags)
{
	const char *name;
	struct stat st;

	/* Sockets do not outlive a cut, whatever their names. */
	if (parent_of(dir2, path2, &name) &&
	    (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISSOCK(st.st_mode)))
		append_named(TRACE_UNKNOWN, 0, 0, "linkat");
	return (int)syscall(SYS_linkat, dir, path, dir2, path2, flags);
}

/* ---- contents ---- */
/* The record stands before the change: a writer that is killed meanwhile left either. */
static ssize_t do_write(int fd, const struct iovec *data, int count, off_t off)
{
	uint64_t ino = inode_of(fd);
	size_t total = 0;

	if (!ino)
		return off < 0 ? syscall(SYS_writev, fd, data, count) : syscall(SYS_pwritev, fd, data, count, off, 0);
	int state = lock_up();

	for (int i = 0; i < count; i++)
		total += data[i].iov_len;
	uint64_t at = (uint64_t)(off < 0 ? lseek(fd, 0, SEEK_CUR) : off);

	append((struct trace_record){ .kind = TRACE_WRITE, .a = ino, .b = at }, NULL, data, count);
	ssize_t n = off < 0 ? syscall(SYS_writev, fd, data, count) : syscall(SYS_pwritev, fd, data, count, off, 0);

	if (n != (ssize_t)total)
		append_named(TRACE_UNKNOWN, 0, 0, "a short or failed write");
	lock_down(state);
	return n;
}
EXPORT ssize_t write(int fd, const void *data, size_t len)
{
	struct iovec one = { (void *)(uintptr_t)data, len };

	return trace < 0 ? syscall(SYS_write, fd, data, len) : do_write(fd, &one, 1, -1);
}
EXPORT ssize_t writev(int fd, const struct iovec *data, int count)
{
	return do_write(fd, data, count, -1);
}
EXPORT ssize_t pwrite(int fd, const void *data, size_t len, off_t off)
{
	struct iovec one = { (void *)(uintptr_t)data, len };

	return do_write(fd, &one, 1, off);
}
EXPORT ssize_t pwrite64(int fd, const void *data, size_t len, off64_t off)
{
	return pwrite(fd, data, len, off);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *data, int count, off_t off)
{
	return do_write(fd, data, count, off);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t off)
{
	return do_write(fd, data, count, off);
}

EXPORT int ftruncate(int fd, off_t size)
{
	uint64_t ino = inode_of(fd);

	if (!ino)
		return (int)syscall(SYS_ftruncate, fd, size);
	int state = lock_up(), r = (int)syscall(SYS_ftruncate, fd, size);

	if (r == 0)
		append((struct trace_record){ .kind = TRACE_TRUNCATE, .a = ino, .b = (uint64_t)size }, NULL, NULL, 0);
	lock_down(state);
	return r;
}
EXPORT int ftruncate64(int fd, off64_t size)
{
	return ftruncate(fd, size);
}

EXPORT int fallocate(int fd, int mode, off_t off, off_t len)
{
	uint64_t ino = inode_of(fd);

	if (!ino)
		return (int)syscall(SYS_fallocate, fd, mode, off, len);
	int state = lock_up(), r = (int)syscall(SYS_fallocate, fd, mode, off, len);
	struct trace_record rec = {
		.kind = mode & FALLOC_FL_PUNCH_HOLE ? TRACE_PUNCH : TRACE_ALLOCATE,
		.a = ino,
		.b = (uint64_t)off,
		.c = (uint64_t)len,
		.d = !(mode & FALLOC_FL_KEEP_SIZE),
	};

	if (r == 0 && mode & ~(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		append_named(TRACE_UNKNOWN, 0, 0, "fallocate");
	else if (r == 0)
		append(rec, NULL, NULL, 0);
	lock_down(state);
	return r;
}
EXPORT int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
	return fallocate(fd, mode, off, len);
}

/* ---- syncs: only one that ended counts, for what had been recorded when it began. The file system under the test keeps all
 * in memory, so there is nothing to sync in truth; instead it takes a while, so that others come in between. ---- */
static int do_sync(int fd, bool whole, long call)
{
	uint64_t ino = inode_of(fd);
	struct timespec pause = { 0 };

	if (!ino)
		return (int)syscall(call, fd);
	int state = lock_up();
	uint64_t number = ++shared->syncs;

	append((struct trace_record){ .kind = TRACE_SYNC, .a = number, .b = ino, .c = whole }, NULL, NULL, 0);
	lock_down(state);
	if (shared->delay_us) {
		uint64_t random = number * 0x9e3779b97f4a7c15U;

		random ^= random >> 29;
		/* Most take a moment, some long. */
		pause.tv_nsec = (long)(random % shared->delay_us) * (random >> 40 & 7 ? 1000 : 8000);
		nanosleep(&pause, NULL);
	}
	state = lock_up();
	append((struct trace_record){ .kind = TRACE_SYNCED, .a = number }, NULL, NULL, 0);
	lock_down(state);
	return 0;
}
EXPORT int fsync(int fd)
{
	return do_sync(fd, false, SYS_fsync);
}
EXPORT int fdatasync(int fd)
{
	return do_sync(fd, false, SYS_fdatasync);
}
EXPORT int syncfs(int fd)
{
	return do_sync(fd, true, SYS_syncfs);
}

/* ---- what the file system says of itself ---- */
EXPORT int fstatfs64(int fd, struct statfs64 *ret)
{
	struct stat st;
	int r = (int)syscall(SYS_fstatfs, fd, ret);

	if (r == 0 && shared && shared->btrfs && fstat(fd, &st) == 0 && st.st_dev == device)
		ret->f_type = BTRFS_SUPER_MAGIC;
	return r;
}
EXPORT int fstatfs(int fd, struct statfs *ret)
{
	return fstatfs64(fd, (struct statfs64 *)ret);
}
EXPORT int fstatvfs64(int fd, struct statvfs64 *ret)
{
	struct statfs64 fs;
	struct stat st;
	int r = fstatfs64(fd, &fs);

	if (r < 0)
		return r;
	*ret = (struct statvfs64){
		.f_bsize = (unsigned long)fs.f_bsize,
		.f_frsize = (unsigned long)fs.f_frsize,
		.f_blocks = fs.f_blocks,
		.f_bfree = fs.f_bfree,
		.f_bavail = fs.f_bavail,
		.f_files = fs.f_files,
		.f_ffree = fs.f_ffree,
		.f_favail = fs.f_ffree,
		.f_namemax = (unsigned long)fs.f_namelen,
	};
	if (shared && shared->free_bytes && fstat(fd, &st) == 0 && st.st_dev == device)
		ret->f_bfree = ret->f_bavail = shared->free_bytes / ret->f_frsize;
	return 0;
}
EXPORT int fstatvfs(int fd, struct statvfs *ret)
{
	return fstatvfs64(fd, (struct statvfs64 *)ret);
}
