/* What can be asked of a running daemon. A new verb is a function and a line in the table. */
#include <errno.h>

#include "daemon_internal.h"

static json_t *describe_scope(const struct scope_entry *s)
{
	const char *suite = suite_name(s->suite);

	return json_pack("{s:s, s:i, s:s, s:b, s:s, s:s, s:s, s:i, s:i}", "name", s->name, "number", (int)s->number,
			 "algorithms", suite ? suite : "unknown", "infrastructure", s->suite == SUITE_XTS_GCM,
			 "integrity", s->suite == SUITE_XTS ? "none" : "gmac", "key_source", s->key_uri, "key_id",
			 s->kek_id, "key_version", (int)s->kek_version, "dek_version",
			 s->dek_count ? (int)s->deks[s->dek_count - 1].version : 0);
}

json_t *describe_descriptor(const struct descriptor *d)
{
	char id[2 * VOLUME_ID_SIZE + 1];
	json_t *scopes = json_array();

	hex_encode(d->volume_id, VOLUME_ID_SIZE, id);
	for (size_t i = 0; i < d->scope_count; i++)
		json_array_append_new(scopes, describe_scope(&d->scopes[i]));
	return json_pack("{s:s, s:i, s:I, s:I, s:b, s:o}", "volume_id", id, "format", (int)d->format, "created",
			 (json_int_t)d->created, "epoch", (json_int_t)d->epoch, "clean", d->clean, "scopes", scopes);
}

static const char *key_state_name(const struct control_facts *f, uint32_t scope)
{
	struct key_info info;

	if (keys_describe(volume_keys(f->volume), scope, &info) < 0)
		return "unreachable";
	return info.state == KEY_ACTIVE ? "active" : info.state == KEY_REVOKED ? "revoked" : "unreachable";
}

static json_t *verb_status(struct connection *c, int *ret_result)
{
	const struct control_facts *f = c->facts;
	struct volume_status s;
	json_t *o, *scope;
	size_t i;

	volume_status(f->volume, &s);
	o = describe_descriptor(s.d);
	if (!o) {
		*ret_result = -ENOMEM;
		return NULL;
	}
	json_array_foreach(json_object_get(o, "scopes"), i, scope)
		json_object_set_new(scope, "key_state", json_string(key_state_name(f, s.d->scopes[i].number)));
	json_object_set_new(o, "mounted", json_true());
	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "backing", json_string(f->backing));
	json_object_set_new(o, "mountpoint", json_string(f->mountpoint));
	json_object_set_new(o, "transport", json_string(fs_transport(f->fs)));
	json_object_set_new(o, "writeback", json_boolean(f->writeback));
	json_object_set_new(o, "read_only", json_boolean(s.read_only));
	json_object_set_new(o, "failed", json_boolean(s.failed));
	json_object_set_new(o, "recovered_chunks", json_integer((json_int_t)s.recovered_chunks));
	json_object_set_new(o, "orphans_removed", json_integer((json_int_t)s.orphans_removed));
	json_object_set_new(o, "dirty_pages", json_integer((json_int_t)s.dirty_pages));
	json_object_set_new(o, "log_bytes", json_integer((json_int_t)s.log_bytes));
	json_object_set_new(o, "objects_cached", json_integer((json_int_t)s.objects_cached));
	*ret_result = 0;
	return o;
}

static void send_line(void *arg, const char *line)
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

static json_t *verb_fsck(struct connection *c, int *ret_result)
{
	struct fsck_result found = { 0 };
	bool data = json_is_true(json_object_get(c->request, "data"));

	*ret_result = volume_fsck(c->facts->volume, data, send_line, c, &found);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "objects", (json_int_t)found.objects, "directories",
			 (json_int_t)found.directories, "names", (json_int_t)found.names, "blocks",
			 (json_int_t)found.blocks, "bytes", (json_int_t)found.bytes, "errors", (json_int_t)found.errors,
			 "orphans", (json_int_t)found.orphans);
}

static json_t *verb_audit(struct connection *c, int *ret_result)
{
	struct audit_result found = { 0 };
	bool lines = json_is_true(json_object_get(c->request, "lines"));

	*ret_result = audit_read(c->facts->audit, lines, send_line, c, &found);
	return json_pack("{s:I, s:I, s:I, s:I}", "lines", (json_int_t)found.lines, "first", (json_int_t)found.first,
			 "last", (json_int_t)found.last, "errors", (json_int_t)found.errors);
}

/* "wait", for the end of the daemon, is the control's own: it keeps the connection. */
static const struct {
	const char *name;
	control_verb *run;
} verbs[] = {
	{ "status", verb_status },
	{ "fsck", verb_fsck },
	{ "audit", verb_audit },
};

control_verb *control_find_verb(const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return verbs[i].run;
	return NULL;
}
