/* Attributes. */
#include <errno.h>
#include <sys/sysmacros.h>

#include <coffer/util.h>

#include "internal.h"

void fill_attr(struct object *o, struct attr *ret)
{
	const struct meta *m = o->m;

	*ret = (struct attr){ .st = {
				      .st_ino = o->number,
				      .st_mode = m->mode,
				      .st_nlink = m->nlink,
				      .st_uid = m->uid,
				      .st_gid = m->gid,
				      .st_rdev = m->rdev,
				      .st_size = (off_t)m->size,
				      .st_blksize = BLOCK_SIZE,
				      .st_blocks = (blkcnt_t)(m->blocks * (BLOCK_SIZE / 512)),
				      .st_atim = m->atime,
				      .st_mtim = m->mtime,
				      .st_ctim = m->ctime,
			      },
			      .btime = m->btime };
	pthread_mutex_lock(&o->page_lock);
	if (o->atime_lazy)
		ret->st.st_atim = o->atime;
	pthread_mutex_unlock(&o->page_lock);
}

static int get_attributes(struct volume *v, uint64_t number, struct attr *ret)
{
	struct object *o;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	if (o->removed)
		r = -ESTALE;
	else
		fill_attr(o, ret);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r;
}

int volume_getattr(struct volume *v, uint64_t number, struct attr *ret)
{
	GATE_SCOPE(v);

	return get_attributes(v, number, ret);
}

int volume_describe(struct volume *v, uint64_t number, uint32_t *ret_scope, uint32_t *ret_dek_version, bool *ret_locked)
{
	GATE_SCOPE(v);
	struct prologue p;
	struct object *o;
	int r = object_get(v, number, &o);

	*ret_locked = r == -EACCES;
	if (r == 0)
		object_put(v, o);
	if (r == 0 || *ret_locked)
		r = object_peek(v, number & ~LOCKED_FILE, &p);
	if (r < 0)
		return r;
	*ret_scope = p.scope;
	*ret_dek_version = p.dek_version;
	return 0;
}

static void set_times(struct meta *m, const struct stat *st, unsigned set)
{
	struct timespec t = now();

	if (set & SET_ATIME)
		m->atime = st->st_atim;
	if (set & SET_ATIME_NOW)
		m->atime = t;
	if (set & SET_MTIME)
		m->mtime = st->st_mtim;
	if (set & SET_MTIME_NOW)
		m->mtime = t;
	m->ctime = set & SET_CTIME ? st->st_ctim : t;
}

static int set_attributes(struct change *ch, struct object *o, const struct stat *st, unsigned set)
{
	struct meta *m;
	int r = change_object(ch, o, &m);

	if (r < 0)
		return r;
	if (set & SET_SIZE) {
		if (!S_ISREG(m->mode))
			return S_ISDIR(m->mode) ? -EISDIR : -EINVAL;
		if ((uint64_t)st->st_size != m->size)
			m->mtime = now();
		r = data_resize(ch, o, (uint64_t)st->st_size);
	}
	if (r == 0 && set & (SET_UID | SET_GID)) {
		if (set & SET_UID)
			m->uid = st->st_uid;
		if (set & SET_GID)
			m->gid = st->st_gid;
	}
	drop_privileges(m, set & SET_KILL_ALL ? KILL_ALL_IDS : set & SET_KILL_SUIDGID ? KILL_IDS : KEEP_IDS);
	if (set & SET_MODE)
		m->mode = (m->mode & S_IFMT) | (st->st_mode & 07777);
	if (r == 0 && set & (SET_SIZE | SET_UID | SET_GID | SET_MODE))
		r = xattrs_follow(ch, o, set & SET_MODE, set & (SET_SIZE | SET_UID | SET_GID));
	set_times(m, st, set);
	if (set & (SET_ATIME | SET_ATIME_NOW)) {
		pthread_mutex_lock(&o->page_lock);
		o->atime_lazy = false;
		pthread_mutex_unlock(&o->page_lock);
	}
	return r;
}

int volume_setattr(struct volume *v, uint64_t number, const struct stat *st, unsigned set, struct attr *ret)
{
	struct object *o;
	struct change ch;
	int r;

	if (set & SET_SIZE && (st->st_size < 0 || (uint64_t)st->st_size > v->max_size))
		return -EFBIG;
	GATE_SCOPE(v);
	/* What the kernel sends when it writes back an inode's times. */
	r = (set == (SET_MTIME | SET_CTIME) ? object_get_flushing : object_get)(v, number, &o);
	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	bool removal = set & SET_SIZE && (uint64_t)st->st_size <= o->m->size; /* works on a full disk */

	pthread_rwlock_unlock(&o->lock);
	r = change_begin(v, &ch, data_payload(2), removal ? ROOM_REMOVAL : ROOM_NEW);
	if (r == 0) {
		r = set_attributes(&ch, o, st, set);
		if (r == 0)
			r = change_commit(&ch);
		else
			change_abort(&ch);
	}
	if (r == 0) {
		pthread_rwlock_rdlock(&o->lock);
		fill_attr(o, ret);
		pthread_rwlock_unlock(&o->lock);
	}
	object_put(v, o);
	return r;
}
