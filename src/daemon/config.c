/* Settings: the configuration file (libconfig), the environment, and where state is kept. */
#include <errno.h>
#include <libconfig.h>
#include <pwd.h>
#include <stdio.h>

#include <coffer/audit.h>
#include <coffer/daemon.h>
#include <coffer/util.h>

#define CONFIG_FILE      "/etc/coffer/coffer.conf"
#define SYSTEM_STATE_DIR "/var/lib/coffer"

static int set_path(char *out, const char *path, const char *what)
{
	char cwd[PATH_MAX] = "";
	int n;

	if (path[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return -errno;
	n = snprintf(out, PATH_MAX, "%s%s%s", cwd, cwd[0] ? "/" : "", path);
	if (n >= PATH_MAX || path[0] == 0) {
		log_error("%s: not a usable path: '%s'", what, path);
		return -EINVAL;
	}
	return 0;
}

static int default_state_dir(char *out)
{
	const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	const struct passwd *user = home ? NULL : getpwuid(geteuid()); /* mount(8) takes HOME away */
	int n;

	if (user)
		home = user->pw_dir;
	if (geteuid() == 0)
		n = snprintf(out, PATH_MAX, "%s", SYSTEM_STATE_DIR);
	else if (base && base[0] == '/')
		n = snprintf(out, PATH_MAX, "%s/coffer", base);
	else if (home && home[0] == '/')
		n = snprintf(out, PATH_MAX, "%s/.local/state/coffer", home);
	else
		n = PATH_MAX;
	if (n >= PATH_MAX) {
		log_error(
			"no place for state: neither XDG_STATE_HOME nor HOME is set, and the user has no home directory; use --state-dir");
		return -EINVAL;
	}
	return 0;
}

static int bad_setting(const config_setting_t *s, const char *wanted)
{
	log_error("%s:%u: %s: must be %s",
		  config_setting_source_file(s) ? config_setting_source_file(s) : "configuration",
		  config_setting_source_line(s), config_setting_name(s), wanted);
	return -EINVAL;
}

static int unknown_setting(const config_setting_t *s, const char *file)
{
	log_error("%s:%u: unknown setting '%s'", file, config_setting_source_line(s), config_setting_name(s));
	return -EINVAL;
}

static int set_bool(const config_setting_t *s, bool *ret)
{
	if (config_setting_type(s) != CONFIG_TYPE_BOOL)
		return bad_setting(s, "true or false");
	*ret = config_setting_get_bool(s);
	return 0;
}

static int set_uring(const config_setting_t *s, enum fs_uring *ret)
{
	const char *v = config_setting_get_string(s);

	if (v && strcmp(v, "auto") == 0)
		*ret = FS_URING_AUTO;
	else if (v && strcmp(v, "on") == 0)
		*ret = FS_URING_ON;
	else if (v && strcmp(v, "off") == 0)
		*ret = FS_URING_OFF;
	else
		return bad_setting(s, "\"auto\", \"on\" or \"off\"");
	return 0;
}

static int set_log_level(const config_setting_t *s, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "notice", LOG_LEVEL_NOTICE },
		{ "info", LOG_LEVEL_INFO },
	};
	const char *v = config_setting_get_string(s);

	for (size_t i = 0; v && i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(v, levels[i].name) == 0) {
			*ret = levels[i].level;
			return 0;
		}
	}
	return bad_setting(s, "\"error\", \"warning\", \"notice\" or \"info\"");
}

/* `unit` is what the setting counts. */
static int set_number(const config_setting_t *s, int min, int max, const char *unit, unsigned *ret)
{
	int v = config_setting_get_int(s);
	char wanted[64];

	snprintf(wanted, sizeof(wanted), "a number of %s from %d to %d", unit, min, max);
	if (config_setting_type(s) != CONFIG_TYPE_INT || v < min || v > max)
		return bad_setting(s, wanted);
	*ret = (unsigned)v;
	return 0;
}

static int set_absolute_path(char *out, const config_setting_t *s)
{
	const char *path = config_setting_get_string(s);

	return path && path[0] == '/' ? set_path(out, path, config_setting_name(s))
				      : bad_setting(s, "an absolute path");
}

static int set_kmip(const config_setting_t *group, struct key_settings *k, const char *file)
{
	int r = config_setting_is_group(group) ? 0 : bad_setting(group, "a group");

	for (int i = 0; r == 0 && i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		const char *name = config_setting_name(s);

		if (strcmp(name, "ca") == 0)
			r = set_absolute_path(k->kmip_ca, s);
		else if (strcmp(name, "certificate") == 0)
			r = set_absolute_path(k->kmip_certificate, s);
		else if (strcmp(name, "key") == 0)
			r = set_absolute_path(k->kmip_key, s);
		else if (strcmp(name, "timeout") == 0)
			r = set_number(s, 1, 300, "seconds", &k->kmip_timeout);
		else
			r = unknown_setting(s, file);
	}
	if (r == 0 && !(k->kmip_ca[0] && k->kmip_certificate[0] && k->kmip_key[0]))
		r = bad_setting(group, "a group with ca, certificate and key");
	return r;
}

static int set_volume(const config_setting_t *group, struct config_volume *v, const char *file)
{
	int r = config_setting_is_group(group) ? 0 : bad_setting(group, "a group");
	const char *text;

	*v = (struct config_volume){ 0 };
	for (int i = 0; r == 0 && i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		const char *name = config_setting_name(s);

		if (strcmp(name, "backing") == 0) {
			r = set_absolute_path(v->backing, s);
		} else if (strcmp(name, "mountpoint") == 0) {
			r = set_absolute_path(v->mountpoint, s);
		} else if (strcmp(name, "options") == 0) {
			text = config_setting_get_string(s);
			if (!text || strlen(text) >= sizeof(v->options))
				r = bad_setting(s, "mount options, as after -o");
			else
				strcpy(v->options, text);
		} else {
			r = unknown_setting(s, file);
		}
	}
	if (r == 0 && !v->backing[0])
		r = bad_setting(group, "a group with at least a backing directory");
	return r;
}

/* Whoever wants one of them reads it anew: config_volume(). */
static int check_volumes(const config_setting_t *group, const char *file)
{
	int r = config_setting_is_group(group) ? 0 : bad_setting(group, "a group, with a group for each volume");
	struct config_volume v;

	for (int i = 0; r == 0 && i < config_setting_length(group); i++)
		r = set_volume(config_setting_get_elem(group, (unsigned)i), &v, file);
	return r;
}

static int apply(struct config *c, const config_setting_t *s)
{
	const char *name = config_setting_name(s);

	if (strcmp(name, "state_dir") == 0)
		return set_absolute_path(c->state_dir, s);
	if (strcmp(name, "sync_interval") == 0)
		return set_number(s, 1, 3600, "seconds", &c->sync_interval);
	if (strcmp(name, "key_poll") == 0)
		return set_number(s, 1, 3600, "seconds", &c->key_poll);
	if (strcmp(name, "key_grace") == 0)
		return set_number(s, 0, 30 * 24 * 3600, "seconds", &c->key_grace);
	if (strcmp(name, "key_flush") == 0)
		return set_number(s, 0, 3600, "seconds", &c->key_flush);
	if (strcmp(name, "key_rotate_days") == 0)
		return set_number(s, 0, 36500, "days", &c->key_rotate_days);
	if (strcmp(name, "kmip") == 0)
		return set_kmip(s, &c->keys, c->file);
	if (strcmp(name, "audit_keep") == 0)
		return set_number(s, 0, 1000000, "files (0: all)", &c->audit_keep);
	if (strcmp(name, "writeback") == 0)
		return set_bool(s, &c->writeback);
	if (strcmp(name, "allow_other") == 0)
		return set_bool(s, &c->allow_other);
	if (strcmp(name, "confine") == 0)
		return set_bool(s, &c->confine);
	if (strcmp(name, "uring") == 0)
		return set_uring(s, &c->uring);
	if (strcmp(name, "log_level") == 0)
		return set_log_level(s, &c->log_level);
	if (strcmp(name, "volumes") == 0)
		return check_volumes(s, c->file);
	return unknown_setting(s, c->file);
}

/* *ret is to be destroyed in any case. */
static int read_file(const char *name, config_t *ret)
{
	config_init(ret);
	if (config_read_file(ret, name))
		return 0;
	if (config_error_type(ret) == CONFIG_ERR_FILE_IO)
		log_error("%s: cannot be read: %s", name, strerror(errno));
	else
		log_error("%s:%d: %s", name, config_error_line(ret), config_error_text(ret));
	return -EINVAL;
}

static int read_settings(struct config *c)
{
	const config_setting_t *root;
	config_t file;
	int r = read_file(c->file, &file);

	root = config_root_setting(&file);
	for (int i = 0; r == 0 && i < config_setting_length(root); i++)
		r = apply(c, config_setting_get_elem(root, (unsigned)i));
	config_destroy(&file);
	return r;
}

int config_volume(const struct config *c, const char *name, struct config_volume *ret)
{
	const config_setting_t *group, *volume;
	config_t file;
	int r;

	if (!c->file[0] || strpbrk(name, "/.:"))
		return -ENOENT; /* no name, and the last two would lead libconfig elsewhere */
	r = read_file(c->file, &file);
	if (r == 0) {
		group = config_lookup(&file, "volumes");
		volume = group ? config_setting_get_member(group, name) : NULL;
		r = volume ? set_volume(volume, ret, c->file) : -ENOENT;
	}
	config_destroy(&file);
	return r;
}

int config_load(struct config *c, const char *file, const char *state_dir)
{
	bool named;
	int r;

	*c = (struct config){
		.sync_interval = 5,
		.key_poll = 60,
		.key_grace = 3600,
		.key_flush = 10,
		.key_rotate_days = 365,
		.audit_keep = AUDIT_KEEP,
		.writeback = true,
		.allow_other = geteuid() == 0,
		.uring = FS_URING_AUTO,
		.confine = true,
		.log_level = LOG_LEVEL_INFO,
		.keys.kmip_timeout = 10,
	};
	if (!file)
		file = getenv("COFFER_CONFIG");
	named = file && file[0];
	if (!state_dir)
		state_dir = getenv("COFFER_STATE_DIR");
	r = set_path(c->file, named ? file : CONFIG_FILE, "--config");
	if (r < 0)
		return r;
	if (named || access(c->file, F_OK) == 0) {
		r = read_settings(c);
		if (r < 0)
			return r;
	} else {
		c->file[0] = 0;
	}
	if (state_dir && state_dir[0])
		return set_path(c->state_dir, state_dir, "--state-dir");
	return c->state_dir[0] ? 0 : default_state_dir(c->state_dir);
}
