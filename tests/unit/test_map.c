/* The map against a plain array, with keys that collide and keys at the ends of their range. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include <coffer/map.h>

enum { KEYS = 700, STEPS = 200000 };

/* Neighbours, far apart, and alike in their low bits. */
static uint64_t key_of(unsigned i)
{
	switch (i % 4) {
	case 0:
		return i / 4;
	case 1:
		return UINT64_MAX - i / 4;
	case 2:
		return (uint64_t)(i / 4 + 1) << 32;
	default:
		return (uint64_t)(i / 4) * 4096 + 1000017;
	}
}

static void expect_same(const struct map *m, char *const *model, size_t count)
{
	size_t pos = 0, seen = 0;
	uint64_t key;

	cr_assert_eq(m->count, count);
	for (unsigned i = 0; i < KEYS; i++)
		cr_assert_eq(map_get(m, key_of(i)), model[i], "key %u", i);
	for (void *value; (value = map_next(m, &pos, &key)); seen++)
		cr_assert_eq(map_get(m, key), value);
	cr_assert_eq(seen, count);
}

Test(map, empty)
{
	struct map m = { 0 };
	size_t pos = 0;

	cr_assert_null(map_get(&m, 0));
	cr_assert_null(map_remove(&m, 0));
	cr_assert_null(map_next(&m, &pos, NULL));
	map_free(&m);
	cr_assert_null(map_get(&m, 1));
}

Test(map, against_an_array)
{
	static char values[STEPS];
	char *model[KEYS] = { 0 };
	struct map m = { 0 };
	size_t count = 0;

	srand(1);
	for (unsigned step = 0; step < STEPS; step++) {
		unsigned i = (unsigned)rand() % KEYS;

		/* Grows and shrinks in turns, so that gaps close at every fill. */
		if (rand() % 100 < (step / 20000 % 2 ? 30 : 70)) {
			cr_assert_eq(map_put(&m, key_of(i), &values[step]), 0);
			count += !model[i];
			model[i] = &values[step];
		} else {
			cr_assert_eq(map_remove(&m, key_of(i)), model[i]);
			count -= !!model[i];
			model[i] = NULL;
		}
		cr_assert_eq(map_get(&m, key_of(i)), model[i]);
		if (step % 5000 == 0)
			expect_same(&m, model, count);
	}
	expect_same(&m, model, count);
	for (unsigned i = 0; i < KEYS; i++)
		cr_assert_eq(map_remove(&m, key_of(i)), model[i]);
	cr_assert_eq(m.count, 0);
	map_free(&m);
}

Test(map, never_full)
{
	struct map m = { 0 };
	char value;

	for (uint64_t i = 0; i < 100000; i++) {
		cr_assert_eq(map_put(&m, i * 64, &value), 0);
		cr_assert(m.count * 4 <= m.capacity * 3, "%zu of %zu", m.count, m.capacity);
		cr_assert_null(map_get(&m, i * 64 + 1));
	}
	map_free(&m);
	cr_assert_eq(m.count, 0);
}
