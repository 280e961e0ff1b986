/* What the volume layer's files share.
 *
 * Locks, in this order:
 *   key_lock (mutex)     who changes keys; no operation on an object
 *   gate (rwlock)        shared: every operation, from its first look at an object to its end; exclusive: a change of the keys that
 *                        cryptors come from. A waiting change holds new operations up, so nobody takes it twice, and the
 *                        store's background thread, which operations wait for, only tries to
 *   names_lock (rwlock)  exclusive: whatever changes names; shared: lookups and listings
 *   object lock (rwlock) contents and attributes of one object. Only a holder of names_lock, exclusive, takes several (and the
 *                        owner of a companion takes the companion's after its own)
 *   cache_lock, object page_lock, descriptor_lock: leaves
 * A change (change_begin) waits for room in the log, so it begins before any of these is taken.
 */
#ifndef COFFER_VOLUME_INTERNAL_H
#define COFFER_VOLUME_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <coffer/map.h>
#include <coffer/store.h>
#include <coffer/volume.h>
#include <coffer/volume_keys.h>

#include "../store/geometry.h"

/* ---- meta.c: an object's header in memory; var holds tags, names, xattrs, target, one after the other ---- */
enum {
	PROLOGUE_SIZE = 64,
	BODY_FIXED = 176,
	BODY_STEP = 256, /* bytes: bodies are padded to it, so that lengths inside do not show */
	BODY_MAX = 3840,
	VAR_MAX = BODY_MAX - BODY_FIXED,
	NAMES_MAX = 1024,      /* bytes of names in a header; those beyond are only counted */
	XATTR_INLINE = 1400,   /* bytes; more go to a companion object */
	XATTR_TOTAL = 1 << 19, /* bytes of all extended attributes of an object; ENOSPC beyond */
	TARGET_INLINE = 1200,  /* bytes of a symlink's target; longer ones are the object's data */
	NAME_OVERHEAD = 9,     /* directory number, length */
};
enum { TRIES_ON_FULL = 3 };         /* a checkpoint that was under way may not give back what was removed last */
enum { WRITES_PER_KEY_SHIFT = 31 }; /* after so many (2^31) random nonces the next version of a key is used */
enum meta_flags {
	META_NAMES_PARTIAL = 1, /* not every name is listed */
	META_CAPABILITY = 2,    /* has security.capability */
	META_COMPANION = 4,     /* holds another object's extended attributes */
	META_DENY_OVERRIDE = 8, /* of a directory: all below it is in its scope, and stays so */
	META_NAME_DENIES = 16,  /* a name that is not listed is in such a directory, or was */
	META_FLAGS_KNOWN = 31,
};
struct meta {
	uint32_t scope, dek_version;
	/* While it is moved to other keys: whose keys its blocks from `moved` on are under still. Version 0: it is not. */
	uint32_t old_scope, old_dek_version;
	uint64_t moved;
	uint32_t nlink;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint32_t flags;
	uint64_t rdev, size, blocks;
	struct timespec atime, mtime, ctime, btime;
	uint64_t seals;      /* of records and pages: choose their key's version */
	uint64_t tag_writes; /* of blocks: choose their tag key's version */
	uint32_t height;
	uint8_t root[ROOT_BITS / 8];
	uint64_t companion; /* object that holds the extended attributes, or 0 */
	uint16_t tag_count, names_len, xattr_len, target_len;
	uint8_t var[];
};
static inline struct block_tag *meta_tags(struct meta *m)
{
	return (struct block_tag *)m->var;
}
static inline uint8_t *meta_names(struct meta *m)
{
	return m->var + m->tag_count * sizeof(struct block_tag);
}
static inline uint8_t *meta_xattrs(struct meta *m)
{
	return meta_names(m) + m->names_len;
}
static inline uint8_t *meta_target(struct meta *m)
{
	return meta_xattrs(m) + m->xattr_len;
}
static inline size_t meta_var_len(const struct meta *m)
{
	return m->tag_count * sizeof(struct block_tag) + m->names_len + m->xattr_len + m->target_len;
}
/* Whether the object is a regular file, whose blocks are under the scope's own suite; all else is metadata. */
bool meta_is_content(const struct meta *m);
struct meta *meta_copy(const struct meta *m, size_t var_room); /* NULL: no memory */
/* Of a block, of a page of the tree (by the first block that it covers), or of the header (block 0). NULL: its scope is locked. */
struct cryptor *meta_cryptor(const struct meta *m, uint64_t block, const struct volume_keys *keys);
bool meta_is_moving(const struct meta *m);
bool meta_needs(const struct meta *m, uint32_t scope); /* the scope's keys, to be read whole */
/* Seals a header into a page; *ret_used bytes of it. Counts the seal in `m`. -EACCES: its scope is locked. */
int meta_encode(struct meta *m, uint64_t number, const struct volume_keys *keys, uint8_t page[static BLOCK_SIZE],
		size_t *ret_used);
/* -ENOENT: the page is empty. -EACCES: its scope is locked. -EIO: not this object's header (logged). */
int meta_decode(const uint8_t page[static BLOCK_SIZE], uint64_t number, const struct volume_keys *keys,
		struct meta **ret);
/* What stands in clear before the header: to be believed only as far as nothing worse comes of it than of removing the file. */
struct prologue {
	uint32_t scope, dek_version, nlink;
	uint32_t old_scope, old_dek_version; /* as in struct meta */
	uint64_t moved;
};
bool prologue_needs(const struct prologue *p, uint32_t scope); /* as meta_needs */
int meta_peek(const uint8_t page[static BLOCK_SIZE], uint64_t number,
	      struct prologue *ret); /* -ENOENT, -EIO: as above */
/* These need a meta with room for VAR_MAX. */
int meta_set_tag_count(struct meta *m, unsigned count);
int meta_set_xattrs(struct meta *m, const uint8_t *blob, size_t len); /* -E2BIG: more than XATTR_INLINE */
int meta_set_target(struct meta *m, const char *target, size_t len);
bool meta_name_add(struct meta *m, uint64_t dir, const char *name); /* false: it is counted only */
void meta_name_remove(struct meta *m, uint64_t dir, const char *name);
void meta_names_clear(struct meta *m);
/* Walks the names listed: start with *pos = 0. `name` is not NUL-terminated. */
bool meta_name_next(const struct meta *m, size_t *pos, uint64_t *dir, const char **name, size_t *len);
uint64_t meta_parent(const struct meta *m); /* of a directory; 0: it has no name */

/* ---- object.c: the cache ---- */
struct dir;
struct object {
	uint64_t number;
	unsigned pins; /* cache_lock */
	struct object *lru_prev, *lru_next;
	bool in_lru;

	pthread_rwlock_t lock;
	struct meta *m; /* NULL until loaded */
	bool removed;
	bool flushing; /* its scope is about to be locked: for object_get_flushing only. Changes with the gate held, exclusive */
	struct dir *dir; /* entries, once loaded */
	size_t bytes;    /* of entries, kept pages and attributes, as counted in the cache; cache_lock */
	uint8_t *xattrs; /* the companion's content, once loaded */
	size_t xattrs_len;
	uint64_t last_seq; /* of the last commit that touched it */

	pthread_mutex_t page_lock;
	struct map pages;                /* verified tag and map pages: page + 1 -> 4096 bytes */
	atomic_uint_fast64_t read_ahead; /* of a directory: the entries' headers are read ahead up to this offset */
	bool atime_lazy;                 /* page_lock */
	struct timespec atime;
	bool lazy_queued;         /* in the volume's lazy list: cache_lock */
	struct object *lazy_next; /* cache_lock; the list pins the object */
};
/* Pins an object, loaded. -ESTALE: there is no such object; -EACCES: its scope is locked, or about to be. */
int object_get(struct volume *v, uint64_t number, struct object **ret);
/* The same for what the kernel still holds of a scope that is about to be locked. */
int object_get_flushing(struct volume *v, uint64_t number, struct object **ret);
/* What is in clear of an object, loaded or not. -ESTALE: there is none. */
int object_peek(struct volume *v, uint64_t number, struct prologue *ret);
void object_put(struct volume *v, struct object *o);
bool object_is_cached(struct volume *v, uint64_t number);
int object_make(struct volume *v, uint64_t number, struct object **ret); /* a pinned object that does not exist yet */
void cache_free(struct volume *v);
/* Of one scope, with the gate held, exclusive: lets only what is flushed in; forgets and wipes all that is cached. */
void cache_flush_only(struct volume *v, uint32_t scope, bool flushing);
void cache_drop(struct volume *v, uint32_t scope);

/* ---- tags.c: tag pages and existence maps ---- */
static inline bool is_hole(const struct block_tag *t)
{
	static const struct block_tag hole;

	return memcmp(t, &hole, sizeof(hole)) == 0;
}
struct change;
/* Reads tags of `count` blocks; holes come as zeros. `ch` (may be NULL): sees what it staged. */
int tags_read(struct volume *v, struct change *ch, struct object *o, uint64_t first, unsigned count,
	      struct block_tag *out);
bool tags_are_at_hand(struct object *o, uint64_t first); /* of one block: reading them does not wait for the disk */
int tags_write(struct change *ch, struct object *o, uint64_t first, unsigned count, const struct block_tag *tags);
/* Makes blocks holes: tags, pages, and the release of their space. `to` UINT64_MAX: to the end. */
int tags_release(struct change *ch, struct object *o, uint64_t from, uint64_t to);
/* The first block at or after `block` that has a place for a tag, in the header or in a tag page that is there; UINT64_MAX: none. */
int tags_next(struct volume *v, struct change *ch, struct object *o, uint64_t block, uint64_t *ret);
/* Has those pages sealed anew that cover one of `count` blocks, as far as they begin at block `from` or behind it. */
int tags_seal_again(struct change *ch, struct object *o, uint64_t from, uint64_t first, unsigned count);
/* The first block at or after `block` that is (data) or is not (hole) there; `limit` if none before it. */
int tags_seek(struct volume *v, struct object *o, uint64_t block, uint64_t limit, bool data, uint64_t *ret);

/* ---- change.c: one transaction of the volume ---- */
enum { CHANGE_OBJECTS = 6 };
struct staged_page {
	struct object *o;
	unsigned level;
	uint64_t index;
	bool dropped; /* not there any more */
	struct staged_page *next;
	uint8_t data[BLOCK_SIZE];
};
struct dir_edit;
struct change {
	struct volume *v;
	struct txn t;
	struct {
		struct object *o;
		struct meta *m;   /* staged, with room for VAR_MAX */
		bool remove;      /* the commit removes it */
		bool drop_xattrs; /* the commit outdates what is kept of its companion */
	} objects[CHANGE_OBJECTS];
	unsigned object_count;
	struct object *pinned[CHANGE_OBJECTS]; /* unpinned when the change ends */
	unsigned pinned_count;
	struct staged_page *pages;
	struct dir_edit *edits;
	struct buffer {
		struct buffer *next;
		uint8_t data[];
	} * buffers; /* ciphertext, until the commit */
};
int change_begin(struct volume *v, struct change *ch, size_t payload, enum room room);
/* Locks the object (exclusive, until the change ends) and gives its staged header. -ESTALE: it was removed. */
int change_object(struct change *ch, struct object *o, struct meta **ret);
/* Pins an object until the change ends; the same one again for the same number. */
int change_pin(struct change *ch, uint64_t number, struct object **ret);
int change_remove(struct change *ch, struct object *o); /* one that change_object gave */
/* A new object, pinned and staged, in the scope of another. */
int change_new(struct change *ch, const struct meta *like, mode_t mode, uint32_t flags, struct object **ret,
	       struct meta **ret_meta);
void change_drop_xattrs(struct change *ch, struct object *o);
struct meta *change_staged(struct change *ch, const struct object *o); /* NULL: not part of it */
struct staged_page *change_page(struct change *ch, const struct object *o, unsigned level, uint64_t index);
struct staged_page *change_add_page(struct change *ch, struct object *o, unsigned level, uint64_t index);
uint8_t *change_buffer(struct change *ch, size_t len);
int change_commit(struct change *ch); /* ends the change either way */
void change_abort(struct change *ch);
struct timespec now(void); /* clock.c: for the stamp of a change */
/* Keeps a verified page with its object; NULL: forgets it. */
void page_keep(struct object *o, uint64_t position, const uint8_t *data);

/* ---- data.c: blocks ---- */
/* Decrypts `count` blocks into `plain`. *ret_bad (may be NULL): first bad block. The object's lock is the caller's. */
int data_read(struct volume *v, struct change *ch, struct object *o, uint64_t first, unsigned count, uint8_t *plain);
/* Encrypts whole blocks into the change. `content`: of a file, so that new blocks may go home at once, and the others need not
 * be kept in memory. */
int data_write(struct change *ch, struct object *o, uint64_t first, unsigned count, const uint8_t *plain, bool content);
/* Replaces an object's whole content by `len` bytes, in the change. */
int data_replace(struct change *ch, struct object *o, const void *content, size_t len);
int data_resize(struct change *ch, struct object *o, uint64_t size);
size_t data_payload(size_t blocks);                       /* bytes that writing so many blocks may need in the log */
unsigned data_piece(struct volume *v);                    /* blocks that fit one transaction */
void drop_privileges(struct meta *m, enum kill_ids kill); /* a write or truncation clears set-id bits */

/* ---- rekey.c: moving an object to other keys ---- */
struct rekey_target {
	uint32_t scope, dek_version;
};
/* Stages the next piece of what is not yet under the target's keys; where the object is on its way to others, of that. When the
 * object is not moving any more, the whole of it is done. The change has room for data_piece() blocks; *ret_blocks: how many
 * were sealed anew. */
int rekey_stage(struct change *ch, struct object *o, struct meta *m, const struct rekey_target *t,
		unsigned *ret_blocks);
bool rekey_is_done(const struct meta *m, const struct rekey_target *t);
/* One such change. `within`: where the object is in another scope it is left there, and only brought to the end of its way to it.
 * *ret_done: there was nothing left to do. -ESTALE: there is no such object. */
int rekey_piece(struct volume *v, uint64_t number, const struct rekey_target *t, bool within, bool *ret_done,
		unsigned *ret_blocks);

/* ---- lost.c: what was in directories that are gone ---- */
enum { NO_SCOPE = UINT32_MAX };
int lost_directory(struct volume *v, uint64_t *ret); /* makes it */
/* Whether an object has a name in a directory that is gone; those of the scope `purged` count as gone. */
bool lost_is_needed(struct volume *v, uint64_t number, uint32_t purged);
/* Whether an object's header lists none of the names that it has: where they are, if they are, only directories know. */
bool lost_has_unlisted(struct volume *v, uint64_t number);
/* Gives an object a name in there if it has none left, or none that it lists. */
int lost_rescue(struct volume *v, uint64_t number, uint64_t lost, uint32_t purged);

/* ---- dir.c ---- */
struct dir_entry {
	uint64_t object;
	mode_t type; /* S_IFMT bits */
	uint64_t offset;
};
int dir_load(struct volume *v, struct object *o);                    /* object lock, exclusive; harmless when loaded */
int dir_get(struct volume *v, uint64_t number, struct object **ret); /* pinned, loaded; -ENOTDIR */
void dir_free(struct dir *d);
void dir_wipe(struct dir *d); /* before it is freed; NULL is fine */
size_t dir_memory(const struct dir *d);
bool dir_is_empty(const struct object *o); /* false where damage hides entries */
int dir_find(const struct object *o, const char *name,
	     struct dir_entry *ret); /* -ENOENT; -EIO: may be in a damaged block */
/* The first entry at or after *offset. -ENOENT: the end; -EIO: a damaged block. */
int dir_next(const struct object *o, uint64_t *offset, struct dir_entry *ret, char name[static VOLUME_NAME_MAX + 1]);
int dir_insert(struct change *ch, struct object *o, const char *name, uint64_t object, mode_t mode);
int dir_remove(struct change *ch, struct object *o, const char *name);
int dir_replace(struct change *ch, struct object *o, const char *name, uint64_t object, mode_t mode);
int dir_stage(struct change *ch);  /* seals the edited blocks */
void dir_apply(struct change *ch); /* after the commit; cannot fail */
void dir_discard(struct change *ch);

/* ---- xattr.c, acl.c ---- */
int xattrs_load(struct volume *v, struct object *o, const uint8_t **ret, size_t *ret_len);
const uint8_t *xattr_find(const uint8_t *blob, size_t len, const char *name, size_t *ret_size); /* NULL: absent */
/* What follows in the attributes of a staged object: with `content` changed a capability goes, and with its new `mode` staged
 * the access control list's owner, mask (or group) and others entries become the mode bits. Once in a change. */
int xattrs_follow(struct change *ch, struct object *o, bool mode, bool content);
/* POSIX.1e draft 17 access control lists, in the kernel's xattr form (version 2). */
#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
struct acl_pair {
	uint8_t *access, *inherit; /* malloc'ed, or NULL */
	size_t access_len, inherit_len;
};
int acl_check(const uint8_t *acl, size_t len); /* -EINVAL */
int acl_to_mode(const uint8_t *acl, size_t len,
		mode_t *mode); /* 1: says no more than the mode bits do; 0: it says more */
void acl_chmod(uint8_t *acl, size_t len, mode_t mode);
/* What a new object gets from its parent's default ACL; *mode is masked by it. */
int acl_inherit(const uint8_t *acl, size_t len, mode_t *mode, struct acl_pair *ret);
/* Blobs: bytes of xattrs. `value` NULL removes. *ret is malloc'ed. */
int blob_set(const uint8_t *blob, size_t len, const char *name, const void *value, size_t size, uint8_t **ret,
	     size_t *ret_len);
int xattrs_store(struct change *ch, struct object *o, const uint8_t *blob, size_t len);

/* ---- the volume ---- */
/* reencrypt.c: the thread that rewrites objects under a new DEK version. */
struct reencryptor {
	pthread_t thread;
	bool runs;
	pthread_mutex_t lock; /* of what follows; a leaf */
	pthread_cond_t wake;  /* on the monotonic clock */
	bool stop, wanted;
};
void reencrypt_init(struct volume *v);
int reencrypt_start(struct volume *v); /* goes on where a stop left it */
void reencrypt_stop(struct volume *v);
void reencrypt_wake(struct volume *v); /* a scope was opened, or has something to be rewritten */
void reencrypt_free(struct volume *v);

struct scope_status; /* keeper.h */
struct question;     /* poll.c */
struct keeper {
	pthread_t thread;
	bool runs;
	bool stop;                   /* key_lock */
	pthread_cond_t wake;         /* CLOCK_MONOTONIC */
	struct question *questions;  /* key_lock: to key sources, under way */
	size_t turn;                 /* whose it is to be asked */
	int64_t platform_ms;         /* when the platform's keys were last looked at; 0: never */
	struct kernel_cache kernel;  /* drop NULL: nobody caches */
	unsigned poll, grace, flush; /* seconds */
	unsigned rotate_days;        /* age of the platform's keys; 0: never */
	uint64_t changes; /* descriptor_lock: of all scopes, also of those that a later one has the number of */
};

struct volume {
	int backing_fd;
	int lock_fds[2];     /* of the directory, of log/lock */
	bool read_only;      /* opened so, for good */
	atomic_bool resting; /* volume_set_read_only */
	atomic_bool frozen;  /* volume_freeze */
	char *state_dir;
	uint8_t id[VOLUME_ID_SIZE];
	struct descriptor *d;
	struct volume_keys *keys;
	struct audit *audit; /* NULL: nothing is recorded */
	struct store *store;
	uint64_t max_size; /* bytes of one file */

	pthread_rwlock_t gate;
	atomic_bool gate_wanted; /* a change of keys waits: what takes long had better end */
	atomic_bool hurried;     /* the end is near: what takes long ends now */
	pthread_rwlock_t names_lock;
	pthread_mutex_t cache_lock;
	struct map objects; /* number -> struct object */
	struct object *lru_head, *lru_tail;
	size_t cached, bytes;
	atomic_uint_fast64_t object_hits, object_misses, page_hits, page_misses;
	struct map lookups; /* number -> (void *)count, of references held by volume_forget's caller */
	struct map orphans; /* number -> (void *)1: no name, still referred to */
	struct object *lazy;

	pthread_mutex_t
		key_lock; /* held, before all others, by who changes keys, but for while it asks key sources: `keys` changes under it */
	struct keeper keeper;
	struct reencryptor reencryptor;
	pthread_mutex_t descriptor_lock; /* the descriptor, and the numbers */
	struct scope_status *statuses;
	size_t status_count;
	uint64_t next_object, reserved_to;
	uint64_t recovered_chunks, orphans_removed;
};
/* Whether nothing is to be changed by the volume itself. What the kernel still has to write is taken all the same. */
static inline bool volume_rests(struct volume *v)
{
	return v->read_only || atomic_load(&v->resting);
}
static inline struct volume *gate_enter(struct volume *v)
{
	pthread_rwlock_rdlock(&v->gate);
	return v;
}
static inline void gate_leave(struct volume **v)
{
	pthread_rwlock_unlock(&(*v)->gate);
}
/* Holds the gate, shared, to the end of the function: first thing in what the layer above calls. */
#define GATE_SCOPE(v) __attribute__((cleanup(gate_leave), unused)) struct volume *gate_held = gate_enter(v)
void gate_close(struct volume *v); /* waits for all operations under way; new ones wait */
void gate_open(struct volume *v);
/* trail.c. -ECANCELED: the audit trail cannot be written. */
int trail_created(struct volume *v);
int trail_unlocked(struct volume *v, const struct volume_options *o,
		   int accepted); /* opens it; `accepted`: what pin_check said */
/* Opens the trail if it is authentic under a volume key of a descriptor that is not: else nothing is recorded. */
void trail_unproven(struct volume *v, const struct volume_options *o);
/* What the daemon does by itself goes on, recorded or not: the failure has been logged. */
void trail_scope(struct volume *v, const struct scope_entry *s, const char *event, int outcome, const char *detail);
void trail_retired(struct volume *v, const struct scope_entry *s); /* if its key was used though it is deactivated */
void trail_not_opened(struct volume *v, const struct volume_options *o, int error);
void trail_closed(struct volume *v, int outcome);

int volume_number(struct volume *v, uint64_t *ret); /* a number never used before */
void reference_add(struct volume *v, uint64_t number);
uint64_t reference_drop(struct volume *v, uint64_t number, uint64_t count); /* what is left */
uint64_t references(struct volume *v, uint64_t number);
void fill_attr(struct object *o, struct attr *ret);
int remove_object(struct volume *v, uint64_t number);        /* if it has neither names nor references */
uint64_t *orphans_list(struct volume *v, size_t *ret_count); /* malloc'ed; none where there is no memory */
void orphan_mark(struct volume *v, uint64_t number, bool orphan);
void flush_lazy(struct volume *v);
void lazy_atime(struct volume *v, struct object *o);

#endif
