/* Making, linking and removing names: each one change, in which the directory, the object and its list of names
 * agree. names_lock is held exclusively from the first look at a directory to the commit. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "names.h"

enum { NAMES_PAYLOAD_BLOCKS = 8 };

int name_check(const char *name)
{
	size_t len = strlen(name);

	if (len > VOLUME_NAME_MAX)
		return -ENAMETOOLONG;
	return len == 0 || strchr(name, '/') ? -EINVAL : 0;
}

/* Begins an operation on names: the directories are read beforehand, so that a slow disk holds up nobody else. */
int names_begin(struct volume *v, struct change *ch, uint64_t first, uint64_t second, enum room room)
{
	struct object *p, *q;
	int r = dir_get(v, first, &p);

	if (r < 0)
		return r;
	if (second != first) {
		r = dir_get(v, second, &q);
		if (r < 0) {
			object_put(v, p);
			return r;
		}
	}
	r = change_begin(v, ch, data_payload(NAMES_PAYLOAD_BLOCKS), room);
	ch->pinned[ch->pinned_count++] = p;
	if (second != first)
		ch->pinned[ch->pinned_count++] = q;
	if (r < 0) {
		change_abort(ch);
		return r;
	}
	pthread_rwlock_wrlock(&v->names_lock);
	return 0;
}

/* The mark belongs to the commit: another thread must not name or unname the object in between. */
static int end_marked(struct volume *v, struct change *ch, int r, uint64_t object, bool orphan)
{
	if (r == 0)
		r = change_commit(ch);
	else
		change_abort(ch);
	if (r == 0 && object)
		orphan_mark(v, object, orphan);
	pthread_rwlock_unlock(&v->names_lock);
	return r;
}

int names_end(struct volume *v, struct change *ch, int r, uint64_t orphan)
{
	return end_marked(v, ch, r, orphan, true);
}

/* A directory in which names may be changed. */
int names_stage_dir(struct change *ch, uint64_t number, struct object **ret, struct meta **ret_meta)
{
	int r = change_pin(ch, number, ret);

	if (r == 0)
		r = change_object(ch, *ret, ret_meta);
	if (r == 0 && !(*ret_meta)->nlink)
		r = -ENOENT;
	if (r == 0)
		(*ret_meta)->mtime = (*ret_meta)->ctime = now();
	return r;
}

int names_stage_child(struct change *ch, const struct dir_entry *e, struct object **ret, struct meta **ret_meta)
{
	int r = change_pin(ch, e->object, ret);

	if (r == 0)
		r = change_object(ch, *ret, ret_meta);
	if (r == 0 && ((*ret_meta)->mode & S_IFMT) != e->type) {
		log_error("object %" PRIu64 " is of another kind than its entry says", e->object);
		r = -EIO;
	}
	if (r == 0)
		(*ret_meta)->ctime = now();
	return r == -ESTALE ? -EIO : r;
}

/* A directory with something in it is not looked through: with EXDEV, who moves it makes it anew in here. */
int names_let_in(struct change *ch, const struct meta *dir, struct object *o, struct meta *m)
{
	int r = 0;

	if (!(dir->flags & META_DENY_OVERRIDE))
		return 0;
	if (m->scope != dir->scope || (meta_is_moving(m) && m->old_scope != dir->scope))
		return -EXDEV;
	if (!S_ISDIR(m->mode) || m->flags & META_DENY_OVERRIDE)
		return 0;
	r = dir_load(ch->v, o);
	if (r == 0 && !dir_is_empty(o))
		return -EXDEV;
	m->flags |= META_DENY_OVERRIDE;
	return r;
}

void names_add(struct meta *m, const struct meta *dir, uint64_t dir_number, const char *name)
{
	if (!meta_name_add(m, dir_number, name) && dir->flags & META_DENY_OVERRIDE)
		m->flags |= META_NAME_DENIES;
}

/* ---- making ---- */
/* Mode and access control lists of a new object (POSIX.1e draft 17, 23.1.5), and the group of a setgid directory. */
static int inherit(struct change *ch, const struct caller *c, struct object *p, const struct meta *pm, struct object *o,
		   struct meta *m)
{
	struct acl_pair acls = { 0 };
	const uint8_t *blob, *acl = NULL;
	size_t len, acl_len = 0, made_len = 0;
	int r = xattrs_load(ch->v, p, &blob, &len);

	if (r == 0 && !S_ISLNK(m->mode))
		acl = xattr_find(blob, len, ACL_DEFAULT, &acl_len);
	if (r == 0 && acl)
		r = acl_inherit(acl, acl_len, &m->mode, &acls);
	else if (!S_ISLNK(m->mode))
		m->mode &= ~(c->umask & 0777);
	m->uid = c->uid;
	m->gid = pm->mode & S_ISGID ? pm->gid : c->gid;
	if (pm->mode & S_ISGID && S_ISDIR(m->mode))
		m->mode |= S_ISGID;

	uint8_t *made = NULL, *more = NULL;

	if (r == 0 && acls.access)
		r = blob_set(NULL, 0, ACL_ACCESS, acls.access, acls.access_len, &made, &made_len);
	if (r == 0 && acls.inherit && S_ISDIR(m->mode)) {
		r = blob_set(made, made_len, ACL_DEFAULT, acls.inherit, acls.inherit_len, &more, &made_len);
		free(made);
		made = more;
	}
	if (r == 0 && made)
		r = xattrs_store(ch, o, made, made_len);
	free(made);
	free(acls.access);
	free(acls.inherit);
	return r;
}

static int set_target(struct change *ch, struct object *o, struct meta *m, const char *target)
{
	size_t len = strlen(target);

	if (len == 0 || len > VOLUME_SYMLINK_MAX)
		return len ? -ENAMETOOLONG : -ENOENT;
	m->size = len;
	return len <= TARGET_INLINE ? meta_set_target(m, target, len) : data_replace(ch, o, target, len);
}

static int make_object(struct change *ch, const struct caller *c, struct object *p, const struct meta *pm, mode_t mode,
		       dev_t rdev, const char *target, struct object **ret, struct meta **ret_meta)
{
	struct meta *m;
	int r = change_new(ch, pm, mode, S_ISDIR(mode) ? pm->flags & META_DENY_OVERRIDE : 0, ret, &m);

	if (r < 0)
		return r;
	m->rdev = S_ISBLK(mode) || S_ISCHR(mode) ? rdev : 0;
	m->nlink = S_ISDIR(mode) ? 2 : 1;
	*ret_meta = m;
	r = inherit(ch, c, p, pm, *ret, m);
	return r == 0 && S_ISLNK(mode) ? set_target(ch, *ret, m, target) : r;
}

static int make_named(struct change *ch, const struct caller *c, uint64_t parent, const char *name, mode_t mode,
		      dev_t rdev, const char *target, struct object **ret)
{
	struct object *p;
	struct meta *pm, *m;
	struct dir_entry e;
	int r = names_stage_dir(ch, parent, &p, &pm);

	if (r < 0)
		return r;
	r = dir_find(p, name, &e);
	if (r != -ENOENT)
		return r < 0 ? r : -EEXIST;
	r = make_object(ch, c, p, pm, mode, rdev, target, ret, &m);
	if (r < 0)
		return r;
	names_add(m, pm, parent, name);
	if (S_ISDIR(mode))
		pm->nlink++;
	return dir_insert(ch, p, name, (*ret)->number, mode);
}

/* After a commit: the object's attributes, and a reference. */
static void hand_out(struct volume *v, struct object *o, struct attr *ret)
{
	pthread_rwlock_rdlock(&o->lock);
	fill_attr(o, ret);
	pthread_rwlock_unlock(&o->lock);
	reference_add(v, o->number);
}

int volume_make(struct volume *v, const struct caller *c, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
		const char *target, struct attr *ret)
{
	GATE_SCOPE(v);
	struct object *o = NULL;
	struct change ch;
	int r = name_check(name);

	if (r == 0)
		r = names_begin(v, &ch, parent, parent, ROOM_NEW);
	if (r < 0)
		return r;
	r = make_named(&ch, c, parent, name, mode, rdev, target, &o);
	if (r == 0) {
		uint64_t number = o->number;

		r = names_end(v, &ch, 0, 0);
		if (r == 0)
			r = object_get(v, number, &o);
		if (r == 0) {
			hand_out(v, o, ret);
			object_put(v, o);
		}
		return r;
	}
	return names_end(v, &ch, r, 0);
}

int volume_tmpfile(struct volume *v, const struct caller *c, uint64_t parent, mode_t mode, struct attr *ret)
{
	GATE_SCOPE(v);
	struct object *p, *o;
	struct meta *pm, *m;
	struct change ch;
	int r = names_begin(v, &ch, parent, parent, ROOM_NEW);

	if (r < 0)
		return r;
	r = change_pin(&ch, parent, &p);
	if (r == 0)
		r = change_object(&ch, p, &pm);
	if (r == 0)
		r = make_object(&ch, c, p, pm, (mode & ~(mode_t)S_IFMT) | S_IFREG, 0, NULL, &o, &m);
	if (r == 0) {
		m->nlink = 0;
		r = txn_orphan(&ch.t, o->number);
	}
	uint64_t number = r == 0 ? o->number : 0;

	r = names_end(v, &ch, r, number);
	if (r < 0)
		return r;
	r = object_get(v, number, &o);
	if (r == 0) {
		hand_out(v, o, ret);
		object_put(v, o);
	}
	return r;
}

static int link_named(struct change *ch, uint64_t object, uint64_t parent, const char *name)
{
	struct object *p, *o;
	struct meta *pm, *m;
	struct dir_entry e;
	int r = names_stage_dir(ch, parent, &p, &pm);

	if (r == 0)
		r = change_pin(ch, object, &o);
	if (r == 0)
		r = change_object(ch, o, &m);
	if (r < 0)
		return r;
	if (S_ISDIR(m->mode))
		return -EPERM;
	if (m->nlink >= VOLUME_LINK_MAX)
		return -EMLINK;
	r = dir_find(p, name, &e);
	if (r != -ENOENT)
		return r < 0 ? r : -EEXIST;
	r = names_let_in(ch, pm, o, m);
	if (r < 0)
		return r;
	r = m->nlink == 0 ? txn_adopt(&ch->t, object) : 0;
	m->nlink++;
	m->ctime = now();
	names_add(m, pm, parent, name);
	return r < 0 ? r : dir_insert(ch, p, name, object, m->mode);
}

int volume_link(struct volume *v, uint64_t object, uint64_t parent, const char *name, struct attr *ret)
{
	GATE_SCOPE(v);
	struct object *o;
	struct change ch;
	int r = name_check(name);

	if (r == 0)
		r = names_begin(v, &ch, parent, parent, ROOM_NEW);
	if (r == 0)
		r = end_marked(v, &ch, link_named(&ch, object, parent, name), object, false);
	if (r == 0)
		r = object_get(v, object, &o);
	if (r < 0)
		return r;
	hand_out(v, o, ret);
	object_put(v, o);
	return 0;
}

/* ---- removing ---- */
/* One name less. The last: the object becomes an orphan, to go with the last reference. */
int names_drop(struct change *ch, struct object *o, struct meta *m, uint64_t parent, const char *name)
{
	m->nlink = S_ISDIR(m->mode) ? 0 : m->nlink - 1;
	meta_name_remove(m, parent, name);
	return m->nlink ? 0 : txn_orphan(&ch->t, o->number);
}

/* After the commit that made it an orphan. */
void names_bury(struct volume *v, uint64_t number)
{
	if (!references(v, number))
		(void)remove_object(v, number); /* if it fails, the next mount does it */
}

/* Of an object whose scope is locked, the header cannot be written anew. So it goes with its only name, and one that has several
 * keeps them; a directory stays too, since nobody can tell whether it is empty. */
static int remove_locked(struct change *ch, struct object *p, const char *name, const struct dir_entry *e,
			 bool directory, uint64_t *ret_orphan)
{
	struct prologue clear;
	int r = object_peek(ch->v, e->object, &clear);

	if (r < 0)
		return r == -ESTALE ? -EIO : r;
	if (S_ISDIR(e->type) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	if (directory || clear.nlink != 1)
		return -EACCES;
	r = txn_orphan(&ch->t, e->object);
	*ret_orphan = e->object;
	return r < 0 ? r : dir_remove(ch, p, name);
}

static int remove_named(struct change *ch, uint64_t parent, const char *name, bool directory, uint64_t *ret_orphan)
{
	struct object *p, *o;
	struct meta *pm, *m;
	struct dir_entry e;
	int r = names_stage_dir(ch, parent, &p, &pm);

	if (r == 0)
		r = dir_find(p, name, &e);
	if (r < 0)
		return r;
	r = names_stage_child(ch, &e, &o, &m);
	if (r == -EACCES)
		return remove_locked(ch, p, name, &e, directory, ret_orphan);
	if (r < 0)
		return r;
	if (S_ISDIR(m->mode) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	if (directory) {
		r = dir_load(ch->v, o);
		if (r < 0 || !dir_is_empty(o))
			return r < 0 ? r : -ENOTEMPTY;
		pm->nlink--;
	}
	r = names_drop(ch, o, m, parent, name);
	*ret_orphan = m->nlink ? 0 : o->number;
	return r < 0 ? r : dir_remove(ch, p, name);
}

static int remove_name(struct volume *v, uint64_t parent, const char *name, bool directory)
{
	GATE_SCOPE(v);
	uint64_t orphan = 0;
	struct change ch;
	int r = name_check(name);

	if (r == 0)
		r = names_begin(v, &ch, parent, parent, ROOM_REMOVAL);
	if (r < 0)
		return r;
	r = remove_named(&ch, parent, name, directory, &orphan);
	r = names_end(v, &ch, r, orphan);
	if (r == 0 && orphan)
		names_bury(v, orphan);
	return r;
}

int volume_unlink(struct volume *v, uint64_t parent, const char *name)
{
	return remove_name(v, parent, name, false);
}

int volume_rmdir(struct volume *v, uint64_t parent, const char *name)
{
	return remove_name(v, parent, name, true);
}
