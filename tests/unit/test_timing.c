/* Counting from many threads. */
#include <criterion/criterion.h>
#include <pthread.h>

#include <coffer/timing.h>

enum { THREADS = 40, ROUNDS = 20000 }; /* more threads than shards: some share one */

static struct timing_counter counter;

static void *count(void *arg)
{
	uint64_t mine = *(const uint64_t *)arg;

	for (unsigned i = 0; i < ROUNDS; i++)
		timing_add(&counter, mine, i, i % 10 == 0);
	return NULL;
}

Test(timing, loses_nothing_between_threads)
{
	pthread_t threads[THREADS];
	uint64_t times[THREADS], total = 0;
	struct timing t;

	for (unsigned i = 0; i < THREADS; i++) {
		times[i] = i + 1;
		total += times[i] * ROUNDS;
		cr_assert_eq(pthread_create(&threads[i], NULL, count, &times[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	timing_read(&counter, &t);
	cr_assert_eq(t.count, (uint64_t)THREADS * ROUNDS);
	cr_assert_eq(t.errors, (uint64_t)THREADS * ROUNDS / 10);
	cr_assert_eq(t.bytes, (uint64_t)THREADS * ROUNDS * (ROUNDS - 1) / 2);
	cr_assert_eq(t.total, total);
	cr_assert_eq(t.longest, THREADS);
	cr_assert_eq(t.buckets[0], t.count);
}

Test(timing, bounds_belong_to_the_bucket_below)
{
	static struct timing_counter c;
	struct timing t;

	for (unsigned i = 0; i < TIMING_BOUNDS; i++) {
		cr_assert(i == 0 || timing_bounds[i] > timing_bounds[i - 1]);
		timing_add(&c, timing_bounds[i], 0, false);
		timing_add(&c, timing_bounds[i] + 1, 0, false);
	}
	timing_read(&c, &t);
	cr_assert_eq(t.buckets[0], 1);
	for (unsigned i = 1; i < TIMING_BOUNDS; i++)
		cr_assert_eq(t.buckets[i], 2, "bucket %u has %lu", i, (unsigned long)t.buckets[i]);
	cr_assert_eq(t.buckets[TIMING_BOUNDS], 1);
	cr_assert_eq(t.longest, timing_bounds[TIMING_BOUNDS - 1] + 1);
}

Test(timing, the_clock_goes_on)
{
	uint64_t before = clock_ns(), after = clock_ns();

	cr_assert_geq(after, before);
	cr_assert_lt(after - before, 1000000000u);
}
