/* A thread that has key sources asked, each in a thread of its own, so that none waits for another that hangs; and what it hears locks
 * and unlocks scopes, one after the other.
 */
#include <errno.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

enum {
	DAY = 24 * 60 * 60,
	AT_A_TIME =
		16, /* questions; those that take longer than SLOW_MS do not count: they must not keep others from being asked */
	SLOW_MS = 1000,
};

struct question {
	struct question *next;
	struct asking a;
	pthread_t thread;
	int64_t began_ms;
	bool answered; /* key_lock */
	/* The answer: the thread's until it is given. */
	int outcome; /* -ENOENT, of an open scope: there is nobody to ask */
	struct key_info info;
	struct opened_scope *opened; /* of one that was locked */
	bool wrapped, sealed;        /* a.s was changed: to be stored */
};

/* ---- asking: without key_lock ---- */

static void ask_of_open(struct question *q)
{
	struct asking *a = &q->a;
	const struct volume_keys *keys = a->v->keys;
	struct opened_source *none;
	bool newer;

	q->outcome = a->source ? keys_ask(a->source, &a->s, &q->info) : -ENOENT;
	if (volume_rests(a->v) || (q->outcome < 0 && q->outcome != -ENOENT) || q->info.state != KEY_ACTIVE)
		return;
	newer = q->outcome == 0 && (q->info.version != a->s.kek_version || strcmp(q->info.id, a->s.kek_id) != 0);
	if (newer)
		q->wrapped = keys_rewrap(keys, a->source, &a->s, NULL, NULL, &none) == 0;
	(void)keys_join_recovery(keys, a->source, &a->recovery, &a->s, &q->sealed);
}

static void ask_of_locked(struct question *q)
{
	log_mute(true); /* why it is locked was said when it was */
	q->outcome = keeper_ask_of_locked(&q->a, &q->opened);
	log_mute(false);
}

static void *run_question(void *arg)
{
	struct question *q = arg;
	struct volume *v = q->a.v;

	if (q->a.status.open)
		ask_of_open(q);
	else
		ask_of_locked(q);
	wipe_traces();
	LOCK_SCOPE(&v->key_lock);
	q->answered = true;
	pthread_cond_signal(&v->keeper.wake);
	return NULL;
}

static void question_free(struct question *q)
{
	opened_scope_free(q->opened);
	asking_end(&q->a);
	free(q);
}

static struct question *question_new(struct volume *v, uint32_t scope)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q || asking_begin(v, scope, &q->a) < 0) {
		free(q);
		return NULL;
	}
	q->began_ms = clock_ms();
	if (pthread_create(&q->thread, NULL, run_question, q) == 0)
		return q;
	log_error("no thread to ask for the key of scope %s; it is tried again", q->a.s.name);
	question_free(q);
	return NULL;
}

/* ---- acting on answers ---- */

static void key_is_unreachable(struct volume *v, uint32_t scope)
{
	struct scope_status now = keeper_status(v, scope);
	int64_t until = now.state == STATE_UNREACHABLE ? now.until : time(NULL) + v->keeper.grace;

	if (time(NULL) >= until)
		keeper_lock_scope(v, scope, STATE_UNREACHABLE);
	else
		keeper_set_state(v, scope, STATE_UNREACHABLE, true, until);
}

static void heard_of_open(struct volume *v, struct question *q)
{
	struct scope_entry *s = &q->a.s;
	int64_t until = keeper_provided_until(v, s->number);

	if (q->outcome != -ENOENT)
		keeper_note_check(v, s->number);
	if (q->outcome == -ENOENT)
		;
	else if (q->outcome < 0 || q->info.state == KEY_UNREACHABLE)
		key_is_unreachable(v, s->number);
	else if (q->info.state == KEY_REVOKED)
		keeper_lock_scope(v, s->number, STATE_REVOKED);
	else
		keeper_set_state(v, s->number, STATE_ACTIVE, true, until);
	if (volume_rests(v) || !keeper_status(v, s->number).open)
		return;
	if ((q->wrapped || q->sealed) && keeper_store(v, s) == 0 && q->wrapped)
		keeper_wrapped(v, s, until);
	(void)keeper_rewrap_infrastructure(v, s->number);
}

static void act_on(struct volume *v, struct question *q)
{
	struct scope_entry before;

	if (keeper_entry(v, q->a.s.number, &before) < 0)
		return;
	trail_retired(v, &before);
	if (!asking_holds(&q->a)) {
		keeper_ask_soon(v, before.number);
	} else if (q->a.status.open) {
		heard_of_open(v, q);
	} else {
		keeper_heard_of_locked(v, &q->a.s, q->outcome, q->opened);
		q->opened = NULL;
	}
}

static void take_answers(struct volume *v)
{
	struct question **link = &v->keeper.questions, *q;

	while ((q = *link)) {
		if (!q->answered) {
			link = &q->next;
			continue;
		}
		*link = q->next;
		pthread_join(q->thread, NULL);
		keeper_set_asking(v, q->a.s.number, false);
		if (!v->keeper.stop)
			act_on(v, q);
		question_free(q);
	}
}

/* The time of a provided key, or of one that cannot be asked for, is over. */
static void expire(struct volume *v)
{
	for (size_t i = 0; i < v->status_count; i++) {
		struct scope_status s = v->statuses[i];

		if (s.open && s.until && time(NULL) >= s.until)
			keeper_lock_scope(v, s.number, s.state == STATE_ACTIVE ? STATE_UNPROVIDED : STATE_UNREACHABLE);
	}
}

/* ---- the platform's keys: they are here, and nobody is waited for ---- */

static bool too_old(const struct volume *v, const struct key_info *info)
{
	return v->keeper.rotate_days && info->created &&
	       time(NULL) - info->created > (int64_t)v->keeper.rotate_days * DAY;
}

/* They age whether a scope uses them or not: each volume has its volume key wrapped by one. */
static void poll_platform(struct volume *v)
{
	struct key_info info;

	v->keeper.platform_ms = clock_ms();
	if (volume_rests(v))
		return;
	for (int i = PLATFORM_KEY; i <= INFRASTRUCTURE_KEY; i++)
		if (platform_describe_key(v->state_dir, (enum platform_key)i, &info) == 0 && too_old(v, &info))
			(void)platform_rotate(v->state_dir, (enum platform_key)i);
	if (platform_describe_key(v->state_dir, PLATFORM_KEY, &info) == 0)
		(void)keeper_rewrap_platform(v);
}

/* ---- when ---- */

static int64_t due_at(const struct volume *v, int64_t last_ms)
{
	return last_ms ? last_ms + v->keeper.poll * INT64_C(1000) : 0;
}

/* INT64_MAX: nobody is to be asked. */
static int64_t scope_due_at(const struct volume *v, const struct scope_status *s)
{
	if (s->asking || (!s->open && s->state != STATE_REVOKED && s->state != STATE_UNREACHABLE))
		return INT64_MAX;
	return due_at(v, s->asked_ms);
}

/* How many questions count; *ret_next: when one of them counts no more. */
static unsigned count_questions(const struct volume *v, int64_t *ret_next)
{
	unsigned count = 0;

	*ret_next = INT64_MAX;
	for (const struct question *q = v->keeper.questions; q; q = q->next) {
		if (clock_ms() >= q->began_ms + SLOW_MS)
			continue;
		count++;
		*ret_next = q->began_ms + SLOW_MS < *ret_next ? q->began_ms + SLOW_MS : *ret_next;
	}
	return count;
}

/* In turn: where many are due, each has been asked before one is asked again. */
static void ask_those_due(struct volume *v)
{
	int64_t next;
	unsigned count = count_questions(v, &next);

	for (size_t i = 0; i < v->status_count && count < AT_A_TIME; i++) {
		struct scope_status *s = &v->statuses[v->keeper.turn++ % v->status_count];
		struct question *q;

		if (scope_due_at(v, s) > clock_ms())
			continue;
		keeper_set_asking(v, s->number, true);
		q = question_new(v, s->number);
		if (!q) {
			keeper_set_asking(v, s->number, false);
			continue;
		}
		q->next = v->keeper.questions;
		v->keeper.questions = q;
		count++;
	}
}

void keeper_poll(struct volume *v)
{
	take_answers(v);
	expire(v);
	if (due_at(v, v->keeper.platform_ms) <= clock_ms())
		poll_platform(v);
	ask_those_due(v);
}

static int64_t next_poll(const struct volume *v)
{
	int64_t at = due_at(v, v->keeper.platform_ms), room;
	bool full = count_questions(v, &room) >= AT_A_TIME;

	at = full && room < at ? room : at;
	for (size_t i = 0; i < v->status_count; i++) {
		const struct scope_status *s = &v->statuses[i];
		int64_t due = full ? INT64_MAX : scope_due_at(v, s);
		int64_t over = s->open && s->until ? clock_ms() + (s->until - time(NULL)) * 1000 : INT64_MAX;

		at = due < at ? due : at;
		at = over < at ? over : at;
	}
	return at;
}

static void wait_until(struct volume *v, int64_t ms)
{
	struct timespec until = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	pthread_cond_timedwait(&v->keeper.wake, &v->key_lock, &until);
}

static void *run_keeper(void *arg)
{
	struct volume *v = arg;

	pthread_mutex_lock(&v->key_lock);
	while (!v->keeper.stop) {
		keeper_poll(v);
		if (!v->keeper.stop)
			wait_until(v, next_poll(v));
	}
	for (take_answers(v); v->keeper.questions; take_answers(v))
		pthread_cond_wait(&v->keeper.wake, &v->key_lock);
	pthread_mutex_unlock(&v->key_lock);
	return NULL;
}

int volume_keeper_start(struct volume *v, const struct kernel_cache *k)
{
	LOCK_SCOPE(&v->key_lock);
	int r;

	v->keeper.kernel = *k;
	v->keeper.stop = false;
	r = -pthread_create(&v->keeper.thread, NULL, run_keeper, v);
	v->keeper.runs = r == 0;
	return r < 0 ? r : reencrypt_start(v);
}

void volume_hurry(struct volume *v)
{
	atomic_store(&v->hurried, true);
}

void volume_keeper_stop(struct volume *v)
{
	reencrypt_stop(v);
	pthread_mutex_lock(&v->key_lock);
	bool runs = v->keeper.runs;

	v->keeper.stop = true;
	v->keeper.kernel = (struct kernel_cache){ 0 };
	pthread_cond_signal(&v->keeper.wake);
	pthread_mutex_unlock(&v->key_lock);
	if (runs)
		pthread_join(v->keeper.thread, NULL);
	v->keeper.runs = false;
}
