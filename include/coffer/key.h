/* Key providers, the texts of keys, and the keys of a volume.
 *
 * KEK (provider) -wraps-> DEK version (per scope) -HKDF-> object keys (in struct cryptor).
 * The volume key protects structure only: descriptor MAC, object prologues, framing of the log.
 * Errors: -EBADMSG wrong key; -EACCES key source refused (permissions, state); -ENOENT no such key; -EINVAL bad URI or key text;
 * -EUCLEAN the descriptor was changed or damaged, though the key is the right one; -EHOSTUNREACH no key server to be had;
 * -EOPNOTSUPP the key server cannot do what is needed; -ENOTUNIQ several of its keys have the name.
 * Every failure has been logged once, with what to do, where it is known.
 */
#ifndef COFFER_KEY_H
#define COFFER_KEY_H

#include <limits.h>

#include <coffer/crypto.h>
#include <coffer/descriptor.h>

/* Settings of the providers, from the configuration. Copied; call once, before anything is opened. Without: no KMIP. */
struct key_settings {
	char kmip_ca[PATH_MAX];          /* PEM file: who vouches for the servers; empty: there is no KMIP here */
	char kmip_certificate[PATH_MAX]; /* PEM file: the client's certificate */
	char kmip_key[PATH_MAX];         /* PEM file: its private key; refused when others can read it */
	unsigned kmip_timeout;           /* seconds for connecting to one server, and for one answer */
};
void key_configure(const struct key_settings *s);

/* A key source is named by a URI: "platform:" (default), "platform:infrastructure", "file:///absolute/path",
 * "credential:NAME" (a file in $CREDENTIALS_DIRECTORY, where systemd puts it for a service),
 * "kmip://host[:port][,host…]/UID", "kmip://…/?name=NAME", with "mode=remote" for a key that never leaves its server, or
 * "provided:", which cannot be opened: its key is handed over. Opening
 * the platform's never makes its key ring: the first wrap does. Opening a KMIP source asks nobody yet. Sources of all
 * kinds but KMIP are not thread-safe, those of KMIP are.
 * A provider never hands its key out: it wraps and unwraps, so that one whose key stays in a vault fits. */
enum key_state { KEY_ACTIVE, KEY_REVOKED, KEY_UNREACHABLE };
enum { KEY_RETIRED = 1 };
struct key_info {
	char id[128];     /* what the provider calls the key, e.g. the ring's name or a fingerprint of a key file */
	uint32_t version; /* the newest version: what wrap() uses */
	enum key_state state;
	int64_t created; /* of that version, seconds since 1970; 0: not known */
};
struct key_source; /* one opened key; opaque, owned by its provider */
struct key_provider {
	const char *scheme; /* up to the colon */
	int (*open)(const char *uri, const char *state_dir, struct key_source **ret);
	int (*describe)(struct key_source *s, struct key_info *ret);
	/* *ret_used says which key wrapped it: describe() may know a newer one by the time that it is asked. */
	int (*wrap)(struct key_source *s, const struct secret *key, struct key_info *ret_used, struct wrapped_key *ret);
	/* `id` and `version`: what wrap() said; NULL: the id is not known, and the source has one key only. KEY_RETIRED: done, by a
	 * key that its owner has deactivated for another one of its name: it only unwraps, so that the other can wrap. */
	int (*unwrap)(struct key_source *s, const char *id, uint32_t version, const struct wrapped_key *in,
		      struct secret **ret);
	void (*close)(struct key_source *s);
	/* Makes a new version, durably, which wrap() uses from now on. NULL: the key's owner does that, where it is kept. */
	int (*rotate)(struct key_source *s);
};
const struct key_provider *key_provider_for(const char *uri); /* NULL: unknown scheme */

/* Opens key files where this process may not: a descriptor, or -errno. Set before there are threads; NULL: nobody does. */
typedef int key_file_opener(void *arg, const char *path);
void key_set_opener(key_file_opener *open, void *arg);
/* The path that a file: URI names, malloc'ed. -EINVAL for anything else. */
int key_file_path(const char *uri, char **ret);

/* Decodes what an administrator's key is written as: 32 bytes, 64 hexadecimal digits, or 44 characters of base64, both with or
 * without an end of line. NULL: `key`, of KEY_SIZE bytes, has it; else what is wrong, to stand behind a name. In time that
 * depends on the length alone. */
const char *key_parse(const struct secret *text, size_t len, struct secret *key);
enum { KEY_TEXT_MAX = 2 * KEY_SIZE + 2 }; /* bytes of such a text */

/* The recovery key on paper: 16 groups of 6 digits, as BitLocker writes its 8. Each is 16 bits of the key, least significant byte
 * first, times 11: a wrong digit or two that changed places leave a number that 11 does not divide. */
enum { RECOVERY_GROUPS = KEY_SIZE / 2, RECOVERY_TEXT_SIZE = RECOVERY_GROUPS * 7 /* with what separates, or NUL */ };
void recovery_write(const struct secret *key, char out[static RECOVERY_TEXT_SIZE]);
/* Anything but digits separates groups. 0, or -EINVAL with the number of the first wrong group, from 1 (0: another number of groups). */
int recovery_read(const struct secret *text, size_t len, struct secret *key, unsigned *ret_group);

/* ---- the keys of one volume, as operations on objects see them: see coffer/manager.h for how they change ---- */
struct volume_keys;

/* Makes the keys of a new volume: `d` comes from descriptor_new; fills in its volume id, scopes[0] ("default", number 0, DEK
 * version 1) and all wrapped keys. `key_uri` NULL: the platform key. Creates the platform ring in `state_dir` on first use.
 * `provided` (NULL: none) is the key for "provided:", taken over. */
int keys_create(struct descriptor *d, const char *key_uri, const char *state_dir, struct secret **provided,
		struct volume_keys **ret);
void keys_free(struct volume_keys *k); /* wipes */

const struct kdf *keys_structure(const struct volume_keys *k);         /* HKDF over the volume key */
const struct secret *keys_descriptor_mac(const struct volume_keys *k); /* key of the descriptor's HMAC */
enum scope_access {
	SCOPE_OPEN,
	SCOPE_FLUSHING, /* about to be locked: its cryptors are there for what was accepted before */
	SCOPE_LOCKED,   /* has no cryptors */
	SCOPE_UNKNOWN,  /* no such scope or version */
};
enum scope_access keys_access(const struct volume_keys *k, uint32_t scope, uint32_t dek_version);
/* The cryptor of a scope's DEK version; NULL: no such scope or version, or locked. Valid until keys_lock. */
struct cryptor *keys_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version);
/* The same for what is not a regular file's content: it authenticates blocks under every suite (directories, and whatever else
 * is metadata, are never without integrity). Where the scope's suite does that already, it is the same cryptor. */
struct cryptor *keys_metadata_cryptor(const struct volume_keys *k, uint32_t scope, uint32_t dek_version);
uint32_t keys_current_version(const struct volume_keys *k, uint32_t scope); /* for new objects; 0: no such scope */
int keys_outcome(const struct volume_keys *k, uint32_t scope); /* of unlocking the scope: 0, or why it was locked */

/* ---- what a backing directory is called in the state directory ---- */
enum { BACKING_NAME_SIZE = 33 };
int backing_real_path(int backing_fd, char out[static PATH_MAX]);       /* its absolute path */
int backing_name(const char *path, char out[static BACKING_NAME_SIZE]); /* 32 digits, from its path */

/* ---- pinning: what the state directory remembers of each backing directory (DESIGN section 5) ---- */
/* Compares with what was seen last: -ESTALE older sequence, -EKEYREJECTED other volume id or key sources; both logged with
 * what to do. 0 also when the directory was never seen. */
int pin_check(const char *state_dir, int backing_fd, const struct descriptor *d);
/* Before a descriptor with other scopes or key sources replaces `d`: either is accepted from now on, until pin_update. */
int pin_prepare(const char *state_dir, int backing_fd, const struct descriptor *d, const struct descriptor *next);
int pin_update(const char *state_dir, int backing_fd, const struct descriptor *d); /* after the descriptor is durable */

#endif
