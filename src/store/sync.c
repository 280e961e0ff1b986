/* Making things durable. After a sync that failed the kernel takes what it covered for clean, and says so once, to one caller
 * (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020): so syncs of the same thing take turns, and
 * who comes after a failure fails too. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

enum { SYNC_EACH_MAX = 32 /* objects that are synced one by one; more: the whole backing file system at once */ };

/* ---- homes ---- */
static bool any_unsynced(const struct generation *g)
{
	size_t pos = 0;

	for (struct dirty_object *o; g && (o = map_next(&g->objects, &pos, NULL));)
		if (o->unsynced.count && !o->removed_seq)
			return true;
	return false;
}

int store_sync_home(struct store *s, int fd, int (*sync)(int fd))
{
	LOCK_SCOPE(&s->home_sync_lock);
	if (s->failed)
		return -EIO;

	uint64_t began = clock_ns();
	int r = sync(fd) < 0 ? -errno : 0;

	timing_add(&s->sync_home_times, clock_ns() - began, 0, r < 0);
	if (r == 0)
		return 0;
	pthread_rwlock_rdlock(&s->overlay_lock);
	bool rewritable = !atomic_load(&s->writing_home) && !any_unsynced(s->current) && !any_unsynced(s->frozen);

	pthread_rwlock_unlock(&s->overlay_lock);
	if (is_full(r) && rewritable)
		return r;
	store_fail(s, "syncing an object's file", r);
	return -EIO;
}

/* ---- the log ---- */
/* Makes the log durable up to `seq`. Those that wait for the lock find their work done by the one before: group commit. */
int store_sync_log(struct store *s, uint64_t seq)
{
	if (atomic_load(&s->durable_seq) >= seq)
		return s->failed ? -EIO : 0;
	LOCK_SCOPE(&s->sync_lock);
	if (atomic_load(&s->durable_seq) >= seq)
		return s->failed ? -EIO : 0;

	pthread_mutex_lock(&s->log_lock);
	uint64_t last = s->current->last_seq;
	int fd = s->log.segments[s->log.current].fd;

	s->syncs++;
	log_write_ahead(&s->log, s->current->log_used);
	pthread_mutex_unlock(&s->log_lock);

	uint64_t began = clock_ns();
	int r = fdatasync(fd) < 0 ? -errno : 0;

	timing_add(&s->sync_log_times, clock_ns() - began, 0, r < 0);
	if (r < 0) {
		store_fail(s, "syncing the log", r);
		return -EIO;
	}
	uint64_t durable = atomic_load(&s->durable_seq);

	while (durable < last && !atomic_compare_exchange_weak(&s->durable_seq, &durable, last))
		;
	return s->failed ? -EIO : 0;
}

static int sync_name_if_new(struct store *s, uint64_t object)
{
	if (!home_name_is_new(&s->home, object))
		return 0;
	int r = home_sync_name(&s->home, object);

	if (r == 0)
		home_name_synced(&s->home, object);
	return r;
}

static bool has_unsynced(struct store *s, uint64_t object)
{
	pthread_rwlock_rdlock(&s->overlay_lock);
	const struct dirty_object *now = map_get(&s->current->objects, object);
	const struct dirty_object *before = s->frozen ? map_get(&s->frozen->objects, object) : NULL;
	bool any = (now && now->unsynced.count) || (before && before->unsynced.count);

	pthread_rwlock_unlock(&s->overlay_lock);
	return any;
}

static uint64_t last_seq(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	return s->current->last_seq;
}

/* Says in the log that what the objects wrote home up to `seq` is durable, so that replay does not doubt it. */
static int say_synced(struct store *s, const uint64_t *objects, size_t count, uint64_t seq, uint64_t *ret_seq)
{
	AUTO_FREE struct frame *frames = calloc(count ? count : 1, sizeof(*frames));

	if (!frames)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		frames[i] = (struct frame){ .kind = FRAME_SYNCED, .object = objects[i], .page = seq };
	LOCK_SCOPE(&s->log_lock);
	int r = store_append_locked(s, frames, count, ret_seq);

	/* Without room for it the log still says "unsynced", which only makes a replay look again. */
	return r == -ENOSPC ? 0 : r;
}

static int sync_home(struct store *s, uint64_t object)
{
	struct home_file *f;
	int r = home_get(&s->home, object, false, &f);

	if (r < 0)
		return r == -ENOENT ? 0 : r; /* removed meanwhile */
	r = store_sync_home(s, f->fd, fdatasync);
	home_put(&s->home, f);
	return r < 0 ? r : sync_name_if_new(s, object);
}

/* `*seq` is moved to what the log says of it. */
static int sync_data(struct store *s, uint64_t object, uint64_t *seq)
{
	uint64_t before = last_seq(s);

	if (!has_unsynced(s, object))
		return 0;
	int r = sync_home(s, object);

	if (r < 0) {
		store_fail(s, "syncing an object's file", r);
		return -EIO;
	}
	return say_synced(s, &object, 1, before, seq);
}

int store_sync_data(struct store *s, uint64_t object)
{
	uint64_t seq;

	return s->read_only || s->mode != STORE_ACTIVE ? 0 : sync_data(s, object, &seq);
}

int store_sync(struct store *s, uint64_t object, uint64_t seq)
{
	if (s->read_only || s->mode != STORE_ACTIVE)
		return 0;
	if (!seq)
		seq = last_seq(s);
	atomic_fetch_add(&s->syncing, 1);
	int r = object ? sync_data(s, object, &seq) : 0;

	if (r == 0)
		r = store_sync_log(s, seq);
	atomic_store(&s->sync_ms, milliseconds());
	atomic_fetch_sub(&s->syncing, 1);
	return r;
}

/* Adds the objects of a generation that have unsynced pages. overlay_lock is held. */
static int list_unsynced(const struct generation *g, uint64_t **list, size_t *count)
{
	size_t pos = 0;

	for (struct dirty_object *o; g && (o = map_next(&g->objects, &pos, NULL));) {
		if (!o->unsynced.count || o->removed_seq)
			continue;
		if ((*count & (*count - 1)) == 0) { /* full, at each power of two */
			uint64_t *bigger = realloc(*list, (*count ? *count * 2 : 1) * sizeof(*bigger));

			if (!bigger)
				return -ENOMEM;
			*list = bigger;
		}
		(*list)[(*count)++] = o->number;
	}
	return 0;
}

static int sync_homes(struct store *s, const uint64_t *objects, size_t count)
{
	int r = 0;

	if (count > SYNC_EACH_MAX)
		return store_sync_home(s, s->backing_fd, syncfs);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = sync_home(s, objects[i]);
	return r;
}

int store_sync_all(struct store *s)
{
	AUTO_FREE uint64_t *objects = NULL;
	size_t count = 0;

	if (s->read_only || s->mode != STORE_ACTIVE)
		return 0;
	uint64_t before = last_seq(s);

	pthread_rwlock_rdlock(&s->overlay_lock);
	int r = list_unsynced(s->current, &objects, &count);

	if (r == 0)
		r = list_unsynced(s->frozen, &objects, &count);
	pthread_rwlock_unlock(&s->overlay_lock);
	if (r < 0)
		return r;
	r = sync_homes(s, objects, count);
	if (r < 0) {
		store_fail(s, "syncing an object's file", r);
		return -EIO;
	}
	if (count)
		r = say_synced(s, objects, count, before, NULL);
	return r < 0 ? r : store_sync_log(s, last_seq(s));
}
