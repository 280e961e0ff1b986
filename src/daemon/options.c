/* Mount options. */
#include <errno.h>
#include <stdio.h>

#include <coffer/daemon.h>
#include <coffer/util.h>
/* After ours: it brings the kernel's macro BLOCK_SIZE. */
#include <sys/mount.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256 /* younger than some C libraries */
#endif

/* Words that mount(8), fstab and autofs use among themselves, that change nothing here, or that the kernel shows of a mount: a
 * remount repeats those. */
static const char *const ignored[] = {
	"defaults",   "auto",        "noauto", "_netdev",       "nofail",   "user",       "nouser",
	"users",      "nousers",     "owner",  "noowner",       "group",    "nogroup",    "relatime",
	"norelatime", "strictatime", "nolock", "silent",        "loud",     "nolazytime", "lazytime",
	"quiet",      "mand",        "nomand", "nostrictatime", "iversion", "noiversion", "default_permissions",
};
/* Flags of the mount: what libfuse calls them and their opposites, and how mount(2) has them. */
static const struct {
	const char *on, *off;
	unsigned long flag;
} flags[] = {
	{ "nosuid", "suid", MS_NOSUID },
	{ "nodev", "dev", MS_NODEV },
	{ "noexec", "exec", MS_NOEXEC },
	{ "sync", "async", MS_SYNCHRONOUS },
	{ "dirsync", NULL, MS_DIRSYNC },
	{ "noatime", "atime", MS_NOATIME },
	{ "nodiratime", "diratime", MS_NODIRATIME },
	{ "nosymfollow", "symfollow", MS_NOSYMFOLLOW },
};
/* Words with a value for others: x-systemd.automount, comment=... */
static const char *const ignored_prefixes[] = { "x-",       "X-",       "comment=", "user=",     "helper=",
						"uhelper=", "context=", "user_id=", "group_id=", "max_read=" };

static bool is_one_of(const char *word, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(word, list[i]) == 0)
			return true;
	return false;
}

static bool begins_with_one_of(const char *word, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strncmp(word, list[i], strlen(list[i])) == 0)
			return true;
	return false;
}

void mount_options_init(struct mount_options *o, const struct config *c)
{
	*o = (struct mount_options){
		.allow_other = c->allow_other,
		.writeback = c->writeback,
		.uring = c->uring,
		.sloppy = o->sloppy,
	};
}

static bool take_flag(struct mount_options *o, const char *word)
{
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(word, flags[i].on) == 0)
			o->flags |= flags[i].flag;
		else if (flags[i].off && strcmp(word, flags[i].off) == 0)
			o->flags &= ~flags[i].flag;
		else
			continue;
		return true;
	}
	return false;
}

void mount_options_flags(const struct mount_options *o, char out[static MOUNT_FLAGS_SIZE])
{
	size_t len = 0;

	out[0] = 0;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (o->flags & flags[i].flag)
			len += (size_t)snprintf(out + len, MOUNT_FLAGS_SIZE - len, "%s%s", len ? "," : "", flags[i].on);
}

static int parse_word(struct mount_options *o, const char *word)
{
	if (strcmp(word, "ro") == 0)
		o->read_only = true;
	else if (strcmp(word, "rw") == 0)
		o->read_only = false;
	else if (strcmp(word, "allow_other") == 0)
		o->allow_other = true;
	else if (strcmp(word, "noallow_other") == 0)
		o->allow_other = false;
	else if (strcmp(word, "accept") == 0)
		o->accept_changes = true;
	else if (strcmp(word, "recovery") == 0)
		o->recovery = true;
	else if (strcmp(word, "writeback=on") == 0)
		o->writeback = true;
	else if (strcmp(word, "writeback=off") == 0)
		o->writeback = false;
	else if (strcmp(word, "uring=auto") == 0)
		o->uring = FS_URING_AUTO;
	else if (strcmp(word, "uring=on") == 0)
		o->uring = FS_URING_ON;
	else if (strcmp(word, "uring=off") == 0)
		o->uring = FS_URING_OFF;
	else if (strcmp(word, "remount") == 0)
		o->remount = true;
	else if (!take_flag(o, word) && !is_one_of(word, ignored, sizeof(ignored) / sizeof(ignored[0])) &&
		 !begins_with_one_of(word, ignored_prefixes, sizeof(ignored_prefixes) / sizeof(ignored_prefixes[0])))
		return -EINVAL;
	return 0;
}

/* Takes the first word off a list. A comma within double quotes does not end it, as mount(8) has it. */
static char *next_word(char **list)
{
	char *word = *list, *p = word;

	for (bool quoted = false; *p && (quoted || *p != ','); p++)
		quoted ^= *p == '"';
	*list = *p ? p + 1 : NULL;
	*p = 0;
	return word;
}

int mount_options_parse(struct mount_options *o, const char *list)
{
	AUTO_FREE char *copy = strdup(list);
	char *rest = copy, *word;

	if (!copy)
		return -ENOMEM;
	while (rest) {
		word = next_word(&rest);
		if (word[0] == 0)
			continue;
		if (parse_word(o, word) < 0 && !o->sloppy) {
			log_error("unknown mount option '%s'; there are ro, rw, allow_other, writeback=on|off, "
				  "uring=auto|on|off, accept, recovery, and the general ones of mount(8)",
				  word);
			return -EINVAL;
		}
	}
	return 0;
}
