/* coffer mount, and mount.coffer for mount(8). */
#include <errno.h>
#include <sys/stat.h>

#include "commands.h"

enum { LISTS_MAX = 64 };

/* What was asked for, with what the configuration says of the volume. */
struct mounting {
	struct config_volume volume;
	struct mount_request request;
};

/* `lists` are those of -o; `mountpoint` NULL: the one in the configuration. All of it must stay. */
static enum exit_code prepare_mount(struct mounting *m, const struct config *c, const char *source,
				    const char *mountpoint, const char *const *lists, size_t count)
{
	struct mount_request *r = &m->request;
	int found = config_volume(c, source, &m->volume);

	r->config = c;
	r->backing = source;
	r->mountpoint = mountpoint;
	/* mount(8) finds what it mounted by what it was told; a relative path tells nobody anything later on. */
	r->source = source[0] == '/' ? source : NULL;
	mount_options_init(&r->options, c);
	if (found < 0 && found != -ENOENT)
		return EXIT_USAGE;
	if (found == 0) {
		r->backing = m->volume.backing;
		r->source = source;
		if (!mountpoint && m->volume.mountpoint[0])
			r->mountpoint = m->volume.mountpoint;
		if (mount_options_parse(&r->options, m->volume.options) < 0)
			return EXIT_USAGE;
	}
	for (size_t i = 0; i < count; i++)
		if (mount_options_parse(&r->options, lists[i]) < 0)
			return EXIT_USAGE;
	if (!r->mountpoint) {
		log_error(
			"%s: where is it to be mounted? Only a volume whose mount point is in the settings needs none named",
			source);
		return EXIT_USAGE;
	}
	return EXIT_DONE;
}

int command_mount(int argc, char **argv)
{
	struct arguments a = { .command = "mount" };
	struct mounting m = { 0 };
	const char *lists[LISTS_MAX];
	size_t count = 0;
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == 'f')
			m.request.foreground = true;
		else if (option == 'o' && count < LISTS_MAX)
			lists[count++] = optarg;
	}
	if (!take_arguments(&a, argc, 1, 2, &c, &code))
		return code;
	code = prepare_mount(&m, &c, argv[optind], argv[optind + 1], lists, count);
	if (code != EXIT_DONE)
		return code;
	return m.request.options.remount ? remount(&c, m.request.mountpoint, &m.request.options)
					 : daemon_mount(&m.request);
}

/* ---- mount.coffer SOURCE DIRECTORY [-sfnv] [-o OPTIONS] [-t TYPE] ---- */

/* mount(8)'s codes, which it passes on. */
enum { MOUNT_USAGE = 1, MOUNT_SYSTEM = 2, MOUNT_FAILED = 32 };

static int mount_code(enum exit_code code)
{
	return code == EXIT_DONE    ? 0
	       : code == EXIT_USAGE ? MOUNT_USAGE
	       : code == EXIT_OTHER ? MOUNT_SYSTEM
				    : MOUNT_FAILED;
}

/* What can be said without doing anything. */
static enum exit_code check_mount(const struct mount_request *r)
{
	char path[PATH_MAX];
	AUTO_CLOSE int fd = -1;
	struct stat st;

	if (backing_open(r->backing, &fd, path) < 0)
		return EXIT_NOT_A_VOLUME;
	if (backing_has_volume(fd) < 0) {
		log_error("%s: there is no volume here", path);
		return EXIT_NOT_A_VOLUME;
	}
	if (stat(r->mountpoint, &st) < 0 || !S_ISDIR(st.st_mode)) {
		log_error("%s: not a directory", r->mountpoint);
		return EXIT_MOUNT_POINT;
	}
	return EXIT_DONE;
}

static enum exit_code mount_by_helper(const struct mount_request *r, bool check_only, bool verbose)
{
	enum exit_code code;

	if (r->options.recovery) {
		log_error("the recovery key is not asked for here: use coffer mount -o recovery");
		return EXIT_USAGE;
	}
	if (check_only)
		code = check_mount(r);
	else if (r->options.remount)
		code = remount(r->config, r->mountpoint, &r->options);
	else
		code = daemon_mount(r);
	if (code == EXIT_DONE && verbose)
		printf("coffer: %s %s on %s\n", r->backing, check_only ? "could be mounted" : "is mounted",
		       r->mountpoint);
	return code;
}

int command_mount_helper(int argc, char **argv)
{
	const struct arguments a = {
		.command = "mount"
	}; /* settings come from the environment, or from where they are by default */
	bool check_only = false, verbose = false;
	struct mounting m = { .request.mounted_will_do = true };
	const char *lists[LISTS_MAX];
	size_t count = 0;
	enum exit_code code;
	struct config c;
	int option;

	while ((option = getopt(argc, argv, "fnst:vo:")) != -1) {
		if (option == 'f')
			check_only = true;
		else if (option == 's')
			m.request.options.sloppy = true;
		else if (option == 'v')
			verbose = true;
		else if (option == 'o' && count < LISTS_MAX)
			lists[count++] = optarg;
		else if (option != 'n' && option != 't')
			return MOUNT_USAGE;
	}
	if (!take_arguments(&a, argc, 2, 2, &c, &code))
		return mount_code(code);
	code = prepare_mount(&m, &c, argv[optind], argv[optind + 1], lists, count);
	if (code == EXIT_DONE)
		code = mount_by_helper(&m.request, check_only, verbose);
	return mount_code(code);
}
