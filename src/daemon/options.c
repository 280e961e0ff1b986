/* Mount options. */
#include <errno.h>
#include <stdio.h>

#include <coffer/daemon.h>
#include <coffer/util.h>

/* Words that mount(8), fstab and autofs use among themselves, or that change nothing here. */
static const char *const ignored[] = {
	"defaults",   "auto",        "noauto",   "_netdev", "nofail",   "user",       "nouser", "users",
	"owner",      "group",       "suid",     "dev",     "exec",     "async",      "atime",  "relatime",
	"norelatime", "strictatime", "diratime", "nolock",  "lazytime", "nolazytime",
};
/* Mount flags that libfuse hands to the kernel. */
static const char *const flags[] = {
	"nosuid", "nodev", "noexec", "sync", "dirsync", "noatime", "nodiratime", "nosymfollow",
};
/* Words with a value for others: x-systemd.automount, comment=... */
static const char *const ignored_prefixes[] = { "x-", "X-", "comment=", "user=", "helper=", "uhelper=", "context=" };

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
	};
}

/* Each flag once: then there is room for all of them. */
static void add_flag(struct mount_options *o, const char *word)
{
	size_t len = strlen(o->kernel_flags), n = strlen(word);

	for (const char *p = o->kernel_flags; (p = strstr(p, word)) != NULL; p += n)
		if ((p == o->kernel_flags || p[-1] == ',') && (p[n] == 0 || p[n] == ','))
			return;
	snprintf(o->kernel_flags + len, sizeof(o->kernel_flags) - len, "%s%s", len ? "," : "", word);
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
	else if (is_one_of(word, flags, sizeof(flags) / sizeof(flags[0])))
		add_flag(o, word);
	else if (!is_one_of(word, ignored, sizeof(ignored) / sizeof(ignored[0])) &&
		 !begins_with_one_of(word, ignored_prefixes, sizeof(ignored_prefixes) / sizeof(ignored_prefixes[0])))
		return -EINVAL;
	return 0;
}

int mount_options_parse(struct mount_options *o, const char *list)
{
	AUTO_FREE char *copy = strdup(list);
	char *rest = copy, *word;

	if (!copy)
		return -ENOMEM;
	while ((word = strsep(&rest, ",")) != NULL) {
		if (word[0] == 0)
			continue;
		if (parse_word(o, word) < 0) {
			log_error("unknown mount option '%s'; there are ro, rw, allow_other, writeback=on|off, "
				  "uring=auto|on|off, accept, recovery, and the general ones of mount(8)",
				  word);
			return -EINVAL;
		}
	}
	return 0;
}
