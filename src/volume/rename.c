/* Renaming and exchanging. */
#include <errno.h>
#include <stdio.h>

#include <coffer/util.h>

#include "names.h"

struct rename {
	struct object *p, *q, *o, *victim; /* directories from and to; what moves; what is in its way, or NULL */
	struct meta *pm, *qm, *m, *vm;
	const char *name, *new_name;
};

/* Whether `o` is above `d`, or is it. */
static int is_above(struct change *ch, const struct object *o, const struct object *d)
{
	uint64_t at = d->number;

	while (at != o->number && at != ROOT_OBJECT && at) {
		struct object *up = NULL;
		const struct meta *m = NULL;

		for (unsigned i = 0; i < ch->object_count; i++)
			if (ch->objects[i].o->number == at)
				m = ch->objects[i].m;
		if (m) {
			at = meta_parent(m);
			continue;
		}
		int r = object_get(ch->v, at, &up);

		if (r < 0)
			return r;
		pthread_rwlock_rdlock(&up->lock);
		at = meta_parent(up->m);
		pthread_rwlock_unlock(&up->lock);
		object_put(ch->v, up);
	}
	return at == o->number;
}

static int check_loop(struct change *ch, const struct object *o, const struct meta *m, const struct object *into)
{
	int r = S_ISDIR(m->mode) ? is_above(ch, o, into) : 0;

	return r > 0 ? -EINVAL : r;
}

static int exchange(struct change *ch, struct rename *n)
{
	bool both = n->p != n->q;
	int r = both ? check_loop(ch, n->victim, n->vm, n->p) : 0;

	if (r == 0 && both)
		r = names_let_in(ch, n->pm, n->victim, n->vm);
	if (r == 0)
		r = dir_replace(ch, n->p, n->name, n->victim->number, n->vm->mode);
	if (r == 0)
		r = dir_replace(ch, n->q, n->new_name, n->o->number, n->m->mode);
	meta_name_remove(n->m, n->p->number, n->name);
	names_add(n->m, n->qm, n->q->number, n->new_name);
	meta_name_remove(n->vm, n->q->number, n->new_name);
	names_add(n->vm, n->pm, n->p->number, n->name);
	if (both) {
		n->pm->nlink += S_ISDIR(n->vm->mode) - S_ISDIR(n->m->mode);
		n->qm->nlink += S_ISDIR(n->m->mode) - S_ISDIR(n->vm->mode);
	}
	return r;
}

static int check_victim(struct change *ch, struct rename *n)
{
	int r = 0;

	if (!S_ISDIR(n->vm->mode))
		return S_ISDIR(n->m->mode) ? -ENOTDIR : 0;
	if (!S_ISDIR(n->m->mode))
		return -EISDIR;
	r = dir_load(ch->v, n->victim);
	return r < 0 ? r : dir_is_empty(n->victim) ? 0 : -ENOTEMPTY;
}

/* A whiteout, which tells an overlay that what a layer below has of that name is gone: a device 0/0 that nobody may open. It
 * belongs to whom the directory does. */
static int leave_whiteout(struct change *ch, struct rename *n)
{
	struct object *o;
	struct meta *m;
	int r = change_new(ch, n->pm, S_IFCHR, 0, &o, &m);

	if (r < 0)
		return r;
	m->nlink = 1;
	m->uid = n->pm->uid;
	m->gid = n->pm->gid;
	meta_name_add(m, n->p->number, n->name);
	return dir_replace(ch, n->p, n->name, o->number, m->mode);
}

static int replace(struct change *ch, struct rename *n, bool whiteout, uint64_t *ret_orphan)
{
	int r = n->victim ? check_victim(ch, n) : 0;

	if (r == 0)
		r = whiteout ? leave_whiteout(ch, n) : dir_remove(ch, n->p, n->name);
	if (r == 0)
		r = n->victim ? dir_replace(ch, n->q, n->new_name, n->o->number, n->m->mode)
			      : dir_insert(ch, n->q, n->new_name, n->o->number, n->m->mode);
	if (r < 0)
		return r;
	meta_name_remove(n->m, n->p->number, n->name);
	names_add(n->m, n->qm, n->q->number, n->new_name);
	if (S_ISDIR(n->m->mode)) {
		n->pm->nlink--;
		n->qm->nlink++;
	}
	if (n->victim) {
		if (S_ISDIR(n->vm->mode))
			n->qm->nlink--;
		r = names_drop(ch, n->victim, n->vm, n->q->number, n->new_name);
		*ret_orphan = n->vm->nlink ? 0 : n->victim->number;
	}
	return r;
}

enum { NOTHING_TO_DO = 1 };

static int rename_named(struct change *ch, uint64_t parent, uint64_t new_parent, struct rename *n, unsigned flags,
			uint64_t *ret_orphan)
{
	struct dir_entry e, f;
	int r = names_stage_dir(ch, parent, &n->p, &n->pm);

	if (r == 0)
		r = names_stage_dir(ch, new_parent, &n->q, &n->qm);
	if (r == 0)
		r = dir_find(n->p, n->name, &e);
	if (r < 0)
		return r;
	r = dir_find(n->q, n->new_name, &f);
	if (r < 0 && (r != -ENOENT || flags & RENAME_EXCHANGE))
		return r;
	bool taken = r == 0;

	if (taken && flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (taken && e.object == f.object)
		return NOTHING_TO_DO;
	r = names_stage_child(ch, &e, &n->o, &n->m);
	if (r == 0 && taken)
		r = names_stage_child(ch, &f, &n->victim, &n->vm);
	if (r == 0 && n->p != n->q)
		r = check_loop(ch, n->o, n->m, n->q);
	if (r == 0 && n->p != n->q)
		r = names_let_in(ch, n->qm, n->o, n->m);
	if (r < 0)
		return r;
	return flags & RENAME_EXCHANGE ? exchange(ch, n) : replace(ch, n, flags & RENAME_WHITEOUT, ret_orphan);
}

static int peek(struct volume *v, uint64_t dir, const char *name, struct dir_entry *ret)
{
	struct object *o;
	int r = dir_get(v, dir, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	r = dir_find(o, name, ret);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r;
}

/* What takes the place of something that may be durable must not rest on pages that are not: after a power cut the name would
 * stand for neither the old content nor the new (ext4's auto_da_alloc does the same). Without a lock: who writes to the file
 * while it is renamed has not asked for either. */
static int sync_before(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		       bool swapped)
{
	struct dir_entry from, to;

	if (peek(v, new_parent, new_name, &to) < 0 || peek(v, parent, name, &from) < 0)
		return 0; /* nothing is replaced, or the rename itself will say what is wrong */
	int r = S_ISREG(from.type) ? store_sync_data(v->store, from.object) : 0;

	return r == 0 && swapped && S_ISREG(to.type) ? store_sync_data(v->store, to.object) : r;
}

int volume_rename(struct volume *v, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		  unsigned flags)
{
	struct rename n = { .name = name, .new_name = new_name };
	uint64_t orphan = 0;
	struct change ch;
	bool known = !(flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT));
	int r = known && (!(flags & RENAME_EXCHANGE) || flags == RENAME_EXCHANGE) ? name_check(name) : -EINVAL;

	if (r == 0)
		r = name_check(new_name);
	if (r < 0)
		return r;
	GATE_SCOPE(v);
	if (r == 0)
		r = sync_before(v, parent, name, new_parent, new_name, flags & RENAME_EXCHANGE);
	if (r == 0)
		r = names_begin(v, &ch, parent, new_parent, ROOM_NEW);
	if (r < 0)
		return r;
	r = rename_named(&ch, parent, new_parent, &n, flags, &orphan);
	r = names_end(v, &ch, r, orphan);
	if (r == 0 && orphan)
		names_bury(v, orphan);
	return r == NOTHING_TO_DO ? 0 : r;
}
