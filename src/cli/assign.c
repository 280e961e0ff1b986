/* coffer scope assign: puts files and directories into a scope. */
#include <errno.h>
#include <fts.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/stat.h>

#include "commands.h"

/* So many objects are asked for at a time: each request is durably recorded, before and after. */
enum { BATCH = 500 };

struct assigning {
	const struct config *config;
	const char *mountpoint, *scope;
	bool deny_override;
	struct item {
		char *path;
		uint64_t object;
		bool deny_override;
	} items[BATCH];
	size_t count;
};

static void drop_first(struct assigning *a, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(a->items[i].path);
	memmove(a->items, a->items + count, (a->count - count) * sizeof(a->items[0]));
	a->count -= count;
}

/* *ret_done: how many of them came into the scope; the next one did not, if the code says so. */
static enum exit_code ask(const struct assigning *a, size_t *ret_done)
{
	json_t *objects = json_array(), *answer = NULL;
	enum exit_code code;

	for (size_t i = 0; i < a->count; i++)
		json_array_append_new(objects, json_pack("{s:I, s:b}", "object", (json_int_t)a->items[i].object,
							 "deny_override", a->items[i].deny_override));
	code = ask_daemon(a->config, a->mountpoint,
			  json_pack("{s:s, s:s, s:o}", "verb", "scope-assign", "scope", a->scope, "objects", objects),
			  NULL, &answer);
	*ret_done = code == EXIT_DONE ? a->count : (size_t)json_integer_value(json_object_get(answer, "assigned"));
	if (*ret_done > a->count)
		*ret_done = a->count;
	json_decref(answer);
	return code;
}

static enum exit_code flush(struct assigning *a)
{
	enum exit_code code = EXIT_DONE;
	struct stat st;
	size_t done;

	while (code == EXIT_DONE && a->count) {
		code = ask(a, &done);
		drop_first(a, done);
		if (code == EXIT_DONE || !a->count)
			continue;
		if (lstat(a->items[0].path, &st) < 0 && errno == ENOENT)
			code = EXIT_DONE; /* somebody removed it just now */
		else
			log_error("%s: not put into scope %s", a->items[0].path, a->scope);
		drop_first(a, 1);
	}
	return code;
}

static enum exit_code add(struct assigning *a, const char *path, const struct stat *st, bool deny_override)
{
	char *copy = strdup(path);

	if (!copy)
		return EXIT_OTHER;
	a->items[a->count++] = (struct item){ copy, st->st_ino, deny_override };
	return a->count == BATCH ? flush(a) : EXIT_DONE;
}

/* A directory comes before what is in it, so that what is made meanwhile is in the scope, too, and denies others when all below it
 * has come. */
static enum exit_code add_tree(struct assigning *a, char *path)
{
	char *paths[] = { path, NULL };
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	enum exit_code code = EXIT_DONE;
	FTSENT *e;

	if (!tree) {
		log_error("%s: %s", path, strerror(errno));
		return EXIT_OTHER;
	}
	while (code == EXIT_DONE && (errno = 0, e = fts_read(tree))) {
		switch (e->fts_info) {
		case FTS_DP:
			if (a->deny_override)
				code = add(a, e->fts_path, e->fts_statp, true);
			break;
		case FTS_DNR:
		case FTS_ERR:
		case FTS_NS:
			if (e->fts_errno == ENOENT)
				break;
			log_error("%s: %s", e->fts_path, strerror(e->fts_errno));
			code = EXIT_OTHER;
			break;
		default:
			code = add(a, e->fts_path, e->fts_statp, false);
		}
	}
	if (code == EXIT_DONE && errno) {
		log_error("%s: %s", path, strerror(errno));
		code = EXIT_OTHER;
	}
	fts_close(tree);
	return code;
}

/* The mount that a path lies on; of a symbolic link, the one where the link is. */
static enum exit_code find_object(const struct config *c, const char *path, struct target *ret, struct stat *st)
{
	AUTO_FREE char *copy = strdup(path);
	enum exit_code code;
	struct stat root;

	if (!copy || lstat(path, st) < 0) {
		log_error("%s: %s", path, strerror(copy ? errno : ENOMEM));
		return EXIT_OTHER;
	}
	code = find_target(c, S_ISLNK(st->st_mode) ? dirname(copy) : path, ret);
	if (code == EXIT_DONE &&
	    (!ret->mountpoint[0] || stat(ret->mountpoint, &root) < 0 || root.st_dev != st->st_dev)) {
		log_error("%s: does not lie on a mounted volume", path);
		code = EXIT_NOT_MOUNTED;
	}
	return code;
}

enum exit_code assign_scope(const struct config *c, char *path, const char *scope, bool recursive, bool deny_override)
{
	AUTO_FREE struct assigning *a = calloc(1, sizeof(*a));
	struct target t;
	struct stat st;
	enum exit_code code = a ? find_object(c, path, &t, &st) : EXIT_OTHER, flushed;

	if (code != EXIT_DONE)
		return code;
	a->config = c;
	a->mountpoint = t.mountpoint;
	a->scope = scope;
	a->deny_override = deny_override;
	code = recursive ? add_tree(a, path) : add(a, path, &st, deny_override);
	flushed = code == EXIT_DONE ? flush(a) : code;
	drop_first(a, a->count);
	return flushed;
}
