/* Reading pages, and writing new ones home directly. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

static const struct overlay_page *find_page(const struct dirty_object *now, const struct dirty_object *before,
					    uint64_t page)
{
	const struct overlay_page *p = now ? map_get(&now->pages, page + 1) : NULL;

	return p ? p : before ? map_get(&before->pages, page + 1) : NULL;
}

int store_read_bulk(struct store *s, const struct overlay_page *p, unsigned count, uint8_t *out)
{
	size_t len = (size_t)count * BLOCK_SIZE, got;
	int r = pread_all(s->log.segments[p->segment].fd, out, len, (off_t)p->offset, &got);

	return r < 0 ? r : got < len ? -EIO : 0;
}

/* Copies what is in memory or the log; marks in `have` what is. Returns how many pages were. */
static unsigned read_overlay(struct store *s, uint64_t object, uint64_t page, unsigned count, uint8_t *buf, bool *have,
			     int *error)
{
	unsigned found = 0;

	pthread_rwlock_rdlock(&s->overlay_lock);
	const struct dirty_object *now = map_get(&s->current->objects, object);
	const struct dirty_object *before = s->frozen ? map_get(&s->frozen->objects, object) : NULL;

	bool removed = (now && now->removed_seq) || (before && before->removed_seq);

	for (unsigned i = 0; (now || before) && i < count; i++) {
		const struct overlay_page *p = find_page(now, before, page + i);
		uint8_t *out = buf + (size_t)i * BLOCK_SIZE;

		have[i] = p || removed;
		found += have[i];
		if (removed) /* its file may still be there: it must not come back by its number */
			memset(out, 0, BLOCK_SIZE);
		if (removed || !p)
			continue;
		if (p->bulk) {
			*error = *error ? *error : store_read_bulk(s, p, 1, out);
			continue;
		}
		memcpy(out, p->data, p->size);
		memset(out + p->size, 0, BLOCK_SIZE - p->size);
	}
	pthread_rwlock_unlock(&s->overlay_lock);
	return found;
}

/* From the headers' file, the object's own, or both. */
static int read_home(struct store *s, uint64_t object, uint64_t page, unsigned count, uint8_t *buf)
{
	int r = page == 0 ? headers_read(&s->home, object, buf) : 0;
	unsigned skip = page == 0;

	return r < 0 || count == skip ? r
				      : home_read(&s->home, object, page + skip, count - skip, buf + skip * BLOCK_SIZE);
}

/* What is in memory is looked at first: a page that goes home meanwhile is home before it leaves the memory. */
int store_read(struct store *s, uint64_t object, uint64_t page, unsigned count, uint8_t *buf)
{
	enum { AT_ONCE = 256 };
	bool have[AT_ONCE];
	int r = 0;

	for (unsigned done = 0; r == 0 && done < count;) {
		unsigned n = count - done < AT_ONCE ? count - done : AT_ONCE;
		uint8_t *out = buf + (size_t)done * BLOCK_SIZE;

		memset(have, 0, n);

		unsigned found = read_overlay(s, object, page + done, n, out, have, &r);

		if (found)
			atomic_fetch_add_explicit(&s->read_memory, found, memory_order_relaxed);
		if (found < n)
			atomic_fetch_add_explicit(&s->read_home, n - found, memory_order_relaxed);
		if (found == 0) {
			r = read_home(s, object, page + done, n, out);
		} else {
			for (unsigned i = 0, end; r == 0 && i < n; i = end) {
				for (end = i + 1; end < n && have[end] == have[i];)
					end++;
				if (!have[i])
					r = read_home(s, object, page + done + i, end - i,
						      out + (size_t)i * BLOCK_SIZE);
			}
		}
		done += n;
	}
	return r;
}

void store_prefetch(struct store *s, uint64_t object, uint64_t page, unsigned count)
{
	if (page == 0)
		headers_prefetch(&s->home, object);
	else
		home_prefetch(&s->home, object, page, count);
}

bool store_exists(struct store *s, uint64_t object)
{
	pthread_rwlock_rdlock(&s->overlay_lock);
	const struct dirty_object *now = map_get(&s->current->objects, object);
	const struct dirty_object *before = s->frozen ? map_get(&s->frozen->objects, object) : NULL;
	bool removed = (now && now->removed_seq) || (!now && before && before->removed_seq);
	bool held = (now && now->pages.count) || (before && before->pages.count);

	pthread_rwlock_unlock(&s->overlay_lock);
	return !removed && (held || headers_has(&s->home, object) || home_file_exists(&s->home, object));
}

/* log_lock is held. */
bool has_release(const struct store *s, uint64_t object)
{
	return (uintptr_t)map_get(&s->released, object) >= s->oldest;
}

/* A generation that released pages of the object may be replayed over what is written home now: only once its segment is
 * free is the home file the object's only state. */
bool store_may_write_home(struct store *s, uint64_t object)
{
	if (s->mode != STORE_ACTIVE)
		return false;
	LOCK_SCOPE(&s->log_lock);
	return !has_release(s, object) && !s->stuck && !s->failed;
}

static int write_file(struct store *s, uint64_t object, uint64_t page, unsigned count, const uint8_t *data)
{
	struct home_file *f;
	int r = page ? home_get(&s->home, object, true, &f) : -EINVAL;

	if (r < 0)
		return r;
	r = pwrite_all(f->fd, data, (size_t)count * BLOCK_SIZE, (off_t)(page * BLOCK_SIZE));
	home_put(&s->home, f);
	return r;
}

int store_allocate(struct store *s, uint64_t object, uint64_t page, uint64_t count)
{
	struct home_file *f;
	int r = home_get(&s->home, object, true, &f);

	if (r < 0)
		return r;
	if (fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)(page * BLOCK_SIZE), (off_t)(count * BLOCK_SIZE)) < 0)
		r = -errno;
	home_put(&s->home, f);
	return r;
}

int store_write_home(struct txn *t, uint64_t object, uint64_t page, unsigned count, const uint8_t *data)
{
	if (!t->writes_home)
		atomic_fetch_add(&t->store->writing_home, 1);
	t->writes_home = true;
	return write_file(t->store, object, page, count, data);
}

int store_write_again(struct store *s, uint64_t object, uint64_t page, unsigned count)
{
	AUTO_FREE uint8_t *raw = malloc((size_t)count * BLOCK_SIZE);
	int r = raw ? home_read(&s->home, object, page, count, raw) : -ENOMEM;

	return r < 0 ? r : write_file(s, object, page, count, raw);
}

uint64_t store_allocated(struct store *s, uint64_t object, uint64_t page, uint64_t *ret_end)
{
	pthread_mutex_lock(&s->log_lock);
	bool going = has_release(s, object); /* what is there may be about to go */

	pthread_mutex_unlock(&s->log_lock);
	*ret_end = 0;
	return going ? 0 : home_allocated(&s->home, object, page, ret_end);
}

void store_give_back(struct store *s, uint64_t object, uint64_t page)
{
	(void)home_release(&s->home, object, page, UINT64_MAX); /* if it cannot be, it goes with the file */
}

/* ---- seeing in ---- */
int store_statfs(struct store *s, struct statvfs *ret)
{
	if (fstatvfs(s->backing_fd, ret) < 0)
		return -errno;
	LOCK_SCOPE(&s->log_lock);
	uint64_t pending = store_dirty_bytes(s) / ret->f_frsize;

	ret->f_bfree -= pending < ret->f_bfree ? pending : ret->f_bfree;
	ret->f_bavail -= pending < ret->f_bavail ? pending : ret->f_bavail;
	return 0;
}

uint64_t store_max_pages(const struct store *s)
{
	return s->max_pages;
}

size_t store_max_payload(const struct store *s)
{
	return s->max_payload;
}

bool store_failed(const struct store *s)
{
	return s->failed;
}

bool store_read_only(const struct store *s)
{
	return s->read_only || s->failed;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Objects with pages in a generation; `numbers` has room for them. */
static size_t numbers_of(const struct generation *g, uint64_t *numbers)
{
	size_t pos = 0, count = 0;

	for (const struct dirty_object *o; g && (o = map_next(&g->objects, &pos, NULL));)
		if (o->pages.count)
			numbers[count++] = o->number;
	return count;
}

struct each {
	uint64_t *seen; /* in order */
	size_t count;
	int (*call)(void *arg, uint64_t object);
	void *arg;
};

static int unless_seen(void *arg, uint64_t object)
{
	const struct each *e = arg;

	if (bsearch(&object, e->seen, e->count, sizeof(object), by_number))
		return 0;
	return e->call(e->arg, object);
}

/* Memory first: what goes home meanwhile is seen there. */
int store_each_object(struct store *s, uint64_t first, uint64_t end, int (*call)(void *arg, uint64_t object), void *arg)
{
	struct each e = { .call = call, .arg = arg };
	int r = 0;

	pthread_rwlock_rdlock(&s->overlay_lock);
	size_t room = s->current->objects.count + (s->frozen ? s->frozen->objects.count : 0);
	AUTO_FREE uint64_t *numbers = malloc((room + 1) * sizeof(*numbers));

	if (numbers) {
		e.seen = numbers;
		e.count = numbers_of(s->current, numbers);
		e.count += numbers_of(s->frozen, numbers + e.count);
	}
	pthread_rwlock_unlock(&s->overlay_lock);
	if (!numbers)
		return -ENOMEM;
	qsort(numbers, e.count, sizeof(*numbers), by_number);
	for (size_t i = 0; r == 0 && i < e.count; i++)
		if (numbers[i] >= first && numbers[i] < end && (i == 0 || numbers[i] != numbers[i - 1]))
			r = call(arg, numbers[i]);
	return r ? r : home_each(&s->home, first, end, unless_seen, &e);
}

void store_counters(struct store *s, struct store_counters *ret)
{
	LOCK_SCOPE(&s->log_lock);
	*ret = (struct store_counters){
		.dirty_pages = store_dirty_bytes(s) / BLOCK_SIZE,
		.log_bytes = s->current->log_used,
		.checkpoints = s->checkpoints,
		.syncs = s->syncs,
		.home_pages = s->home_pages,
		.waits = s->waits,
		.read_memory = s->read_memory,
		.read_home = s->read_home,
	};
	timing_read(&s->append_times, &ret->append);
	timing_read(&s->sync_log_times, &ret->sync_log);
	timing_read(&s->sync_home_times, &ret->sync_home);
}
