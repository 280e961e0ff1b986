/* Counting without waiting: each thread adds to a shard that it shares with few others. */
#include <time.h>

#include <coffer/timing.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
const uint64_t timing_bounds[TIMING_BOUNDS] = {
	1 * US, 2 * US, 5 * US,  10 * US, 20 * US, 50 * US,  100 * US, 200 * US, 500 * US,  1 * MS,
	2 * MS, 5 * MS, 10 * MS, 20 * MS, 50 * MS, 100 * MS, 200 * MS, 500 * MS, 1000 * MS, 5000 * MS,
};

uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static struct timing_shard *shard_of_thread(struct timing_counter *c)
{
	static atomic_uint threads;
	static _Thread_local unsigned number; /* from 1 */

	if (!number)
		number = atomic_fetch_add(&threads, 1) + 1;
	return &c->shards[number % TIMING_SHARDS];
}

static void add(atomic_uint_fast64_t *to, uint64_t n)
{
	atomic_fetch_add_explicit(to, n, memory_order_relaxed);
}

void timing_add(struct timing_counter *c, uint64_t ns, uint64_t bytes, bool failed)
{
	struct timing_shard *s = shard_of_thread(c);
	uint64_t longest = atomic_load_explicit(&s->longest, memory_order_relaxed);
	unsigned i = 0;

	while (i < TIMING_BOUNDS && ns > timing_bounds[i])
		i++;
	add(&s->buckets[i], 1);
	add(&s->total, ns);
	if (bytes)
		add(&s->bytes, bytes);
	if (failed)
		add(&s->errors, 1);
	while (ns > longest && !atomic_compare_exchange_weak_explicit(&s->longest, &longest, ns, memory_order_relaxed,
								      memory_order_relaxed))
		;
}

static uint64_t value(atomic_uint_fast64_t *of)
{
	return atomic_load_explicit(of, memory_order_relaxed);
}

void timing_read(struct timing_counter *c, struct timing *ret)
{
	*ret = (struct timing){ 0 };
	for (struct timing_shard *s = c->shards; s < c->shards + TIMING_SHARDS; s++) {
		ret->errors += value(&s->errors);
		ret->bytes += value(&s->bytes);
		ret->total += value(&s->total);
		if (value(&s->longest) > ret->longest)
			ret->longest = value(&s->longest);
		for (unsigned i = 0; i <= TIMING_BOUNDS; i++)
			ret->buckets[i] += value(&s->buckets[i]);
	}
	for (unsigned i = 0; i <= TIMING_BOUNDS; i++)
		ret->count += ret->buckets[i];
}
