/* The plaintext view of a volume: objects, names, attributes, contents. Knows nothing of FUSE.
 *
 * All functions are thread-safe unless said otherwise. They return 0 (or a count) or -errno, in POSIX's sense of the
 * operation; -EIO for what does not authenticate, logged once with the object's number. Permission checks are the kernel's
 * (default_permissions); the caller's ids are used for ownership, setgid and sticky handling of new objects only.
 * Sizes and offsets are in bytes.
 *
 * References: functions that hand a `struct attr` of an object found or made by name take one reference ("lookup count") on
 * the object, given back by volume_forget. An object without names lives until its last reference is gone.
 */
#ifndef COFFER_VOLUME_H
#define COFFER_VOLUME_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include <coffer/audit.h>
#include <coffer/descriptor.h>
#include <coffer/key.h>
#include <coffer/store.h>

enum {
	ROOT_OBJECT = 1,
	VOLUME_NAME_MAX = 255,     /* bytes of a name */
	VOLUME_LINK_MAX = 65000,   /* names of one object; EMLINK beyond */
	VOLUME_SYMLINK_MAX = 4095, /* bytes of a target */
	VOLUME_XATTR_MAX = 65536,  /* bytes of one value; E2BIG beyond */
};

/* In a number: the kernel's view of a regular file whose scope is locked. Nothing can be had by it. With the write-back cache the kernel
 * keeps the size and times of a regular file as it heard them first, for as long as it knows the file by the same number: so one that
 * was looked at while they were not known must not be the one that is there when it is unlocked. */
#define LOCKED_FILE (UINT64_C(1) << 63)

struct volume;

struct attr {
	struct stat st; /* st_ino is the object number; st_blksize 4096; st_blocks of 512 bytes as held by data */
	bool locked; /* by volume_lookup only: its scope is locked, and nothing but its type and link count is known */
	struct timespec btime; /* when it was made */
};

/* The number by which the kernel is to know it. */
static inline uint64_t attr_node(const struct attr *a)
{
	return a->locked && S_ISREG(a->st.st_mode) ? a->st.st_ino | LOCKED_FILE : a->st.st_ino;
}

struct caller {
	uid_t uid;
	gid_t gid;
	mode_t umask; /* applied here, because a default ACL of the parent replaces it */
};

/* ---- life ---- */
struct volume_options {
	bool read_only;
	bool shared; /* with read_only: beside others that are, too. Without it nobody else has the volume open */
	const char *state_dir;
	bool accept_changes;      /* skip pinning once: the administrator accepts what it found */
	unsigned sync_interval;   /* seconds between background syncs; 0: the default of 5 */
	unsigned key_poll;        /* seconds between questions to key sources; 0: the default of 60 */
	unsigned key_grace;       /* seconds for which a scope stays open whose source does not answer */
	unsigned key_flush;       /* seconds, at most, for what was written to a scope that is being locked */
	unsigned key_rotate_days; /* age at which the platform's keys get a new version; 0: never */
	struct secret **recovery; /* NULL, or the recovery key, which is taken over */
	const struct audit_requester *requester; /* who asked for it; NULL: nothing is recorded in the audit trail */
	unsigned audit_keep;                     /* as in struct audit_place */
};
/* Writes a new, empty volume into an empty directory: descriptor and root directory (owned by the caller's ids). -ENOTEMPTY.
 * `provided` (NULL: none), the key for "provided:", is taken over. */
int volume_create(int backing_fd, enum suite suite, const char *key_uri, struct secret *provided,
		  const char *state_dir);
/* Locks the directory (-EBUSY: a daemon serves it), loads and unlocks the descriptor, recovers after an unclean stop, opens
 * an epoch. -ECANCELED: the audit trail cannot be written. `backing_fd` stays the caller's and must stay open. Starts the checkpoint and sync threads: no fork after this. */
int volume_open(int backing_fd, const struct volume_options *o, struct volume **ret);
/* Writes everything home, removes orphans, ends the epoch. -errno: the volume stays marked unclean; nothing is lost. */
int volume_close(struct volume *v);
/* For a mount that the kernel lets nobody change any more: everything so far is durable, and neither access times nor keys change
 * until it ends. What the kernel had taken and not yet written is still stored. -EROFS (logged): ended, but opened read-only. */
int volume_set_read_only(struct volume *v, bool read_only);

/* Everything home, durably, and nothing below changes until volume_thaw, but for the descriptor and the audit trail where keys are
 * changed. Changes fail with -EBUSY: `hold` has them kept back from then on, and returns once none is under way; it is called while
 * no scope is being locked. -ENOSPC, -EIO: not frozen. */
int volume_freeze(struct volume *v, void (*hold)(void *arg), void *arg);
void volume_thaw(struct volume *v);
/* Has the kernel write all that it holds. Never called by a thread that answers its requests, nor while the volume is frozen. */
void volume_flush_kernel(struct volume *v);

/* ---- names ---- */
int volume_lookup(struct volume *v, uint64_t parent, const char *name, struct attr *ret); /* ".", "/" and ".." too */
int volume_make(struct volume *v, const struct caller *c, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
		const char *target, struct attr *ret); /* any type; `target` for symlinks */
int volume_tmpfile(struct volume *v, const struct caller *c, uint64_t parent, mode_t mode, struct attr *ret);
int volume_link(struct volume *v, uint64_t object, uint64_t parent, const char *name, struct attr *ret);
int volume_unlink(struct volume *v, uint64_t parent, const char *name);
int volume_rmdir(struct volume *v, uint64_t parent, const char *name);
int volume_rename(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		  unsigned flags); /* RENAME_NOREPLACE or RENAME_WHITEOUT or both, or RENAME_EXCHANGE */
void volume_forget(struct volume *v, uint64_t object, uint64_t count);

/* Calls `emit` for each entry after `cookie` (0: from the start), until it returns false. Cookies stay good across unmount and
 * while other entries come and go. "." and ".." come first. With `want_attr`, `a` is the entry's attributes, and a reference
 * is taken for each entry that `emit` accepted, but "." and ".."; an entry whose object is damaged comes with a NULL `a`. */
struct dirent_view {
	const char *name;
	uint64_t object, next_cookie;
	mode_t type; /* S_IFMT bits */
	const struct attr *a;
};
typedef bool dirent_emit(void *arg, const struct dirent_view *e);
int volume_readdir(struct volume *v, uint64_t dir, uint64_t cookie, bool want_attr, dirent_emit *emit, void *arg);

/* ---- attributes ---- */
int volume_getattr(struct volume *v, uint64_t object, struct attr *ret);
enum attr_set {
	SET_MODE = 1,
	SET_UID = 2,
	SET_GID = 4,
	SET_SIZE = 8,
	SET_ATIME = 16,
	SET_MTIME = 32,
	SET_CTIME = 64,
	SET_ATIME_NOW = 128,
	SET_MTIME_NOW = 256,
	SET_KILL_SUIDGID = 512, /* as KILL_IDS */
	SET_KILL_ALL = 1024,    /* as KILL_ALL_IDS */
};
/* What a change of contents takes away. Set-group-ID without execution by the group stays where the caller is in the group. */
enum kill_ids {
	KEEP_PRIVILEGES, /* nothing goes: a write through a mapping */
	WRITTEN_BACK, /* a cached page is written back: what the write took away went when it was made, and the kernel keeps the times */
	KEEP_IDS, /* only security.capability goes */
	KILL_IDS, /* set-user-ID, and set-group-ID where the group may execute, too */
	KILL_ALL_IDS
};
int volume_setattr(struct volume *v, uint64_t object, const struct stat *st, unsigned set, struct attr *ret);
int volume_readlink(struct volume *v, uint64_t object, char *buf, size_t size); /* NUL-terminated; returns the length */

/* Sizes: `size` 0 asks for the length needed; -ERANGE if it does not fit; -ENODATA no such attribute. */
ssize_t volume_getxattr(struct volume *v, uint64_t object, const char *name, void *buf, size_t size);
/* `trusted`: with the names in trusted., which are for administrators alone. */
ssize_t volume_listxattr(struct volume *v, uint64_t object, bool trusted, char *buf, size_t size);
int volume_setxattr(struct volume *v, uint64_t object, const char *name, const void *value, size_t size, int flags,
		    bool kill_sgid);
int volume_removexattr(struct volume *v, uint64_t object, const char *name);

/* ---- contents ---- */
ssize_t volume_read(struct volume *v, uint64_t object, uint64_t off, size_t len,
		    void *buf); /* buf: room for len rounded out to blocks */
int volume_write(struct volume *v, uint64_t object, uint64_t off, size_t len, const void *buf,
		 enum kill_ids kill); /* all or error */
int volume_fallocate(struct volume *v, uint64_t object, int mode, uint64_t off, uint64_t len, enum kill_ids kill);
int volume_seek(struct volume *v, uint64_t object, uint64_t off, int whence, uint64_t *ret); /* SEEK_DATA, SEEK_HOLE */
int volume_fsync(struct volume *v, uint64_t object);
int volume_sync(struct volume *v);
int volume_statfs(struct volume *v, struct statvfs *ret);
/* For a large write of new data; waits for what was removed to be given back. */
bool volume_has_room(struct volume *v);

/* ---- seeing in ---- */
struct volume_status {
	uint64_t recovered_chunks, orphans_removed;
	uint64_t objects_cached, bytes_cached; /* at present; bytes: of what objects have besides headers */
	uint64_t object_hits, object_misses;   /* of that cache, since the volume was opened */
	uint64_t page_hits, page_misses;       /* of pages of tags and maps, kept with their objects */
	struct store_counters store;
	bool read_only, failed; /* failed: writing home or syncing failed; the volume went read-only */
};
void volume_status(struct volume *v, struct volume_status *ret);
void volume_id(const struct volume *v, uint8_t out[static VOLUME_ID_SIZE]); /* the same for ever */
struct audit *volume_audit(const struct volume *v);                         /* NULL: nothing is recorded */
/* Of an object whose scope is locked, what stands in clear in its header. */
int volume_describe(struct volume *v, uint64_t object, uint32_t *ret_scope, uint32_t *ret_dek_version,
		    bool *ret_locked);

/* ---- checking ---- */
typedef void fsck_report(void *arg, const char *line);
struct fsck_result {
	uint64_t objects, directories, names, blocks, bytes; /* looked at */
	uint64_t errors, orphans;
	uint64_t locked; /* names of objects that could not be looked at, nor what is below them */
};
/* Walks every object and name of an open volume; with `data` reads every block. Never changes anything. -EAGAIN: keys were to
 * be changed meanwhile, which does not wait for it. */
int volume_fsck(struct volume *v, bool data, fsck_report *report, void *arg, struct fsck_result *ret);

#endif
