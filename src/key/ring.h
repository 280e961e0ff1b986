/* The platform's key ring: STATE/keys/ (mode 0700), made when first needed.
 *
 *	ring                          libconfig text: the ring's id, and each key version's name, age and fingerprint
 *	NAME-ID.VERSION.key           32 bytes, mode 0600: one version of the key NAME of the ring ID
 *	lock                          held by whoever changes the ring
 *
 * The bytes are in files of their own so that they never pass a parser's memory, which is neither locked nor wiped. The ring's
 * id in their names keeps a new ring from ever overwriting the keys of one whose text was lost.
 */
#ifndef COFFER_KEY_RING_H
#define COFFER_KEY_RING_H

#include <coffer/crypto.h>

#define RING_PLATFORM       "platform"
#define RING_INFRASTRUCTURE "infrastructure"
enum {
	RING_ID_DIGITS = 16,
	RING_VERSIONS_MAX = 256, /* of all keys of a ring */
};

struct ring_key {
	uint32_t version;
	int64_t created;    /* seconds since 1970 */
	struct secret *key; /* owned */
};
/* The versions of one key, ascending. Not thread-safe. */
struct ring {
	char id[RING_ID_DIGITS + 1]; /* empty: there is no ring */
	size_t count;
	struct ring_key keys[RING_VERSIONS_MAX];
};

/* Fills `r`, which is zeroed or freed, with the key `name`. -ENOENT: no ring there (not logged); -EACCES: open to others;
 * -EINVAL: damaged. */
int ring_load(const char *state_dir, const char *name, struct ring *r);
/* Makes the ring, with a first version of both keys, durably, unless there is one. Safe against others doing the same. */
int ring_create(const char *state_dir);
/* Adds a version to the key `name`, durably: wrapping uses it from now on. Old ones stay, for volumes that are not mounted now.
 * -ENOENT: there is no ring; -ENOSPC: it is full. */
int ring_add_version(const char *state_dir, const char *name);
void ring_free(struct ring *r); /* wipes the keys; the struct stays the caller's */

#endif
