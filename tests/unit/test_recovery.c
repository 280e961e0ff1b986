/* The text of a recovery key. */
#include <errno.h>
#include <stdio.h>

#include "bytes.h"
#include <coffer/key.h>

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(recovery, .init = start);

static int read_back(const char *text, struct secret *key, unsigned *group)
{
	AUTO_SECRET struct secret *in = secret_new(1024);

	cr_assert(strlen(text) <= 1024);
	memcpy(secret_data(in), text, strlen(text));
	return recovery_read(in, strlen(text), key, group);
}

static const char example[] =
	"002827-008481-014135-019789-025443-031097-036751-042405-720885-000000-000011-002816-720874-000022-000033-000044";

Test(recovery, example)
{
	static const uint8_t bytes[KEY_SIZE] = { 1,   1,   3, 3, 5, 5, 7, 7, 9,   9,   11, 11, 13, 13, 15, 15,
						 255, 255, 0, 0, 1, 0, 0, 1, 254, 255, 2,  0,  3,  0,  4,  0 };
	struct secret *key = secret_new(KEY_SIZE);
	char text[RECOVERY_TEXT_SIZE];
	unsigned group = 77;

	memcpy(secret_data(key), bytes, KEY_SIZE);
	recovery_write(key, text);
	cr_assert_str_eq(text, example);
	memset(secret_data(key), 0, KEY_SIZE);
	cr_assert_eq(read_back(example, key, &group), 0);
	cr_assert_arr_eq(secret_bytes(key), bytes, KEY_SIZE);
	secret_free(key);
}

Test(recovery, any_key_comes_back)
{
	struct secret *back = secret_new(KEY_SIZE);
	char text[RECOVERY_TEXT_SIZE];
	unsigned group;

	for (int i = 0; i < 1000; i++) {
		struct secret *key = secret_random(KEY_SIZE);

		recovery_write(key, text);
		cr_assert_eq(strlen(text), RECOVERY_TEXT_SIZE - 1);
		cr_assert_eq(read_back(text, back, &group), 0);
		cr_assert_arr_eq(secret_bytes(back), secret_bytes(key), KEY_SIZE);
		secret_free(key);
	}
	secret_free(back);
}

/* The way it is printed, and as somebody types it. */
Test(recovery, separators)
{
	struct secret *key = secret_new(KEY_SIZE);
	char text[sizeof(example) + 16];
	unsigned group;

	for (const char *c = " \n\t.,_"; *c; c++) {
		snprintf(text, sizeof(text), "%c%s%c%c", *c, example, *c, *c);
		for (char *p = text; *p; p++)
			if (*p == '-')
				*p = *c;
		cr_assert_eq(read_back(text, key, &group), 0);
	}
	secret_free(key);
}

Test(recovery, a_wrong_digit_or_two_that_changed_places_are_found_where_they_are)
{
	struct secret *key = secret_new(KEY_SIZE);
	char text[sizeof(example)];
	unsigned group;

	for (size_t i = 0; i < strlen(example); i++) {
		if (example[i] == '-')
			continue;
		for (char c = '0'; c <= '9'; c++) {
			strcpy(text, example);
			text[i] = c;
			if (c == example[i])
				continue;
			cr_assert_eq(read_back(text, key, &group), -EINVAL, "%zu: %c", i, c);
			cr_assert_eq(group, i / 7 + 1);
		}
		if (example[i + 1] >= '0' && example[i + 1] != example[i]) {
			strcpy(text, example);
			text[i] = example[i + 1];
			text[i + 1] = example[i];
			cr_assert_eq(read_back(text, key, &group), -EINVAL, "%zu", i);
			cr_assert_eq(group, i / 7 + 1);
		}
	}
	secret_free(key);
}

Test(recovery, too_few_too_many_and_wrong_groups)
{
	struct secret *key = secret_new(KEY_SIZE);
	char text[2 * sizeof(example)];
	unsigned group = 1;

	for (size_t len = 0; len < strlen(example); len++) {
		memcpy(text, example, len);
		text[len] = 0;
		cr_assert_eq(read_back(text, key, &group), -EINVAL, "%zu", len);
	}
	snprintf(text, sizeof(text), "%s-000011", example);
	cr_assert_eq(read_back(text, key, &group), -EINVAL);
	cr_assert_eq(group, 0);
	snprintf(text, sizeof(text), "0%s", example);
	cr_assert_eq(read_back(text, key, &group), -EINVAL);
	cr_assert_eq(group, 1);
	snprintf(text, sizeof(text), "%s", example);
	memcpy(text, "720896", 6); /* a multiple of 11, of more than 16 bits */
	cr_assert_eq(read_back(text, key, &group), -EINVAL);
	cr_assert_eq(group, 1);
	snprintf(text, sizeof(text), "%s", example);
	memcpy(text, "999999999999999999999999999999999999", 36);
	cr_assert_eq(read_back(text, key, &group), -EINVAL);
	secret_free(key);
}
