/* The commands: what main's table lists, and what they share. */
#ifndef COFFER_COMMANDS_H
#define COFFER_COMMANDS_H

#include <getopt.h>

#include <coffer/control.h>
#include <coffer/daemon.h>
#include <coffer/manager.h>
#include <coffer/util.h>

/* argv[0] is "coffer" and the command's name. Returns the program's exit code. */
typedef enum exit_code command_run(int argc, char **argv);
command_run command_create, command_mount, command_umount, command_status, command_scope, command_key,
	command_reencrypt, command_fsck, command_audit;

struct command {
	const char *name, *arguments, *help;
	command_run *run;
};
extern const struct command commands[]; /* the last has no name */

/* ---- options: every command has --config, --state-dir and --help ---- */
enum { OPTION_CONFIG = 1000, OPTION_STATE_DIR, OPTION_HELP };
#define COMMON_OPTIONS                                                      \
	{ "config", required_argument, NULL, OPTION_CONFIG },               \
		{ "state-dir", required_argument, NULL, OPTION_STATE_DIR }, \
		{ "help", no_argument, NULL, OPTION_HELP },                 \
	{                                                                   \
		NULL, 0, NULL, 0                                            \
	}

struct arguments {
	const char *command, *config_file, *state_dir;
	bool help;
};
/* Takes an option that the command does not know itself; false: nobody knows it, getopt_long has said so. */
bool take_common_option(struct arguments *a, int option);
/* After the options: EXIT_DONE and the configuration if there are from `min` to `max` arguments left. With --help, prints
 * it and sets *ret_code to EXIT_DONE. false: the command is over, with *ret_code. */
bool take_arguments(const struct arguments *a, int argc, int min, int max, struct config *c, enum exit_code *ret_code);
void print_scope(const json_t *s); /* one of a status's "scopes" */
enum exit_code usage_error(const char *command);
void print_help(FILE *out);

/* ---- what commands about a volume share ---- */
/* Finds the backing directory that a mounted volume or a path on one belongs to, or that `path` is itself. The mount is told
 * by a mount point that is not empty. Errors have been printed. */
struct target {
	char backing[PATH_MAX]; /* absolute */
	char mountpoint[PATH_MAX];
	bool inside; /* the path lies on the mount, below its root */
};
enum exit_code find_target(const char *path, struct target *ret);
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
