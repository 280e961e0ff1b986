/* Scopes that are locked, unlocked, and wrapped by other keys. */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

/* ---- locking and unlocking ---- */

void keeper_lock_scope(struct volume *v, uint32_t scope, enum scope_state state)
{
	struct drop *d;

	/* What was written to the scope gets home, or is refused, only in a volume that takes changes. */
	if (atomic_load(&v->frozen) && v->keeper.kernel.thaw)
		v->keeper.kernel.thaw(v->keeper.kernel.arg, "a scope was locked");
	gate_close(v);
	keys_set_flushing(v->keys, scope, true);
	cache_flush_only(v, scope, true);
	gate_open(v);
	d = drop_start(v, scope);
	drop_wait(d, v->keeper.flush);
	gate_close(v);
	cache_drop(v, scope);
	keys_lock(v->keys, scope);
	wipe_traces();
	gate_open(v);
	keeper_set_state(v, scope, state, false, 0);
	drop_finish(v, scope, d);
}

static enum scope_state state_of_error(int r)
{
	switch (r) {
	case -ENOKEY:
		return STATE_UNPROVIDED;
	case -ENOENT:
	case -EACCES:
	case -EBADMSG:
	case -EINVAL:
	case -EUCLEAN:
		return STATE_REVOKED;
	default:
		return STATE_UNREACHABLE;
	}
}

int keeper_begin(struct volume *v)
{
	int r = keeper_statuses_make(v);

	for (size_t i = 0; r == 0 && i < v->status_count; i++) {
		const struct scope_entry *s = &v->d->scopes[i];
		int outcome = keys_outcome(v->keys, s->number);
		bool open = outcome == 0;

		v->statuses[i].state = s->disabled                           ? STATE_DISABLED
				       : !open                               ? state_of_error(outcome)
				       : keys_has_source(v->keys, s->number) ? STATE_ACTIVE
									     : STATE_RECOVERED;
		v->statuses[i].open = open;
		v->statuses[i].since = v->statuses[i].checked = time(NULL);
		if (!open)
			log_warning("scope %s is closed to everybody: %s", s->name,
				    scope_state_name(v->statuses[i].state));
	}
	return r;
}

/* What was removed while its header could not be written has a link too many in it. */
static void settle_orphans(struct volume *v, uint32_t scope)
{
	GATE_SCOPE(v);
	size_t count;
	AUTO_FREE uint64_t *numbers = orphans_list(v, &count);

	for (size_t i = 0; i < count; i++) {
		struct object *o;
		struct change ch;
		struct meta *m;

		if (change_begin(v, &ch, BLOCK_SIZE, ROOM_REMOVAL) < 0)
			continue;
		if (change_pin(&ch, numbers[i], &o) == 0 && change_object(&ch, o, &m) == 0 && meta_needs(m, scope) &&
		    m->nlink) {
			meta_names_clear(m);
			m->nlink = 0;
			(void)change_commit(&ch);
		} else {
			change_abort(&ch);
		}
	}
}

void keeper_settle(struct volume *v)
{
	struct descriptor *d = volume_descriptor(v);

	for (size_t i = 0; d && i < d->scope_count; i++)
		if (keeper_status(v, d->scopes[i].number).open)
			settle_orphans(v, d->scopes[i].number);
	descriptor_free(d);
}

void keeper_heard_of_locked(struct volume *v, const struct scope_entry *s, int outcome, struct opened_scope *o)
{
	bool recovered;

	keeper_note_check(v, s->number);
	if (outcome < 0) {
		keeper_set_state(v, s->number, state_of_error(outcome), false, 0);
		return;
	}
	gate_close(v);
	keys_take_scope(v->keys, &o);
	gate_open(v);
	trail_retired(v, s);
	recovered = !keys_has_source(v->keys, s->number);
	keeper_set_state(v, s->number, recovered ? STATE_RECOVERED : STATE_ACTIVE, true, 0);
	if (!volume_rests(v))
		settle_orphans(v, s->number);
	keeper_ask_soon(v, s->number);
}

int keeper_ask_of_locked(const struct asking *a, struct opened_scope **ret)
{
	struct scope_entry s = a->s;

	if (a->status.state == STATE_REVOKED || a->status.state == STATE_UNREACHABLE)
		keys_leave_recovery(&s);
	return keys_open_scope(a->v->keys, &s, NULL, ret);
}

int keeper_open_scope(struct volume *v, uint32_t scope)
{
	struct opened_scope *o = NULL;
	struct asking a;
	int r = asking_begin(v, scope, &a);

	if (r < 0)
		return r;
	pthread_mutex_unlock(&v->key_lock);
	r = keeper_ask_of_locked(&a, &o);
	pthread_mutex_lock(&v->key_lock);
	if (asking_check_holds(&a) == 0) {
		keeper_heard_of_locked(v, &a.s, r, o);
	} else {
		opened_scope_free(o);
		r = -EAGAIN;
	}
	asking_end(&a);
	return r;
}

/* ---- wrapping anew ---- */

void keeper_wrapped(struct volume *v, const struct scope_entry *s, int64_t until)
{
	trail_scope(v, s, "key-wrapped", 0, "the scope's keys are wrapped by this key from now on");
	keeper_note_check(v, s->number);
	keeper_set_state(v, s->number, STATE_ACTIVE, true, until);
	log_notice("scope %s: its keys are wrapped by %s, key %s version %u", s->name, s->key_uri, s->kek_id,
		   s->kek_version);
}

static int rewrap(struct asking *a, const char *uri, struct secret **provided, struct opened_source **ret_source)
{
	struct scope_entry before = a->s;
	struct volume *v = a->v;
	int r;

	pthread_mutex_unlock(&v->key_lock);
	r = keys_rewrap(v->keys, a->source, &a->s, uri, provided, ret_source);
	pthread_mutex_lock(&v->key_lock);
	trail_retired(v, &before);
	if (r == 0)
		r = asking_check_holds(a);
	return r == 0 ? keeper_store(v, &a->s) : r;
}

int keeper_rewrap(struct volume *v, uint32_t scope, const char *uri, struct secret **provided)
{
	struct opened_source *source = NULL;
	struct asking a;
	int r = asking_begin(v, scope, &a);

	if (r < 0)
		return r;
	r = asking_check_open(&a);
	if (r == 0)
		r = rewrap(&a, uri, provided, &source);
	if (r == 0 && source)
		keys_take_source(v->keys, scope, &source);
	if (r == 0)
		keeper_wrapped(v, &a.s, uri ? 0 : keeper_provided_until(v, scope));
	opened_source_free(source);
	asking_end(&a);
	return r;
}

int keeper_rewrap_platform(struct volume *v)
{
	struct descriptor *next = volume_descriptor(v);
	uint32_t before = next ? next->platform_version : 0;
	struct wrapped_key old = next ? next->platform_volume_key : (struct wrapped_key){ 0 };
	int r = next ? keys_rewrap_platform(v->keys, next) : -ENOMEM;

	if (r == 0 && (before != next->platform_version ||
		       memcmp(old.bytes, next->platform_volume_key.bytes, sizeof(old.bytes)) != 0)) {
		LOCK_SCOPE(&v->descriptor_lock);
		struct descriptor *now = descriptor_copy(v->d); /* numbers may have been reserved meanwhile */

		if (now) {
			now->platform_version = next->platform_version;
			now->platform_volume_key = next->platform_volume_key;
		}
		r = now ? keeper_store_descriptor(v, now) : -ENOMEM;
	}
	descriptor_free(next);
	return r;
}

int keeper_rewrap_infrastructure(struct volume *v, uint32_t scope)
{
	struct scope_entry s, before;
	int r = keeper_entry(v, scope, &s);

	before = s;
	if (r == 0)
		r = keys_rewrap_infrastructure(v->keys, &s);
	if (r < 0 || (before.infra_kek_version == s.infra_kek_version && !strcmp(before.infra_kek_id, s.infra_kek_id)))
		return r;
	r = keeper_store(v, &s);
	trail_scope(v, &s, "infrastructure-key-wrapped", r, s.infra_kek_id);
	if (r == 0)
		log_notice("scope %s: its infrastructure keys are wrapped by %s version %u", s.name, s.infra_kek_id,
			   s.infra_kek_version);
	return r;
}
