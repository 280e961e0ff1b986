/* Everything home and quiet, for a copy of the backing directory: see FORMAT.md, "Copies". */
#include <errno.h>

#include <coffer/util.h>

#include "internal.h"

/* The current generation has nothing but its first chunk, which repeats the orphans, and no other is on its way. */
static bool is_home(const struct store *s)
{
	return !s->frozen && !s->reserved && s->current->last_seq == s->first_seq;
}

static int bring_home(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	s->quiet = true;
	while (s->reserved && !s->failed) /* transactions that had begun */
		pthread_cond_wait(&s->room, &s->log_lock);
	while (!is_home(s)) {
		uint64_t attempts = s->attempts;

		if (s->failed)
			return -EIO;
		want_checkpoint(s);
		wait_for_attempt(s, attempts);
		if (s->stuck)
			return -ENOSPC;
	}
	return s->failed ? -EIO : 0;
}

int store_freeze(struct store *s)
{
	if (s->read_only || s->mode != STORE_ACTIVE)
		return 0;
	int r = bring_home(s);

	if (r == 0)
		r = store_sync_all(s);
	if (r < 0)
		store_thaw(s);
	return r;
}

void store_thaw(struct store *s)
{
	LOCK_SCOPE(&s->log_lock);
	s->quiet = false;
}
