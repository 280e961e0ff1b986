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

static void make(fuse_req_t req, uint64_t parent, const char *name, mode_t mode, dev_t rdev, const char *target)
{
	struct fs *f = enter_change(req, FS_MAKE);
	struct caller c = caller_of(req);
	struct attr a;

	reply_entry(req, f, volume_make(f->volume, &c, parent, name, mode, rdev, target, &a), &a);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, mode, rdev, NULL);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | (mode & ~(mode_t)S_IFMT), 0, NULL);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, S_IFLNK | 0777, 0, target);
}

void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *f = enter_change(req, FS_MAKE);
	struct caller c = caller_of(req);
	struct attr a;

	/* The one open that is answered, because the kernel makes the file and opens it in one request. */
	fi->keep_cache = 1;
	reply_create(req, f, volume_tmpfile(f->volume, &c, parent, mode, &a), &a, fi);
}

void op_link(fuse_req_t req, fuse_ino_t object, fuse_ino_t parent, const char *name)
{
	struct fs *f = enter_change(req, FS_LINK);
	struct attr a;

	reply_entry(req, f, volume_link(f->volume, object, parent, name, &a), &a);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = enter_change(req, FS_UNLINK);

	reply_result(req, volume_unlink(f->volume, parent, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *f = enter_change(req, FS_RMDIR);

	reply_result(req, volume_rmdir(f->volume, parent, name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
	       unsigned flags)
{
	struct fs *f = enter_change(req, FS_RENAME);

	reply_result(req, volume_rename(f->volume, parent, name, new_parent, new_name, flags));
}
