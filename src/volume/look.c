/* Looking: lookup, listing, reading links. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

/* By number: what an exported handle names. What has no name any more is stale, as on other file systems. */
static int look_at(struct volume *v, uint64_t number, struct attr *ret)
{
	struct object *o;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	if (o->removed || !o->m->nlink || o->m->flags & META_COMPANION)
		r = -ESTALE;
	else
		fill_attr(o, ret);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r;
}

/* A name in an open directory leads to an object of a locked scope: enough to remove it. */
static int look_at_locked(struct volume *v, uint64_t number, mode_t type, struct attr *ret)
{
	struct prologue p;
	int r = object_peek(v, number, &p);

	if (r == 0)
		*ret = (struct attr){
			.st = { .st_ino = number, .st_mode = type, .st_nlink = p.nlink, .st_blksize = BLOCK_SIZE },
			.locked = true
		};
	return r;
}

static int parent_of(struct object *o, uint64_t *ret)
{
	pthread_rwlock_rdlock(&o->lock);
	*ret = o->number == ROOT_OBJECT ? ROOT_OBJECT : meta_parent(o->m);
	pthread_rwlock_unlock(&o->lock);
	return *ret ? 0 : -ENOENT;
}

static int find(struct volume *v, uint64_t parent, const char *name, uint64_t *ret, mode_t *ret_type)
{
	struct object *p;
	struct dir_entry e;
	int r = dir_get(v, parent, &p);

	if (r < 0)
		return r;
	if (!strcmp(name, "..")) {
		*ret_type = S_IFDIR;
		r = parent_of(p, ret);
	} else {
		pthread_rwlock_rdlock(&p->lock);
		r = p->removed ? -ESTALE : dir_find(p, name, &e);
		pthread_rwlock_unlock(&p->lock);
		if (r == 0) {
			*ret = e.object;
			*ret_type = e.type;
		}
	}
	object_put(v, p);
	return r;
}

int volume_lookup(struct volume *v, uint64_t parent, const char *name, struct attr *ret)
{
	uint64_t number = parent;
	mode_t type = 0;
	int r = strlen(name) > VOLUME_NAME_MAX ? -ENAMETOOLONG : 0;

	if (r < 0)
		return r;
	GATE_SCOPE(v);
	pthread_rwlock_rdlock(&v->names_lock);
	/* "/" is what the kernel calls what it found by a handle, and not by a name: its overlayfs asks whether that is still there. */
	if (strcmp(name, ".") != 0 && strcmp(name, "/") != 0)
		r = find(v, parent, name, &number, &type);
	if (r == 0) {
		r = look_at(v, number, ret);
		if (type && r == -EACCES)
			r = look_at_locked(v, number, type, ret);
		if (type && (r == -ESTALE || (r == 0 && (ret->st.st_mode & S_IFMT) != type))) {
			log_error("object %" PRIu64 ", which a name in object %" PRIu64
				  " stands for, is gone or of another "
				  "kind",
				  number, parent);
			r = -EIO;
		}
	}
	if (r == 0)
		reference_add(v, attr_node(ret));
	pthread_rwlock_unlock(&v->names_lock);
	return r;
}

/* Cookies: 1 and 2 are past "." and ".."; an entry's is its offset plus 3. */
enum { COOKIE_DOT = 1, COOKIE_DOTDOT = 2, COOKIE_BASE = 2 };

static bool emit_dots(struct object *o, uint64_t *cookie, dirent_emit *emit, void *arg)
{
	struct dirent_view e = { .name = ".", .object = o->number, .next_cookie = COOKIE_DOT, .type = S_IFDIR };
	uint64_t parent;

	if (*cookie < COOKIE_DOT) {
		if (!emit(arg, &e))
			return false;
		*cookie = COOKIE_DOT;
	}
	if (*cookie < COOKIE_DOTDOT) {
		parent = o->number == ROOT_OBJECT ? ROOT_OBJECT : meta_parent(o->m);
		e = (struct dirent_view){ .name = "..",
					  .object = parent ? parent : o->number,
					  .next_cookie = COOKIE_DOTDOT,
					  .type = S_IFDIR };
		if (!emit(arg, &e))
			return false;
		*cookie = COOKIE_DOTDOT;
	}
	return true;
}

/* A listing with attributes reads a header for each entry: on a disk that waits for each, the reads had better overlap. */
static void read_ahead(struct volume *v, struct object *o, uint64_t offset)
{
	enum { ENTRIES = 128 };
	char name[VOLUME_NAME_MAX + 1];
	struct dir_entry e;

	if (offset && offset < atomic_load(&o->read_ahead))
		return;
	for (unsigned i = 0; i < ENTRIES && dir_next(o, &offset, &e, name) == 0; i++, offset++)
		if (!object_is_cached(v, e.object))
			store_prefetch(v->store, e.object, 0, 1);
	atomic_store(&o->read_ahead, offset);
}

static int list(struct volume *v, struct object *o, uint64_t cookie, bool want_attr, dirent_emit *emit, void *arg)
{
	char name[VOLUME_NAME_MAX + 1];
	struct dir_entry e;
	bool any = false;
	int r;

	if (!emit_dots(o, &cookie, emit, arg))
		return 0;
	uint64_t offset = cookie - COOKIE_BASE;

	if (want_attr)
		read_ahead(v, o, offset);
	while ((r = dir_next(o, &offset, &e, name)) == 0) {
		struct attr a;
		bool have = want_attr && look_at(v, e.object, &a) == 0;
		struct dirent_view view = { name, e.object, ++offset + COOKIE_BASE, e.type, have ? &a : NULL };

		if (have)
			reference_add(v, e.object);
		if (!emit(arg, &view)) {
			if (have)
				reference_drop(v, e.object, 1);
			return 0;
		}
		any = true;
	}
	return r == -ENOENT || any ? 0 : r; /* an error comes with the call that begins at the damage */
}

int volume_readdir(struct volume *v, uint64_t dir, uint64_t cookie, bool want_attr, dirent_emit *emit, void *arg)
{
	GATE_SCOPE(v);
	struct object *o;
	int r;

	pthread_rwlock_rdlock(&v->names_lock);
	r = dir_get(v, dir, &o);
	if (r == 0) {
		pthread_rwlock_rdlock(&o->lock);
		r = o->removed ? -ESTALE : list(v, o, cookie, want_attr, emit, arg);
		if (r == 0)
			lazy_atime(v, o);
		pthread_rwlock_unlock(&o->lock);
		object_put(v, o);
	}
	pthread_rwlock_unlock(&v->names_lock);
	return r;
}

int volume_readlink(struct volume *v, uint64_t number, char *buf, size_t size)
{
	GATE_SCOPE(v);
	uint8_t block[BLOCK_SIZE];
	struct object *o;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	const struct meta *m = o->m;

	if (o->removed || !S_ISLNK(m->mode)) {
		r = o->removed ? -ESTALE : -EINVAL;
	} else if (m->size >= size || m->size > VOLUME_SYMLINK_MAX) {
		r = -ENAMETOOLONG;
	} else if (m->target_len) {
		memcpy(buf, meta_target(o->m), m->target_len);
	} else {
		r = data_read(v, NULL, o, 0, 1, block);
		if (r == 0)
			memcpy(buf, block, m->size);
	}
	if (r == 0) {
		r = (int)m->size;
		buf[r] = 0;
	}
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r;
}
