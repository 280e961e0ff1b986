/* Generations: what one segment of the log holds, by object and page, until it is home. overlay_lock is the caller's. */
#include <errno.h>

#include <coffer/util.h>

#include "internal.h"

enum { RELEASE_BATCH = 64, SIZE_STEP = 512 /* bytes: headers are short, all else is whole pages */ };

struct generation *generation_new(uint64_t number)
{
	struct generation *g = calloc(1, sizeof(*g));

	if (g)
		g->number = number;
	return g;
}

static void drop_page(struct generation *g, struct overlay_page *p)
{
	g->bytes -= sizeof(*p) + p->size;
	g->page_count--;
	free(p);
}

static void drop_pages(struct generation *g, struct dirty_object *o)
{
	size_t pos = 0;
	struct overlay_page *page;

	while ((page = map_next(&o->pages, &pos, NULL)))
		drop_page(g, page);
	map_free(&o->pages);
	map_free(&o->unsynced);
}

void generation_free(struct generation *g)
{
	size_t pos = 0;
	struct dirty_object *o;

	if (!g)
		return;
	while ((o = map_next(&g->objects, &pos, NULL))) {
		drop_pages(g, o);
		free(o->released);
		free(o);
	}
	map_free(&g->objects);
	free(g);
}

struct dirty_object *generation_object(struct generation *g, uint64_t object)
{
	struct dirty_object *o = map_get(&g->objects, object);

	if (o)
		return o;
	o = calloc(1, sizeof(*o));
	if (!o || map_put(&g->objects, object, o) < 0) {
		free(o);
		return NULL;
	}
	o->number = object;
	return o;
}

struct overlay_page *dirty_page(struct generation *g, struct dirty_object *o, uint64_t page, size_t size)
{
	struct overlay_page *p = map_get(&o->pages, page + 1), *made;
	size_t old = p ? p->size : 0;

	if (p && old >= size && !p->bulk)
		return p;
	size = (size + SIZE_STEP - 1) / SIZE_STEP * SIZE_STEP;
	made = calloc(1, sizeof(*made) + size);
	if (!made || map_put(&o->pages, page + 1, made) < 0) {
		free(made);
		return NULL;
	}
	made->size = (uint16_t)size;
	g->bytes += sizeof(*made) + size;
	g->page_count++;
	if (p) {
		memcpy(made->data, p->data, old);
		drop_page(g, p);
	}
	return made;
}

int dirty_bulk(struct generation *g, struct dirty_object *o, uint64_t page, const struct payload *where)
{
	struct overlay_page *p = map_get(&o->pages, page + 1);

	if (!p || !p->bulk) {
		struct overlay_page *made = calloc(1, sizeof(*made));

		if (!made || map_put(&o->pages, page + 1, made) < 0) {
			free(made);
			return -ENOMEM;
		}
		g->bytes += sizeof(*made);
		g->page_count++;
		if (p)
			drop_page(g, p);
		p = made;
		p->bulk = true;
	}
	p->segment = (uint8_t)where->segment;
	p->offset = where->offset;
	return 0;
}

bool range_has(const struct range *r, uint64_t page)
{
	return page >= r->first && (r->count == UINT64_MAX || page - r->first < r->count);
}

/* Takes what lies in a range out of a map keyed by page + 1; frees it where the values are pages. */
static void forget_range(struct generation *g, struct map *m, uint64_t first, uint64_t count, bool pages)
{
	uint64_t found[RELEASE_BATCH];
	size_t n;

	if (count <= RELEASE_BATCH) {
		for (uint64_t page = first; page < first + count; page++) {
			void *p = map_remove(m, page + 1);

			if (p && pages)
				drop_page(g, p);
		}
		return;
	}
	do { /* in batches: the map must not change under map_next */
		size_t pos = 0;
		uint64_t key;

		n = 0;
		while (n < RELEASE_BATCH && map_next(m, &pos, &key))
			if (range_has(&(struct range){ first, count }, key - 1))
				found[n++] = key;
		for (size_t i = 0; i < n; i++) {
			void *p = map_remove(m, found[i]);

			if (pages)
				drop_page(g, p);
		}
	} while (n == RELEASE_BATCH);
}

int dirty_release(struct generation *g, struct dirty_object *o, uint64_t first, uint64_t count)
{
	if (o->released_count == o->released_size) {
		size_t size = o->released_size ? o->released_size * 2 : 4;
		struct range *bigger = realloc(o->released, size * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		o->released = bigger;
		o->released_size = size;
	}
	o->released[o->released_count++] = (struct range){ first, count };
	forget_range(g, &o->pages, first, count, true);
	forget_range(g, &o->unsynced, first, count, false);
	return 0;
}

void dirty_remove(struct generation *g, struct dirty_object *o, uint64_t seq)
{
	drop_pages(g, o);
	o->released_count = 0;
	o->removed_seq = seq;
}

const struct overlay_page *dirty_find(const struct generation *g, uint64_t object, uint64_t page)
{
	const struct dirty_object *o = g ? map_get(&g->objects, object) : NULL;

	return o ? map_get(&o->pages, page + 1) : NULL;
}
