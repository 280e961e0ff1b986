/* coffer scope */
#include <stdio.h>

#include "commands.h"

struct scope_options {
	const char *key, *integrity;
	bool infrastructure, json, recursive, deny_override;
};

static enum exit_code create_scope(const struct config *c, const char *path, const char *name,
				   const struct scope_options *o)
{
	const char *uri = o->key ? o->key : "platform:", *integrity = o->integrity ? o->integrity : "gmac";
	struct secret *key = NULL;
	enum exit_code code = start_crypto();

	if (strcmp(integrity, "gmac") != 0 && strcmp(integrity, "none") != 0) {
		log_error("--integrity is gmac or none, not '%s'", integrity);
		return EXIT_USAGE;
	}
	if (o->infrastructure && strcmp(integrity, "none") == 0) {
		log_error("--infrastructure cannot go with --integrity none");
		return EXIT_USAGE;
	}
	if (code == EXIT_DONE && strcmp(uri, PROVIDED_URI) == 0)
		code = read_key(&key);
	if (code != EXIT_DONE)
		return code;
	return ask_daemon(c, path,
			  json_pack("{s:s, s:s, s:s, s:s, s:b}", "verb", "scope-create", "scope", name, "key", uri,
				    "integrity", integrity, "infrastructure", o->infrastructure),
			  key, NULL);
}

static enum exit_code change(const struct config *c, const char *path, const char *name, const char *verb)
{
	return ask_daemon(c, path, json_pack("{s:s, s:s}", "verb", verb, "scope", name), NULL, NULL);
}

static enum exit_code list(const struct config *c, const char *path, bool json)
{
	json_t *answer = NULL, *scope;
	enum exit_code code = ask_daemon(c, path, json_pack("{s:s}", "verb", "status"), NULL, &answer);
	const json_t *scopes = json_object_get(answer, "scopes");
	size_t i;

	if (code == EXIT_DONE && json)
		json_dumpf(scopes, stdout, JSON_INDENT(2)), putchar('\n');
	else if (code == EXIT_DONE)
		json_array_foreach(scopes, i, scope) print_scope(scope);
	json_decref(answer);
	return code;
}

int command_scope(int argc, char **argv)
{
	struct arguments a = { .command = "scope" };
	struct scope_options o = { 0 };
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_KEY)
			o.key = optarg;
		else if (option == OPTION_INFRASTRUCTURE)
			o.infrastructure = true;
		else if (option == OPTION_INTEGRITY)
			o.integrity = optarg;
		else if (option == OPTION_JSON)
			o.json = true;
		else if (option == OPTION_RECURSIVE)
			o.recursive = true;
		else if (option == OPTION_DENY_OVERRIDE)
			o.deny_override = true;
	}
	if (!take_arguments(&a, argc, 2, 4, &c, &code))
		return code;
	const char *verb = argv[optind], *path = argv[optind + 1], *name = argv[optind + 2];

	/* Which volume it is the path says; who names that, too, may. */
	if (strcmp(verb, "assign") == 0 && name)
		return argc - optind == 3 ? assign_scope(&c, argv[optind + 1], name, o.recursive, o.deny_override)
					  : assign_scope(&c, argv[optind + 3], name, o.recursive, o.deny_override);
	if (argc - optind == 4)
		return usage_error(a.command);

	if (strcmp(verb, "list") == 0 && !name)
		return list(&c, path, o.json);
	if (strcmp(verb, "create") == 0 && name)
		return create_scope(&c, path, name, &o);
	if (strcmp(verb, "enable") == 0 && name)
		return change(&c, path, name, "scope-enable");
	if (strcmp(verb, "disable") == 0 && name)
		return change(&c, path, name, "scope-disable");
	if (strcmp(verb, "purge") == 0 && name)
		return change(&c, path, name, "scope-purge");
	return usage_error(a.command);
}
