/* The process that serves one volume: its settings, and how it is started.
 *
 * Functions return 0 or -errno and have logged what went wrong, unless they return an exit code. None is thread-safe.
 */
#ifndef COFFER_DAEMON_H
#define COFFER_DAEMON_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <coffer/crypto.h>
#include <coffer/exit.h>
#include <coffer/fs.h>
#include <coffer/key.h>
#include <coffer/util.h>

/* ---- settings: the defaults, overridden by the configuration file, by the environment, by options ---- */
struct config {
	char file[PATH_MAX];      /* that was read; empty: there is none */
	char state_dir[PATH_MAX]; /* absolute; made when first needed */
	unsigned sync_interval;   /* seconds between background syncs */
	/* Seconds, and days, as in struct volume_options. */
	unsigned key_poll, key_grace, key_flush, key_rotate_days;
	unsigned audit_keep; /* files of an audit trail; 0: all */
	bool writeback, allow_other;
	enum fs_uring uring;
	bool confine;
	enum log_level log_level; /* of the daemon */
	struct key_settings keys;
};
/* `file` and `state_dir`: from --config and --state-dir, or NULL. A file that was named must be there. -EINVAL: bad setting. */
int config_load(struct config *c, const char *file, const char *state_dir);

/* A volume that the configuration has a name for: the group of that name in `volumes`. */
struct config_volume {
	char backing[PATH_MAX];
	char mountpoint[PATH_MAX]; /* empty: none is named */
	char options[1024];        /* as after -o */
};
/* -ENOENT: there is no such name; nothing is logged then. */
int config_volume(const struct config *c, const char *name, struct config_volume *ret);

/* ---- mount options, as after -o: for `coffer mount`, fstab and autofs maps ---- */
struct mount_options {
	bool read_only, allow_other, writeback;
	enum fs_uring uring;
	bool accept_changes; /* take the volume as it is although this machine saw another state */
	bool recovery;       /* opens the volume with the recovery key, from standard input */
	bool remount;        /* changes what is mounted there: read_only and flags alone */
	bool sloppy;         /* words that are not known are ignored; set by the caller, beforehand */
	unsigned long flags; /* of the mount, as mount(2) has them, but for MS_RDONLY */
};
void mount_options_init(struct mount_options *o, const struct config *c);
/* Adds what a comma-separated list says; later words win. -EINVAL: a word that is not known, or a bad value. */
int mount_options_parse(struct mount_options *o, const char *list);
/* The flags as a list of words for fs_options. */
enum { MOUNT_FLAGS_SIZE = 128 };
void mount_options_flags(const struct mount_options *o, char out[static MOUNT_FLAGS_SIZE]);

/* ---- starting ---- */
/* Call first in main: keys may pass through any command. No core dumps, and no other process of the user looks into this one. */
int keep_private(void);
struct mount_request {
	const char *backing, *mountpoint; /* as given */
	const char *source;               /* what the mount table shows; NULL: the backing directory's absolute path */
	const struct config *config;
	struct mount_options options; /* not for a remount */
	bool foreground;
	bool mounted_will_do; /* the same source on the same mount point, by another daemon: automounters may ask twice at a time */
};
/* Call first in main: remembers where the arguments lie, so that a process that does not serve can be named in the list. */
void process_title_start(int argc, char **argv);
/* Mounts. In the background: returns once the mount works, or has failed and said why. In the foreground: after unmounting. */
enum exit_code daemon_mount(const struct mount_request *r);

/* ---- keys that somebody hands over ---- */
/* Reads all there is, as far as `text` has room; from a terminal one line, asked for with `prompt` and not shown. */
int read_secret(int fd, const char *prompt, struct secret *text, size_t *ret_len);

/* ---- finding things ---- */
/* Opens a backing directory; *ret_path (PATH_MAX bytes) is its absolute path. */
int backing_open(const char *path, int *ret_fd, char *ret_path);
/* Whether the directory holds a descriptor; -ENOENT. Nothing is logged. */
int backing_has_volume(int backing_fd);

struct mount_entry {
	uint64_t id;  /* of the mount, until reboot never that of another */
	dev_t device; /* of the file system: the same for all of its mounts, while there is one */
	char mountpoint[PATH_MAX], source[PATH_MAX], type[64];
};
/* The topmost mount at exactly this absolute path. -ENOENT. Nothing is logged, and the mount itself is not touched. */
int mounts_at(const char *mountpoint, struct mount_entry *ret);
/* The mount that an absolute path lies on. */
int mounts_above(const char *path, struct mount_entry *ret);
bool mount_is_coffer(const struct mount_entry *m);
/* Has the file system itself answer, which stat(2) need not: the kernel knows attributes for long. -ENOTCONN: its daemon died. */
int mount_answers(const char *path);
/* Like realpath(3), but of a mount point it resolves only what leads there: a dead mount does not make it fail. */
int resolve_mountpoint(const char *path, char *ret /* PATH_MAX */);
/* Unmounts; as an ordinary user through fusermount3. `lazy`: detaches what is in use. Logs nothing. */
int unmount(const char *mountpoint, bool lazy);

#endif
