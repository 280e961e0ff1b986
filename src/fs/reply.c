/* Every reply to the kernel, and the one place where errors are mapped.
 *
 * A reply that hands over an object by name gives the kernel one reference; if it did not get there (the caller was killed
 * in the meantime), the reference is given back here.
 */
#include <errno.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs_internal.h"

/* Only this daemon changes the volume, and the kernel itself notes what passes through it: nothing goes stale. */
static const double VALID_SECONDS = 24 * 60 * 60;

static int error_for_kernel(int r)
{
	int error = -r;

	switch (error) {
	case ENOSYS: /* the kernel would never ask again */
		return EOPNOTSUPP;
	case EBADMSG:
	case EPROTO:
	case ESTALE:
	case EKEYREJECTED:
		return EIO;
	case ENOKEY:
	case EKEYREVOKED:
	case EKEYEXPIRED:
		return EACCES;
	default:
		/* The kernel takes anything else for a protocol violation and fails the request with ERANGE or EIO. */
		return error > 0 && error < 512 ? error : EIO;
	}
}

/* Of a locked object the kernel keeps nothing: it asks again, and notices when it is unlocked. */
void fill_entry(const struct fs *f, struct fuse_entry_param *e, const struct attr *a)
{
	double valid = a->locked ? 0 : VALID_SECONDS;

	*e = (struct fuse_entry_param){
		.ino = attr_node(a),
		.generation = a->st.st_ino == FUSE_ROOT_ID ? 0 : f->generation,
		.attr = a->st,
		.attr_timeout = valid,
		.entry_timeout = valid,
	};
}

/* Counts the operation, and replies if it failed: then there is nothing more to reply. */
static bool failed(fuse_req_t req, ssize_t r, size_t bytes)
{
	bool expected = r == -ENODATA || r == -ENXIO; /* no such attribute; no data from there on */

	leave(req, r < 0 && !expected, bytes);
	if (r < 0)
		fuse_reply_err(req, error_for_kernel((int)r));
	return r < 0;
}

void reply_result(fuse_req_t req, int r)
{
	if (!failed(req, r, 0))
		fuse_reply_err(req, 0);
}

void reply_none(fuse_req_t req)
{
	leave(req, false, 0);
	fuse_reply_none(req);
}

void reply_entry(fuse_req_t req, struct fs *f, int r, const struct attr *a)
{
	struct fuse_entry_param e;

	if (failed(req, r, 0))
		return;
	fill_entry(f, &e, a);
	if (fuse_reply_entry(req, &e) < 0)
		volume_forget(f->volume, e.ino, 1);
}

void reply_lookup(fuse_req_t req, struct fs *f, int r, const struct attr *a)
{
	struct fuse_entry_param none = { .entry_timeout = VALID_SECONDS };

	if (r != -ENOENT)
		reply_entry(req, f, r, a);
	else if (!failed(req, 0, 0))
		fuse_reply_entry(req, &none);
}

void reply_create(fuse_req_t req, struct fs *f, int r, const struct attr *a, const struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	if (failed(req, r, 0))
		return;
	fill_entry(f, &e, a);
	if (fuse_reply_create(req, &e, fi) < 0)
		volume_forget(f->volume, e.ino, 1);
}

void reply_attr(fuse_req_t req, int r, const struct attr *a)
{
	if (!failed(req, r, 0))
		fuse_reply_attr(req, &a->st, VALID_SECONDS);
}

static struct statx_timestamp statx_time(struct timespec t)
{
	return (struct statx_timestamp){ .tv_sec = t.tv_sec, .tv_nsec = (uint32_t)t.tv_nsec };
}

void reply_statx(fuse_req_t req, int r, const struct attr *a)
{
	if (failed(req, r, 0))
		return;
	struct statx x = {
		.stx_mask = STATX_BASIC_STATS | STATX_BTIME,
		.stx_ino = a->st.st_ino,
		.stx_mode = (uint16_t)a->st.st_mode,
		.stx_nlink = (uint32_t)a->st.st_nlink,
		.stx_uid = a->st.st_uid,
		.stx_gid = a->st.st_gid,
		.stx_rdev_major = major(a->st.st_rdev),
		.stx_rdev_minor = minor(a->st.st_rdev),
		.stx_size = (uint64_t)a->st.st_size,
		.stx_blksize = (uint32_t)a->st.st_blksize,
		.stx_blocks = (uint64_t)a->st.st_blocks,
		.stx_atime = statx_time(a->st.st_atim),
		.stx_mtime = statx_time(a->st.st_mtim),
		.stx_ctime = statx_time(a->st.st_ctim),
		.stx_btime = statx_time(a->btime),
	};

	fuse_reply_statx(req, 0, &x, VALID_SECONDS);
}

void reply_data(fuse_req_t req, ssize_t r, const char *data)
{
	if (!failed(req, r, r < 0 ? 0 : (size_t)r))
		fuse_reply_buf(req, data, (size_t)r);
}

int reply_listing(fuse_req_t req, const char *data, size_t len)
{
	leave(req, false, 0);
	return fuse_reply_buf(req, data, len);
}

void reply_target(fuse_req_t req, int r, const char *target)
{
	if (!failed(req, r, 0))
		fuse_reply_readlink(req, target);
}

void reply_xattr(fuse_req_t req, ssize_t r, const char *data, size_t size)
{
	if (r > 0 && size > 0 && (size_t)r > size)
		r = -ERANGE;
	if (failed(req, r, 0))
		return;
	if (size == 0)
		fuse_reply_xattr(req, (size_t)r);
	else
		fuse_reply_buf(req, data, (size_t)r);
}

void reply_written(fuse_req_t req, int r, size_t len)
{
	if (!failed(req, r, r < 0 ? 0 : len))
		fuse_reply_write(req, len);
}

void reply_offset(fuse_req_t req, int r, uint64_t off)
{
	if (!failed(req, r, 0))
		fuse_reply_lseek(req, (off_t)off);
}

void reply_statfs(fuse_req_t req, int r, const struct statvfs *st)
{
	if (!failed(req, r, 0))
		fuse_reply_statfs(req, st);
}
