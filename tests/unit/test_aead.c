/* AES-256-GCM and GMAC (McGrew and Viega's test cases 13 to 16), AES-256-XTS (IEEE 1619 vector 10). */
#include <errno.h>
#include <stdio.h>

#include "bytes.h"
#include "../../src/crypto/ossl.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(aead, .init = start);
TestSuite(xts, .init = start);

static const char zero_key[] = "0000000000000000000000000000000000000000000000000000000000000000";
static const char test_key[] = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
static const char test_plain[] = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
				 "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
static const char test_cipher[] = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
				  "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";

static const struct gcm_vector {
	const char *key, *nonce, *aad;
	int plain_len;
	const char *cipher, *tag;
} gcm_vectors[] = {
	{ zero_key, "000000000000000000000000", "", 0, "", "530f8afbc74536b9a963b4f1c4cb738b" },
	{ test_key, "cafebabefacedbaddecaf888", "", 64, test_cipher, "b094dac5d93471bdec1a502270e3cc6c" },
	{ test_key, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2", 60, test_cipher,
	  "76fc6ece0f4e1768cddf8853bb2d551b" },
};

Test(aead, test_cases)
{
	for (size_t i = 0; i < sizeof(gcm_vectors) / sizeof(gcm_vectors[0]); i++) {
		const struct gcm_vector *v = &gcm_vectors[i];
		struct bytes nonce = bytes_of(v->nonce), aad = bytes_of(v->aad), plain = bytes_of(test_plain);
		struct iovec pieces[3] = { { aad.data, aad.len / 3 },
					   { NULL, 0 },
					   { aad.data + aad.len / 3, aad.len - aad.len / 3 } };
		struct secret *key = secret_of(v->key);
		size_t len = (size_t)v->plain_len;
		struct aead *a = aead_new(key);
		uint8_t out[64], back[64], tag[TAG_SIZE];
		char expected[129];
		snprintf(expected, sizeof(expected), "%.*s", 2 * v->plain_len, v->cipher);
		cr_assert_eq(aead_seal(a, nonce.data, pieces, 3, plain.data, len, out, tag), 0);
		check_bytes(out, len, expected, "ciphertext");
		check_bytes(tag, TAG_SIZE, v->tag, "tag");
		cr_assert_eq(aead_open(a, nonce.data, pieces, 3, out, len, back, tag), 0);
		cr_assert_eq(memcmp(back, plain.data, len), 0);
		aead_free(a);
		secret_free(key);
	}
}

/* Test case 14: one block of zeros. */
Test(aead, zero_block)
{
	uint8_t nonce[NONCE_SIZE] = { 0 }, zeros[16] = { 0 }, out[16], tag[TAG_SIZE];
	struct secret *key = secret_of(zero_key);
	struct aead *a = aead_new(key);

	cr_assert_eq(aead_seal(a, nonce, NULL, 0, zeros, 16, out, tag), 0);
	check_bytes(out, 16, "cea7403d4d606b6e074ec5d3baf39d18", "ciphertext");
	check_bytes(tag, 16, "d0d1c8a799996bf0265b98b5d48ab919", "tag");
	aead_free(a);
	secret_free(key);
}

Test(aead, any_flipped_bit_is_refused_and_leaves_no_plaintext)
{
	uint8_t nonce[NONCE_SIZE] = { 1 }, plain[50], out[50], back[50], tag[TAG_SIZE],
		aad[21] = "additional data here";
	const struct iovec piece = { aad, sizeof(aad) };
	struct secret *key = secret_random(KEY_SIZE), *other = secret_random(KEY_SIZE);
	struct aead *a = aead_new(key), *b = aead_new(other);
	const struct {
		uint8_t *at;
		size_t len;
	} fields[] = { { nonce, sizeof(nonce) }, { out, sizeof(out) }, { tag, sizeof(tag) }, { aad, sizeof(aad) } };

	memset(plain, 0x5a, sizeof(plain));
	cr_assert_eq(aead_seal(a, nonce, &piece, 1, plain, sizeof(plain), out, tag), 0);
	for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++)
		for (size_t bit = 0; bit < 8 * fields[f].len; bit++) {
			fields[f].at[bit / 8] ^= (uint8_t)(1 << bit % 8);
			memset(back, 0x77, sizeof(back));
			cr_assert_eq(aead_open(a, nonce, &piece, 1, out, sizeof(out), back, tag), -EBADMSG,
				     "field %zu bit %zu", f, bit);
			for (size_t i = 0; i < sizeof(back); i++)
				cr_assert_eq(back[i], 0);
			fields[f].at[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	cr_assert_eq(aead_open(b, nonce, &piece, 1, out, sizeof(out), back, tag), -EBADMSG, "wrong key");
	cr_assert_eq(aead_open(a, nonce, NULL, 0, out, sizeof(out), back, tag), -EBADMSG, "no aad");
	cr_assert_eq(aead_open(a, nonce, &piece, 1, out, sizeof(out) - 1, back, tag), -EBADMSG, "shorter");
	cr_assert_eq(aead_open(a, nonce, &piece, 1, out, sizeof(out), back, tag), 0, "untouched");
	cr_assert_arr_eq(back, plain, sizeof(plain));
	aead_free(a);
	aead_free(b);
	aead_free(NULL);
	secret_free(key);
	secret_free(other);
}

Test(aead, in_place_and_bad_arguments)
{
	uint8_t nonce[NONCE_SIZE] = { 2 }, buf[1000], plain[1000], tag[TAG_SIZE];
	struct secret *key = secret_random(KEY_SIZE), *weak = secret_random(16);
	struct aead *a = aead_new(key);

	cr_assert_null(aead_new(weak));
	memset(plain, 0x33, sizeof(plain));
	memcpy(buf, plain, sizeof(buf));
	cr_assert_eq(aead_seal(a, nonce, NULL, 0, buf, sizeof(buf), buf, tag), 0);
	cr_assert_neq(memcmp(buf, plain, sizeof(buf)), 0);
	cr_assert_eq(aead_open(a, nonce, NULL, 0, buf, sizeof(buf), buf, tag), 0);
	cr_assert_arr_eq(buf, plain, sizeof(buf));
	cr_assert_eq(aead_seal(a, nonce, NULL, 0, buf, (size_t)INT32_MAX + 1, buf, tag), -EINVAL);
	aead_free(a);
	secret_free(key);
	secret_free(weak);
}

Test(xts, ieee_1619_vector_10)
{
	struct bytes key = bytes_of("2718281828459045235360287471352662497757247093699959574966967627"
				    "3141592653589793238462643383279502884197169399375105820974944592");
	struct cipher *enc = cipher_new(CIPHER_XTS_ENCRYPT), *dec = cipher_new(CIPHER_XTS_DECRYPT);
	uint8_t tweak[TWEAK_SIZE] = { 0xff }, plain[512], out[512], back[512];

	for (int i = 0; i < 512; i++)
		plain[i] = (uint8_t)i;
	cr_assert_eq(cipher_set_key(enc, key.data), 0);
	cr_assert_eq(cipher_set_key(dec, key.data), 0);
	for (int again = 0; again < 2; again++) { /* the second time with nothing but the tweak set anew */
		cr_assert_eq(xts_crypt(enc, tweak, plain, 512, out), 0);
		check_bytes(out, 512,
			    "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
			    "5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd"
			    "5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21d4a741b0"
			    "c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca"
			    "2a3e7a7d7df7b10355165c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0"
			    "b5781c34803fa75421c790dfe1de1834f280d7667b327f6c8cd7557e12ac3a0f"
			    "93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec"
			    "583e9645e07b8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a"
			    "84e18e8f84252070c13e9f1f289be54fbc481457778f616015e1327a02b140f1"
			    "505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae"
			    "9be69a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29"
			    "a9abc3d4d893927284c58754cce294529f8614dcd2aba991925fedc4ae74ffac"
			    "6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07059f"
			    "645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed4385"
			    "1ad77f16f541dfd269d50d6a5f14fb0aab1cbb4c1550be97f7ab4066193c4caa"
			    "773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151",
			    "vector 10");
		cr_assert_eq(xts_crypt(dec, tweak, out, 512, back), 0);
		cr_assert_arr_eq(back, plain, 512);
	}
	tweak[15] = 1;
	cr_assert_eq(xts_crypt(dec, tweak, out, 512, back), 0);
	cr_assert_neq(memcmp(back, plain, 512), 0, "all 128 bits of the tweak count");
	cipher_free(enc);
	cipher_free(dec);
}

Test(xts, lengths)
{
	struct secret *key = secret_random(XTS_KEY_SIZE);
	struct cipher *enc = cipher_new(CIPHER_XTS_ENCRYPT), *dec = cipher_new(CIPHER_XTS_DECRYPT);
	uint8_t tweak[TWEAK_SIZE] = { 3 }, plain[100], buf[101];

	cr_assert_eq(cipher_set_key(enc, secret_bytes(key)), 0);
	cr_assert_eq(cipher_set_key(dec, secret_bytes(key)), 0);
	memset(plain, 0x11, sizeof(plain));
	for (size_t len = 16; len <= 100; len++) { /* in place, with ciphertext stealing for odd lengths */
		memcpy(buf, plain, len);
		buf[len] = 0x99;
		cr_assert_eq(xts_crypt(enc, tweak, buf, len, buf), 0);
		cr_assert_neq(memcmp(buf, plain, len), 0);
		cr_assert_eq(xts_crypt(dec, tweak, buf, len, buf), 0);
		cr_assert_eq(memcmp(buf, plain, len), 0);
		cr_assert_eq(buf[len], 0x99);
	}
	cr_assert_eq(xts_crypt(enc, tweak, plain, 15, buf), -EINVAL);
	cr_assert_eq(xts_crypt(enc, tweak, plain, (16 << 20) + 1, buf), -EINVAL);
	cipher_free(enc);
	cipher_free(dec);
	cipher_free(NULL);
	secret_free(key);
}
