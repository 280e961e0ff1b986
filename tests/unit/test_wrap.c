/* AES-256-KWP (RFC 5649). */
#include <errno.h>

#include "bytes.h"
#include "../vectors/sealed.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(wrap, .init = start);

static const char kek_hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

Test(wrap, vectors)
{
	static const struct {
		const char *kek, *key, *wrapped;
	} vectors[] = {
		/* the key of RFC 5649 section 6, lengthened to 256 bits */
		{ "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a80001020304050607",
		  "c37b7e6492584340bed12207808941155068f738",
		  "a3696fe696c7baa90972a62d5a334c353ca01cd2d02cb407d72a231e01ead9dd" },
		{ kek_hex, "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f", wrapped_key },
		{ kek_hex, "666f7274792d6f", wrapped_short_key }, /* 7 bytes: one block, no chaining */
	};

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct secret *kek = secret_of(vectors[i].kek), *key = secret_of(vectors[i].key), *back = NULL;
		struct wrapped_key out;
		cr_assert_eq(key_wrap(kek, key, &out), 0);
		check_bytes(out.bytes, out.len, vectors[i].wrapped, "wrapped");
		cr_assert_eq(key_unwrap(kek, &out, &back), 0);
		check_bytes(secret_bytes(back), secret_size(back), vectors[i].key, "unwrapped");
		secret_free(kek);
		secret_free(key);
		secret_free(back);
	}
}

Test(wrap, every_length_comes_back)
{
	struct secret *kek = secret_random(KEY_SIZE);

	for (size_t n = 1; n <= WRAPPED_KEY_MAX - 8; n++) {
		struct secret *key = secret_random(n), *back = NULL;
		struct wrapped_key out;
		cr_assert_eq(key_wrap(kek, key, &out), 0);
		cr_assert_eq(out.len, (n + 7) / 8 * 8 + 8);
		cr_assert_eq(key_unwrap(kek, &out, &back), 0);
		cr_assert_eq(secret_size(back), n);
		cr_assert_arr_eq(secret_bytes(back), secret_bytes(key), n);
		secret_free(key);
		secret_free(back);
	}
	secret_free(kek);
}

Test(wrap, a_wrong_kek_or_a_flipped_bit_is_refused)
{
	struct secret *kek = secret_of(kek_hex), *wrong = secret_of(kek_hex), *key = secret_random(KEY_SIZE),
		      *back = NULL;
	struct wrapped_key out;

	cr_assert_eq(key_wrap(kek, key, &out), 0);
	cr_assert_eq(out.len, WRAPPED_KEY_SIZE);
	for (int bit = 0; bit < 256; bit++) {
		secret_data(wrong)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(key_unwrap(wrong, &out, &back), -EBADMSG, "bit %d of the KEK", bit);
		secret_data(wrong)[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < 8 * out.len; bit++) {
		out.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(key_unwrap(kek, &out, &back), -EBADMSG, "bit %zu", bit);
		out.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	out.len -= 8;
	cr_assert_eq(key_unwrap(kek, &out, &back), -EBADMSG, "cut short");
	cr_assert_null(back, "nothing may come out");
	out.len += 8;
	cr_assert_eq(key_unwrap(kek, &out, &back), 0);
	secret_free(back);
	secret_free(kek);
	secret_free(wrong);
	secret_free(key);
}

Test(wrap, bad_arguments)
{
	struct secret *kek = secret_random(KEY_SIZE), *weak = secret_random(16), *key = secret_random(KEY_SIZE);
	struct secret *empty = secret_new(0), *large = secret_random(WRAPPED_KEY_MAX - 7), *back;
	struct wrapped_key out = { .len = WRAPPED_KEY_SIZE };

	cr_assert_eq(key_wrap(weak, key, &out), -EINVAL);
	cr_assert_eq(key_wrap(kek, empty, &out), -EINVAL);
	cr_assert_eq(key_wrap(kek, large, &out), -EINVAL, "no room");
	cr_assert_eq(key_unwrap(weak, &out, &back), -EINVAL);
	out.len = WRAPPED_KEY_MAX + 8;
	cr_assert_eq(key_unwrap(kek, &out, &back), -EINVAL);
	for (out.len = 0; out.len <= WRAPPED_KEY_MAX; out.len++)
		cr_assert_eq(key_unwrap(kek, &out, &back), -EBADMSG, "%zu bytes", out.len);
	secret_free(kek);
	secret_free(weak);
	secret_free(key);
	secret_free(empty);
	secret_free(large);
}
