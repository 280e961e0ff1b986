/* coffer audit: shows and verifies the record of what was done with a volume's keys. On a mounted volume the daemon reads it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"

/* ---- showing ---- */

/* Texts in a trail may come from anywhere: none drives the terminal. */
static void print_safely(FILE *out, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		bool control = *c < ' ' || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0);

		putc(control ? '?' : *c, out);
		c += control && *c == 0xc2;
	}
}

static void print_text(const json_t *o, const char *key, const char *before)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (s && s[0]) {
		fputs(before, stdout);
		print_safely(stdout, s);
	}
}

static int64_t number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void print_event(const json_t *o)
{
	const char *requester = json_string_value(json_object_get(o, "requester"));

	printf("%6" PRId64, number_of(o, "number"));
	print_text(o, "time", "  ");
	print_text(o, "event", "  ");
	print_text(o, "outcome", ": ");
	if (requester && strcmp(requester, "daemon") == 0)
		printf(", by the daemon");
	else
		printf(", by user %" PRId64, number_of(o, "uid"));
	printf(" (process %" PRId64 ")", number_of(o, "pid"));
	print_text(o, "scope", ", scope ");
	print_text(o, "key", ", key ");
	if (json_object_get(o, "key_version"))
		printf(" version %" PRId64, number_of(o, "key_version"));
	print_text(o, "key_source", " of ");
	print_text(o, "detail", "; ");
	putchar('\n');
}

static void print_line(bool json, const char *text)
{
	json_t *o = json_loads(text, 0, NULL);

	if (json)
		printf("%s\n", text); /* as it stands, so that its MAC can be checked elsewhere */
	else if (json_is_true(json_object_get(o, "altered")))
		print_text(o, "text", "     !  "), putchar('\n');
	else
		print_event(o);
	json_decref(o);
}

/* ---- reading ---- */

struct reading {
	bool show, json;
};

/* Findings of `show` go apart from the lines. */
static void take(void *arg, const char *text)
{
	const struct reading *r = arg;
	FILE *out = r->show ? stderr : stdout;

	if (text[0] == '{') {
		print_line(r->json, text);
		return;
	}
	print_safely(out, text);
	putc('\n', out);
}

static bool take_control_line(void *arg, const char *line)
{
	take(arg, line);
	return true;
}

static int read_live(int fd, struct reading *reading, struct audit_result *ret)
{
	json_t *answer = NULL;
	int r = control_send(fd, json_pack("{s:s, s:b}", "verb", "audit", "lines", reading->show));

	if (r == 0)
		r = control_receive(fd, take_control_line, reading, &answer);
	ret->lines = (uint64_t)number_of(answer, "lines");
	ret->first = (uint64_t)number_of(answer, "first");
	ret->last = (uint64_t)number_of(answer, "last");
	ret->errors = (uint64_t)number_of(answer, "errors");
	json_decref(answer);
	return r;
}

/* Without the keys the lines can be shown, but nobody knows what they are worth. */
static int read_unmounted(int fd, const struct config *c, struct reading *reading, struct audit_result *ret)
{
	struct audit_place p = { .state_dir = c->state_dir, .backing_fd = fd, .read_only = true };
	struct volume_keys *keys = NULL;
	struct descriptor *d = NULL;
	struct audit *a = NULL;
	int r = descriptor_load(fd, &d);

	if (r < 0)
		return r == -EPROTONOSUPPORT ? r : -ENODATA;
	r = keys_unlock(d, c->state_dir, NULL, &keys);
	if (keys && !keys_descriptor_mac(keys)) { /* whose they are is not known */
		keys_free(keys);
		keys = NULL;
	}
	if (keys || reading->show) {
		if (!keys)
			log_warning("without the keys it is not known whether these lines are authentic and complete");
		p.volume_id = d->volume_id;
		r = audit_open(keys ? keys_structure(keys) : NULL, &p, &a);
		if (r == 0)
			r = audit_read(a, reading->show, take, reading, ret);
	}
	audit_close(a);
	keys_free(keys);
	descriptor_free(d);
	return r;
}

static enum exit_code summarise(const char *path, const struct reading *reading, int r,
				const struct audit_result *result)
{
	if (r < 0) {
		log_error("%s: the audit trail could not be read: %s", path, strerror(-r));
		return exit_code_of(r);
	}
	if (!reading->show) {
		printf("%" PRIu64 " lines", result->lines);
		if (result->lines)
			printf(" (number %" PRIu64 " to %" PRIu64 ")", result->first, result->last);
		printf(result->errors ? ": %" PRIu64 " errors\n" : ": no errors\n", result->errors);
	}
	return result->errors ? EXIT_DAMAGED : EXIT_DONE;
}

static enum exit_code read_trail(const char *path, const struct config *c, struct reading *reading)
{
	struct audit_result result = { 0 };
	char backing[PATH_MAX];
	AUTO_CLOSE int control = -1, fd = -1;
	enum exit_code code;
	struct target t;
	int r;

	code = find_target(c, path, &t);
	if (code == EXIT_DONE)
		code = start_crypto();
	if (code != EXIT_DONE)
		return code;
	if (connect_target(c, &t, &control) == 0) {
		r = read_live(control, reading, &result);
	} else {
		if (backing_open(t.backing, &fd, backing) < 0)
			return EXIT_NOT_A_VOLUME;
		r = read_unmounted(fd, c, reading, &result);
	}
	return summarise(path, reading, r, &result);
}

int command_audit(int argc, char **argv)
{
	struct arguments a = { .command = "audit" };
	struct reading reading = { 0 };
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_JSON)
			reading.json = true;
	}
	if (!take_arguments(&a, argc, 2, 2, &c, &code))
		return code;
	reading.show = strcmp(argv[optind], "show") == 0;
	if ((!reading.show && strcmp(argv[optind], "verify") != 0) || (!reading.show && reading.json))
		return usage_error(a.command);
	return read_trail(argv[optind + 1], &c, &reading);
}
