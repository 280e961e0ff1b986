/* Writing a generation home.
 *
 * Order (rules 1 to 3 of FORMAT.md): the generation's log is durable before the first byte goes home (store_rotate saw to it);
 * the homes are synced before the segment is used again; space is released only here, so after the record of the release. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>

#include <coffer/util.h>

#include "internal.h"

enum { SYNC_EACH_MAX = 64, PIECES = 256, SEND_PAGES = 64 };

struct page_ref {
	uint64_t page;
	const struct overlay_page *data;
};

static int compare_pages(const void *a, const void *b)
{
	uint64_t x = ((const struct page_ref *)a)->page, y = ((const struct page_ref *)b)->page;

	return x < y ? -1 : x > y;
}

static int compare_objects(const void *a, const void *b)
{
	uint64_t x = (*(struct dirty_object *const *)a)->number, y = (*(struct dirty_object *const *)b)->number;

	return x < y ? -1 : x > y;
}

/* Reads what only the log has into `scratch`, as many pages at a time as lie together there too. */
static int fetch_bulk(struct store *s, const struct page_ref *refs, size_t count, uint8_t *scratch)
{
	int r = 0;

	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		const struct overlay_page *p = refs[i].data;

		for (end = i + 1; p->bulk && end < count && refs[end].data->bulk &&
				  refs[end].data->segment == p->segment &&
				  refs[end].data->offset == p->offset + (end - i) * BLOCK_SIZE;)
			end++;
		if (p->bulk)
			r = store_read_bulk(s, p, (unsigned)(end - i), scratch + i * BLOCK_SIZE);
	}
	return r;
}

/* `scratch`: the content of those that only the log has. */
static int write_run(int fd, const struct page_ref *refs, size_t count, const uint8_t *scratch)
{
	static const uint8_t zeros[BLOCK_SIZE];
	struct iovec pieces[2 * PIECES];
	int n = 0;

	for (size_t i = 0; i < count; i++) {
		if (refs[i].data->bulk) {
			pieces[n++] = (struct iovec){ (void *)(uintptr_t)(scratch + i * BLOCK_SIZE), BLOCK_SIZE };
			continue;
		}
		pieces[n++] = (struct iovec){ (void *)(uintptr_t)refs[i].data->data, refs[i].data->size };
		if (refs[i].data->size < BLOCK_SIZE)
			pieces[n++] = (struct iovec){ (void *)(uintptr_t)zeros, BLOCK_SIZE - refs[i].data->size };
	}
	ssize_t done = pwritev(fd, pieces, n, (off_t)(refs[0].page * BLOCK_SIZE));

	if (done < 0)
		return -errno;
	if ((size_t)done == count * BLOCK_SIZE)
		return 0;
	/* A short write: on from the page where it stopped, which is written alone if it was the first, so that an error shows. */
	size_t whole = (size_t)done / BLOCK_SIZE, head = pieces[0].iov_len;
	int r = 0;

	if (!whole) {
		r = pwrite_all(fd, pieces[0].iov_base, head, (off_t)(refs[0].page * BLOCK_SIZE));
		if (r == 0 && head < BLOCK_SIZE)
			r = pwrite_all(fd, zeros, BLOCK_SIZE - head, (off_t)(refs[0].page * BLOCK_SIZE + head));
		whole = 1;
	}
	return r < 0 || whole == count ? r : write_run(fd, refs + whole, count - whole, scratch + whole * BLOCK_SIZE);
}

/* Has the disk begin with what was written of a large object. One sync of everything at the end would keep it busy for as long
 * as that takes, and who syncs the log meanwhile waiting. No error is to be had here: it stays for the sync. */
static void send_home(struct store *s, int fd, uint64_t first, uint64_t end)
{
	keeper_yield(s);
	(void)sync_file_range(fd, (off_t)(first * BLOCK_SIZE), (off_t)((end - first) * BLOCK_SIZE),
			      SYNC_FILE_RANGE_WRITE);
}

static int write_pages(struct store *s, int fd, struct page_ref *refs, size_t count)
{
	AUTO_FREE uint8_t *scratch = malloc((count < PIECES ? count : PIECES) * BLOCK_SIZE);
	int r = scratch ? 0 : -ENOMEM;

	qsort(refs, count, sizeof(*refs), compare_pages);
	for (size_t i = 0, end, sent = 0; r == 0 && i < count; i = end) {
		for (end = i + 1; end < count && end - i < PIECES && refs[end].page == refs[end - 1].page + 1;)
			end++;
		r = fetch_bulk(s, refs + i, end - i, scratch);
		if (r == 0)
			r = write_run(fd, refs + i, end - i, scratch);
		if (r == 0 && end - sent >= SEND_PAGES) {
			send_home(s, fd, refs[sent].page, refs[end - 1].page + 1);
			sent = end;
		}
	}
	return r;
}

static bool is_durable(struct store *s, uint64_t seq)
{
	return seq && seq <= atomic_load(&s->durable_seq);
}

/* On a full disk: leaves out the pages that the current generation has released, durably. */
static size_t leave_out_released(struct store *s, uint64_t object, struct page_ref *refs, size_t count)
{
	size_t kept = 0;

	pthread_rwlock_rdlock(&s->overlay_lock);
	const struct dirty_object *now = map_get(&s->current->objects, object);

	for (size_t i = 0; i < count; i++) {
		bool released = false;

		for (size_t j = 0; now && is_durable(s, now->released_seq) && !released && j < now->released_count; j++)
			released = range_has(&now->released[j], refs[i].page);
		if (!released)
			refs[kept++] = refs[i];
	}
	pthread_rwlock_unlock(&s->overlay_lock);
	return kept;
}

static int release(struct store *s, uint64_t object, uint64_t first, uint64_t count)
{
	int r = first == 0 ? headers_clear(&s->home, object, 1) : 0;

	return r < 0 ? r : home_release(&s->home, object, first, count);
}

/* All but the header. */
static int write_object(struct store *s, struct dirty_object *o)
{
	struct home_file *f;
	size_t pos = 0, count = 0;
	uint64_t key;
	int r = 0;

	if (o->removed_seq)
		return home_remove(&s->home, o->number);
	for (size_t i = 0; r == 0 && i < o->released_count; i++)
		r = release(s, o->number, o->released[i].first, o->released[i].count);
	if (r < 0)
		return r;

	AUTO_FREE struct page_ref *refs = malloc((o->pages.count + 1) * sizeof(*refs));

	if (!refs)
		return -ENOMEM;
	for (const struct overlay_page *p; (p = map_next(&o->pages, &pos, &key));)
		if (key - 1)
			refs[count++] = (struct page_ref){ key - 1, p };
	if (s->stuck)
		count = leave_out_released(s, o->number, refs, count);
	if (!count)
		return 0;
	r = home_get(&s->home, o->number, true, &f);
	if (r < 0)
		return r;
	r = write_pages(s, f->fd, refs, count);
	home_put(&s->home, f);
	return r;
}

/* The headers of objects of one folder, in order of their numbers: those of removed ones are cleared, in runs. */
static int write_headers(struct store *s, struct dirty_object **objects, size_t count)
{
	AUTO_FREE struct page_ref *refs = malloc(count * sizeof(*refs));
	uint64_t first = objects[0]->number;
	const struct overlay_page *p;
	struct home_file *f;
	size_t n = 0;
	int r = refs ? 0 : -ENOMEM;

	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		for (end = i; end < count && objects[end]->removed_seq &&
			      objects[end]->number == objects[i]->number + (end - i);)
			end++;
		if (end > i) {
			r = headers_clear(&s->home, objects[i]->number, end - i);
			continue;
		}
		p = map_get(&objects[i]->pages, 0 + 1);
		if (p)
			refs[n++] = (struct page_ref){ headers_page(objects[i]->number), p };
		end = i + 1;
	}
	if (r == 0 && !n && headers_are_clear(&s->home, first))
		home_drop_folder(&s->home, first);
	if (r < 0 || !n)
		return r;
	r = home_get(&s->home, headers_file(first), true, &f);
	if (r < 0)
		return r;
	r = write_pages(s, f->fd, refs, n);
	home_put(&s->home, f);
	return r;
}

/* Where the objects of the folder of the first one end. */
static size_t folder_end(struct dirty_object **objects, size_t first, size_t count)
{
	size_t end = first + 1;

	while (end < count && objects[end]->number >> FOLDER_SHIFT == objects[first]->number >> FOLDER_SHIFT)
		end++;
	return end;
}

/* An object that the current generation has removed, durably, needs nothing written any more. */
static bool removed_since(struct store *s, uint64_t object)
{
	pthread_rwlock_rdlock(&s->overlay_lock);
	const struct dirty_object *o = map_get(&s->current->objects, object);
	bool removed = o && is_durable(s, o->removed_seq);

	pthread_rwlock_unlock(&s->overlay_lock);
	return removed;
}

static int sync_file(struct store *s, uint64_t file)
{
	struct home_file *f;
	int r = home_get(&s->home, file, false, &f);

	if (r < 0)
		return r == -ENOENT ? 0 : r; /* nothing of it is home, or it was removed meanwhile */
	r = store_sync_home(s, f->fd, fdatasync);
	home_put(&s->home, f);
	return r;
}

/* Files, headers and names, folder by folder. */
static int sync_folders(struct store *s, struct dirty_object **objects, size_t count)
{
	int r = 0;

	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		end = folder_end(objects, i, count);
		for (size_t j = i; r == 0 && j < end; j++)
			if (!objects[j]->removed_seq)
				r = sync_file(s, objects[j]->number);
		if (r == 0)
			r = sync_file(s, headers_file(objects[i]->number));
		if (r == 0)
			r = home_sync_name(&s->home, objects[i]->number);
		if (r == -ENOENT) /* a folder that is not there: none of them has a file */
			r = 0;
	}
	return r;
}

static int sync_objects(struct store *s, struct dirty_object **objects, size_t count)
{
	AUTO_FREE bool *is_new = malloc((count + 1) * sizeof(*is_new));
	int r;

	if (!is_new)
		return -ENOMEM;
	/* A file that is made meanwhile, by a direct write to an object of which only the header goes home, stays new. */
	for (size_t i = 0; i < count; i++)
		is_new[i] = home_name_is_new(&s->home, objects[i]->number);
	keeper_yield(s);
	if (count > SYNC_EACH_MAX || s->home.order_free)
		r = store_sync_home(s, s->backing_fd, syncfs);
	else
		r = sync_folders(s, objects, count);
	for (size_t i = 0; r == 0 && i < count; i++)
		if (is_new[i])
			home_name_synced(&s->home, objects[i]->number);
	return r;
}

struct given_back {
	uint64_t object;
	bool removed; /* the whole file; else: */
	struct range range;
};

/* What the durable log says that the current generation gives back. *ret is malloc'ed. */
static int list_given_back(struct store *s, struct given_back **ret, size_t *ret_count)
{
	size_t pos = 0, room = 1, count = 0;
	struct dirty_object *o;

	pthread_rwlock_rdlock(&s->overlay_lock);
	while ((o = map_next(&s->current->objects, &pos, NULL)))
		room += 1 + o->released_count;
	struct given_back *list = malloc(room * sizeof(*list));

	pos = 0;
	while (list && (o = map_next(&s->current->objects, &pos, NULL))) {
		if (is_durable(s, o->removed_seq))
			list[count++] = (struct given_back){ o->number, true, { 0 } };
		else if (is_durable(s, o->released_seq))
			for (size_t i = 0; i < o->released_count; i++)
				list[count++] = (struct given_back){ o->number, false, o->released[i] };
	}
	pthread_rwlock_unlock(&s->overlay_lock);
	*ret = list;
	*ret_count = count;
	return list ? 0 : -ENOMEM;
}

/* On a full disk: what the current generation gives back is given back now, ahead of its turn. Its log is made durable first;
 * what it wrote after a release is in memory. */
static int release_early(struct store *s)
{
	AUTO_FREE struct given_back *list = NULL;
	size_t count = 0;
	int r = store_sync_all(s);

	if (r == 0)
		r = list_given_back(s, &list, &count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = list[i].removed ? home_remove(&s->home, list[i].object)
				    : release(s, list[i].object, list[i].range.first, list[i].range.count);
		if (r == 0 && list[i].removed) {
			r = headers_clear(&s->home, list[i].object, 1);
			r = is_full(r) ? 0
				       : r; /* there is more where it came from; and it is cleared again in its turn */
		}
	}
	return r;
}

static int write_generation(struct store *s)
{
	struct generation *g = s->frozen;
	AUTO_FREE struct dirty_object **objects = malloc((g->objects.count + 1) * sizeof(*objects));
	size_t pos = 0, count = 0;
	int r = objects ? 0 : -ENOMEM;

	for (struct dirty_object *o; objects && (o = map_next(&g->objects, &pos, NULL));)
		if (o->number && !removed_since(s, o->number))
			objects[count++] = o;
	if (r == 0)
		qsort(objects, count, sizeof(struct dirty_object *), compare_objects);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = write_object(s, objects[i]);
	for (size_t i = 0, end; r == 0 && i < count; i = end) {
		end = folder_end(objects, i, count);
		r = write_headers(s, objects + i, end - i);
	}
	return r < 0 ? r : sync_objects(s, objects, count);
}

/* The released map need only name objects whose release may still be replayed. */
static void prune_released(struct store *s)
{
	struct map kept = { 0 };
	size_t pos = 0;
	uint64_t key;

	for (void *value; (value = map_next(&s->released, &pos, &key));)
		if ((uintptr_t)value >= s->oldest && map_put(&kept, key, value) < 0) {
			map_free(&kept);
			return; /* an old entry only keeps data on the way through the log */
		}
	map_free(&s->released);
	s->released = kept;
}

static void set_stuck(struct store *s, bool stuck)
{
	pthread_mutex_lock(&s->log_lock);
	if (stuck && !s->stuck)
		log_error("the backing file system is full: what was accepted stands in the log; remove something");
	s->stuck = stuck;
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->log_lock);
}

/* Space was promised for every page, but the backing file system needs some for itself. What is given up is taken back before
 * anything new is accepted. */
bool store_give_reserve(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	return log_give_reserve(&s->log) || (s->log_forgotten && log_give_idle(&s->log));
}

int store_checkpoint(struct store *s)
{
	int r = write_generation(s);

	if (is_full(r)) {
		set_stuck(s, true);
		r = release_early(s);
		if (r == 0)
			r = write_generation(s);
		if (is_full(r) && store_give_reserve(s))
			r = write_generation(s);
		if (is_full(r))
			return r;
	}
	if (r < 0) {
		store_fail(s, "writing home", r);
		set_stuck(s, s->stuck);
		return r;
	}
	set_stuck(s, false);
	if (s->mode == STORE_ACTIVE) {
		/* What the next generation repeats of this one must be durable before this one's segment is reused. */
		r = store_sync_log(s, s->first_seq);
		if (r < 0)
			return r;
		r = log_start_segment(&s->log, !s->log.current, s->next_generation++);
		if (r < 0)
			store_fail(s, "preparing a segment of the log", r);
	}
	pthread_mutex_lock(&s->log_lock);
	struct generation *done = s->frozen;

	pthread_rwlock_wrlock(&s->overlay_lock);
	s->frozen = NULL;
	pthread_rwlock_unlock(&s->overlay_lock);
	s->oldest = s->current->number;
	s->checkpoints++;
	s->home_pages += done->page_count;
	prune_released(s);
	pthread_cond_broadcast(&s->room);
	pthread_mutex_unlock(&s->log_lock);
	generation_free(done);
	return r;
}
