/* The FUSE session: what the kernel is told at the start, mounting, and the loop. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs_internal.h"

enum {
	WORKERS_MAX = 16,    /* threads that read /dev/fuse */
	BACKGROUND_MAX = 64, /* write-back and read-ahead requests under way at once */
	URING_DEPTH = 8,     /* requests at once per processor, over io_uring */
};

#define URING_SWITCH "/sys/module/fuse/parameters/enable_uring"

/* What the kernel is asked for, and what libfuse would ask for that is not wanted. */
static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	static const uint64_t wanted[] = {
		FUSE_CAP_NO_OPEN_SUPPORT,    /* ENOSYS to OPEN: never asked again */
		FUSE_CAP_NO_OPENDIR_SUPPORT, /* ENOSYS to OPENDIR: likewise, and the kernel caches the listing */
		FUSE_CAP_HANDLE_KILLPRIV_V2, /* no look at security.capability before each write */
		FUSE_CAP_CACHE_SYMLINKS,
		FUSE_CAP_POSIX_ACL,
		FUSE_CAP_DONT_MASK, /* a default ACL replaces the umask: the volume decides */
		FUSE_CAP_EXPORT_SUPPORT,
		FUSE_CAP_PARALLEL_DIROPS,
		FUSE_CAP_ASYNC_DIO,
		FUSE_CAP_EXPLICIT_INVAL_DATA, /* pages stay until we say so: nobody else changes the volume */
	};
	static const uint64_t
		unwanted[] = {
			FUSE_CAP_ATOMIC_O_TRUNC, /* there is no OPEN that could truncate */
			FUSE_CAP_AUTO_INVAL_DATA,
			FUSE_CAP_SPLICE_READ, /* all data is decrypted or encrypted: a pipe would be one more copy */
			FUSE_CAP_SPLICE_WRITE,
			FUSE_CAP_SPLICE_MOVE,
			FUSE_CAP_POSIX_LOCKS, /* the kernel's own locks do */
			FUSE_CAP_FLOCK_LOCKS,
		};
	struct fs *f = userdata;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		fuse_set_feature_flag(conn, wanted[i]);
	for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
		fuse_unset_feature_flag(conn, unwanted[i]);
	if (f->writeback)
		fuse_set_feature_flag(conn, FUSE_CAP_WRITEBACK_CACHE);
	conn->max_write = REQUEST_MAX;
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
	conn->time_gran = 1;
	/* No request waits long enough for an interrupt to be worth a list of those under way. */
	conn->no_interrupt = 1;
}

/* No open, opendir, flush or create: libfuse answers ENOSYS. No access: the kernel checks permissions. No ioctl, poll,
 * copy_file_range: the kernel has what replaces them. */
static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.statx = op_statx,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.symlink = op_symlink,
	.tmpfile = op_tmpfile,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
};

static bool uring_is_on(void)
{
	AUTO_CLOSE int fd = open(URING_SWITCH, O_RDONLY | O_CLOEXEC);
	char c = 'N';

	return fd >= 0 && read(fd, &c, 1) == 1 && (c == 'Y' || c == '1');
}

/* Whether this session asks for io_uring; *ret says so. */
static int uring_decide(enum fs_uring want, bool *ret)
{
	AUTO_CLOSE int fd = -1;

	*ret = want != FS_URING_OFF && uring_is_on();
	if (want != FS_URING_ON || *ret)
		return 0;
	fd = open(URING_SWITCH, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "Y", 1) != 1) {
		int r = -errno;

		log_error("uring=on: cannot switch on FUSE over io_uring in %s: %s%s", URING_SWITCH, strerror(-r),
			  r == -EACCES   ? " (only root can)"
			  : r == -ENOENT ? " (this kernel does not have it)"
					 : "");
		return r;
	}
	log_notice("uring=on: FUSE over io_uring switched on for the whole system, in %s", URING_SWITCH);
	*ret = true;
	return 0;
}

/* Appends an option value with what separates options escaped. */
static int escape(char *out, size_t size, const char *value)
{
	size_t n = 0;

	for (; *value; value++) {
		if (n + 3 > size)
			return -ENAMETOOLONG;
		if (*value == ',' || *value == '\\')
			out[n++] = '\\';
		out[n++] = *value;
	}
	out[n] = 0;
	return 0;
}

/* A session that mounts needs all options, one that serves only those about the transport; more do no harm. */
static int session_new(struct fs *f, const struct fs_options *o, bool uring, struct fuse_session **ret)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	AUTO_FREE char *options = NULL;
	char source[8192], depth[32] = "";
	int r;

	r = escape(source, sizeof(source), o->source);
	if (r < 0)
		return r;
	if (uring)
		snprintf(depth, sizeof(depth), ",io_uring,io_uring_q_depth=%d", URING_DEPTH);
	if (asprintf(&options, "fsname=%s,subtype=coffer,default_permissions,%s%s%s%s%s%s", source,
		     o->read_only ? "ro" : "rw", o->allow_other ? ",allow_other" : "",
		     /* like any local file system; fusermount3 lets nobody else have them */
		     geteuid() == 0 ? ",suid,dev" : "", depth, o->kernel_flags[0] ? "," : "", o->kernel_flags) < 0) {
		options = NULL;
		return -ENOMEM;
	}
	r = -ENOMEM;
	if (fuse_opt_add_arg(&args, "coffer") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	    fuse_opt_add_arg(&args, options) == 0) {
		*ret = fuse_session_new(&args, &operations, sizeof(operations), f);
		r = *ret ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	return r;
}

static void log_from_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
static void log_from_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	size_t len;

	vsnprintf(line, sizeof(line), fmt, ap);
	len = strlen(line);
	while (len > 0 && line[len - 1] == '\n')
		line[--len] = 0;
	if (len > 0)
		log_line((enum log_level)(level < FUSE_LOG_ERR ? FUSE_LOG_ERR : level), "%s", line);
}

int fs_attach(const char *mountpoint, const struct fs_options *o, int *ret_fd)
{
	struct fuse_session *session = NULL;
	bool uring;
	int r;

	fuse_set_log_func(log_from_libfuse);
	r = uring_decide(o->uring, &uring);
	if (r < 0)
		goto out;
	r = session_new(NULL, o, uring, &session);
	if (r < 0)
		goto out;
	/* libfuse says why in the log and keeps no error number. */
	if (fuse_session_mount(session, mountpoint) != 0) {
		r = -ENODEV;
		goto out;
	}
	r = fcntl(fuse_session_fd(session), F_DUPFD_CLOEXEC, 3);
	if (r < 0) {
		r = -errno;
		fuse_session_unmount(session);
		goto out;
	}
	*ret_fd = r;
	r = 0;
out:
	if (session)
		fuse_session_destroy(session);
	return r;
}

int fs_new(struct volume *v, int fd, const struct fs_options *o, struct fs **ret)
{
	struct fs *f = calloc(1, sizeof(*f));
	uint8_t id[VOLUME_ID_SIZE];
	char device[32];
	int r = -ENOMEM;

	if (!f)
		goto out;
	f->volume = v;
	freeze_init(f);
	f->writeback = o->writeback && !o->read_only;
	volume_id(v, id);
	f->generation = get_le32(id);
	fuse_set_log_func(log_from_libfuse);
	r = session_new(f, o, o->uring != FS_URING_OFF && uring_is_on(), &f->session);
	if (r < 0)
		goto out;
	/* This name makes libfuse take the descriptor instead of mounting. */
	snprintf(device, sizeof(device), "/dev/fd/%d", fd);
	if (fuse_session_mount(f->session, device) != 0) {
		r = -EBADF;
		goto out;
	}
	fd = -1;
	r = notifier_start(f);
	if (r < 0)
		goto out;
	*ret = f;
	f = NULL;
out:
	fs_free(f);
	if (fd >= 0)
		close(fd);
	return r;
}

int fs_serve(struct fs *f)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(config, WORKERS_MAX);
	fuse_loop_cfg_set_clone_fd(config, 0);
	r = fuse_session_loop_mt(f->session, config);
	fuse_loop_cfg_destroy(config);
	/* Somebody switched io_uring off just when the session began: libfuse remembers that until the end as its failure. */
	if (r == -EOPNOTSUPP && !atomic_load(&f->uses_uring)) {
		log_notice("the kernel did not take io_uring: requests came by /dev/fuse");
		r = 0;
	}
	return r < 0 ? r : r > 0 ? -EIO : 0;
}

void fs_stop(struct fs *f)
{
	fuse_session_exit(f->session);
}

void fs_disconnect(struct fs *f)
{
	AUTO_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* libfuse closes its descriptor only with the session, which others may still look at. */
	if (null < 0 || dup3(null, fuse_session_fd(f->session), O_CLOEXEC) < 0)
		log_warning("the connection to the kernel cannot be ended: %s", strerror(errno));
	freeze_end(f);
	notifier_stop(f);
}

void fs_free(struct fs *f)
{
	if (!f)
		return;
	freeze_end(f);
	notifier_stop(f);
	if (f->session)
		fuse_session_destroy(f->session);
	freeze_free(f);
	free(f);
}

void fs_tune(const char *mountpoint)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	char path[64], value[16];
	int n;

	if (stat(mountpoint, &st) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(st.st_dev), minor(st.st_dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	n = snprintf(value, sizeof(value), "%d", REQUEST_MAX / 1024);
	if (fd >= 0 && write(fd, value, (size_t)n) != n)
		log_info("read-ahead stays at the kernel's default: %s", strerror(errno));
}

uint64_t fs_changes(const struct fs *f)
{
	return atomic_load_explicit(&f->changes, memory_order_relaxed);
}

const char *fs_op_name(enum fs_op op)
{
	static const char *const names[] = {
		[FS_LOOKUP] = "lookup",       [FS_FORGET] = "forget",     [FS_GETATTR] = "getattr",
		[FS_SETATTR] = "setattr",     [FS_READLINK] = "readlink", [FS_MAKE] = "make",
		[FS_LINK] = "link",           [FS_UNLINK] = "unlink",     [FS_RMDIR] = "rmdir",
		[FS_RENAME] = "rename",       [FS_READ] = "read",         [FS_WRITE] = "write",
		[FS_FALLOCATE] = "fallocate", [FS_LSEEK] = "lseek",       [FS_FSYNC] = "fsync",
		[FS_READDIR] = "readdir",     [FS_STATFS] = "statfs",     [FS_GETXATTR] = "getxattr",
		[FS_LISTXATTR] = "listxattr", [FS_SETXATTR] = "setxattr", [FS_REMOVEXATTR] = "removexattr",
	};

	return names[op];
}

void fs_op_times(struct fs *f, enum fs_op op, struct timing *ret)
{
	timing_read(&f->ops[op], ret);
}

const char *fs_transport(const struct fs *f)
{
	return atomic_load_explicit(&f->uses_uring, memory_order_relaxed) ? "io_uring" : "/dev/fuse";
}
