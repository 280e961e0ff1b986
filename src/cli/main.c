/* coffer: the command table. */
#include <stdio.h>

#include "commands.h"

const struct command commands[] = {
	{ "create", "BACKING [--key URI] [--infrastructure] [--integrity gmac|none]", "make a new volume",
	  command_create },
	{ "mount", "BACKING MNT [-f] [-o OPTIONS]", "serve a volume", command_mount },
	{ "umount", "MNT", "write everything and stop serving", command_umount },
	{ "status", "BACKING|MNT|PATH [--json]", "describe a volume, or one file of it", command_status },
	{ "scope",
	  "create|list|enable|disable|purge MNT [NAME] [--key URI] [--infrastructure] [--integrity gmac|none] [--json], "
	  "or assign PATH NAME [--recursive] [--deny-override]",
	  "keys of their own for parts of a volume", command_scope },
	{ "key",
	  "show|set|rotate|lock|unlock|provide|recovery MNT [--scope NAME] [--key URI] [--infrastructure] [--ttl SECONDS] [--json]",
	  "what encrypts the keys of a volume, or of a scope", command_key },
	{ "reencrypt", "MNT [--scope NAME] [--rate MIB_PER_S] [--no-wait]",
	  "rewrite what is in a volume, or in a scope, under a new key", command_reencrypt },
	{ "fsck", "BACKING [--data]", "check a volume; changes nothing", command_fsck },
	{ "audit", "show|verify BACKING|MNT [--json]", "show or check the record of what was done with a volume's keys",
	  command_audit },
	{ NULL, NULL, NULL, NULL },
};

int main(int argc, char **argv)
{
	static char name[32];

	process_title_start(argc, argv);
	if (keep_private() < 0) {
		fprintf(stderr, "coffer: cannot switch core dumps off\n");
		return EXIT_OTHER;
	}
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
	for (const struct command *c = commands; c->name; c++) {
		if (strcmp(c->name, argv[1]) == 0) {
			snprintf(name, sizeof(name), "coffer %s", c->name);
			argv[1] = name; /* as getopt begins its messages */
			return (int)c->run(argc - 1, argv + 1);
		}
	}
	fprintf(stderr, "coffer: there is no command '%s'; see coffer --help\n", argv[1]);
	return EXIT_USAGE;
}
