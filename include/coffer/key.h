/* Key providers, the platform key ring, and the unlocked keys of a volume.
 *
 * KEK (provider) -wraps-> DEK version (per scope) -HKDF-> object keys (in struct cryptor).
 * The volume key protects structure only: descriptor MAC, object prologues, framing of the log.
 * Errors: -EBADMSG wrong key; -EACCES key source refused (permissions, state); -ENOENT no such key; -EINVAL bad URI or key text;
 * -EUCLEAN the descriptor was changed or damaged, though the key is the right one.
 * Every failure has been logged once, with what to do, where it is known.
 */
#ifndef COFFER_KEY_H
#define COFFER_KEY_H

#include <limits.h>

#include <coffer/crypto.h>
#include <coffer/descriptor.h>

/* A key source is named by a URI: "platform:" (default), "platform:infrastructure", or "file:///absolute/path". Opening the
 * platform's never makes its key ring: the first wrap does.
 * A provider never hands its key out: it wraps and unwraps, so that one whose key stays in a vault fits. */
enum key_state { KEY_ACTIVE, KEY_REVOKED, KEY_UNREACHABLE };
struct key_info {
	char id[128];     /* what the provider calls the key, e.g. the ring's name or a fingerprint of a key file */
	uint32_t version; /* the newest version: what wrap() uses */
	enum key_state state;
};
struct key_source; /* one opened key; opaque, owned by its provider */
struct key_provider {
	const char *scheme; /* up to the colon */
	int (*open)(const char *uri, const char *state_dir, struct key_source **ret);
	int (*describe)(struct key_source *s, struct key_info *ret);
	int (*wrap)(struct key_source *s, const struct secret *key, uint32_t *ret_version,
		    uint8_t out[static WRAPPED_KEY_SIZE]);
	int (*unwrap)(struct key_source *s, uint32_t version, const uint8_t in[static WRAPPED_KEY_SIZE],
		      struct secret **ret);
	void (*close)(struct key_source *s);
};
const struct key_provider *key_provider_for(const char *uri); /* NULL: unknown scheme */

/* The path that a file: URI names, malloc'ed. -EINVAL for anything else. */
int key_file_path(const char *uri, char **ret);

/* ---- the keys of one volume, unlocked ---- */
struct volume_keys;

/* Makes the keys of a new volume: `d` comes from descriptor_new; fills in its volume id, scopes[0] ("default", number 0, DEK
 * version 1) and all wrapped keys. `key_uri` NULL: the platform key. Creates the platform ring in `state_dir` on first use. */
int keys_create(struct descriptor *d, const char *key_uri, const char *state_dir, struct volume_keys **ret);
/* Unwraps everything the descriptor holds, checks the descriptor's MAC with the volume key. A scope whose key is not to be had
 * is locked: it has no cryptors. Fails if all are, with the error of the first; then *ret is set all the same if the volume key
 * is to be had: such keys serve the audit trail, and must be freed. Otherwise *ret is NULL. */
int keys_unlock(const struct descriptor *d, const char *state_dir, struct volume_keys **ret);
void keys_free(struct volume_keys *k); /* wipes */

const struct kdf *keys_structure(const struct volume_keys *k);         /* HKDF over the volume key */
const struct secret *keys_descriptor_mac(const struct volume_keys *k); /* key of the descriptor's HMAC */
/* The cryptor of a scope's DEK version; NULL: no such scope or version, or locked. Valid until keys_free. */
struct cryptor *keys_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version);
/* The same for what is not a regular file's content: it authenticates blocks under every suite (directories, and whatever else
 * is metadata, are never without integrity). Where the scope's suite does that already, it is the same cryptor. */
struct cryptor *keys_metadata_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version);
uint32_t keys_current_version(const struct volume_keys *k, uint32_t scope); /* for new objects; 0: no such scope */
/* Asks the scope's source, which may read files; of a locked scope, what the descriptor says. -ENOENT: no such scope. */
int keys_describe(const struct volume_keys *k, uint32_t scope, struct key_info *ret);
int keys_outcome(const struct volume_keys *k, uint32_t scope); /* of unlocking the scope: 0, or why it is locked */

/* ---- what a backing directory is called in the state directory ---- */
enum { BACKING_NAME_SIZE = 33 };
int backing_real_path(int backing_fd, char out[static PATH_MAX]);       /* its absolute path */
int backing_name(const char *path, char out[static BACKING_NAME_SIZE]); /* 32 digits, from its path */

/* ---- pinning: what the state directory remembers of each backing directory (DESIGN section 5) ---- */
/* Compares with what was seen last: -ESTALE older sequence, -EKEYREJECTED other volume id or key sources; both logged with
 * what to do. 0 also when the directory was never seen. */
int pin_check(const char *state_dir, int backing_fd, const struct descriptor *d);
int pin_update(const char *state_dir, int backing_fd, const struct descriptor *d); /* after the descriptor is durable */

#endif
