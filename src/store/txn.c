/* Transactions: room for them, their frames, and the commit. */
#include <assert.h>
#include <errno.h>
#include <sys/statvfs.h>

#include <coffer/util.h>

#include "internal.h"

enum {
	FRAMES_ROOM = 2048,       /* bytes of frames that every reservation includes */
	CHECKPOINT_AT = 32 << 20, /* bytes of log from which a generation goes home */
	SPACE_MARGIN = 256 << 10, /* bytes of backing space left for the backing file system's own metadata */
	SPACE_MS = 100,           /* for so long what was free is believed to be */
	REMOVAL_SHARE = 8,        /* one part in so many of the log is kept for what gives space back */
};

struct txn_page {
	uint64_t object, page;
	const uint8_t *data;
	size_t used;
	bool bulk;
};

/* Root may take more, but not all that is called free: the backing file system keeps some for its own metadata. */
static uint64_t look_at_space(struct store *s)
{
	struct statvfs fs;

	return fstatvfs(s->backing_fd, &fs) < 0 ? 0 : (uint64_t)fs.f_bavail * fs.f_frsize;
}

size_t store_dirty_bytes(const struct store *s)
{
	return (s->current->page_count + (s->frozen ? s->frozen->page_count : 0)) * BLOCK_SIZE;
}

/* Others may fill the disk, too. */
static bool space_is_old(struct store *s)
{
	uint64_t t = milliseconds();
	bool old = t - s->space_seen >= SPACE_MS;

	if (old)
		s->space_seen = t;
	return old;
}

static bool space_for(struct store *s, size_t payload)
{
	if (!log_hold_reserve(&s->log))
		return false;
	if (s->space >= s->space_pending + payload + SPACE_MARGIN && !space_is_old(s))
		return true;
	s->space = look_at_space(s);
	s->space_pending = store_dirty_bytes(s) + s->reserved; /* what others are about to write, too */
	return s->space >= s->space_pending + payload + SPACE_MARGIN;
}

static size_t log_limit(const struct store *s, bool removal)
{
	size_t size = s->log.segments[s->log.current].size;

	return removal ? size : size - size / REMOVAL_SHARE;
}

void want_checkpoint(struct store *s)
{
	s->wanted = true;
	pthread_cond_signal(&s->wake);
}

void wait_for_attempt(struct store *s, uint64_t attempts)
{
	s->waiting++;
	s->waits++;
	while (s->attempts == attempts && !s->failed)
		pthread_cond_wait(&s->room, &s->log_lock);
	s->waiting--;
}

/* Whether the next attempt to write home to end may find room that there is not now. */
static bool may_give_back(const struct store *s)
{
	return s->gave_back || s->giving_back;
}

/* Waits, with log_lock, until there is room for `need` bytes in the log and, unless for a removal, on the disk. */
static int wait_for_room(struct store *s, size_t need, enum room room)
{
	bool removal = room == ROOM_REMOVAL;
	unsigned drained = 0;

	for (;;) {
		if (s->failed)
			return -EROFS;
		if (s->quiet)
			return -EBUSY;
		size_t limit = log_limit(s, removal), used = s->current->log_used + s->reserved;
		uint64_t attempts = s->attempts;
		bool hopeless = s->stuck && !removal;

		if (hopeless && (!may_give_back(s) || drained++ == 2))
			return -ENOSPC;
		if (used + need > limit && s->frozen && !s->stuck && log_grow(&s->log))
			continue; /* a burst: it goes home when there is time */
		if (!hopeless && used + need <= limit && s->current->bytes < MEMORY_MAX) {
			if (room != ROOM_NEW || space_for(s, need))
				return 0;
			/* What is in memory may need less than was thought: see what is left once it is home. */
			if ((store_dirty_bytes(s) == 0 && !may_give_back(s)) || drained++ == 2)
				return -ENOSPC;
		} else if (SEGMENT_HEADER + need + FRAMES_ROOM > limit || (s->stuck && removal)) {
			return -ENOSPC;
		}
		want_checkpoint(s);
		/* Only the background thread makes room: where it asks for itself (on_interval), it would wait for ever. */
		if (keeper_is_self(s))
			return -EAGAIN;
		wait_for_attempt(s, attempts);
	}
}

bool store_has_room(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	return s->mode == STORE_ACTIVE && !s->stuck && !s->failed && space_for(s, s->max_payload);
}

bool store_is_behind(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	return s->frozen && s->current->log_used > CHECKPOINT_AT;
}

bool store_reclaim(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	uint64_t attempts = s->attempts;

	if (s->mode != STORE_ACTIVE || !may_give_back(s) || s->failed || keeper_is_self(s))
		return false;
	if (s->gave_back)
		want_checkpoint(s);
	wait_for_attempt(s, attempts);
	return true;
}

int store_settle_releases(struct store *s, uint64_t object)
{
	LOCK_SCOPE(&s->log_lock);
	while (s->mode == STORE_ACTIVE && !s->failed && has_release(s, object)) {
		uint64_t attempts = s->attempts;

		if (s->stuck)
			return -ENOSPC;
		want_checkpoint(s);
		wait_for_attempt(s, attempts);
	}
	return 0;
}

int store_begin(struct store *s, struct txn *t, size_t payload, enum room room)
{
	*t = (struct txn){ .store = s, .room = room };
	if (s->mode == STORE_RECOVERING)
		return 0;
	if (s->read_only)
		return -EROFS;
	size_t need = payload + FRAMES_ROOM + CHUNK_HEADER;

	LOCK_SCOPE(&s->log_lock);
	int r = wait_for_room(s, need, room);

	if (r < 0)
		return r;
	t->reserved = need;
	s->reserved += need;
	if (room == ROOM_NEW)
		s->space_pending += payload;
	if (s->current->log_used > CHECKPOINT_AT || s->current->log_used > log_limit(s, false) / 2 ||
	    s->current->bytes > MEMORY_MAX / 2)
		want_checkpoint(s);
	return 0;
}

static int add_frame(struct txn *t, const struct frame *f)
{
	if (t->frames_len + FRAME_SIZE > t->frames_size) {
		size_t size = t->frames_size ? t->frames_size * 2 : 32 * FRAME_SIZE;
		uint8_t *bigger = realloc(t->frames, size);

		if (!bigger)
			return -ENOMEM;
		t->frames = bigger;
		t->frames_size = size;
	}
	frame_encode(f, t->frames + t->frames_len);
	t->frames_len += FRAME_SIZE;
	return 0;
}

static int add_page(struct txn *t, const struct txn_page *p)
{
	if (t->page_count == t->page_size) {
		size_t size = t->page_size ? t->page_size * 2 : 16;
		struct txn_page *bigger = realloc(t->pages, size * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		t->pages = bigger;
		t->page_size = size;
	}
	t->pages[t->page_count++] = *p;
	return 0;
}

int txn_write(struct txn *t, uint64_t object, uint64_t page, const uint8_t *data, size_t used)
{
	return add_page(t, &(struct txn_page){ object, page, data, used, false });
}

int txn_write_bulk(struct txn *t, uint64_t object, uint64_t page, const uint8_t *data)
{
	return add_page(t, &(struct txn_page){ object, page, data, BLOCK_SIZE, true });
}

int txn_release(struct txn *t, uint64_t object, uint64_t first_page, uint64_t count)
{
	return add_frame(
		t, &(struct frame){ .kind = FRAME_RELEASE, .object = object, .page = first_page, .count = count });
}

int txn_remove(struct txn *t, uint64_t object)
{
	return add_frame(t, &(struct frame){ .kind = FRAME_REMOVE, .object = object });
}

int txn_orphan(struct txn *t, uint64_t object)
{
	return add_frame(t, &(struct frame){ .kind = FRAME_ORPHAN, .object = object });
}

int txn_adopt(struct txn *t, uint64_t object)
{
	return add_frame(t, &(struct frame){ .kind = FRAME_ADOPT, .object = object });
}

int txn_unsynced(struct txn *t, uint64_t object, uint64_t first_page, uint32_t count)
{
	return add_frame(
		t, &(struct frame){ .kind = FRAME_UNSYNCED, .object = object, .page = first_page, .count = count });
}

static bool released_here(const struct txn *t, size_t frames_len, const struct txn_page *p)
{
	for (size_t at = 0; at < frames_len; at += FRAME_SIZE) {
		struct frame f;

		if (frame_decode(t->frames + at, &f) == 0 && f.kind == FRAME_RELEASE && f.object == p->object &&
		    p->page >= f.page && (f.count == UINT64_MAX || p->page - f.page < f.count))
			return true;
	}
	return false;
}

/* The frame of a page: the whole of it when the generation first sees it (so that replay needs nothing of a home that may be
 * torn), else only what differs from what the log already says. */
static struct frame page_frame(const struct store *s, const struct txn_page *p, bool fresh)
{
	const struct overlay_page *old = fresh ? NULL : dirty_find(s->current, p->object, p->page);
	struct frame f = { .kind = FRAME_WRITE,
			   .object = p->object,
			   .page = p->page,
			   .length = (uint32_t)p->used,
			   .flags = FRAME_WHOLE };

	if (p->bulk)
		f.flags |= FRAME_BULK;
	if (p->bulk || !old || old->bulk || old->size != p->used)
		return f;
	size_t from = 0, to = p->used;

	while (from + 8 <= to && memcmp(p->data + from, old->data + from, 8) == 0)
		from += 8;
	while (to >= from + 8 && memcmp(p->data + to - 8, old->data + to - 8, 8) == 0)
		to -= 8;
	f.flags = 0;
	f.offset = (uint16_t)from;
	f.length = (uint32_t)(to - from);
	return f;
}

static int append_and_apply(struct store *s, const uint8_t *frames, size_t frames_len, const struct iovec *pieces,
			    int count, uint64_t *ret_seq)
{
	uint64_t seq = s->log.next_seq++;
	struct payload payload = { NULL, NOT_LOGGED, s->current->log_used + CHUNK_HEADER + frames_len };
	int r = 0;

	if (s->mode == STORE_ACTIVE) {
		size_t before = s->current->log_used;
		uint64_t began = clock_ns();

		payload.segment = s->log.current;
		r = log_append(&s->log, s->current->number, &s->current->log_used, seq, frames, frames_len, pieces,
			       count);
		timing_add(&s->append_times, clock_ns() - began, s->current->log_used - before, r < 0);
	}
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&s->overlay_lock);
	for (size_t at = 0; r == 0 && at < frames_len; at += FRAME_SIZE) {
		struct frame f;

		r = frame_decode(frames + at, &f);
		if (f.kind == FRAME_WRITE)
			payload.bytes = pieces->iov_base;
		if (r == 0)
			r = frame_apply(s, s->current, &f, &payload, seq);
		if (f.kind == FRAME_WRITE)
			payload.offset += pieces++->iov_len;
	}
	s->current->last_seq = seq;
	pthread_rwlock_unlock(&s->overlay_lock);
	if (r < 0)
		store_fail(s, "keeping a change in memory", r);
	else if (ret_seq)
		*ret_seq = seq;
	return r;
}

/* Any number of frames, in as many chunks as replay wants. */
int store_append_locked(struct store *s, const struct frame *frames, size_t count, uint64_t *ret_seq)
{
	enum { AT_ONCE = 32768 };
	static_assert(AT_ONCE * FRAME_SIZE <= COMMIT_MAX, "what is appended here is replayed");
	AUTO_FREE uint8_t *bytes = malloc((count < AT_ONCE ? count : AT_ONCE) * FRAME_SIZE);
	size_t chunks = (count + AT_ONCE - 1) / AT_ONCE;
	int r = 0;

	if (!bytes)
		return -ENOMEM;
	if (s->current->log_used + s->reserved + count * FRAME_SIZE + chunks * CHUNK_HEADER >
	    s->log.segments[s->log.current].size)
		return -ENOSPC;
	for (size_t at = 0, n; r == 0 && at < count; at += n) {
		n = count - at < AT_ONCE ? count - at : AT_ONCE;
		for (size_t i = 0; i < n; i++)
			frame_encode(&frames[at + i], bytes + i * FRAME_SIZE);
		r = append_and_apply(s, bytes, n * FRAME_SIZE, NULL, 0, ret_seq);
	}
	return r;
}

int store_commit(struct txn *t, uint64_t *ret_seq)
{
	struct store *s = t->store;
	size_t own = t->frames_len, payload = 0;
	AUTO_FREE struct iovec *pieces = malloc((t->page_count + 1) * sizeof(*pieces));
	int r = pieces ? 0 : -ENOMEM;

	pthread_mutex_lock(&s->log_lock);
	for (size_t i = 0; r == 0 && i < t->page_count; i++) {
		struct txn_page *p = &t->pages[i];
		struct frame f = page_frame(s, p, released_here(t, own, p));

		pieces[i] = (struct iovec){ (void *)(uintptr_t)(p->data + f.offset), f.length };
		payload += f.length;
		r = add_frame(t, &f);
	}
	if (r == 0 && s->mode == STORE_ACTIVE) {
		size_t others = s->reserved - t->reserved;

		if (s->failed)
			r = -EROFS;
		else if (t->frames_len > COMMIT_MAX || payload > COMMIT_MAX)
			r = -E2BIG; /* it would not be replayed */
		else if (s->current->log_used + others + chunk_size(t->frames_len, payload) >
			 s->log.segments[s->log.current].size)
			r = -ENOSPC;
	}
	if (r == 0)
		r = append_and_apply(s, t->frames, t->frames_len, pieces, (int)t->page_count, ret_seq);
	if (r == 0 && t->room == ROOM_REMOVAL)
		s->gave_back = true;
	pthread_mutex_unlock(&s->log_lock);
	store_abort(t);
	return r;
}

void store_abort(struct txn *t)
{
	struct store *s = t->store;

	if (!s)
		return;
	if (t->reserved) {
		pthread_mutex_lock(&s->log_lock);
		s->reserved -= t->reserved;
		if (s->quiet)
			pthread_cond_broadcast(&s->room);
		pthread_mutex_unlock(&s->log_lock);
	}
	if (t->writes_home)
		atomic_fetch_sub(&s->writing_home, 1);
	free(t->frames);
	free(t->pages);
	*t = (struct txn){ 0 };
}
