/* coffer: finds the command. */
#include "commands.h"

/* mount(8) calls the program by another name. */
static bool is_mount_helper(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	return strcmp(name, "mount.coffer") == 0 || strcmp(name, "mount.fuse.coffer") == 0;
}

int main(int argc, char **argv)
{
	static char name[32];

	process_title_start(argc, argv);
	if (keep_private() < 0) {
		fprintf(stderr, "coffer: cannot switch core dumps off\n");
		return EXIT_OTHER;
	}
	if (argc > 0 && is_mount_helper(argv[0]))
		return command_mount_helper(argc, argv);
	if (argc < 2) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
		print_help(stdout);
		return EXIT_DONE;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("coffer %s\n", COFFER_VERSION);
		return EXIT_DONE;
	}
	const struct command *c = find_command(argv[1]);

	if (!c) {
		fprintf(stderr, "coffer: there is no command '%s'; see coffer --help\n", argv[1]);
		return EXIT_USAGE;
	}
	snprintf(name, sizeof(name), "coffer %s", c->name);
	argv[1] = name; /* as getopt begins its messages */
	return c->run(argc - 1, argv + 1);
}
