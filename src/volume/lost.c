/* Objects whose directories were purged with another scope get a name again, in /lost+found. Which directories an object was in its
 * header says, so that this can wait until the header can be read. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <coffer/util.h>

#include "names.h"

#define LOST_NAME "lost+found"
enum { OLD_NAME_MAX = VOLUME_NAME_MAX - 21 /* what a number and a dash leave */ };

/* ---- what the kernel knows: that there is no such name, perhaps ---- */

/* It may wait for operations under way: none is held up here. */
static void tell_kernel(struct volume *v, uint64_t object, uint64_t dir, char *name)
{
	struct kernel_item items[] = { { .dir = dir, .name = name }, { .object = dir }, { .object = object } };

	if (v->keeper.kernel.drop)
		v->keeper.kernel.drop(v->keeper.kernel.arg, items, sizeof(items) / sizeof(*items));
}

/* ---- the directory ---- */

int lost_directory(struct volume *v, uint64_t *ret)
{
	struct caller root = { 0 };
	struct attr a;
	int r = volume_lookup(v, ROOT_OBJECT, LOST_NAME, &a);
	bool made = r == -ENOENT;

	if (made)
		r = volume_make(v, &root, ROOT_OBJECT, LOST_NAME, S_IFDIR | 0700, 0, NULL, &a);
	if (r == 0 && !S_ISDIR(a.st.st_mode))
		r = -ENOTDIR;
	if (r < 0) {
		log_error("/" LOST_NAME " cannot be made: %s", strerror(-r));
		return r;
	}
	volume_forget(v, a.st.st_ino, 1);
	if (made)
		tell_kernel(v, a.st.st_ino, ROOT_OBJECT, (char[]){ LOST_NAME });
	*ret = a.st.st_ino;
	return 0;
}

/* ---- one object ---- */

static bool is_gone(struct volume *v, uint64_t dir, uint32_t purged)
{
	struct prologue p;
	int r = object_peek(v, dir, &p);

	return r == -ESTALE || (r == 0 && purged != NO_SCOPE && prologue_needs(&p, purged));
}

/* Takes the names away that are in directories that are gone; *ret_name is one of them. */
static unsigned drop_names(struct volume *v, struct meta *m, uint32_t purged, char ret_name[static VOLUME_NAME_MAX + 1])
{
	char name[VOLUME_NAME_MAX + 1];
	unsigned dropped = 0;
	const char *listed;
	size_t pos = 0, len;
	uint64_t dir;

	while (meta_name_next(m, &pos, &dir, &listed, &len)) {
		if (!is_gone(v, dir, purged))
			continue;
		memcpy(name, listed, len);
		name[len] = 0;
		strcpy(ret_name, name);
		if (!S_ISDIR(m->mode))
			m->nlink--;
		meta_name_remove(m, dir, name);
		dropped++;
		pos = 0;
	}
	return dropped;
}

static int give_name(struct change *ch, uint64_t lost, struct object *o, struct meta *m, const char *old,
		     char name[static VOLUME_NAME_MAX + 1])
{
	struct object *dir;
	struct meta *dm;
	int r = names_stage_dir(ch, lost, &dir, &dm);

	if (r < 0)
		return r;
	snprintf(name, VOLUME_NAME_MAX + 1, "%" PRIu64 "-%.*s", o->number, OLD_NAME_MAX, old);
	names_add(m, dm, lost, name);
	if (S_ISDIR(m->mode))
		dm->nlink++;
	else
		m->nlink++;
	log_notice("object %" PRIu64 ", whose directory was purged, is in /" LOST_NAME " now", o->number);
	return dir_insert(ch, dir, name, o->number, m->mode);
}

/* Its names were too many to be listed, and those that were are gone. */
static bool has_unlisted_only(const struct meta *m)
{
	return m->nlink && m->flags & META_NAMES_PARTIAL && !m->names_len;
}

bool lost_has_unlisted(struct volume *v, uint64_t number)
{
	struct object *o;
	bool unlisted;

	if (object_get(v, number, &o) < 0)
		return false;
	pthread_rwlock_rdlock(&o->lock);
	unlisted = !o->removed && has_unlisted_only(o->m);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return unlisted;
}

bool lost_is_needed(struct volume *v, uint64_t number, uint32_t purged)
{
	struct object *o;
	bool lost = false;
	const char *name;
	size_t pos = 0, len;
	uint64_t dir;

	if (object_get(v, number, &o) < 0)
		return false;
	pthread_rwlock_rdlock(&o->lock);
	lost = o->m->companion && is_gone(v, o->m->companion, purged);
	while (!lost && !o->removed && meta_name_next(o->m, &pos, &dir, &name, &len))
		lost = is_gone(v, dir, purged);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return lost;
}

static int rescue(struct volume *v, uint64_t number, uint64_t lost, uint32_t purged,
		  char ret_name[static VOLUME_NAME_MAX + 1])
{
	GATE_SCOPE(v);
	char name[VOLUME_NAME_MAX + 1] = "";
	struct change ch;
	struct object *o;
	struct meta *m;
	int r = names_begin(v, &ch, lost, lost, ROOM_NEW);

	if (r < 0)
		return r;
	r = change_pin(&ch, number, &o);
	if (r == 0)
		r = change_object(&ch, o, &m);
	if (r == 0 && m->companion && is_gone(v, m->companion, purged)) {
		log_notice("object %" PRIu64 ": its extended attributes went with the scope that was purged", number);
		change_drop_xattrs(&ch, o);
		m->companion = 0;
		m->flags &= ~(uint32_t)META_CAPABILITY;
	}
	if (r == 0 && (has_unlisted_only(m) || drop_names(v, m, purged, name)) && !m->names_len)
		r = give_name(&ch, lost, o, m, name, ret_name);
	return names_end(v, &ch, r, 0);
}

int lost_rescue(struct volume *v, uint64_t number, uint64_t lost, uint32_t purged)
{
	char name[VOLUME_NAME_MAX + 1] = "";
	int r = rescue(v, number, lost, purged, name);

	if (r == 0)
		tell_kernel(v, number, lost, name[0] ? name : NULL);
	return r;
}
