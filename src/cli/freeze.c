/* coffer freeze, coffer thaw: everything home and quiet, for a snapshot or a copy of the backing directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "commands.h"

enum { FREEZE_SECONDS = 60 };

static bool take_seconds(const char *text, long *ret)
{
	char *end;

	*ret = strtol(text, &end, 10);
	if (end != text && !*end && *ret > 0 && *ret <= FREEZE_MAX)
		return true;
	log_error("--for is a number of seconds, up to %d, not '%s'", FREEZE_MAX, text);
	return false;
}

/* What programs wrote is the kernel's until it is sent to the daemon. This sends it all at once; that it arrived is the daemon's to
 * see to. What could not be written, now or before, is not in the volume, and its writer is told: no reason not to freeze. */
static void send_written(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || (syncfs(fd) < 0 && errno != EINTR))
		log_warning("%s: not all that was written before could be stored: %s", path, strerror(errno));
}

static enum exit_code find_mounted(const struct config *c, const char *path, struct target *ret)
{
	enum exit_code code = find_target(c, path, ret);

	if (code != EXIT_DONE || ret->mountpoint[0])
		return code;
	log_error("%s: no volume is mounted there", path);
	return EXIT_NOT_MOUNTED;
}

int command_freeze(int argc, char **argv)
{
	struct arguments a = { .command = "freeze" };
	long seconds = FREEZE_SECONDS;
	enum exit_code code;
	struct config c;
	struct target t;
	int option;

	while (take_option(&a, argc, argv, &option))
		if (!take_seconds(optarg, &seconds))
			return EXIT_USAGE;
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	code = find_mounted(&c, argv[optind], &t);
	if (code != EXIT_DONE)
		return code;
	send_written(t.mountpoint);
	return ask_daemon(&c, argv[optind], json_pack("{s:s, s:I}", "verb", "freeze", "seconds", (json_int_t)seconds),
			  NULL, NULL);
}

int command_thaw(int argc, char **argv)
{
	struct arguments a = { .command = "thaw" };
	enum exit_code code;
	struct config c;
	int option;

	(void)take_option(&a, argc, argv, &option); /* it has none of its own */
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	return ask_daemon(&c, argv[optind], json_pack("{s:s}", "verb", "thaw"), NULL, NULL);
}
