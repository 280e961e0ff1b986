/* Changing what is mounted: between read-only and writable, and the flags of the mount. */
#include <errno.h>

#include "commands.h"
/* After ours: it brings the kernel's macro BLOCK_SIZE. */
#include <sys/mount.h>

/* Has the daemon end, or begin, to change the volume by itself. */
static int tell_daemon(const struct config *c, const struct mount_entry *e, bool read_only)
{
	AUTO_CLOSE int fd = -1;
	int r = control_connect_mount(c->state_dir, e->device, &fd);

	if (r == 0)
		r = control_send(fd, json_pack("{s:s, s:b}", "verb", "read-only", "on", read_only));
	else
		log_error("%s: its daemon cannot be asked (another --state-dir, or it died)", e->mountpoint);
	return r < 0 ? r : control_receive(fd, print_answer_line, NULL, NULL);
}

static enum exit_code say_not_remounted(const char *mountpoint, int r)
{
	log_error("%s: cannot be remounted: %s%s", mountpoint, strerror(-r),
		  r == -EBUSY ? " (files on it are open for writing)" : "");
	return r == -EBUSY ? EXIT_BUSY : EXIT_MOUNT_POINT;
}

enum exit_code remount(const struct config *c, const char *mountpoint, const struct mount_options *o)
{
	unsigned long flags = MS_REMOUNT | o->flags | (o->read_only ? MS_RDONLY : 0);
	char absolute[PATH_MAX];
	struct mount_entry e;
	enum exit_code code;
	int r = 0;

	if (resolve_mountpoint(mountpoint, absolute) < 0 || mounts_at(absolute, &e) < 0 || !mount_is_coffer(&e)) {
		log_error("%s: no volume is mounted there", mountpoint);
		return EXIT_NOT_MOUNTED;
	}
	code = start_crypto();
	if (code != EXIT_DONE)
		return code;
	/* The daemon goes first to write and last to rest: nothing that the kernel accepts is unwelcome. */
	if (!o->read_only)
		r = tell_daemon(c, &e, false);
	if (r == 0 && mount(NULL, e.mountpoint, NULL, flags, NULL) < 0)
		r = -errno;
	if (r == 0 && o->read_only)
		r = tell_daemon(c, &e, true);
	return r < 0 ? say_not_remounted(mountpoint, r) : EXIT_DONE;
}
