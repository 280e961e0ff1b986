/* The thread that writes generations home when it is time, and makes everything durable now and then. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include <coffer/util.h>

#include "internal.h"

enum {
	RETRY_SECONDS = 1,
	HOME_MS = 30000,   /* after so long a change goes home although there is room for more */
	NEAR_MS = 8,       /* after a sync the next one is taken to come within that time */
	YIELDS_MAX = 100,  /* milliseconds, of one piece */
	LOG_SHARE_MAX = 2, /* more than one part in so many of the log is used: there is no time to yield */
};

uint64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool somebody_syncs(struct store *s)
{
	return atomic_load(&s->syncing) || milliseconds() - atomic_load(&s->sync_ms) < NEAR_MS;
}

static bool may_yield(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	size_t size = s->log.segments[s->log.current].size;

	return s->mode == STORE_ACTIVE && !s->thread_stop && !s->stuck && !s->waiting &&
	       s->current->log_used < size / LOG_SHARE_MAX && s->current->bytes < MEMORY_MAX / 2;
}

void keeper_yield(struct store *s)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < YIELDS_MAX && somebody_syncs(s) && may_yield(s); i++)
		nanosleep(&pause, NULL);
}

/* Waits until there is work: a checkpoint (true), or the interval has passed (false). */
static bool keeper_wait(struct store *s)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until); /* setting the time must not stop the intervals */
	until.tv_sec += s->frozen ? RETRY_SECONDS : s->interval;
	LOCK_SCOPE(&s->log_lock);
	while (!s->wanted && !s->thread_stop)
		if (pthread_cond_timedwait(&s->wake, &s->log_lock, &until) == ETIMEDOUT)
			break;
	bool wanted = s->wanted || s->frozen;

	s->wanted = false;
	return wanted;
}

static void keeper_checkpoint(struct store *s)
{
	pthread_mutex_lock(&s->log_lock);
	if (!s->frozen || s->stuck) { /* what the current generation removed goes now (see release_early) */
		s->giving_back = s->gave_back;
		s->gave_back = false;
	}
	pthread_mutex_unlock(&s->log_lock);
	if (!s->frozen) {
		/* Most of the log is synced before anybody has to wait for it. */
		if (store_sync_all(s) < 0)
			return;
		if (store_rotate(s) < 0)
			return;
	}
	(void)store_checkpoint(s); /* has said what went wrong */
}

static bool has_given_back(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	return s->gave_back;
}

/* A copy of the backing directory that is made file by file while it changes has what was home when it began (FORMAT.md). */
static bool is_due(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	uint64_t t = milliseconds();

	if (s->current->last_seq == s->first_seq)
		s->dirty_since = 0;
	else if (!s->dirty_since)
		s->dirty_since = t;
	return s->dirty_since && t - s->dirty_since >= HOME_MS;
}

bool keeper_is_self(const struct store *s)
{
	return s->thread_known && pthread_equal(s->thread_self, pthread_self());
}

static void *keeper_run(void *arg)
{
	struct store *s = arg;

	pthread_mutex_lock(&s->log_lock);
	s->thread_self = pthread_self();
	s->thread_known = true;
	pthread_mutex_unlock(&s->log_lock);
	for (;;) {
		bool wanted = keeper_wait(s);

		pthread_mutex_lock(&s->log_lock);
		bool stop = s->thread_stop;

		pthread_mutex_unlock(&s->log_lock);
		if (stop)
			return NULL;
		if (s->failed) { /* no room will come: those who wait for it must see */
			pthread_mutex_lock(&s->log_lock);
			pthread_cond_broadcast(&s->room);
			pthread_mutex_unlock(&s->log_lock);
			continue;
		}
		if (!wanted) {
			if (s->on_interval)
				s->on_interval(s->on_interval_arg);
			(void)store_sync_all(s);
			wanted = has_given_back(s) || is_due(s); /* others may want the room */
		}
		if (wanted) {
			keeper_checkpoint(s);
			pthread_mutex_lock(&s->log_lock);
			s->attempts++;
			s->giving_back = false;
			pthread_cond_broadcast(&s->room);
			pthread_mutex_unlock(&s->log_lock);
			if (s->stuck) { /* do not spin: removals come with time */
				struct timespec pause = { .tv_nsec = 200000000 };

				nanosleep(&pause, NULL);
			}
		}
	}
}

int keeper_start(struct store *s)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = -pthread_create(&s->thread, NULL, keeper_run, s);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->thread_runs = r == 0;
	return r;
}

void keeper_stop(struct store *s)
{
	if (!s->thread_runs)
		return;
	pthread_mutex_lock(&s->log_lock);
	s->thread_stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->log_lock);
	pthread_join(s->thread, NULL);
	s->thread_runs = false;
}
