/* Locked memory: one mapping, outside of core dumps and swap, wiped block by block when freed and as a whole in a forked
 * child. Private to src/crypto and its tests.
 */
#ifndef COFFER_ARENA_H
#define COFFER_ARENA_H

#include <stdbool.h>
#include <stddef.h>

enum {
	/* Half of the 8 MiB of RLIMIT_MEMLOCK that an ordinary user has; the rest is left for rings and buffers. */
	ARENA_SIZE = 4 << 20,
	ARENA_GRANULE = 64, /* bytes: alignment and rounding of every block */
};

int arena_start(void);         /* 0, also when done before; -ENOMEM (logged): the limit does not allow it */
void *arena_alloc(size_t len); /* zeroed; NULL: full, or never started. Thread-safe */
void arena_free(void *p);      /* wipes; NULL is fine. Aborts on a pointer that is no block: memory is corrupt */
bool arena_owns(const void *p);
size_t arena_size_of(const void *p); /* bytes usable in a block */
size_t arena_available(void);        /* bytes free, perhaps in pieces */

/* While a scope of this kind is open, what OpenSSL allocates in this thread comes from the arena: key schedules, hash
 * states and copies of keys lie in the contexts that it allocates by itself. */
extern _Thread_local unsigned sensitive_depth;
/* One line each. */
/* clang-format off */
static inline unsigned sensitive_enter(void)
{
	return ++sensitive_depth;
}
static inline void sensitive_leave(unsigned *unused)
{
	(void)unused;
	sensitive_depth--;
}
/* clang-format on */
#define SENSITIVE_SCOPE __attribute__((cleanup(sensitive_leave), unused)) unsigned sensitive_scope = sensitive_enter()

#endif
