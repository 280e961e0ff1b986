/* coffer status: of a volume, or of one object on a mounted one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <time.h>

#include <coffer/descriptor.h>

#include "commands.h"

/* ---- one object: what its virtual attributes say ---- */

static const char *const object_facts[] = { "encrypted",   "scope",         "algorithms", "infrastructure",
					    "integrity",   "key_source",    "key_id",     "key_version",
					    "dek_version", "last_rotation", "key_state",  "next_check",
					    "volume_id" };

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "?";
}

static void print_fact(const char *name, const char *value)
{
	printf("%-15s %s\n", name, value);
}

/* The number of a file that itself gives no access: its directory knows it. -EACCES: that one gives none either. */
static int find_number(const char *path, uint64_t *ret)
{
	AUTO_FREE char *for_dir = strdup(path), *for_name = strdup(path);
	const struct dirent *e;
	const char *name;
	int r = -ENOENT;
	DIR *dir;

	if (!for_dir || !for_name)
		return -ENOMEM;
	name = basename(for_name);
	dir = opendir(dirname(for_dir));
	if (!dir)
		return -errno;
	while (r == -ENOENT && (e = readdir(dir))) {
		if (strcmp(e->d_name, name) != 0)
			continue;
		*ret = e->d_ino;
		r = 0;
	}
	closedir(dir);
	return r;
}

/* Whose scope is locked says nothing through the mount, but its daemon does to whom it answers. */
static enum exit_code locked_status(const struct config *c, const char *path, const struct target *t, json_t *o)
{
	json_t *answer = NULL;
	enum exit_code code;
	uint64_t number = 0;
	int r = find_number(path, &number);

	if (r < 0) {
		log_error("%s: %s", path, strerror(-r));
		return EXIT_OTHER;
	}
	code = ask_daemon(c, t->mountpoint, json_pack("{s:s, s:I}", "verb", "object", "object", (json_int_t)number),
			  NULL, &answer);
	for (size_t i = 0; code == EXIT_DONE && i < sizeof(object_facts) / sizeof(object_facts[0]); i++)
		json_object_set(o, object_facts[i], json_object_get(answer, object_facts[i]));
	json_decref(answer);
	return code;
}

/* -errno as lgetxattr's. */
static int read_facts(const char *path, json_t *o)
{
	char name[64], value[2048];

	for (size_t i = 0; i < sizeof(object_facts) / sizeof(object_facts[0]); i++) {
		snprintf(name, sizeof(name), "user.coffer.%s", object_facts[i]);
		ssize_t n = lgetxattr(path, name, value, sizeof(value) - 1);

		if (n < 0)
			return -errno;
		value[n] = 0;
		json_object_set_new(o, object_facts[i], json_string(value));
	}
	return 0;
}

static enum exit_code object_status(const struct config *c, const char *path, const struct target *t, bool json)
{
	json_t *o = json_pack("{s:s}", "backing", t->backing);
	enum exit_code code = EXIT_DONE;
	int r = read_facts(path, o);

	if (r == -EACCES) {
		code = locked_status(c, path, t, o);
	} else if (r < 0) {
		log_error("%s: %s%s", path, strerror(-r),
			  r == -EPERM || r == -ENODATA ? " (only files and directories have a status)" : "");
		code = EXIT_OTHER;
	}
	if (code == EXIT_DONE && json)
		json_dumpf(o, stdout, JSON_INDENT(2)), putchar('\n');
	for (size_t i = 0; code == EXIT_DONE && !json && i < sizeof(object_facts) / sizeof(object_facts[0]); i++)
		print_fact(object_facts[i], text_of(o, object_facts[i]));
	json_decref(o);
	return code;
}

/* ---- a volume: from its daemon, or from its descriptor ---- */

static json_int_t number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static bool is_set(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static void print_when(const char *what, json_int_t when, const char *after)
{
	char text[64] = "?";
	time_t t = (time_t)when;
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm);
	printf("%s%s%s", what, text, after);
}

void print_scope(const json_t *s)
{
	const char *state = json_string_value(json_object_get(s, "key_state"));
	const json_t *r = json_object_get(s, "reencryption");

	printf("scope %-9s %s, integrity %s%s%s\n", text_of(s, "name"), text_of(s, "algorithms"),
	       text_of(s, "integrity"), is_set(s, "infrastructure") ? ", infrastructure encryption" : "",
	       is_set(s, "enabled") ? "" : ", disabled");
	printf("  key           %s %s version %" JSON_INTEGER_FORMAT, text_of(s, "key_source"), text_of(s, "key_id"),
	       number_of(s, "key_version"));
	print_when(", since ", number_of(s, "last_rotation"), "\n");
	if (is_set(s, "infrastructure"))
		printf("  second key    %s version %" JSON_INTEGER_FORMAT "\n", text_of(s, "infrastructure_key_id"),
		       number_of(s, "infrastructure_key_version"));
	printf("  data key      version %" JSON_INTEGER_FORMAT "%s\n", number_of(s, "dek_version"),
	       is_set(s, "recovery") ? ", sealed for the recovery key" : "");
	if (r)
		printf("  re-encryption %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT
		       " objects, %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " blocks%s\n",
		       number_of(r, "objects_done"), number_of(r, "objects"), number_of(r, "blocks_done"),
		       number_of(r, "blocks"), is_set(r, "running") ? "" : "; it rests, and the log says why");
	if (!state)
		return;
	printf("  state         %s%s", state,
	       is_set(s, "locked") && strcmp(state, "locked") != 0 && strcmp(state, "disabled") != 0 ? ", locked" : "");
	if (number_of(s, "open_until"))
		print_when(", open until ", number_of(s, "open_until"), "");
	if (number_of(s, "last_check"))
		print_when("; checked ", number_of(s, "last_check"), "");
	if (number_of(s, "next_check"))
		print_when(", next ", number_of(s, "next_check"), "");
	putchar('\n');
}

static void print_volume(const json_t *o)
{
	const json_t *scope;
	size_t i;

	printf("volume          %s\n", text_of(o, "volume_id"));
	printf("backing         %s\n", text_of(o, "backing"));
	print_when("created         ", number_of(o, "created"), "");
	printf(", format %" JSON_INTEGER_FORMAT "\n", number_of(o, "format"));
	if (is_set(o, "mounted")) {
		printf("mounted on      %s, %s%s%s, by process %" JSON_INTEGER_FORMAT "\n", text_of(o, "mountpoint"),
		       is_set(o, "read_only") ? "read-only, " : "", is_set(o, "writeback") ? "write-back cache, " : "",
		       text_of(o, "transport"), number_of(o, "pid"));
		printf("log             %" JSON_INTEGER_FORMAT " bytes, %" JSON_INTEGER_FORMAT " pages not yet home\n",
		       number_of(o, "log_bytes"), number_of(o, "dirty_pages"));
		if (number_of(o, "recovered_chunks") || number_of(o, "orphans_removed"))
			printf("recovered       %" JSON_INTEGER_FORMAT " changes from the log, %" JSON_INTEGER_FORMAT
			       " objects without a name removed\n",
			       number_of(o, "recovered_chunks"), number_of(o, "orphans_removed"));
		if (number_of(o, "frozen_for"))
			printf("frozen          for %" JSON_INTEGER_FORMAT " seconds more: changes wait\n",
			       number_of(o, "frozen_for"));
		if (is_set(o, "failed"))
			printf("FAILED          the backing directory failed; nothing more is written until it is mounted anew\n");
	} else {
		printf("not mounted     %s\n",
		       is_set(o, "clean") ? "unmounted cleanly" : "not unmounted cleanly; the next mount recovers");
		printf("authentic       %s\n", text_of(o, "authentic"));
	}
	if (number_of(o, "recovery_created"))
		print_when("recovery key    made ", number_of(o, "recovery_created"), "\n");
	json_array_foreach(json_object_get(o, "scopes"), i, scope) print_scope(scope);
}

static int ask_status(const struct config *c, const struct target *t, json_t **ret)
{
	AUTO_CLOSE int fd = -1;
	int r = connect_target(c, t, &fd);

	if (r == 0)
		r = control_send(fd, json_pack("{s:s}", "verb", "status"));
	if (r == 0)
		r = control_receive(fd, NULL, NULL, ret);
	return r;
}

/* The descriptor is worth what its keys say. A key that cannot be had has been logged. */
static enum exit_code read_descriptor(const struct config *c, const char *backing, json_t **ret)
{
	struct descriptor *d = NULL;
	struct volume_keys *keys = NULL;
	char path[PATH_MAX];
	AUTO_CLOSE int fd = -1;
	json_t *o;
	int r;

	if (backing_open(backing, &fd, path) < 0)
		return EXIT_NOT_A_VOLUME;
	r = descriptor_load(fd, &d);
	if (r < 0)
		return r == -EPROTONOSUPPORT ? EXIT_FORMAT : EXIT_NOT_A_VOLUME;
	r = keys_unlock(d, c->state_dir, NULL, &keys);
	o = describe_descriptor(d);
	json_object_set_new(o, "mounted", json_false());
	json_object_set_new(o, "backing", json_string(backing));
	json_object_set_new(o, "authentic", json_string(r == 0 ? "yes" : "not known: the keys are not to be had"));
	keys_free(keys);
	descriptor_free(d);
	*ret = o;
	return exit_code_of(r);
}

static enum exit_code volume_status_of(const struct target *t, const struct config *c, bool json)
{
	enum exit_code code;
	json_t *o = NULL;
	int r;

	code = start_crypto();
	if (code != EXIT_DONE)
		return code;
	r = ask_status(c, t, &o);
	if (r < 0 && t->mountpoint[0]) {
		log_error("%s: its daemon does not answer: %s (another --state-dir, or it died)", t->mountpoint,
			  strerror(-r));
		code = EXIT_OTHER;
	} else if (r < 0) {
		code = read_descriptor(c, t->backing, &o);
	}
	if (o && json) {
		json_object_del(o, "result");
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (o) {
		print_volume(o);
	}
	json_decref(o);
	return code;
}

int command_status(int argc, char **argv)
{
	struct arguments a = { .command = "status" };
	bool json = false;
	enum exit_code code;
	struct config c;
	struct target t;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_JSON)
			json = true;
	}
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	code = find_target(&c, argv[optind], &t);
	if (code != EXIT_DONE)
		return code;
	return t.inside ? object_status(&c, argv[optind], &t, json) : volume_status_of(&t, &c, json);
}
