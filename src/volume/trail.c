/* What the life of a volume leaves in its audit trail. */
#include <errno.h>

#include <coffer/manager.h>
#include <coffer/util.h>

#include "internal.h"

static struct audit_event about_scope(const struct scope_entry *s, const char *event)
{
	return (struct audit_event){
		.event = event,
		.scope = s->name,
		.key_source = s->key_uri,
		.key = s->kek_id,
		.key_version = s->kek_version,
	};
}

static struct audit_event about_retired(const struct scope_entry *s)
{
	struct audit_event e = about_scope(s, "deactivated-key-used");

	e.detail = "to unwrap only: another key of its name is active";
	return e;
}

static int record(struct volume *v, const struct audit_event *events, size_t count)
{
	int r = audit_record(v->audit, events, count);

	if (is_full(r) && v->store && store_give_reserve(v->store))
		r = audit_record(v->audit, events, count);
	if (r == 0)
		return 0;
	log_error("no key is used without an audit trail; make room or give access there, and try again");
	return -ECANCELED;
}

static int open_trail(struct volume *v, bool accept, unsigned keep)
{
	struct audit_place p = {
		.state_dir = v->state_dir,
		.backing_fd = v->backing_fd,
		.volume_id = v->d->volume_id,
		.read_only = v->read_only,
		.accept = accept,
		.keep = keep,
	};

	return audit_open(keys_structure(v->keys), &p, &v->audit);
}

int trail_created(struct volume *v)
{
	struct audit_requester who = { .uid = getuid(), .pid = getpid() };
	struct audit_event e = about_scope(&v->d->scopes[0], "volume-created");
	int r = v->state_dir ? open_trail(v, false, AUDIT_KEEP) : 0;

	e.requester = &who;
	return r < 0 ? r : record(v, &e, 1);
}

int trail_unlocked(struct volume *v, const struct volume_options *o, int accepted)
{
	size_t count = 0, room = 2 * v->d->scope_count + 1;
	AUTO_FREE struct audit_event *events = calloc(room, sizeof(*events));
	int r = events ? open_trail(v, o->accept_changes, o->audit_keep) : -ENOMEM;

	if (r < 0)
		return r;
	if (accepted)
		events[count++] = (struct audit_event){
			.event = "pin-accepted",
			.requester = o->requester,
			.detail = accepted == -ESTALE ? "an older descriptor than the one that this host saw last"
				  : accepted == -EKEYREJECTED
					  ? "another volume or other key sources than this host saw last"
					  : "what this host remembers of the volume cannot be read",
		};
	for (size_t i = 0; i < v->d->scope_count; i++) {
		const struct scope_entry *s = &v->d->scopes[i];

		if (keys_used_retired(v->keys, s->number))
			events[count++] = about_retired(s);
		events[count] = about_scope(s, "scope-unlocked");
		events[count].requester = o->requester;
		events[count++].outcome = keys_outcome(v->keys, s->number);
	}
	return record(v, events, count);
}

static void ignore_text(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

void trail_unproven(struct volume *v, const struct volume_options *o)
{
	struct audit_result found = { 0 };

	if (open_trail(v, false, o->audit_keep) == 0 && audit_read(v->audit, false, ignore_text, NULL, &found) == 0 &&
	    found.lines && !found.errors)
		return;
	audit_close(v->audit);
	v->audit = NULL;
}

void trail_scope(struct volume *v, const struct scope_entry *s, const char *event, int outcome, const char *detail)
{
	struct audit_event e = about_scope(s, event);

	e.outcome = outcome;
	e.detail = detail;
	audit_record(v->audit, &e, 1);
}

void trail_retired(struct volume *v, const struct scope_entry *s)
{
	struct audit_event e = about_retired(s);

	if (keys_used_retired(v->keys, s->number))
		audit_record(v->audit, &e, 1);
}

void trail_not_opened(struct volume *v, const struct volume_options *o, int error)
{
	struct audit_event e = { .event = "volume-mounted", .requester = o->requester, .outcome = error };

	if (error == -EUCLEAN)
		e.detail = "the descriptor was altered";
	audit_record(v->audit, &e, 1);
}

void trail_closed(struct volume *v, int outcome)
{
	struct audit_event e = { .event = "volume-unmounted", .outcome = outcome };

	audit_record(v->audit, &e, 1);
}

struct audit *volume_audit(const struct volume *v)
{
	return v->audit;
}
