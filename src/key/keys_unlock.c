/* Opening the keys of a volume. The descriptor is not to be believed before its MAC was checked, and the key for that is
 * wrapped inside it; so until then it is followed no further than to the key sources that it names.
 */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "provider.h"

struct unlocking {
	const struct descriptor *d;
	const char *state_dir;
	struct volume_keys *k;
	bool damaged; /* a volume key was found, but the descriptor's MAC does not go with it */
};

/* The platform's ring may have gone to another host, or have been made anew: its id tells. */
static int explain(const struct key_provider *p, struct key_source *source, const char *whose, const char *uri,
		   const char *wanted_id, uint32_t wanted_version, int r)
{
	struct key_info info;

	if (p->describe(source, &info)) {
		log_error(
			"scope %s is locked by the key %s (%s), which is not on this host; bring the state directory with its keys over from the host that made the volume",
			whose, wanted_id, uri);
		return -ENOENT;
	}
	if (strcmp(info.id, wanted_id)) {
		log_error(
			"scope %s is locked by the key %s, but %s is now the key %s: a wrong key; put the right one back",
			whose, wanted_id, uri, info.id);
		return -EBADMSG;
	}
	if (r == -ENOENT) {
		log_error("scope %s is locked by version %u of the key %s (%s), which is not there", whose,
			  wanted_version, info.id, uri);
		return r;
	}
	log_error("scope %s: a key wrapped by %s (%s) does not open: %s was changed or damaged; restore it from a copy",
		  whose, info.id, uri, DESCRIPTOR_NAME);
	return -EUCLEAN;
}

static int unwrap(const struct key_provider *p, struct key_source *source, const char *whose, const char *uri,
		  const char *wanted_id, uint32_t version, const uint8_t in[static WRAPPED_KEY_SIZE],
		  struct secret **ret)
{
	int r = p->unwrap(source, version, in, ret);

	if (!r && secret_size(*ret) != KEY_SIZE) {
		secret_free(*ret);
		*ret = NULL;
		r = -EBADMSG;
	}
	if (r == -EBADMSG || r == -ENOENT)
		r = explain(p, source, whose, uri, wanted_id, version, r);
	else if (r)
		log_error("scope %s: the key source %s failed: %s", whose, uri, strerror(-r));
	return r;
}

/* Takes a volume key if the descriptor's MAC agrees; *key is freed in any case. */
static int try_volume_key(struct unlocking *u, struct secret **key)
{
	AUTO_SECRET struct secret *mine = *key;
	int r;

	*key = NULL;
	if (u->k->mac)
		return 0; /* have one already */
	r = keys_set_volume_key(u->k, mine);
	if (!r)
		r = descriptor_check(u->d, u->k->mac);
	if (!r)
		return 0;
	u->damaged = u->damaged || r == -EBADMSG;
	kdf_free(u->k->structure);
	secret_free(u->k->mac);
	u->k->structure = NULL;
	u->k->mac = NULL;
	return r;
}

static void lock_scope(struct unlocking *u, size_t i, int error)
{
	struct scope_keys *sk = &u->k->scopes[i];

	if (sk->source)
		sk->provider->close(sk->source);
	sk->source = NULL;
	sk->last.state = error == -ENOENT || error == -EACCES || error == -EBADMSG || error == -EINVAL
				 ? KEY_REVOKED
				 : KEY_UNREACHABLE;
	sk->outcome = error;
}

static void open_scope(struct unlocking *u, size_t i)
{
	const struct scope_entry *s = &u->d->scopes[i];
	struct scope_keys *sk = &u->k->scopes[i];
	struct secret *volume_key = NULL;
	int r = keys_open_source(s->key_uri, u->state_dir, &sk->provider, &sk->source);

	if (!r)
		r = unwrap(sk->provider, sk->source, s->name, s->key_uri, s->kek_id, s->kek_version, s->volume_key,
			   &volume_key);
	if (r)
		lock_scope(u, i, r);
	else
		try_volume_key(u, &volume_key);
}

/* No scope's key is to be had: the structure opens with the platform's. */
static int open_by_platform(struct unlocking *u)
{
	const struct key_provider *p;
	struct key_source *source;
	struct secret *volume_key = NULL;
	int r = keys_open_source(PLATFORM_URI, u->state_dir, &p, &source);

	if (r)
		return r;
	/* Silent: what is wrong with the scopes' keys was said, and this one need not be here. */
	r = p->unwrap(source, u->d->platform_version, u->d->platform_volume_key, &volume_key);
	p->close(source);
	return r ? r : try_volume_key(u, &volume_key);
}

static int unlock_deks(struct unlocking *u, const struct scope_entry *s, struct scope_keys *sk,
		       const struct key_provider *infra_provider, struct key_source *infra_source)
{
	int r = 0;

	for (size_t i = 0; i < s->dek_count && !r; i++) {
		AUTO_SECRET struct secret *dek = NULL;
		AUTO_SECRET struct secret *infra = NULL;

		r = unwrap(sk->provider, sk->source, s->name, s->key_uri, s->kek_id, s->kek_version, s->deks[i].dek,
			   &dek);
		if (!r && infra_source)
			r = unwrap(infra_provider, infra_source, s->name, INFRASTRUCTURE_URI, s->infra_kek_id,
				   s->infra_kek_version, s->deks[i].infra, &infra);
		if (!r)
			r = keys_add_cryptor(u->k, s, s->deks[i].version, dek, infra);
	}
	return r;
}

static int unlock_scope(struct unlocking *u, size_t i)
{
	const struct scope_entry *s = &u->d->scopes[i];
	struct scope_keys *sk = &u->k->scopes[i];
	const struct key_provider *p = NULL;
	struct key_source *source = NULL;
	int r = 0;

	if (!sk->source)
		return sk->outcome;
	if (s->suite == SUITE_XTS_GCM)
		r = keys_open_source(INFRASTRUCTURE_URI, u->state_dir, &p, &source);
	if (!r)
		r = unlock_deks(u, s, sk, p, source);
	if (source)
		p->close(source);
	if (r)
		lock_scope(u, i, r);
	return r;
}

static int unlock(struct unlocking *u)
{
	size_t unlocked = 0;

	for (size_t i = 0; i < u->d->scope_count; i++)
		open_scope(u, i);
	if (!u->k->mac)
		open_by_platform(u);
	if (!u->k->mac && u->damaged) {
		log_error("%s does not authenticate: it was changed or damaged; restore it from a copy",
			  DESCRIPTOR_NAME);
		return -EUCLEAN;
	}
	if (!u->k->mac)
		return u->k->scopes[0].outcome;
	for (size_t i = 0; i < u->d->scope_count; i++)
		unlocked += !unlock_scope(u, i);
	return unlocked ? 0 : u->k->scopes[0].outcome;
}

int keys_unlock(const struct descriptor *d, const char *state_dir, struct volume_keys **ret)
{
	struct unlocking u = { .d = d, .state_dir = state_dir };
	int r = d->scope_count ? keys_new(d, &u.k) : -EINVAL;

	if (!r)
		r = unlock(&u);
	if (r && (!u.k || !u.k->mac)) {
		keys_free(u.k);
		u.k = NULL;
	}
	*ret = u.k;
	return r;
}
