/* Sealed blocks, records and pages: known answers, tampering, keys, and many threads on one cryptor. */
#include <errno.h>
#include <stdio.h>

#include "bytes.h"
#include "../vectors/sealed.h"
#include "../../src/crypto/cryptor.h"

static struct secret *dek, *infra;
static uint8_t plain[8 * BLOCK_SIZE], sealed[8 * BLOCK_SIZE], opened[8 * BLOCK_SIZE];
static struct block_tag tags[8];

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
	dek = secret_of("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
	infra = secret_of("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f");
	cr_assert_eq(random_bytes(plain, sizeof(plain)), 0);
}

static void stop(void)
{
	secret_free(dek);
	secret_free(infra);
}

TestSuite(cryptor, .init = start, .fini = stop);

static struct cryptor *make(enum suite s)
{
	struct cryptor *c = NULL;

	cr_assert_eq(cryptor_new(s, dek, s == SUITE_XTS_GCM ? infra : NULL, &c), 0);
	return c;
}

static bool zeros(const void *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((const uint8_t *)p)[i])
			return false;
	return true;
}

static int open_one(struct cryptor *c, uint64_t object, uint64_t index)
{
	memset(opened, 0x77, BLOCK_SIZE);
	return cryptor_open_blocks(c, object, index, 1, sealed, opened, tags, NULL);
}

Test(cryptor, names_and_arguments)
{
	struct cryptor *c;
	struct secret *weak = secret_random(16);

	cr_assert_str_eq(suite_name(SUITE_XTS), "AES-256-XTS");
	cr_assert_str_eq(suite_name(SUITE_XTS_GMAC), "AES-256-XTS+GMAC");
	cr_assert_not_null(suite_name(SUITE_XTS_GCM));
	cr_assert_null(suite_name(0));
	cr_assert_null(suite_name(4));
	cr_assert_eq(cryptor_new(0, dek, NULL, &c), -EINVAL);
	cr_assert_eq(cryptor_new(4, dek, NULL, &c), -EINVAL);
	cr_assert_eq(cryptor_new(SUITE_XTS_GMAC, dek, infra, &c), -EINVAL);
	cr_assert_eq(cryptor_new(SUITE_XTS_GCM, dek, NULL, &c), -EINVAL);
	cr_assert_eq(cryptor_new(SUITE_XTS, weak, NULL, &c), -EINVAL);
	cr_assert_eq(cryptor_new(SUITE_XTS_GCM, dek, weak, &c), -EINVAL);
	c = make(SUITE_XTS_GMAC);
	cr_assert_eq(cryptor_seal_blocks(c, 1, 0, 1, UINT32_MAX, plain, sealed, tags), -EINVAL);
	cr_assert_eq(cryptor_mac_page(c, 1, 0, UINT32_MAX, plain, 100, tags), -EINVAL);
	cryptor_free(c);
	cryptor_free(NULL);
	secret_free(weak);
}

/* What was sealed by the second implementation in ../vectors/sealed.py. Nonces cannot be chosen here, so the outer
 * ciphertext is rebuilt from the documented key derivation, and then must open. */
enum { V_VERSION = 3 };
static const uint64_t v_object = 0x1122334455667788, v_index = 0x123456789;

static struct cipher *object_cipher(const struct secret *from, uint16_t purpose, uint16_t suite, enum cipher_kind kind,
				    uint32_t version)
{
	uint8_t info[24] = "COFK", key[64];
	struct cipher *c = cipher_new(kind);
	struct kdf *k = kdf_new(from);

	put_le16(info + 4, purpose);
	put_le16(info + 6, suite);
	put_le64(info + 8, v_object);
	put_le32(info + 16, version);
	cr_assert_eq(kdf_expand(k, info, sizeof(info), key, kind == CIPHER_GCM ? 32 : 64), 0);
	cr_assert_eq(cipher_set_key(c, key), 0);
	kdf_free(k);
	return c;
}

Test(cryptor, known_blocks)
{
	struct bytes nonce = bytes_of("a0a1a2a3a4a5a6a7a8a9aaab");

	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		const struct sealed_vector *v = &sealed_vectors[s];
		struct cipher *xts = object_cipher(dek, 1, (uint16_t)s, CIPHER_XTS_ENCRYPT, 0);
		struct bytes tag = bytes_of(v->block_tag);
		uint8_t tweak[16] = { 0 }, digest[32], aad[32] = "COFB";
		struct cryptor *c = make(s);
		for (int i = 0; i < BLOCK_SIZE; i++)
			plain[i] = (uint8_t)(i * 7 + (i >> 8));
		put_le64(tweak, v_index);
		cr_assert_eq(xts_crypt(xts, tweak, plain, BLOCK_SIZE, sealed), 0);
		memset(tags, 0, sizeof(tags));
		if (s == SUITE_XTS_GCM) {
			struct cipher *gcm = object_cipher(infra, 3, (uint16_t)s, CIPHER_GCM, V_VERSION);
			put_le16(aad + 4, 1);
			put_le16(aad + 6, (uint16_t)s);
			put_le64(aad + 8, v_object);
			put_le64(aad + 16, v_index);
			cr_assert_eq(gcm_seal(gcm, nonce.data, &(struct iovec){ aad, 32 }, 1, sealed, BLOCK_SIZE,
					      sealed, tags[0].tag),
				     0);
			cipher_free(gcm);
		}
		cr_assert_eq(sha256(sealed, BLOCK_SIZE, digest), 0);
		check_bytes(digest, 32, v->block_sha256, suite_name(s));
		if (s != SUITE_XTS)
			memcpy(tags[0].nonce, nonce.data, NONCE_SIZE);
		memcpy(tags[0].tag, tag.data, TAG_SIZE);
		put_le32(tags[0].key_version, V_VERSION + 1);
		cr_assert_eq(open_one(c, v_object, v_index), 0, "%s", suite_name(s));
		cr_assert_arr_eq(opened, plain, BLOCK_SIZE);
		cipher_free(xts);
		cryptor_free(c);
	}
}

Test(cryptor, known_records_and_pages)
{
	const char text[] = "forty-one bytes of a record, no less, no.";

	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct bytes record = bytes_of(sealed_vectors[s].record), tag = bytes_of(sealed_vectors[s].page_tag);
		struct cryptor *c = make(s);
		char out[64] = { 0 };
		cr_assert_eq(record.len, RECORD_OVERHEAD + strlen(text));
		cr_assert_eq(cryptor_open_record(c, v_object, RECORD_XATTR, V_VERSION, "aad", 3, record.data,
						 record.len, out),
			     0, "%s", suite_name(s));
		cr_assert_str_eq(out, text);
		for (int i = 0; i < NONCE_SIZE; i++)
			tags[0].nonce[i] = (uint8_t)(0xa0 + i);
		memcpy(tags[0].tag, tag.data, TAG_SIZE);
		put_le32(tags[0].key_version, V_VERSION + 1);
		cr_assert_eq(cryptor_check_page(c, v_object, v_index, text, strlen(text), tags), 0, "%s",
			     suite_name(s));
		cryptor_free(c);
	}
}

Test(cryptor, blocks_come_back_also_in_place_and_at_the_far_end)
{
	static const uint64_t firsts[] = { 0, 1, UINT32_MAX - 3, (UINT64_C(1) << 51) - 8 };

	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		for (int i = 0; i < 4; i++) {
			cr_assert_eq(cryptor_seal_blocks(c, 42, firsts[i], 8, 0, plain, sealed, tags), 0);
			cr_assert_neq(memcmp(sealed, plain, sizeof(plain)), 0);
			memset(opened, 0, sizeof(opened));
			cr_assert_eq(cryptor_open_blocks(c, 42, firsts[i], 8, sealed, opened, tags, NULL), 0);
			cr_assert_arr_eq(opened, plain, sizeof(plain));
			memcpy(sealed, plain, sizeof(plain));
			cr_assert_eq(cryptor_seal_blocks(c, 42, firsts[i], 8, 0, sealed, sealed, tags), 0);
			cr_assert_eq(cryptor_open_blocks(c, 42, firsts[i], 8, sealed, sealed, tags, NULL), 0);
			cr_assert_arr_eq(sealed, plain, sizeof(plain));
		}
		cryptor_free(c);
	}
}

Test(cryptor, tag_entries)
{
	struct cryptor *c = make(SUITE_XTS);

	cr_assert_eq(cryptor_seal_blocks(c, 42, 0, 1, 6, plain, sealed, tags), 0);
	cr_assert(zeros(tags[0].nonce, NONCE_SIZE) && zeros(tags[0].tag, TAG_SIZE));
	cr_assert_eq(get_le32(tags[0].key_version), 7);
	cryptor_free(c);
	for (int s = SUITE_XTS_GMAC; s <= SUITE_XTS_GCM; s++) {
		enum { MANY = 300 };
		static uint8_t nonces[MANY][NONCE_SIZE];
		c = make(s);
		for (int i = 0; i < MANY; i++) {
			cr_assert_eq(cryptor_seal_blocks(c, 42, 0, 1, 6, plain, sealed, tags), 0);
			cr_assert_eq(get_le32(tags[0].key_version), 7);
			memcpy(nonces[i], tags[0].nonce, NONCE_SIZE);
			for (int j = 0; j < i; j++)
				cr_assert_neq(memcmp(nonces[i], nonces[j], NONCE_SIZE), 0, "a nonce was used twice");
		}
		cryptor_free(c);
	}
}

Test(cryptor, any_flipped_bit_of_a_block_or_tag_is_refused)
{
	for (int s = SUITE_XTS_GMAC; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		cr_assert_eq(cryptor_seal_blocks(c, 42, 5, 1, 0, plain, sealed, tags), 0);
		for (size_t bit = 0; bit < 8 * BLOCK_SIZE; bit += bit < 256 || bit > 8 * BLOCK_SIZE - 256 ? 1 : 61) {
			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
			cr_assert_eq(open_one(c, 42, 5), -EBADMSG, "%s: bit %zu", suite_name(s), bit);
			cr_assert(zeros(opened, BLOCK_SIZE), "no plaintext of a bad block");
			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t bit = 0; bit < 8 * sizeof(tags[0]); bit++) {
			uint8_t *t = (uint8_t *)tags;
			t[bit / 8] ^= (uint8_t)(1 << bit % 8);
			cr_assert_eq(open_one(c, 42, 5), -EBADMSG, "%s: tag bit %zu", suite_name(s), bit);
			t[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		cr_assert_eq(open_one(c, 42, 5), 0);
		cr_assert_arr_eq(opened, plain, BLOCK_SIZE);
		cryptor_free(c);
	}
}

Test(cryptor, a_block_belongs_to_its_place_object_and_suite)
{
	for (int s = SUITE_XTS_GMAC; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		cr_assert_eq(cryptor_seal_blocks(c, 42, 5, 1, 0, plain, sealed, tags), 0);
		for (int bit = 0; bit < 64; bit++) {
			cr_assert_eq(open_one(c, 42, 5 ^ UINT64_C(1) << bit), -EBADMSG);
			cr_assert_eq(open_one(c, 42 ^ UINT64_C(1) << bit, 5), -EBADMSG);
		}
		for (int other = SUITE_XTS_GMAC; other <= SUITE_XTS_GCM; other++) {
			struct cryptor *d = make(other);
			cr_assert_eq(open_one(d, 42, 5), other == s ? 0 : -EBADMSG);
			cryptor_free(d);
		}
		cryptor_free(c);
	}
}

Test(cryptor, either_key_alone_opens_nothing)
{
	struct secret *wrong = secret_random(KEY_SIZE);
	struct cryptor *c = make(SUITE_XTS_GCM), *d;

	cr_assert_eq(cryptor_seal_blocks(c, 42, 5, 1, 0, plain, sealed, tags), 0);
	cr_assert_eq(cryptor_new(SUITE_XTS_GCM, dek, wrong, &d), 0);
	cr_assert_eq(open_one(d, 42, 5), -EBADMSG);
	cryptor_free(d);
	cr_assert_eq(cryptor_new(SUITE_XTS_GCM, wrong, infra, &d), 0);
	cr_assert_eq(open_one(d, 42, 5), 0, "the outer layer authenticates");
	cr_assert_neq(memcmp(opened, plain, BLOCK_SIZE), 0, "but the inner one stays shut");
	cryptor_free(d);
	cryptor_free(c);
	c = make(SUITE_XTS_GMAC);
	cr_assert_eq(cryptor_seal_blocks(c, 42, 5, 1, 0, plain, sealed, tags), 0);
	cr_assert_eq(cryptor_new(SUITE_XTS_GMAC, wrong, NULL, &d), 0);
	cr_assert_eq(open_one(d, 42, 5), -EBADMSG);
	cryptor_free(d);
	cryptor_free(c);
	secret_free(wrong);
}

Test(cryptor, holes)
{
	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		memset(tags, 0, sizeof(tags));
		memset(sealed, 0xcc, BLOCK_SIZE);
		cr_assert_eq(open_one(c, 42, 5), 0);
		cr_assert(zeros(opened, BLOCK_SIZE), "a hole reads as zeros whatever lies there");
		for (size_t i = 0; i < sizeof(tags[0]) - 4; i++) {
			((uint8_t *)tags)[i] = 1;
			cr_assert_eq(open_one(c, 42, 5), -EBADMSG, "%s: byte %zu of a hole's entry", suite_name(s), i);
			((uint8_t *)tags)[i] = 0;
		}
		cryptor_free(c);
	}
}

Test(cryptor, without_integrity)
{
	struct cryptor *c = make(SUITE_XTS);

	cr_assert_eq(cryptor_seal_blocks(c, 42, 5, 1, 0, plain, sealed, tags), 0);
	sealed[0] ^= 1;
	cr_assert_eq(open_one(c, 42, 5), 0);
	cr_assert_neq(memcmp(opened, plain, 16), 0);
	cr_assert_arr_eq(opened + 16, plain + 16, BLOCK_SIZE - 16);
	memset(sealed, 0, BLOCK_SIZE);
	cr_assert_eq(open_one(c, 42, 5), 0);
	cr_assert(zeros(opened, BLOCK_SIZE), "a page that never reached the disk");
	sealed[BLOCK_SIZE - 1] = 1;
	cr_assert_eq(open_one(c, 42, 5), 0);
	cr_assert_not(zeros(opened, BLOCK_SIZE));
	tags[0].tag[3] = 1;
	cr_assert_eq(open_one(c, 42, 5), -EBADMSG, "an entry of another suite");
	tags[0].tag[3] = 0;
	cr_assert_eq(open_one(c, 42, 5), 0);
	tags[0].nonce[11] = 1;
	cr_assert_eq(open_one(c, 42, 5), -EBADMSG, "an entry of another suite");
	cryptor_free(c);
}

Test(cryptor, several_key_versions_and_the_first_bad_block)
{
	for (int s = SUITE_XTS_GMAC; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		unsigned bad = 99;
		for (unsigned i = 0; i < 8; i++)
			cr_assert_eq(cryptor_seal_blocks(c, 42, 10 + i, 1, i % 3, plain + i * BLOCK_SIZE,
							 sealed + i * BLOCK_SIZE, &tags[i]),
				     0);
		cr_assert_eq(cryptor_open_blocks(c, 42, 10, 8, sealed, opened, tags, &bad), 0);
		cr_assert_arr_eq(opened, plain, sizeof(plain));
		cr_assert_eq(bad, 99);
		sealed[6 * BLOCK_SIZE + 100] ^= 1;
		sealed[4 * BLOCK_SIZE + 100] ^= 1;
		memset(opened, 0x77, sizeof(opened));
		cr_assert_eq(cryptor_open_blocks(c, 42, 10, 8, sealed, opened, tags, &bad), -EBADMSG);
		cr_assert_eq(bad, 4);
		cr_assert_arr_eq(opened, plain, 4 * BLOCK_SIZE);
		cr_assert(zeros(opened + 4 * BLOCK_SIZE, BLOCK_SIZE));
		cr_assert_eq(opened[5 * BLOCK_SIZE], 0x77);
		cryptor_free(c);
	}
}

Test(cryptor, records_come_back)
{
	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		for (size_t len = RECORD_MIN; len < 300; len++) {
			cr_assert_eq(cryptor_seal_record(c, 42, RECORD_HEADER, 1, "aad", 3, plain, len, sealed), 0);
			cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "aad", 3, sealed,
							 RECORD_OVERHEAD + len, opened),
				     0);
			cr_assert_eq(memcmp(opened, plain, len), 0);
		}
		cr_assert_eq(cryptor_seal_record(c, 42, RECORD_XATTR, 0, NULL, 0, plain, 5 * BLOCK_SIZE, sealed), 0);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_XATTR, 0, NULL, 0, sealed,
						 RECORD_OVERHEAD + 5 * BLOCK_SIZE, opened),
			     0);
		cr_assert_arr_eq(opened, plain, 5 * BLOCK_SIZE);
		cr_assert_eq(cryptor_seal_record(c, 42, RECORD_HEADER, 0, NULL, 0, plain, RECORD_MIN - 1, sealed),
			     -EINVAL);
		cr_assert_eq(cryptor_seal_record(c, 42, RECORD_HEADER, 0, NULL, 0, plain, SIZE_MAX, sealed), -EINVAL);
		for (size_t len = 0; len < RECORD_OVERHEAD + RECORD_MIN; len++)
			cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 0, NULL, 0, sealed, len, opened),
				     -EBADMSG);
		cryptor_free(c);
	}
}

/* Sealed with ciphers that were keyed for something else just before, opened with fresh ones. */
Test(cryptor, ciphers_are_keyed_anew_for_every_kind_and_version)
{
	enum { LEN = 64, SEALED = LEN + RECORD_OVERHEAD };

	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct cryptor *c = make(s);
		for (uint32_t i = 0; i < 8; i++)
			cr_assert_eq(cryptor_seal_record(c, 42, i & 1 ? RECORD_HEADER : RECORD_XATTR, i >> 1, NULL, 0,
							 plain, LEN, sealed + i * SEALED),
				     0);
		for (uint32_t i = 0; i < 8; i++) {
			struct cryptor *fresh = make(s);
			cr_assert_eq(cryptor_open_record(fresh, 42, i & 1 ? RECORD_HEADER : RECORD_XATTR, i >> 1, NULL,
							 0, sealed + i * SEALED, SEALED, opened),
				     0);
			cryptor_free(fresh);
		}
		cryptor_free(c);
	}
}

Test(cryptor, a_changed_or_moved_record_is_refused)
{
	enum { LEN = 100, SEALED = LEN + RECORD_OVERHEAD };

	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct secret *wrong = secret_random(KEY_SIZE);
		struct cryptor *c = make(s), *d;
		cr_assert_eq(cryptor_seal_record(c, 42, RECORD_HEADER, 1, "aad", 3, plain, LEN, sealed), 0);
		for (size_t bit = 0; bit < 8 * SEALED; bit++) {
			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
			memset(opened, 0x77, LEN);
			cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "aad", 3, sealed, SEALED, opened),
				     -EBADMSG);
			for (int i = 0; i < LEN; i++)
				cr_assert(opened[i] == 0x77 || opened[i] == 0, "no plaintext of a bad record");
			sealed[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		cr_assert_eq(cryptor_open_record(c, 43, RECORD_HEADER, 1, "aad", 3, sealed, SEALED, opened), -EBADMSG);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_XATTR, 1, "aad", 3, sealed, SEALED, opened), -EBADMSG);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 0, "aad", 3, sealed, SEALED, opened), -EBADMSG);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "bad", 3, sealed, SEALED, opened), -EBADMSG);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "aad", 2, sealed, SEALED, opened), -EBADMSG);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "aad", 3, sealed, SEALED - 1, opened),
			     -EBADMSG);
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "aad", 3, sealed, SEALED + 1, opened),
			     -EBADMSG);
		cr_assert_eq(cryptor_new(s, wrong, s == SUITE_XTS_GCM ? infra : NULL, &d), 0);
		cr_assert_eq(cryptor_open_record(d, 42, RECORD_HEADER, 1, "aad", 3, sealed, SEALED, opened), -EBADMSG);
		cryptor_free(d);
		if (s == SUITE_XTS_GCM) {
			cr_assert_eq(cryptor_new(s, dek, wrong, &d), 0);
			cr_assert_eq(cryptor_open_record(d, 42, RECORD_HEADER, 1, "aad", 3, sealed, SEALED, opened),
				     -EBADMSG);
			cryptor_free(d);
		}
		cr_assert_eq(cryptor_open_record(c, 42, RECORD_HEADER, 1, "aad", 3, sealed, SEALED, opened), 0);
		cryptor_free(c);
		secret_free(wrong);
	}
}

Test(cryptor, pages)
{
	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		struct secret *wrong = secret_random(KEY_SIZE);
		struct cryptor *c = make(s), *d;
		struct block_tag mac;
		cr_assert_eq(cryptor_mac_page(c, 42, 9, 2, plain, 4064, &mac), 0);
		cr_assert_eq(get_le32(mac.key_version), 3);
		cr_assert_eq(cryptor_check_page(c, 42, 9, plain, 4064, &mac), 0);
		for (size_t bit = 0; bit < 8 * sizeof(mac); bit++) {
			((uint8_t *)&mac)[bit / 8] ^= (uint8_t)(1 << bit % 8);
			cr_assert_eq(cryptor_check_page(c, 42, 9, plain, 4064, &mac), -EBADMSG, "mac bit %zu", bit);
			((uint8_t *)&mac)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t i = 0; i < 4064; i += 13) {
			plain[i] ^= 4;
			cr_assert_eq(cryptor_check_page(c, 42, 9, plain, 4064, &mac), -EBADMSG);
			plain[i] ^= 4;
		}
		cr_assert_eq(cryptor_check_page(c, 43, 9, plain, 4064, &mac), -EBADMSG);
		cr_assert_eq(cryptor_check_page(c, 42, 8, plain, 4064, &mac), -EBADMSG);
		cr_assert_eq(cryptor_check_page(c, 42, 9, plain, 4063, &mac), -EBADMSG);
		cr_assert_eq(cryptor_new(s, s == SUITE_XTS_GCM ? dek : wrong, s == SUITE_XTS_GCM ? wrong : NULL, &d),
			     0);
		cr_assert_eq(cryptor_check_page(d, 42, 9, plain, 4064, &mac), -EBADMSG, "the outermost key");
		cr_assert_eq(cryptor_check_page(c, 42, 9, plain, 4064, &(struct block_tag){ 0 }), -EBADMSG,
			     "no mac at all");
		cr_assert_eq(cryptor_check_page(c, 42, 9, plain, 4064, &mac), 0);
		cryptor_free(d);
		cryptor_free(c);
		secret_free(wrong);
	}
}

/* A page's MAC must not pass for a block's tag at the same place, nor the other way round. */
Test(cryptor, pages_are_no_blocks)
{
	struct cryptor *c = make(SUITE_XTS_GMAC);

	cr_assert_eq(cryptor_seal_blocks(c, 42, 5, 1, 0, plain, sealed, tags), 0);
	cr_assert_eq(cryptor_check_page(c, 42, 5, sealed, BLOCK_SIZE, tags), -EBADMSG);
	cr_assert_eq(cryptor_mac_page(c, 42, 5, 0, sealed, BLOCK_SIZE, tags), 0);
	cr_assert_eq(open_one(c, 42, 5), -EBADMSG);
	cryptor_free(c);
}
