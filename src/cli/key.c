/* coffer key */
#include <errno.h>
#include <stdio.h>

#include "commands.h"

struct key_options {
	const char *scope, *key, *ttl;
	bool infrastructure, json;
};
typedef enum exit_code key_verb(const struct config *c, const char *path, const struct key_options *o);

static json_t *request(const char *verb, const struct key_options *o)
{
	return json_pack("{s:s, s:s}", "verb", verb, "scope", o->scope ? o->scope : "default");
}

static enum exit_code key_show(const struct config *c, const char *path, const struct key_options *o)
{
	json_t *answer = NULL, *scope;
	enum exit_code code = ask_daemon(c, path, json_pack("{s:s}", "verb", "status"), NULL, &answer);
	const char *name;
	bool found = false;
	size_t i;

	if (code != EXIT_DONE)
		return code;
	json_array_foreach(json_object_get(answer, "scopes"), i, scope)
	{
		name = json_string_value(json_object_get(scope, "name"));
		if (!name || strcmp(name, o->scope ? o->scope : "default") != 0)
			continue;
		found = true;
		if (o->json)
			json_dumpf(scope, stdout, JSON_INDENT(2)), putchar('\n');
		else
			print_scope(scope);
	}
	if (!found) {
		log_error("there is no scope %s", o->scope ? o->scope : "default");
		code = EXIT_KEY_REFUSED;
	}
	json_decref(answer);
	return code;
}

static enum exit_code key_set(const struct config *c, const char *path, const struct key_options *o)
{
	struct secret *key = NULL;
	enum exit_code code = o->key ? start_crypto() : usage_error("key");
	json_t *r;

	if (code == EXIT_DONE && strcmp(o->key, PROVIDED_URI) == 0)
		code = read_key(&key);
	if (code != EXIT_DONE)
		return code;
	r = request("key-set", o);
	json_object_set_new(r, "key", json_string(o->key));
	return ask_daemon(c, path, r, key, NULL);
}

static enum exit_code key_rotate(const struct config *c, const char *path, const struct key_options *o)
{
	if (o->infrastructure)
		return ask_daemon(c, path, json_pack("{s:s}", "verb", "infrastructure-key-rotate"), NULL, NULL);
	return ask_daemon(c, path, request("key-rotate", o), NULL, NULL);
}

static enum exit_code key_lock(const struct config *c, const char *path, const struct key_options *o)
{
	return ask_daemon(c, path, request("key-lock", o), NULL, NULL);
}

static enum exit_code key_unlock(const struct config *c, const char *path, const struct key_options *o)
{
	return ask_daemon(c, path, request("key-unlock", o), NULL, NULL);
}

static enum exit_code key_provide(const struct config *c, const char *path, const struct key_options *o)
{
	struct secret *key = NULL;
	enum exit_code code = start_crypto();
	unsigned long seconds = 0;
	char *end = NULL;
	json_t *r;

	if (o->ttl) {
		seconds = strtoul(o->ttl, &end, 10);
		if (*end || end == o->ttl || !seconds || seconds > INT32_MAX) {
			log_error("--ttl is a number of seconds, not '%s'", o->ttl);
			return EXIT_USAGE;
		}
	}
	if (code == EXIT_DONE)
		code = read_key(&key);
	if (code != EXIT_DONE)
		return code;
	r = request("key-provide", o);
	json_object_set_new(r, "seconds", json_integer((json_int_t)seconds));
	return ask_daemon(c, path, r, key, NULL);
}

/* Shown by one write, from locked memory. */
static int show_recovery_key(const struct secret *key)
{
	AUTO_SECRET struct secret *text = secret_new(RECOVERY_TEXT_SIZE);
	char *digits;
	int r;

	if (!text)
		return -ENOMEM;
	digits = (char *)secret_data(text);
	recovery_write(key, digits);
	for (int i = 3; i < RECOVERY_GROUPS - 1; i += 4)
		digits[7 * i + 6] = '\n';
	digits[RECOVERY_TEXT_SIZE - 1] = '\n';
	r = write_all(STDOUT_FILENO, digits, RECOVERY_TEXT_SIZE);
	return r;
}

/* The key is made here, and nobody else learns of it but its public half. */
static enum exit_code key_recovery(const struct config *c, const char *path, const struct key_options *o)
{
	AUTO_SECRET struct secret *key = NULL;
	uint8_t public[PUBLIC_KEY_SIZE];
	char digits[2 * PUBLIC_KEY_SIZE + 1];
	enum exit_code code = start_crypto();
	json_t *answer = NULL;
	int r;

	(void)o;
	if (code != EXIT_DONE)
		return code;
	key = secret_random(KEY_SIZE);
	r = key ? private_key_public(key, public) : -ENOMEM;
	if (r < 0) {
		log_error("no recovery key can be made: %s", strerror(-r));
		return EXIT_OTHER;
	}
	hex_encode(public, sizeof(public), digits);
	code = ask_daemon(c, path, json_pack("{s:s, s:s}", "verb", "key-recovery", "public", digits), NULL, &answer);
	if (code == EXIT_DONE && show_recovery_key(key) < 0)
		code = EXIT_OTHER;
	if (code == EXIT_DONE) {
		fprintf(stderr,
			"This is the recovery key. It is shown this once, and older ones are void.\n"
			"Write it down, keep it apart from the volume; coffer mount BACKING MNT -o recovery asks for it.\n");
		if (json_integer_value(json_object_get(answer, "left_out")))
			fprintf(stderr,
				"Scopes that are locked take part when they are unlocked, those with a provided key never.\n");
	}
	json_decref(answer);
	return code;
}

static const struct {
	const char *name;
	key_verb *run;
} verbs[] = {
	{ "show", key_show },     { "set", key_set },         { "rotate", key_rotate },     { "lock", key_lock },
	{ "unlock", key_unlock }, { "provide", key_provide }, { "recovery", key_recovery },
};

int command_key(int argc, char **argv)
{
	struct arguments a = { .command = "key" };
	struct key_options o = { 0 };
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_SCOPE)
			o.scope = optarg;
		else if (option == OPTION_KEY)
			o.key = optarg;
		else if (option == OPTION_TTL)
			o.ttl = optarg;
		else if (option == OPTION_INFRASTRUCTURE)
			o.infrastructure = true;
		else if (option == OPTION_JSON)
			o.json = true;
	}
	if (!take_arguments(&a, argc, 2, 2, &c, &code))
		return code;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, argv[optind]) == 0)
			return verbs[i].run(&c, argv[optind + 1], &o);
	return usage_error(a.command);
}
