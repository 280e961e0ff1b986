/* coffer --help. */
#include <stdio.h>

#include "commands.h"

static const char options_text[] =
	"\nOptions of every command:\n"
	"  --config FILE      settings; default /etc/coffer/coffer.conf, or $COFFER_CONFIG\n"
	"  --state-dir DIR    platform keys, pins and control sockets; default /var/lib/coffer (ordinary users:\n"
	"                     ~/.local/state/coffer), or $COFFER_STATE_DIR\n"
	"  --help             this text\n"
	"\nOptions of create:\n"
	"  --key URI          platform: (default: this machine makes and keeps the key), file:///absolute/path,\n"
	"                     kmip://host[:port][,host...]/identifier or kmip://host/?name=name for a key on a key\n"
	"                     server, with &mode=remote (or ?mode=remote) if it must not leave it; or provided: for one\n"
	"                     that is kept nowhere (read from standard input now, and by key provide later)\n"
	"  --infrastructure   encrypt everything a second time, with another algorithm and another key\n"
	"  --integrity none   no protection of file contents against changes (default: gmac)\n"
	"\nOptions of mount:\n"
	"  -f                 stay in the foreground\n"
	"  -o OPTIONS         ro, rw, allow_other, writeback=on|off, uring=auto|on|off,\n"
	"                     accept (take the volume although this machine saw another state of it last),\n"
	"                     recovery (open it with the recovery key, from standard input),\n"
	"                     and the general ones of mount(8)\n"
	"\nOptions of status:\n"
	"  --json             for programs\n"
	"\nscope and key (root, or whoever runs the volume's daemon):\n"
	"  scope create MNT NAME    a scope with a key source, and maybe a second encryption, of its own\n"
	"  scope list MNT           scopes, their keys and states\n"
	"  scope enable|disable MNT NAME   a disabled scope gives nobody access, until it is enabled\n"
	"  scope assign PATH NAME   puts a file into a scope, or a directory with what is made in it from now on;\n"
	"                           --recursive: with what is there, too; --deny-override: and keeps others out\n"
	"  scope purge MNT NAME     takes a scope away that nothing is in; of one that is disabled or revoked, all that\n"
	"                           is in it is lost\n"
	"  key show MNT             the key of a scope (--scope NAME; default: the volume's own)\n"
	"  key set MNT --key URI    another key source; no data is touched\n"
	"  key rotate MNT           a new version of the key; --infrastructure: of the second encryption's\n"
	"  key lock|unlock MNT      forgets the key, until it is unlocked\n"
	"  key provide MNT          hands a provided key over, on standard input; --ttl SECONDS: for so long\n"
	"  key recovery MNT         makes a recovery key and shows it once; an older one is void\n"
	"\nOptions of reencrypt:\n"
	"  --scope NAME       default: the volume's own\n"
	"  --rate MIB_PER_S   no faster than that\n"
	"  --no-wait          return at once; coffer status shows how far it is\n"
	"\nOptions of audit show:\n"
	"  --json             the lines as they stand, one JSON object each\n"
	"\nOptions of fsck:\n"
	"  --data             read and check every block too\n";

static const struct {
	enum exit_code code;
	const char *meaning;
} exit_codes[] = {
	{ EXIT_DONE, "done" },
	{ EXIT_OTHER, "failed for a reason not listed here" },
	{ EXIT_USAGE, "wrong command, option or setting" },
	{ EXIT_NOT_A_VOLUME, "there is no volume, or its descriptor cannot be read" },
	{ EXIT_WRONG_KEY, "the key does not open the volume" },
	{ EXIT_KEY_REFUSED, "the key is not there or may not be used, or no key server answers" },
	{ EXIT_BUSY, "the volume is served already, or the mount is in use" },
	{ EXIT_EXISTS, "the directory for a new volume is not empty" },
	{ EXIT_FORMAT, "the volume was made by a newer version of this program" },
	{ EXIT_CHANGED, "the volume is not what this machine saw last" },
	{ EXIT_MOUNT_POINT, "the mount point cannot be used" },
	{ EXIT_IO, "the backing directory failed" },
	{ EXIT_DAMAGED, "fsck or audit found errors, or the descriptor was altered" },
	{ EXIT_NOT_WRITTEN, "unmounted, but the last state could not be written; the log has it" },
	{ EXIT_NOT_MOUNTED, "no volume is mounted there" },
};

void print_help(FILE *out)
{
	fprintf(out, "coffer serves encrypted directories as file systems.\n\nCommands:\n");
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  coffer %s %s\n      %s\n", c->name, c->arguments, c->help);
	fputs(options_text, out);
	fprintf(out, "\nExit codes:\n");
	for (size_t i = 0; i < sizeof(exit_codes) / sizeof(exit_codes[0]); i++)
		fprintf(out, "  %2d  %s\n", exit_codes[i].code, exit_codes[i].meaning);
}

enum exit_code usage_error(const char *command)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, command) == 0)
			fprintf(stderr, "usage: coffer %s %s\n", c->name, c->arguments);
	return EXIT_USAGE;
}
