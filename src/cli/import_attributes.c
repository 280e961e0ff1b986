/* What an object is beside its content. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/xattr.h>

#include "commands.h"
#include "import.h"

enum { LIST_MAX = 65536, VALUE_MAX = 65536 };

void node_of_name(struct node *n, int dir, const char *name)
{
	snprintf(n->path, sizeof(n->path), "/proc/self/fd/%d/%s", dir, name);
	n->follow = false;
}

void node_of_file(struct node *n, int fd)
{
	snprintf(n->path, sizeof(n->path), "/proc/self/fd/%d", fd);
	n->follow = true;
}

/* ---- extended attributes, with ACLs and capabilities among them ---- */

static ssize_t list(const struct node *n, char *names)
{
	ssize_t len = (n->follow ? listxattr : llistxattr)(n->path, names, LIST_MAX);

	return len < 0 && (errno == EOPNOTSUPP || errno == ENOSYS) ? 0 : len < 0 ? -errno : len;
}

static bool has_name(const char *names, ssize_t len, const char *name)
{
	for (const char *at = names; at < names + len; at += strlen(at) + 1)
		if (strcmp(at, name) == 0)
			return true;
	return false;
}

static void copy_attribute(struct import *i, const struct node *from, const struct node *to, const char *name,
			   char *value)
{
	ssize_t len = (from->follow ? getxattr : lgetxattr)(from->path, name, value, VALUE_MAX);
	char what[XATTR_NAME_MAX + 32];

	snprintf(what, sizeof(what), "extended attribute %s", name);
	if (len < 0)
		import_not_taken(i, what, -errno);
	else if ((to->follow ? setxattr : lsetxattr)(to->path, name, value, (size_t)len, 0) < 0)
		import_not_taken(i, what, -errno); /* a full disk, too: it may be that there are too many of them */
}

static void copy_attributes(struct import *i, const struct node *from, const struct node *to)
{
	AUTO_FREE char *names = malloc(LIST_MAX);
	AUTO_FREE char *have = malloc(LIST_MAX);
	AUTO_FREE char *value = malloc(VALUE_MAX);
	ssize_t len = names && have && value ? list(from, names) : -ENOMEM, had;

	if (len < 0) {
		import_not_taken(i, "extended attributes", (int)len);
		return;
	}
	/* What was inherited from a directory that was there before, or taken away from the source since the last time. */
	had = list(to, have);
	for (const char *name = have; name < have + had; name += strlen(name) + 1)
		if (!has_name(names, len, name))
			(void)(to->follow ? removexattr : lremovexattr)(to->path, name);
	for (const char *name = names; name < names + len; name += strlen(name) + 1)
		copy_attribute(i, from, to, name, value);
}

/* ---- the rest ---- */

static struct timespec time_of(const struct statx_timestamp *t)
{
	return (struct timespec){ .tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec };
}

void import_attributes(struct import *i, const struct node *from, const struct statx *st, const struct node *to)
{
	struct timespec times[2] = { time_of(&st->stx_atime), time_of(&st->stx_mtime) };

	if ((to->follow ? chown : lchown)(to->path, st->stx_uid, st->stx_gid) < 0)
		import_failed(i, "owner", -errno);
	copy_attributes(i, from, to); /* a change of owner takes capabilities away */
	if (!S_ISLNK(st->stx_mode) && chmod(to->path, st->stx_mode & 07777) < 0)
		import_failed(i, "mode", -errno);
	if (st->stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND))
		import_say_not_taken(i, "that it is immutable, or may only be appended to");
	if (utimensat(AT_FDCWD, to->path, times, to->follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		import_failed(i, "times", -errno);
}
