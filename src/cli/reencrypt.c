/* coffer reencrypt */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "commands.h"

enum { TICK_MS = 200, BAR_WIDTH = 40 };

static json_int_t number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* By blocks, and each object counts as one more. */
static double share_done(const json_t *r)
{
	double all = (double)(number_of(r, "objects") + number_of(r, "blocks"));

	return all > 0 ? (double)(number_of(r, "objects_done") + number_of(r, "blocks_done")) / all : 0;
}

static void draw_bar(const json_t *r)
{
	double share = share_done(r);
	int full = (int)((share < 1 ? share : 1) * BAR_WIDTH);

	fprintf(stderr, "\r[%.*s%*s] %3d %%  %" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT " objects ", full,
		"########################################", BAR_WIDTH - full, "", (int)((share < 1 ? share : 1) * 100),
		number_of(r, "objects_done"), number_of(r, "objects"));
	fflush(stderr);
}

/* The scope in a volume's status; NULL: none. */
static const json_t *find_scope(const json_t *status, const char *name)
{
	const json_t *s;
	size_t i;

	json_array_foreach(json_object_get(status, "scopes"), i, s)
	{
		const char *its = json_string_value(json_object_get(s, "name"));

		if (its && strcmp(its, name) == 0)
			return s;
	}
	return NULL;
}

/* Until no older version of the key is left, or the daemon has given up. */
static enum exit_code wait_for_it(const struct config *c, const char *path, const char *scope)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
	bool terminal = isatty(STDERR_FILENO), running = true, drawn = false;
	enum exit_code code = EXIT_DONE;

	while (code == EXIT_DONE && running) {
		json_t *status = NULL;
		const json_t *r;

		nanosleep(&tick, NULL);
		code = ask_daemon(c, path, json_pack("{s:s}", "verb", "status"), NULL, &status);
		r = json_object_get(find_scope(status, scope), "reencryption");
		if (code == EXIT_DONE && r && terminal) {
			draw_bar(r);
			drawn = true;
		}
		running = r && json_is_true(json_object_get(r, "running"));
		if (code == EXIT_DONE && r && !running) {
			log_error(
				"%sscope %s: %" JSON_INTEGER_FORMAT
				" objects are under an older key still; the log says why; mend it, and give the command again",
				drawn ? "\n" : "", scope, number_of(r, "objects") - number_of(r, "objects_done"));
			code = EXIT_IO;
		}
		json_decref(status);
	}
	if (drawn)
		fputc('\n', stderr);
	return code;
}

int command_reencrypt(int argc, char **argv)
{
	enum { RATE_MAX = 1 << 20 };
	struct arguments a = { .command = "reencrypt" };
	const char *scope = "default", *rate_text = "0";
	bool wait = true;
	enum exit_code code;
	struct config c;
	char *end = NULL;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_SCOPE)
			scope = optarg;
		else if (option == OPTION_RATE)
			rate_text = optarg;
		else if (option == OPTION_NO_WAIT)
			wait = false;
	}
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	unsigned long rate = strtoul(rate_text, &end, 10);

	if (*end || end == rate_text || *rate_text == '-' || rate > RATE_MAX) {
		log_error("--rate is a number of MiB a second, not '%s'", rate_text);
		return EXIT_USAGE;
	}
	code = ask_daemon(&c, argv[optind],
			  json_pack("{s:s, s:s, s:I}", "verb", "reencrypt", "scope", scope, "rate", (json_int_t)rate),
			  NULL, NULL);
	return code == EXIT_DONE && wait ? wait_for_it(&c, argv[optind], scope) : code;
}
