/* Directories: objects whose data blocks hold entries (FORMAT.md, "Directories"). In memory the blocks are kept whole, with an
 * index by hash over them (as UFS's dirhash, Dowse and Malone, "Recent Filesystem Optimisations in FreeBSD", USENIX 2002).
 *
 * An entry: object u64, length of the record u16, length of the name u8, type u8, name. Object 0: free space. Records fill a
 * block, never cross it, and never move: an entry's offset is its readdir cookie. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

enum { ENTRY_HEADER = 12, ENTRY_ALIGN = 4, ENTRY_MIN = 16, SEARCH_BLOCKS = 64 };

struct dir {
	uint8_t *blocks; /* plaintext */
	uint64_t block_count, block_room;
	uint16_t *room; /* of each block: the largest free record */
	bool *damaged;
	bool any_damaged;
	uint64_t *index; /* hash << 32 | offset / ENTRY_ALIGN + 1; 0: empty */
	size_t index_size, count;
	uint64_t hint; /* block where room was last found */
};

struct dir_edit {
	struct dir_edit *next;
	struct object *o;
	uint64_t block;
	uint8_t data[BLOCK_SIZE];
	struct index_op {
		bool add;
		uint32_t hash;
		uint64_t offset;
	} ops[4];
	unsigned op_count;
};

/* ---- records ---- */
static uint64_t rec_object(const uint8_t *e)
{
	return get_le64(e);
}
static unsigned rec_len(const uint8_t *e)
{
	return get_le16(e + 8);
}
static unsigned rec_name_len(const uint8_t *e)
{
	return e[10];
}

static unsigned rec_need(size_t name_len)
{
	size_t len = (ENTRY_HEADER + name_len + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN;

	return len < ENTRY_MIN ? ENTRY_MIN : (unsigned)len;
}

static void rec_put(uint8_t *e, uint64_t object, unsigned len, const char *name, size_t name_len, mode_t mode)
{
	memset(e, 0, len);
	put_le64(e, object);
	put_le16(e + 8, (uint16_t)len);
	e[10] = (uint8_t)name_len;
	e[11] = (uint8_t)(object ? IFTODT(mode) : 0);
	if (name_len)
		memcpy(e + ENTRY_HEADER, name, name_len);
}

static bool block_is_sound(const uint8_t *b)
{
	unsigned at = 0;

	while (at < BLOCK_SIZE) {
		const uint8_t *e = b + at;

		if (BLOCK_SIZE - at < ENTRY_MIN || rec_len(e) < ENTRY_MIN || rec_len(e) % ENTRY_ALIGN ||
		    rec_len(e) > BLOCK_SIZE - at)
			return false;
		if (rec_object(e) &&
		    (rec_name_len(e) == 0 || rec_need(rec_name_len(e)) > rec_len(e) ||
		     memchr(e + ENTRY_HEADER, 0, rec_name_len(e)) || memchr(e + ENTRY_HEADER, '/', rec_name_len(e))))
			return false;
		at += rec_len(e);
	}
	return true;
}

static uint16_t largest_room(const uint8_t *b)
{
	unsigned best = 0;

	for (unsigned at = 0; at < BLOCK_SIZE; at += rec_len(b + at))
		if (!rec_object(b + at) && rec_len(b + at) > best)
			best = rec_len(b + at);
	return (uint16_t)best;
}

/* ---- the index ---- */
/* FNV-1a with a seed of this process, so that nobody chooses names that collide. */
static uint32_t hash_name(const char *name, size_t len)
{
	static atomic_uint_fast64_t seed;
	uint64_t h = atomic_load(&seed);

	while (!h) {
		uint64_t fresh, none = 0;

		if (random_bytes(&fresh, sizeof(fresh)) < 0)
			fresh = (uint64_t)time(NULL);
		atomic_compare_exchange_strong(&seed, &none, fresh | 1);
		h = atomic_load(&seed);
	}
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)name[i]) * 0x100000001b3ULL;
	h ^= h >> 29;
	h *= 0xff51afd7ed558ccdULL;
	return (uint32_t)(h >> 32);
}

static void index_insert(uint64_t *index, size_t size, uint64_t value)
{
	size_t i = (size_t)(value >> 32) & (size - 1);

	while (index[i])
		i = (i + 1) & (size - 1);
	index[i] = value;
}

static uint64_t index_value(uint32_t hash, uint64_t offset)
{
	return (uint64_t)hash << 32 | (offset / ENTRY_ALIGN + 1);
}

static uint64_t index_offset(uint64_t value)
{
	return ((value & UINT32_MAX) - 1) * ENTRY_ALIGN;
}

static int index_reserve(struct dir *d, size_t count)
{
	size_t size = d->index_size ? d->index_size : 64;

	while (count * 4 > size * 3)
		size *= 2;
	if (size == d->index_size)
		return 0;
	uint64_t *bigger = calloc(size, sizeof(*bigger));

	if (!bigger)
		return -ENOMEM;
	for (size_t i = 0; i < d->index_size; i++)
		if (d->index[i])
			index_insert(bigger, size, d->index[i]);
	free(d->index);
	d->index = bigger;
	d->index_size = size;
	return 0;
}

static void index_remove(struct dir *d, uint64_t value)
{
	size_t mask = d->index_size - 1, hole = (size_t)(value >> 32) & mask;

	while (d->index[hole] && d->index[hole] != value)
		hole = (hole + 1) & mask;
	if (!d->index[hole])
		return;
	for (size_t i = hole;;) {
		i = (i + 1) & mask;
		if (!d->index[i])
			break;
		size_t want = (size_t)(d->index[i] >> 32) & mask;

		if (((i - want) & mask) >= ((i - hole) & mask)) {
			d->index[hole] = d->index[i];
			hole = i;
		}
	}
	d->index[hole] = 0;
}

/* ---- loading ---- */
void dir_wipe(struct dir *d)
{
	if (d)
		wipe(d->blocks, d->block_count * BLOCK_SIZE);
}

void dir_free(struct dir *d)
{
	if (!d)
		return;
	free(d->blocks);
	free(d->room);
	free(d->damaged);
	free(d->index);
	free(d);
}

size_t dir_memory(const struct dir *d)
{
	return d ? d->block_room * BLOCK_SIZE + d->index_size * sizeof(*d->index) : 0;
}

static int reserve_blocks(struct dir *d, uint64_t count)
{
	uint64_t room = d->block_room ? d->block_room : 1;

	if (count <= d->block_room)
		return 0;
	while (room < count)
		room *= 2;
	uint8_t *blocks = realloc(d->blocks, room * BLOCK_SIZE);

	if (blocks)
		d->blocks = blocks;
	uint16_t *largest = realloc(d->room, room * sizeof(*largest));

	if (largest)
		d->room = largest;
	bool *damaged = realloc(d->damaged, room * sizeof(*damaged));

	if (damaged)
		d->damaged = damaged;
	if (!blocks || !largest || !damaged)
		return -ENOMEM;
	d->block_room = room;
	return 0;
}

static int index_block(struct dir *d, uint64_t block)
{
	uint8_t *b = d->blocks + block * BLOCK_SIZE;
	int r = 0;

	for (unsigned at = 0; r == 0 && at < BLOCK_SIZE; at += rec_len(b + at)) {
		if (!rec_object(b + at))
			continue;
		r = index_reserve(d, d->count + 1);
		if (r == 0) {
			uint32_t hash = hash_name((char *)b + at + ENTRY_HEADER, rec_name_len(b + at));

			index_insert(d->index, d->index_size, index_value(hash, block * BLOCK_SIZE + at));
			d->count++;
		}
	}
	d->room[block] = largest_room(b);
	d->damaged[block] = false;
	return r;
}

static int load_blocks(struct volume *v, struct object *o, struct dir *d)
{
	enum { AT_ONCE = 256 };
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < d->block_count; at += AT_ONCE) {
		unsigned n = d->block_count - at < AT_ONCE ? (unsigned)(d->block_count - at) : AT_ONCE;
		bool whole = data_read(v, NULL, o, at, n, d->blocks + at * BLOCK_SIZE) == 0;

		for (unsigned i = 0; r == 0 && i < n; i++) {
			uint8_t *b = d->blocks + (at + i) * BLOCK_SIZE;

			if ((whole || data_read(v, NULL, o, at + i, 1, b) == 0) && block_is_sound(b)) {
				r = index_block(d, at + i);
				continue;
			}
			log_error("object %" PRIu64 ": block %" PRIu64
				  " of the directory is damaged; the names in it are "
				  "not to be had",
				  o->number, at + i);
			d->damaged[at + i] = d->any_damaged = true;
			d->room[at + i] = 0;
		}
	}
	return r;
}

int dir_load(struct volume *v, struct object *o)
{
	if (o->dir)
		return 0;
	struct dir *d = calloc(1, sizeof(*d));
	int r = d ? 0 : -ENOMEM;

	if (r == 0 && o->m->size % BLOCK_SIZE)
		r = -EIO;
	if (r == 0) {
		d->block_count = o->m->size / BLOCK_SIZE;
		r = reserve_blocks(d, d->block_count ? d->block_count : 1);
	}
	if (r == 0)
		r = index_reserve(d, 1);
	if (r == 0)
		r = load_blocks(v, o, d);
	if (r < 0) {
		dir_free(d);
		return r;
	}
	o->dir = d;
	return 0;
}

int dir_get(struct volume *v, uint64_t number, struct object **ret)
{
	struct object *o;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	bool loaded = o->dir;

	pthread_rwlock_unlock(&o->lock);
	if (!loaded) {
		pthread_rwlock_wrlock(&o->lock);
		r = S_ISDIR(o->m->mode) ? dir_load(v, o) : -ENOTDIR;
		pthread_rwlock_unlock(&o->lock);
	}
	if (r < 0)
		object_put(v, o);
	else
		*ret = o;
	return r;
}

/* ---- looking ---- */
bool dir_is_empty(const struct object *o)
{
	return o->dir->count == 0 && !o->dir->any_damaged;
}

int dir_find(const struct object *o, const char *name, struct dir_entry *ret)
{
	const struct dir *d = o->dir;
	size_t len = strlen(name), mask = d->index_size - 1;
	uint32_t hash = hash_name(name, len);

	for (size_t i = hash & mask; d->index[i]; i = (i + 1) & mask) {
		if (d->index[i] >> 32 != hash)
			continue;
		uint64_t offset = index_offset(d->index[i]);
		const uint8_t *e = d->blocks + offset;

		if (rec_name_len(e) != len || memcmp(e + ENTRY_HEADER, name, len) != 0)
			continue;
		*ret = (struct dir_entry){ rec_object(e), DTTOIF(e[11]), offset };
		return 0;
	}
	return d->any_damaged ? -EIO : -ENOENT;
}

int dir_next(const struct object *o, uint64_t *offset, struct dir_entry *ret, char name[static VOLUME_NAME_MAX + 1])
{
	const struct dir *d = o->dir;

	for (uint64_t block = *offset / BLOCK_SIZE; block < d->block_count; block++) {
		const uint8_t *b = d->blocks + block * BLOCK_SIZE;

		if (d->damaged[block])
			return -EIO;
		for (unsigned at = 0; at < BLOCK_SIZE; at += rec_len(b + at)) {
			const uint8_t *e = b + at;

			if (block * BLOCK_SIZE + at < *offset || !rec_object(e))
				continue;
			*offset = block * BLOCK_SIZE + at;
			*ret = (struct dir_entry){ rec_object(e), DTTOIF(e[11]), *offset };
			memcpy(name, e + ENTRY_HEADER, rec_name_len(e));
			name[rec_name_len(e)] = 0;
			return 0;
		}
	}
	return -ENOENT;
}

/* ---- editing ---- */
/* The staged copy of a block; one past the end is made, all free. */
static struct dir_edit *edit_block(struct change *ch, struct object *o, uint64_t block)
{
	struct dir_edit *e = ch->edits;

	while (e && (e->o != o || e->block != block))
		e = e->next;
	if (e)
		return e->op_count < sizeof(e->ops) / sizeof(*e->ops) ? e : NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->o = o;
	e->block = block;
	if (block < o->dir->block_count)
		memcpy(e->data, o->dir->blocks + block * BLOCK_SIZE, BLOCK_SIZE);
	else
		rec_put(e->data, 0, BLOCK_SIZE, "", 0, 0);
	e->next = ch->edits;
	ch->edits = e;
	return e;
}

/* A block with room: where it was found last, then a few more, then a new one. */
static uint64_t find_room(const struct dir *d, unsigned need)
{
	uint64_t n = d->block_count < SEARCH_BLOCKS ? d->block_count : SEARCH_BLOCKS;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t block = (d->hint + i) % d->block_count;

		if (d->room[block] >= need)
			return block;
	}
	return d->block_count;
}

static bool put_in_block(struct dir_edit *e, const char *name, size_t len, uint64_t object, mode_t mode)
{
	unsigned need = rec_need(len);

	for (unsigned at = 0; at < BLOCK_SIZE; at += rec_len(e->data + at)) {
		uint8_t *rec = e->data + at;
		unsigned have = rec_len(rec);

		if (rec_object(rec) || have < need)
			continue;
		if (have - need >= ENTRY_MIN)
			rec_put(rec + need, 0, have - need, "", 0, 0);
		else
			need = have;
		rec_put(rec, object, need, name, len, mode);
		e->ops[e->op_count++] = (struct index_op){ true, hash_name(name, len), e->block * BLOCK_SIZE + at };
		return true;
	}
	return false;
}

int dir_insert(struct change *ch, struct object *o, const char *name, uint64_t object, mode_t mode)
{
	struct dir *d = o->dir;
	struct meta *m = change_staged(ch, o);
	size_t len = strlen(name);
	uint64_t block = find_room(d, rec_need(len));
	struct dir_edit *e = edit_block(ch, o, block);

	if (e && !put_in_block(e, name, len, object, mode)) {
		/* Another name of this change took the room. */
		block = d->block_count;
		e = edit_block(ch, o, block);
		if (e && !put_in_block(e, name, len, object, mode))
			return -EIO;
	}
	if (!e)
		return -ENOMEM;
	if ((block + 1) * BLOCK_SIZE > m->size)
		m->size = (block + 1) * BLOCK_SIZE;
	if (block > UINT32_MAX / (BLOCK_SIZE / ENTRY_ALIGN) - 2)
		return -ENOSPC;
	int r = reserve_blocks(d, block + 1);

	return r < 0 ? r : index_reserve(d, d->count + 2);
}

static int edit_entry(struct change *ch, struct object *o, const char *name, struct dir_edit **ret, unsigned *ret_at)
{
	struct dir_entry found;
	int r = dir_find(o, name, &found);

	if (r < 0)
		return r;
	*ret = edit_block(ch, o, found.offset / BLOCK_SIZE);
	*ret_at = found.offset % BLOCK_SIZE;
	return *ret ? 0 : -ENOMEM;
}

int dir_remove(struct change *ch, struct object *o, const char *name)
{
	struct dir_edit *e;
	unsigned target;
	int r = edit_entry(ch, o, name, &e, &target);

	if (r < 0)
		return r;
	unsigned before = target, end = target + rec_len(e->data + target);

	for (unsigned at = 0; at < target; at += rec_len(e->data + at)) /* join with free space on both sides */
		before = !rec_object(e->data + at) && at + rec_len(e->data + at) == target ? at : target;
	if (end < BLOCK_SIZE && !rec_object(e->data + end))
		end += rec_len(e->data + end);
	rec_put(e->data + before, 0, end - before, "", 0, 0);
	e->ops[e->op_count++] = (struct index_op){ false, hash_name(name, strlen(name)),
						   e->block * BLOCK_SIZE + target };
	return 0;
}

int dir_replace(struct change *ch, struct object *o, const char *name, uint64_t object, mode_t mode)
{
	struct dir_edit *e;
	unsigned at;
	int r = edit_entry(ch, o, name, &e, &at);

	if (r == 0) {
		put_le64(e->data + at, object);
		e->data[at + 11] = (uint8_t)IFTODT(mode);
	}
	return r;
}

int dir_stage(struct change *ch)
{
	int r = 0;

	for (struct dir_edit *e = ch->edits; r == 0 && e; e = e->next)
		r = data_write(ch, e->o, e->block, 1, e->data, false);
	return r;
}

void dir_apply(struct change *ch)
{
	for (struct dir_edit *e = ch->edits; e; e = e->next) {
		struct dir *d = e->o->dir;

		memcpy(d->blocks + e->block * BLOCK_SIZE, e->data, BLOCK_SIZE);
		if (e->block >= d->block_count)
			d->block_count = e->block + 1;
		d->damaged[e->block] = false;
		d->room[e->block] = largest_room(e->data);
		d->hint = e->block;
		for (unsigned i = 0; i < e->op_count; i++) {
			uint64_t value = index_value(e->ops[i].hash, e->ops[i].offset);

			if (e->ops[i].add)
				index_insert(d->index, d->index_size, value);
			else
				index_remove(d, value);
			d->count += e->ops[i].add ? 1 : -1;
		}
	}
}

void dir_discard(struct change *ch)
{
	while (ch->edits) {
		struct dir_edit *next = ch->edits->next;

		free(ch->edits);
		ch->edits = next;
	}
}
