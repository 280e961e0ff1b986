/* What can be asked of a running daemon. A new verb is a function and a line in the table. */
#include <errno.h>

#include "daemon_internal.h"

static json_t *verb_status(struct connection *c, int *ret_result)
{
	const struct control_facts *f = c->facts;
	struct volume_status s;
	json_t *o = describe_volume(f->volume);

	if (!o) {
		*ret_result = -ENOMEM;
		return NULL;
	}
	volume_status(f->volume, &s);
	json_object_set_new(o, "mounted", json_true());
	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "backing", json_string(f->backing));
	json_object_set_new(o, "mountpoint", json_string(f->mountpoint));
	json_object_set_new(o, "transport", json_string(fs_transport(f->fs)));
	json_object_set_new(o, "writeback", json_boolean(f->writeback));
	json_object_set_new(o, "read_only", json_boolean(s.read_only));
	json_object_set_new(o, "failed", json_boolean(s.failed));
	if (fs_frozen_for(f->fs))
		json_object_set_new(o, "frozen_for", json_integer(fs_frozen_for(f->fs)));
	json_object_set_new(o, "recovered_chunks", json_integer((json_int_t)s.recovered_chunks));
	json_object_set_new(o, "orphans_removed", json_integer((json_int_t)s.orphans_removed));
	json_object_set_new(o, "dirty_pages", json_integer((json_int_t)s.store.dirty_pages));
	json_object_set_new(o, "log_bytes", json_integer((json_int_t)s.store.log_bytes));
	json_object_set_new(o, "objects_cached", json_integer((json_int_t)s.objects_cached));
	*ret_result = 0;
	return o;
}

static void add_fact(void *arg, const char *name, const char *value)
{
	json_object_set_new(arg, name, json_string(value));
}

static json_t *verb_object(struct connection *c, int *ret_result)
{
	json_int_t object = json_integer_value(json_object_get(c->request, "object"));
	json_t *facts = json_object();

	*ret_result = object > 0 ? fs_describe_object(c->facts->volume, (uint64_t)object, add_fact, facts) : -EINVAL;
	return facts;
}

static json_t *verb_freeze(struct connection *c, int *ret_result)
{
	json_int_t seconds = json_integer_value(json_object_get(c->request, "seconds"));

	*ret_result = seconds > 0 && seconds <= FREEZE_MAX ? fs_freeze(c->facts->fs, (unsigned)seconds) : -EINVAL;
	return NULL;
}

static json_t *verb_thaw(struct connection *c, int *ret_result)
{
	*ret_result = fs_thaw(c->facts->fs);
	return NULL;
}

void control_send_line(void *arg, const char *line)
{
	struct connection *c = arg;
	json_t *message = json_pack("{s:s}", "line", line);

	/* Names need not be UTF-8; JSON must. */
	if (!message)
		message = json_pack("{s:s}", "line", "(a finding about a name that is not UTF-8)");
	/* Who takes one line too late gets no more: nothing waits for each of them. */
	if (control_write(c->fd, message) < 0)
		shutdown(c->fd, SHUT_RDWR);
	json_decref(message);
}

/* The kernel lets nobody write any more, or is about to let them again. */
static json_t *verb_read_only(struct connection *c, int *ret_result)
{
	const struct control_facts *f = c->facts;
	bool on = json_is_true(json_object_get(c->request, "on"));

	/* What the kernel held is on its way. */
	if (on)
		wait_until_quiet(f->fs, NULL);
	*ret_result = volume_set_read_only(f->volume, on);
	log_tap(NULL, NULL); /* mount(8) says nothing of what went well */
	if (*ret_result == 0)
		log_notice("%s is %s now", f->mountpoint, on ? "read-only" : "writable");
	return NULL;
}

static json_t *verb_fsck(struct connection *c, int *ret_result)
{
	struct fsck_result found = { 0 };
	bool data = json_is_true(json_object_get(c->request, "data"));

	*ret_result = volume_fsck(c->facts->volume, data, control_send_line, c, &found);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "objects", (json_int_t)found.objects,
			 "directories", (json_int_t)found.directories, "names", (json_int_t)found.names, "blocks",
			 (json_int_t)found.blocks, "bytes", (json_int_t)found.bytes, "errors", (json_int_t)found.errors,
			 "orphans", (json_int_t)found.orphans, "locked", (json_int_t)found.locked);
}

static json_t *verb_audit(struct connection *c, int *ret_result)
{
	struct audit_result found = { 0 };
	bool lines = json_is_true(json_object_get(c->request, "lines"));

	*ret_result = audit_read(c->facts->audit, lines, control_send_line, c, &found);
	return json_pack("{s:I, s:I, s:I, s:I}", "lines", (json_int_t)found.lines, "first", (json_int_t)found.first,
			 "last", (json_int_t)found.last, "errors", (json_int_t)found.errors);
}

/* "wait", for the end of the daemon, is the control's own: it keeps the connection. */
static const struct control_verb verbs[] = {
	{ "status", verb_status, false },
	{ "object", verb_object, false },
	{ "stats", verb_stats, false },
	{ "fsck", verb_fsck, false },
	{ "audit", verb_audit, false },
	{ "read-only", verb_read_only, false },
	{ "freeze", verb_freeze, false },
	{ "thaw", verb_thaw, false },
	{ "scope-create", verb_scope_create, true },
	{ "scope-enable", verb_scope_enable, true },
	{ "scope-disable", verb_scope_disable, true },
	{ "scope-assign", verb_scope_assign, true },
	{ "scope-purge", verb_scope_purge, true },
	{ "reencrypt", verb_reencrypt, true },
	{ "key-set", verb_key_set, true },
	{ "key-rotate", verb_key_rotate, true },
	{ "infrastructure-key-rotate", verb_infrastructure_key_rotate, true },
	{ "key-lock", verb_key_lock, true },
	{ "key-unlock", verb_key_unlock, true },
	{ "key-provide", verb_key_provide, true },
	{ "key-recovery", verb_key_recovery, true },
};

const struct control_verb *control_find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}
