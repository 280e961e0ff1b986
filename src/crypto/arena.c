/* The arena is cut into granules; `runs` says for the first granule of every run how long it is and whether it is in use.
 * The table lies outside: what is in the arena is only the callers', and a run's size cannot be overwritten by an overrun.
 * Free memory is always zero, so that a new block needs no clearing.
 */
#include "arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "coffer/crypto.h"
#include "coffer/util.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

enum {
	GRANULES = ARENA_SIZE / ARENA_GRANULE,
	GUARD = 4096,
};
static const uint32_t IN_USE = UINT32_C(1) << 31;

static struct {
	pthread_mutex_t lock;
	uint8_t *base;           /* NULL: not started */
	uint32_t runs[GRANULES]; /* length in granules, with IN_USE; only valid where a run starts */
	uint32_t first_free;     /* no free run begins before this granule */
	uint32_t free_granules;
} arena = { .lock = PTHREAD_MUTEX_INITIALIZER };

_Thread_local unsigned sensitive_depth;

static int map_locked(uint8_t **ret)
{
	size_t total = ARENA_SIZE + 2 * GUARD;
	uint8_t *map = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (map == MAP_FAILED)
		return -errno;
	/* On fault: the limit is charged in full now, memory is taken only as it is used. Wiped, not left out, on fork:
	 * a child that asks for secrets of its own gets zeroed memory instead of a fault, and never its parent's keys. */
	if (mprotect(map + GUARD, ARENA_SIZE, PROT_READ | PROT_WRITE) < 0 ||
	    mlock2(map + GUARD, ARENA_SIZE, MLOCK_ONFAULT) < 0 || madvise(map + GUARD, ARENA_SIZE, MADV_DONTDUMP) < 0 ||
	    madvise(map + GUARD, ARENA_SIZE, MADV_WIPEONFORK) < 0) {
		r = errno == EPERM || errno == EAGAIN ? -ENOMEM : -errno;
		log_error("cannot lock %d KiB of memory for keys: %m; raise the limit on locked memory (ulimit -l, "
			  "LimitMEMLOCK=)",
			  ARENA_SIZE / 1024);
		munmap(map, total);
		return r;
	}
	*ret = map + GUARD;
	return 0;
}

/* Locks are not inherited over fork; without this a child's keys could reach swap. */
static void lock_in_child(void)
{
	pthread_mutex_init(&arena.lock, NULL); /* another thread of the parent may have held it */
	if (arena.base && mlock2(arena.base, ARENA_SIZE, MLOCK_ONFAULT) < 0)
		log_warning("cannot lock memory for keys in a child process: %m");
}

int arena_start(void)
{
	LOCK_SCOPE(&arena.lock);
	uint8_t *base = NULL;
	int r;

	if (arena.base)
		return 0;
	r = map_locked(&base);
	if (r < 0)
		return r;
	r = pthread_atfork(NULL, NULL, lock_in_child);
	if (r != 0) {
		munmap(base - GUARD, ARENA_SIZE + 2 * GUARD);
		return -r;
	}
#ifdef __SANITIZE_ADDRESS__
	__lsan_register_root_region(base, ARENA_SIZE); /* contexts in here point to memory out there */
#endif
	arena.base = base;
	arena.runs[0] = GRANULES;
	arena.free_granules = GRANULES;
	return 0;
}

/* The first free run of at least `need` granules, joining neighbours on the way; GRANULES if there is none. */
static uint32_t find_run(uint32_t need)
{
	uint32_t at = arena.first_free;
	bool first = true;

	while (at < GRANULES) {
		uint32_t len = arena.runs[at] & ~IN_USE;
		if (!(arena.runs[at] & IN_USE)) {
			while (at + len < GRANULES && !(arena.runs[at + len] & IN_USE))
				len += arena.runs[at + len];
			arena.runs[at] = len;
			if (first)
				arena.first_free = at;
			first = false;
			if (len >= need)
				return at;
		}
		at += len;
	}
	return GRANULES;
}

void *arena_alloc(size_t len)
{
	LOCK_SCOPE(&arena.lock);
	uint32_t need, at, rest;

	if (!arena.base || len > ARENA_SIZE)
		return NULL;
	need = len ? (uint32_t)((len + ARENA_GRANULE - 1) / ARENA_GRANULE) : 1;
	at = find_run(need);
	if (at == GRANULES)
		return NULL;
	rest = arena.runs[at] - need;
	if (rest)
		arena.runs[at + need] = rest;
	arena.runs[at] = need | IN_USE;
	if (at == arena.first_free)
		arena.first_free = at + need;
	arena.free_granules -= need;
	return arena.base + (size_t)at * ARENA_GRANULE;
}

bool arena_owns(const void *p)
{
	uintptr_t at = (uintptr_t)p - (uintptr_t)arena.base;

	return arena.base && (uintptr_t)p >= (uintptr_t)arena.base && at < ARENA_SIZE;
}

/* The granule where the block begins. */
static uint32_t granule_of(const void *p)
{
	size_t off = (size_t)((const uint8_t *)p - arena.base);

	if (!arena_owns(p) || off % ARENA_GRANULE || !(arena.runs[off / ARENA_GRANULE] & IN_USE))
		abort();
	return (uint32_t)(off / ARENA_GRANULE);
}

size_t arena_size_of(const void *p)
{
	LOCK_SCOPE(&arena.lock);

	return (size_t)(arena.runs[granule_of(p)] & ~IN_USE) * ARENA_GRANULE;
}

void arena_free(void *p)
{
	uint32_t at, len;

	if (!p)
		return;
	wipe(p, arena_size_of(p)); /* before others may get it, and without holding them up */
	LOCK_SCOPE(&arena.lock);
	at = granule_of(p);
	len = arena.runs[at] & ~IN_USE;
	arena.runs[at] = len;
	arena.free_granules += len;
	if (at < arena.first_free)
		arena.first_free = at;
}

size_t arena_available(void)
{
	LOCK_SCOPE(&arena.lock);

	return (size_t)arena.free_granules * ARENA_GRANULE;
}
