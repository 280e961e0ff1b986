/* What every operation on names does: see names.c. */
#ifndef COFFER_VOLUME_NAMES_H
#define COFFER_VOLUME_NAMES_H

#include "internal.h"

int name_check(const char *name);
/* Begins a change with both directories pinned and names_lock held, exclusive; names_end commits it if `r` is 0, else drops it,
 * and lets go. */
int names_begin(struct volume *v, struct change *ch, uint64_t first, uint64_t second, enum room room);
int names_end(struct volume *v, struct change *ch, int r, uint64_t orphan /* what the change makes one; 0: nothing */);
int names_stage_dir(struct change *ch, uint64_t number, struct object **ret, struct meta **ret_meta);
int names_stage_child(struct change *ch, const struct dir_entry *e, struct object **ret, struct meta **ret_meta);
/* Whether a directory that denies other scopes lets an object in: -EXDEV. What has entered it denies them, too. Staged, both. */
int names_let_in(struct change *ch, const struct meta *dir, struct object *o, struct meta *m);
void names_add(struct meta *m, const struct meta *dir, uint64_t dir_number, const char *name);
/* One name less of an object; without any it is an orphan, for names_bury after the commit. */
int names_drop(struct change *ch, struct object *o, struct meta *m, uint64_t parent, const char *name);
void names_bury(struct volume *v, uint64_t number);

#endif
