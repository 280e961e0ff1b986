/* Operations on names: find, make, link, move, remove. */
#include <sys/stat.h>

#include "fs_internal.h"

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = enter_plain(req, FS_LOOKUP);
	struct attr a;

	reply_lookup(req, f, volume_lookup(f->volume, parent, name, &a), &a);
}

void op_forget(fuse_req_t req, fuse_ino_t object, uint64_t count)
{
	struct fs *f = enter_plain(req, FS_FORGET);

	volume_forget(f->volume, object, count);
	reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *f = enter_plain(req, FS_FORGET);

	for (size_t i = 0; i < count; i++)
		volume_forget(f->volume, forgets[i].ino, forgets[i].nlookup);
	reply_none(req);
}

static void run_make(struct fs *f, fuse_req_t req, const struct change *c)
{
	struct caller caller = caller_of(req);
	struct attr a;

	reply_entry(req, f, volume_make(f->volume, &caller, c->object, c->name, c->mode, c->rdev, c->other_name, &a),
		    &a);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	fs_change(req, FS_MAKE, &(struct change){ run_make, parent, .name = name, .mode = mode, .rdev = rdev });
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	fs_change(req, FS_MAKE,
		  &(struct change){ run_make, parent, .name = name, .mode = S_IFDIR | (mode & ~(mode_t)S_IFMT) });
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	fs_change(req, FS_MAKE,
		  &(struct change){ run_make, parent, .name = name, .other_name = target, .mode = S_IFLNK | 0777 });
}

static void run_tmpfile(struct fs *f, fuse_req_t req, const struct change *c)
{
	struct caller caller = caller_of(req);
	struct fuse_file_info fi = c->fi;
	struct attr a;

	/* The one open that is answered, because the kernel makes the file and opens it in one request. */
	fi.keep_cache = 1;
	reply_create(req, f, volume_tmpfile(f->volume, &caller, c->object, c->mode, &a), &a, &fi);
}

void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	fs_change(req, FS_MAKE, &(struct change){ run_tmpfile, parent, .mode = mode, .fi = *fi });
}

static void run_link(struct fs *f, fuse_req_t req, const struct change *c)
{
	struct attr a;

	reply_entry(req, f, volume_link(f->volume, c->object, c->other, c->name, &a), &a);
}

void op_link(fuse_req_t req, fuse_ino_t object, fuse_ino_t parent, const char *name)
{
	fs_change(req, FS_LINK, &(struct change){ run_link, object, parent, .name = name });
}

static void run_unlink(struct fs *f, fuse_req_t req, const struct change *c)
{
	reply_result(req, volume_unlink(f->volume, c->object, c->name));
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fs_change(req, FS_UNLINK, &(struct change){ run_unlink, parent, .name = name });
}

static void run_rmdir(struct fs *f, fuse_req_t req, const struct change *c)
{
	reply_result(req, volume_rmdir(f->volume, c->object, c->name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fs_change(req, FS_RMDIR, &(struct change){ run_rmdir, parent, .name = name });
}

static void run_rename(struct fs *f, fuse_req_t req, const struct change *c)
{
	reply_result(req, volume_rename(f->volume, c->object, c->name, c->other, c->other_name, c->flags));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
	       unsigned flags)
{
	fs_change(req, FS_RENAME, &(struct change){ run_rename, parent, new_parent, name, new_name, .flags = flags });
}
