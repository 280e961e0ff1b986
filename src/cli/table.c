/* The commands and their options: how each is called, and what its --help says. The man page and the completions name the same;
 * tests/cli/help.sh sees to that, and that each help fits a screen. */
#include "commands.h"

/* Options that several commands have. */
#define JSON(help)                                \
	{                                         \
		OPTION_JSON, "json", NULL, (help) \
	}
#define FOR_PROGRAMS JSON("for programs: JSON")
#define KEY_SOURCE(help)                         \
	{                                        \
		OPTION_KEY, "key", "URI", (help) \
	}
#define INFRASTRUCTURE(help)                                          \
	{                                                             \
		OPTION_INFRASTRUCTURE, "infrastructure", NULL, (help) \
	}
#define INTEGRITY                                                        \
	{                                                                \
		OPTION_INTEGRITY, "integrity", "gmac|none",              \
			"none: no protection of file contents against\n" \
			"changes, only of names and attributes"          \
	}
#define KEY_SOURCES                                                           \
	"platform:  this machine makes and keeps the key (default)\n"         \
	"file:///absolute/path  a key file: 32 bytes, hex or base64\n"        \
	"credential:NAME  a key file that systemd loads for the service\n"    \
	"kmip://HOST[:PORT][,HOST...]/IDENTIFIER or kmip://HOST/?name=NAME\n" \
	"           a key on a key server; &mode=remote: never leaves it\n"   \
	"provided:  kept nowhere; read from standard input, now and later\n"

const struct command commands[] = {
	{
		"create",
		"make a new volume",
		"BACKING [--key URI] [--infrastructure]\n"
		"\t[--integrity gmac|none]",
		"BACKING is an empty directory, or made. URI names who keeps the volume's key:\n" KEY_SOURCES
		"Keep a copy of the key: without it nobody can ever read the volume again.\n",
		command_create,
		{
			KEY_SOURCE("where the key is; see above"),
			INFRASTRUCTURE("encrypt everything a second time, with another\n"
				       "algorithm and another key; for good"),
			INTEGRITY,
		},
	},
	{
		"mount",
		"serve a volume",
		"BACKING|NAME [MNT] [-f] [-o OPTIONS]",
		"Returns once the mount works, or says why it does not. The settings may have a\n"
		"NAME for a volume, with its MNT and OPTIONS. OPTIONS, with commas:\n"
		"  ro, rw               the volume is only read; read and written\n"
		"  allow_other          other users may use the mount (default for root)\n"
		"  writeback=on|off     off: each write is stored before it returns\n"
		"  uring=auto|on|off    FUSE over io_uring: where the kernel has it on;\n"
		"                       switch it on (root only); never\n"
		"  accept               take a volume that is not what this machine saw last\n"
		"  recovery             open it with its recovery key, from standard input\n"
		"  remount              change ro, rw and flags of what is mounted there\n"
		"  nosuid, nodev, noexec, noatime, sync and others as in mount(8)\n",
		command_mount,
		{
			{ 'f', "f", NULL, "stay in the foreground, log to standard error" },
			{ 'o', "o", "OPTIONS", "see above; may be given several times" },
		},
	},
	{
		"umount",
		"write everything and stop serving",
		"MNT",
		"Returns once everything is written and the volume is released.\n",
		command_umount,
		{ { 0 } },
	},
	{
		"status",
		"describe a volume, or one file of it",
		"BACKING|MNT|PATH [--json]",
		"Of a volume: algorithms, scopes, where their keys come from and in which state\n"
		"they are, how it is mounted. Of a PATH on a mounted volume: how that file or\n"
		"directory is encrypted.\n",
		command_status,
		{ FOR_PROGRAMS },
	},
	{
		"stats",
		"show what a mounted volume has done since its mount",
		"MNT [--json|--prometheus]",
		"Operations with their times and bytes, the log, ciphers, caches, and the states\n"
		"of keys. 99 %: all but the slowest hundredth were as fast.\n",
		command_stats,
		{
			FOR_PROGRAMS,
			{ OPTION_PROMETHEUS, "prometheus", NULL, "for Prometheus: its text format" },
		},
	},
	{
		"scope",
		"keys of their own for parts of a volume",
		"create MNT NAME [--key URI] [--infrastructure]\n"
		"\t[--integrity gmac|none]\n"
		"list MNT [--json]\n"
		"enable|disable|purge MNT NAME\n"
		"assign PATH NAME [--recursive] [--deny-override]",
		"disable  nobody has access, until it is enabled again\n"
		"assign   puts a file, or a directory and what is made in it from now on, into\n"
		"         the scope NAME\n"
		"purge    takes a scope away that nothing is in; of one that is disabled or\n"
		"         revoked, all that is in it is lost\n",
		command_scope,
		{
			KEY_SOURCE("where the key is, as for coffer create"),
			INFRASTRUCTURE("encrypt what is in it a second time"),
			INTEGRITY,
			{ OPTION_RECURSIVE, "recursive", NULL, "with what is in the directory already" },
			{ OPTION_DENY_OVERRIDE, "deny-override", NULL, "and keep other scopes out of it" },
			FOR_PROGRAMS,
		},
	},
	{
		"key",
		"what encrypts the keys of a volume, or of a scope",
		"show MNT [--scope NAME] [--json]\n"
		"set MNT --key URI [--scope NAME]\n"
		"rotate MNT [--scope NAME | --infrastructure]\n"
		"lock|unlock MNT [--scope NAME]\n"
		"provide MNT [--scope NAME] [--ttl SECONDS]\n"
		"recovery MNT",
		"set       another key source; touches no data\n"
		"rotate    a new version of the machine's key, or what the key server has now\n"
		"lock      forget the key: nobody has access until it is unlocked\n"
		"provide   hand over a key that is kept nowhere, on standard input\n"
		"recovery  make a recovery key and show it, once; an older one is void\n",
		command_key,
		{
			{ OPTION_SCOPE, "scope", "NAME", "whose key (default: the volume's own scope)" },
			KEY_SOURCE("where the new key is, as for coffer create"),
			INFRASTRUCTURE("the key of the second encryption"),
			{ OPTION_TTL, "ttl", "SECONDS", "forget the key again after so long" },
			FOR_PROGRAMS,
		},
	},
	{
		"reencrypt",
		"rewrite what is in a volume, or in a scope, under a new key",
		"MNT [--scope NAME] [--rate MIB_PER_S] [--no-wait]",
		"Everybody goes on working. It goes on by itself after a crash or an unmount;\n"
		"when it is through, the old data key is given up.\n",
		command_reencrypt,
		{
			{ OPTION_SCOPE, "scope", "NAME", "default: the volume's own" },
			{ OPTION_RATE, "rate", "MIB_PER_S", "no faster than that" },
			{ OPTION_NO_WAIT, "no-wait", NULL, "return at once; coffer status shows how far it is" },
		},
	},
	{
		"fsck",
		"check a volume; changes nothing",
		"BACKING [--data]",
		"Of a mounted volume the daemon is asked. Exit code 12: errors were found.\n",
		command_fsck,
		{ { OPTION_DATA, "data", NULL, "read and check every block, too" } },
	},
	{
		"import",
		"copy a tree in, with everything, and read it back",
		"SRC MNT/... [--across-mounts]",
		"What is in SRC is then in the directory MNT/..., which is made; or the file SRC\n"
		"is in it. Run again, it goes on where it was interrupted. Exit code 15: what is\n"
		"listed as not taken is missing.\n",
		command_import,
		{ { OPTION_ACROSS_MOUNTS, "across-mounts", NULL, "also what is mounted below SRC" } },
	},
	{
		"freeze",
		"bring everything home and keep changes waiting, for a copy",
		"MNT [--for SECONDS]",
		"Until coffer thaw MNT a copy or snapshot of the backing directory is exact.\n"
		"Reads go on. Locking a scope and coffer umount end a freeze, too.\n",
		command_freeze,
		{ { OPTION_FOR, "for", "SECONDS", "thaw without being asked after so long; default 60" } },
	},
	{
		"thaw",
		"let changes go on after a freeze",
		"MNT",
		"Exit code 1: the freeze had ended before, and what was copied may be torn.\n",
		command_thaw,
		{ { 0 } },
	},
	{
		"audit",
		"show or check the record of what was done with keys",
		"show BACKING|MNT [--json]\n"
		"verify BACKING|MNT",
		"verify finds lines that were altered, removed, reordered or cut off: exit\n"
		"code 12.\n",
		command_audit,
		{ JSON("the lines as they stand, one JSON object each") },
	},
	{ 0 },
};

const struct command *find_command(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}
