/* A change: what one operation does to objects, staged, then committed to the log as a whole, then made visible. */
#include <errno.h>

#include <coffer/util.h>

#include "internal.h"

enum { TRAILER = PAGE_BODY };

int change_begin(struct volume *v, struct change *ch, size_t payload, enum room room)
{
	*ch = (struct change){ .v = v };
	return store_begin(v->store, &ch->t, payload, room);
}

struct meta *change_staged(struct change *ch, const struct object *o)
{
	for (unsigned i = 0; ch && i < ch->object_count; i++)
		if (ch->objects[i].o == o)
			return ch->objects[i].m;
	return NULL;
}

int change_object(struct change *ch, struct object *o, struct meta **ret)
{
	struct meta *m = change_staged(ch, o);

	if (!m) {
		if (ch->object_count == CHANGE_OBJECTS)
			return -EIO;
		pthread_rwlock_wrlock(&o->lock);
		m = o->m ? meta_copy(o->m, VAR_MAX) : NULL;
		ch->objects[ch->object_count].o = o;
		ch->objects[ch->object_count].remove = false;
		ch->objects[ch->object_count++].m = m;
	}
	*ret = m;
	return o->removed ? -ESTALE : m ? 0 : -ENOMEM;
}

int change_remove(struct change *ch, struct object *o)
{
	for (unsigned i = 0; i < ch->object_count; i++)
		if (ch->objects[i].o == o)
			ch->objects[i].remove = true;
	return txn_remove(&ch->t, o->number);
}

int change_pin(struct change *ch, uint64_t number, struct object **ret)
{
	for (unsigned i = 0; i < ch->pinned_count; i++) {
		if (ch->pinned[i]->number == number) {
			*ret = ch->pinned[i];
			return 0;
		}
	}
	if (ch->pinned_count == CHANGE_OBJECTS)
		return -EIO;
	int r = object_get(ch->v, number, ret);

	if (r == 0)
		ch->pinned[ch->pinned_count++] = *ret;
	return r;
}

int change_new(struct change *ch, const struct meta *like, mode_t mode, uint32_t flags, struct object **ret,
	       struct meta **ret_meta)
{
	struct object *o;
	uint64_t number;
	int r = ch->object_count < CHANGE_OBJECTS && ch->pinned_count < CHANGE_OBJECTS ? 0 : -EIO;

	if (r == 0)
		r = volume_number(ch->v, &number);
	if (r == 0)
		r = object_make(ch->v, number, &o);
	if (r < 0)
		return r;
	ch->pinned[ch->pinned_count++] = o;
	pthread_rwlock_wrlock(&o->lock);
	struct meta *m = calloc(1, sizeof(*m) + VAR_MAX);

	ch->objects[ch->object_count].o = o;
	ch->objects[ch->object_count].remove = false;
	ch->objects[ch->object_count++].m = m;
	if (!m)
		return -ENOMEM;
	m->mode = mode;
	m->flags = flags;
	m->scope = like->scope;
	m->dek_version = keys_current_version(ch->v->keys, like->scope);
	m->atime = m->mtime = m->ctime = m->btime = now();
	*ret = o;
	*ret_meta = m;
	return meta_cryptor(m, 0, ch->v->keys) ? 0 : -EACCES;
}

void change_drop_xattrs(struct change *ch, struct object *o)
{
	for (unsigned i = 0; i < ch->object_count; i++)
		if (ch->objects[i].o == o)
			ch->objects[i].drop_xattrs = true;
}

struct staged_page *change_page(struct change *ch, const struct object *o, unsigned level, uint64_t index)
{
	struct staged_page *p = ch ? ch->pages : NULL;

	while (p && (p->o != o || p->level != level || p->index != index))
		p = p->next;
	return p;
}

struct staged_page *change_add_page(struct change *ch, struct object *o, unsigned level, uint64_t index)
{
	struct staged_page *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->o = o;
	p->level = level;
	p->index = index;
	p->next = ch->pages;
	ch->pages = p;
	return p;
}

uint8_t *change_buffer(struct change *ch, size_t len)
{
	struct buffer *b = malloc(sizeof(*b) + len);

	if (!b)
		return NULL;
	b->next = ch->buffers;
	ch->buffers = b;
	return b->data;
}

static int seal_page(struct change *ch, struct staged_page *p)
{
	struct meta *m = change_staged(ch, p->o);
	uint64_t position = geometry_meta_page(p->level, p->index);
	struct cryptor *c = meta_cryptor(m, geometry_first_block(p->level, p->index), ch->v->keys);

	if (p->dropped)
		return 0;
	memset(p->data + TRAILER, 0, BLOCK_SIZE - TRAILER);
	int r = cryptor_mac_page(c, p->o->number, position, (uint32_t)(++m->seals >> WRITES_PER_KEY_SHIFT), p->data,
				 PAGE_BODY, (struct block_tag *)(p->data + TRAILER));

	return r < 0 ? r : txn_write(&ch->t, p->o->number, position, p->data, BLOCK_SIZE);
}

static int seal_header(struct change *ch, unsigned i)
{
	uint8_t *page = change_buffer(ch, BLOCK_SIZE);
	size_t used;

	if (!page)
		return -ENOMEM;
	int r = meta_encode(ch->objects[i].m, ch->objects[i].o->number, ch->v->keys, page, &used);

	return r < 0 ? r : txn_write(&ch->t, ch->objects[i].o->number, 0, page, used);
}

/* Keeps a verified page with its object; drops them all where they are too many. page_lock is held. */
static void keep_page(struct object *o, uint64_t position, const uint8_t *data)
{
	enum { KEPT_MAX = 4096 };
	uint8_t *old = map_get(&o->pages, position + 1);

	if (!data) {
		free(map_remove(&o->pages, position + 1));
		return;
	}
	if (!old && o->pages.count >= KEPT_MAX) {
		size_t pos = 0;

		for (void *page; (page = map_next(&o->pages, &pos, NULL));)
			free(page);
		map_free(&o->pages);
	}
	if (!old) {
		old = malloc(BLOCK_SIZE);
		if (!old || map_put(&o->pages, position + 1, old) < 0) {
			free(old);
			return; /* it is read again when needed */
		}
	}
	memcpy(old, data, BLOCK_SIZE);
}

void page_keep(struct object *o, uint64_t position, const uint8_t *data)
{
	LOCK_SCOPE(&o->page_lock);
	keep_page(o, position, data);
}

static void install(struct change *ch, uint64_t seq)
{
	for (struct staged_page *p = ch->pages; p; p = p->next)
		page_keep(p->o, geometry_meta_page(p->level, p->index), p->dropped ? NULL : p->data);
	dir_apply(ch);
	for (unsigned i = 0; i < ch->object_count; i++) {
		struct object *o = ch->objects[i].o;
		struct meta *m = ch->objects[i].m, *exact = meta_copy(m, 0);

		o->last_seq = seq;
		o->removed = o->removed || ch->objects[i].remove;
		if (ch->objects[i].drop_xattrs) {
			free(o->xattrs);
			o->xattrs = NULL;
		}
		free(o->m);
		o->m = exact ? exact : m; /* without memory for an exact copy the roomy one stays */
		ch->objects[i].m = exact ? m : NULL;
	}
}

static void finish(struct change *ch)
{
	dir_discard(ch);
	while (ch->pages) {
		struct staged_page *next = ch->pages->next;

		free(ch->pages);
		ch->pages = next;
	}
	while (ch->buffers) {
		struct buffer *next = ch->buffers->next;

		free(ch->buffers);
		ch->buffers = next;
	}
	while (ch->object_count) {
		free(ch->objects[--ch->object_count].m);
		pthread_rwlock_unlock(&ch->objects[ch->object_count].o->lock);
	}
	while (ch->pinned_count)
		object_put(ch->v, ch->pinned[--ch->pinned_count]);
}

int change_commit(struct change *ch)
{
	uint64_t seq = 0;
	int r = dir_stage(ch);

	for (struct staged_page *p = ch->pages; r == 0 && p; p = p->next)
		r = seal_page(ch, p);
	for (unsigned i = 0; r == 0 && i < ch->object_count; i++)
		if (!ch->objects[i].remove)
			r = seal_header(ch, i);
	if (r == 0)
		r = store_commit(&ch->t, &seq);
	else
		store_abort(&ch->t);
	if (r == 0)
		install(ch, seq);
	finish(ch);
	return r;
}

void change_abort(struct change *ch)
{
	store_abort(&ch->t);
	finish(ch);
}
