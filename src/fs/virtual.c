/* user.coffer.*: the encryption status of an object, as read-only attributes. They are not listed, so that copies of a tree
 * do not try to set them. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include <coffer/volume_keys.h>

#include "fs_internal.h"

#define PREFIX "user.coffer."

/* What the values are made from. */
struct facts {
	const uint8_t *volume_id;
	const struct scope_entry *scope;
	const struct scope_view *view;
	uint32_t dek_version;
};

static int value_encrypted(const struct facts *x, char *out, size_t size)
{
	(void)x;
	return snprintf(out, size, "yes");
}

static int value_scope(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%s", x->scope->name);
}

static int value_algorithms(const struct facts *x, char *out, size_t size)
{
	const char *name = suite_name(x->scope->suite);

	return snprintf(out, size, "%s", name ? name : "unknown");
}

static int value_key_source(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%s", x->scope->key_uri);
}

static int value_key_id(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%s", x->scope->kek_id);
}

static int value_key_version(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%u", x->scope->kek_version);
}

static int value_dek_version(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%u", x->dek_version);
}

static int value_key_state(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%s", scope_state_name(x->view->state));
}

/* In Coordinated Universal Time. */
static int write_time(int64_t seconds, char *out, size_t size)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!seconds || !gmtime_r(&t, &tm))
		return snprintf(out, size, "none");
	return (int)strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int value_last_rotation(const struct facts *x, char *out, size_t size)
{
	return write_time(x->scope->rotated, out, size);
}

static int value_next_check(const struct facts *x, char *out, size_t size)
{
	return write_time(x->view->next_check, out, size);
}

static int value_infrastructure(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%s", x->scope->suite == SUITE_XTS_GCM ? "yes" : "no");
}

static int value_integrity(const struct facts *x, char *out, size_t size)
{
	return snprintf(out, size, "%s", x->scope->suite == SUITE_XTS ? "none" : "gmac");
}

static int value_volume_id(const struct facts *x, char *out, size_t size)
{
	char hex[2 * VOLUME_ID_SIZE + 1];

	hex_encode(x->volume_id, VOLUME_ID_SIZE, hex);
	return snprintf(out, size, "%s", hex);
}

static const struct {
	const char *name;
	int (*value)(const struct facts *x, char *out, size_t size);
} attributes[] = {
	{ "encrypted", value_encrypted },     { "scope", value_scope },
	{ "algorithms", value_algorithms },   { "key_source", value_key_source },
	{ "key_id", value_key_id },           { "key_version", value_key_version },
	{ "dek_version", value_dek_version }, { "infrastructure", value_infrastructure },
	{ "integrity", value_integrity },     { "volume_id", value_volume_id },
	{ "key_state", value_key_state },     { "last_rotation", value_last_rotation },
	{ "next_check", value_next_check },
};

bool virtual_is_name(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

/* What the facts are made from; `view` and `id` are the caller's. */
static int find_facts(struct volume *v, uint64_t object, struct scope_view *view, uint8_t id[static VOLUME_ID_SIZE],
		      struct facts *ret, bool *ret_locked)
{
	uint32_t number;
	int r = volume_describe(v, object, &number, &ret->dek_version, ret_locked);

	if (r < 0)
		return r;
	if (volume_scope(v, number, view) < 0)
		return -EIO;
	volume_id(v, id);
	ret->volume_id = id;
	ret->scope = &view->entry;
	ret->view = view;
	return 0;
}

ssize_t virtual_get(struct volume *v, uint64_t object, const char *name, char *buf, size_t size)
{
	struct scope_view view;
	struct facts x;
	uint8_t id[VOLUME_ID_SIZE];
	char value[sizeof(((struct scope_entry *)0)->key_uri)];
	size_t i = 0;
	bool locked;
	int r;

	while (i < sizeof(attributes) / sizeof(attributes[0]) && strcmp(name + strlen(PREFIX), attributes[i].name) != 0)
		i++;
	if (i == sizeof(attributes) / sizeof(attributes[0]))
		return -ENODATA;
	r = find_facts(v, object, &view, id, &x, &locked);
	if (r == 0 && locked)
		r = -EACCES;
	if (r < 0)
		return r;
	r = attributes[i].value(&x, value, sizeof(value));
	if (r < 0 || (size_t)r >= sizeof(value))
		return -EIO;
	if (size == 0)
		return r;
	if ((size_t)r > size)
		return -ERANGE;
	memcpy(buf, value, (size_t)r);
	return r;
}

int fs_describe_object(struct volume *v, uint64_t object, void (*each)(void *arg, const char *name, const char *value),
		       void *arg)
{
	char value[sizeof(((struct scope_entry *)0)->key_uri)];
	struct scope_view view;
	uint8_t id[VOLUME_ID_SIZE];
	struct facts x;
	bool locked;
	int r = find_facts(v, object, &view, id, &x, &locked);

	for (size_t i = 0; r == 0 && i < sizeof(attributes) / sizeof(attributes[0]); i++)
		if (attributes[i].value(&x, value, sizeof(value)) >= 0)
			each(arg, attributes[i].name, value);
	return r;
}
