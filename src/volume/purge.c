/* Taking a scope away: one that nothing is in, or, where its keys are gone, with all that is in it. What is in it cannot be read, and
 * so neither can the names in its directories: names that lead to it are found in the directories that can be read, and what is of
 * another scope but lay in its directories is given a name in /lost+found. Every step is a change of its own, and a purge that was
 * stopped begins again. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "keeper.h"
#include "names.h"

/* Entries of a directory that are looked at while nobody else can change names: the headers behind them may have to be read. */
enum { ENTRIES_AT_ONCE = 256 };

struct purge {
	struct volume *v;
	uint32_t scope;
	int (*visit)(void *arg, uint64_t object); /* what is done with each object */
	uint64_t lost;                            /* the directory; 0: not needed yet */
	uint64_t objects;                         /* found, or removed */
	struct map unlisted;           /* number -> (void *)1: objects of others that no name was found for yet */
	struct kernel_item items[256]; /* what the kernel has to forget */
	size_t item_count;
};

static bool is_in_scope(const struct purge *p, uint64_t number)
{
	struct prologue clear;

	return object_peek(p->v, number, &clear) == 0 && prologue_needs(&clear, p->scope);
}

/* ---- what the kernel knows ---- */

static void forget_items(struct purge *p)
{
	struct kernel_cache *k = &p->v->keeper.kernel;

	if (k->drop)
		k->drop(k->arg, p->items, p->item_count);
	while (p->item_count)
		free(p->items[--p->item_count].name);
}

static void add_item(struct purge *p, uint64_t object, uint64_t dir, const char *name)
{
	if (p->item_count == sizeof(p->items) / sizeof(p->items[0]))
		forget_items(p);
	p->items[p->item_count++] = (struct kernel_item){ object, dir, name ? strdup(name) : NULL };
}

/* ---- passes ---- */

static int count(void *arg, uint64_t number)
{
	struct purge *p = arg;
	GATE_SCOPE(p->v);

	p->objects += is_in_scope(p, number);
	return 0;
}

static bool is_lost(struct purge *p, uint64_t number)
{
	GATE_SCOPE(p->v);
	return !is_in_scope(p, number) && (lost_is_needed(p->v, number, p->scope) || map_get(&p->unlisted, number));
}

static int rescue(void *arg, uint64_t number)
{
	struct purge *p = arg;
	int r = 0;

	if (!is_lost(p, number))
		return 0;
	if (!p->lost)
		r = lost_directory(p->v, &p->lost);
	return r < 0 ? r : lost_rescue(p->v, number, p->lost, p->scope);
}

/* In a directory, locked. -ENOENT: none; -EAGAIN: none among those that were looked at. What is in a damaged block cannot be found. */
static int next_entry(struct purge *p, struct object *dir, uint64_t *offset, char name[static VOLUME_NAME_MAX + 1])
{
	struct dir_entry e;

	for (unsigned left = ENTRIES_AT_ONCE; left; left--) {
		int r = dir_next(dir, offset, &e, name);

		if (r == -EIO)
			*offset = (*offset / BLOCK_SIZE + 1) * BLOCK_SIZE;
		else if (r < 0 || is_in_scope(p, e.object))
			return r;
		else
			(*offset)++;
	}
	return -EAGAIN;
}

/* The next entry at or after *offset that leads into the scope. */
static int find_entry(struct purge *p, uint64_t number, uint64_t *offset, char name[static VOLUME_NAME_MAX + 1])
{
	GATE_SCOPE(p->v);
	struct object *dir;
	int r;

	pthread_rwlock_rdlock(&p->v->names_lock);
	r = dir_get(p->v, number, &dir);
	if (r == 0) {
		pthread_rwlock_rdlock(&dir->lock);
		r = dir->removed ? -ENOENT : next_entry(p, dir, offset, name);
		pthread_rwlock_unlock(&dir->lock);
		object_put(p->v, dir);
	}
	pthread_rwlock_unlock(&p->v->names_lock);
	return r;
}

static int remove_entry(struct purge *p, uint64_t number, const char *name)
{
	GATE_SCOPE(p->v);
	struct dir_entry e;
	struct object *dir;
	struct change ch;
	struct meta *m;
	int r = names_begin(p->v, &ch, number, number, ROOM_REMOVAL);

	if (r < 0)
		return r;
	r = names_stage_dir(&ch, number, &dir, &m);
	if (r == 0)
		r = dir_find(dir, name, &e);
	if (r == 0 && is_in_scope(p, e.object)) {
		m->nlink -= S_ISDIR(e.type);
		r = dir_remove(&ch, dir, name);
	}
	return names_end(p->v, &ch, r, 0);
}

/* What is no directory, or cannot be read, has no entries; nor has one that was read to its end. */
static bool is_no_directory(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ESTALE || r == -EACCES || r == -EIO;
}

static int remove_entries(void *arg, uint64_t number)
{
	char name[VOLUME_NAME_MAX + 1];
	struct purge *p = arg;
	uint64_t offset = 0;
	bool any = false;
	int r = 0;

	while (r == 0 || r == -EAGAIN) {
		r = find_entry(p, number, &offset, name);
		if (r < 0)
			continue;
		r = remove_entry(p, number, name);
		if (r == 0)
			add_item(p, 0, number, name);
		any = true;
		r = r == -ENOENT ? 0 : r;
	}
	if (any)
		add_item(p, number, 0, NULL);
	return is_no_directory(r) ? 0 : r;
}

/* ---- objects whose headers list none of their names: only directories can tell ---- */

static int note_unlisted(void *arg, uint64_t number)
{
	struct purge *p = arg;
	GATE_SCOPE(p->v);

	return !is_in_scope(p, number) && lost_has_unlisted(p->v, number) ? map_put(&p->unlisted, number, (void *)1)
									  : 0;
}

static int strike_entries(struct purge *p, struct object *dir, uint64_t *offset)
{
	char name[VOLUME_NAME_MAX + 1];
	struct dir_entry e;

	for (unsigned left = ENTRIES_AT_ONCE; left; left--) {
		int r = dir_next(dir, offset, &e, name);

		if (r == -EIO) {
			*offset = (*offset / BLOCK_SIZE + 1) * BLOCK_SIZE;
			continue;
		}
		if (r < 0)
			return r;
		map_remove(&p->unlisted, e.object);
		(*offset)++;
	}
	return 0;
}

/* So many as are looked at at once. -ENOENT: that were all. */
static int strike_out(struct purge *p, uint64_t number, uint64_t *offset)
{
	GATE_SCOPE(p->v);
	struct object *dir;
	int r;

	pthread_rwlock_rdlock(&p->v->names_lock);
	r = is_in_scope(p, number) ? -ENOENT : dir_get(p->v, number, &dir);
	if (r == 0) {
		pthread_rwlock_rdlock(&dir->lock);
		r = dir->removed ? -ENOENT : strike_entries(p, dir, offset);
		pthread_rwlock_unlock(&dir->lock);
		object_put(p->v, dir);
	}
	pthread_rwlock_unlock(&p->v->names_lock);
	return r;
}

static int find_unlisted(void *arg, uint64_t number)
{
	uint64_t offset = 0;
	int r = 0;

	while (r == 0)
		r = strike_out(arg, number, &offset);
	return is_no_directory(r) ? 0 : r;
}

static int remove_one(void *arg, uint64_t number)
{
	struct purge *p = arg;
	GATE_SCOPE(p->v);
	struct change ch;
	int r;

	if (!is_in_scope(p, number))
		return 0;
	r = change_begin(p->v, &ch, BLOCK_SIZE, ROOM_REMOVAL);
	if (r < 0)
		return r;
	r = txn_remove(&ch.t, number);
	if (r == 0)
		r = change_commit(&ch);
	else
		change_abort(&ch);
	if (r == 0) {
		orphan_mark(p->v, number, false);
		p->objects++;
	}
	return r;
}

static int visit(void *arg, uint64_t number)
{
	struct purge *p = arg;

	if (volume_rests(p->v))
		return -EROFS;
	return atomic_load(&p->v->hurried) ? -ECANCELED : p->visit(p, number);
}

static int each(struct purge *p, int (*call)(void *arg, uint64_t object))
{
	p->objects = 0;
	p->visit = call;
	return store_each_object(p->v->store, 0, UINT64_MAX, visit, p);
}

static int run_passes(struct purge *p)
{
	int r = each(p, note_unlisted);

	if (r == 0 && p->unlisted.count)
		r = each(p, find_unlisted);
	if (r == 0)
		r = each(p, rescue);
	map_free(&p->unlisted);
	if (r == 0)
		r = each(p, remove_entries);
	forget_items(p);
	if (r == 0)
		r = each(p, remove_one);
	return r < 0 ? r : store_sync_all(p->v->store);
}

/* ---- before and after ---- */

/* Nobody opens it any more but by enabling it, which is refused while it is being purged. */
static int close_for_good(struct volume *v, struct scope_entry *s)
{
	int r = 0;

	if (!s->disabled) {
		s->disabled = true;
		r = keeper_store(v, s);
	}
	if (r < 0)
		return r;
	if (keeper_status(v, s->number).open)
		keeper_lock_scope(v, s->number, STATE_DISABLED);
	else
		keeper_set_state(v, s->number, STATE_DISABLED, false, 0);
	keeper_set_purging(v, s->number, true);
	return 0;
}

static int check(struct purge *p, struct scope_entry *s)
{
	struct scope_status now = keeper_status(p->v, p->scope);

	if (p->scope == 0) {
		log_error("the volume's own scope cannot be purged");
		return -EINVAL;
	}
	if (now.purging) {
		log_error("scope %s is being purged already", s->name);
		return -EBUSY;
	}
	if (is_in_scope(p, ROOT_OBJECT)) {
		log_error("scope %s has the root directory in it: it cannot be purged", s->name);
		return -EBUSY;
	}
	if (p->objects && (now.open || (now.state != STATE_REVOKED && now.state != STATE_DISABLED))) {
		log_error(
			"scope %s has %" PRIu64
			" objects in it: put them elsewhere or remove them; or, to lose them all, disable the scope first (coffer scope disable)",
			s->name, p->objects);
		return -EBUSY;
	}
	return 0;
}

/* All others look for what they lost, once they are open: they may have been locked when this looked for it. */
static int store_without(struct volume *v, uint32_t scope, bool had_objects)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct descriptor *next = descriptor_copy(v->d);
	size_t kept = 0;

	if (!next)
		return -ENOMEM;
	for (size_t i = 0; i < next->scope_count; i++) {
		if (next->scopes[i].number == scope)
			continue;
		next->scopes[kept] = next->scopes[i];
		next->scopes[kept].look_for_lost |= had_objects;
		kept++;
	}
	next->scope_count = kept;
	return keeper_store_descriptor(v, next);
}

static int take_away(struct purge *p, const struct scope_entry *s, bool had_objects)
{
	struct volume *v = p->v;
	LOCK_SCOPE(&v->key_lock);
	int r = store_without(v, p->scope, had_objects);

	if (r < 0)
		return r;
	trail_scope(v, s, "scope-purged", 0, had_objects ? "with all that was in it" : "nothing was in it");
	gate_close(v);
	r = keys_make_room(v->keys, v->d);
	gate_open(v);
	if (r == 0)
		r = keeper_statuses_make(v);
	if (had_objects)
		reencrypt_wake(v);
	return r;
}

int volume_scope_purge(struct volume *v, uint32_t scope)
{
	AUTO_FREE struct purge *p = calloc(1, sizeof(*p));
	struct scope_entry s;
	uint64_t found = 0, removed;
	bool again = false; /* it may be that a purge was stopped when all was removed */
	int r;

	if (!p)
		return -ENOMEM;
	p->v = v;
	p->scope = scope;
	r = each(p, count);
	if (r < 0)
		return r;
	pthread_mutex_lock(&v->key_lock);
	r = volume_rests(v) ? -EROFS : keeper_entry(v, scope, &s);
	if (r == 0)
		r = check(p, &s);
	found = p->objects;
	if (r == 0) {
		again = s.disabled;
		r = close_for_good(v, &s);
	}
	pthread_mutex_unlock(&v->key_lock);
	if (r < 0)
		return r;
	/* Something may have been made in it just before it was closed: that was not to be lost. */
	if (!found && !again) {
		r = each(p, count);
		if (r == 0 && p->objects) {
			keeper_set_purging(v, scope, false);
			log_error("scope %s is in use; it is disabled now", s.name);
			return -EBUSY;
		}
	}
	/* Without the lock: other scopes' keys are looked after meanwhile. */
	if (r == 0 && (found || again))
		r = run_passes(p);
	removed = p->objects;
	if (r == 0)
		r = take_away(p, &s, found || again);
	if (r < 0) {
		keeper_set_purging(v, scope, false);
		log_error("scope %s was not purged whole: %s; give the command again", s.name, strerror(-r));
		return r;
	}
	log_notice("scope %s is purged, with %" PRIu64 " objects", s.name, found ? removed : 0);
	return 0;
}
