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

void op_write(fuse_req_t req, fuse_ino_t object, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *f = enter_change(req, FS_WRITE);
	bool written_back = fi->writepage;
	enum kill_ids kill;

	if (written_back) /* without the write-back cache the kernel leaves the times to us */
		kill = f->writeback ? WRITTEN_BACK : KEEP_PRIVILEGES;
	else
		kill = kill_ids_of(req, f->volume, object, fi->kill_suidgid);
	int r = volume_write(f->volume, object, (uint64_t)off, size, data, kill);

	reply_written(req, r, size);
	if (written_back && is_full(r))
		note_starved(f, object);
}

void op_fallocate(fuse_req_t req, fuse_ino_t object, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct fs *f = enter_change(req, FS_FALLOCATE);

	(void)fi;
	/* With HANDLE_KILLPRIV_V2 the kernel leaves this to us, and says nothing of the caller's CAP_FSETID. */
	reply_result(req, volume_fallocate(f->volume, object, mode, (uint64_t)off, (uint64_t)len,
					   kill_ids_of(req, f->volume, object, fuse_req_ctx(req)->uid != 0)));
}

/* For directories too. There is no cheaper fdatasync: what makes data durable, the log, makes everything durable. */
void op_fsync(fuse_req_t req, fuse_ino_t object, int datasync, struct fuse_file_info *fi)
{
	struct fs *f = enter_plain(req, FS_FSYNC);

	(void)datasync;
	(void)fi;
	reply_result(req, volume_fsync(f->volume, object));
}
