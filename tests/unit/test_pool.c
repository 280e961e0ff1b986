/* A cryptor's pool of context sets: bounded, wiped, and for many threads at once. */
#include <errno.h>

#include "bytes.h"
#include "../../src/crypto/arena.h"
#include "../../src/crypto/cryptor.h"

static struct secret *dek, *infra;
static uint8_t plain[8 * BLOCK_SIZE], sealed[BLOCK_SIZE], opened[BLOCK_SIZE];
static struct block_tag tags[1];

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
	dek = secret_random(KEY_SIZE);
	infra = secret_random(KEY_SIZE);
	cr_assert_eq(random_bytes(plain, sizeof(plain)), 0);
}

static void stop(void)
{
	secret_free(dek);
	secret_free(infra);
}

TestSuite(pool, .init = start, .fini = stop);

static struct cryptor *make(enum suite s)
{
	struct cryptor *c = NULL;

	cr_assert_eq(cryptor_new(s, dek, s == SUITE_XTS_GCM ? infra : NULL, &c), 0);
	return c;
}

Test(pool, memory_is_bounded_and_comes_back)
{
	size_t before = arena_available(), used;
	struct cryptor *c = make(SUITE_XTS_GCM);
	uint8_t record[200];

	for (uint64_t object = 1; object < 500; object++) {
		cr_assert_eq(cryptor_seal_blocks(c, object, 0, 1, 0, plain, sealed, tags), 0);
		cr_assert_eq(cryptor_open_blocks(c, object, 0, 1, sealed, opened, tags, NULL), 0);
		cr_assert_eq(cryptor_seal_record(c, object, RECORD_HEADER, 0, NULL, 0, plain, 100, record), 0);
		cr_assert_eq(cryptor_open_record(c, object, RECORD_HEADER, 0, NULL, 0, record, 128, opened), 0);
		cr_assert_eq(cryptor_mac_page(c, object, 0, 0, plain, 100, tags), 0);
	}
	used = before - arena_available();
	cr_assert_lt(used, 512 << 10, "%zu bytes for one cryptor", used);
	cryptor_free(c);
	cr_assert_eq(arena_available(), before, "everything is wiped and given back");
}

/* With far more cryptors than locked memory can hold full pools for, each must still work. */
Test(pool, many_at_once)
{
	enum { MANY = 120 };
	static struct cryptor *all[MANY];

	for (int i = 0; i < MANY; i++)
		all[i] = make(SUITE_XTS_GCM);
	for (uint64_t object = 1; object < 40; object++)
		for (int i = 0; i < MANY; i++) {
			cr_assert_eq(cryptor_seal_blocks(all[i], object, 0, 1, 0, plain, sealed, tags), 0, "cryptor %d",
				     i);
			cr_assert_eq(cryptor_open_blocks(all[(i + 1) % MANY], object, 0, 1, sealed, opened, tags, NULL),
				     0);
			cr_assert_arr_eq(opened, plain, BLOCK_SIZE);
		}
	for (int i = 0; i < MANY; i++)
		cryptor_free(all[i]);
}

struct hammer {
	struct cryptor *c;
	unsigned seed;
	const char *failed;
};

static const char *hammer_once(struct hammer *h, uint8_t *cipher, uint8_t *back)
{
	uint64_t object = 1 + rand_r(&h->seed) % 50, first = rand_r(&h->seed) % 1000;
	unsigned count = 1 + rand_r(&h->seed) % 8;
	struct block_tag t[8];
	uint8_t record[128];

	if (cryptor_seal_blocks(h->c, object, first, count, object % 3, plain, cipher, t) < 0)
		return "sealing";
	if (cryptor_open_blocks(h->c, object, first, count, cipher, back, t, NULL) < 0)
		return "opening";
	if (memcmp(plain, back, (size_t)count * BLOCK_SIZE) != 0)
		return "comparing";
	if (cryptor_open_blocks(h->c, object + 1, first, 1, cipher, back, t, NULL) != -EBADMSG)
		return "refusing";
	if (cryptor_seal_record(h->c, object, RECORD_HEADER, 0, "a", 1, plain, 100, record) < 0 ||
	    cryptor_open_record(h->c, object, RECORD_HEADER, 0, "a", 1, record, 128, back) < 0 ||
	    memcmp(plain, back, 100) != 0)
		return "a record";
	if (cryptor_mac_page(h->c, object, first, 0, plain, 500, t) < 0 ||
	    cryptor_check_page(h->c, object, first, plain, 500, t) < 0)
		return "a page";
	return NULL;
}

static void *hammer(void *arg)
{
	struct hammer *h = arg;
	uint8_t *cipher = malloc(8 * BLOCK_SIZE), *back = malloc(8 * BLOCK_SIZE);

	for (int i = 0; i < 300 && !h->failed; i++)
		h->failed = hammer_once(h, cipher, back);
	free(cipher);
	free(back);
	return NULL;
}

Test(pool, more_threads_than_context_sets)
{
	enum { THREADS = 48 };

	for (int s = SUITE_XTS_GMAC; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		struct hammer hammers[THREADS];
		pthread_t threads[THREADS];
		for (unsigned i = 0; i < THREADS; i++) {
			hammers[i] = (struct hammer){ .c = c, .seed = i };
			cr_assert_eq(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			pthread_join(threads[i], NULL);
			cr_assert_null(hammers[i].failed, "%s: %s failed", suite_name(s), hammers[i].failed);
		}
		cryptor_free(c);
	}
}
