/* Changing what wraps the keys of a volume. No data is touched, and nothing here is written: the caller stores the descriptor, and
 * only then lets go of the old. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <coffer/util.h>

#include "keys.h"
#include "provider.h"

static void secrets_free(struct secret **s, size_t count)
{
	for (size_t i = 0; i < count; i++)
		secret_free(s[i]);
}

/* ---- wrapping ---- */

/* Wraps one key, and looks whether it comes back: the other copy of it is about to be given up. *used must not change on the way. */
static int wrap_checked(const struct opened_source *o, const struct secret *key, struct key_info *used,
			struct wrapped_key *ret)
{
	AUTO_SECRET struct secret *back = NULL;
	struct key_info by = { 0 };
	struct wrapped_key wrapped = { 0 };
	int r = o->provider->wrap(o->source, key, &by, &wrapped);

	if (!r && used->version && (used->version != by.version || strcmp(used->id, by.id) != 0))
		r = -EAGAIN; /* a new version came in between; the next attempt finds it settled */
	if (!r)
		r = o->provider->unwrap(o->source, by.id, by.version, &wrapped, &back);
	if (r == KEY_RETIRED)
		r = -EAGAIN;
	if (!r && (secret_size(back) != secret_size(key) ||
		   !equal_in_constant_time(secret_bytes(back), secret_bytes(key), secret_size(key))))
		r = -EIO;
	if (r)
		return r;
	*used = by;
	*ret = wrapped;
	return 0;
}

int source_wrap_scope(const struct volume_keys *k, const struct opened_source *o, struct secret *const *deks,
		      struct scope_entry *s)
{
	struct key_info used = { 0 };
	int r = wrap_checked(o, k->volume_key, &used, &s->volume_key);

	for (size_t i = 0; i < s->dek_count && !r; i++)
		r = wrap_checked(o, deks[i], &used, &s->deks[i].dek);
	if (r) {
		log_error("scope %s: %s cannot wrap its keys: %s", s->name, s->key_uri, strerror(-r));
		return r;
	}
	memcpy(s->kek_id, used.id, sizeof(s->kek_id));
	s->kek_version = used.version;
	s->rotated = time(NULL);
	return 0;
}

int wrap_infrastructure(const struct volume_keys *k, struct secret *const *infra, struct scope_entry *s)
{
	struct opened_source *o = NULL;
	struct key_info used = { 0 };
	int r = source_open(INFRASTRUCTURE_URI, k->state_dir, NULL, &o);

	for (size_t i = 0; i < s->dek_count && !r; i++)
		r = wrap_checked(o, infra[i], &used, &s->deks[i].infra);
	opened_source_free(o);
	if (r)
		return r;
	memcpy(s->infra_kek_id, used.id, sizeof(s->infra_kek_id));
	s->infra_kek_version = used.version;
	return 0;
}

/* ---- the scope's own source ---- */

/* The old key is asked for first: whoever may not use it any more does not take the data along to another one. */
static int ask_old(struct opened_source *old, const struct scope_entry *s)
{
	struct key_info info;
	int r = source_ask(old, s, &info);

	if (!r && info.state != KEY_ACTIVE) {
		log_error("scope %s: its present key, %s of %s, is %s: nothing was changed", s->name, s->kek_id,
			  s->key_uri, info.state == KEY_REVOKED ? "not to be used any more" : "out of reach");
		r = info.state == KEY_REVOKED ? -EACCES : -EHOSTUNREACH;
	}
	return r;
}

static int rewrap(const struct volume_keys *k, struct opened_source *old, const struct opened_source *new,
		  struct scope_entry *s, const char *uri)
{
	struct secret *deks[DEKS_MAX] = { 0 }, *infra[DEKS_MAX] = { 0 };
	int r = 0;

	for (size_t i = 0; i < s->dek_count && !r; i++)
		r = unwrap_dek(k, old, s, i, &deks[i], &infra[i]);
	if (!r && uri)
		snprintf(s->key_uri, sizeof(s->key_uri), "%s", uri);
	if (!r)
		r = source_wrap_scope(k, new, deks, s);
	/* What the recovery key opened may be of a host whose ring is gone: it is wrapped by this one's. */
	if (!r && !old && s->suite == SUITE_XTS_GCM)
		r = wrap_infrastructure(k, infra, s);
	secrets_free(deks, DEKS_MAX);
	secrets_free(infra, DEKS_MAX);
	return r;
}

static int no_source(const struct scope_entry *s)
{
	log_error("scope %s was opened by the recovery key: set a key source for it first", s->name);
	return -ENOKEY;
}

static int open_new(const struct volume_keys *k, const struct scope_entry *s, const char *uri, struct secret **provided,
		    struct opened_source **ret)
{
	int r = source_open(uri, k->state_dir, provided, ret);

	if (r == -ENOKEY)
		log_error("scope %s: the key for %s must be handed over with the command", s->name, uri);
	return r;
}

static int rewrap_checked(const struct volume_keys *k, struct opened_source *source, struct scope_entry *s,
			  const char *uri, struct secret **provided, struct opened_source **ret_source)
{
	struct scope_entry next = *s;
	struct opened_source *new = NULL;
	int r = 0;

	if (uri && strlen(uri) >= sizeof(s->key_uri)) {
		log_error("the URI of a key source is limited to %zu bytes", sizeof(s->key_uri) - 1);
		r = -EINVAL;
	}
	if (!r && source)
		r = ask_old(source, s);
	if (!r && !uri && !source)
		r = no_source(s);
	if (!r && uri)
		r = open_new(k, s, uri, provided, &new);
	if (!r)
		r = rewrap(k, source, new ? new : source, &next, uri);
	/* What is provided is nobody else's: nothing of it stays sealed for the recovery key. */
	if (!r && !strcmp(next.key_uri, PROVIDED_URI))
		keys_leave_recovery(&next);
	if (r) {
		opened_source_free(new);
		return r;
	}
	*s = next;
	*ret_source = new;
	return 0;
}

int keys_rewrap(const struct volume_keys *k, struct opened_source *source, struct scope_entry *s, const char *uri,
		struct secret **provided, struct opened_source **ret_source)
{
	int r;

	*ret_source = NULL;
	if (source)
		pthread_mutex_lock(&source->lock);
	r = rewrap_checked(k, source, s, uri, provided, ret_source);
	if (source)
		pthread_mutex_unlock(&source->lock);
	return r;
}

/* All of them are wrapped anew, since an entry names one KEK for all. */
static int add_dek(const struct volume_keys *k, struct opened_source *source, const struct recovery *recovery,
		   struct scope_entry *s, struct opened_scope *o)
{
	struct secret *deks[DEKS_MAX] = { 0 }, *infra[DEKS_MAX] = { 0 };
	struct wrapped_dek *new = &s->deks[s->dek_count];
	size_t last = s->dek_count;
	bool two = s->suite == SUITE_XTS_GCM;
	int r = 0;

	for (size_t i = 0; i < last && !r; i++)
		r = unwrap_dek(k, source, s, i, &deks[i], &infra[i]);
	deks[last] = secret_random(KEY_SIZE);
	infra[last] = two ? secret_random(KEY_SIZE) : NULL;
	if (!r && (!deks[last] || (two && !infra[last])))
		r = -ENOMEM;
	*new = (struct wrapped_dek){ .version = s->deks[last - 1].version + 1, .created = time(NULL) };
	s->dek_count++;
	if (!r)
		r = source_wrap_scope(k, source, deks, s);
	if (!r && two)
		r = wrap_infrastructure(k, infra, s);
	if (!r)
		r = seal_dek(recovery, s, new, deks[last], infra[last]);
	if (!r)
		r = opened_scope_add(o, s, new->version, deks[last], infra[last]);
	secrets_free(deks, DEKS_MAX);
	secrets_free(infra, DEKS_MAX);
	return r;
}

int keys_new_dek(const struct volume_keys *k, struct opened_source *source, const struct recovery *recovery,
		 struct scope_entry *s, struct opened_scope **ret_opened)
{
	struct opened_scope *o = calloc(1, sizeof(*o));
	struct scope_entry next = *s;
	int r = !o ? -ENOMEM : s->dek_count == DEKS_MAX ? -E2BIG : source ? 0 : no_source(s);

	if (!r) {
		LOCK_SCOPE(&source->lock);
		o->number = s->number;
		r = ask_old(source, s);
		if (!r)
			r = add_dek(k, source, recovery, &next, o);
	}
	if (r) {
		opened_scope_free(o);
		return r;
	}
	if (next.kek_version == s->kek_version && !strcmp(next.kek_id, s->kek_id))
		next.rotated = s->rotated;
	*s = next;
	*ret_opened = o;
	return 0;
}

int keys_rotate(struct opened_source *source)
{
	if (!source->provider->rotate)
		return -EOPNOTSUPP;
	LOCK_SCOPE(&source->lock);
	return source->provider->rotate(source->source);
}

/* ---- the platform's keys ---- */

static const char *platform_uri(enum platform_key key)
{
	return key == PLATFORM_KEY ? PLATFORM_URI : INFRASTRUCTURE_URI;
}

int platform_rotate(const char *state_dir, enum platform_key key)
{
	struct opened_source *o = NULL;
	int r = source_open(platform_uri(key), state_dir, NULL, &o);

	if (!r)
		r = o->provider->rotate(o->source);
	opened_source_free(o);
	return r;
}

int platform_describe_key(const char *state_dir, enum platform_key key, struct key_info *ret)
{
	struct opened_source *o = NULL;
	int r = source_open(platform_uri(key), state_dir, NULL, &o);

	if (!r)
		r = o->provider->describe(o->source, ret);
	opened_source_free(o);
	return r;
}

static bool opens_volume_key(const struct volume_keys *k, const struct opened_source *o, const struct descriptor *d)
{
	AUTO_SECRET struct secret *key = NULL;

	return !o->provider->unwrap(o->source, NULL, d->platform_version, &d->platform_volume_key, &key) &&
	       secret_size(key) == KEY_SIZE &&
	       equal_in_constant_time(secret_bytes(key), secret_bytes(k->volume_key), KEY_SIZE);
}

int keys_rewrap_platform(const struct volume_keys *k, struct descriptor *d)
{
	struct opened_source *o = NULL;
	struct key_info info = { 0 }, used = { 0 };
	int r = source_open(PLATFORM_URI, k->state_dir, NULL, &o);

	if (!r && (o->provider->describe(o->source, &info) || info.version != d->platform_version ||
		   !opens_volume_key(k, o, d)))
		r = wrap_checked(o, k->volume_key, &used, &d->platform_volume_key);
	if (!r && used.version)
		d->platform_version = used.version;
	opened_source_free(o);
	return r;
}

int keys_rewrap_infrastructure(const struct volume_keys *k, struct scope_entry *s)
{
	struct secret *infra[DEKS_MAX] = { 0 };
	struct scope_entry next = *s;
	struct key_info info;
	int r = s->suite == SUITE_XTS_GCM ? platform_describe_key(k->state_dir, INFRASTRUCTURE_KEY, &info) : -ENOENT;

	if (r == -ENOENT || (!r && info.version == s->infra_kek_version && !strcmp(info.id, s->infra_kek_id)))
		return 0;
	for (size_t i = 0; i < s->dek_count && !r; i++)
		r = unwrap_infrastructure(k, s, i, &infra[i]);
	if (!r)
		r = wrap_infrastructure(k, infra, &next);
	secrets_free(infra, DEKS_MAX);
	if (!r)
		*s = next;
	return r;
}
