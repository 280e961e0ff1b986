/* Pins: STATE/volumes/NAME.pin, libconfig text, where NAME is the first half of the SHA-256 of the backing directory's path.
 * The path and not the volume's id, because a substituted volume brings an id of its own; and not the device's number, because
 * that changes with every boot.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/key.h>
#include <coffer/util.h>

#include "text.h"

#define PIN_DIR   "volumes"
#define PIN_MAGIC "pin"
#define ACCEPT    "if that is right, mount it once with -o accept"
enum {
	PIN_FORMAT = 2,
	URI_SIZE = sizeof(((struct scope_entry *)0)->key_uri),
	PIN_NAME_SIZE = BACKING_NAME_SIZE + sizeof(".pin") - 1,
};

int backing_real_path(int backing_fd, char out[static PATH_MAX])
{
	char link[64];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", backing_fd);
	len = readlink(link, out, PATH_MAX);
	if (len < 0)
		return -errno;
	if (len == PATH_MAX)
		return -ENAMETOOLONG;
	out[len] = '\0';
	return 0;
}

int backing_name(const char *path, char out[static BACKING_NAME_SIZE])
{
	uint8_t hash[32];
	int r = sha256(path, strlen(path), hash);

	if (r)
		return r;
	hex_encode(hash, 16, out);
	return 0;
}

static int pin_name(const char *path, char out[static PIN_NAME_SIZE])
{
	int r = backing_name(path, out);

	if (r)
		return r;
	strcat(out, ".pin");
	return 0;
}

/* *ret is malloc'ed. */
static int pin_dir_path(const char *state_dir, char **ret)
{
	if (asprintf(ret, "%s/%s", state_dir, PIN_DIR) >= 0)
		return 0;
	*ret = NULL;
	return -ENOMEM;
}

/* ---- comparing ---- */

static int changed(const char *path, const char *what)
{
	log_error("%s: %s since it was last mounted on this host; " ACCEPT, path, what);
	return -EKEYREJECTED;
}

/* How a list of scopes differs from the descriptor's: 0, not at all; 1, by the key source of one; 2, in which there are. */
static int difference(struct text *t, config_setting_t *list, size_t count, const struct descriptor *d,
		      const struct scope_entry **ret_scope, char uri[static URI_SIZE])
{
	size_t known = 0;
	int r = 0;

	for (size_t i = 0; i < count && !t->error && !r; i++) {
		config_setting_t *g = text_get_element(t, list, i);
		uint32_t number = 0;

		text_get_u32(t, g, "number", 0, &number);
		text_get_string(t, g, "key", uri, URI_SIZE);
		text_finish(t, g);
		*ret_scope = t->error ? NULL : descriptor_scope(d, number);
		if (*ret_scope && strcmp((*ret_scope)->key_uri, uri))
			r = 1;
		known += *ret_scope != NULL;
	}
	return !r && !t->error && (known != count || known != d->scope_count) ? 2 : r;
}

static int compare_scopes(struct text *t, const char *path, const struct descriptor *d)
{
	config_setting_t *list = NULL, *pending = NULL;
	const struct scope_entry *s = NULL, *other = NULL;
	char uri[URI_SIZE], other_uri[URI_SIZE];
	size_t count = 0, pending_count = 0;
	int r = 0;

	text_get_list(t, text_root(t), "scopes", 1, SCOPES_MAX, &list, &count);
	text_get_list(t, text_root(t), "pending", 0, SCOPES_MAX, &pending, &pending_count);
	if (!t->error)
		r = difference(t, list, count, d, &s, uri);
	/* A change that was announced, and whose end we did not live to see. */
	if (!t->error && r && pending_count && !difference(t, pending, pending_count, d, &other, other_uri))
		r = 0;
	if (r == 1) {
		log_error(
			"%s: the key source of scope \"%s\" was %s when it was last mounted on this host and is now %s; " ACCEPT,
			path, s->name, uri, s->key_uri);
		return -EKEYREJECTED;
	}
	return r ? changed(path, "scopes came or went") : 0;
}

static int compare(struct text *t, const char *path, const struct descriptor *d)
{
	config_setting_t *root = text_root(t);
	char magic[sizeof(PIN_MAGIC)] = "", pinned_path[PATH_MAX];
	uint8_t id[VOLUME_ID_SIZE];
	uint64_t format, sequence = 0;
	int r = 0;

	text_get_string(t, root, "coffer", magic, sizeof(magic));
	text_get_number(t, root, "format", PIN_FORMAT, PIN_FORMAT, &format);
	text_get_string(t, root, "path", pinned_path, sizeof(pinned_path));
	text_get_hex(t, root, "volume", id, sizeof(id));
	text_get_number(t, root, "sequence", 0, TEXT_NUMBER_MAX, &sequence);
	if (strcmp(magic, PIN_MAGIC) || strcmp(pinned_path, path))
		text_refuse(t, NULL, "this is not what coffer remembers of this directory");
	if (t->error)
		return t->error;
	if (memcmp(id, d->volume_id, sizeof(id)))
		return changed(path, "the volume was replaced by another one");
	r = compare_scopes(t, path, d);
	text_finish(t, root);
	if (r || t->error)
		return r ? r : t->error;
	if (d->sequence < sequence) {
		log_error(
			"%s: its descriptor is older (number %llu) than what was last seen on this host (number %llu): an old copy was put back; " ACCEPT,
			path, (unsigned long long)d->sequence, (unsigned long long)sequence);
		return -ESTALE;
	}
	return 0;
}

int pin_check(const char *state_dir, int backing_fd, const struct descriptor *d)
{
	AUTO_FREE char *dir = NULL;
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *what = NULL;
	AUTO_CLOSE int fd = -1;
	char path[PATH_MAX], name[PIN_NAME_SIZE];
	size_t len = 0;
	int r = backing_real_path(backing_fd, path);

	if (!r)
		r = pin_name(path, name);
	if (!r)
		r = pin_dir_path(state_dir, &dir);
	if (r)
		return r;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : read_file_at(fd, name, DESCRIPTOR_MAX, &text, &len);
	if (r == -ENOENT)
		return 0;
	if (r) {
		log_error("%s/%s cannot be read: %s", dir, name, strerror(-r));
		return r;
	}
	if (asprintf(&what, "%s/%s", dir, name) < 0) {
		what = NULL;
		return -ENOMEM;
	}
	AUTO_TEXT t;
	text_parse(&t, what, text, len);
	r = t.error ? t.error : compare(&t, path, d);
	if (r == -EINVAL)
		log_error("what coffer remembers of %s is damaged; if you trust the directory, remove %s", path, what);
	return r;
}

/* ---- remembering ---- */

static void put_scopes(struct text *t, const char *name, const struct descriptor *d)
{
	config_setting_t *list = text_put_list(t, text_root(t), name);

	for (size_t i = 0; d && i < d->scope_count; i++) {
		config_setting_t *g = text_put_element(t, list);

		text_put_number(t, g, "number", d->scopes[i].number);
		text_put_string(t, g, "key", d->scopes[i].key_uri);
	}
}

static int pin_text(struct text *t, const char *path, const struct descriptor *d, const struct descriptor *next,
		    char **ret_text, size_t *ret_len)
{
	config_setting_t *root = text_root(t);
	FILE *out;

	text_put_string(t, root, "coffer", PIN_MAGIC);
	text_put_number(t, root, "format", PIN_FORMAT);
	text_put_string(t, root, "path", path);
	text_put_hex(t, root, "volume", d->volume_id, sizeof(d->volume_id));
	text_put_number(t, root, "sequence", d->sequence);
	put_scopes(t, "scopes", d);
	put_scopes(t, "pending", next);
	out = open_memstream(ret_text, ret_len);
	if (!out)
		return -ENOMEM;
	text_write(t, out);
	if (fclose(out) && !t->error)
		t->error = -ENOMEM;
	return t->error;
}

static int write_pin(const char *state_dir, int backing_fd, const struct descriptor *d, const struct descriptor *next)
{
	AUTO_FREE char *dir = NULL;
	AUTO_FREE char *text = NULL;
	AUTO_CLOSE int fd = -1;
	char path[PATH_MAX], name[PIN_NAME_SIZE];
	size_t len = 0;
	int r = backing_real_path(backing_fd, path);

	if (!r)
		r = pin_name(path, name);
	if (!r)
		r = pin_dir_path(state_dir, &dir);
	if (r)
		return r;
	AUTO_TEXT t;
	text_start(&t, path);
	r = pin_text(&t, path, d, next, &text, &len);
	if (!r)
		r = make_dirs(dir, 0700);
	if (!r) {
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? -errno : replace_file_at(fd, name, 0600, text, len);
	}
	if (r)
		log_error("%s/%s cannot be written: %s", dir, name, strerror(-r));
	return r;
}

int pin_prepare(const char *state_dir, int backing_fd, const struct descriptor *d, const struct descriptor *next)
{
	return write_pin(state_dir, backing_fd, d, next);
}

int pin_update(const char *state_dir, int backing_fd, const struct descriptor *d)
{
	return write_pin(state_dir, backing_fd, d, NULL);
}
