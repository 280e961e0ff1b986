/* What administrators do with the keys of an open volume. */
#include <errno.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

int volume_scope_number(struct volume *v, const char *name, uint32_t *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	const struct scope_entry *s = descriptor_scope_named(v->d, name);

	if (!s) {
		log_error("there is no scope %s", name);
		return -ENOENT;
	}
	*ret = s->number;
	return 0;
}

/* ---- scopes ---- */

static int check_name(const char *name)
{
	size_t len = strlen(name);

	if (len && len < sizeof(((struct scope_entry *)0)->name) &&
	    strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len)
		return 0;
	log_error("a scope's name is made of up to 63 letters, digits, dots, dashes and underscores");
	return -EINVAL;
}

static int begin_scope(const struct descriptor *d, const char *name, enum suite suite, struct scope_entry *ret)
{
	int r = check_name(name);

	if (r < 0)
		return r;
	if (descriptor_scope_named(d, name)) {
		log_error("there is a scope %s already", name);
		return -EEXIST;
	}
	if (d->scope_count == SCOPES_MAX) {
		log_error("a volume has %d scopes at most", SCOPES_MAX);
		return -ENOSPC;
	}
	*ret = (struct scope_entry){ .number = d->scopes[d->scope_count - 1].number + 1, .suite = suite };
	strcpy(ret->name, name);
	return 0;
}

/* Its place is made first: then nothing can fail once it is stored. */
static int take_new_scope(struct volume *v, struct descriptor *d, const struct scope_entry *s, struct opened_scope **o)
{
	struct scope_entry *more = realloc(d->scopes, (d->scope_count + 1) * sizeof(*more));
	int r;

	if (!more)
		return -ENOMEM;
	d->scopes = more;
	d->scopes[d->scope_count++] = *s;
	gate_close(v);
	r = keys_make_room(v->keys, d);
	gate_open(v);
	if (r == 0)
		r = keeper_store(v, s);
	if (r == 0)
		r = keeper_statuses_make(v);
	if (r < 0)
		return r;
	gate_close(v);
	keys_take_scope(v->keys, o);
	gate_open(v);
	keeper_set_state(v, s->number, STATE_ACTIVE, true, 0);
	return 0;
}

/* Whether, since it was begun, nobody else made a scope, or a recovery key for it to join. */
static int check_scope(const struct descriptor *then, const struct descriptor *now, const struct scope_entry *s)
{
	struct scope_entry again;
	int r = begin_scope(now, s->name, s->suite, &again);

	if (r == 0 && (again.number != s->number || then->recovery.created != now->recovery.created ||
		       memcmp(then->recovery.public, now->recovery.public, PUBLIC_KEY_SIZE) != 0)) {
		log_error("the volume's keys were changed by somebody else meanwhile: try again");
		r = -EAGAIN;
	}
	return r;
}

int volume_scope_create(struct volume *v, const char *name, const char *uri, enum suite suite, struct secret *provided)
{
	LOCK_SCOPE(&v->key_lock);
	struct descriptor *then = volume_descriptor(v), *now = NULL;
	struct opened_scope *o = NULL;
	struct scope_entry s;
	int r = then ? begin_scope(then, name, suite, &s) : -ENOMEM;

	if (r == 0) {
		pthread_mutex_unlock(&v->key_lock);
		r = keys_new_scope(v->keys, &then->recovery, uri, &provided, &s, &o);
		pthread_mutex_lock(&v->key_lock);
	}
	if (r == 0)
		now = volume_descriptor(v);
	if (r == 0)
		r = now ? check_scope(then, now, &s) : -ENOMEM;
	if (r == 0)
		r = take_new_scope(v, now, &s, &o);
	if (r == 0)
		log_notice("scope %s was made, number %u, its key is %s", name, s.number, uri);
	opened_scope_free(o);
	descriptor_free(then);
	descriptor_free(now);
	secret_free(provided);
	return r;
}

int volume_scope_enable(struct volume *v, uint32_t scope, bool enabled)
{
	LOCK_SCOPE(&v->key_lock);
	struct scope_entry s;
	int r = keeper_entry(v, scope, &s);

	if (r < 0)
		return r;
	if (keeper_status(v, scope).purging) {
		log_error("scope %s is being purged", s.name);
		return -EBUSY;
	}
	if (s.disabled != !enabled) {
		s.disabled = !enabled;
		r = keeper_store(v, &s);
	}
	if (r < 0)
		return r;
	if (!enabled) {
		if (keeper_status(v, scope).open)
			keeper_lock_scope(v, scope, STATE_DISABLED);
		else
			keeper_set_state(v, scope, STATE_DISABLED, false, 0);
		return 0;
	}
	if (keeper_status(v, scope).open)
		return 0;
	r = keeper_open_scope(v, scope);
	return r == -ENOKEY ? 0 : r; /* enabled, and its key is to be provided */
}

/* ---- keys ---- */

static int check_enabled(struct volume *v, uint32_t scope)
{
	struct scope_entry s;
	int r = keeper_entry(v, scope, &s);

	if (r == 0 && s.disabled) {
		log_error("scope %s is disabled: coffer scope enable", s.name);
		r = -EKEYREVOKED;
	}
	return r;
}

int volume_key_set(struct volume *v, uint32_t scope, const char *uri, struct secret *provided)
{
	LOCK_SCOPE(&v->key_lock);
	bool recovered = keeper_status(v, scope).state == STATE_RECOVERED;
	int r = keeper_rewrap(v, scope, uri, &provided);

	/* With the host that made the volume its platform key is gone, too. */
	if (r == 0 && recovered)
		r = keeper_rewrap_platform(v);
	secret_free(provided);
	return r;
}

int volume_key_rotate(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->key_lock);
	struct opened_source *source = keys_source(v->keys, scope);
	int r = volume_rests(v) ? -EROFS : source ? keys_rotate(source) : -ENOKEY;

	opened_source_free(source);
	/* Where its owner made a new version, that is taken. */
	if (r == 0 || r == -EOPNOTSUPP || r == -ENOKEY)
		r = keeper_rewrap(v, scope, NULL, NULL);
	return r == 0 ? keeper_rewrap_platform(v) : r;
}

int volume_key_rotate_infrastructure(struct volume *v)
{
	LOCK_SCOPE(&v->key_lock);
	struct descriptor *d = volume_descriptor(v);
	int r = !d ? -ENOMEM : volume_rests(v) ? -EROFS : platform_rotate(v->state_dir, INFRASTRUCTURE_KEY);

	for (size_t i = 0; r == 0 && i < d->scope_count; i++)
		if (keeper_status(v, d->scopes[i].number).open)
			r = keeper_rewrap_infrastructure(v, d->scopes[i].number);
	descriptor_free(d);
	return r;
}

int volume_key_lock(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->key_lock);
	enum scope_state state = STATE_LOCKED;
	struct scope_entry s;
	int r = keeper_entry(v, scope, &s);

	if (r < 0)
		return r;
	if (s.disabled)
		state = STATE_DISABLED;
	else if (!strcmp(s.key_uri, PROVIDED_URI))
		state = STATE_UNPROVIDED;
	if (keeper_status(v, scope).open)
		keeper_lock_scope(v, scope, state);
	else
		keeper_set_state(v, scope, state, false, 0);
	return 0;
}

int volume_key_unlock(struct volume *v, uint32_t scope)
{
	LOCK_SCOPE(&v->key_lock);
	int r = check_enabled(v, scope);

	if (r == 0 && !keeper_status(v, scope).open)
		r = keeper_open_scope(v, scope);
	if (r == -ENOKEY)
		log_error("the scope's key must be provided: coffer key provide");
	return r;
}

int volume_key_provide(struct volume *v, uint32_t scope, struct secret *key, unsigned seconds)
{
	LOCK_SCOPE(&v->key_lock);
	struct opened_scope *o = NULL;
	struct scope_entry s;
	int r = check_enabled(v, scope);

	if (r == 0)
		r = keeper_entry(v, scope, &s);
	if (r == 0 && strcmp(s.key_uri, PROVIDED_URI) != 0) {
		log_error("scope %s has a key source of its own, %s", s.name, s.key_uri);
		r = -EINVAL;
	}
	/* The right key for an open scope gives it more time; a wrong one changes nothing. */
	if (r == 0)
		r = keys_open_scope(v->keys, &s, &key, &o);
	if (r == 0) {
		gate_close(v);
		cache_drop(v, scope);
		keys_take_scope(v->keys, &o);
		gate_open(v);
		keeper_set_state(v, scope, STATE_ACTIVE, true, seconds ? time(NULL) + seconds : 0);
		pthread_cond_signal(&v->keeper.wake); /* it may be due before the next poll */
		if (!volume_rests(v))
			keeper_settle(v);
	}
	opened_scope_free(o);
	secret_free(key);
	return r;
}

/* ---- recovery ---- */

/* One scope's part in a new recovery key. Asks. */
static int seal_scope(struct asking *a, const struct recovery *recovery)
{
	bool sealed;

	keys_leave_recovery(&a->s);
	return a->status.open ? keys_join_recovery(a->v->keys, a->source, recovery, &a->s, &sealed) : 0;
}

static int store_recovery(struct volume *v, const struct recovery *recovery, const struct asking *a, size_t count)
{
	LOCK_SCOPE(&v->descriptor_lock);
	struct descriptor *next = descriptor_copy(v->d);

	if (!next)
		return -ENOMEM;
	next->recovery = *recovery;
	for (size_t i = 0; i < count; i++)
		next->scopes[i] = a[i].s;
	return keeper_store_descriptor(v, next);
}

/* All scopes as they are now. -EAGAIN: some changed while they were asked for. */
static int make_recovery(struct volume *v, const uint8_t public[static PUBLIC_KEY_SIZE], struct asking *a, size_t count)
{
	struct recovery recovery;
	bool holds = true;
	int r;

	pthread_mutex_unlock(&v->key_lock);
	r = keys_seal_recovery(v->keys, public, &recovery);
	for (size_t i = 0; i < count && r == 0; i++)
		r = seal_scope(&a[i], &recovery);
	pthread_mutex_lock(&v->key_lock);
	for (size_t i = 0; i < count; i++)
		holds = holds && asking_holds(&a[i]);
	if (r == 0 && (!holds || count != v->status_count)) {
		log_error("the volume's keys were changed by somebody else meanwhile: try again");
		r = -EAGAIN;
	}
	return r == 0 ? store_recovery(v, &recovery, a, count) : r;
}

int volume_key_recovery(struct volume *v, const uint8_t public[static PUBLIC_KEY_SIZE], unsigned *ret_left)
{
	LOCK_SCOPE(&v->key_lock);
	size_t count = v->status_count, begun = 0;
	AUTO_FREE struct asking *a = calloc(count, sizeof(*a));
	int r = a ? 0 : -ENOMEM;

	*ret_left = 0;
	for (; begun < count && r == 0; begun++)
		r = asking_begin(v, v->statuses[begun].number, &a[begun]);
	if (r == 0)
		r = make_recovery(v, public, a, count);
	for (size_t i = 0; i < begun; i++) {
		*ret_left += r == 0 && !a[i].s.deks[0].recovery.len;
		asking_end(&a[i]);
	}
	if (r == 0)
		log_notice("the volume has a new recovery key");
	return r;
}
