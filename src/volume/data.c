/* Contents: op -> span of blocks -> layers -> pages. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>

#include <coffer/util.h>

#include "internal.h"

enum {
	PIECE_BLOCKS = 256,           /* of one change: 1 MiB */
	HEADER_ROOM = 2 * BLOCK_SIZE, /* bytes of log for the header, and some */
};

size_t data_payload(size_t blocks)
{
	/* A tag page for each group that is touched and those at the ends, the maps above, a frame for each page. */
	size_t pages = blocks + blocks / GROUP_BLOCKS + 2 + 2 * LEVELS;

	return pages * (BLOCK_SIZE + 32) + HEADER_ROOM;
}

/* How many blocks from `first` on are under one cryptor. */
static unsigned under_one_key(const struct meta *m, uint64_t first, unsigned count)
{
	return meta_is_moving(m) && first < m->moved && count > m->moved - first ? (unsigned)(m->moved - first) : count;
}

/* ---- reading ---- */
/* How many of the blocks from `at` on are contiguous below and alike: all holes, or none. */
static unsigned run_length(const struct block_tag *tags, uint64_t first, unsigned at, unsigned count)
{
	uint64_t page = geometry_page(first + at);
	unsigned n = 1;

	while (at + n < count && is_hole(&tags[at + n]) == is_hole(&tags[at]) &&
	       geometry_page(first + at + n) == page + n)
		n++;
	return n;
}

int data_read(struct volume *v, struct change *ch, struct object *o, uint64_t first, unsigned count, uint8_t *plain)
{
	struct block_tag tags[PIECE_BLOCKS];
	int r = 0;

	while (r == 0 && count) {
		unsigned n = under_one_key(o->m, first, count < PIECE_BLOCKS ? count : PIECE_BLOCKS), bad = 0;

		if (!tags_are_at_hand(o, first)) /* the disk may as well bring the blocks meanwhile */
			store_prefetch(v->store, o->number, geometry_page(first), n);
		r = tags_read(v, ch, o, first, n, tags);
		for (unsigned at = 0, len; r == 0 && at < n; at += len) {
			len = run_length(tags, first, at, n);
			if (!is_hole(&tags[at]))
				r = store_read(v->store, o->number, geometry_page(first + at), len,
					       plain + (size_t)at * BLOCK_SIZE);
		}
		if (r == 0)
			r = cryptor_open_blocks(meta_cryptor(o->m, first, v->keys), o->number, first, n, plain, plain,
						tags, &bad);
		if (r == -EBADMSG) {
			log_error("object %" PRIu64 ": block %" PRIu64 " does not authenticate", o->number,
				  first + bad);
			r = -EIO;
		}
		first += n;
		count -= n;
		plain += (size_t)n * BLOCK_SIZE;
	}
	return r;
}

ssize_t volume_read(struct volume *v, uint64_t number, uint64_t off, size_t len, void *buf)
{
	GATE_SCOPE(v);
	struct object *o;
	ssize_t done = 0;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	if (o->removed)
		r = -ESTALE;
	else if (!S_ISREG(o->m->mode))
		r = S_ISDIR(o->m->mode) ? -EISDIR : -EINVAL;
	else if (off < o->m->size) {
		uint64_t first = off / BLOCK_SIZE;
		size_t skip = off % BLOCK_SIZE;

		if (len > o->m->size - off)
			len = o->m->size - off;
		r = data_read(v, NULL, o, first, (unsigned)((skip + len + BLOCK_SIZE - 1) / BLOCK_SIZE), buf);
		if (r == 0 && skip)
			memmove(buf, (uint8_t *)buf + skip, len);
		done = (ssize_t)len;
	}
	if (r == 0 && done)
		lazy_atime(v, o);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r < 0 ? r : done;
}

/* ---- writing ---- */
/* New blocks of one run, past the log: they are holes in every state that a crash may leave. */
static int write_new(struct change *ch, struct object *o, uint64_t first, unsigned count, const uint8_t *cipher)
{
	uint64_t page = geometry_page(first);
	int r = store_write_home(&ch->t, o->number, page, count, cipher);

	return r < 0 ? r : txn_unsynced(&ch->t, o->number, page, count);
}

static int write_logged(struct change *ch, struct object *o, uint64_t first, unsigned count, const uint8_t *cipher)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < count; i++)
		r = txn_write(&ch->t, o->number, geometry_page(first + i), cipher + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
	return r;
}

static int write_content(struct change *ch, struct object *o, uint64_t first, unsigned count, const uint8_t *cipher)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < count; i++)
		r = txn_write_bulk(&ch->t, o->number, geometry_page(first + i), cipher + (size_t)i * BLOCK_SIZE);
	return r;
}

static int seal(struct change *ch, const struct object *o, struct meta *m, uint64_t first, unsigned count,
		const uint8_t *plain, uint8_t *cipher, struct block_tag *tags)
{
	uint32_t key_version = (uint32_t)(m->tag_writes >> WRITES_PER_KEY_SHIFT);
	int r = 0;

	for (unsigned at = 0, n; r == 0 && at < count; at += n) {
		size_t skip = (size_t)at * BLOCK_SIZE;

		n = under_one_key(m, first + at, count - at);
		r = cryptor_seal_blocks(meta_cryptor(m, first + at, ch->v->keys), o->number, first + at, n, key_version,
					plain + skip, cipher + skip, tags + at);
	}
	m->tag_writes += count;
	return r;
}

int data_write(struct change *ch, struct object *o, uint64_t first, unsigned count, const uint8_t *plain, bool content)
{
	struct meta *m = change_staged(ch, o);
	struct block_tag old[PIECE_BLOCKS], tags[PIECE_BLOCKS];
	uint8_t *cipher = change_buffer(ch, (size_t)count * BLOCK_SIZE);
	unsigned fresh = 0;
	int r = count <= PIECE_BLOCKS && cipher ? tags_read(ch->v, ch, o, first, count, old) : -ENOMEM;

	if (r == 0)
		r = seal(ch, o, m, first, count, plain, cipher, tags);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++)
		fresh += is_hole(&old[i]);
	bool direct = content && fresh * (size_t)BLOCK_SIZE >= DIRECT_MIN &&
		      store_may_write_home(ch->v->store, o->number);
	for (unsigned at = 0, len; r == 0 && at < count; at += len) {
		len = run_length(old, first, at, count);
		r = (direct && is_hole(&old[at]) ? write_new
		     : content                   ? write_content
			       : write_logged)(ch, o, first + at, len, cipher + (size_t)at * BLOCK_SIZE);
	}
	return r < 0 ? r : tags_write(ch, o, first, count, tags);
}

/* Writes bytes at any offset: whole blocks as they are, the ends read, modified and written whole. The one place that does. */
static int write_span(struct change *ch, struct object *o, uint64_t off, size_t len, const uint8_t *data)
{
	uint64_t first = off / BLOCK_SIZE, last = (off + len - 1) / BLOCK_SIZE;
	unsigned count = (unsigned)(last - first + 1);
	size_t head = off % BLOCK_SIZE, tail = (off + len) % BLOCK_SIZE;
	int r = 0;

	if (!head && !tail)
		return data_write(ch, o, first, count, data, true);
	uint8_t *plain = change_buffer(ch, (size_t)count * BLOCK_SIZE);

	if (!plain)
		return -ENOMEM;
	if (head)
		r = data_read(ch->v, ch, o, first, 1, plain);
	if (r == 0 && tail && (count > 1 || !head))
		r = data_read(ch->v, ch, o, last, 1, plain + (size_t)(count - 1) * BLOCK_SIZE);
	if (r < 0)
		return r;
	memcpy(plain + head, data, len);
	return data_write(ch, o, first, count, plain, true);
}

void drop_privileges(struct meta *m, enum kill_ids kill)
{
	if (kill <= KEEP_IDS || S_ISDIR(m->mode))
		return;
	m->mode &= ~(mode_t)S_ISUID;
	if (m->mode & S_IXGRP || kill == KILL_ALL_IDS)
		m->mode &= ~(mode_t)S_ISGID;
}

/* What every change of a file's content does to its header; first checks that it is one. */
static int touch_content(struct change *ch, struct object *o, struct meta **ret, enum kill_ids kill)
{
	int r = change_object(ch, o, ret);

	if (r < 0)
		return r;
	if (!S_ISREG((*ret)->mode))
		return S_ISDIR((*ret)->mode) ? -EISDIR : -EINVAL;
	if (kill == WRITTEN_BACK)
		return 0;
	(*ret)->mtime = (*ret)->ctime = now();
	drop_privileges(*ret, kill);
	return xattrs_follow(ch, o, false, kill != KEEP_PRIVILEGES);
}

unsigned data_piece(struct volume *v)
{
	unsigned blocks = PIECE_BLOCKS;

	while (data_payload(blocks) > store_max_payload(v->store) && blocks > 1)
		blocks /= 2;
	return blocks;
}

/* Pieces are aligned, so that no block is written twice. */
static size_t piece(struct volume *v, uint64_t off, uint64_t len)
{
	size_t max = (size_t)data_piece(v) * BLOCK_SIZE;

	max -= off % BLOCK_SIZE; /* ends at a block */
	return len < max ? (size_t)len : max;
}

/* The pages below of some blocks, with the tag page of the first. */
static void pages_of(uint64_t first, uint64_t limit, uint64_t *ret_page, uint64_t *ret_count)
{
	*ret_page = first < HEADER_TAGS ? geometry_page(first) : geometry_meta_page(1, geometry_group(first));
	*ret_count = geometry_page(limit - 1) + 1 - *ret_page;
}

/* Whether a write needs no new space below: on a full disk, what is there, or was reserved, can still be written. */
static bool is_in_place(struct volume *v, struct object *o, uint64_t off, size_t len)
{
	uint64_t first = off / BLOCK_SIZE, limit = (off + len + BLOCK_SIZE - 1) / BLOCK_SIZE, hole = 0;
	uint64_t page, count, end;

	pthread_rwlock_rdlock(&o->lock);
	bool there = !o->removed && tags_seek(v, o, first, limit, false, &hole) == 0 && hole == limit;

	if (!there && !o->removed) {
		pages_of(first, limit, &page, &count);
		there = store_allocated(v->store, o->number, page, &end) >= count;
	}
	pthread_rwlock_unlock(&o->lock);
	return there;
}

static int write_piece(struct volume *v, struct object *o, uint64_t off, size_t len, const uint8_t *data,
		       enum kill_ids kill)
{
	struct change ch;
	struct meta *m;
	size_t payload = data_payload(len / BLOCK_SIZE + 2);
	int r = change_begin(v, &ch, payload, ROOM_NEW);

	if (is_full(r) && is_in_place(v, o, off, len))
		r = change_begin(v, &ch, payload, ROOM_IN_PLACE);
	if (r < 0)
		return r;
	r = touch_content(&ch, o, &m, kill);
	if (r == 0)
		r = write_span(&ch, o, off, len, data);
	if (r == 0 && off + len > m->size)
		m->size = off + len;
	if (r == 0)
		return change_commit(&ch);
	change_abort(&ch);
	return r;
}

int volume_write(struct volume *v, uint64_t number, uint64_t off, size_t len, const void *buf, enum kill_ids kill)
{
	const uint8_t *data = buf;
	struct object *o;
	int r, tries = TRIES_ON_FULL;

	if (off > v->max_size || len > v->max_size - off)
		return -EFBIG;
	GATE_SCOPE(v);
	/* What the kernel had taken before its scope was to be locked. */
	r = (kill == WRITTEN_BACK || kill == KEEP_PRIVILEGES ? object_get_flushing : object_get)(v, number, &o);
	if (r < 0)
		return r;
	while (r == 0 && len) {
		size_t n = piece(v, off, len);

		do
			r = write_piece(v, o, off, n, data, kill);
		while (is_full(r) && tries-- && store_reclaim(v->store));
		off += n;
		data += n;
		len -= n;
	}
	object_put(v, o);
	return r;
}

/* Whole content of a companion or a long symlink, inside a larger change. */
int data_replace(struct change *ch, struct object *o, const void *content, size_t len)
{
	struct meta *m = change_staged(ch, o);
	size_t blocks = (len + BLOCK_SIZE - 1) / BLOCK_SIZE;
	int r = tags_release(ch, o, blocks, UINT64_MAX);
	uint8_t *plain = len ? change_buffer(ch, blocks * BLOCK_SIZE) : NULL;

	if (r < 0 || (len && !plain))
		return r < 0 ? r : -ENOMEM;
	m->size = len;
	if (len) {
		memcpy(plain, content, len);
		memset(plain + len, 0, blocks * BLOCK_SIZE - len);
		r = data_write(ch, o, 0, (unsigned)blocks, plain, false);
	}
	return r;
}

/* ---- holes and sizes ---- */
/* Zeros within one block, if it is not a hole. */
static int zero_part(struct change *ch, struct object *o, uint64_t off, size_t len)
{
	static const uint8_t zeros[BLOCK_SIZE];
	struct block_tag tag;
	int r = len ? tags_read(ch->v, ch, o, off / BLOCK_SIZE, 1, &tag) : 0;

	return r < 0 || !len || is_hole(&tag) ? r : write_span(ch, o, off, len, zeros);
}

/* What is cut off reads as zeros should the file grow again, so the rest of its last block is zeroed now. What was reserved
 * behind the end goes, even where the size stays. */
int data_resize(struct change *ch, struct object *o, uint64_t size)
{
	struct meta *m = change_staged(ch, o);
	int r = 0;

	uint64_t blocks = (size + BLOCK_SIZE - 1) / BLOCK_SIZE, end = 0;

	if (size == m->size)
		store_allocated(ch->v->store, o->number, geometry_page(blocks), &end);
	if (size < m->size || end) {
		if (size % BLOCK_SIZE)
			r = zero_part(ch, o, size, BLOCK_SIZE - size % BLOCK_SIZE);
		if (r == 0)
			r = tags_release(ch, o, blocks, UINT64_MAX);
	}
	m->size = size;
	return r;
}

static int punch(struct change *ch, struct object *o, uint64_t off, uint64_t end)
{
	uint64_t first = (off + BLOCK_SIZE - 1) / BLOCK_SIZE, last = end / BLOCK_SIZE;

	if (off / BLOCK_SIZE == end / BLOCK_SIZE)
		return zero_part(ch, o, off, end - off);
	int r = zero_part(ch, o, off, first * BLOCK_SIZE - off);

	if (r == 0)
		r = zero_part(ch, o, last * BLOCK_SIZE, end % BLOCK_SIZE);
	return r < 0 ? r : tags_release(ch, o, first, last);
}

/* Real space below, so that writing it later does not fail. -EAGAIN: something of the object is about to be given back. */
static int reserve(struct change *ch, struct object *o, const struct meta *m, uint64_t off, uint64_t len)
{
	struct store *s = ch->v->store;
	uint64_t page, count, end, used = geometry_page((m->size + BLOCK_SIZE - 1) / BLOCK_SIZE);

	if (!store_may_write_home(s, o->number))
		return -EAGAIN;
	pages_of(off / BLOCK_SIZE, (off + len - 1) / BLOCK_SIZE + 1, &page, &count);
	used = used > page ? used : page;
	store_allocated(s, o->number, used, &end);
	int r = store_allocate(s, o->number, page, count);

	if (r < 0) /* what it took before it failed, as far as nothing else is there */
		store_give_back(s, o->number, used > end ? used : end);
	return r;
}

static int allocate_or_punch(struct volume *v, struct object *o, int mode, uint64_t off, uint64_t len,
			     enum kill_ids kill)
{
	bool zero = mode & FALLOC_FL_ZERO_RANGE, hole = mode & FALLOC_FL_PUNCH_HOLE;
	struct change ch;
	struct meta *m;
	int r = zero || hole ? 0 : store_settle_releases(v->store, o->number);

	if (r == 0)
		r = change_begin(v, &ch, data_payload(4), hole ? ROOM_REMOVAL : ROOM_NEW);
	if (r < 0)
		return r;
	r = touch_content(&ch, o, &m, kill);
	if (r == 0)
		r = zero || hole ? punch(&ch, o, off, off + len) : reserve(&ch, o, m, off, len);
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && off + len > m->size)
		m->size = off + len;
	if (r == 0)
		return change_commit(&ch);
	change_abort(&ch);
	return r;
}

int volume_fallocate(struct volume *v, uint64_t number, int mode, uint64_t off, uint64_t len, enum kill_ids kill)
{
	bool zero = mode & FALLOC_FL_ZERO_RANGE, hole = mode & FALLOC_FL_PUNCH_HOLE;
	struct object *o;
	int r, tries = TRIES_ON_FULL;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) || (zero && hole) ||
	    (hole && !(mode & FALLOC_FL_KEEP_SIZE)))
		return -EOPNOTSUPP;
	if (!len)
		return -EINVAL;
	if (off > v->max_size || len > v->max_size - off)
		return -EFBIG;
	GATE_SCOPE(v);
	r = object_get(v, number, &o);
	if (r < 0)
		return r;
	do
		r = allocate_or_punch(v, o, mode, off, len, kill);
	while (tries-- && (r == -EAGAIN || (is_full(r) && store_reclaim(v->store))));
	object_put(v, o);
	return r == -EAGAIN ? -ENOSPC : r;
}

int volume_seek(struct volume *v, uint64_t number, uint64_t off, int whence, uint64_t *ret)
{
	GATE_SCOPE(v);
	struct object *o;
	uint64_t block;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	uint64_t size = o->m->size, limit = (size + BLOCK_SIZE - 1) / BLOCK_SIZE;

	if (o->removed)
		r = -ESTALE;
	else if (!S_ISREG(o->m->mode) || (whence != SEEK_DATA && whence != SEEK_HOLE))
		r = -EINVAL;
	else if (off >= size)
		r = -ENXIO;
	else
		r = tags_seek(v, o, off / BLOCK_SIZE, limit, whence == SEEK_DATA, &block);
	if (r == 0 && whence == SEEK_DATA && block == limit)
		r = -ENXIO;
	if (r == 0) {
		uint64_t at = block * BLOCK_SIZE;

		*ret = at < off ? off : at > size ? size : at;
	}
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r;
}

static int last_commit(struct volume *v, uint64_t number, uint64_t *ret)
{
	GATE_SCOPE(v);
	struct object *o;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	*ret = o->last_seq; /* 0, not known, where it was out of the cache: then all */
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return 0;
}

/* Syncing needs no key: a slow disk holds no change of keys up. */
int volume_fsync(struct volume *v, uint64_t number)
{
	uint64_t seq;
	int r = last_commit(v, number, &seq);

	return r < 0 ? r : store_sync(v->store, number, seq);
}
