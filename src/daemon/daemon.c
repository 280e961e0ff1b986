/* The daemon's life: settings are there; now volume, session, control socket; serve; and everything back in reverse. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <coffer/volume_keys.h>

#include "daemon_internal.h"

enum {
	SETTLE_SECONDS = 10, /* at most, for the kernel to write what it holds of files in use */
	STRAY_SECONDS = 10,  /* for the kernel to let go of the file system after the unmount */
	QUIET_MS = 300,      /* without a change: it has */
	DEAD_MOUNTS = 16,    /* at most, on top of each other */
};

struct daemon {
	const struct mount_request *request;
	struct audit_requester requester;
	int report_fd; /* where the exit code of starting goes; -1: nobody waits */
	char backing[PATH_MAX], mountpoint[PATH_MAX];
	int backing_fd;
	struct fs_options fs_options;
	char source[PATH_MAX]; /* a copy: the helper writes its name over the arguments */
	char mount_flags[MOUNT_FLAGS_SIZE];
	struct helper helper;
	struct service service;
	struct volume *volume;
	struct fs *fs;
	struct control *control;
	pthread_t signals, ready;
	bool signals_run, ready_runs;
	atomic_bool ended; /* fs_serve has returned */
	atomic_bool works; /* the mount answered */
};

/* ---- starting ---- */

/* Says once how starting went. The parent prints nothing more: what went wrong is on the shared stderr already. */
static void report(struct daemon *d, enum exit_code code)
{
	unsigned char byte = (unsigned char)code;

	if (d->report_fd >= 0 && write(d->report_fd, &byte, 1) == 1)
		close(d->report_fd);
	d->report_fd = -1;
}

void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	log_to_syslog(true);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* What daemons that died left there gives nothing but errors. Their helpers may be about to take it away, too. */
static void clear_dead_mounts(const char *mountpoint)
{
	struct mount_entry e;

	for (int i = 0; i < DEAD_MOUNTS && mount_answers(mountpoint) == -ENOTCONN; i++)
		if (mounts_at(mountpoint, &e) == 0 && mount_is_coffer(&e) && unmount(mountpoint, true) == 0)
			log_notice("%s: a daemon that died had left its mount there; it was taken away", mountpoint);
}

static enum exit_code check_mountpoint(struct daemon *d)
{
	const char *given = d->request->mountpoint;
	struct stat st;
	size_t len = strlen(d->backing);
	int r = resolve_mountpoint(given, d->mountpoint);

	if (r == 0) {
		clear_dead_mounts(d->mountpoint);
		r = mount_answers(d->mountpoint);
	}
	if (r == 0 && stat(d->mountpoint, &st) < 0)
		r = -errno;
	if (r == -ENOTCONN)
		log_error("%s: a daemon that died left its mount there, and it is not yours to take away", given);
	else if (r < 0)
		log_error("%s: %s", given, strerror(-r));
	else if (!S_ISDIR(st.st_mode))
		log_error("%s: not a directory", given);
	else if (strncmp(d->mountpoint, d->backing, len) == 0 && (d->mountpoint[len] == 0 || d->mountpoint[len] == '/'))
		log_error("%s: a volume cannot be mounted on or inside its own backing directory", given);
	else
		return EXIT_DONE;
	return EXIT_MOUNT_POINT;
}

static int record_mount(struct daemon *d)
{
	struct audit_event e = {
		.event = "volume-mounted",
		.requester = &d->requester,
		.detail = d->mountpoint,
	};

	return audit_record(volume_audit(d->volume), &e, 1);
}

static enum exit_code start_session(struct daemon *d)
{
	int fd, r;

	r = control_start(d->request->config->state_dir, d->backing, &d->control);
	if (r == -EADDRINUSE)
		return EXIT_BUSY;
	/* Before it: a mount that nobody serves yet is not easily given up. */
	if (r == 0)
		r = record_mount(d);
	if (r < 0)
		return EXIT_OTHER;
	r = helper_mount(&d->helper, &fd);
	if (r < 0) {
		log_error("%s: could not be mounted on", d->request->mountpoint);
		return r == -ENODEV ? EXIT_MOUNT_POINT : EXIT_OTHER;
	}
	r = fs_new(d->volume, fd, &d->fs_options, &d->fs);
	if (r < 0) {
		helper_unmount(&d->helper, true);
		return EXIT_OTHER;
	}
	return EXIT_DONE;
}

/* ---- while it serves ---- */

/* The first request through the mount: once it is answered, the mount works. */
static void *run_ready(void *arg)
{
	struct daemon *d = arg;
	struct control_facts facts = {
		.volume = d->volume,
		.fs = d->fs,
		.audit = volume_audit(d->volume),
		.backing = d->backing,
		.mountpoint = d->mountpoint,
		.state_dir = d->request->config->state_dir,
		.writeback = d->fs_options.writeback,
		.mounted_at = time(NULL),
	};
	bool background = !d->request->foreground;
	struct mount_entry e;
	struct stat st;

	/* A root directory that is locked answers, too. */
	if (stat(d->mountpoint, &st) < 0 ? errno != EACCES : st.st_ino != ROOT_OBJECT) {
		log_error("%s: the mount does not answer: %s", d->request->mountpoint, strerror(errno));
		fs_stop(d->fs);
		return NULL;
	}
	if (mounts_at(d->mountpoint, &e) == 0)
		facts.device = e.device;
	helper_ready(&d->helper, background);
	volume_keeper_start(d->volume, &(struct kernel_cache){ fs_drop, d->fs, fs_end_freeze });
	control_serve(d->control, &facts);
	atomic_store(&d->works, true);
	if (background)
		leave_terminal();
	log_notice("%s is mounted on %s", d->backing, d->mountpoint);
	service_tell(&d->service, "READY=1\nSTATUS=Serving the volume");
	report(d, EXIT_DONE);
	return NULL;
}

void wait_until_quiet(const struct fs *f, const atomic_bool *ended)
{
	struct timespec pause = { .tv_nsec = QUIET_MS * 1000000L };
	uint64_t before;

	for (int i = 0; i < SETTLE_SECONDS * 1000 / QUIET_MS; i++) {
		before = fs_changes(f);
		nanosleep(&pause, NULL);
		if ((ended && atomic_load(ended)) || fs_changes(f) == before)
			return;
	}
}

static void stop_serving(struct daemon *d)
{
	struct timespec pause = { .tv_nsec = 20 * 1000000L };

	fs_end_freeze(d->fs, "the daemon was told to end"); /* the kernel has to write before it lets go */
	if (helper_unmount(&d->helper, false) == 0) {
		/* It is over at once, unless a copy of the mount lives on elsewhere. */
		for (int i = 0; i < STRAY_SECONDS * 50 && !atomic_load(&d->ended); i++)
			nanosleep(&pause, NULL);
		if (atomic_load(&d->ended))
			return;
		log_warning("%s is still mounted in another mount namespace: it fails there from now on", d->backing);
	} else {
		log_warning("%s is in use: detached; open files fail from now on", d->mountpoint);
		helper_unmount(&d->helper, true);
	}
	wait_until_quiet(d->fs, &d->ended);
	if (!atomic_load(&d->ended))
		fs_stop(d->fs);
}

static void stopping_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

/* Waits for a signal. Meanwhile the service manager hears that the volume answers: if that hangs, so does this. */
static int wait_for_signal(struct daemon *d, const sigset_t *set)
{
	unsigned ms = d->service.watchdog_ms;
	struct timespec interval = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
	struct attr a;
	int sig;

	while ((sig = ms ? sigtimedwait(set, NULL, &interval) : sigwaitinfo(set, NULL)) < 0) {
		if (errno != EAGAIN || !atomic_load(&d->works))
			continue;
		(void)volume_getattr(d->volume, ROOT_OBJECT, &a);
		service_tell(&d->service, "WATCHDOG=1");
	}
	return sig;
}

static void *run_signals(void *arg)
{
	struct daemon *d = arg;
	sigset_t set;
	int sig;

	stopping_signals(&set);
	sig = wait_for_signal(d, &set);
	if (!atomic_load(&d->ended)) {
		service_tell(&d->service, "STOPPING=1\nSTATUS=Unmounting");
		log_notice("%s: unmounting", strsignal(sig));
		stop_serving(d);
	}
	return NULL;
}

static enum exit_code serve(struct daemon *d)
{
	int r = 0;

	d->signals_run = pthread_create(&d->signals, NULL, run_signals, d) == 0;
	d->ready_runs = pthread_create(&d->ready, NULL, run_ready, d) == 0;
	if (d->signals_run && d->ready_runs)
		r = fs_serve(d->fs);
	else
		log_error("no threads");
	atomic_store(&d->ended, true);
	service_tell(&d->service, "STOPPING=1\nSTATUS=Writing the last state");
	if (r < 0)
		log_error("the connection to the kernel failed: %s", strerror(-r));
	/* First of all end the connection: whoever waits for an answer through the mount gets an error now. */
	fs_disconnect(d->fs);
	if (d->ready_runs)
		pthread_join(d->ready, NULL);
	if (d->signals_run) {
		pthread_kill(d->signals, SIGTERM);
		pthread_join(d->signals, NULL);
	}
	if (!atomic_load(&d->works))
		return EXIT_MOUNT_POINT;
	return r < 0 ? EXIT_OTHER : EXIT_DONE;
}

/* ---- the end ---- */

static enum exit_code stop(struct daemon *d, enum exit_code code)
{
	int r = 0;

	if (d->volume)
		volume_hurry(d->volume);
	if (d->control)
		control_stop(d->control);
	if (d->volume)
		volume_keeper_stop(d->volume);
	fs_free(d->fs);
	if (d->volume)
		r = volume_close(d->volume);
	if (r < 0) {
		log_error(
			"%s: the last state could not be written: %s; nothing is lost, the next mount takes it from the log",
			d->backing, strerror(-r));
		code = EXIT_NOT_WRITTEN;
	}
	if (atomic_load(&d->works))
		log_notice("%s is unmounted", d->backing);
	/* Whatever is still mounted is dead now. */
	helper_unmount(&d->helper, true);
	helper_end(&d->helper);
	if (d->backing_fd >= 0)
		close(d->backing_fd);
	log_cut_short(false);
	service_end(&d->service);
	control_free(d->control, r); /* who hears that it is over may take the backing directory's file system away */
	return code;
}

/* Objects' files are kept open, as many as half of the descriptors that we may have; threads' heaps grow in steps that are not
 * a system call each. */
static void prepare_resources(void)
{
	enum { HEAP_STEP = 1 << 20 };
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	(void)mallopt(M_TOP_PAD, HEAP_STEP);
}

static enum exit_code run(struct daemon *d)
{
	const struct mount_options *o = &d->request->options;
	struct opening opening = { .request = d->request,
				   .requester = &d->requester,
				   .backing = d->backing,
				   .mountpoint = d->mountpoint,
				   .source = d->source };
	enum exit_code code = EXIT_OTHER;
	sigset_t set;
	int r;

	log_set_level(d->request->config->log_level);
	log_cut_short(true);
	stopping_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG will do */
	prepare_resources();
	if (backing_open(d->request->backing, &d->backing_fd, d->backing) < 0) {
		code = EXIT_NOT_A_VOLUME;
		goto out;
	}
	code = check_mountpoint(d);
	if (code != EXIT_DONE)
		goto out;
	code = EXIT_OTHER;
	/* Nobody's directory is in use only because a volume was mounted from there. */
	if (!d->request->foreground && chdir("/") < 0) {
		log_error("/: %s", strerror(errno));
		goto out;
	}
	mount_options_flags(o, d->mount_flags);
	snprintf(d->source, sizeof(d->source), "%s", d->request->source ? d->request->source : d->backing);
	d->fs_options = (struct fs_options){
		.source = d->source,
		.kernel_flags = d->mount_flags,
		.read_only = o->read_only,
		.allow_other = o->allow_other,
		.writeback = o->writeback && !o->read_only,
		.uring = o->uring,
	};
	/* Who merely inherited a service manager's socket has nothing to say there. */
	if (d->request->foreground)
		service_start(&d->service);
	r = helper_start(&d->helper, d->mountpoint, &d->fs_options);
	if (r == 0)
		r = crypto_start();
	if (r < 0) {
		log_error("cannot start: %s", strerror(-r));
		goto out;
	}
	key_set_opener(helper_open_key, &d->helper);
	opening.backing_fd = d->backing_fd;
	code = open_volume(&opening, &d->volume);
	if (code == EXIT_DONE && d->volume)
		code = start_session(d);
	if (code == EXIT_DONE && d->volume)
		code = serve(d);
out:
	code = stop(d, code);
	report(d, code);
	return code;
}

/* ---- the parent ---- */

static enum exit_code wait_for_report(int fd)
{
	unsigned char byte;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return (enum exit_code)byte;
	log_error("the daemon ended before the mount worked");
	return EXIT_OTHER;
}

enum exit_code daemon_mount(const struct mount_request *r)
{
	struct daemon d = {
		.request = r,
		.requester = { .uid = getuid(), .pid = getpid() },
		.report_fd = -1,
		.backing_fd = -1,
		.helper = { -1, PTHREAD_MUTEX_INITIALIZER },
		.service = { .fd = -1 },
	};
	enum exit_code code = EXIT_OTHER;
	int report[2];
	pid_t pid;

	if (r->foreground)
		return run(&d);
	if (pipe2(report, O_CLOEXEC) < 0)
		return EXIT_OTHER;
	pid = fork();
	if (pid < 0) {
		log_error("cannot start a process: %s", strerror(errno));
	} else if (pid > 0) {
		close(report[1]);
		code = wait_for_report(report[0]);
	} else {
		/* What the caller left open is not kept open: somebody may wait for its end. */
		close_range(3, (unsigned)report[1] - 1, 0);
		close_range((unsigned)report[1] + 1, ~0U, 0);
		d.report_fd = report[1];
		_exit(run(&d));
	}
	return code;
}
