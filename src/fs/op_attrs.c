/* Operations on attributes. */
#include <errno.h>

#include "fs_internal.h"

void op_getattr(fuse_req_t req, fuse_ino_t object, struct fuse_file_info *fi)
{
	struct fs *f = enter_plain(req, FS_GETATTR);
	struct attr a;

	/* With a file in hand the kernel asks before it takes a write, never for stat. */
	reply_attr(req, fi && is_starved(f, object) ? -ENOSPC : volume_getattr(f->volume, object, &a), &a);
}

/* Asked for what getattr does not tell: when the object was made. */
void op_statx(fuse_req_t req, fuse_ino_t object, int flags, int mask, struct fuse_file_info *fi)
{
	struct fs *f = enter_plain(req, FS_GETATTR);
	struct attr a;

	(void)flags;
	(void)mask;
	(void)fi;
	reply_statx(req, volume_getattr(f->volume, object, &a), &a);
}

static unsigned attr_set_of(int to_set)
{
	static const struct {
		int fuse;
		unsigned volume;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, SET_MODE },
		{ FUSE_SET_ATTR_UID, SET_UID },
		{ FUSE_SET_ATTR_GID, SET_GID },
		{ FUSE_SET_ATTR_SIZE, SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, SET_MTIME },
		{ FUSE_SET_ATTR_CTIME, SET_CTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, SET_MTIME_NOW },
		/* libfuse passes the kernel's FATTR_KILL_SUIDGID by this name. */
		{ FUSE_SET_ATTR_KILL_SUID, SET_KILL_SUIDGID },
	};
	unsigned set = 0;

	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (to_set & bits[i].fuse)
			set |= bits[i].volume;
	/* The kernel sends "now" together with the plain bit, and then no time. */
	if (set & SET_ATIME_NOW)
		set &= ~(unsigned)SET_ATIME;
	if (set & SET_MTIME_NOW)
		set &= ~(unsigned)SET_MTIME;
	/* With HANDLE_KILLPRIV_V2 a change of owner is for the file system to drop set-user-id and set-group-id. */
	if ((set & (SET_UID | SET_GID)) && !(set & SET_MODE))
		set |= SET_KILL_SUIDGID;
	return set;
}

static void run_setattr(struct fs *f, fuse_req_t req, const struct change *c)
{
	unsigned set = c->flags;
	struct attr a;

	if (set & SET_KILL_SUIDGID && kill_ids_of(req, f->volume, c->object, true) == KILL_ALL_IDS)
		set |= SET_KILL_ALL;
	reply_attr(req, volume_setattr(f->volume, c->object, &c->st, set, &a), &a);
}

void op_setattr(fuse_req_t req, fuse_ino_t object, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	unsigned set = attr_set_of(to_set);

	/* ftruncate and O_TRUNC change the time even of a file that has that size; without the write-back cache the kernel
	 * leaves that to us. truncate, by name, does not. */
	if (fi && set & SET_SIZE && !(set & SET_MTIME))
		set |= SET_MTIME_NOW;
	fs_change(req, FS_SETATTR, &(struct change){ run_setattr, object, .flags = set, .st = *st });
}

void op_readlink(fuse_req_t req, fuse_ino_t object)
{
	struct fs *f = enter_plain(req, FS_READLINK);
	char target[VOLUME_SYMLINK_MAX + 1];
	int r;

	r = volume_readlink(f->volume, object, target, sizeof(target));
	reply_target(req, r, target);
}

void op_statfs(fuse_req_t req, fuse_ino_t object)
{
	struct fs *f = enter_plain(req, FS_STATFS);
	struct statvfs st;

	(void)object;
	reply_statfs(req, volume_statfs(f->volume, &st), &st);
}
