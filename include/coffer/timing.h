/* What was done how often, how long it took and how many bytes it moved: counted by all threads, without any waiting for another.
 *
 * A counter is zeroed memory, and counts from then on. Reading one while it counts gives numbers that are a moment apart.
 */
#ifndef COFFER_TIMING_H
#define COFFER_TIMING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	TIMING_BOUNDS = 20,
	TIMING_SHARDS = 16, /* threads that count at once without sharing a cache line */
};
/* Nanoseconds, rising: bucket i counts what took longer than bound i - 1, and at most bound i; the last, all that is longer. */
extern const uint64_t timing_bounds[TIMING_BOUNDS];

struct timing_counter {
	struct timing_shard {
		atomic_uint_fast64_t errors, bytes, total, longest, buckets[TIMING_BOUNDS + 1];
	} shards[TIMING_SHARDS];
};
struct timing {
	uint64_t count, errors; /* errors are among the counted */
	uint64_t bytes;
	uint64_t total, longest; /* nanoseconds */
	uint64_t buckets[TIMING_BOUNDS + 1];
};

uint64_t clock_ns(void); /* nanoseconds on a clock that nobody sets; some 20 to ask for */
void timing_add(struct timing_counter *c, uint64_t ns, uint64_t bytes, bool failed);
void timing_read(struct timing_counter *c, struct timing *ret);

#endif
