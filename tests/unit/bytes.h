/* Bytes written as hexadecimal text, for tests with vectors. */
#ifndef COFFER_TEST_BYTES_H
#define COFFER_TEST_BYTES_H

#include <criterion/criterion.h>

#include "coffer/crypto.h"
#include "coffer/util.h"

struct bytes {
	size_t len;
	uint8_t data[4096];
};

static inline struct bytes bytes_of(const char *hex)
{
	struct bytes b = { 0 };

	cr_assert_eq(hex_decode(hex, strlen(hex), b.data, sizeof(b.data), &b.len), 0, "bad vector: %s", hex);
	return b;
}

static inline struct secret *secret_of(const char *hex)
{
	struct bytes b = bytes_of(hex);
	struct secret *s = secret_take(b.data, b.len);

	cr_assert_not_null(s);
	return s;
}

/* Compares, and on failure shows what came instead. */
static inline void check_bytes(const void *got, size_t len, const char *expected_hex, const char *what)
{
	char text[2 * 4096 + 1];

	cr_assert(len <= 4096);
	hex_encode(got, len, text);
	cr_assert_str_eq(text, expected_hex, "%s", what);
}

#endif
