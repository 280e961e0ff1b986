/* coffer umount: returns once the daemon has written everything and released the volume. */
#include <errno.h>
#include <poll.h>

#include "commands.h"

enum { PATIENCE_MS = 5000 }; /* before saying what it may be that takes so long */

struct unmounting {
	const char *mountpoint;
	int fd; /* where the daemon answers */
	int result;
};

/* The daemon has noted that we wait: now it may end. */
static bool unmount_now(void *arg, const char *line)
{
	struct unmounting *u = arg;
	struct pollfd answer = { .fd = u->fd, .events = POLLIN };

	(void)line;
	u->result = unmount(u->mountpoint, false);
	if (u->result == 0 && poll(&answer, 1, PATIENCE_MS) == 0)
		log_notice(
			"%s: unmounted; waiting for the daemon: it may have much to write, or the file system is in use by a "
			"bind mount, an overlay, or another mount namespace",
			u->mountpoint);
	return u->result == 0;
}

static enum exit_code say_not_unmounted(const char *path, int r)
{
	if (r == -EBUSY) {
		log_error("%s: in use, or not yours to unmount", path);
		return EXIT_BUSY;
	}
	log_error("%s: cannot be unmounted: %s", path, strerror(-r));
	return EXIT_OTHER;
}

/* Without a daemon to ask: one that died, or one of another user with another state directory. */
static enum exit_code unmount_alone(const char *path, const char *mountpoint)
{
	bool dead = mount_answers(mountpoint) == -ENOTCONN;
	int r = unmount(mountpoint, dead);

	if (r < 0)
		return say_not_unmounted(path, r);
	if (dead)
		log_notice("%s: the daemon had died; the next mount recovers what it had acknowledged", path);
	else
		log_warning(
			"%s: unmounted, but its daemon could not be asked whether all is written (another --state-dir?)",
			path);
	return EXIT_DONE;
}

static enum exit_code unmount_and_wait(int fd, const char *path, const char *mountpoint)
{
	struct unmounting u = { .mountpoint = mountpoint, .fd = fd, .result = 1 };
	int r = control_send(fd, json_pack("{s:s}", "verb", "wait"));

	if (r == 0)
		r = control_receive(fd, unmount_now, &u, NULL);
	if (u.result > 0) /* it did not get as far as that */
		return unmount_alone(path, mountpoint);
	if (u.result < 0)
		return say_not_unmounted(path, u.result);
	if (r == -ECONNRESET)
		log_error("%s: unmounted, but the daemon ended without saying how; the next mount recovers", path);
	else if (r < 0)
		log_error(
			"%s: unmounted, but the last state could not be written: %s; the next mount takes it from the log",
			path, strerror(-r));
	return r < 0 ? EXIT_NOT_WRITTEN : EXIT_DONE;
}

int command_umount(int argc, char **argv)
{
	struct arguments a = { .command = "umount" };
	char mountpoint[PATH_MAX];
	struct mount_entry e;
	AUTO_CLOSE int fd = -1;
	struct config_volume v;
	enum exit_code code;
	const char *path;
	struct config c;
	int option;

	(void)take_option(&a, argc, argv, &option); /* it has none of its own */
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	path = argv[optind];
	if (config_volume(&c, path, &v) == 0 && v.mountpoint[0])
		path = v.mountpoint;
	if (resolve_mountpoint(path, mountpoint) < 0 || mounts_at(mountpoint, &e) < 0 || !mount_is_coffer(&e)) {
		log_error("%s: no volume is mounted there", path);
		return EXIT_NOT_MOUNTED;
	}
	code = start_crypto();
	if (code != EXIT_DONE)
		return code;
	if (control_connect_mount(c.state_dir, e.device, &fd) < 0)
		return unmount_alone(path, mountpoint);
	return unmount_and_wait(fd, path, mountpoint);
}
