#include <coffer/map.h>

#include <errno.h>
#include <stdlib.h>

enum { MAP_INITIAL = 16 };

/* The finaliser of MurmurHash3: keys are counters and page numbers, which need spreading. */
static size_t home_slot(const struct map *m, uint64_t key)
{
	key ^= key >> 33;
	key *= 0xff51afd7ed558ccdULL;
	key ^= key >> 33;
	key *= 0xc4ceb9fe1a85ec53ULL;
	key ^= key >> 33;
	return (size_t)key & (m->capacity - 1);
}

/* The slot of `key`, or the empty one where it would go. Needs an empty slot somewhere. */
static size_t find_slot(const struct map *m, uint64_t key)
{
	size_t i = home_slot(m, key);

	while (m->slots[i].value && m->slots[i].key != key)
		i = (i + 1) & (m->capacity - 1);
	return i;
}

void *map_get(const struct map *m, uint64_t key)
{
	return m->count ? m->slots[find_slot(m, key)].value : NULL;
}

static int grow(struct map *m)
{
	struct map bigger = { .capacity = m->capacity ? m->capacity * 2 : MAP_INITIAL, .count = m->count };

	bigger.slots = calloc(bigger.capacity, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->capacity; i++)
		if (m->slots[i].value)
			bigger.slots[find_slot(&bigger, m->slots[i].key)] = m->slots[i];
	free(m->slots);
	*m = bigger;
	return 0;
}

int map_put(struct map *m, uint64_t key, void *value)
{
	if ((m->count + 1) * 4 > m->capacity * 3) {
		int r = grow(m);

		if (r < 0)
			return r;
	}
	size_t i = find_slot(m, key);

	if (!m->slots[i].value)
		m->count++;
	m->slots[i] = (struct map_slot){ key, value };
	return 0;
}

void *map_remove(struct map *m, uint64_t key)
{
	if (!m->count)
		return NULL;
	size_t hole = find_slot(m, key);
	void *value = m->slots[hole].value;

	if (!value)
		return NULL;
	m->count--;
	/* Close the gap: what was pushed past the hole moves back, so that probing needs no tombstones. */
	for (size_t i = hole;;) {
		i = (i + 1) & (m->capacity - 1);
		if (!m->slots[i].value)
			break;
		size_t want = home_slot(m, m->slots[i].key);

		if (((i - want) & (m->capacity - 1)) >= ((i - hole) & (m->capacity - 1))) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].value = NULL;
	return value;
}

void *map_next(const struct map *m, size_t *pos, uint64_t *ret_key)
{
	while (*pos < m->capacity) {
		const struct map_slot *s = &m->slots[(*pos)++];

		if (s->value) {
			if (ret_key)
				*ret_key = s->key;
			return s->value;
		}
	}
	return NULL;
}

void map_free(struct map *m)
{
	free(m->slots);
	*m = (struct map){ 0 };
}
