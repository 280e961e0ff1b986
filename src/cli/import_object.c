/* One object of an import, but a directory: whether it is there already, and if not, its copy. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "commands.h"
#include "import.h"

enum { TRIES = 3 /* of a file that changes while it is copied */ };

struct import_link {
	uint32_t major, minor, left; /* names not yet seen */
	char *name;                  /* of the first in the copy, from its root */
	struct import_link *next;
};

/* ---- files with several names ---- */

static struct import_link *find_link(struct import *i, const struct statx *st)
{
	struct import_link *l = map_get(&i->links, st->stx_ino);

	while (l && (l->major != st->stx_dev_major || l->minor != st->stx_dev_minor))
		l = l->next;
	return l;
}

static void forget_link(struct import *i, uint64_t ino, struct import_link *l)
{
	struct import_link *first = map_get(&i->links, ino), **at = &first;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	if (!first)
		map_remove(&i->links, ino);
	else
		(void)map_put(&i->links, ino, first); /* replaces */
	free(l->name);
	free(l);
}

/* Without memory, or a path, the next name gets a copy of its own. */
static void note_link(struct import *i, const struct statx *st)
{
	struct import_link *l = find_link(i, st);

	if (st->stx_nlink < 2 || i->path_len == i->root_len || i->path_len >= sizeof(i->path))
		return;
	if (l) {
		if (--l->left == 0)
			forget_link(i, st->stx_ino, l);
		return;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return;
	*l = (struct import_link){ .major = st->stx_dev_major,
				   .minor = st->stx_dev_minor,
				   .left = st->stx_nlink - 1,
				   .name = strdup(i->path + i->root_len + 1),
				   .next = map_get(&i->links, st->stx_ino) };
	if (!l->name || map_put(&i->links, st->stx_ino, l) < 0) {
		free(l->name);
		free(l);
	}
}

void import_free_links(struct import *i)
{
	size_t pos = 0;

	for (struct import_link *l, *next; (l = map_next(&i->links, &pos, NULL));) {
		for (; l; l = next) {
			next = l->next;
			free(l->name);
			free(l);
		}
	}
	map_free(&i->links);
}

/* ---- what is there already ---- */

enum present { ABSENT, DONE, OLDER, DIFFERENT };

static bool same_target(int from, int to, const char *name)
{
	char a[PATH_MAX], b[PATH_MAX];
	ssize_t n = readlinkat(from, name, a, sizeof(a)), m = readlinkat(to, name, b, sizeof(b));

	return n >= 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

static int later(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec != b->tv_sec     ? (a->tv_sec > b->tv_sec ? 1 : -1)
	       : a->tv_nsec != b->tv_nsec ? (a->tv_nsec > b->tv_nsec ? 1 : -1)
					  : 0;
}

static enum present look(int from, int to, const char *name, const struct statx *st, struct statx *ret)
{
	if (statx(to, name, AT_SYMLINK_NOFOLLOW, IMPORT_STATX, ret) < 0)
		return ABSENT; /* or an error that making it meets */
	if ((ret->stx_mode & S_IFMT) != (st->stx_mode & S_IFMT))
		return DIFFERENT;
	switch (st->stx_mode & S_IFMT) {
	case S_IFDIR:
		return DONE;
	case S_IFREG:
		if (ret->stx_size == st->stx_size && import_same_time(&ret->stx_mtime, &st->stx_mtime))
			return DONE;
		break;
	case S_IFLNK:
		if (same_target(from, to, name))
			return DONE;
		break;
	default:
		if (ret->stx_rdev_major == st->stx_rdev_major && ret->stx_rdev_minor == st->stx_rdev_minor)
			return DONE;
	}
	return later(&st->stx_mtime, &ret->stx_mtime) > 0 ? OLDER : DIFFERENT;
}

/* ---- one object ---- */

int import_open_source(int dir, const char *name, const struct statx *st)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	int fd = openat(dir, name, flags | O_NOATIME);
	struct statx now;

	if (fd < 0 && errno == EPERM) /* who does not own it may not keep its time of access */
		fd = openat(dir, name, flags);
	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH, IMPORT_STATX, &now) == 0 && now.stx_ino == st->stx_ino &&
	    (now.stx_mode & S_IFMT) == (st->stx_mode & S_IFMT))
		return fd;
	close(fd);
	return -ESTALE; /* another one has its name by now */
}

/* Gives a finished file its name, in place of an older one. */
static int put_name(int fd, int to, const char *name, bool replace)
{
	struct node n;

	node_of_file(&n, fd);
	if (replace && unlinkat(to, name, 0) < 0)
		return -errno;
	return linkat(AT_FDCWD, n.path, to, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* 0; 1: listed; 2: it changed meanwhile. */
static int try_file(struct import *i, int from, int to, const char *name, struct statx *st, bool replace)
{
	AUTO_CLOSE int source = import_open_source(from, name, st), copy = -1;
	struct node a, b;
	int r;

	if (source < 0) {
		import_not_taken(i, NULL, source);
		return 1;
	}
	copy = openat(to, ".", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (copy < 0) {
		import_failed(i, NULL, -errno);
		return 1;
	}
	if (statx(source, "", AT_EMPTY_PATH, IMPORT_STATX, st) < 0)
		return 2;
	r = import_content(i, source, st, copy);
	if (r)
		return r;
	node_of_file(&a, source);
	node_of_file(&b, copy);
	import_attributes(i, &a, st, &b);
	r = i->stop == EXIT_DONE ? put_name(copy, to, name, replace) : 0;
	if (r < 0)
		import_failed(i, NULL, r);
	return r < 0 || i->stop != EXIT_DONE;
}

static bool copy_file(struct import *i, int from, int to, const char *name, struct statx *st, bool replace)
{
	int r = 2;

	for (int tries = 0; r == 2 && tries < TRIES; tries++)
		r = try_file(i, from, to, name, st, replace);
	if (r == 2)
		import_say_not_taken(i, "it is being changed");
	return r == 0;
}

static int make_other(int from, int to, const char *name, const struct statx *st)
{
	char target[PATH_MAX];
	ssize_t len;

	if (!S_ISLNK(st->stx_mode))
		return mknodat(to, name, (st->stx_mode & S_IFMT) | 0600,
			       makedev(st->stx_rdev_major, st->stx_rdev_minor)) < 0
			       ? -errno
			       : 0;
	len = readlinkat(from, name, target, sizeof(target) - 1);
	if (len < 0)
		return -errno;
	target[len] = 0;
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

/* Links and special files. Half of one, without its attributes, may be left: they are set again the next time. */
static bool copy_other(struct import *i, int from, int to, const char *name, const struct statx *st, bool replace)
{
	struct node a, b;
	int r = replace && unlinkat(to, name, 0) < 0 ? -errno : make_other(from, to, name, st);

	if (r < 0) {
		import_failed(i, NULL, r);
		return false;
	}
	node_of_name(&a, from, name);
	node_of_name(&b, to, name);
	import_attributes(i, &a, st, &b);
	return true;
}

/* Another name of something that is in the copy. False: it must be copied. */
static bool copy_link(struct import *i, int to, const char *name, const struct import_link *l, const struct statx *have,
		      enum present p, bool *ret_made)
{
	struct statx first;

	if (statx(i->root, l->name, AT_SYMLINK_NOFOLLOW, IMPORT_STATX, &first) < 0)
		return false;
	*ret_made = p == ABSENT || first.stx_ino != have->stx_ino;
	if (!*ret_made)
		return true;
	if (p != ABSENT && unlinkat(to, name, 0) < 0)
		return false;
	return linkat(i->root, l->name, to, name, 0) == 0;
}

bool import_same_attributes(const struct statx *a, const struct statx *b)
{
	return a->stx_uid == b->stx_uid && a->stx_gid == b->stx_gid && a->stx_mode == b->stx_mode &&
	       import_same_time(&a->stx_mtime, &b->stx_mtime);
}

void import_object(struct import *i, int from, int to, const char *name, struct statx *st)
{
	struct import_link *l = find_link(i, st);
	struct statx have;
	enum present p = look(from, to, name, st, &have);
	bool made = false, taken = true;
	struct node a, b;

	if (p == DIFFERENT) {
		import_say_not_taken(i, "something else of that name is there, and is not older");
		return;
	}
	if (l && copy_link(i, to, name, l, &have, p, &made)) {
		i->copied.objects += made;
		i->there.objects += !made;
		note_link(i, st);
		return;
	}
	if (p == DONE) {
		if (!import_same_attributes(st, &have)) {
			node_of_name(&a, from, name);
			node_of_name(&b, to, name);
			import_attributes(i, &a, st, &b);
		}
		i->there.objects++;
		i->there.bytes += import_bytes(st);
	} else {
		taken = S_ISREG(st->stx_mode) ? copy_file(i, from, to, name, st, p == OLDER)
					      : copy_other(i, from, to, name, st, p == OLDER);
		i->copied.objects += taken;
	}
	if (taken)
		note_link(i, st);
}
