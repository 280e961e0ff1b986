/* Inside a cryptor: object keys and the pool of keyed ciphers. Private to src/crypto and its tests. */
#ifndef COFFER_CRYPTOR_H
#define COFFER_CRYPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "coffer/crypto.h"
#include "ossl.h"

enum { SEALING_VERSION = 1 };

/* Purposes of object keys. The numbers are part of the on-disk format, see object_key() in cryptor.c. */
enum key_purpose {
	KEY_BLOCK_XTS = 1,  /* 64 bytes, from the service DEK; key version always 0 */
	KEY_BLOCK_GMAC = 2, /* 32 bytes, service: tags of blocks under SUITE_XTS_GMAC */
	KEY_BLOCK_GCM = 3,  /* 32 bytes, infrastructure: outer layer of blocks under SUITE_XTS_GCM */
	KEY_RECORD_GCM = 4, /* 32 bytes, service: records, one key for each kind */
	KEY_RECORD_XTS = 5, /* 64 bytes, infrastructure: outer layer of records; key version always 0 */
	KEY_PAGE_GMAC = 6,  /* 32 bytes, infrastructure if there is one, else service: clear pages */
};

/* One cipher for each use, so that work on one object re-keys nothing. */
enum slot {
	SLOT_BLOCK_ENCRYPT,
	SLOT_BLOCK_DECRYPT,
	SLOT_BLOCK_TAG, /* GMAC or GCM, by suite */
	SLOT_RECORD_GCM,
	SLOT_RECORD_ENCRYPT,
	SLOT_RECORD_DECRYPT,
	SLOT_PAGE,
	SLOT_COUNT,
};

enum { NONCES_AT_ONCE = 64 };

/* What one thread needs to work on one object. Lies in locked memory; used by one thread at a time. */
struct context_set {
	struct cryptor *owner;
	uint64_t object; /* that the keyed ciphers are for; 0: none */
	struct {
		struct cipher *cipher; /* made when first used */
		bool keyed;
		uint32_t version; /* of the key in it */
		uint32_t kind;
	} slots[SLOT_COUNT];
	uint8_t key[LONGEST_KEY]; /* on its way into a cipher; zero otherwise */
	enum crypto_work work;    /* under way, on so many bytes, since then */
	size_t bytes;
	uint64_t began;
	unsigned nonces_left;
	uint8_t nonces[NONCES_AT_ONCE][NONCE_SIZE];
};

/* Takes a set for this object out of the pool, waiting if all are in use, for some work on so many bytes. 0 or -ENOMEM. Sets must
 * come back soon: a thread holds at most one. */
int cryptor_take(struct cryptor *c, uint64_t object, enum crypto_work work, size_t bytes, struct context_set **ret);
int cryptor_give_back(struct context_set *set, int result); /* counts the work; returns its result */

void count_work(enum crypto_work w, uint64_t began, size_t bytes, int result);

/* The cipher of `slot`, keyed for the set's object, key version and record kind (0 except for records). */
int set_cipher(struct context_set *set, enum slot slot, uint32_t version, uint32_t kind, struct cipher **ret);
int set_nonce(struct context_set *set, uint8_t nonce[static NONCE_SIZE]); /* fresh and random, used up */

#endif
