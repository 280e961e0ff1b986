/* The descriptor BACKING/coffer.volume: libconfig text, authenticated by an HMAC under the volume key, replaced atomically.
 *
 * Reading is in two steps, because the volume key that checks the MAC is itself wrapped inside: descriptor_load parses and
 * bounds everything, keys_unlock (coffer/key.h) unwraps and checks. Nothing of it may be acted upon in between but to ask
 * for keys. Sizes are in bytes, times in seconds since 1970. Not thread-safe: the volume layer serialises.
 */
#ifndef COFFER_DESCRIPTOR_H
#define COFFER_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coffer/crypto.h>

#define DESCRIPTOR_NAME "coffer.volume"
enum {
	DESCRIPTOR_MAX = 2 << 20, /* bytes of text */
	FORMAT_VERSION = 0,       /* 0: still moving; 1 will be kept for ever */
	SCOPES_MAX = 1024,
	DEKS_MAX = 16, /* versions of one scope at a time */
	VOLUME_ID_SIZE = 16,
	EPOCH_SALT_SIZE = 32,
};
/* Features that a reader must know; any other bit: refused. */
enum { FEATURES_KNOWN = 0 };

struct wrapped_dek {
	uint32_t version; /* from 1 */
	int64_t created;
	struct wrapped_key dek;
	struct wrapped_key infra; /* only with SUITE_XTS_GCM: wrapped under the platform's infrastructure key */
	/* Both sealed for the holder of the recovery key, or empty. */
	struct wrapped_key recovery, infra_recovery;
};

struct scope_entry {
	uint32_t number; /* 0: "default" */
	char name[64];
	char key_uri[1024];
	char kek_id[128];
	uint32_t kek_version;
	char infra_kek_id[128]; /* both only with SUITE_XTS_GCM */
	uint32_t infra_kek_version;
	enum suite suite;
	uint32_t reencrypt_rate; /* MiB/s that rewriting under the current DEK may take; 0: as much as there is */
	bool look_for_lost;      /* when it is next opened: directories that its objects are in may have been purged */
	bool disabled;           /* by an administrator: its keys are not used until it is enabled */
	int64_t created;
	int64_t rotated;               /* when the KEK was last changed for another key or version */
	struct wrapped_key volume_key; /* under this scope's KEK */
	size_t dek_count;
	struct wrapped_dek deks[DEKS_MAX]; /* the last is the current one */
};

struct recovery {
	int64_t created;                 /* 0: there is no recovery key */
	uint8_t public[PUBLIC_KEY_SIZE]; /* its other half is on somebody's paper */
	struct wrapped_key volume_key;
};

struct descriptor {
	uint32_t format, features;
	uint8_t volume_id[VOLUME_ID_SIZE];
	int64_t created;
	uint64_t sequence;                   /* grows with every replacement */
	uint64_t next_object;                /* object numbers from here on were never used */
	bool clean;                          /* no epoch is open: the log is empty and to be ignored */
	uint64_t epoch;                      /* number of the last epoch opened */
	uint8_t epoch_salt[EPOCH_SALT_SIZE]; /* of that epoch: its log's key derives from it */
	uint32_t platform_version;           /* version of the platform key that wraps platform_volume_key */
	struct wrapped_key platform_volume_key;
	struct recovery recovery;
	size_t scope_count;
	struct scope_entry *scopes; /* owned; ascending by number, [0] is number 0 */
	char *text;                 /* as loaded or stored, for the MAC check; owned; NULL: neither yet */
	size_t text_len;
};

/* For a new volume: format, times and one scope of that suite, whose keys keys_create makes. Sequence and epoch are 0, it is
 * clean, next_object is 1. NULL: out of memory. */
struct descriptor *descriptor_new(enum suite suite);
/* All but the text. NULL: out of memory. */
struct descriptor *descriptor_copy(const struct descriptor *d);
void descriptor_free(struct descriptor *d); /* the struct too; NULL is fine */
/* -ENOENT none there; -EINVAL not a descriptor; -EPROTONOSUPPORT unknown format version or feature. All logged. */
int descriptor_load(int backing_fd, struct descriptor **ret);
/* Checks the MAC of a descriptor that was loaded or stored. -EBADMSG (not logged: it may be the wrong key). */
int descriptor_check(const struct descriptor *d, const struct secret *mac_key);
/* Increments the sequence and replaces the file: temporary, write, fsync, rename, fsync of the directory. On failure the sequence in
 * memory is unchanged, and the old file stands (but after a failed sync of the directory a power cut may bring either). */
int descriptor_store(struct descriptor *d, int backing_fd, const struct secret *mac_key);
const struct scope_entry *descriptor_scope(const struct descriptor *d, uint32_t number);        /* NULL: none */
const struct scope_entry *descriptor_scope_named(const struct descriptor *d, const char *name); /* NULL: none */

#endif
