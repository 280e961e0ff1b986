/* What a running daemon may still do: serve one volume. See keep_private() and confine() in daemon_internal.h. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netdb.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "daemon_internal.h"

/* A sanitizer looks into its own process at the end, and its reports need system calls of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

int keep_private(void)
{
	struct rlimit none = { 0, 0 };

	if (SANITIZED)
		return 0;
	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	return 0;
}

/* ---- files ---- */

enum {
	ACCESS_READ = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
	/* In the backing directory and the state directory: what a tree of files needs. */
	ACCESS_KEEP = ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
		      LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
		      LANDLOCK_ACCESS_FS_MAKE_SOCK,
	ACCESS_FILE = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE,
	/* Everything that version 1 of the interface knows is refused elsewhere. */
	ACCESS_HANDLED_1 = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
};
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

/* The interface's version: later ones know more rights, and those not known must not be named. */
static uint64_t rights_known(int version)
{
	uint64_t rights = ACCESS_HANDLED_1;

	if (version >= 2)
		rights |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
	return rights;
}

static int allow(int ruleset, const char *path, uint64_t rights)
{
	AUTO_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };

	if (fd < 0)
		return -errno;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

/* A file's folder: one replaced by another of the same name, which is how keys are renewed, has another inode. */
static void allow_folder_of(int ruleset, const char *path)
{
	char folder[PATH_MAX];
	char *slash;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash)
		return;
	slash[slash == folder] = 0;
	allow(ruleset, folder, LANDLOCK_ACCESS_FS_READ_FILE);
}

/* Key servers: the files that connecting reads each time, and what resolves names. */
static void allow_kmip(int ruleset, const struct key_settings *keys)
{
	static const char *const resolver[] = { "/etc/hosts",     "/etc/nsswitch.conf", "/etc/resolv.conf",
						"/etc/host.conf", "/etc/gai.conf",      "/etc/ld.so.cache" };
	const char *const files[] = { keys->kmip_ca, keys->kmip_certificate, keys->kmip_key };
	char real[PATH_MAX];
	Dl_info libc;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		allow_folder_of(ruleset, files[i]);
		if (realpath(files[i], real))
			allow_folder_of(ruleset, real);
	}
	for (size_t i = 0; i < sizeof(resolver) / sizeof(resolver[0]); i++)
		allow(ruleset, resolver[i], LANDLOCK_ACCESS_FS_READ_FILE);
	/* Where something manages the network, this one is replaced with every change of it. */
	if (realpath("/etc/resolv.conf", real) && strncmp(real, "/run/", 5) == 0)
		allow_folder_of(ruleset, real);
	/* Further ways to resolve names are modules that libc loads when it needs them, from where it lies itself. */
	if (dladdr((void *)(uintptr_t)&getaddrinfo, &libc) && realpath(libc.dli_fname, real))
		allow_folder_of(ruleset, real);
}

static int confine_files(const char *backing, const char *state_dir, const struct key_settings *keys)
{
	/* Processors, callers' groups, the clock's zone, the host's id: nothing secret and nothing to change. */
	static const char *const readable[] = { "/proc",          "/sys/devices/system", "/sys/module/fuse",
						"/etc/localtime", "/usr/share/zoneinfo", "/etc/machine-id" };
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_ruleset_attr attr = { .handled_access_fs = rights_known(version) };
	uint64_t later = attr.handled_access_fs & ~(uint64_t)ACCESS_HANDLED_1;
	AUTO_CLOSE int ruleset = -1;
	int r;

	if (version < 0) {
		log_info("this kernel has no Landlock: the daemon's access to files is not confined");
		return 0;
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
	if (ruleset < 0)
		return -errno;
	r = allow(ruleset, backing, ACCESS_KEEP | later);
	if (r == 0)
		r = allow(ruleset, state_dir, ACCESS_KEEP | later);
	if (r == 0)
		r = allow(ruleset, "/dev/null", ACCESS_FILE | (later & LANDLOCK_ACCESS_FS_TRUNCATE));
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(readable) / sizeof(readable[0]); i++) {
		/* A file takes no right of directories. */
		if (allow(ruleset, readable[i], ACCESS_READ) == -EINVAL)
			allow(ruleset, readable[i], LANDLOCK_ACCESS_FS_READ_FILE);
	}
	if (keys->kmip_ca[0])
		allow_kmip(ruleset, keys);
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}

/* ---- system calls ---- */

/* What files, memory, threads, sockets, time and FUSE over io_uring need. Not here: running programs, mounting, changing
 * identity, looking into other processes, loading code into the kernel. */
static const int calls[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(close),
	SCMP_SYS(lseek),
	SCMP_SYS(dup),
	SCMP_SYS(dup2),
	SCMP_SYS(dup3),
	SCMP_SYS(fcntl),
	SCMP_SYS(ioctl),
	SCMP_SYS(flock),
	SCMP_SYS(pipe2),
	SCMP_SYS(eventfd2),
	SCMP_SYS(memfd_create),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(select),
	SCMP_SYS(pselect6),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(stat),
	SCMP_SYS(fstat),
	SCMP_SYS(lstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(statfs),
	SCMP_SYS(fstatfs),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(faccessat2),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(getcwd),
	SCMP_SYS(mkdir),
	SCMP_SYS(mkdirat),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	SCMP_SYS(rmdir),
	SCMP_SYS(rename),
	SCMP_SYS(renameat),
	SCMP_SYS(renameat2),
	SCMP_SYS(link),
	SCMP_SYS(linkat),
	SCMP_SYS(ftruncate),
	SCMP_SYS(truncate),
	SCMP_SYS(fallocate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(sync_file_range),
	SCMP_SYS(syncfs),
	SCMP_SYS(fadvise64),
	SCMP_SYS(fchmod),
	SCMP_SYS(fchmodat),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(splice),
	SCMP_SYS(utimensat),
	SCMP_SYS(umask),
	SCMP_SYS(setsid),
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(mlock),
	SCMP_SYS(mlock2),
	SCMP_SYS(munlock),
	SCMP_SYS(mbind),
	SCMP_SYS(get_mempolicy),
	SCMP_SYS(membarrier),
	SCMP_SYS(futex),
	SCMP_SYS(rseq),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(get_robust_list),
	SCMP_SYS(set_tid_address),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setaffinity),
	SCMP_SYS(sched_getparam),
	SCMP_SYS(sched_getscheduler),
	SCMP_SYS(sched_setscheduler),
	SCMP_SYS(getcpu),
	SCMP_SYS(getpriority),
	SCMP_SYS(setpriority),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait),
	SCMP_SYS(rt_sigsuspend),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(tgkill),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(getpid),
	SCMP_SYS(gettid),
	SCMP_SYS(getppid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(getgroups),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	SCMP_SYS(socket),
	SCMP_SYS(socketpair),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(shutdown),
	SCMP_SYS(sendto),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(recvmsg),
	SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
};

static int confine_calls(const struct key_settings *keys)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	/* Threads, but no processes. clone3 has its flags where a filter cannot see them; without it libc uses clone. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* How libc asks name servers. */
	if (r == 0 && keys->kmip_ca[0])
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendmmsg), 0);
	/* Names threads and mappings; what it could loosen, no_new_privs and the filter itself do not allow. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 0);
	/* Reading limits only. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0));
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

int confine(const char *backing, const char *state_dir, const struct key_settings *keys)
{
	int r;

	if (SANITIZED)
		return 0;
	/* libc loads it when a thread is cancelled, as libfuse does at its end, and aborts if it cannot. */
	if (!dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_NODELETE))
		log_warning("%s", dlerror());
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = confine_files(backing, state_dir, keys);
	if (r < 0)
		log_error("cannot confine the daemon's access to files: %s", strerror(-r));
	if (r == 0) {
		r = confine_calls(keys);
		if (r < 0)
			log_error("cannot confine the daemon's system calls: %s", strerror(-r));
	}
	return r;
}
