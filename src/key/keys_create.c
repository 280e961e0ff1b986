/* Keys that are new: those of a volume, and those of a scope. */
#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <coffer/util.h>

#include "provider.h"

/* A first DEK, wrapped; *s has name, number and suite. */
static int make_scope(const struct volume_keys *k, const struct recovery *recovery, const char *uri,
		      struct secret **provided, struct scope_entry *s, struct opened_scope *o)
{
	AUTO_SECRET struct secret *dek = secret_random(KEY_SIZE);
	AUTO_SECRET struct secret *infra = s->suite == SUITE_XTS_GCM ? secret_random(KEY_SIZE) : NULL;
	int r = dek && (infra || s->suite != SUITE_XTS_GCM) ? 0 : -ENOMEM;

	if (!r && strlen(uri) >= sizeof(s->key_uri)) {
		log_error("the URI of a key source is limited to %zu bytes", sizeof(s->key_uri) - 1);
		r = -EINVAL;
	}
	if (r)
		return r;
	snprintf(s->key_uri, sizeof(s->key_uri), "%s", uri);
	s->created = time(NULL);
	s->dek_count = 1;
	s->deks[0].version = 1;
	s->deks[0].created = s->created;
	o->number = s->number;
	r = source_open(uri, k->state_dir, provided, &o->source);
	if (r == -ENOKEY)
		log_error("scope %s: the key for %s must be handed over with the command", s->name, uri);
	if (!r)
		r = source_wrap_scope(k, o->source, &dek, s);
	if (!r && infra)
		r = wrap_infrastructure(k, &infra, s);
	if (!r)
		r = seal_dek(recovery, s, &s->deks[0], dek, infra);
	return r ? r : opened_scope_add(o, s, 1, dek, infra);
}

int keys_new_scope(const struct volume_keys *k, const struct recovery *recovery, const char *uri,
		   struct secret **provided, struct scope_entry *ret, struct opened_scope **ret_opened)
{
	struct opened_scope *o = calloc(1, sizeof(*o));
	int r = o ? make_scope(k, recovery, uri, provided, ret, o) : -ENOMEM;

	if (r) {
		opened_scope_free(o);
		return r;
	}
	*ret_opened = o;
	return 0;
}

int keys_create(struct descriptor *d, const char *key_uri, const char *state_dir, struct secret **provided,
		struct volume_keys **ret)
{
	struct secret *volume_key = secret_random(KEY_SIZE);
	struct scope_entry *s = d->scopes;
	struct opened_scope *o = NULL;
	struct volume_keys *k = NULL;
	int r = d->scope_count == 1 && suite_name(s->suite) ? 0 : -EINVAL;

	snprintf(s->name, sizeof(s->name), "default");
	if (!r)
		r = volume_key ? random_bytes(d->volume_id, sizeof(d->volume_id)) : -ENOMEM;
	if (!r)
		r = keys_new(d, state_dir, &k);
	if (!r)
		r = keys_set_volume_key(k, &volume_key);
	if (!r)
		r = keys_new_scope(k, &d->recovery, key_uri ? key_uri : PLATFORM_URI, provided, s, &o);
	if (!r)
		r = keys_rewrap_platform(k, d);
	if (!r)
		r = keys_make_room(k, d);
	if (!r)
		keys_take_scope(k, &o);
	secret_free(volume_key);
	opened_scope_free(o);
	if (r) {
		keys_free(k);
		return r;
	}
	*ret = k;
	return 0;
}
