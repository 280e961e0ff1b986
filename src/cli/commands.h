/* The commands: what main's table lists, and what they share. */
#ifndef COFFER_COMMANDS_H
#define COFFER_COMMANDS_H

#include <getopt.h>
#include <stdio.h>

#include <coffer/control.h>
#include <coffer/daemon.h>
#include <coffer/manager.h>
#include <coffer/util.h>

/* ---- the table of commands: what can be called, and what the help texts and usage errors say ---- */
/* What getopt_long gives for an option; for a short one it is its letter. */
enum option_id {
	OPTION_CONFIG = 256,
	OPTION_STATE_DIR,
	OPTION_HELP,
	OPTION_ACROSS_MOUNTS,
	OPTION_DATA,
	OPTION_DENY_OVERRIDE,
	OPTION_FOR,
	OPTION_INFRASTRUCTURE,
	OPTION_INTEGRITY,
	OPTION_JSON,
	OPTION_KEY,
	OPTION_NO_WAIT,
	OPTION_PROMETHEUS,
	OPTION_RATE,
	OPTION_RECURSIVE,
	OPTION_SCOPE,
	OPTION_TTL,
};
struct command_option {
	int id;
	const char *name;     /* of one letter: a short option */
	const char *argument; /* NULL: takes none */
	const char *help;     /* lines of at most 57 characters */
};
enum { COMMAND_OPTIONS_MAX = 8 };
/* argv[0] is "coffer" and the command's name, or mount.coffer, whose exit code is mount(8)'s. Returns the program's. */
typedef int command_run(int argc, char **argv);
struct command {
	const char *name, *summary;
	const char *forms; /* what follows the name: a line for each way to call it */
	const char *text;  /* what else is worth knowing, as printed; NULL: nothing */
	command_run *run;
	/* But for those that every command has; the last has no name. */
	struct command_option options[COMMAND_OPTIONS_MAX];
};
extern const struct command commands[];               /* the last has no name */
const struct command *find_command(const char *name); /* NULL: none */
command_run command_create, command_mount, command_mount_helper, command_umount, command_status, command_stats,
	command_scope, command_key, command_reencrypt, command_fsck, command_audit, command_freeze, command_thaw,
	command_import;

void print_help(FILE *out);                       /* of the program */
void print_command_help(const struct command *c); /* fits a screen: 24 lines of 80 columns */
enum exit_code usage_error(const char *command);  /* says how it is called */

/* ---- options and arguments of a command ---- */
struct arguments {
	const char *command, *config_file, *state_dir;
	bool help, unknown;
};
/* The next option of the command's own (an option_id, or a letter), with its argument in optarg; those that every command has are
 * noted in `a`, and so is that one is not known, which getopt_long has said. false: there are no more. */
bool take_option(struct arguments *a, int argc, char **argv, int *ret_option);
/* After the options: true and the configuration if all were known and from `min` to `max` arguments are left. With --help, prints
 * the command's and sets *ret_code to EXIT_DONE. false: the command is over, with *ret_code. */
bool take_arguments(const struct arguments *a, int argc, int min, int max, struct config *c, enum exit_code *ret_code);
void print_scope(const json_t *s);          /* one of a status's "scopes" */
void print_prometheus(const json_t *stats); /* as the daemon gave them */

/* ---- mounting ---- */
/* Changes the flags of a mount, and whether it may be written to. */
enum exit_code remount(const struct config *c, const char *mountpoint, const struct mount_options *o);

/* ---- what commands about a volume share ---- */
uint64_t count_of(const json_t *o, const char *key); /* a number of a daemon's answer; 0: it has none */
/* Finds the mounted volume that a path is on, or the volume that `path` is the backing directory of, or the configuration's name
 * for. The mount is told by a mount point that is not empty. Errors have been printed. */
struct target {
	char backing
		[PATH_MAX]; /* absolute; of a mount: what it shows as its source, by the configuration if that is a name */
	char mountpoint[PATH_MAX];
	dev_t device; /* of the mount */
	bool inside;  /* the path lies on the mount, below its root */
};
enum exit_code find_target(const struct config *c, const char *path, struct target *ret);
/* Connects to the daemon that serves it; as control_connect. */
int connect_target(const struct config *c, const struct target *t, int *ret_fd);
bool print_answer_line(void *arg, const char *line); /* a control_line: why something went wrong */
/* A key from standard input, in one of the forms that key files have. Errors have been printed. */
enum exit_code read_key(struct secret **ret);
/* Has the daemon of a mounted volume do something, with a key if one is given; prints what it has to say. *ret_answer (may be NULL)
 * as control_receive's. Both references are consumed. */
enum exit_code ask_daemon(const struct config *c, const char *path, json_t *request, struct secret *key,
			  json_t **ret_answer);
/* Puts what a path names into a scope, and with `recursive` all below it. */
enum exit_code assign_scope(const struct config *c, char *path, const char *scope, bool recursive, bool deny_override);
/* Sets up what opening a volume in this process needs. */
enum exit_code start_crypto(void);

#endif
