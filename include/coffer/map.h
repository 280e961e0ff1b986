/* A hash map from 64-bit keys to pointers: open addressing, linear probing, at most three quarters full.
 * Not thread-safe. Values are the caller's; NULL cannot be stored. */
#ifndef COFFER_MAP_H
#define COFFER_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot {
	uint64_t key;
	void *value; /* NULL: empty */
};

/* All zero is an empty map. */
struct map {
	struct map_slot *slots;
	size_t capacity; /* a power of two, or 0 */
	size_t count;
};

void *map_get(const struct map *m, uint64_t key);      /* NULL: absent */
int map_put(struct map *m, uint64_t key, void *value); /* replaces; -ENOMEM leaves the map as it was */
void *map_remove(struct map *m, uint64_t key);         /* the value, or NULL; never allocates */
/* Walks in no order: start with *pos = 0; NULL at the end. The map must not change meanwhile. */
void *map_next(const struct map *m, size_t *pos, uint64_t *ret_key);
void map_free(struct map *m); /* not the values */

#endif
