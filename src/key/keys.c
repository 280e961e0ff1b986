#include "keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

/* ---- lookups ---- */

/* The slot of (scope, version), or the free one where it belongs. */
static struct key_slot *find_slot(const struct volume_keys *k, uint32_t scope, uint32_t version)
{
	size_t i = scope * 0x9e3779b1U ^ version * 0x85ebca6bU;

	for (;; i++) {
		struct key_slot *s = &k->slots[i & (k->slot_count - 1)];

		if (!s->used || (s->scope == scope && s->version == version))
			return s;
	}
}

struct cryptor *keys_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version)
{
	return find_slot(k, scope, dek_version)->cryptor; /* of a free slot: NULL */
}

struct cryptor *keys_metadata_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version)
{
	const struct key_slot *s = find_slot(k, scope, dek_version);

	return s->metadata ? s->metadata : s->cryptor;
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

int keys_describe(const struct volume_keys *k, uint32_t scope, struct key_info *ret)
{
	for (size_t i = 0; i < k->scope_count; i++) {
		const struct scope_keys *s = &k->scopes[i];

		if (s->number != scope)
			continue;
		if (s->source)
			return s->provider->describe(s->source, ret);
		*ret = s->last;
		return 0;
	}
	return -ENOENT;
}

int keys_outcome(const struct volume_keys *k, uint32_t scope)
{
	for (size_t i = 0; i < k->scope_count; i++)
		if (k->scopes[i].number == scope)
			return k->scopes[i].outcome;
	return -ENOENT;
}

/* ---- making ---- */

static int make_slots(struct volume_keys *k, const struct descriptor *d)
{
	size_t needed = 0;

	for (size_t i = 0; i < d->scope_count; i++)
		needed += 1 + d->scopes[i].dek_count;
	k->slot_count = 2;
	while (k->slot_count < 2 * needed)
		k->slot_count *= 2;
	k->slots = calloc(k->slot_count, sizeof(*k->slots));
	if (!k->slots)
		return -ENOMEM;
	for (size_t i = 0; i < d->scope_count; i++) {
		const struct scope_entry *s = &d->scopes[i];
		struct key_slot *slot = find_slot(k, s->number, 0);

		*slot = (struct key_slot){ .used = true, .scope = s->number };
		if (s->dek_count)
			slot->current = s->deks[s->dek_count - 1].version;
	}
	return 0;
}

int keys_new(const struct descriptor *d, struct volume_keys **ret)
{
	struct volume_keys *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->scopes = calloc(d->scope_count, sizeof(*k->scopes));
	if (!k->scopes || make_slots(k, d)) {
		keys_free(k);
		return -ENOMEM;
	}
	k->scope_count = d->scope_count;
	for (size_t i = 0; i < d->scope_count; i++) {
		const struct scope_entry *s = &d->scopes[i];

		k->scopes[i].number = s->number;
		k->scopes[i].last.version = s->kek_version;
		k->scopes[i].last.state = KEY_UNREACHABLE;
		snprintf(k->scopes[i].last.id, sizeof(k->scopes[i].last.id), "%s", s->kek_id);
	}
	*ret = k;
	return 0;
}

int keys_set_volume_key(struct volume_keys *k, const struct secret *volume_key)
{
	k->structure = kdf_new(volume_key);
	k->mac = k->structure ? kdf_secret(k->structure, "coffer descriptor mac", MAC_SIZE) : NULL;
	return k->mac ? 0 : -ENOMEM;
}

int keys_add_cryptor(struct volume_keys *k, const struct scope_entry *s, uint32_t version, const struct secret *dek,
		     const struct secret *infra)
{
	struct key_slot *slot = find_slot(k, s->number, version);
	struct cryptor *c = NULL, *metadata = NULL;
	int r = cryptor_new(s->suite, dek, infra, &c);

	if (!r && s->suite == SUITE_XTS)
		r = cryptor_new(SUITE_XTS_GMAC, dek, NULL, &metadata);
	if (r) {
		cryptor_free(c);
		return r;
	}
	*slot = (struct key_slot){
		.used = true, .scope = s->number, .version = version, .cryptor = c, .metadata = metadata
	};
	return 0;
}

int keys_open_source(const char *uri, const char *state_dir, const struct key_provider **ret_provider,
		     struct key_source **ret)
{
	const struct key_provider *p = key_provider_for(uri);
	int r;

	if (!p) {
		log_error("%s is no key source that this version of coffer knows; there are platform: and file:///path",
			  uri);
		return -EINVAL;
	}
	r = p->open(uri, state_dir, ret);
	if (!r)
		*ret_provider = p;
	return r;
}

void keys_free(struct volume_keys *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->slot_count && k->slots; i++) {
		cryptor_free(k->slots[i].cryptor);
		cryptor_free(k->slots[i].metadata);
	}
	for (size_t i = 0; i < k->scope_count; i++)
		if (k->scopes[i].source)
			k->scopes[i].provider->close(k->scopes[i].source);
	kdf_free(k->structure);
	secret_free(k->mac);
	free(k->slots);
	free(k->scopes);
	free(k);
}
