/* What the commands share. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include <coffer/crypto.h>

#include "commands.h"

static bool is_short(const struct command_option *o)
{
	return !o->name[1];
}

/* What getopt_long wants to know. */
struct wanted {
	struct option longs[COMMAND_OPTIONS_MAX + 4];
	char shorts[2 * COMMAND_OPTIONS_MAX + 1];
};
static void describe_options(const struct command *c, struct wanted *w)
{
	static const struct option common[] = {
		{ "config", required_argument, NULL, OPTION_CONFIG },
		{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ NULL, 0, NULL, 0 },
	};
	struct option *next = w->longs;
	char *letter = w->shorts;

	for (const struct command_option *o = c->options; o->name; o++) {
		if (is_short(o)) {
			*letter++ = o->name[0];
			if (o->argument)
				*letter++ = ':';
		} else {
			*next++ = (struct option){ o->name, o->argument ? required_argument : no_argument, NULL,
						   o->id };
		}
	}
	*letter = 0;
	memcpy(next, common, sizeof(common));
}

bool take_option(struct arguments *a, int argc, char **argv, int *ret_option)
{
	struct wanted w;

	describe_options(find_command(a->command), &w);
	for (;;) {
		*ret_option = getopt_long(argc, argv, w.shorts, w.longs, NULL);
		switch (*ret_option) {
		case -1:
			return false;
		case '?':
			a->unknown = true;
			break;
		case OPTION_CONFIG:
			a->config_file = optarg;
			break;
		case OPTION_STATE_DIR:
			a->state_dir = optarg;
			break;
		case OPTION_HELP:
			a->help = true;
			break;
		default:
			return true;
		}
	}
}

bool take_arguments(const struct arguments *a, int argc, int min, int max, struct config *c, enum exit_code *ret_code)
{
	if (a->help && !a->unknown) {
		print_command_help(find_command(a->command));
		*ret_code = EXIT_DONE;
		return false;
	}
	if (a->unknown || argc - optind < min || argc - optind > max) {
		*ret_code = usage_error(a->command);
		return false;
	}
	*ret_code = config_load(c, a->config_file, a->state_dir) < 0 ? EXIT_USAGE : EXIT_DONE;
	if (*ret_code == EXIT_DONE)
		key_configure(&c->keys);
	return *ret_code == EXIT_DONE;
}

enum exit_code start_crypto(void)
{
	int r = crypto_start();

	signal(SIGPIPE, SIG_IGN); /* a key server that hangs up is an error, not the end */
	if (r == 0)
		return EXIT_DONE;
	log_error("cannot start: %s", strerror(-r));
	return EXIT_OTHER;
}

static void take_mount(const struct config *c, const struct mount_entry *e, struct target *ret)
{
	struct config_volume v;

	strcpy(ret->backing, config_volume(c, e->source, &v) == 0 ? v.backing : e->source);
	strcpy(ret->mountpoint, e->mountpoint);
	ret->device = e->device;
}

enum exit_code find_target(const struct config *c, const char *path, struct target *ret)
{
	AUTO_CLOSE int fd = -1;
	struct config_volume v;
	struct mount_entry e;
	char absolute[PATH_MAX];
	int r;

	*ret = (struct target){ 0 };
	if (config_volume(c, path, &v) == 0)
		path = v.backing;
	r = resolve_mountpoint(path, absolute);
	if (r == 0 && mounts_at(absolute, &e) == 0 && mount_is_coffer(&e)) {
		take_mount(c, &e, ret);
		return EXIT_DONE;
	}
	if (r == 0 && access(absolute, F_OK) < 0 && errno != EACCES) /* that is what a locked object says */
		r = -errno;
	if (r < 0) {
		log_error("%s: %s", path, strerror(-r));
		return EXIT_NOT_A_VOLUME;
	}
	if (mounts_above(absolute, &e) == 0 && mount_is_coffer(&e)) {
		take_mount(c, &e, ret);
		ret->inside = true;
		return EXIT_DONE;
	}
	if (backing_open(path, &fd, ret->backing) < 0)
		return EXIT_NOT_A_VOLUME;
	if (backing_has_volume(fd) < 0) {
		log_error("%s: neither a volume nor on a mounted one", path);
		return EXIT_NOT_A_VOLUME;
	}
	return EXIT_DONE;
}

int connect_target(const struct config *c, const struct target *t, int *ret_fd)
{
	return t->mountpoint[0] ? control_connect_mount(c->state_dir, t->device, ret_fd)
				: control_connect(c->state_dir, t->backing, ret_fd);
}

enum exit_code read_key(struct secret **ret)
{
	AUTO_SECRET struct secret *text = secret_new(KEY_TEXT_MAX + 1); /* one more, so that what is too long shows */
	AUTO_SECRET struct secret *key = secret_new(KEY_SIZE);
	const char *why;
	size_t len = 0;
	int r = text && key ? read_secret(STDIN_FILENO, "key", text, &len) : -ENOMEM;

	if (r < 0) {
		log_error("the key cannot be read from standard input: %s", strerror(-r));
		return EXIT_OTHER;
	}
	why = key_parse(text, len, key);
	if (why) {
		log_error("standard input %s", why);
		return EXIT_KEY_REFUSED;
	}
	*ret = key;
	key = NULL;
	return EXIT_DONE;
}

uint64_t count_of(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

struct asking {
	int fd;
	const struct secret *key;
};

bool print_answer_line(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "coffer: %s\n", line);
	return true;
}

static bool take_line(void *arg, const char *line)
{
	const struct asking *a = arg;

	if (a->key && strcmp(line, CONTROL_READY) == 0)
		return write_all(a->fd, secret_bytes(a->key), secret_size(a->key)) == 0;
	return print_answer_line(NULL, line);
}

enum exit_code ask_daemon(const struct config *c, const char *path, json_t *request, struct secret *key,
			  json_t **ret_answer)
{
	AUTO_SECRET struct secret *mine = key;
	AUTO_CLOSE int fd = -1;
	struct asking a = { .key = mine };
	struct target t;
	enum exit_code code = find_target(c, path, &t);
	int r;

	if (code == EXIT_DONE)
		code = start_crypto();
	if (code == EXIT_DONE && connect_target(c, &t, &fd) < 0) {
		log_error(
			"%s: no daemon serves this volume, or it cannot be asked (another --state-dir, another user?)",
			path);
		code = EXIT_NOT_MOUNTED;
	}
	if (code != EXIT_DONE) {
		json_decref(request);
		return code;
	}
	a.fd = fd;
	if (mine)
		json_object_set_new(request, "secret", json_true());
	r = control_send(fd, request);
	if (r == 0)
		r = control_receive(fd, take_line, &a, ret_answer);
	if (r == -ECONNRESET || r == -EPIPE)
		log_error(
			"%s: the daemon gave no answer: it ended, or is another user's (it answers that one and root only)",
			path);
	return exit_code_of(r);
}
