/* Changing the keys of an open volume.
 *
 * Two kinds of functions. Those that ask key sources may take long: they work on a scope_entry or a descriptor of the caller's,
 * which is then stored, on a source that the caller has a reference to, and on what is not in use yet (struct opened_scope). Of the
 * volume's keys they use what never changes, so several may run at once, and beside anything else. Those under "taking effect"
 * change what keys_cryptor finds: they ask nobody, and nothing may use the keys beside them but what asks. All return 0 or -errno as in coffer/key.h, and have logged why; on failure nothing was changed.
 */
#ifndef COFFER_MANAGER_H
#define COFFER_MANAGER_H

#include <coffer/key.h>

/* ---- opening: asks ---- */
/* Finds the volume key, checks the descriptor's MAC, and opens every scope that can be had; keys_outcome says why others are locked
 * (-ENOKEY: it is disabled, or its key must be provided). Fails if none is open, with the error of the first, but one of those two
 * may be the only one; then *ret is set all the same if the volume key was to be had: such keys serve the audit trail, and must be
 * freed. (The same if the descriptor does not authenticate by any volume key, -EUCLEAN: then they are nothing but keys_structure of
 * one, which may be another volume's, and there is no keys_descriptor_mac.) Otherwise *ret is NULL. `recovery` (NULL: none) is taken over: the recovery key, for scopes whose source is gone. */
int keys_unlock(const struct descriptor *d, const char *state_dir, struct secret **recovery, struct volume_keys **ret);
/* Has a scope's keys unwrapped, by `provided` (taken over; NULL: by its source, or the recovery key). -ENOKEY (not logged): its key
 * must be provided. */
struct opened_scope;
int keys_open_scope(const struct volume_keys *k, const struct scope_entry *s, struct secret **provided,
		    struct opened_scope **ret);
void opened_scope_free(struct opened_scope *o); /* NULL is fine */
/* What an open scope's keys are wrapped by: a reference. NULL: it is locked, or was opened by the recovery key. Not beside what takes
 * effect. */
struct opened_source;
struct opened_source *keys_source(const struct volume_keys *k, uint32_t scope);
void opened_source_free(struct opened_source *s); /* gives a reference back; NULL is fine */
/* What a scope's source says of the key that wraps its keys, and what it would wrap with now. */
int keys_ask(struct opened_source *source, const struct scope_entry *s, struct key_info *ret);
/* Whether, since this was last asked, a key was used for the scope that its owner has deactivated (KEY_RETIRED). */
bool keys_used_retired(struct volume_keys *k, uint32_t scope);
bool keys_has_source(const struct volume_keys *k, uint32_t scope); /* open, and not by the recovery key */

/* ---- changing: asks, the old key first ---- */
/* A new scope, with a first DEK: fills in *ret, whose name and suite are set. */
int keys_new_scope(const struct volume_keys *k, const struct recovery *recovery, const char *uri,
		   struct secret **provided, struct scope_entry *ret, struct opened_scope **ret_opened);
/* A new DEK version for an open scope: *s is changed. What has been sealed under older ones goes on being readable, until they are
 * taken out of *s and keys_make_room has been told. `source`: as for keys_rewrap. -E2BIG: it has as many as there may be. */
int keys_new_dek(const struct volume_keys *k, struct opened_source *source, const struct recovery *recovery,
		 struct scope_entry *s, struct opened_scope **ret_opened);
/* Wraps the keys of an open scope by another source, or (`uri` NULL) by what its source now uses: *s is changed. `source` is its present
 * one (NULL: the recovery key), whose key must be active and open every DEK. *ret_source (NULL without a `uri`) goes to
 * keys_take_source once *s is stored. */
int keys_rewrap(const struct volume_keys *k, struct opened_source *source, struct scope_entry *s, const char *uri,
		struct secret **provided, struct opened_source **ret_source);
/* Makes a new version of a key that is made here. -EOPNOTSUPP: its owner does that. Asks nobody elsewhere. */
int keys_rotate(struct opened_source *source);
enum platform_key { PLATFORM_KEY, INFRASTRUCTURE_KEY };
int platform_rotate(const char *state_dir, enum platform_key key);
int platform_describe_key(const char *state_dir, enum platform_key key, struct key_info *ret); /* -ENOENT: no ring */
/* The same for what only the platform's keys wrap: the volume's copy of the volume key; a scope's infrastructure DEKs. Both
 * change nothing and return 0 if that is by the newest version already. */
int keys_rewrap_platform(const struct volume_keys *k, struct descriptor *d);
int keys_rewrap_infrastructure(const struct volume_keys *k, struct scope_entry *s);
/* Seals the volume key for a recovery key; one before it opens nothing any more, which keys_leave_recovery then says of each scope,
 * and those that are open join the new one. */
int keys_seal_recovery(const struct volume_keys *k, const uint8_t public[static PUBLIC_KEY_SIZE], struct recovery *ret);
void keys_leave_recovery(struct scope_entry *s);
/* Seals what the recovery key lacks of an open scope, if there is one and the scope takes part (not with a provided key, which
 * nobody but its owner has); *ret_sealed: *s was changed. `source`: as for keys_rewrap. */
int keys_join_recovery(const struct volume_keys *k, struct opened_source *source, const struct recovery *recovery,
		       struct scope_entry *s, bool *ret_sealed);

/* ---- taking effect: asks nobody ---- */
/* Room for the scopes and versions of `d`. Those that are new are locked; of what is not there any more, the keys are wiped. */
int keys_make_room(struct volume_keys *k, const struct descriptor *d);
void keys_take_scope(struct volume_keys *k, struct opened_scope **o);
void keys_take_deks(struct volume_keys *k, struct opened_scope **o); /* of keys_new_dek: the source stays as it is */
void keys_take_source(struct volume_keys *k, uint32_t scope, struct opened_source **s);
void keys_set_flushing(struct volume_keys *k, uint32_t scope, bool flushing);
void keys_lock(struct volume_keys *k, uint32_t scope); /* wipes its cryptors, and lets go of its source */

#define PROVIDED_URI "provided:"

#endif
