/* Life of a store: made, replayed, given a log, taken out of use. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>

#include <coffer/util.h>

#include "internal.h"

int store_format(int backing_fd)
{
	return mkdirat(backing_fd, "objects", 0700) < 0 || mkdirat(backing_fd, "log", 0700) < 0 ? -errno : 0;
}

int store_new(int backing_fd, bool read_only, struct store **ret)
{
	struct store *s = calloc(1, sizeof(*s));
	pthread_condattr_t clock;
	int r;

	if (!s)
		return -ENOMEM;
	s->backing_fd = backing_fd;
	s->read_only = read_only;
	s->next_generation = 1;
	s->max_payload = COMMIT_MAX / 2;
	pthread_mutex_init(&s->sync_lock, NULL);
	pthread_mutex_init(&s->home_sync_lock, NULL);
	pthread_mutex_init(&s->log_lock, NULL);
	pthread_rwlock_init(&s->overlay_lock, NULL);
	pthread_cond_init(&s->room, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &clock);
	pthread_condattr_destroy(&clock);
	s->log = (struct log){ .dir_fd = -1, .reserve_fd = -1, .segments = { { .fd = -1 }, { .fd = -1 } } };
	s->current = generation_new(s->next_generation++);
	r = s->current ? home_init(&s->home, backing_fd) : -ENOMEM;
	if (r == 0)
		r = log_open_dir(&s->log, backing_fd, read_only);
	if (r < 0) {
		store_free(s);
		return r;
	}
	s->log.next_seq = 1; /* 0 is "never" wherever a sequence number is kept */
	s->oldest = s->current->number;
	s->max_pages = home_max_pages(&s->home);
	*ret = s;
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	generation_free(s->current);
	generation_free(s->frozen);
	map_free(&s->orphans);
	map_free(&s->released);
	log_close(&s->log);
	home_close(&s->home);
	pthread_mutex_destroy(&s->sync_lock);
	pthread_mutex_destroy(&s->home_sync_lock);
	pthread_mutex_destroy(&s->log_lock);
	pthread_rwlock_destroy(&s->overlay_lock);
	pthread_cond_destroy(&s->room);
	pthread_cond_destroy(&s->wake);
	free(s);
}

void store_fail(struct store *s, const char *what, int error)
{
	if (!atomic_exchange(&s->failed, true))
		log_error(
			"%s failed: %s; the volume is read-only from here on. Nothing that is in the log is lost: mend the "
			"backing file system, unmount, and mount again",
			what, strerror(-error));
}

void store_expect(struct store *s, uint64_t first_new)
{
	s->home.last_folder = first_new >> FOLDER_SHIFT;
}

void store_forget_log(struct store *s)
{
	s->log_forgotten = !s->read_only;
}

/* ---- recovery ---- */
int store_replay(struct store *s, const struct kdf *structure, const uint8_t *salt, size_t salt_size,
		 uint64_t *ret_chunks)
{
	/* What a killed daemon left unsynced in the page cache must not be taken for durable. */
	if (!s->read_only && syncfs(s->backing_fd) < 0) {
		int r = -errno;

		log_error("the backing file system cannot be synced: %s", strerror(-r));
		return r;
	}
	int r = log_key(structure, salt, salt_size, &s->log.aead);

	return r < 0 ? r : log_replay(s, ret_chunks);
}

int store_each_unsynced(struct store *s, unsynced_page *call, void *arg)
{
	size_t objects = 0;
	struct dirty_object *o;
	int r = 0;

	/* `call` commits, which changes both maps: collect first. */
	struct item {
		uint64_t object, page;
	} *items = NULL;
	size_t count = 0, size = 0;

	while (r == 0 && (o = map_next(&s->current->objects, &objects, NULL))) {
		size_t pages = 0;
		uint64_t key;

		while (r == 0 && !o->removed_seq && map_next(&o->unsynced, &pages, &key)) {
			if (count == size) {
				struct item *bigger = realloc(items, (size ? size * 2 : 64) * sizeof(*items));

				if (!bigger) {
					r = -ENOMEM;
					break;
				}
				items = bigger;
				size = size ? size * 2 : 64;
			}
			items[count++] = (struct item){ o->number, key - 1 };
		}
	}
	for (size_t i = 0; r == 0 && i < count; i++)
		r = call(arg, items[i].object, items[i].page);
	free(items);
	return r;
}

int store_each_orphan(struct store *s, orphan_object *call, void *arg)
{
	AUTO_FREE uint64_t *numbers = malloc((s->orphans.count + 1) * sizeof(*numbers));
	size_t pos = 0, count = 0;
	uint64_t key;
	int r = numbers ? 0 : -ENOMEM;

	while (r == 0 && map_next(&s->orphans, &pos, &key))
		numbers[count++] = key - 1;
	for (size_t i = 0; r == 0 && i < count; i++)
		r = call(arg, numbers[i]);
	return r;
}

int store_settle(struct store *s)
{
	struct generation *next = generation_new(s->next_generation++);

	if (!next)
		return -ENOMEM;
	s->frozen = s->current;
	s->current = next;
	int r = store_checkpoint(s);

	if (r == 0 && syncfs(s->backing_fd) < 0)
		r = -errno;
	return r;
}

/* ---- the log of an epoch ---- */
static int start_generation(struct store *s, uint64_t before)
{
	size_t count = 1, pos = 0;
	uint64_t key;
	AUTO_FREE struct frame *frames = calloc(1 + s->orphans.count, sizeof(*frames));

	if (!frames)
		return -ENOMEM;
	frames[0] = (struct frame){ .kind = FRAME_START, .page = before };
	while (map_next(&s->orphans, &pos, &key))
		frames[count++] = (struct frame){ .kind = FRAME_ORPHAN, .object = key - 1 };
	return store_append_locked(s, frames, count, NULL);
}

int store_activate(struct store *s, const struct kdf *structure, const uint8_t *salt, size_t salt_size,
		   unsigned sync_interval)
{
	aead_free(s->log.aead);
	s->log.aead = NULL;
	s->log_forgotten = false;
	if (s->read_only) { /* what replay made stays in memory, and nothing more is accepted */
		s->mode = STORE_CLOSED;
		return 0;
	}
	int r = log_key(structure, salt, salt_size, &s->log.aead);

	if (r == 0)
		r = log_key(structure, salt, salt_size, &s->log.header_aead);
	if (r == 0)
		r = log_allocate(&s->log);
	if (r == 0)
		(void)log_hold_reserve(&s->log); /* without it only removals are accepted, until there is room for it */
	for (unsigned i = 0; r == 0 && i < SEGMENTS; i++)
		r = log_start_segment(&s->log, i, s->current->number + i);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < SEGMENTS; i++)
		if (s->max_payload > s->log.segments[i].size / 4)
			s->max_payload = s->log.segments[i].size / 4;
	s->next_generation = s->current->number + SEGMENTS;
	s->log.current = 0;
	s->log.next_seq = 1;
	s->current->log_used = SEGMENT_HEADER;
	s->oldest = s->current->number;
	s->mode = STORE_ACTIVE;
	s->interval = sync_interval;
	pthread_mutex_lock(&s->log_lock);
	r = start_generation(s, 0);
	s->first_seq = s->current->last_seq;
	pthread_mutex_unlock(&s->log_lock);
	return r < 0 ? r : keeper_start(s);
}

int store_rotate(struct store *s)
{
	LOCK_SCOPE(&s->sync_lock);
	LOCK_SCOPE(&s->log_lock);
	struct generation *next = generation_new(s->log.segments[!s->log.current].generation);
	struct generation *old = s->current;

	if (!next)
		return -ENOMEM;
	if (s->failed) { /* another sync of this segment was told of it */
		generation_free(next);
		return -EIO;
	}
	if (fdatasync(s->log.segments[s->log.current].fd) < 0) {
		int r = -errno;

		generation_free(next);
		store_fail(s, "syncing the log", r);
		return r;
	}
	atomic_store(&s->durable_seq, old->last_seq);
	next->log_used = SEGMENT_HEADER;
	next->last_seq = old->last_seq;
	pthread_rwlock_wrlock(&s->overlay_lock);
	s->frozen = old;
	s->current = next;
	pthread_rwlock_unlock(&s->overlay_lock);
	s->log.current = !s->log.current;
	int r = start_generation(s, old->last_seq);

	s->first_seq = next->last_seq;
	s->dirty_since = 0;
	if (r < 0)
		store_fail(s, "starting a segment of the log", r);
	return r;
}

int store_deactivate(struct store *s)
{
	int r = 0;

	if (s->mode != STORE_ACTIVE)
		return 0;
	keeper_stop(s);
	if (s->failed)
		return -EIO;
	for (int i = 0; r == 0 && i < 2; i++) {
		if (!s->frozen) {
			r = store_rotate(s);
			i = 1;
		}
		if (r == 0)
			r = store_checkpoint(s);
	}
	if (r == 0)
		s->mode = STORE_CLOSED;
	return r;
}

int store_empty_log(struct store *s)
{
	return log_shrink(&s->log);
}

void store_on_interval(struct store *s, void (*call)(void *arg), void *arg)
{
	s->on_interval = call;
	s->on_interval_arg = arg;
}
