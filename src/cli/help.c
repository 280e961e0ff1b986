/* What --help prints, and what is said of a command that was called wrongly. */
#include "commands.h"

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
	{ EXIT_INCOMPLETE, "import was interrupted, or could not take all; what is missing was listed" },
};

/* One line for each way to call it; a tab begins what did not fit the line before. */
static void print_usage(FILE *out, const struct command *c)
{
	const char *label = "usage:";

	for (const char *line = c->forms, *end; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		if (*line == '\t')
			fprintf(out, "%*s%.*s\n", (int)strlen("usage: coffer  ") + (int)strlen(c->name), "",
				(int)(end - line) - 1, line + 1);
		else
			fprintf(out, "%-6s coffer %s %.*s\n", label, c->name, (int)(end - line), line);
		label = "";
	}
}

static void print_option(const struct command_option *o)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%s%s%s", o->name[1] ? "--" : "-", o->name, o->argument ? " " : "",
		 o->argument ? o->argument : "");
	for (const char *line = o->help, *end; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		printf("  %-21s %.*s\n", name, (int)(end - line), line);
		name[0] = 0;
	}
}

void print_command_help(const struct command *c)
{
	print_usage(stdout, c);
	printf("\ncoffer %s: %s.\n", c->name, c->summary);
	if (c->text)
		fputs(c->text, stdout);
	putchar('\n');
	for (const struct command_option *o = c->options; o->name; o++)
		print_option(o);
	printf("  --config FILE, --state-dir DIR: as for all commands, see coffer --help\n");
}

void print_help(FILE *out)
{
	fprintf(out, "coffer serves encrypted directories as file systems.\n\n"
		     "coffer COMMAND --help tells more about each; so does the man page coffer(1).\n");
	for (const struct command *c = commands; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->summary);
	fprintf(out, "\nOptions of every command:\n"
		     "  --config FILE      settings; default /etc/coffer/coffer.conf, or $COFFER_CONFIG\n"
		     "  --state-dir DIR    keys that this machine makes, audit trails, sockets; default\n"
		     "                     /var/lib/coffer (ordinary users: ~/.local/state/coffer), or\n"
		     "                     $COFFER_STATE_DIR\n"
		     "  --help             how it is called\n");
	fprintf(out, "\nExit codes:\n");
	for (size_t i = 0; i < sizeof(exit_codes) / sizeof(exit_codes[0]); i++)
		fprintf(out, "  %2d  %s\n", exit_codes[i].code, exit_codes[i].meaning);
}

enum exit_code usage_error(const char *command)
{
	print_usage(stderr, find_command(command));
	return EXIT_USAGE;
}
