/* Opening the keys of a volume. The descriptor is not to be believed before its MAC was checked, and the key for that is
 * wrapped inside it; so until then it is followed no further than to the key sources that it names.
 */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "provider.h"

/* ---- one scope ---- */

int source_open(const char *uri, const char *state_dir, struct secret **provided, struct opened_source **ret)
{
	const struct key_provider *p = key_provider_for(uri);
	struct opened_source *o;
	int r;

	if (!p) {
		log_error(
			"%s is no key source that this version of coffer knows; there are platform:, file:///path, credential:name, kmip://host/identifier and provided:",
			uri);
		return -EINVAL;
	}
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->provider = p;
	o->users = 1;
	pthread_mutex_init(&o->lock, NULL);
	if (p == &provider_provided)
		r = provided && *provided ? provided_source(provided, &o->source) : -ENOKEY;
	else
		r = p->open(uri, state_dir, &o->source);
	if (r) {
		opened_source_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

/* The platform's ring may have gone to another host, or have been made anew: its id tells. */
static int explain(const struct opened_source *o, const struct scope_entry *s, const char *uri, const char *wanted_id,
		   uint32_t wanted_version, int r)
{
	struct key_info info;

	if (o->provider->describe(o->source, &info)) {
		log_error(
			"scope %s is locked by the key %s (%s), which is not on this host; bring the state directory with its keys over from the host that made the volume, or use the recovery key",
			s->name, wanted_id, uri);
		return -ENOENT;
	}
	if (strcmp(info.id, wanted_id) && o->provider == &provider_provided) {
		log_error("scope %s: this is not its key", s->name);
		return -EBADMSG;
	}
	if (strcmp(info.id, wanted_id)) {
		log_error(
			"scope %s is locked by the key %s, but %s is now the key %s: a wrong key; put the right one back",
			s->name, wanted_id, uri, info.id);
		return -EBADMSG;
	}
	if (r == -ENOENT) {
		log_error("scope %s is locked by version %u of the key %s (%s), which is not there", s->name,
			  wanted_version, info.id, uri);
		return r;
	}
	log_error("scope %s: a key wrapped by %s (%s) does not open: %s was changed or damaged; restore it from a copy",
		  s->name, info.id, uri, DESCRIPTOR_NAME);
	return -EUCLEAN;
}

static int unwrap(struct opened_source *o, const struct scope_entry *s, const char *uri, const char *id,
		  uint32_t version, const struct wrapped_key *in, struct secret **ret)
{
	int r = o->provider->unwrap(o->source, id, version, in, ret);

	if (r == KEY_RETIRED) {
		log_notice(
			"scope %s: the key %s of %s is deactivated and was used to unwrap only: another of its name is active",
			s->name, id, uri);
		o->retired = true;
		r = 0;
	}
	if (!r && secret_size(*ret) != KEY_SIZE) {
		secret_free(*ret);
		*ret = NULL;
		r = -EBADMSG;
	}
	if (r == -EBADMSG || r == -ENOENT)
		r = explain(o, s, uri, id, version, r);
	else if (r)
		log_error("scope %s: the key source %s failed: %s", s->name, uri, strerror(-r));
	return r;
}

int source_unwrap(struct opened_source *o, const struct scope_entry *s, const struct wrapped_key *in,
		  struct secret **ret)
{
	return unwrap(o, s, s->key_uri, s->kek_id, s->kek_version, in, ret);
}

int unwrap_infrastructure(const struct volume_keys *k, const struct scope_entry *s, size_t i, struct secret **ret)
{
	struct opened_source *o = NULL;
	int r;

	*ret = NULL;
	if (s->suite != SUITE_XTS_GCM)
		return 0;
	if (k->recovery && !key_open_sealed(k->recovery, &s->deks[i].infra_recovery, ret))
		return 0;
	r = source_open(INFRASTRUCTURE_URI, k->state_dir, NULL, &o);
	if (!r)
		r = unwrap(o, s, INFRASTRUCTURE_URI, s->infra_kek_id, s->infra_kek_version, &s->deks[i].infra, ret);
	opened_source_free(o);
	return r;
}

int unwrap_dek(const struct volume_keys *k, struct opened_source *o, const struct scope_entry *s, size_t i,
	       struct secret **ret_dek, struct secret **ret_infra)
{
	AUTO_SECRET struct secret *dek = NULL;
	int r;

	if (o)
		r = source_unwrap(o, s, &s->deks[i].dek, &dek);
	else
		r = k->recovery ? key_open_sealed(k->recovery, &s->deks[i].recovery, &dek) : -ENOKEY;
	if (!r)
		r = unwrap_infrastructure(k, s, i, ret_infra);
	if (r)
		return r;
	*ret_dek = dek;
	dek = NULL;
	return 0;
}

static int open_deks(const struct volume_keys *k, const struct scope_entry *s, struct opened_scope *o)
{
	int r = 0;

	for (size_t i = 0; i < s->dek_count && !r; i++) {
		AUTO_SECRET struct secret *dek = NULL;
		AUTO_SECRET struct secret *infra = NULL;

		r = unwrap_dek(k, o->source, s, i, &dek, &infra);
		if (!r)
			r = opened_scope_add(o, s, s->deks[i].version, dek, infra);
	}
	return r;
}

/* Whatever opens this scope must belong to this volume: the volume key that it has says so. */
static int check_volume_key(const struct volume_keys *k, struct opened_source *o, const struct scope_entry *s)
{
	AUTO_SECRET struct secret *key = NULL;
	int r = source_unwrap(o, s, &s->volume_key, &key);

	if (!r && !equal_in_constant_time(secret_bytes(key), secret_bytes(k->volume_key), KEY_SIZE)) {
		log_error("scope %s: its copy of the volume key is another one: %s was changed or damaged", s->name,
			  DESCRIPTOR_NAME);
		r = -EUCLEAN;
	}
	return r;
}

int keys_open_scope(const struct volume_keys *k, const struct scope_entry *s, struct secret **provided,
		    struct opened_scope **ret)
{
	struct opened_scope *o = calloc(1, sizeof(*o));
	int r = o ? 0 : -ENOMEM;

	if (r)
		return r;
	o->number = s->number;
	r = source_open(s->key_uri, k->state_dir, provided, &o->source);
	if (!r)
		r = check_volume_key(k, o->source, s);
	if (r && k->recovery && s->deks[0].recovery.len) {
		log_notice("scope %s is opened by the recovery key", s->name);
		opened_source_free(o->source);
		o->source = NULL;
		r = 0;
	}
	if (!r)
		r = open_deks(k, s, o);
	if (r) {
		opened_scope_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

/* That another key is to be used from now on says nothing about the one that wrapped what there is. */
static int ask_about_older(struct opened_source *o, const struct scope_entry *s, enum key_state *ret)
{
	AUTO_SECRET struct secret *key = NULL;
	int r = source_unwrap(o, s, &s->volume_key, &key);

	if (r == -ENOMEM)
		return r;
	if (r)
		*ret = r == -EACCES || r == -ENOENT || r == -EINVAL ? KEY_REVOKED : KEY_UNREACHABLE;
	return 0;
}

int source_ask(struct opened_source *o, const struct scope_entry *s, struct key_info *ret)
{
	int r = o->provider->describe(o->source, ret);

	if (!r && ret->state == KEY_ACTIVE && strcmp(ret->id, s->kek_id))
		r = ask_about_older(o, s, &ret->state);
	return r;
}

int keys_ask(struct opened_source *source, const struct scope_entry *s, struct key_info *ret)
{
	LOCK_SCOPE(&source->lock);

	return source_ask(source, s, ret);
}

bool keys_used_retired(struct volume_keys *k, uint32_t scope)
{
	struct scope_keys *sk = keys_scope(k, scope);
	bool used = sk && sk->retired;

	if (sk)
		sk->retired = false;
	if (sk && sk->source)
		used = atomic_exchange(&sk->source->retired, false) || used;
	return used;
}

/* ---- the volume key ---- */

struct opening {
	const struct descriptor *d;
	struct volume_keys *k;
	struct kdf *
		unproven; /* over a volume key that was found, though the descriptor's MAC does not go with it; NULL: none */
};

/* Takes a volume key if the descriptor's MAC agrees; *key is taken or freed. */
static int try_volume_key(struct opening *o, struct secret **key)
{
	struct volume_keys *k = o->k;
	int r = keys_set_volume_key(k, key);

	if (!r)
		r = descriptor_check(o->d, k->mac);
	if (!r)
		return 0;
	if (r == -EBADMSG && !o->unproven) {
		o->unproven = k->structure;
		k->structure = NULL;
	}
	kdf_free(k->structure);
	secret_free(k->mac);
	secret_free(k->volume_key);
	k->structure = NULL;
	k->mac = k->volume_key = NULL;
	return r;
}

static int open_by_scope(struct opening *o, const struct scope_entry *s)
{
	struct opened_source *source = NULL;
	struct secret *key = NULL;
	int r = source_open(s->key_uri, o->k->state_dir, NULL, &source);

	if (!r)
		r = source_unwrap(source, s, &s->volume_key, &key);
	keys_scope(o->k, s->number)->retired = source && source->retired;
	opened_source_free(source);
	return r ? r : try_volume_key(o, &key);
}

/* No scope's key is to be had: the structure opens with the platform's. */
static int open_by_platform(struct opening *o)
{
	struct opened_source *source = NULL;
	struct secret *key = NULL;
	int r = source_open(PLATFORM_URI, o->k->state_dir, NULL, &source);

	/* Silent: what is wrong with the scopes' keys was said, and this one need not be here. */
	if (!r)
		r = source->provider->unwrap(source->source, NULL, o->d->platform_version, &o->d->platform_volume_key,
					     &key);
	opened_source_free(source);
	return r ? r : try_volume_key(o, &key);
}

static int open_by_recovery(struct opening *o)
{
	struct secret *key = NULL;
	int r;

	if (!o->d->recovery.created) {
		log_error("this volume has no recovery key");
		return -ENOENT;
	}
	r = key_open_sealed(o->k->recovery, &o->d->recovery.volume_key, &key);
	if (r == -EBADMSG)
		log_error("this is not the recovery key of this volume, or not the last one that was made for it");
	return r ? r : try_volume_key(o, &key);
}

static int find_volume_key(struct opening *o, int *errors)
{
	const struct descriptor *d = o->d;

	if (o->k->recovery)
		return open_by_recovery(o);
	for (size_t i = 0; i < d->scope_count && !o->k->mac; i++)
		errors[i] = open_by_scope(o, &d->scopes[i]);
	return o->k->mac ? 0 : open_by_platform(o);
}

static int open_structure(const struct descriptor *d, const char *state_dir, struct secret **recovery, int *errors,
			  struct volume_keys **ret)
{
	struct opening o = { .d = d };
	int r = d->scope_count ? keys_new(d, state_dir, &o.k) : -EINVAL;

	memset(errors, 0, d->scope_count * sizeof(*errors));
	if (!r && recovery) {
		o.k->recovery = *recovery;
		*recovery = NULL;
	}
	if (!r)
		r = find_volume_key(&o, errors);
	if (!r) {
		kdf_free(o.unproven);
		*ret = o.k;
		return 0;
	}
	if (errors[0] == -ENOKEY)
		log_error(
			"what the volume needs beside its provided key, the platform key, is not on this host; bring the state directory with its keys over");
	if (o.unproven) {
		log_error("%s does not authenticate: it was changed or damaged; restore it from a copy",
			  DESCRIPTOR_NAME);
		o.k->structure = o.unproven;
		*ret = o.k;
		return -EUCLEAN;
	}
	keys_free(o.k);
	return errors[0] ? errors[0] : r;
}

/* ---- all of it ---- */

static int unlock_scopes(struct volume_keys *k, const struct descriptor *d, const int *errors)
{
	bool usable = false;

	for (size_t i = 0; i < d->scope_count; i++) {
		const struct scope_entry *s = &d->scopes[i];
		struct opened_scope *o = NULL;
		/* What was said once need not be said again. */
		int r = s->disabled ? -ENOKEY : errors[i] ? errors[i] : keys_open_scope(k, s, NULL, &o);

		if (!r)
			keys_take_scope(k, &o);
		k->scopes[i].outcome = r;
		usable = usable || !r || r == -ENOKEY;
	}
	return usable ? 0 : k->scopes[0].outcome;
}

int keys_unlock(const struct descriptor *d, const char *state_dir, struct secret **recovery, struct volume_keys **ret)
{
	AUTO_FREE int *errors = calloc(d->scope_count, sizeof(*errors));
	int r = errors ? 0 : -ENOMEM;

	*ret = NULL;
	if (!r)
		r = open_structure(d, state_dir, recovery, errors, ret);
	return r ? r : unlock_scopes(*ret, d, errors);
}
