/* Changes, and holding them back while the volume is frozen.
 *
 * What waits does so here, copied, and not in a thread: threads are for those who read. The kernel does not send a request again, and
 * its processes wait for the answer, which they get after the thaw. Over io_uring a request that waits keeps its place in
 * the ring of its processor, so there reads wait, too, once a ring is full.
 *
 * A freeze ends by fs_thaw, after its time, or because somebody cannot wait for that; who asked for it learns that it had ended. */
#include <errno.h>
#include <time.h>

#include "fs_internal.h"

struct held {
	struct held *next;
	fuse_req_t req;
	struct entered entered;
	bool over_uring;
	struct change change;
	uint8_t bytes[]; /* what the change points to */
};

/* ---- changes ---- */

static size_t text_size(const char *s)
{
	return s ? strlen(s) + 1 : 0;
}

static const void *copy_bytes(uint8_t **at, const void *from, size_t size)
{
	uint8_t *to = *at;

	if (!from)
		return NULL;
	memcpy(to, from, size);
	*at += size;
	return to;
}

static struct held *held_new(fuse_req_t req, const struct change *c)
{
	size_t name = text_size(c->name), other = text_size(c->other_name);
	struct held *h = malloc(sizeof(*h) + name + other + c->size);
	uint8_t *at;

	if (!h)
		return NULL;
	at = h->bytes;
	h->next = NULL;
	h->req = req;
	h->entered = entered_op();
	h->over_uring = fuse_req_is_uring(req);
	h->change = *c;
	h->change.name = copy_bytes(&at, c->name, name);
	h->change.other_name = copy_bytes(&at, c->other_name, other);
	h->change.data = copy_bytes(&at, c->data, c->size);
	return h;
}

/* True: it waits, or has been answered. */
static bool hold_back(struct fs *f, fuse_req_t req, const struct change *c)
{
	struct held *h;
	LOCK_SCOPE(&f->freeze.lock);

	if (!atomic_load(&f->freeze.holding))
		return false;
	h = held_new(req, c);
	if (!h) {
		reply_result(req, -ENOMEM);
		return true;
	}
	*f->freeze.held_end = h;
	f->freeze.held_end = &h->next;
	return true;
}

static void run(struct fs *f, fuse_req_t req, const struct change *c)
{
	atomic_fetch_add(&f->freeze.under_way, 1);
	/* Who freezes says so first, and then waits for those under way. */
	if (!atomic_load(&f->freeze.holding) || !hold_back(f, req, c))
		c->run(f, req, c);
	atomic_fetch_sub(&f->freeze.under_way, 1);
}

void fs_change(fuse_req_t req, enum fs_op op, const struct change *c)
{
	struct fs *f = enter_plain(req, op);

	atomic_fetch_add_explicit(&f->changes, 1, memory_order_relaxed);
	run(f, req, c);
}

/* ---- freezing ---- */

static void wait_for_changes(struct fs *f)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	while (atomic_load(&f->freeze.under_way))
		nanosleep(&pause, NULL);
}

/* Holds nothing back any more; what waited is for `release`. */
static struct held *stop_holding(struct fs *f)
{
	LOCK_SCOPE(&f->freeze.lock);
	struct held *list = f->freeze.held;

	f->freeze.held = NULL;
	f->freeze.held_end = &f->freeze.held;
	atomic_store(&f->freeze.holding, false);
	return list;
}

/* In the order in which it came. */
static void release(struct fs *f, struct held *list)
{
	while (list) {
		struct held *h = list;

		list = h->next;
		resume_op(h->entered);
		if (!atomic_load(&f->freeze.ended))
			run(f, h->req, &h->change);
		else if (!h->over_uring) /* those of a ring went with it */
			reply_result(h->req, -EIO);
		free(h);
	}
}

/* state_lock is held. */
static struct held *thaw_locked(struct fs *f, const char *why)
{
	struct freeze *z = &f->freeze;

	z->until = 0;
	z->why = why;
	volume_thaw(f->volume);
	pthread_cond_broadcast(&z->changed);
	return stop_holding(f);
}

static void thaw(struct fs *f, const char *why)
{
	struct freeze *z = &f->freeze;
	struct held *list;

	pthread_mutex_lock(&z->state_lock);
	list = z->until ? thaw_locked(f, why) : NULL;
	pthread_mutex_unlock(&z->state_lock);
	release(f, list);
}

/* Who froze the volume may have died. */
static void *run_timer(void *arg)
{
	struct fs *f = arg;
	struct freeze *z = &f->freeze;
	struct held *list = NULL;
	bool over = false;

	pthread_mutex_lock(&z->state_lock);
	while (z->until && !over) {
		struct timespec until = { .tv_sec = z->until / 1000, .tv_nsec = z->until % 1000 * 1000000 };

		(void)pthread_cond_timedwait(&z->changed, &z->state_lock, &until);
		over = z->until && clock_ms() >= z->until;
	}
	if (over)
		list = thaw_locked(f, "its time was over");
	pthread_mutex_unlock(&z->state_lock);
	if (over)
		log_warning("nobody thawed the volume in the time that it was frozen for: it takes changes again");
	release(f, list);
	return NULL;
}

static void join_timer(struct freeze *z)
{
	if (z->timer_runs)
		pthread_join(z->timer, NULL);
	z->timer_runs = false;
}

static void hold(void *arg)
{
	struct fs *f = arg;

	atomic_store(&f->freeze.holding, true);
	wait_for_changes(f);
}

static void set_until(struct freeze *z, int64_t until)
{
	LOCK_SCOPE(&z->state_lock);
	z->until = until;
	z->why = NULL;
}

/* Of one that may be over already: a scope was locked, the volume unmounted. */
static int begin_timer(struct fs *f, unsigned seconds)
{
	struct freeze *z = &f->freeze;
	LOCK_SCOPE(&z->state_lock);

	if (!z->until)
		return -ECANCELED;
	z->until = clock_ms() + (int64_t)seconds * 1000;
	int r = -pthread_create(&z->timer, NULL, run_timer, f);

	z->timer_runs = r == 0;
	return r;
}

static int freeze_now(struct fs *f, unsigned seconds)
{
	int r;

	/* What was written before has to get home, and that is a change like any other. */
	volume_flush_kernel(f->volume);
	set_until(&f->freeze, INT64_MAX); /* from here on whoever cannot wait ends it */
	r = volume_freeze(f->volume, hold, f);
	if (r == 0)
		r = begin_timer(f, seconds);
	if (r < 0)
		thaw(f, NULL);
	return r;
}

int fs_freeze(struct fs *f, unsigned seconds)
{
	struct freeze *z = &f->freeze;
	int r;
	LOCK_SCOPE(&z->turn);

	if (fs_frozen_for(f)) {
		log_error("the volume is frozen already");
		return -EBUSY;
	}
	join_timer(z);
	if (atomic_load(&z->ended))
		return -EIO;
	r = freeze_now(f, seconds);
	if (r == 0)
		log_notice("frozen, for %u seconds at most", seconds);
	else if (is_full(r))
		log_error("not frozen: the backing file system is full, and what the log has cannot be written home");
	else if (r < 0)
		log_error("not frozen: %s", strerror(-r));
	return r;
}

int fs_thaw(struct fs *f)
{
	struct freeze *z = &f->freeze;
	LOCK_SCOPE(&z->turn);
	const char *why = NULL;

	pthread_mutex_lock(&z->state_lock);
	bool frozen = z->until;

	if (!frozen) {
		why = z->why;
		z->why = NULL;
	}
	pthread_mutex_unlock(&z->state_lock);
	if (frozen) {
		thaw(f, NULL);
		log_notice("thawed");
		return 0;
	}
	if (why)
		log_error("the freeze had ended before: %s; what was copied since may be torn", why);
	else
		log_error("the volume is not frozen");
	return -EALREADY;
}

void fs_end_freeze(void *arg, const char *why)
{
	struct fs *f = arg;

	if (fs_frozen_for(f))
		log_warning("the volume is not frozen any more: %s", why);
	thaw(f, why);
}

unsigned fs_frozen_for(struct fs *f)
{
	LOCK_SCOPE(&f->freeze.state_lock);
	int64_t left = f->freeze.until ? f->freeze.until - clock_ms() : 0;

	return !f->freeze.until ? 0 : left > 1000 ? (unsigned)(left / 1000) : 1;
}

void freeze_init(struct fs *f)
{
	struct freeze *z = &f->freeze;
	pthread_condattr_t clock;

	z->held_end = &z->held;
	pthread_mutex_init(&z->turn, NULL);
	pthread_mutex_init(&z->state_lock, NULL);
	pthread_mutex_init(&z->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&z->changed, &clock);
	pthread_condattr_destroy(&clock);
}

void freeze_end(struct fs *f)
{
	atomic_store(&f->freeze.ended, true);
	thaw(f, "the volume was unmounted");
	join_timer(&f->freeze);
}

void freeze_free(struct fs *f)
{
	struct freeze *z = &f->freeze;

	pthread_mutex_destroy(&z->turn);
	pthread_mutex_destroy(&z->state_lock);
	pthread_mutex_destroy(&z->lock);
	pthread_cond_destroy(&z->changed);
}
