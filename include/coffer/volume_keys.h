/* The keys of an open volume: what state its scopes are in, and what administrators change. Thread-safe.
 *
 * Functions return 0 or -errno as in coffer/key.h and have logged why, and what was changed. -ENOENT also: no such scope; -EROFS:
 * the volume is read-only. They ask key sources and may take as long as those do; operations on objects go on meanwhile. A
 * secret handed over is taken over, also on failure.
 */
#ifndef COFFER_VOLUME_KEYS_H
#define COFFER_VOLUME_KEYS_H

#include <coffer/volume.h>

/* ---- seeing ---- */
enum scope_state {
	STATE_ACTIVE,
	STATE_RECOVERED,   /* open, by the recovery key: it wants a key source */
	STATE_UNREACHABLE, /* its source does not answer: open until `until`, then locked */
	STATE_REVOKED,     /* locked: its key is not to be used any more */
	STATE_LOCKED,      /* by hand, until it is unlocked or mounted again */
	STATE_DISABLED,    /* until it is enabled */
	STATE_UNPROVIDED,  /* locked: its key was not handed over, or only for some time */
};
const char *scope_state_name(enum scope_state s);
/* How far the rewriting of a scope's objects under a new DEK version has come. */
struct reencryption {
	bool pending; /* there are older versions still */
	bool running; /* not while the scope is locked, nor after an attempt that left something behind */
	uint64_t objects_done, objects, blocks_done, blocks; /* since it went on last; 0: not counted yet */
	uint64_t failed;                                     /* objects that could not be rewritten */
};
struct scope_view {
	struct scope_entry entry;
	enum scope_state state;
	bool open;
	/* Seconds since 1970; 0: never, or not known. */
	int64_t since;               /* it is in this state */
	int64_t checked, next_check; /* of its source */
	int64_t until;               /* it stays open, if nothing changes */
	struct reencryption reencryption;
};
int volume_scope(struct volume *v, uint32_t number, struct scope_view *ret);
int volume_scope_number(struct volume *v, const char *name, uint32_t *ret); /* -ENOENT, logged */
/* A copy of what the descriptor says now; NULL: no memory. */
struct descriptor *volume_descriptor(struct volume *v);

/* ---- the keeper: a thread that asks the sources of keys, and locks and unlocks scopes by what they say ---- */
/* What the kernel may hold of a scope that is being locked: an object's pages and attributes, and (`name` not NULL) a name of it in a
 * directory. drop() has the kernel write and forget them, which may take long; it runs in a thread of its own. */
struct kernel_item {
	uint64_t object, dir;
	char *name;
};
struct kernel_cache {
	void (*drop)(void *arg, const struct kernel_item *items, size_t count);
	void *arg;
	void (*thaw)(void *arg, const char *why); /* ends a freeze; NULL: there is none */
};
/* Between the two the kernel has its cache dropped where a scope is locked. */
int volume_keeper_start(struct volume *v, const struct kernel_cache *k);
void volume_keeper_stop(struct volume *v);
/* What takes long, assigning and purging, ends soon, with -ECANCELED, and can be asked for again with the next mount. */
void volume_hurry(struct volume *v);

/* ---- changing ---- */
int volume_scope_create(struct volume *v, const char *name, const char *uri, enum suite suite, struct secret *provided);
int volume_scope_enable(struct volume *v, uint32_t scope, bool enabled);
/* Puts an object into a scope; it is wholly under the scope's keys when this returns. What is created in a directory from then on is,
 * too; what was there before stays where it is. `deny_override` (directories only): all below it is in that scope, and nothing
 * of another is let in: -EXDEV. -EXDEV also: something below is in another scope, or a directory above denies it. */
int volume_scope_assign(struct volume *v, uint64_t object, uint32_t scope, bool deny_override);
/* Takes a scope away. -EBUSY: objects are in it; but of one that is disabled or revoked, they are lost with it. What is of other scopes
 * but lay in its directories is in /lost+found afterwards, or, where those are locked, when they are opened. */
int volume_scope_purge(struct volume *v, uint32_t scope);
/* A new DEK version for a scope: what is written from now on is under it, and a thread rewrites what was there before, at `rate` MiB/s
 * at most (0: no limit), then gives the older version up. If that is under way it goes on, at this rate. */
int volume_reencrypt(struct volume *v, uint32_t scope, unsigned rate);
int volume_key_set(struct volume *v, uint32_t scope, const char *uri, struct secret *provided);
int volume_key_rotate(struct volume *v, uint32_t scope);
int volume_key_rotate_infrastructure(struct volume *v);
int volume_key_lock(struct volume *v, uint32_t scope);
int volume_key_unlock(struct volume *v, uint32_t scope);
/* For `seconds`, 0: until it is locked. */
int volume_key_provide(struct volume *v, uint32_t scope, struct secret *key, unsigned seconds);
/* A new recovery key, of which the volume learns the public half only; an older one opens nothing any more. *ret_left: scopes that
 * do not take part, because they are locked (they join when they are unlocked) or have a provided key. */
int volume_key_recovery(struct volume *v, const uint8_t public[static PUBLIC_KEY_SIZE], unsigned *ret_left);

#endif
