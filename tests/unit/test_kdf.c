/* HKDF-Expand (RFC 5869), HMAC-SHA-256 (RFC 4231), SHA-256 (FIPS 180-4). */
#include <errno.h>

#include "bytes.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(kdf, .init = start);
TestSuite(mac, .init = start);

Test(kdf, rfc_5869)
{
	static const struct {
		const char *prk, *info, *okm;
	} vectors[] = {
		{ "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "f0f1f2f3f4f5f6f7f8f9",
		  "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865" },
		{ "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
		  "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7"
		  "d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
		  "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
		  "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87" },
		{ "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "",
		  "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8" },
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct secret *prk = secret_of(vectors[i].prk);
		struct bytes info = bytes_of(vectors[i].info);
		struct kdf *k = kdf_new(prk);
		size_t len = strlen(vectors[i].okm) / 2;
		uint8_t out[128];
		for (int again = 0; again < 3; again++) { /* the keyed context must start afresh every time */
			memset(out, 0, sizeof(out));
			cr_assert_eq(kdf_expand(k, info.data, info.len, out, len), 0);
			check_bytes(out, len, vectors[i].okm, "RFC 5869");
		}
		kdf_free(k);
		secret_free(prk);
	}
}

Test(kdf, lengths_and_limits)
{
	struct secret *prk = secret_random(32), *too_short = secret_random(31), *a, *b;
	static uint8_t longest[255 * 32], out[255 * 32 + 1];
	struct kdf *k = kdf_new(prk);

	cr_assert_null(kdf_new(too_short));
	cr_assert_eq(kdf_expand(k, "info", 4, longest, sizeof(longest)), 0);
	for (size_t len = 0; len < 100; len++) {
		memset(out, 0xee, sizeof(out));
		cr_assert_eq(kdf_expand(k, "info", 4, out, len), 0);
		cr_assert_eq(memcmp(out, longest, len), 0, "a shorter output is the start of a longer one");
		cr_assert_eq(out[len], 0xee, "nothing past the end");
	}
	cr_assert_eq(kdf_expand(k, "info", 4, out, sizeof(out)), -EINVAL);
	a = kdf_secret(k, "info", 48);
	b = kdf_secret(k, "inf0", 48);
	cr_assert_eq(secret_size(a), 48);
	cr_assert_eq(memcmp(secret_bytes(a), longest, 48), 0);
	cr_assert_neq(memcmp(secret_bytes(a), secret_bytes(b), 48), 0);
	secret_free(a);
	secret_free(b);
	kdf_free(k);
	kdf_free(NULL);
	secret_free(prk);
	secret_free(too_short);
}

static struct kdf *shared;
static uint8_t expected[16][64];

static void *expand_often(void *unused)
{
	(void)unused;
	for (int i = 0; i < 4000; i++) {
		uint8_t info = (uint8_t)(i % 16), out[64];
		if (kdf_expand(shared, &info, 1, out, sizeof(out)) < 0 || memcmp(out, expected[info], sizeof(out)) != 0)
			return (void *)1;
	}
	return NULL;
}

Test(kdf, one_for_many_threads)
{
	struct secret *prk = secret_random(32);
	pthread_t threads[4];
	void *failed;

	shared = kdf_new(prk);
	for (uint8_t i = 0; i < 16; i++)
		cr_assert_eq(kdf_expand(shared, &i, 1, expected[i], 64), 0);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, expand_often, NULL), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		cr_assert_null(failed);
	}
	kdf_free(shared);
	secret_free(prk);
}

Test(mac, rfc_4231)
{
	static const struct {
		const char *key, *data, *mac;
	} vectors[] = {
		{ "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ "4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
	};
	uint8_t mac[MAC_SIZE], long_key[131];
	const char text[] = "Test Using Larger Than Block-Size Key - Hash Key First";
	struct secret *key;

	for (int i = 0; i < 2; i++) {
		struct bytes data = bytes_of(vectors[i].data);
		key = secret_of(vectors[i].key);
		cr_assert_eq(hmac_sha256(key, data.data, data.len, mac), 0);
		check_bytes(mac, sizeof(mac), vectors[i].mac, "RFC 4231");
		secret_free(key);
	}
	memset(long_key, 0xaa, sizeof(long_key));
	key = secret_take(long_key, sizeof(long_key));
	cr_assert_eq(hmac_sha256(key, text, strlen(text), mac), 0);
	check_bytes(mac, sizeof(mac), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", "case 6");
	secret_free(key);
}

Test(mac, sha256)
{
	uint8_t out[32];

	cr_assert_eq(sha256("abc", 3, out), 0);
	check_bytes(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc");
	cr_assert_eq(sha256("", 0, out), 0);
	check_bytes(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "empty");
}
