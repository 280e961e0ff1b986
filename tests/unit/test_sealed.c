/* Keys sealed for the holder of a private key. */
#include <errno.h>

#include "bytes.h"
#include "../vectors/sealed.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(sealed, .init = start);

Test(sealed, vector)
{
	struct secret *owner = secret_of("404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"),
		      *back = NULL;
	struct bytes in = bytes_of(sealed_key);
	struct wrapped_key sealed = { .len = in.len };
	uint8_t public[PUBLIC_KEY_SIZE];

	cr_assert_eq(private_key_public(owner, public), 0);
	check_bytes(public, sizeof(public), sealed_key_public, "public key");
	memcpy(sealed.bytes, in.data, in.len);
	cr_assert_eq(key_open_sealed(owner, &sealed, &back), 0);
	check_bytes(secret_bytes(back), secret_size(back),
		    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f", "key");
	secret_free(owner);
	secret_free(back);
}

Test(sealed, comes_back_and_only_to_its_owner)
{
	struct secret *owner = secret_random(KEY_SIZE), *other = secret_random(KEY_SIZE),
		      *key = secret_random(KEY_SIZE);
	uint8_t public[PUBLIC_KEY_SIZE];
	struct wrapped_key first, second;
	struct secret *back = NULL;

	cr_assert_eq(private_key_public(owner, public), 0);
	cr_assert_eq(key_seal(public, key, &first), 0);
	cr_assert_eq(key_seal(public, key, &second), 0);
	cr_assert_eq(first.len, SEALED_KEY_SIZE);
	cr_assert_arr_neq(first.bytes, second.bytes, SEALED_KEY_SIZE); /* nothing shows that the keys are equal */
	cr_assert_eq(key_open_sealed(owner, &first, &back), 0);
	cr_assert_arr_eq(secret_bytes(back), secret_bytes(key), KEY_SIZE);
	secret_free(back);
	cr_assert_eq(key_open_sealed(owner, &second, &back), 0);
	secret_free(back);
	cr_assert_eq(key_open_sealed(other, &first, &back), -EBADMSG);
	secret_free(owner);
	secret_free(other);
	secret_free(key);
}

Test(sealed, every_flipped_bit_is_refused)
{
	struct secret *owner = secret_random(KEY_SIZE), *key = secret_random(KEY_SIZE), *back = NULL;
	uint8_t public[PUBLIC_KEY_SIZE];
	struct wrapped_key sealed;

	cr_assert_eq(private_key_public(owner, public), 0);
	cr_assert_eq(key_seal(public, key, &sealed), 0);
	for (size_t bit = 0; bit < 8 * SEALED_KEY_SIZE; bit++) {
		struct wrapped_key bad = sealed;

		bad.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(key_open_sealed(owner, &bad, &back), -EBADMSG, "bit %zu", bit);
	}
	for (size_t len = 0; len < SEALED_KEY_SIZE; len++) {
		struct wrapped_key bad = sealed;

		bad.len = len;
		cr_assert_eq(key_open_sealed(owner, &bad, &back), -EBADMSG);
	}
	secret_free(owner);
	secret_free(key);
}

/* A point of small order would make the shared secret one that everybody knows. */
Test(sealed, no_sealing_for_a_degenerate_key)
{
	static const uint8_t zero[PUBLIC_KEY_SIZE], one[PUBLIC_KEY_SIZE] = { 1 };
	struct secret *key = secret_random(KEY_SIZE);
	struct wrapped_key sealed;

	cr_assert_eq(key_seal(zero, key, &sealed), -EBADMSG);
	cr_assert_eq(key_seal(one, key, &sealed), -EBADMSG);
	secret_free(key);
}
