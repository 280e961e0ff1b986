/* The objects' files: objects/HHH/LLL, where LLL are the low 12 bits of the number in hex and HHH the rest: what was made
 * together lies together; and objects/HHH/headers, which has the headers of all of them (headers.c). Files stay open in a
 * bounded cache, least recently used first to go. */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <coffer/util.h>

#include "internal.h"

enum { OPEN_MIN_FILES = 16, OPEN_MAX_FILES = 8192, PATH_SIZE = 32, PAGES_AT_ONCE = 1024 };

static void object_dir(uint64_t object, char out[static PATH_SIZE])
{
	snprintf(out, PATH_SIZE, "%03" PRIx64, (object & ~HEADERS_FILE) >> FOLDER_SHIFT);
}

static void object_path(uint64_t file, char out[static PATH_SIZE])
{
	if (file & HEADERS_FILE)
		snprintf(out, PATH_SIZE, "%03" PRIx64 "/" HEADERS_NAME, (file & ~HEADERS_FILE) >> FOLDER_SHIFT);
	else
		snprintf(out, PATH_SIZE, "%03" PRIx64 "/%03x", file >> FOLDER_SHIFT, (unsigned)(file % FOLDER_OBJECTS));
}

/* Half of the descriptors that the process may have: opening a file again costs more than keeping it. */
static size_t open_limit(void)
{
	struct rlimit files;
	size_t half = getrlimit(RLIMIT_NOFILE, &files) == 0 ? (size_t)files.rlim_cur / 2 : 0;

	return half < OPEN_MIN_FILES ? OPEN_MIN_FILES : half > OPEN_MAX_FILES ? OPEN_MAX_FILES : half;
}

int home_init(struct home *h, int backing_fd)
{
	struct statfs fs;

	*h = (struct home){ .backing_fd = backing_fd, .objects_fd = -1, .open_max = open_limit() };
	pthread_mutex_init(&h->lock, NULL);
	h->objects_fd = openat(backing_fd, "objects", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (h->objects_fd < 0 || fstatfs(h->objects_fd, &fs) < 0) {
		int r = -errno;

		log_error("the backing directory has no usable objects/ folder: %s", strerror(-r));
		return r;
	}
	h->order_free = fs.f_type == BTRFS_SUPER_MAGIC;
	return 0;
}

static void lru_unlink(struct home *h, struct home_file *f)
{
	*(f->prev ? &f->prev->next : &h->lru_head) = f->next;
	*(f->next ? &f->next->prev : &h->lru_tail) = f->prev;
	f->prev = f->next = NULL;
}

static void lru_push(struct home *h, struct home_file *f)
{
	f->next = h->lru_head;
	*(h->lru_head ? &h->lru_head->prev : &h->lru_tail) = f;
	h->lru_head = f;
}

static void forget_file(struct home *h, struct home_file *f)
{
	lru_unlink(h, f);
	map_remove(&h->open, f->object);
	h->open_count--;
	f->forgotten = true;
}

static void close_file(struct home_file *f)
{
	close(f->fd);
	free(f);
}

static void drop_file(struct home *h, struct home_file *f)
{
	forget_file(h, f);
	close_file(f);
}

void home_close(struct home *h)
{
	while (h->lru_head)
		drop_file(h, h->lru_head);
	map_free(&h->open);
	map_free(&h->new_names);
	if (h->objects_fd >= 0)
		close(h->objects_fd);
	h->objects_fd = -1;
	pthread_mutex_destroy(&h->lock);
}

/* What has a file's name and is none was put there by somebody else. It must not keep the volume from being written. */
static int put_aside(struct home *h, const char *path)
{
	char aside[PATH_SIZE + sizeof(".aside")];

	snprintf(aside, sizeof(aside), "%s.aside", path);
	if (renameat(h->objects_fd, path, h->objects_fd, aside) < 0)
		return -errno;
	log_error("objects/%s is not a regular file: it is objects/%s now", path, aside);
	return 0;
}

static int make_object(struct home *h, uint64_t object, const char *path)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT | O_EXCL;
	int fd = openat(h->objects_fd, path, flags, 0600);

	if (fd < 0 && errno == ENOENT) {
		char dir[PATH_SIZE];

		object_dir(object, dir);
		if (mkdirat(h->objects_fd, dir, 0700) < 0 && errno != EEXIST)
			return -errno;
		fd = openat(h->objects_fd, path, flags, 0600);
	}
	return fd < 0 ? -errno : fd;
}

static int open_regular(struct home *h, const char *path, int access)
{
	int fd = openat(h->objects_fd, path, access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0) /* a link, a directory, a socket, a FIFO or device that nobody serves */
		return errno == ELOOP || errno == EISDIR || errno == ENXIO || errno == ENODEV ? -EMEDIUMTYPE : -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return -EMEDIUMTYPE;
}

/* Opens an object's file for both directions, or for reading alone where the backing directory is read-only. */
static int open_object(struct home *h, uint64_t object, bool create, bool *made)
{
	char path[PATH_SIZE];

	object_path(object, path);
	int fd = open_regular(h, path, O_RDWR);

	if (create && fd == -EMEDIUMTYPE)
		fd = put_aside(h, path) == 0 ? -ENOENT : -EIO;
	if (create && fd == -ENOENT) {
		fd = make_object(h, object, path);
		*made = fd >= 0;
	}
	if (!create && (fd == -EROFS || fd == -EACCES))
		fd = open_regular(h, path, O_RDONLY);
	if (fd != -EMEDIUMTYPE)
		return fd;
	log_error("objects/%s is not a regular file", path);
	return -EIO;
}

static void trim(struct home *h)
{
	for (struct home_file *f = h->lru_tail; f && h->open_count > h->open_max;) {
		struct home_file *before = f->prev;

		if (!f->users)
			drop_file(h, f);
		f = before;
	}
}

/* Adds an open file to the cache; home's lock is held. Takes the descriptor in any case. */
static int add_file(struct home *h, uint64_t object, int fd, bool made, struct home_file **ret)
{
	struct home_file *f = calloc(1, sizeof(*f));

	if (!f || (made && !(object & HEADERS_FILE) && map_put(&h->new_names, object + 1, (void *)1) < 0) ||
	    map_put(&h->open, object, f) < 0) {
		free(f);
		close(fd);
		return -ENOMEM;
	}
	f->object = object;
	f->fd = fd;
	if ((object & ~HEADERS_FILE) >> FOLDER_SHIFT > h->last_folder)
		h->last_folder = (object & ~HEADERS_FILE) >> FOLDER_SHIFT;
	h->open_count++;
	*ret = f;
	return 0;
}

static struct home_file *take_open(struct home *h, uint64_t object)
{
	struct home_file *f = map_get(&h->open, object);

	if (f)
		lru_unlink(h, f);
	return f;
}

/* Opens a file that is not in the cache, and adds it. Opening waits for the disk, so it is done without the lock, which is held
 * before and after; what others did meanwhile counts. Making a file is done under it. */
static int open_and_add(struct home *h, uint64_t object, bool create, struct home_file **ret)
{
	uint64_t removals = h->removals;
	bool made = false;
	struct stat st;

	pthread_mutex_unlock(&h->lock);
	int fd = open_object(h, object, false, &made);

	pthread_mutex_lock(&h->lock);
	*ret = take_open(h, object);
	if (*ret) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	if (fd >= 0 && h->removals != removals && fstat(fd, &st) == 0 && st.st_nlink == 0) {
		close(fd); /* it was removed meanwhile */
		fd = -ENOENT;
	}
	if ((fd == -ENOENT || fd == -EIO) && create)
		fd = open_object(h, object, true, &made);
	return fd < 0 ? fd : add_file(h, object, fd, made, ret);
}

int home_get(struct home *h, uint64_t object, bool create, struct home_file **ret)
{
	LOCK_SCOPE(&h->lock);
	struct home_file *f = take_open(h, object);
	int r = f ? 0 : open_and_add(h, object, create, &f);

	if (r < 0)
		return r;
	lru_push(h, f);
	f->users++;
	trim(h);
	*ret = f;
	return 0;
}

void home_put(struct home *h, struct home_file *f)
{
	pthread_mutex_lock(&h->lock);
	bool last = --f->users == 0 && f->forgotten;

	pthread_mutex_unlock(&h->lock);
	if (last)
		close_file(f);
}

int home_read(struct home *h, uint64_t object, uint64_t page, unsigned count, uint8_t *buf)
{
	struct home_file *f;
	size_t len = (size_t)count * BLOCK_SIZE, got = 0;
	int r = home_get(h, object, false, &f);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0) {
		r = pread_all(f->fd, buf, len, (off_t)(page * BLOCK_SIZE), &got);
		home_put(h, f);
		if (r < 0)
			return r;
	}
	memset(buf + got, 0, len - got);
	return 0;
}

void home_prefetch(struct home *h, uint64_t object, uint64_t page, unsigned count)
{
	struct home_file *f;

	if (home_get(h, object, false, &f) < 0)
		return; /* not home yet, or an error that reading will meet */
	(void)posix_fadvise(f->fd, (off_t)(page * BLOCK_SIZE), (off_t)count * BLOCK_SIZE, POSIX_FADV_WILLNEED);
	home_put(h, f);
}

bool home_file_exists(struct home *h, uint64_t object)
{
	char path[PATH_SIZE];
	struct stat st;

	object_path(object, path);
	return fstatat(h->objects_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int home_remove(struct home *h, uint64_t object)
{
	char path[PATH_SIZE];

	object_path(object, path);
	if (unlinkat(h->objects_fd, path, 0) < 0 && errno != ENOENT && errno != EISDIR) /* a folder there is not ours */
		return -errno;
	pthread_mutex_lock(&h->lock);
	struct home_file *f = map_get(&h->open, object);
	bool idle = f && !f->users;

	h->removals++;
	if (f)
		forget_file(h, f);
	pthread_mutex_unlock(&h->lock);
	/* A reader that still holds it finishes on the unlinked file, and then its space goes too. The last close may take its time. */
	if (idle)
		close_file(f);
	return 0;
}

int home_release(struct home *h, uint64_t object, uint64_t page, uint64_t count)
{
	struct home_file *f;
	int r = home_get(h, object, false, &f);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (count == UINT64_MAX) {
		struct stat st;

		/* Never grows the file: a hole at its end needs no size. Where it is shorter, something may be allocated behind. */
		if (fstat(f->fd, &st) < 0 ||
		    ftruncate(f->fd,
			      (uint64_t)st.st_size > page * BLOCK_SIZE ? (off_t)(page * BLOCK_SIZE) : st.st_size) < 0)
			r = -errno;
	} else if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * BLOCK_SIZE),
			     (off_t)(count * BLOCK_SIZE)) < 0 &&
		   errno != EOPNOTSUPP) {
		r = -errno; /* without support the space is lost until the file goes, which harms nobody */
	}
	home_put(h, f);
	return r;
}

bool home_name_is_new(struct home *h, uint64_t object)
{
	LOCK_SCOPE(&h->lock);
	return map_get(&h->new_names, object + 1);
}

void home_name_synced(struct home *h, uint64_t object)
{
	LOCK_SCOPE(&h->lock);
	map_remove(&h->new_names, object + 1);
}

int home_sync_name(struct home *h, uint64_t object)
{
	char dir[PATH_SIZE];

	if (h->order_free)
		return syncfs(h->objects_fd) < 0 ? -errno : 0;
	object_dir(object, dir);
	AUTO_CLOSE int fd = openat(h->objects_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 || fsync(h->objects_fd) < 0 ? -errno : 0;
}

/* Marks the objects of a folder that have a file of their own. */
static int mark_files(int folder_fd, const char *high, bool marks[static FOLDER_OBJECTS])
{
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return r;
	}
	while ((errno = 0, e = readdir(dir))) {
		char *end, path[PATH_SIZE], want[sizeof(e->d_name) * 2];
		uint64_t low = strtoull(e->d_name, &end, 16);

		if (e->d_name[0] == '.' || low >= FOLDER_OBJECTS || (e->d_type != DT_REG && e->d_type != DT_UNKNOWN))
			continue;
		object_path(strtoull(high, NULL, 16) << FOLDER_SHIFT | low, path);
		snprintf(want, sizeof(want), "%s/%s", high, e->d_name);
		marks[low] = marks[low] || !strcmp(path, want);
	}
	closedir(dir);
	return 0;
}

void home_drop_folder(struct home *h, uint64_t object)
{
	char path[PATH_SIZE];
	LOCK_SCOPE(&h->lock); /* under which folders are made */
	struct home_file *f = map_get(&h->open, headers_file(object));

	if (object >> FOLDER_SHIFT >= h->last_folder || (f && f->users))
		return;
	if (f)
		drop_file(h, f);
	object_path(headers_file(object), path);
	if (unlinkat(h->objects_fd, path, 0) < 0)
		return;
	h->removals++;
	object_dir(object, path);
	(void)unlinkat(h->objects_fd, path,
		       AT_REMOVEDIR); /* not where there are files, which then get headers again, or go */
}

static int each_in_folder(struct home *h, const char *high, uint64_t first, uint64_t end,
			  int (*call)(void *arg, uint64_t object), void *arg)
{
	AUTO_FREE bool *marks = calloc(FOLDER_OBJECTS, sizeof(*marks));
	AUTO_CLOSE int fd = openat(h->objects_fd, high, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t base = strtoull(high, NULL, 16) << FOLDER_SHIFT;

	if (fd < 0 || !marks)
		return marks ? 0 : -ENOMEM; /* not a folder of ours */
	int r = mark_files(fd, high, marks);

	if (r == 0)
		r = headers_mark(h, base, marks);
	for (uint64_t i = 0; r == 0 && i < FOLDER_OBJECTS; i++)
		if (marks[i] && base + i >= first && base + i < end)
			r = call(arg, base + i);
	return r;
}

int home_each(struct home *h, uint64_t first, uint64_t end, int (*call)(void *arg, uint64_t object), void *arg)
{
	int top = openat(h->objects_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = top < 0 ? NULL : fdopendir(top);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (errno = 0, e = readdir(dir))) {
		uint64_t high = strtoull(e->d_name, NULL, 16);
		char path[PATH_SIZE];

		object_dir(high << FOLDER_SHIFT, path);
		if (!strcmp(path, e->d_name) && high >= first >> FOLDER_SHIFT && high <= end >> FOLDER_SHIFT)
			r = each_in_folder(h, e->d_name, first, end, call, arg);
	}
	closedir(dir);
	return r;
}

/* The largest file that the backing file system takes, found by trying. */
uint64_t home_max_pages(struct home *h)
{
	AUTO_CLOSE int fd = openat(h->objects_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	uint64_t low = 0, high = (uint64_t)INT64_MAX / BLOCK_SIZE;

	if (fd < 0) /* read-only, or no O_TMPFILE: writes will say EFBIG themselves */
		return high;
	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;

		if (ftruncate(fd, (off_t)(middle * BLOCK_SIZE)) == 0)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}
