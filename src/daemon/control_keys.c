/* What can be asked of a running daemon about scopes and keys. Key bytes never come in a request's JSON, whose memory is neither
 * locked nor wiped: they follow, raw, when the daemon has said that it is ready. */
#include <errno.h>
#include <stdio.h>

#include <coffer/volume_keys.h>

#include "daemon_internal.h"

/* ---- describing ---- */

static json_t *describe_entry(const struct scope_entry *s)
{
	const char *suite = suite_name(s->suite);
	const struct wrapped_dek *dek = &s->deks[s->dek_count - 1];
	json_t *o = json_pack("{s:s, s:i, s:s, s:b, s:s, s:s, s:s, s:i, s:i, s:b, s:I, s:I, s:b}", "name", s->name,
			      "number", (int)s->number, "algorithms", suite ? suite : "unknown", "infrastructure",
			      s->suite == SUITE_XTS_GCM, "integrity", s->suite == SUITE_XTS ? "none" : "gmac",
			      "key_source", s->key_uri, "key_id", s->kek_id, "key_version", (int)s->kek_version,
			      "dek_version", (int)dek->version, "enabled", !s->disabled, "created",
			      (json_int_t)s->created, "last_rotation", (json_int_t)s->rotated, "recovery",
			      dek->recovery.len != 0);

	if (s->suite == SUITE_XTS_GCM) {
		json_object_set_new(o, "infrastructure_key_id", json_string(s->infra_kek_id));
		json_object_set_new(o, "infrastructure_key_version", json_integer(s->infra_kek_version));
	}
	return o;
}

json_t *describe_descriptor(const struct descriptor *d)
{
	char id[2 * VOLUME_ID_SIZE + 1];
	json_t *scopes = json_array();

	hex_encode(d->volume_id, VOLUME_ID_SIZE, id);
	for (size_t i = 0; i < d->scope_count; i++)
		json_array_append_new(scopes, describe_entry(&d->scopes[i]));
	return json_pack("{s:s, s:i, s:I, s:I, s:b, s:I, s:o}", "volume_id", id, "format", (int)d->format, "created",
			 (json_int_t)d->created, "epoch", (json_int_t)d->epoch, "clean", d->clean, "recovery_created",
			 (json_int_t)d->recovery.created, "scopes", scopes);
}

static json_t *describe_reencryption(const struct reencryption *r)
{
	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I}", "running", r->running, "objects_done",
			 (json_int_t)r->objects_done, "objects", (json_int_t)r->objects, "blocks_done",
			 (json_int_t)r->blocks_done, "blocks", (json_int_t)r->blocks, "failed", (json_int_t)r->failed);
}

json_t *describe_volume(struct volume *v)
{
	struct descriptor *d = volume_descriptor(v);
	json_t *o = d ? describe_descriptor(d) : NULL, *scope;
	size_t i;

	json_array_foreach(json_object_get(o, "scopes"), i, scope)
	{
		struct scope_view view;

		if (volume_scope(v, d->scopes[i].number, &view) < 0)
			continue;
		json_object_set_new(scope, "key_state", json_string(scope_state_name(view.state)));
		json_object_set_new(scope, "locked", json_boolean(!view.open));
		json_object_set_new(scope, "state_since", json_integer(view.since));
		json_object_set_new(scope, "last_check", json_integer(view.checked));
		json_object_set_new(scope, "next_check", json_integer(view.next_check));
		json_object_set_new(scope, "open_until", json_integer(view.until));
		if (view.reencryption.pending)
			json_object_set_new(scope, "reencryption", describe_reencryption(&view.reencryption));
	}
	descriptor_free(d);
	return o;
}

/* ---- changing ---- */

static const char *text_of(const struct connection *c, const char *name)
{
	return json_string_value(json_object_get(c->request, name));
}

static bool flag_of(const struct connection *c, const char *name)
{
	return json_is_true(json_object_get(c->request, name));
}

/* The scope that is asked about; without a name, the volume's own. */
static int scope_of(struct connection *c, uint32_t *ret)
{
	const char *name = text_of(c, "scope");

	return volume_scope_number(c->facts->volume, name ? name : "default", ret);
}

/* The key that follows the request, where it says that one does. */
static int receive_secret(struct connection *c, struct secret **ret)
{
	AUTO_SECRET struct secret *key = NULL;
	size_t len = 0;
	json_t *ready;
	int r;

	*ret = NULL;
	if (!flag_of(c, "secret"))
		return 0;
	key = secret_new(KEY_SIZE);
	ready = json_pack("{s:s}", "line", CONTROL_READY);
	r = key && ready ? control_write(c->fd, ready) : -ENOMEM;
	json_decref(ready);
	if (r == 0)
		r = read_all(c->fd, secret_data(key), KEY_SIZE, &len);
	if (r == 0 && len != KEY_SIZE)
		r = -ECONNRESET;
	if (r < 0)
		return r;
	*ret = key;
	key = NULL;
	return 0;
}

static enum suite suite_of(const struct connection *c)
{
	const char *integrity = text_of(c, "integrity");

	if (flag_of(c, "infrastructure"))
		return SUITE_XTS_GCM;
	return integrity && !strcmp(integrity, "none") ? SUITE_XTS : SUITE_XTS_GMAC;
}

json_t *verb_scope_create(struct connection *c, int *ret_result)
{
	const char *name = text_of(c, "scope"), *uri = text_of(c, "key");
	struct secret *key;

	*ret_result = name ? receive_secret(c, &key) : -EINVAL;
	if (*ret_result == 0)
		*ret_result = volume_scope_create(c->facts->volume, name, uri ? uri : "platform:", suite_of(c), key);
	return NULL;
}

static int enable(struct volume *v, uint32_t scope)
{
	return volume_scope_enable(v, scope, true);
}

static int disable(struct volume *v, uint32_t scope)
{
	return volume_scope_enable(v, scope, false);
}

/* What needs to know of a scope only. */
static json_t *on_scope(struct connection *c, int (*change)(struct volume *v, uint32_t scope), int *ret_result)
{
	uint32_t scope;

	*ret_result = scope_of(c, &scope);
	if (*ret_result == 0)
		*ret_result = change(c->facts->volume, scope);
	return NULL;
}

json_t *verb_scope_enable(struct connection *c, int *ret_result)
{
	return on_scope(c, enable, ret_result);
}

json_t *verb_scope_disable(struct connection *c, int *ret_result)
{
	return on_scope(c, disable, ret_result);
}

/* Objects one after the other; "assigned" says how many it were when one could not be. */
json_t *verb_scope_assign(struct connection *c, int *ret_result)
{
	const json_t *objects = json_object_get(c->request, "objects"), *item;
	size_t i = 0;
	uint32_t scope;

	*ret_result = json_array_size(objects) && text_of(c, "scope") ? scope_of(c, &scope) : -EINVAL;
	while (*ret_result == 0 && (item = json_array_get(objects, i))) {
		uint64_t object = (uint64_t)json_integer_value(json_object_get(item, "object"));
		bool deny = json_is_true(json_object_get(item, "deny_override"));

		*ret_result = volume_scope_assign(c->facts->volume, object, scope, deny);
		i += *ret_result == 0;
	}
	return json_pack("{s:I}", "assigned", (json_int_t)i);
}

json_t *verb_scope_purge(struct connection *c, int *ret_result)
{
	*ret_result = -EINVAL;
	return text_of(c, "scope") ? on_scope(c, volume_scope_purge, ret_result) : NULL;
}

json_t *verb_reencrypt(struct connection *c, int *ret_result)
{
	json_int_t rate = json_integer_value(json_object_get(c->request, "rate"));
	uint32_t scope;

	*ret_result = rate >= 0 && rate <= INT32_MAX ? scope_of(c, &scope) : -EINVAL;
	if (*ret_result == 0)
		*ret_result = volume_reencrypt(c->facts->volume, scope, (unsigned)rate);
	return NULL;
}

json_t *verb_key_rotate(struct connection *c, int *ret_result)
{
	return on_scope(c, volume_key_rotate, ret_result);
}

json_t *verb_key_lock(struct connection *c, int *ret_result)
{
	return on_scope(c, volume_key_lock, ret_result);
}

json_t *verb_key_unlock(struct connection *c, int *ret_result)
{
	return on_scope(c, volume_key_unlock, ret_result);
}

json_t *verb_infrastructure_key_rotate(struct connection *c, int *ret_result)
{
	*ret_result = volume_key_rotate_infrastructure(c->facts->volume);
	return NULL;
}

json_t *verb_key_set(struct connection *c, int *ret_result)
{
	const char *uri = text_of(c, "key");
	struct secret *key;
	uint32_t scope;

	*ret_result = uri ? scope_of(c, &scope) : -EINVAL;
	if (*ret_result == 0)
		*ret_result = receive_secret(c, &key);
	if (*ret_result == 0)
		*ret_result = volume_key_set(c->facts->volume, scope, uri, key);
	return NULL;
}

json_t *verb_key_provide(struct connection *c, int *ret_result)
{
	json_int_t seconds = json_integer_value(json_object_get(c->request, "seconds"));
	struct secret *key = NULL;
	uint32_t scope;

	*ret_result = seconds >= 0 && seconds <= INT32_MAX ? scope_of(c, &scope) : -EINVAL;
	if (*ret_result == 0)
		*ret_result = receive_secret(c, &key);
	if (*ret_result == 0)
		*ret_result = key ? volume_key_provide(c->facts->volume, scope, key, (unsigned)seconds) : -EINVAL;
	return NULL;
}

/* The command made the key, and keeps it to itself. */
json_t *verb_key_recovery(struct connection *c, int *ret_result)
{
	const char *digits = text_of(c, "public");
	uint8_t public[PUBLIC_KEY_SIZE];
	unsigned left = 0;
	size_t len = 0;

	*ret_result = -EINVAL;
	if (digits && hex_decode(digits, strlen(digits), public, sizeof(public), &len) == 0 && len == sizeof(public))
		*ret_result = volume_key_recovery(c->facts->volume, public, &left);
	return json_pack("{s:i}", "left_out", (int)left);
}
