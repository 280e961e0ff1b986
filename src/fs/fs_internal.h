/* What the files of src/fs share. Each operation: enter(), the volume's work, exactly one reply_*().
 *
 * Node ids are object numbers, which are never reused. The generation is the volume's, so that a handle (name_to_handle_at) of
 * another volume's object of that number, which an NFS client may hold, is stale. The daemon keeps no handle for open files: OPEN,
 * OPENDIR, FLUSH and CREATE are answered ENOSYS, after which the kernel stops asking.
 */
#ifndef COFFER_FS_INTERNAL_H
#define COFFER_FS_INTERNAL_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 18)
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coffer/fs.h>
#include <coffer/map.h>
#include <coffer/util.h>

enum {
	REQUEST_MAX = 1 << 20, /* bytes of data that one READ or WRITE carries */
	/* Room for a reply: a READ's length rounded out to blocks at both ends. */
	REPLY_ROOM = REQUEST_MAX + 2 * BLOCK_SIZE,
	/* READDIRPLUS entries that a reply can carry: each takes at least 152 bytes. */
	ENTRIES_MAX = REPLY_ROOM / 152 + 1,
};

/* freeze.c */
struct freeze {
	pthread_mutex_t turn; /* one who freezes or thaws at a time; before the others */
	atomic_bool holding;  /* changes wait */
	atomic_bool ended;    /* the connection: what waits gets an error */
	atomic_uint under_way;

	pthread_mutex_t state_lock; /* protects what follows, and the volume's thaw */
	pthread_cond_t changed;
	int64_t until;   /* clock_ms(); 0: not frozen */
	const char *why; /* it ended without having been asked to; NULL: it did not */

	pthread_t timer; /* turn */
	bool timer_runs;

	pthread_mutex_t lock; /* protects what waits */
	struct held *held, **held_end;
};
void freeze_init(struct fs *f);
void freeze_end(struct fs *f); /* when the connection has ended */
void freeze_free(struct fs *f);

struct fs {
	struct volume *volume; /* the mount's creator's */
	struct fuse_session *session;
	bool writeback;
	uint32_t generation; /* of all objects but the root, whose generation is 0 for the kernel */
	atomic_bool uses_uring;
	atomic_uint_fast64_t changes;
	struct timing_counter ops[FS_OP_COUNT];
	struct freeze freeze;

	pthread_t notifier; /* notify.c */
	bool notifier_runs;
	pthread_mutex_t notify_lock; /* protects what follows */
	pthread_cond_t notify_wake;
	struct notice *notices;
	bool notify_stop;
	struct map starved; /* object -> (void *)1: what was written back found no room */
};
int notifier_start(struct fs *f); /* does nothing without write-back */
void notifier_stop(struct fs *f); /* after the connection's end: what it waits for is over then */
/* What the kernel wrote back of an object found no room: it is made to ask before it takes more. */
void note_starved(struct fs *f, uint64_t object);
bool is_starved(struct fs *f, uint64_t object); /* and there is still no room */

/* One per thread that answers requests; made when the first one comes, freed with the thread. */
struct worker {
	char *reply; /* REPLY_ROOM bytes, page-aligned */
	uint64_t entries[ENTRIES_MAX];
};

/* First thing in every operation. NULL: no memory for this thread, and ENOMEM has been replied. */
struct fs *enter(fuse_req_t req, enum fs_op op, struct worker **ret_worker);
/* For operations that need no buffer. */
struct fs *enter_plain(fuse_req_t req, enum fs_op op);
/* What a thread that hands an operation over to another gives it, which resumes it. */
struct entered {
	enum fs_op op;
	uint64_t began;
};
struct entered entered_op(void);
void resume_op(struct entered e);
/* Just before the reply: the operation that this thread entered is over and counted. */
void leave(fuse_req_t req, bool failed, size_t bytes);

/* A request that changes the volume: an operation fills in what it has, and `run` does it and replies, at once or after a thaw. */
struct change {
	void (*run)(struct fs *f, fuse_req_t req, const struct change *c);
	uint64_t object, other; /* of names: the directories */
	const char *name, *other_name;
	const void *data;
	size_t size; /* of data, bytes */
	uint64_t off, len;
	mode_t mode;
	dev_t rdev;
	unsigned flags;
	struct stat st;
	struct fuse_file_info fi;
};
void fs_change(fuse_req_t req, enum fs_op op,
	       const struct change *c); /* what `c` points to is copied if it has to wait */

/* Replies; `r` is 0 or -errno of the volume layer. */
void reply_result(fuse_req_t req, int r);
void reply_entry(fuse_req_t req, struct fs *f, int r, const struct attr *a);
void reply_lookup(fuse_req_t req, struct fs *f, int r, const struct attr *a); /* -ENOENT is remembered by the kernel */
void reply_create(fuse_req_t req, struct fs *f, int r, const struct attr *a, const struct fuse_file_info *fi);
void reply_attr(fuse_req_t req, int r, const struct attr *a);
void reply_statx(fuse_req_t req, int r, const struct attr *a);
void reply_data(fuse_req_t req, ssize_t r, const char *data);    /* `r` bytes, or -errno */
int reply_listing(fuse_req_t req, const char *data, size_t len); /* -errno: it did not get there */
void reply_target(fuse_req_t req, int r, const char *target);
void reply_none(fuse_req_t req); /* to what has no reply */
/* An xattr or the list of them: `size` is what the caller had room for, 0 asks for the length only. */
void reply_xattr(fuse_req_t req, ssize_t r, const char *data, size_t size);
void reply_written(fuse_req_t req, int r, size_t len);
void reply_offset(fuse_req_t req, int r, uint64_t off);
void reply_statfs(fuse_req_t req, int r, const struct statvfs *st);
void fill_entry(const struct fs *f, struct fuse_entry_param *e, const struct attr *a);

struct caller caller_of(fuse_req_t req);
bool is_in_group(fuse_req_t req, gid_t gid); /* the caller, or it is root */
bool is_administrator(fuse_req_t req);       /* the caller has CAP_SYS_ADMIN */
/* Which set-id bits an operation takes away for which the kernel wants some to go (`kill`). */
enum kill_ids kill_ids_of(fuse_req_t req, struct volume *v, uint64_t object, bool kill);

/* user.coffer.*: what the volume says about an object, read-only and not listed. */
bool virtual_is_name(const char *name);
ssize_t virtual_get(struct volume *v, uint64_t object, const char *name, char *buf, size_t size);

/* The operations, by file. */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t object, uint64_t count);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void op_link(fuse_req_t req, fuse_ino_t object, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
	       unsigned flags);

void op_getattr(fuse_req_t req, fuse_ino_t object, struct fuse_file_info *fi);
void op_statx(fuse_req_t req, fuse_ino_t object, int flags, int mask, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t object, struct stat *st, int to_set, struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t object);
void op_statfs(fuse_req_t req, fuse_ino_t object);

void op_getxattr(fuse_req_t req, fuse_ino_t object, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t object, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t object, const char *name, const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t object, const char *name);

void op_readdir(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, struct fuse_file_info *fi);

void op_read(fuse_req_t req, fuse_ino_t object, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t object, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t object, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t object, off_t off, int whence, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t object, int datasync, struct fuse_file_info *fi);

#endif
