/* A volume as a mounted file system: the only layer that knows FUSE.
 *
 * Mounting and serving may be two processes, so that the one that has the keys needs no right to mount: fs_attach mounts and
 * gives the connection to the kernel, a descriptor of /dev/fuse; fs_new takes it. A struct fs serves one volume, which stays
 * the caller's and must outlive it. Order of use: fs_new, fs_serve (returns when the file system was unmounted or fs_stop was
 * called), fs_disconnect, fs_free. fs_stop, fs_changes, fs_op_times, fs_transport and what freezes may be called from any thread up to fs_free; nothing
 * else may. Errors are -errno; what libfuse has to say about a failed mount is logged.
 */
#ifndef COFFER_FS_H
#define COFFER_FS_H

#include <stdbool.h>
#include <stdint.h>

#include <coffer/timing.h>
#include <coffer/volume_keys.h>

struct fs;

enum fs_uring {
	FS_URING_AUTO, /* FUSE over io_uring where the kernel has it switched on */
	FS_URING_ON,   /* switches it on: root only, logged */
	FS_URING_OFF,
};

struct fs_options {
	const char *source;       /* what the mount table shows */
	const char *kernel_flags; /* mount flags libfuse understands, comma-separated; "" for none */
	bool read_only;
	bool allow_other;
	bool writeback; /* the kernel gathers writes */
	enum fs_uring uring;
};

/* Mounts; the kernel's requests wait until a struct fs answers them. Closing the last copy of *ret_fd ends the connection, but
 * does not unmount. */
int fs_attach(const char *mountpoint, const struct fs_options *o, int *ret_fd);
/* Takes `fd` over, also on failure. */
int fs_new(struct volume *v, int fd, const struct fs_options *o, struct fs **ret);
/* Answers requests until the file system is unmounted: 0, or -errno if the transport failed. Starts threads and joins them. */
int fs_serve(struct fs *f);
/* Makes fs_serve return although the file system is still mounted; what the kernel has not written is lost then. */
void fs_stop(struct fs *f);
/* After fs_serve: ends the connection. What is still mounted answers ENOTCONN from then on. */
void fs_disconnect(struct fs *f);
void fs_free(struct fs *f); /* disconnects; NULL is fine */
/* Raises the kernel's read-ahead for this mount to what one request carries; once fs_serve answers. Root only, else nothing. */
void fs_tune(const char *mountpoint);

/* Calls for each fact of an object's encryption, also if its scope is locked: those of its attributes user.coffer.*. */
int fs_describe_object(struct volume *v, uint64_t object, void (*each)(void *arg, const char *name, const char *value),
		       void *arg);
/* A kernel_cache's functions; `arg` is the struct fs. */
void fs_drop(void *arg, const struct kernel_item *items, size_t count);
void fs_end_freeze(void *arg, const char *why);

/* Has everything written home, and changes wait until fs_thaw, for `seconds` at most. What programs had written before must have
 * been sent on its way (syncfs). -EBUSY: frozen already; -ENOSPC, -EIO and so on: not frozen. Errors have been logged. */
int fs_freeze(struct fs *f, unsigned seconds);
int fs_thaw(struct fs *f);            /* -EALREADY: it was not frozen, or not any more; logged */
unsigned fs_frozen_for(struct fs *f); /* seconds that are left, at least 1; 0: not frozen */
/* Requests that changed the volume, since the mount: stands still when the kernel has nothing left to write. */
uint64_t fs_changes(const struct fs *f);
/* What the kernel asked for since the mount, by kind: times are from the request's arrival to its answer, errors what was answered
 * with one, but for lookups of names and attributes that are not there, and of data after the last; only reads and writes have
 * bytes. */
enum fs_op {
	FS_LOOKUP,
	FS_FORGET,
	FS_GETATTR, /* and statx */
	FS_SETATTR,
	FS_READLINK,
	FS_MAKE, /* mknod, mkdir, symlink, tmpfile */
	FS_LINK,
	FS_UNLINK,
	FS_RMDIR,
	FS_RENAME,
	FS_READ,
	FS_WRITE,
	FS_FALLOCATE,
	FS_LSEEK,
	FS_FSYNC,   /* and fsyncdir */
	FS_READDIR, /* and readdirplus */
	FS_STATFS,
	FS_GETXATTR,
	FS_LISTXATTR,
	FS_SETXATTR,
	FS_REMOVEXATTR,
	FS_OP_COUNT,
};
const char *fs_op_name(enum fs_op op); /* e.g. "lookup" */
void fs_op_times(struct fs *f, enum fs_op op, struct timing *ret);
/* "io_uring" or "/dev/fuse": what requests came by. */
const char *fs_transport(const struct fs *f);

#endif
