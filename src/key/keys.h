/* The inside of struct volume_keys, for the files keys*.c and recovery.c only. */
#ifndef COFFER_KEY_KEYS_H
#define COFFER_KEY_KEYS_H

#include <pthread.h>
#include <stdatomic.h>

#include <coffer/manager.h>

/* Who asks it may still do so when its scope is locked: the last one closes it, and wipes what it holds. */
struct opened_source {
	const struct key_provider *provider;
	struct key_source *source;
	pthread_mutex_t lock; /* held by who asks: providers need not be thread-safe */
	atomic_uint users;
	atomic_bool retired; /* a KEY_RETIRED key has unwrapped */
};

struct scope_keys {
	uint32_t number;
	struct opened_source *source; /* NULL: locked, or opened by the recovery key */
	int outcome;                  /* of unlocking it with the volume */
	bool retired;                 /* as a source's that is closed again */
};

struct cryptor_pair {
	uint32_t version;
	struct cryptor *content;
	struct cryptor *metadata; /* NULL: the same */
};

struct opened_scope {
	uint32_t number;
	struct opened_source *source; /* NULL: opened by the recovery key */
	size_t count;
	struct cryptor_pair pairs[DEKS_MAX];
};

/* One slot for each DEK version of each scope, and one, with version 0, for the scope's current version. */
struct key_slot {
	bool used;
	uint32_t scope;
	struct cryptor_pair pair; /* without cryptors: locked */
	uint32_t current;         /* both only where the version is 0 */
	bool flushing;
};

struct volume_keys {
	char *state_dir;
	struct secret *volume_key;
	struct secret *recovery; /* NULL, or the private key that the volume was opened with */
	struct kdf *structure;
	struct secret *mac;
	size_t scope_count;
	struct scope_keys *scopes; /* ascending by number */
	size_t slot_count;         /* a power of two, at most half used */
	struct key_slot *slots;
};

/* Without a volume key; all scopes of `d` are locked. */
int keys_new(const struct descriptor *d, const char *state_dir, struct volume_keys **ret);
/* Takes the volume key over, and derives what it is for. */
int keys_set_volume_key(struct volume_keys *k, struct secret **volume_key);
struct scope_keys *keys_scope(const struct volume_keys *k, uint32_t number); /* NULL: none */

/* Opens the source of a URI with its provider, or wraps up a provided key; fails with a message. */
int source_open(const char *uri, const char *state_dir, struct secret **provided, struct opened_source **ret);
/* As the provider's, and on failure says what it means for the scope. */
int source_unwrap(struct opened_source *o, const struct scope_entry *s, const struct wrapped_key *in,
		  struct secret **ret);
int source_ask(struct opened_source *o, const struct scope_entry *s,
	       struct key_info *ret); /* keys_ask, with its lock held */
/* The scope's key version i, and its infrastructure key (*ret_infra NULL where it has none), by whatever opened the scope. */
int unwrap_dek(const struct volume_keys *k, struct opened_source *o, const struct scope_entry *s, size_t i,
	       struct secret **ret_dek, struct secret **ret_infra);
int unwrap_infrastructure(const struct volume_keys *k, const struct scope_entry *s, size_t i, struct secret **ret);
int opened_scope_add(struct opened_scope *o, const struct scope_entry *s, uint32_t version, const struct secret *dek,
		     const struct secret *infra);
/* Wraps the volume key and `deks` (dek_count of them) into *s by a source, and looks whether it opens what it wrapped. */
int source_wrap_scope(const struct volume_keys *k, const struct opened_source *o, struct secret *const *deks,
		      struct scope_entry *s);
int wrap_infrastructure(const struct volume_keys *k, struct secret *const *infra, struct scope_entry *s);
/* Seals a DEK for the recovery key, if there is one and the scope takes part. */
int seal_dek(const struct recovery *recovery, const struct scope_entry *s, struct wrapped_dek *dek,
	     const struct secret *key, const struct secret *infra);

#define PLATFORM_URI       "platform:"
#define INFRASTRUCTURE_URI "platform:infrastructure"

#endif
