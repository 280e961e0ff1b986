/* Which scope objects are in. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "keeper.h"

/* ---- what may be assigned; names_lock is held, exclusive, and the object staged ---- */

static int flags_of(struct volume *v, uint64_t number, uint32_t *ret_scope, uint32_t *ret_flags)
{
	struct object *o;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	*ret_scope = o->m->scope;
	*ret_flags = o->m->flags;
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return 0;
}

static int check_parents(struct volume *v, const struct meta *m, uint32_t scope)
{
	size_t pos = 0, len;
	const char *name;
	uint64_t dir;

	if (m->flags & META_NAME_DENIES) {
		log_error("it has many names, and a directory that one of them is in denies other scopes: copy it");
		return -EXDEV;
	}
	while (meta_name_next(m, &pos, &dir, &name, &len)) {
		uint32_t its_scope, flags;
		int r = flags_of(v, dir, &its_scope, &flags);

		if (r < 0) {
			log_error("a directory that it is in cannot be read: %s", strerror(-r));
			return r;
		}
		if (flags & META_DENY_OVERRIDE && its_scope != scope) {
			log_error("a directory that it is in denies other scopes than its own");
			return -EXDEV;
		}
	}
	return 0;
}

/* Directly below; further down the directories there have seen to it. */
static int check_children(struct volume *v, struct object *o, uint32_t scope)
{
	char name[VOLUME_NAME_MAX + 1];
	struct dir_entry e;
	uint64_t offset = 0;
	int r = dir_load(v, o);

	while (r == 0 && (r = dir_next(o, &offset, &e, name)) == 0) {
		uint32_t its_scope, flags;
		struct prologue p;

		offset++;
		r = object_peek(v, e.object, &p);
		if (r == 0 && (p.scope != scope || (p.old_dek_version && p.old_scope != scope))) {
			log_error("'%s' in it is in another scope: --recursive takes it along", name);
			return -EXDEV;
		}
		if (r == 0)
			r = flags_of(v, e.object, &its_scope, &flags);
		if (r == 0 && flags & META_NAMES_PARTIAL && !(flags & META_NAME_DENIES)) {
			log_error("'%s' in it has too many names elsewhere to be kept in this scope: copy it", name);
			return -EXDEV;
		}
		if (r == 0 && S_ISDIR(e.type) && !(flags & META_DENY_OVERRIDE)) {
			log_error("the directory '%s' in it does not deny other scopes: --recursive takes it along",
				  name);
			return -EXDEV;
		}
	}
	return r == -ENOENT ? 0 : r;
}

static int check(struct volume *v, struct object *o, const struct meta *m, uint32_t scope, bool deny_override)
{
	int r = m->flags & META_COMPANION ? -EINVAL : check_parents(v, m, scope);

	if (r == 0 && deny_override && !S_ISDIR(m->mode)) {
		log_error("only a directory can deny other scopes");
		r = -ENOTDIR;
	}
	return r == 0 && deny_override ? check_children(v, o, scope) : r;
}

/* ---- assigning ---- */

static int find_target(struct volume *v, uint32_t scope, struct rekey_target *ret)
{
	*ret = (struct rekey_target){ scope, keys_current_version(v->keys, scope) };
	if (keys_access(v->keys, scope, ret->dek_version) == SCOPE_OPEN)
		return 0;
	log_error("the scope is locked: nothing can be put into it");
	return -EACCES;
}

struct assignment {
	uint64_t object;
	uint32_t scope;
	bool deny_override;
	bool done;
	uint64_t companion;
};

/* The next piece, staged. Older versions of the scope's own keys are as good as the newest: rewriting those is reencryption's. */
static int stage(struct change *ch, struct object *o, struct meta *m, const struct rekey_target *t,
		 struct assignment *a)
{
	uint32_t flag = a->deny_override ? META_DENY_OVERRIDE : 0;
	unsigned blocks;
	int r = 0;

	a->companion = m->companion;
	if (meta_is_moving(m))
		return rekey_stage(ch, o, m, t, &blocks);
	if (m->scope == t->scope && (m->flags & META_DENY_OVERRIDE) == flag) {
		a->done = true;
		return 0;
	}
	r = check(ch->v, o, m, a->scope, a->deny_override);
	if (r < 0)
		return r;
	m->flags = (m->flags & ~(uint32_t)META_DENY_OVERRIDE) | flag;
	return m->scope == t->scope ? 0 : rekey_stage(ch, o, m, t, &blocks);
}

static int assign_piece(struct volume *v, struct assignment *a)
{
	GATE_SCOPE(v);
	struct rekey_target t;
	struct change ch;
	struct object *o;
	struct meta *m;
	int r = atomic_load(&v->hurried) ? -ECANCELED : find_target(v, a->scope, &t);

	if (r == 0)
		r = change_begin(v, &ch, data_payload(data_piece(v)), ROOM_IN_PLACE);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&v->names_lock);
	r = change_pin(&ch, a->object, &o);
	if (r == 0)
		r = change_object(&ch, o, &m);
	if (r == 0)
		r = stage(&ch, o, m, &t, a);
	if (r == 0 && !a->done)
		r = change_commit(&ch);
	else
		change_abort(&ch);
	pthread_rwlock_unlock(&v->names_lock);
	return r;
}

/* What holds an object's extended attributes goes where the object goes. */
static int assign_companion(struct volume *v, const struct assignment *a, bool *ret_done)
{
	GATE_SCOPE(v);
	struct rekey_target t;
	struct prologue p;
	unsigned blocks;
	int r = atomic_load(&v->hurried) ? -ECANCELED : find_target(v, a->scope, &t);

	if (r == 0)
		r = object_peek(v, a->companion, &p);
	*ret_done = r == -ESTALE || (r == 0 && !p.old_dek_version && p.scope == a->scope);
	if (*ret_done || r < 0)
		return *ret_done ? 0 : r;
	r = rekey_piece(v, a->companion, &t, false, ret_done, &blocks);
	return r == -ESTALE ? 0 : r;
}

int volume_scope_assign(struct volume *v, uint64_t object, uint32_t scope, bool deny_override)
{
	struct assignment a = { .object = object, .scope = scope, .deny_override = deny_override };
	bool done;
	int r = 0;

	while (r == 0 && !a.done)
		r = volume_rests(v) ? -EROFS : assign_piece(v, &a);
	done = !a.companion;
	while (r == 0 && !done)
		r = volume_rests(v) ? -EROFS : assign_companion(v, &a, &done);
	if (r < 0)
		log_error("object %" PRIu64 " was not put into the scope: %s", object,
			  r == -ESTALE ? "there is no such object" : strerror(-r));
	return r;
}
