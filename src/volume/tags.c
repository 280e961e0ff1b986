/* Tags of blocks, and the tree of existence maps that says which tag pages there are. */
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

static const struct block_tag hole;

static bool bit_get(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

static void bit_set(uint8_t *bits, uint64_t i, bool on)
{
	if (on)
		bits[i / 8] |= (uint8_t)(1u << (i % 8));
	else
		bits[i / 8] &= (uint8_t) ~(1u << (i % 8));
}

static const struct meta *view(struct change *ch, const struct object *o)
{
	const struct meta *m = change_staged(ch, o);

	return m ? m : o->m;
}

/* Reads and verifies a tag or map page that must be there. */
static int load_page(struct volume *v, struct object *o, unsigned level, uint64_t index, uint8_t out[static BLOCK_SIZE])
{
	uint64_t position = geometry_meta_page(level, index), first = geometry_first_block(level, index);

	pthread_mutex_lock(&o->page_lock);
	const uint8_t *kept = map_get(&o->pages, position + 1);

	if (kept)
		memcpy(out, kept, BLOCK_SIZE);
	pthread_mutex_unlock(&o->page_lock);
	atomic_fetch_add_explicit(kept ? &v->page_hits : &v->page_misses, 1, memory_order_relaxed);
	if (kept)
		return 0;

	int r = store_read(v->store, o->number, position, 1, out);

	if (r == 0)
		r = cryptor_check_page(meta_cryptor(o->m, first, v->keys), o->number, position, out, PAGE_BODY,
				       (const struct block_tag *)(out + PAGE_BODY));
	if (r == -EBADMSG) {
		log_error("object %" PRIu64 ": the %s page at %" PRIu64 " does not authenticate", o->number,
			  level == 1 ? "tag" : "map", position);
		return -EIO;
	}
	if (r == 0)
		page_keep(o, position, out);
	return r;
}

/* Whether a page of the tree is there; if so and `out` is not NULL, its bytes. */
static int find_page(struct volume *v, struct change *ch, struct object *o, unsigned level, uint64_t index,
		     uint8_t *out)
{
	const struct meta *m = view(ch, o);
	uint8_t parent[BLOCK_SIZE];
	int r;

	if (level > m->height)
		return 0;
	const struct staged_page *p = change_page(ch, o, level, index);

	if (p) {
		if (!p->dropped && out)
			memcpy(out, p->data, BLOCK_SIZE);
		return !p->dropped;
	}
	if (level == m->height) {
		if (index >= ROOT_BITS || !bit_get(m->root, index))
			return 0;
	} else {
		r = find_page(v, ch, o, level + 1, index / MAP_FANOUT, parent);
		if (r <= 0)
			return r;
		if (!bit_get(parent, index % MAP_FANOUT))
			return 0;
	}
	r = out ? load_page(v, o, level, index, out) : 0;
	return r < 0 ? r : 1;
}

bool tags_are_at_hand(struct object *o, uint64_t first)
{
	if (first < HEADER_TAGS)
		return true;
	LOCK_SCOPE(&o->page_lock);
	return map_get(&o->pages, geometry_meta_page(1, geometry_group(first)) + 1);
}

int tags_read(struct volume *v, struct change *ch, struct object *o, uint64_t first, unsigned count,
	      struct block_tag *out)
{
	struct meta *m = (struct meta *)(uintptr_t)view(ch, o);
	uint8_t page[BLOCK_SIZE];
	unsigned done = 0;

	for (; done < count && first + done < HEADER_TAGS; done++)
		out[done] = first + done < m->tag_count ? meta_tags(m)[first + done] : hole;
	while (done < count) {
		unsigned slot = geometry_slot(first + done), n = GROUP_BLOCKS - slot;

		if (n > count - done)
			n = count - done;
		int r = find_page(v, ch, o, 1, geometry_group(first + done), page);

		if (r < 0)
			return r;
		if (r)
			memcpy(out + done, page + slot * sizeof(hole), n * sizeof(hole));
		else
			memset(out + done, 0, n * sizeof(hole));
		done += n;
	}
	return 0;
}

/* ---- staging ---- */
static struct staged_page *stage_page(struct change *ch, struct object *o, unsigned level, uint64_t index, int *error);

static int set_bit(struct change *ch, struct object *o, unsigned level, uint64_t index, bool on)
{
	struct meta *m = change_staged(ch, o);
	int r = 0;

	if (level == m->height) {
		bit_set(m->root, index, on);
		return 0;
	}
	struct staged_page *parent = stage_page(ch, o, level + 1, index / MAP_FANOUT, &r);

	if (parent)
		bit_set(parent->data, index % MAP_FANOUT, on);
	return r;
}

/* The staged copy of a page, made (and marked in its map) where there is none. */
static struct staged_page *stage_page(struct change *ch, struct object *o, unsigned level, uint64_t index, int *error)
{
	struct staged_page *p = change_page(ch, o, level, index);
	uint8_t page[BLOCK_SIZE] = { 0 };

	if (p && !p->dropped)
		return p;
	int there = find_page(ch->v, ch, o, level, index, page);

	if (there < 0) {
		*error = there;
		return NULL;
	}
	if (!p)
		p = change_add_page(ch, o, level, index);
	if (!p) {
		*error = -ENOMEM;
		return NULL;
	}
	p->dropped = false;
	memcpy(p->data, page, BLOCK_SIZE);
	if (!there)
		*error = set_bit(ch, o, level, index, true);
	return *error < 0 ? NULL : p;
}

/* Makes the tree high enough for `blocks` blocks: the root moves down into the first page of a new level. */
static int grow_tree(struct change *ch, struct object *o, uint64_t blocks)
{
	struct meta *m = change_staged(ch, o);
	unsigned want = geometry_height(blocks);

	while (m->height < want) {
		uint8_t old[ROOT_BITS / 8];
		bool used = false;

		memcpy(old, m->root, sizeof(old));
		for (size_t i = 0; i < sizeof(old); i++)
			used = used || old[i];
		memset(m->root, 0, sizeof(m->root));
		m->height++;
		if (used) {
			struct staged_page *p = change_add_page(ch, o, m->height, 0);

			if (!p)
				return -ENOMEM;
			memcpy(p->data, old, sizeof(old));
			bit_set(m->root, 0, true);
		}
	}
	return 0;
}

static void count_blocks(struct meta *m, const struct block_tag *old, const struct block_tag *tags, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		m->blocks = m->blocks + !is_hole(&tags[i]) - !is_hole(&old[i]);
}

int tags_write(struct change *ch, struct object *o, uint64_t first, unsigned count, const struct block_tag *tags)
{
	struct meta *m = change_staged(ch, o);
	unsigned done = 0;
	int r = grow_tree(ch, o, first + count);

	if (r == 0 && first < HEADER_TAGS) {
		unsigned n = HEADER_TAGS - (unsigned)first < count ? HEADER_TAGS - (unsigned)first : count;

		if (first + n > m->tag_count)
			r = meta_set_tag_count(m, (unsigned)first + n);
		if (r == 0) {
			count_blocks(m, meta_tags(m) + first, tags, n);
			memcpy(meta_tags(m) + first, tags, n * sizeof(*tags));
		}
		done = n;
	}
	while (r == 0 && done < count) {
		unsigned slot = geometry_slot(first + done), n = GROUP_BLOCKS - slot;

		if (n > count - done)
			n = count - done;
		struct staged_page *p = stage_page(ch, o, 1, geometry_group(first + done), &r);

		if (!p)
			break;
		struct block_tag *at = (struct block_tag *)p->data + slot;

		count_blocks(m, at, tags + done, n);
		memcpy(at, tags + done, n * sizeof(*tags));
		done += n;
	}
	return r;
}

/* ---- releasing ---- */
static bool is_empty(const uint8_t *body)
{
	static const uint8_t zeros[PAGE_BODY];

	return memcmp(body, zeros, PAGE_BODY) == 0;
}

/* Takes a page out of the tree, and the map pages above that it leaves empty. What is not staged need not be: with its bit gone
 * from the staged map it is not there. (A large file has too many tag pages to stage them all.) */
static int drop_page(struct change *ch, struct object *o, unsigned level, uint64_t index)
{
	const struct meta *m = change_staged(ch, o);
	int r = 0;

	for (;; level++, index /= MAP_FANOUT) {
		struct staged_page *p = change_page(ch, o, level, index);

		if (p)
			p->dropped = true;
		r = set_bit(ch, o, level, index, false);
		if (r < 0 || level == m->height)
			return r;
		p = change_page(ch, o, level + 1, index / MAP_FANOUT);
		if (!is_empty(p->data))
			return 0;
		r = txn_release(&ch->t, o->number, geometry_meta_page(level + 1, index / MAP_FANOUT), 1);
		if (r < 0)
			return r;
	}
}

/* The first group at or after `group` that has a tag page; UINT64_MAX: none. */
static int next_group(struct volume *v, struct change *ch, struct object *o, uint64_t group, uint64_t *ret)
{
	const struct meta *m = view(ch, o);
	uint64_t span[LEVELS + 2] = { 0, 1 }; /* groups that a page of each level covers */
	uint8_t page[BLOCK_SIZE];

	for (unsigned level = 2; level <= LEVELS; level++)
		span[level] = span[level - 1] * MAP_FANOUT;
	*ret = UINT64_MAX;
	for (unsigned level = m->height; level && group / span[m->height] < ROOT_BITS;) {
		int r = find_page(v, ch, o, level, group / span[level], level > 1 ? page : NULL);

		if (r < 0)
			return r;
		if (r && level == 1) {
			*ret = group;
			return 0;
		}
		uint64_t child = r ? group / span[level - 1] % MAP_FANOUT : MAP_FANOUT, wanted = child;

		while (child < MAP_FANOUT && !bit_get(page, child))
			child++;
		if (child < MAP_FANOUT) { /* down to it */
			if (child != wanted)
				group = (group / span[level] * MAP_FANOUT + child) * span[level - 1];
			level--;
		} else { /* nothing below: on to the next at this level, from the top */
			group = (group / span[level] + 1) * span[level];
			level = m->height;
		}
	}
	return 0;
}

int tags_next(struct volume *v, struct change *ch, struct object *o, uint64_t block, uint64_t *ret)
{
	uint64_t group;

	*ret = block;
	if (block < view(ch, o)->tag_count)
		return 0;
	int r = next_group(v, ch, o, block < HEADER_TAGS ? 0 : geometry_group(block), &group);

	if (group == UINT64_MAX)
		*ret = UINT64_MAX;
	else if (geometry_group_first(group) > block)
		*ret = geometry_group_first(group);
	return r;
}

/* Every page that begins in this stretch covers one of the blocks, since what was skipped before them has no tag page; it need not
 * have a tag page for one of them, though. */
int tags_seal_again(struct change *ch, struct object *o, uint64_t from, uint64_t first, unsigned count)
{
	uint64_t last = first + count - 1, fanout = 1;
	int r = 0;

	if (last < HEADER_TAGS)
		return 0;
	if (first < HEADER_TAGS)
		first = HEADER_TAGS;
	for (unsigned level = 1; level <= change_staged(ch, o)->height; level++, fanout *= MAP_FANOUT) {
		uint64_t index = geometry_group(first) / fanout, end = geometry_group(last) / fanout + 1;

		for (; r >= 0 && index < end; index++) {
			r = geometry_first_block(level, index) < from ? 0 : find_page(ch->v, ch, o, level, index, NULL);
			if (r > 0)
				r = stage_page(ch, o, level, index, &r) ? 0 : r;
		}
	}
	return r;
}

static int release_group(struct change *ch, struct object *o, uint64_t group, uint64_t from, uint64_t to)
{
	struct meta *m = change_staged(ch, o);
	uint64_t first = geometry_group_first(group), end = first + GROUP_BLOCKS;
	struct block_tag zeros[GROUP_BLOCKS] = { 0 };
	uint8_t page[BLOCK_SIZE];
	int r;

	if (from <= first && to >= end) {
		r = find_page(ch->v, ch, o, 1, group, page);
		if (r == 1)
			count_blocks(m, (struct block_tag *)page, zeros, GROUP_BLOCKS);
		/* A damaged tag page can still be given up; then the count of blocks is off by what it said. */
		return r < 0 && r != -EIO ? r : drop_page(ch, o, 1, group);
	}
	if (from < first)
		from = first;
	if (to > end)
		to = end;
	return tags_write(ch, o, from, (unsigned)(to - from), zeros);
}

/* The release of space, in one run of pages. What stays of the tag and map pages in it is staged, so that it is written again
 * after the release: the tag page of a group that goes in part is already; of the map pages only those of the last group can
 * reach beyond the run. */
static int release_space(struct change *ch, struct object *o, uint64_t from, uint64_t to)
{
	int r = 0;

	if (to == UINT64_MAX)
		return txn_release(&ch->t, o->number, geometry_page(from), UINT64_MAX);
	if (from < HEADER_TAGS) {
		uint64_t end = to < HEADER_TAGS ? to : HEADER_TAGS;

		r = txn_release(&ch->t, o->number, geometry_page(from), end - from);
		from = end;
	}
	if (r < 0 || from >= to)
		return r;
	uint64_t page = geometry_page(from), index = geometry_group(to - 1);

	if (geometry_slot(from) == 0 && to - from >= GROUP_BLOCKS)
		page--; /* the tag page goes too */
	for (unsigned level = 2; level <= LEVELS; level++) {
		index /= MAP_FANOUT;
		if (geometry_meta_page(level, index) < page)
			continue;
		r = find_page(ch->v, ch, o, level, index, NULL);
		if (r > 0)
			r = stage_page(ch, o, level, index, &r) ? 0 : r;
		if (r < 0)
			return r;
	}
	return txn_release(&ch->t, o->number, page, geometry_page(to - 1) + 1 - page);
}

int tags_release(struct change *ch, struct object *o, uint64_t from, uint64_t to)
{
	struct meta *m = change_staged(ch, o);
	int r = 0;

	if (from >= to)
		return 0;
	if (from == 0 && to == UINT64_MAX) { /* all: nothing of the tree need be read */
		m->height = 0;
		m->blocks = 0;
		memset(m->root, 0, sizeof(m->root));
		r = meta_set_tag_count(m, 0);
		return r < 0 ? r : release_space(ch, o, from, to);
	}
	if (from < m->tag_count) {
		unsigned end = to < m->tag_count ? (unsigned)to : m->tag_count;

		for (unsigned i = (unsigned)from; i < end; i++) {
			m->blocks -= !is_hole(&meta_tags(m)[i]);
			meta_tags(m)[i] = hole;
		}
		unsigned used = m->tag_count;

		while (used && is_hole(&meta_tags(m)[used - 1]))
			used--;
		r = meta_set_tag_count(m, used);
	}
	uint64_t group = from > HEADER_TAGS ? geometry_group(from) : 0;

	while (r == 0 && to > HEADER_TAGS) {
		r = next_group(ch->v, ch, o, group, &group);
		if (r < 0 || group == UINT64_MAX || geometry_group_first(group) >= to)
			break;
		r = release_group(ch, o, group, from, to);
		group++;
	}
	return r < 0 ? r : release_space(ch, o, from, to);
}

int tags_seek(struct volume *v, struct object *o, uint64_t block, uint64_t limit, bool data, uint64_t *ret)
{
	struct block_tag tags[GROUP_BLOCKS];

	while (block < limit) {
		unsigned n = block < HEADER_TAGS ? HEADER_TAGS - (unsigned)block : GROUP_BLOCKS - geometry_slot(block);

		if (data && block >= HEADER_TAGS) {
			uint64_t group;
			int r = next_group(v, NULL, o, geometry_group(block), &group);

			if (r < 0)
				return r;
			if (group == UINT64_MAX)
				break;
			if (group != geometry_group(block)) {
				block = geometry_group_first(group);
				continue;
			}
		}
		if (n > limit - block)
			n = (unsigned)(limit - block);
		int r = tags_read(v, NULL, o, block, n, tags);

		if (r < 0)
			return r;
		for (unsigned i = 0; i < n; i++, block++) {
			if (!is_hole(&tags[i]) == data) {
				*ret = block;
				return 0;
			}
		}
	}
	*ret = limit;
	return 0;
}
