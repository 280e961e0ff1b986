/* Operations on contents. */
#include <errno.h>

#include "fs_internal.h"

/* Where to decrypt to: over io_uring into the payload that the kernel takes over, else into the thread's buffer. Both must
 * have room for the span rounded out to blocks. */
static char *read_target(fuse_req_t req, struct worker *w, uint64_t off, size_t size)
{
	size_t head = off % BLOCK_SIZE;
	size_t span = (head + size + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
	size_t room;
	char *payload;

	if (fuse_req_is_uring(req) && fuse_req_get_payload(req, &payload, &room, NULL) == 0 && span <= room)
		return payload;
	return span <= REPLY_ROOM ? w->reply : NULL;
}

void op_read(fuse_req_t req, fuse_ino_t object, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct worker *w;
	struct fs *f = enter(req, FS_READ, &w);
	char *target;

	(void)fi;
	if (!f)
		return;
	target = read_target(req, w, (uint64_t)off, size);
	if (target)
		reply_data(req, volume_read(f->volume, object, (uint64_t)off, size, target), target);
	else
		reply_result(req, -EINVAL);
}

static void run_write(struct fs *f, fuse_req_t req, const struct change *c)
{
	bool written_back = c->fi.writepage;
	enum kill_ids kill;

	if (written_back) /* without the write-back cache the kernel leaves the times to us */
		kill = f->writeback ? WRITTEN_BACK : KEEP_PRIVILEGES;
	else
		kill = kill_ids_of(req, f->volume, c->object, c->fi.kill_suidgid);
	int r = volume_write(f->volume, c->object, c->off, c->size, c->data, kill);

	reply_written(req, r, c->size);
	if (written_back && is_full(r))
		note_starved(f, c->object);
}

void op_write(fuse_req_t req, fuse_ino_t object, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	fs_change(req, FS_WRITE,
		  &(struct change){ run_write, object, .data = data, .size = size, .off = (uint64_t)off, .fi = *fi });
}

static void run_fallocate(struct fs *f, fuse_req_t req, const struct change *c)
{
	/* With HANDLE_KILLPRIV_V2 the kernel leaves this to us, and says nothing of the caller's CAP_FSETID. */
	reply_result(req, volume_fallocate(f->volume, c->object, (int)c->flags, c->off, c->len,
					   kill_ids_of(req, f->volume, c->object, fuse_req_ctx(req)->uid != 0)));
}

void op_fallocate(fuse_req_t req, fuse_ino_t object, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	(void)fi;
	fs_change(req, FS_FALLOCATE,
		  &(struct change){ run_fallocate, object, .off = (uint64_t)off, .len = (uint64_t)len,
				    .flags = (unsigned)mode });
}

/* For directories too. There is no cheaper fdatasync: what makes data durable, the log, makes everything durable. */
void op_fsync(fuse_req_t req, fuse_ino_t object, int datasync, struct fuse_file_info *fi)
{
	struct fs *f = enter_plain(req, FS_FSYNC);

	(void)datasync;
	(void)fi;
	reply_result(req, volume_fsync(f->volume, object));
}
