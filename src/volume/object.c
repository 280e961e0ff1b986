/* The cache of objects. What the kernel refers to by number need not be here: any object is found again by its number. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

enum { CACHE_OBJECTS = 16384, CACHE_BYTES = 256 << 20 };

static void lru_unlink(struct volume *v, struct object *o)
{
	if (!o->in_lru)
		return;
	*(o->lru_prev ? &o->lru_prev->lru_next : &v->lru_head) = o->lru_next;
	*(o->lru_next ? &o->lru_next->lru_prev : &v->lru_tail) = o->lru_prev;
	o->lru_prev = o->lru_next = NULL;
	o->in_lru = false;
}

static void lru_push(struct volume *v, struct object *o)
{
	o->lru_next = v->lru_head;
	*(v->lru_head ? &v->lru_head->lru_prev : &v->lru_tail) = o;
	v->lru_head = o;
	o->in_lru = true;
}

static void object_free(struct object *o)
{
	size_t pos = 0;
	void *page;

	while ((page = map_next(&o->pages, &pos, NULL)))
		free(page);
	map_free(&o->pages);
	dir_free(o->dir);
	free(o->m);
	free(o->xattrs);
	pthread_rwlock_destroy(&o->lock);
	pthread_mutex_destroy(&o->page_lock);
	free(o);
}

static struct object *object_new(uint64_t number)
{
	struct object *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->number = number;
	pthread_rwlock_init(&o->lock, NULL);
	pthread_mutex_init(&o->page_lock, NULL);
	return o;
}

static void evict(struct volume *v, struct object *o)
{
	lru_unlink(v, o);
	map_remove(&v->objects, o->number);
	v->cached--;
	v->bytes -= o->bytes;
	object_free(o);
}

/* Finds or makes the cache's entry, pinned; not loaded. */
static int pin(struct volume *v, uint64_t number, struct object **ret)
{
	LOCK_SCOPE(&v->cache_lock);
	struct object *o = map_get(&v->objects, number);

	if (!o) {
		o = object_new(number);
		if (!o || map_put(&v->objects, number, o) < 0) {
			if (o)
				object_free(o);
			return -ENOMEM;
		}
		v->cached++;
	}
	o->pins++;
	lru_unlink(v, o);
	*ret = o;
	return 0;
}

static bool is_flushing(const struct volume *v, const struct meta *m)
{
	return keys_access(v->keys, m->scope, m->dek_version) == SCOPE_FLUSHING ||
	       keys_access(v->keys, m->old_scope, m->old_dek_version) == SCOPE_FLUSHING;
}

static int load(struct volume *v, struct object *o)
{
	uint8_t page[BLOCK_SIZE];
	int r;

	pthread_rwlock_wrlock(&o->lock);
	r = o->removed ? -ESTALE : 0;
	if (r == 0 && !o->m) {
		r = store_read(v->store, o->number, 0, 1, page);
		if (r == 0)
			r = meta_decode(page, o->number, v->keys, &o->m);
		if (r == 0)
			o->flushing = is_flushing(v, o->m);
		if (r == -ENOENT)
			r = -ESTALE;
	}
	pthread_rwlock_unlock(&o->lock);
	return r;
}

static int get(struct volume *v, uint64_t number, bool to_flush, struct object **ret)
{
	struct object *o;
	int r = number & LOCKED_FILE ? -EACCES : pin(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	bool loaded = o->m && !o->removed;

	pthread_rwlock_unlock(&o->lock);
	atomic_fetch_add_explicit(loaded ? &v->object_hits : &v->object_misses, 1, memory_order_relaxed);
	if (!loaded)
		r = load(v, o);
	if (r == 0 && o->flushing && !to_flush)
		r = -EACCES;
	if (r < 0) {
		object_put(v, o);
		return r;
	}
	*ret = o;
	return 0;
}

int object_get(struct volume *v, uint64_t number, struct object **ret)
{
	return get(v, number, false, ret);
}

int object_get_flushing(struct volume *v, uint64_t number, struct object **ret)
{
	return get(v, number, true, ret);
}

int object_peek(struct volume *v, uint64_t number, struct prologue *ret)
{
	uint8_t page[BLOCK_SIZE];
	int r = store_read(v->store, number, 0, 1, page);

	if (r == 0)
		r = meta_peek(page, number, ret);
	return r == -ENOENT ? -ESTALE : r;
}

bool object_is_cached(struct volume *v, uint64_t number)
{
	LOCK_SCOPE(&v->cache_lock);
	return map_get(&v->objects, number);
}

void object_put(struct volume *v, struct object *o)
{
	if (!o)
		return;
	LOCK_SCOPE(&v->cache_lock);
	if (--o->pins)
		return;
	v->bytes -= o->bytes;
	o->bytes = dir_memory(o->dir) + o->pages.count * BLOCK_SIZE + (o->xattrs ? o->xattrs_len : 0);
	v->bytes += o->bytes;
	if (o->removed || !o->m) {
		evict(v, o);
		return;
	}
	lru_push(v, o);
	while (v->lru_tail && (v->cached > CACHE_OBJECTS || v->bytes > CACHE_BYTES))
		evict(v, v->lru_tail);
}

int object_make(struct volume *v, uint64_t number, struct object **ret)
{
	struct object *o;
	int r = pin(v, number, &o);

	if (r == 0 && o->m) { /* numbers are never used twice */
		object_put(v, o);
		return -EIO;
	}
	*ret = o;
	return r;
}

void cache_free(struct volume *v)
{
	size_t pos = 0;
	struct object *o;

	while ((o = map_next(&v->objects, &pos, NULL)))
		object_free(o);
	map_free(&v->objects);
	map_free(&v->lookups);
	map_free(&v->orphans);
}

/* ---- scopes that are locked ---- */
void cache_flush_only(struct volume *v, uint32_t scope, bool flushing)
{
	LOCK_SCOPE(&v->cache_lock);
	size_t pos = 0;
	struct object *o;

	while ((o = map_next(&v->objects, &pos, NULL)))
		if (o->m && meta_needs(o->m, scope))
			o->flushing = flushing;
}

/* No operation is under way, so that only the list of access times may pin anything: those are lost. */
void cache_drop(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->cache_lock);
	struct object *next;

	for (struct object **at = &v->lazy, *o; (o = *at);) {
		if (!meta_needs(o->m, scope)) {
			at = &o->lazy_next;
			continue;
		}
		*at = o->lazy_next;
		o->lazy_queued = false;
		if (--o->pins == 0)
			lru_push(v, o);
	}
	for (struct object *o = v->lru_head; o; o = next) {
		next = o->lru_next;
		if (!meta_needs(o->m, scope))
			continue;
		dir_wipe(o->dir);
		wipe(o->m, sizeof(*o->m) + meta_var_len(o->m));
		if (o->xattrs)
			wipe(o->xattrs, o->xattrs_len);
		evict(v, o);
	}
}

/* ---- references of the kernel ---- */
void reference_add(struct volume *v, uint64_t number)
{
	LOCK_SCOPE(&v->cache_lock);
	uintptr_t count = (uintptr_t)map_get(&v->lookups, number);

	/* Without memory for the count an orphan would go early: keep it to the next mount instead. */
	if (map_put(&v->lookups, number, (void *)(count + 1)) < 0)
		log_error("no memory to count references of object %" PRIu64, number);
}

uint64_t reference_drop(struct volume *v, uint64_t number, uint64_t count)
{
	LOCK_SCOPE(&v->cache_lock);
	uintptr_t held = (uintptr_t)map_get(&v->lookups, number);

	if (count >= held) {
		map_remove(&v->lookups, number);
		return 0;
	}
	(void)map_put(&v->lookups, number, (void *)(held - count)); /* replaces: cannot fail */
	return held - count;
}

uint64_t references(struct volume *v, uint64_t number)
{
	LOCK_SCOPE(&v->cache_lock);
	return (uintptr_t)map_get(&v->lookups, number);
}

void orphan_mark(struct volume *v, uint64_t number, bool orphan)
{
	LOCK_SCOPE(&v->cache_lock);
	if (!orphan)
		map_remove(&v->orphans, number);
	else if (map_put(&v->orphans, number, (void *)1) < 0)
		log_error("no memory to note orphan %" PRIu64 "; it goes at the next mount", number);
}

uint64_t *orphans_list(struct volume *v, size_t *ret_count)
{
	LOCK_SCOPE(&v->cache_lock);
	uint64_t *numbers = malloc((v->orphans.count + 1) * sizeof(*numbers)), number;
	size_t pos = 0, count = 0;

	while (numbers && map_next(&v->orphans, &pos, &number))
		numbers[count++] = number;
	*ret_count = count;
	return numbers;
}

void volume_forget(struct volume *v, uint64_t object, uint64_t count)
{
	GATE_SCOPE(v);

	if (reference_drop(v, object, count))
		return;
	pthread_mutex_lock(&v->cache_lock);
	bool orphan = map_get(&v->orphans, object);

	pthread_mutex_unlock(&v->cache_lock);
	if (orphan)
		(void)remove_object(v, object); /* if it fails, the next mount does it */
}

/* Removes an object with its companion. One whose header cannot be read, damaged or locked, is removed all the same: nothing
 * refers to it. Its companion, if it has one, is not known then and stays, as an object without a name. */
int remove_object(struct volume *v, uint64_t number)
{
	struct change ch;
	struct object *o, *companion;
	struct meta *m, *cm;
	int r = change_begin(v, &ch, 4 * BLOCK_SIZE, ROOM_REMOVAL);

	if (r < 0)
		return r;
	r = change_pin(&ch, number, &o);
	if (r == -EACCES && references(v, number)) {
		r = -EBUSY;
	} else if (r == -EIO || r == -ESTALE || r == -EACCES) {
		r = txn_remove(&ch.t, number);
	} else {
		if (r == 0)
			r = change_object(&ch, o, &m);
		if (r == 0 && (m->nlink || references(v, number)))
			r = -EBUSY;
		if (r == 0 && m->companion && change_pin(&ch, m->companion, &companion) == 0 &&
		    change_object(&ch, companion, &cm) == 0)
			r = change_remove(&ch, companion);
		if (r == 0)
			r = change_remove(&ch, o);
	}
	if (r == 0)
		r = change_commit(&ch);
	else
		change_abort(&ch);
	if (r == 0)
		orphan_mark(v, number, false);
	return r;
}

/* ---- access times ---- */
/* Like relatime: moved by the first read after a change, and once a day. Kept in memory until the next interval. The object's
 * lock is the caller's, at least shared. */
void lazy_atime(struct volume *v, struct object *o)
{
	enum { DAY = 24 * 60 * 60 };
	struct timespec t;
	const struct meta *m = o->m;
	bool lazy = false;

	if (volume_rests(v))
		return;
	clock_gettime(CLOCK_REALTIME_COARSE, &t); /* near enough, and cheaper than now() */
	pthread_mutex_lock(&o->page_lock);
	const struct timespec *a = o->atime_lazy ? &o->atime : &m->atime;
	bool older = a->tv_sec < m->mtime.tv_sec || (a->tv_sec == m->mtime.tv_sec && a->tv_nsec <= m->mtime.tv_nsec) ||
		     a->tv_sec < m->ctime.tv_sec || (a->tv_sec == m->ctime.tv_sec && a->tv_nsec <= m->ctime.tv_nsec);

	if (older || t.tv_sec - a->tv_sec >= DAY) {
		lazy = o->atime_lazy = true;
		o->atime = t;
	}
	pthread_mutex_unlock(&o->page_lock);
	if (!lazy)
		return;
	pthread_mutex_lock(&v->cache_lock);
	if (!o->lazy_queued) { /* it may be, from a time that setting it explicitly has overtaken */
		o->lazy_queued = true;
		o->pins++;
		o->lazy_next = v->lazy;
		v->lazy = o;
	}
	pthread_mutex_unlock(&v->cache_lock);
}

/* False: the log has no room now. */
static bool flush_atime(struct volume *v, struct object *o)
{
	struct change ch;
	struct meta *m;
	int r = change_begin(v, &ch, BLOCK_SIZE, ROOM_NEW);

	if (r < 0)
		return r != -EAGAIN && r != -EBUSY; /* an access time is not worth an error */

	if (change_object(&ch, o, &m) == 0) {
		pthread_mutex_lock(&o->page_lock);
		if (o->atime_lazy)
			m->atime = o->atime;
		o->atime_lazy = false;
		pthread_mutex_unlock(&o->page_lock);
		(void)change_commit(&ch);
	} else {
		change_abort(&ch);
	}
	return true;
}

void flush_lazy(struct volume *v)
{
	for (;;) {
		pthread_mutex_lock(&v->cache_lock);
		struct object *o = v->lazy;

		if (o) {
			v->lazy = o->lazy_next;
			o->lazy_queued = false;
		}
		pthread_mutex_unlock(&v->cache_lock);
		if (!o)
			return;
		if (!flush_atime(v, o)) { /* next time */
			bool again;

			pthread_mutex_lock(&v->cache_lock);
			again = !o->lazy_queued;
			if (again) {
				o->lazy_queued = true;
				o->lazy_next = v->lazy;
				v->lazy = o;
			}
			pthread_mutex_unlock(&v->cache_lock);
			if (!again)
				object_put(v, o);
			return;
		}
		object_put(v, o);
	}
}
