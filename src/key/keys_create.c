/* The keys of a new volume. */
#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <coffer/util.h>

#include "provider.h"

/* The platform's part: every volume has its volume key wrapped by it, and infrastructure keys are always its own. */
static int wrap_by_platform(const char *uri, const char *state_dir, const struct secret *key, struct key_info *ret_used,
			    struct wrapped_key *ret)
{
	const struct key_provider *p;
	struct key_source *source;
	int r = keys_open_source(uri, state_dir, &p, &source);

	if (r)
		return r;
	r = p->wrap(source, key, ret_used, ret);
	p->close(source);
	return r;
}

static int wrap_by_scope(struct scope_keys *sk, struct scope_entry *s, const char *state_dir,
			 const struct secret *volume_key, const struct secret *dek)
{
	struct key_info first, used;
	int r = keys_open_source(s->key_uri, state_dir, &sk->provider, &sk->source);

	if (!r)
		r = sk->provider->wrap(sk->source, volume_key, &first, &s->volume_key);
	if (!r)
		r = sk->provider->wrap(sk->source, dek, &used, &s->deks[0].dek);
	if (!r && (first.version != used.version || strcmp(first.id, used.id)))
		r = -EAGAIN; /* a new version came in between; the next attempt finds it settled */
	if (r)
		return r;
	memcpy(s->kek_id, used.id, sizeof(s->kek_id));
	s->kek_version = used.version;
	return 0;
}

static int fill_in(struct volume_keys *k, struct descriptor *d, const char *state_dir)
{
	AUTO_SECRET struct secret *volume_key = secret_random(KEY_SIZE);
	AUTO_SECRET struct secret *dek = secret_random(KEY_SIZE);
	AUTO_SECRET struct secret *infra = secret_random(KEY_SIZE);
	struct scope_entry *s = &d->scopes[0];
	bool two_layers = s->suite == SUITE_XTS_GCM;
	struct key_info used;
	int r = volume_key && dek && infra ? 0 : -ENOMEM;

	if (!r)
		r = random_bytes(d->volume_id, sizeof(d->volume_id));
	if (!r)
		r = wrap_by_scope(&k->scopes[0], s, state_dir, volume_key, dek);
	if (!r)
		r = wrap_by_platform(PLATFORM_URI, state_dir, volume_key, &used, &d->platform_volume_key);
	if (!r)
		d->platform_version = used.version;
	if (!r && two_layers)
		r = wrap_by_platform(INFRASTRUCTURE_URI, state_dir, infra, &used, &s->deks[0].infra);
	if (!r && two_layers) {
		memcpy(s->infra_kek_id, used.id, sizeof(s->infra_kek_id));
		s->infra_kek_version = used.version;
	}
	if (!r)
		r = keys_set_volume_key(k, volume_key);
	if (!r)
		r = keys_add_cryptor(k, s, s->deks[0].version, dek, two_layers ? infra : NULL);
	return r;
}

int keys_create(struct descriptor *d, const char *key_uri, const char *state_dir, struct volume_keys **ret)
{
	const char *uri = key_uri ? key_uri : PLATFORM_URI;
	struct scope_entry *s = d->scopes;
	struct volume_keys *k = NULL;
	int r;

	if (d->scope_count != 1 || !suite_name(s->suite))
		return -EINVAL;
	if (strlen(uri) >= sizeof(s->key_uri)) {
		log_error("the URI of a key source is limited to %zu bytes", sizeof(s->key_uri) - 1);
		return -EINVAL;
	}
	snprintf(s->key_uri, sizeof(s->key_uri), "%s", uri);
	snprintf(s->name, sizeof(s->name), "default");
	s->number = 0;
	s->dek_count = 1;
	s->deks[0].version = 1;
	r = keys_new(d, &k);
	if (!r)
		r = fill_in(k, d, state_dir);
	if (r) {
		keys_free(k);
		return r;
	}
	*ret = k;
	return 0;
}
