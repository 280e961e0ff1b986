/* A store of its own in a scratch directory, with a key that is made up. */
#ifndef COFFER_TESTS_STORE_FIXTURE_H
#define COFFER_TESTS_STORE_FIXTURE_H

#include "volume_fixture.h"

#include "../../src/store/internal.h"
#include "../../src/store/segment.h"

enum { SALT = 32 };
static struct kdf *structure;
static struct store *st;
static uint8_t salt[SALT];

static inline void store_fixture_start(void)
{
	uint8_t bytes[KEY_SIZE] = { 9 };
	struct secret *key;

	scratch_in_memory();
	key = secret_take(bytes, sizeof(bytes));
	structure = kdf_new(key);
	secret_free(key);
	cr_assert(structure);
	backing = open_dir_at(in_scratch("store"));
	cr_assert_eq(store_format(backing), 0);
}

static inline void store_fixture_end(void)
{
	kdf_free(structure);
	scratch_end();
}

/* Begins an epoch. */
static inline void activate(void)
{
	salt[0]++;
	cr_assert_eq(store_activate(st, structure, salt, SALT, 1000), 0);
}

static inline void open_clean(void)
{
	cr_assert_eq(store_new(backing, false, &st), 0);
	activate();
}

/* What a killed daemon leaves: nothing is written any more. */
static inline void die(void)
{
	keeper_stop(st);
	store_free(st);
	st = NULL;
}

/* Reads the log back, without writing anything home. */
static inline uint64_t replay(void)
{
	uint64_t chunks;

	cr_assert_eq(store_new(backing, false, &st), 0);
	int r = store_replay(st, structure, salt, SALT, &chunks);

	cr_assert_eq(r, 0, "replay: %s", strerror(-r));
	return chunks;
}

static inline void recover(void)
{
	replay();
	cr_assert_eq(store_settle(st), 0);
	activate();
}

static inline void stop_clean(void)
{
	cr_assert_eq(store_deactivate(st), 0);
	cr_assert_eq(store_empty_log(st), 0);
	store_free(st);
	st = NULL;
}

static inline void begin(struct txn *t, size_t pages)
{
	int r = store_begin(st, t, pages * BLOCK_SIZE, false);

	cr_assert_eq(r, 0, "begin: %s", strerror(-r));
}

static inline void commit(struct txn *t)
{
	int r = store_commit(t, NULL);

	cr_assert_eq(r, 0, "commit: %s", strerror(-r));
}

/* The current generation becomes the frozen one, and nobody writes it home. */
static inline void rotate(void)
{
	cr_assert_eq(store_rotate(st), 0);
}

#endif
