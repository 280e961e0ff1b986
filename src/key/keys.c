/* The keys of a volume as lookups find them, and how they take effect. */
#include "keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

/* ---- lookups ---- */

/* The slot of (scope, version), or the free one where it belongs. */
static struct key_slot *find_in(struct key_slot *slots, size_t count, uint32_t scope, uint32_t version)
{
	size_t i = scope * 0x9e3779b1U ^ version * 0x85ebca6bU;

	for (;; i++) {
		struct key_slot *s = &slots[i & (count - 1)];

		if (!s->used || (s->scope == scope && s->pair.version == version))
			return s;
	}
}

static struct key_slot *find_slot(const struct volume_keys *k, uint32_t scope, uint32_t version)
{
	return find_in(k->slots, k->slot_count, scope, version);
}

enum scope_access keys_access(const struct volume_keys *k, uint32_t scope, uint32_t dek_version)
{
	const struct key_slot *s = find_slot(k, scope, dek_version);

	if (!s->used || !dek_version)
		return SCOPE_UNKNOWN;
	if (!s->pair.content)
		return SCOPE_LOCKED;
	return find_slot(k, scope, 0)->flushing ? SCOPE_FLUSHING : SCOPE_OPEN;
}

struct cryptor *keys_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version)
{
	return find_slot(k, scope, dek_version)->pair.content; /* of a free slot: NULL */
}

struct cryptor *keys_metadata_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version)
{
	const struct cryptor_pair *p = &find_slot(k, scope, dek_version)->pair;

	return p->metadata ? p->metadata : p->content;
}

uint32_t keys_current_version(const struct volume_keys *k, uint32_t scope)
{
	return find_slot(k, scope, 0)->current; /* of a free slot: 0 */
}

const struct kdf *keys_structure(const struct volume_keys *k)
{
	return k->structure;
}

const struct secret *keys_descriptor_mac(const struct volume_keys *k)
{
	return k->mac;
}

struct scope_keys *keys_scope(const struct volume_keys *k, uint32_t number)
{
	for (size_t i = 0; i < k->scope_count; i++)
		if (k->scopes[i].number == number)
			return &k->scopes[i];
	return NULL;
}

int keys_outcome(const struct volume_keys *k, uint32_t scope)
{
	const struct scope_keys *s = keys_scope(k, scope);

	return s ? s->outcome : -ENOENT;
}

struct opened_source *keys_source(const struct volume_keys *k, uint32_t scope)
{
	const struct scope_keys *s = keys_scope(k, scope);

	if (!s || !s->source)
		return NULL;
	atomic_fetch_add(&s->source->users, 1);
	return s->source;
}

bool keys_has_source(const struct volume_keys *k, uint32_t scope)
{
	const struct scope_keys *s = keys_scope(k, scope);

	return s && s->source;
}

/* ---- making and freeing ---- */

static void pair_free(struct cryptor_pair *p)
{
	cryptor_free(p->content);
	cryptor_free(p->metadata);
	p->content = p->metadata = NULL;
}

void opened_source_free(struct opened_source *s)
{
	if (!s || atomic_fetch_sub(&s->users, 1) > 1)
		return;
	if (s->source)
		s->provider->close(s->source);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void opened_scope_free(struct opened_scope *o)
{
	if (!o)
		return;
	for (size_t i = 0; i < o->count; i++)
		pair_free(&o->pairs[i]);
	opened_source_free(o->source);
	free(o);
}

int opened_scope_add(struct opened_scope *o, const struct scope_entry *s, uint32_t version, const struct secret *dek,
		     const struct secret *infra)
{
	struct cryptor_pair pair = { .version = version };
	int r = o->count < DEKS_MAX ? cryptor_new(s->suite, dek, infra, &pair.content) : -EINVAL;

	if (!r && s->suite == SUITE_XTS)
		r = cryptor_new(SUITE_XTS_GMAC, dek, NULL, &pair.metadata);
	if (r) {
		pair_free(&pair);
		return r;
	}
	o->pairs[o->count++] = pair;
	return 0;
}

int keys_new(const struct descriptor *d, const char *state_dir, struct volume_keys **ret)
{
	struct volume_keys *k = calloc(1, sizeof(*k));
	int r = -ENOMEM;

	if (k)
		k->state_dir = strdup(state_dir);
	if (k && k->state_dir)
		r = keys_make_room(k, d);
	if (r) {
		keys_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

int keys_set_volume_key(struct volume_keys *k, struct secret **volume_key)
{
	AUTO_SECRET struct secret *key = *volume_key;
	struct kdf *structure = kdf_new(key);
	struct secret *mac = structure ? kdf_secret(structure, "coffer descriptor mac", MAC_SIZE) : NULL;

	*volume_key = NULL;
	if (!mac) {
		kdf_free(structure);
		return -ENOMEM;
	}
	k->structure = structure;
	k->mac = mac;
	k->volume_key = key;
	key = NULL;
	return 0;
}

void keys_free(struct volume_keys *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->slot_count; i++)
		pair_free(&k->slots[i].pair);
	for (size_t i = 0; i < k->scope_count; i++)
		opened_source_free(k->scopes[i].source);
	kdf_free(k->structure);
	secret_free(k->mac);
	secret_free(k->volume_key);
	secret_free(k->recovery);
	free(k->slots);
	free(k->scopes);
	free(k->state_dir);
	free(k);
}

/* ---- taking effect ---- */

/* A table with a slot for everything in `d`, all of it locked. */
static struct key_slot *make_slots(const struct descriptor *d, size_t *ret_count)
{
	size_t needed = 0, count = 2;
	struct key_slot *slots;

	for (size_t i = 0; i < d->scope_count; i++)
		needed += 1 + d->scopes[i].dek_count;
	while (count < 2 * needed)
		count *= 2;
	slots = calloc(count, sizeof(*slots));
	for (size_t i = 0; slots && i < d->scope_count; i++) {
		const struct scope_entry *s = &d->scopes[i];

		*find_in(slots, count, s->number, 0) = (struct key_slot){
			.used = true,
			.scope = s->number,
			.current = s->dek_count ? s->deks[s->dek_count - 1].version : 0,
		};
		for (size_t j = 0; j < s->dek_count; j++)
			*find_in(slots, count, s->number, s->deks[j].version) = (struct key_slot){
				.used = true, .scope = s->number, .pair = { .version = s->deks[j].version }
			};
	}
	*ret_count = count;
	return slots;
}

int keys_make_room(struct volume_keys *k, const struct descriptor *d)
{
	struct scope_keys *scopes = calloc(d->scope_count, sizeof(*scopes));
	size_t count;
	struct key_slot *slots = scopes ? make_slots(d, &count) : NULL;

	if (!slots) {
		free(scopes);
		return -ENOMEM;
	}
	for (size_t i = 0; i < d->scope_count; i++) {
		const struct scope_keys *old = keys_scope(k, d->scopes[i].number);

		scopes[i] = old ? *old : (struct scope_keys){ .number = d->scopes[i].number };
	}
	for (size_t i = 0; i < k->scope_count; i++)
		if (!descriptor_scope(d, k->scopes[i].number))
			opened_source_free(k->scopes[i].source);
	for (size_t i = 0; i < k->slot_count; i++) {
		struct key_slot *old = &k->slots[i];
		struct key_slot *slot = find_in(slots, count, old->scope, old->pair.version);

		if (!old->used)
			continue;
		if (!slot->used) {
			pair_free(&old->pair);
			continue;
		}
		slot->pair = old->pair;
		slot->flushing = old->flushing;
	}
	free(k->scopes);
	free(k->slots);
	k->scopes = scopes;
	k->scope_count = d->scope_count;
	k->slots = slots;
	k->slot_count = count;
	return 0;
}

void keys_take_source(struct volume_keys *k, uint32_t scope, struct opened_source **s)
{
	struct scope_keys *sk = keys_scope(k, scope);

	if (sk) {
		opened_source_free(sk->source);
		sk->source = *s;
		*s = NULL;
	}
}

void keys_take_deks(struct volume_keys *k, struct opened_scope **o)
{
	for (size_t i = 0; i < (*o)->count; i++) {
		struct key_slot *slot = find_slot(k, (*o)->number, (*o)->pairs[i].version);

		if (!slot->used)
			continue;
		pair_free(&slot->pair);
		slot->pair = (*o)->pairs[i];
		(*o)->pairs[i] = (struct cryptor_pair){ 0 };
	}
	opened_scope_free(*o);
	*o = NULL;
}

void keys_take_scope(struct volume_keys *k, struct opened_scope **o)
{
	keys_take_source(k, (*o)->number, &(*o)->source);
	keys_set_flushing(k, (*o)->number, false);
	keys_take_deks(k, o);
}

void keys_set_flushing(struct volume_keys *k, uint32_t scope, bool flushing)
{
	struct key_slot *slot = find_slot(k, scope, 0);

	if (slot->used)
		slot->flushing = flushing;
}

void keys_lock(struct volume_keys *k, uint32_t scope)
{
	struct opened_source *none = NULL;

	for (size_t i = 0; i < k->slot_count; i++)
		if (k->slots[i].used && k->slots[i].scope == scope)
			pair_free(&k->slots[i].pair);
	keys_take_source(k, scope, &none);
	keys_set_flushing(k, scope, false);
}
