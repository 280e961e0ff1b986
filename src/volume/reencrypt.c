/* Work on all objects of a scope, by a thread of its own, while everybody goes on working: rewriting it under a new DEK version. That
 * there are older versions in the descriptor says that it is not done, and the clear part of an object's header says which version
 * it is under: nothing else need be remembered over a stop. A version is given up when no object is under it and all that made it
 * so is durable. */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

enum {
	SYNC_BLOCKS = 4096, /* so much at most waits to be durable when somebody else syncs */
	BEHIND_MS = 20,     /* pause while writing home does not keep up */
	SLACK_US = 100000,  /* so much of the time that a piece took too long the next ones may make up for */
};

/* ---- the thread's waits ---- */

/* While nothing is to be written it stops, too: the end of that wakes it. */
static bool is_stopped(struct volume *v)
{
	LOCK_SCOPE(&v->reencryptor.lock);
	return v->reencryptor.stop || volume_rests(v);
}

static void pause_until(struct volume *v, int64_t ms)
{
	struct reencryptor *t = &v->reencryptor;
	struct timespec until = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
	LOCK_SCOPE(&t->lock);

	while (!t->stop && pthread_cond_timedwait(&t->wake, &t->lock, &until) != ETIMEDOUT)
		;
}

/* ---- one pass over a scope's objects ---- */

struct pass {
	struct volume *v;
	uint32_t scope, version; /* what all of it is to be under */
	bool counting;
	struct reencryption progress;
	int64_t due;       /* microseconds: when the next piece may begin, where there is a limit */
	uint64_t unsynced; /* blocks */
};

static bool is_left(const struct pass *p, const struct prologue *o)
{
	return (o->scope == p->scope && o->dek_version != p->version) ||
	       (o->old_dek_version && o->old_scope == p->scope && o->old_dek_version != p->version);
}

static void count_one(struct pass *p, uint64_t number)
{
	GATE_SCOPE(p->v);
	struct prologue clear;
	struct object *o;

	if (object_peek(p->v, number, &clear) < 0 || !is_left(p, &clear))
		return;
	p->progress.objects++;
	if (object_get(p->v, number, &o) < 0)
		return;
	pthread_rwlock_rdlock(&o->lock);
	p->progress.blocks += o->removed ? 0 : o->m->blocks;
	pthread_rwlock_unlock(&o->lock);
	object_put(p->v, o);
}

/* What is on its way to another scope comes to its end there. */
static int rewrite_piece(struct pass *p, uint64_t number, bool *ret_done, unsigned *ret_blocks)
{
	GATE_SCOPE(p->v);
	struct rekey_target t = { p->scope, p->version };
	struct prologue clear;
	int r = object_peek(p->v, number, &clear);

	*ret_done = r == 0 && !is_left(p, &clear);
	if (r < 0 || *ret_done)
		return r;
	if (keys_access(p->v->keys, p->scope, p->version) != SCOPE_OPEN || volume_rests(p->v))
		return -ECANCELED;
	return rekey_piece(p->v, number, &t, true, ret_done, ret_blocks);
}

/* The limit may have come, or another one, just now: what was done before does not count. */
static void keep_to_rate(struct pass *p, unsigned blocks, uint32_t rate)
{
	uint64_t cost = (uint64_t)blocks * BLOCK_SIZE * 1000000 / ((uint64_t)rate << 20);
	int64_t now = clock_ms() * 1000, least = now - SLACK_US;

	p->due = (p->due > least ? p->due : least) + (int64_t)cost;
	if (p->due > now)
		pause_until(p->v, p->due / 1000);
}

/* Others come first: the disk's time is theirs, and so is what was asked not to be taken. */
static int give_way(struct pass *p, unsigned blocks)
{
	struct scope_entry s;
	int r = keeper_entry(p->v, p->scope, &s);

	p->unsynced += blocks;
	if (r == 0 && p->unsynced >= SYNC_BLOCKS) {
		p->unsynced = 0;
		r = store_sync_all(p->v->store);
	}
	while (r == 0 && store_is_behind(p->v->store) && !is_stopped(p->v))
		pause_until(p->v, clock_ms() + BEHIND_MS);
	if (r == 0 && s.reencrypt_rate)
		keep_to_rate(p, blocks, s.reencrypt_rate);
	return r;
}

static int rewrite_one(struct pass *p, uint64_t number)
{
	bool done = false, any = false;
	unsigned blocks;
	int r = 0;

	while (r == 0 && !done) {
		blocks = 0;
		r = is_stopped(p->v) ? -ECANCELED : rewrite_piece(p, number, &done, &blocks);
		if (r == -EBUSY) { /* the volume is frozen */
			pause_until(p->v, clock_ms() + BEHIND_MS);
			r = 0;
			continue;
		}
		any = any || (r == 0 && !done);
		p->progress.blocks_done += blocks;
		keeper_set_progress(p->v, p->scope, &p->progress);
		if (r == 0 && !done)
			r = give_way(p, blocks);
	}
	p->progress.objects_done += r == 0 && any;
	if (r == -EIO || r == -EACCES) { /* it is damaged, or a part of it is in a scope that is locked */
		log_error("object %" PRIu64 " cannot be rewritten under the new key: %s", number,
			  r == -EIO ? "it is damaged; remove it or bring it back from a copy"
				    : "a scope that it is in, too, is locked");
		p->progress.failed++;
	}
	return r == -ESTALE || r == -EIO || r == -EACCES ? 0 : r;
}

static int visit(void *arg, uint64_t number)
{
	struct pass *p = arg;

	if (!p->counting)
		return rewrite_one(p, number);
	count_one(p, number);
	return is_stopped(p->v) ? -ECANCELED : 0;
}

static int run_pass(struct pass *p, bool counting)
{
	p->counting = counting;
	return store_each_object(p->v->store, 0, UINT64_MAX, visit, p);
}

/* ---- the whole ---- */

/* Nothing is under the older versions any more, nor can anything come to be. */
static int give_up_old(struct pass *p)
{
	struct volume *v = p->v;
	LOCK_SCOPE(&v->key_lock);
	struct scope_entry s;
	int r = keeper_entry(v, p->scope, &s);
	size_t last;

	if (r < 0)
		return r;
	last = s.dek_count - 1;
	if (s.deks[last].version != p->version)
		return 0;
	s.deks[0] = s.deks[last];
	memset(s.deks + 1, 0, last * sizeof(s.deks[0]));
	s.dek_count = 1;
	s.reencrypt_rate = 0;
	r = keeper_store(v, &s);
	if (r < 0)
		return r;
	gate_close(v);
	r = keys_make_room(v->keys, v->d);
	gate_open(v);
	wipe_traces();
	trail_scope(v, &s, "reencrypted", 0, "all of the scope is under its new key, the older ones are given up");
	log_notice("scope %s: all of it is under version %u of its key, older ones are given up", s.name, p->version);
	return r;
}

/* The descriptor has a new version before anything is sealed under it. Once it is what new objects get, nothing comes under an
 * older one any more. */
static bool is_in_force(const struct pass *p)
{
	GATE_SCOPE(p->v);
	return keys_current_version(p->v->keys, p->scope) == p->version;
}

static int reencrypt(struct pass *p)
{
	int r = is_in_force(p) ? run_pass(p, true) : -ECANCELED;

	p->progress.running = true;
	keeper_set_progress(p->v, p->scope, &p->progress);
	if (r == 0)
		r = run_pass(p, false);
	if (r == 0)
		r = store_sync_all(p->v->store);
	if (r < 0 || p->progress.failed)
		return r;

	struct pass again = { .v = p->v, .scope = p->scope, .version = p->version };

	r = run_pass(&again, true);
	if (r == 0 && again.progress.objects) {
		log_error("scope number %u: %" PRIu64 " objects are under an older key still", p->scope,
			  again.progress.objects);
		p->progress.failed = again.progress.objects;
	}
	return r < 0 || p->progress.failed ? r : give_up_old(p);
}

/* The next scope to be rewritten; false: there is none that can be. */
static bool find_next(struct volume *v, struct pass *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	for (size_t i = 0; i < v->status_count; i++) {
		const struct scope_entry *s = descriptor_scope(v->d, v->statuses[i].number);

		if (!s || s->dek_count == 1 || !v->statuses[i].open || v->statuses[i].reencryption.failed)
			continue;
		*ret = (struct pass){
			.v = v,
			.scope = s->number,
			.version = s->deks[s->dek_count - 1].version,
		};
		return true;
	}
	return false;
}

/* False: something stopped it that may pass, such as a full disk. */
static bool run_all(struct volume *v)
{
	struct pass p;

	while (!is_stopped(v) && find_next(v, &p)) {
		int r = reencrypt(&p);

		p.progress.running = false;
		keeper_set_progress(v, p.scope, &p.progress);
		if (r < 0 && r != -ECANCELED)
			log_error("rewriting scope number %u under its new key stopped: %s", p.scope, strerror(-r));
		if (r < 0)
			return r == -ECANCELED;
	}
	return true;
}

/* ---- what lost its directories ---- */

struct search {
	struct volume *v;
	uint32_t scope;
	uint64_t lost;
};

/* -ECANCELED: the scope is locked; who is not looked at now is when it is opened. */
static int is_lost(const struct search *s, uint64_t number)
{
	GATE_SCOPE(s->v);
	struct prologue p;

	if (keys_access(s->v->keys, s->scope, keys_current_version(s->v->keys, s->scope)) != SCOPE_OPEN)
		return -ECANCELED;
	return object_peek(s->v, number, &p) == 0 && prologue_needs(&p, s->scope) &&
	       lost_is_needed(s->v, number, NO_SCOPE);
}

static int look_at_one(void *arg, uint64_t number)
{
	struct search *s = arg;
	int r = is_stopped(s->v) ? -ECANCELED : is_lost(s, number);

	if (r <= 0)
		return r;
	r = 0;
	if (!s->lost)
		r = lost_directory(s->v, &s->lost);
	return r < 0 ? r : lost_rescue(s->v, number, s->lost, NO_SCOPE);
}

static bool find_search(struct volume *v, struct search *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	for (size_t i = 0; i < v->status_count; i++) {
		const struct scope_entry *s = descriptor_scope(v->d, v->statuses[i].number);

		if (!s || !s->look_for_lost || !v->statuses[i].open)
			continue;
		*ret = (struct search){ .v = v, .scope = s->number };
		return true;
	}
	return false;
}

static int end_search(const struct search *s)
{
	LOCK_SCOPE(&s->v->key_lock);
	struct scope_entry e;
	int r = keeper_entry(s->v, s->scope, &e);

	e.look_for_lost = false;
	return r < 0 ? r : keeper_store(s->v, &e);
}

static int look_for_lost(struct volume *v)
{
	struct search s;
	int r = 0;

	while (r == 0 && find_search(v, &s)) {
		r = store_each_object(v->store, 0, UINT64_MAX, look_at_one, &s);
		if (r == 0)
			r = end_search(&s);
	}
	return r;
}

static void *run(void *arg)
{
	struct volume *v = arg;
	struct reencryptor *t = &v->reencryptor;
	bool through = true;

	for (;;) {
		pthread_mutex_lock(&t->lock);
		while (through && !t->wanted && !t->stop)
			pthread_cond_wait(&t->wake, &t->lock);
		bool stop = t->stop;

		t->wanted = false;
		pthread_mutex_unlock(&t->lock);
		if (stop)
			return NULL;
		if (!through)
			pause_until(v, clock_ms() + (int64_t)v->keeper.poll * 1000);
		int r = look_for_lost(v);

		through = run_all(v) && (r == 0 || r == -ECANCELED);
	}
}

void reencrypt_init(struct volume *v)
{
	pthread_condattr_t clock;

	pthread_mutex_init(&v->reencryptor.lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&v->reencryptor.wake, &clock);
	pthread_condattr_destroy(&clock);
}

void reencrypt_free(struct volume *v)
{
	pthread_cond_destroy(&v->reencryptor.wake);
	pthread_mutex_destroy(&v->reencryptor.lock);
}

int reencrypt_start(struct volume *v)
{
	struct reencryptor *t = &v->reencryptor;
	int r;

	if (v->read_only)
		return 0;
	t->stop = false;
	t->wanted = true;
	r = -pthread_create(&t->thread, NULL, run, v);
	t->runs = r == 0;
	return r;
}

void reencrypt_stop(struct volume *v)
{
	struct reencryptor *t = &v->reencryptor;

	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	if (t->runs)
		pthread_join(t->thread, NULL);
	t->runs = false;
}

void reencrypt_wake(struct volume *v)
{
	LOCK_SCOPE(&v->reencryptor.lock);
	v->reencryptor.wanted = true;
	pthread_cond_signal(&v->reencryptor.wake);
}

/* ---- beginning ---- */

/* Durable before anything is sealed under it. */
static int take_new(struct volume *v, const struct scope_entry *s, struct opened_scope **o)
{
	int r = keeper_store(v, s);

	if (r < 0)
		return r;
	gate_close(v);
	r = keys_make_room(v->keys, v->d);
	if (r == 0)
		keys_take_deks(v->keys, o);
	gate_open(v);
	if (r < 0)
		return r;
	trail_scope(v, s, "dek-made", 0, "objects are rewritten under a new version of the scope's key");
	log_notice("scope %s: version %u of its key is made, and its objects are rewritten under it", s->name,
		   s->deks[s->dek_count - 1].version);
	return 0;
}

static int begin(struct volume *v, struct asking *a, unsigned rate)
{
	struct scope_entry before = a->s;
	struct opened_scope *o = NULL;
	int r = asking_check_open(a);

	if (r < 0)
		return r;
	pthread_mutex_unlock(&v->key_lock);
	r = keys_new_dek(v->keys, a->source, &a->recovery, &a->s, &o);
	pthread_mutex_lock(&v->key_lock);
	trail_retired(v, &before);
	a->s.reencrypt_rate = rate;
	if (r == 0)
		r = asking_check_holds(a);
	if (r == 0)
		r = take_new(v, &a->s, &o);
	opened_scope_free(o);
	return r;
}

/* It is under way, and goes on at another rate. */
static int go_on(struct volume *v, struct asking *a, unsigned rate)
{
	if (!a->status.open) {
		log_error("scope %s is locked: rewriting it goes on when it is unlocked", a->s.name);
		return -ENOKEY;
	}
	if (a->s.reencrypt_rate == rate)
		return 0;
	a->s.reencrypt_rate = rate;
	return keeper_store(v, &a->s);
}

int volume_reencrypt(struct volume *v, uint32_t scope, unsigned rate)
{
	LOCK_SCOPE(&v->key_lock);
	struct asking a;
	int r = 0;

	if (volume_rests(v) || store_failed(v->store)) {
		log_error("the volume is read-only: nothing in it can be rewritten");
		return -EROFS;
	}
	r = asking_begin(v, scope, &a);
	if (r < 0)
		return r;
	r = a.s.dek_count > 1 ? go_on(v, &a, rate) : begin(v, &a, rate);
	asking_end(&a);
	if (r < 0)
		return r;
	keeper_set_progress(v, scope, &(struct reencryption){ .pending = true, .running = true });
	reencrypt_wake(v);
	return 0;
}
