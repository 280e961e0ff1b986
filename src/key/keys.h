/* The inside of struct volume_keys, for keys.c, keys_create.c and keys_unlock.c only. */
#ifndef COFFER_KEY_KEYS_H
#define COFFER_KEY_KEYS_H

#include <coffer/key.h>

struct scope_keys {
	uint32_t number;
	const struct key_provider *provider;
	struct key_source *source; /* NULL: locked */
	struct key_info last;      /* of a locked one: what the descriptor says, and why it is locked */
	int outcome;               /* of unlocking it */
};

/* One slot for each DEK version of each scope, and one, with version 0, for the scope's current version. */
struct key_slot {
	bool used;
	uint32_t scope, version;
	uint32_t current;
	struct cryptor *cryptor;
	struct cryptor *metadata; /* NULL: the same */
};

/* Nothing changes between keys_create or keys_unlock and keys_free: lookups need no lock. */
struct volume_keys {
	struct kdf *structure;
	struct secret *mac;
	size_t scope_count;
	struct scope_keys *scopes;
	size_t slot_count; /* a power of two, at most half used */
	struct key_slot *slots;
};

/* Room for the scopes of `d`, all of them locked and without cryptors. */
int keys_new(const struct descriptor *d, struct volume_keys **ret);
/* Derives what the volume key is for; the key stays the caller's. */
int keys_set_volume_key(struct volume_keys *k, const struct secret *volume_key);
int keys_add_cryptor(struct volume_keys *k, const struct scope_entry *s, uint32_t version, const struct secret *dek,
		     const struct secret *infra);
/* Opens the source of a URI with its provider; fails with a message. */
int keys_open_source(const char *uri, const char *state_dir, const struct key_provider **ret_provider,
		     struct key_source **ret);

#define PLATFORM_URI       "platform:"
#define INFRASTRUCTURE_URI "platform:infrastructure"

#endif
