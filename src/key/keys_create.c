/* The keys of a new volume. */
#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <coffer/util.h>

#include "provider.h"

/* The platform's part: every volume has its volume key wrapped by it, and infrastructure keys are always its own. */
static int wrap_by_platform(const char *uri, const char *state_dir, const struct secret *key, struct key_info *ret_info,
			    uint32_t *ret_version, uint8_t out[static WRAPPED_KEY_SIZE])
{
	const struct key_provider *p;
	struct key_source *source;
	int r = keys_open_source(uri, state_dir, &p, &source);

	if (r)
		return r;
	r = p->wrap(source, key, ret_version, out);
	if (!r)
		r = p->describe(source, ret_info);
	p->close(source);
	return r;
}

static int wrap_by_scope(struct scope_keys *sk, struct scope_entry *s, const char *state_dir,
			 const struct secret *volume_key, const struct secret *dek)
{
	struct key_info info;
	uint32_t version;
	int r = keys_open_source(s->key_uri, state_dir, &sk->provider, &sk->source);

	if (!r)
		r = sk->provider->wrap(sk->source, volume_key, &version, s->volume_key);
	if (!r)
		r = sk->provider->wrap(sk->source, dek, &s->kek_version, s->deks[0].dek);
	if (!r)
		r = sk->provider->describe(sk->source, &info);
	if (!r && version != s->kek_version)
		r = -EAGAIN; /* a new version came in between; the next attempt finds it settled */
	if (!r)
		memcpy(s->kek_id, info.id, sizeof(s->kek_id));
	return r;
}

static int fill_in(struct volume_keys *k, struct descriptor *d, const char *state_dir)
{
	AUTO_SECRET struct secret *volume_key = secret_random(KEY_SIZE);
	AUTO_SECRET struct secret *dek = secret_random(KEY_SIZE);
	AUTO_SECRET struct secret *infra = secret_random(KEY_SIZE);
	struct scope_entry *s = &d->scopes[0];
	bool two_layers = s->suite == SUITE_XTS_GCM;
	struct key_info info;
	int r = volume_key && dek && infra ? 0 : -ENOMEM;

	if (!r)
		r = random_bytes(d->volume_id, sizeof(d->volume_id));
	if (!r)
		r = wrap_by_scope(&k->scopes[0], s, state_dir, volume_key, dek);
	if (!r)
		r = wrap_by_platform(PLATFORM_URI, state_dir, volume_key, &info, &d->platform_version,
				     d->platform_volume_key);
	if (!r && two_layers)
		r = wrap_by_platform(INFRASTRUCTURE_URI, state_dir, infra, &info, &s->infra_kek_version,
				     s->deks[0].infra);
	if (!r && two_layers)
		memcpy(s->infra_kek_id, info.id, sizeof(s->infra_kek_id));
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
