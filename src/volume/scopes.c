/* What is known of scopes, beside the descriptor and in it; and how the descriptor is replaced by one with other keys. */
#include <errno.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

const char *scope_state_name(enum scope_state s)
{
	static const char *const names[] = {
		[STATE_ACTIVE] = "active",         [STATE_RECOVERED] = "recovered", [STATE_UNREACHABLE] = "unreachable",
		[STATE_REVOKED] = "revoked",       [STATE_LOCKED] = "locked",       [STATE_DISABLED] = "disabled",
		[STATE_UNPROVIDED] = "unprovided",
	};

	return names[s];
}

/* ---- what is known ---- */

static struct scope_status *find_status(struct volume *v, uint32_t scope)
{
	for (size_t i = 0; i < v->status_count; i++)
		if (v->statuses[i].number == scope)
			return &v->statuses[i];
	return NULL;
}

int keeper_statuses_make(struct volume *v)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *made = calloc(v->d->scope_count, sizeof(*made));

	if (!made)
		return -ENOMEM;
	for (size_t i = 0; i < v->d->scope_count; i++) {
		const struct scope_status *old = find_status(v, v->d->scopes[i].number);

		made[i] = old ? *old
			      : (struct scope_status){ .number = v->d->scopes[i].number,
						       .state = STATE_UNREACHABLE,
						       .changes = ++v->keeper.changes };
	}
	free(v->statuses);
	v->statuses = made;
	v->status_count = v->d->scope_count;
	return 0;
}

int keeper_entry(struct volume *v, uint32_t scope, struct scope_entry *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	const struct scope_entry *s = descriptor_scope(v->d, scope);

	if (!s)
		return -ENOENT;
	*ret = *s;
	return 0;
}

struct scope_status keeper_status(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->descriptor_lock);
	const struct scope_status *s = find_status(v, scope);

	return s ? *s : (struct scope_status){ .number = scope, .state = STATE_UNREACHABLE };
}

int64_t keeper_provided_until(struct volume *v, uint32_t scope)
{
	struct scope_status s = keeper_status(v, scope);

	return s.state == STATE_ACTIVE ? s.until : 0;
}

int asking_begin(struct volume *v, uint32_t scope, struct asking *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	const struct scope_entry *s = descriptor_scope(v->d, scope);
	const struct scope_status *status = find_status(v, scope);

	if (!s || !status)
		return -ENOENT;
	*ret = (struct asking){
		.v = v,
		.s = *s,
		.status = *status,
		.recovery = v->d->recovery,
		.source = keys_source(v->keys, scope),
	};
	return 0;
}

bool asking_holds(const struct asking *a)
{
	LOCK_SCOPE(&a->v->descriptor_lock);
	const struct scope_status *now = find_status(a->v, a->s.number);

	return now && now->changes == a->status.changes;
}

int asking_check_open(const struct asking *a)
{
	if (a->status.open)
		return 0;
	log_error("scope %s is locked: its keys can be changed when it is unlocked", a->s.name);
	return -ENOKEY;
}

int asking_check_holds(const struct asking *a)
{
	if (asking_holds(a))
		return 0;
	log_error("scope %s was changed by somebody else meanwhile: try again", a->s.name);
	return -EAGAIN;
}

void asking_end(struct asking *a)
{
	opened_source_free(a->source);
}

/* True: it is in another state than before; *ret is its entry. */
static bool change_state(struct volume *v, const struct scope_status *to, struct scope_entry *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *s = find_status(v, to->number);
	const struct scope_entry *e = descriptor_scope(v->d, to->number);
	bool changed = s && e && (s->state != to->state || s->open != to->open);

	if (!s || !e)
		return false;
	s->state = to->state;
	s->open = to->open;
	s->until = to->until;
	if (changed) {
		s->since = time(NULL);
		s->changes = ++v->keeper.changes;
	}
	/* What an object of another scope needs of this one may have been all that was missing. */
	for (size_t i = 0; changed && to->open && i < v->status_count; i++)
		v->statuses[i].reencryption.failed = 0;
	*ret = *e;
	return changed;
}

void keeper_set_state(struct volume *v, uint32_t scope, enum scope_state state, bool open, int64_t until)
{
	struct scope_status to = { .number = scope, .state = state, .open = open, .until = until };
	struct scope_entry s;

	if (!change_state(v, &to, &s))
		return;
	reencrypt_wake(v); /* one that was locked is not waited for, one that was opened can go on */
	log_line(state == STATE_ACTIVE ? LOG_LEVEL_NOTICE : LOG_LEVEL_WARNING, "scope %s is %s: %s", s.name,
		 open ? "open" : "closed to everybody", scope_state_name(state));
	trail_scope(v, &s,
		    !open                        ? "scope-locked"
		    : state == STATE_UNREACHABLE ? "key-unreachable"
						 : "scope-unlocked",
		    0, scope_state_name(state));
}

void keeper_set_asking(struct volume *v, uint32_t scope, bool asking)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *s = find_status(v, scope);

	if (!s)
		return;
	if (asking)
		s->asked_ms = clock_ms();
	s->asking = asking;
}

void keeper_ask_soon(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *s = find_status(v, scope);

	if (s)
		s->asked_ms = 0;
	pthread_cond_signal(&v->keeper.wake);
}

void keeper_set_progress(struct volume *v, uint32_t scope, const struct reencryption *p)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *s = find_status(v, scope);

	if (s)
		s->reencryption = *p;
}

void keeper_set_purging(struct volume *v, uint32_t scope, bool purging)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *s = find_status(v, scope);

	if (s)
		s->purging = purging;
}

void keeper_note_check(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct scope_status *s = find_status(v, scope);

	if (s)
		s->checked = time(NULL);
}

int volume_scope(struct volume *v, uint32_t number, struct scope_view *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	const struct scope_entry *e = descriptor_scope(v->d, number);
	const struct scope_status *s = find_status(v, number);

	if (!e || !s)
		return -ENOENT;
	*ret = (struct scope_view){
		.entry = *e,
		.state = s->state,
		.open = s->open,
		.since = s->since,
		.checked = s->checked,
		.until = s->until,
		.reencryption = s->reencryption,
	};
	ret->reencryption.pending = e->dek_count > 1;
	if (v->keeper.runs && s->state != STATE_LOCKED && s->state != STATE_DISABLED && s->state != STATE_UNPROVIDED &&
	    s->state != STATE_RECOVERED)
		ret->next_check = (s->checked ? s->checked : s->since) + v->keeper.poll;
	return 0;
}

struct descriptor *volume_descriptor(struct volume *v)
{
	LOCK_SCOPE(&v->descriptor_lock);

	return descriptor_copy(v->d);
}

/* ---- storing ---- */

static bool same_sources(const struct descriptor *a, const struct descriptor *b)
{
	if (a->scope_count != b->scope_count)
		return false;
	for (size_t i = 0; i < a->scope_count; i++)
		if (a->scopes[i].number != b->scopes[i].number || strcmp(a->scopes[i].key_uri, b->scopes[i].key_uri))
			return false;
	return true;
}

/* What was asked of a scope before its entry changed says nothing any more. */
static void note_changes(struct volume *v, const struct descriptor *next)
{
	for (size_t i = 0; i < next->scope_count; i++) {
		const struct scope_entry *s = &next->scopes[i], *old = descriptor_scope(v->d, s->number);
		struct scope_status *status = find_status(v, s->number);

		if (status && (!old || memcmp(old, s, sizeof(*s)) != 0))
			status->changes = ++v->keeper.changes;
	}
}

/* The pin announces what is to come, so that a crash at any instant leaves a descriptor that it accepts. */
int keeper_store_descriptor(struct volume *v, struct descriptor *next)
{
	int r = volume_rests(v) || store_failed(v->store) ? -EROFS : 0;

	if (r == -EROFS)
		log_error("the volume is read-only: its keys cannot be changed");
	if (r == 0 && v->state_dir && !same_sources(v->d, next))
		r = pin_prepare(v->state_dir, v->backing_fd, v->d, next);
	if (r == 0)
		r = descriptor_store(next, v->backing_fd, keys_descriptor_mac(v->keys));
	if (r < 0) {
		descriptor_free(next);
		return r;
	}
	note_changes(v, next);
	descriptor_free(v->d);
	v->d = next;
	/* If this fails the pin still accepts it, as announced; what is wrong has been logged. */
	if (v->state_dir)
		(void)pin_update(v->state_dir, v->backing_fd, v->d);
	return 0;
}

int keeper_store(struct volume *v, const struct scope_entry *s)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct descriptor *next = descriptor_copy(v->d);
	struct scope_entry *more;

	if (!next)
		return -ENOMEM;
	for (size_t i = 0; i < next->scope_count; i++) {
		if (next->scopes[i].number == s->number) {
			next->scopes[i] = *s;
			return keeper_store_descriptor(v, next);
		}
	}
	more = realloc(next->scopes, (next->scope_count + 1) * sizeof(*more));
	if (!more) {
		descriptor_free(next);
		return -ENOMEM;
	}
	next->scopes = more;
	next->scopes[next->scope_count++] = *s; /* numbers only grow */
	return keeper_store_descriptor(v, next);
}
