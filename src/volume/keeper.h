/* What the files share that change keys. key_lock is held in everything here but keeper_entry, keeper_set_progress and
 * keeper_set_purging, though who asks key sources lets go of it meanwhile: one that hangs holds up nobody but who wants something of it.
 */
#ifndef COFFER_VOLUME_KEEPER_H
#define COFFER_VOLUME_KEEPER_H

#include <coffer/manager.h>
#include <coffer/volume_keys.h>

#include "internal.h"

/* What is known of a scope beside its descriptor. descriptor_lock; changed with key_lock held too. */
struct scope_status {
	uint32_t number;
	enum scope_state state;
	bool open;
	int64_t since, checked, until;
	struct reencryption reencryption;
	bool purging;
	uint64_t changes; /* keeper.changes at the last one of its state, or its entry */
	int64_t asked_ms; /* when its source was last asked by itself (clock_ms); 0: that is due */
	bool asking;      /* it is being asked */
};

/* A copy of a scope's entry. -ENOENT. */
int keeper_entry(struct volume *v, uint32_t scope, struct scope_entry *ret);
struct scope_status keeper_status(struct volume *v, uint32_t scope);
/* When the time of a provided key is over; 0: never. For how long one that cannot be asked for is served is no part of it. */
int64_t keeper_provided_until(struct volume *v, uint32_t scope);
void keeper_set_state(struct volume *v, uint32_t scope, enum scope_state state, bool open, int64_t until);
void keeper_set_progress(struct volume *v, uint32_t scope, const struct reencryption *p);
void keeper_set_purging(struct volume *v, uint32_t scope, bool purging);
void keeper_note_check(struct volume *v, uint32_t scope); /* its source has been asked just now */
int keeper_begin(struct volume *v);                       /* when the volume is opened, and its keys are unlocked */
int keeper_statuses_make(struct volume *v); /* one for each scope of the descriptor; those that are there stay */

/* Stores an entry in place of its scope's, or as a new one's. */
int keeper_store(struct volume *v, const struct scope_entry *s);
/* Stores a whole descriptor, made from a copy of the present one; takes it over. descriptor_lock is held. */
int keeper_store_descriptor(struct volume *v, struct descriptor *next);

/* Flushes and wipes an open scope, and leaves it in `state`. */
void keeper_lock_scope(struct volume *v, uint32_t scope, enum scope_state state);
/* What is asked about a scope counts if nothing about it changed meanwhile. */
struct asking {
	struct volume *v;
	struct scope_entry s; /* a copy, the asker's to change */
	struct scope_status status;
	struct recovery recovery;     /* the volume's */
	struct opened_source *source; /* NULL: it is locked, or was opened by the recovery key */
};
int asking_begin(struct volume *v, uint32_t scope, struct asking *ret); /* -ENOENT */
int asking_check_open(const struct asking *a);  /* -ENOKEY, logged: its keys cannot be changed */
int asking_check_holds(const struct asking *a); /* -EAGAIN, logged: it was changed meanwhile */
bool asking_holds(const struct asking *a);
void asking_end(struct asking *a); /* needs no lock */

/* Has its source open a scope that is locked; needs no lock. The recovery key, where the volume was mounted by it, stands in for a
 * source that is gone, but does not undo what one has said since. */
int keeper_ask_of_locked(const struct asking *a, struct opened_scope **ret);
/* Opens a locked scope. On failure it is in the state that the error means. -EAGAIN: it was changed while key_lock was let go of. */
int keeper_open_scope(struct volume *v, uint32_t scope);
/* What came of keys_open_scope for a scope that is still locked; takes `o` over. */
void keeper_heard_of_locked(struct volume *v, const struct scope_entry *s, int outcome, struct opened_scope *o);
/* Brings the headers of what was removed up to date, where that could not be done. key_lock is not needed. */
void keeper_settle(struct volume *v);
/* Brings what wraps a scope's keys up to its source's newest key; `uri` not NULL: to another source. */
int keeper_rewrap(struct volume *v, uint32_t scope, const char *uri, struct secret **provided);
void keeper_wrapped(struct volume *v, const struct scope_entry *s, int64_t until); /* says so: it is stored */
int keeper_rewrap_platform(struct volume *v);
int keeper_rewrap_infrastructure(struct volume *v, uint32_t scope);

/* poll.c: acts on what was answered, and asks whose time has come. Answers wake who waits for keeper.wake. */
void keeper_poll(struct volume *v);
void keeper_set_asking(struct volume *v, uint32_t scope, bool asking);
void keeper_ask_soon(struct volume *v, uint32_t scope);

/* drop.c: has the kernel forget a scope that is being flushed, for so many seconds at most; then, locked, for good. */
struct drop;
struct drop *drop_start(struct volume *v, uint32_t scope); /* NULL: there is nothing, or no memory */
void drop_wait(struct drop *d, unsigned seconds);
void drop_finish(struct volume *v, uint32_t scope, struct drop *d);

#endif
