/* The states of scopes: a thread asks where their keys come from, and what it hears locks and unlocks them. */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

enum { DAY = 24 * 60 * 60 };

/* ---- locking and unlocking ---- */

void keeper_lock_scope(struct volume *v, uint32_t scope, enum scope_state state)
{
	struct drop *d;

	gate_close(v);
	keys_set_flushing(v->keys, scope, true);
	cache_flush_only(v, scope, true);
	gate_open(v);
	d = drop_start(v, scope);
	drop_wait(d, v->keeper.flush);
	gate_close(v);
	cache_drop(v, scope);
	keys_lock(v->keys, scope);
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
	size_t pos = 0, count = 0;
	uint64_t number, *numbers;

	pthread_mutex_lock(&v->cache_lock);
	numbers = malloc((v->orphans.count + 1) * sizeof(*numbers));
	while (numbers && map_next(&v->orphans, &pos, &number))
		numbers[count++] = number;
	pthread_mutex_unlock(&v->cache_lock);
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
	free(numbers);
}

/* What was locked when the recovery key was made joins when it is open; if that fails, with the next poll. */
static void join_recovery(struct volume *v, uint32_t scope)
{
	struct scope_entry s;
	bool sealed;

	if (keeper_entry(v, scope, &s) == 0 && keys_join_recovery(v->keys, v->d, &s, &sealed) == 0 && sealed)
		(void)keeper_store(v, &s);
}

int keeper_open_scope(struct volume *v, uint32_t scope, struct secret **provided)
{
	struct opened_scope *o = NULL;
	struct scope_entry s;
	bool recovered;
	int r = keeper_entry(v, scope, &s);

	if (r == 0)
		r = keys_open_scope(v->keys, &s, provided, &o);
	keeper_note_check(v, scope);
	if (r < 0) {
		keeper_set_state(v, scope, state_of_error(r), false, 0);
		return r;
	}
	gate_close(v);
	keys_take_scope(v->keys, &o);
	gate_open(v);
	recovered = !keys_has_source(v->keys, scope);
	keeper_set_state(v, scope, recovered ? STATE_RECOVERED : STATE_ACTIVE, true, 0);
	if (!v->read_only) {
		settle_orphans(v, scope);
		join_recovery(v, scope);
	}
	return 0;
}

/* ---- wrapping anew ---- */

int keeper_rewrap(struct volume *v, uint32_t scope, const char *uri, struct secret **provided)
{
	struct opened_source *source = NULL;
	struct scope_entry s;
	int r = keeper_entry(v, scope, &s);

	if (r == 0)
		r = keys_rewrap(v->keys, &s, uri, provided, &source);
	if (r == 0)
		r = keeper_store(v, &s);
	if (r < 0) {
		opened_source_free(source);
		return r;
	}
	trail_scope(v, &s, "key-wrapped", 0, "the scope's keys are wrapped by this key from now on");
	if (source)
		keys_take_source(v->keys, scope, &source);
	keeper_note_check(v, scope);
	keeper_set_state(v, scope, STATE_ACTIVE, true, 0);
	log_notice("scope %s: its keys are wrapped by %s, key %s version %u", s.name, s.key_uri, s.kek_id,
		   s.kek_version);
	return 0;
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

/* ---- asking ---- */

static bool too_old(const struct volume *v, const struct key_info *info)
{
	return v->keeper.rotate_days && info->created &&
	       time(NULL) - info->created > (int64_t)v->keeper.rotate_days * DAY;
}

static void key_is_active(struct volume *v, const struct scope_entry *s, const struct key_info *info)
{
	bool newer = info->version != s->kek_version || strcmp(info->id, s->kek_id) != 0;

	keeper_set_state(v, s->number, STATE_ACTIVE, true, keeper_status(v, s->number).until);
	if (v->read_only)
		return;
	if (!newer && too_old(v, info))
		newer = keys_rotate(v->keys, s->number) == 0;
	if (newer)
		(void)keeper_rewrap(v, s->number, NULL, NULL); /* tried again with the next poll */
}

static void key_is_unreachable(struct volume *v, uint32_t scope)
{
	struct scope_status now = keeper_status(v, scope);
	int64_t until = now.state == STATE_UNREACHABLE ? now.until : time(NULL) + v->keeper.grace;

	if (time(NULL) >= until)
		keeper_lock_scope(v, scope, STATE_UNREACHABLE);
	else
		keeper_set_state(v, scope, STATE_UNREACHABLE, true, until);
}

static void poll_open(struct volume *v, const struct scope_entry *s)
{
	struct scope_status now = keeper_status(v, s->number);
	struct key_info info;
	int r;

	if (now.until && now.state == STATE_ACTIVE && time(NULL) >= now.until) {
		keeper_lock_scope(v, s->number, STATE_UNPROVIDED);
		return;
	}
	r = keys_ask(v->keys, s->number, &info);
	if (r == -ENOENT)
		return; /* by the recovery key: nobody to ask */
	keeper_note_check(v, s->number);
	if (r < 0 || info.state == KEY_UNREACHABLE)
		key_is_unreachable(v, s->number);
	else if (info.state == KEY_REVOKED)
		keeper_lock_scope(v, s->number, STATE_REVOKED);
	else
		key_is_active(v, s, &info);
}

static void poll_scope(struct volume *v, uint32_t scope)
{
	struct scope_status now = keeper_status(v, scope);
	struct scope_entry s;

	if (keeper_entry(v, scope, &s) < 0)
		return;
	if (now.open) {
		poll_open(v, &s);
	} else if (now.state == STATE_REVOKED || now.state == STATE_UNREACHABLE) {
		log_mute(true); /* why it is locked was said when it was */
		(void)keeper_open_scope(v, scope, NULL);
		log_mute(false);
	}
	if (v->read_only || !keeper_status(v, scope).open)
		return;
	(void)keeper_rewrap_infrastructure(v, scope);
	join_recovery(v, scope);
}

/* The platform's keys age whether a scope uses them or not: each volume has its volume key wrapped by one. */
static void poll_platform(struct volume *v)
{
	struct key_info info;

	if (v->read_only)
		return;
	for (int i = PLATFORM_KEY; i <= INFRASTRUCTURE_KEY; i++)
		if (platform_describe_key(v->state_dir, (enum platform_key)i, &info) == 0 && too_old(v, &info))
			(void)platform_rotate(v->state_dir, (enum platform_key)i);
	if (platform_describe_key(v->state_dir, PLATFORM_KEY, &info) == 0)
		(void)keeper_rewrap_platform(v);
}

void keeper_poll(struct volume *v)
{
	struct descriptor *d = volume_descriptor(v);

	for (size_t i = 0; d && i < d->scope_count && !v->keeper.stop; i++)
		poll_scope(v, d->scopes[i].number);
	descriptor_free(d);
	poll_platform(v);
}

/* When to poll next: at the interval, or when the time of a provided key is over. */
static time_t next_poll(struct volume *v)
{
	LOCK_SCOPE(&v->descriptor_lock);
	time_t at = time(NULL) + v->keeper.poll;

	for (size_t i = 0; i < v->status_count; i++)
		if (v->statuses[i].open && v->statuses[i].until && v->statuses[i].until < at)
			at = v->statuses[i].until;
	return at;
}

static void *run_keeper(void *arg)
{
	struct volume *v = arg;

	pthread_mutex_lock(&v->key_lock);
	while (!v->keeper.stop) {
		struct timespec until = { .tv_sec = next_poll(v) };
		int r = pthread_cond_timedwait(&v->keeper.wake, &v->key_lock, &until);

		if (r == ETIMEDOUT && !v->keeper.stop)
			keeper_poll(v);
	}
	pthread_mutex_unlock(&v->key_lock);
	return NULL;
}

int volume_keeper_start(struct volume *v, const struct kernel_cache *k)
{
	LOCK_SCOPE(&v->key_lock);
	int r;

	v->keeper.kernel = *k;
	v->keeper.stop = false;
	poll_platform(v);
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
