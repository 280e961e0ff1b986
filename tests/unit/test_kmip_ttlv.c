#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/key/kmip_ttlv.h"

TestSuite(kmip_ttlv);

/* What the specification itself gives as examples (KMIP 1.4, section 9.1.2), all with the tag 0x420020. */
static const uint8_t spec_integer[] = { 0x42, 0, 0x20, 2, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 0 };
static const uint8_t spec_enum[] = { 0x42, 0, 0x20, 5, 0, 0, 0, 4, 0, 0, 0, 255, 0, 0, 0, 0 };
static const uint8_t spec_boolean[] = { 0x42, 0, 0x20, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1 };
static const uint8_t spec_text[] = { 0x42, 0,   0x20, 7,   0,   0,   0,   11, 'H', 'e', 'l', 'l',
				     'o',  ' ', 'W',  'o', 'r', 'l', 'd', 0,  0,   0,   0,   0 };
static const uint8_t spec_bytes[] = { 0x42, 0, 0x20, 8, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0 };
/* A structure of an enumeration, 254, and an integer, 255. */
static const uint8_t spec_structure[] = { 0x42, 0, 0x20, 1, 0, 0,   0, 0x20, 0x42, 0, 0x04, 5, 0,    0,
					  0,    4, 0,    0, 0, 254, 0, 0,    0,    0, 0x42, 0, 0x05, 2,
					  0,    0, 0,    4, 0, 0,   0, 255,  0,    0, 0,    0 };
enum { TAG = 0x420020 };

static void expect(struct ttlv_writer *w, const uint8_t *wanted, size_t len)
{
	size_t got = 0;

	cr_assert_eq(ttlv_finish(w, &got), 0);
	cr_assert_eq(got, len);
	cr_assert_arr_eq(w->out, wanted, len);
}

Test(kmip_ttlv, the_specification_s_examples_are_written)
{
	uint8_t out[64];
	struct ttlv_writer w;

	memset(out, 0xee, sizeof(out));
	ttlv_start(&w, out, sizeof(out));
	ttlv_put_integer(&w, TAG, 8);
	expect(&w, spec_integer, sizeof(spec_integer));
	ttlv_start(&w, out, sizeof(out));
	ttlv_put_enum(&w, TAG, 255);
	expect(&w, spec_enum, sizeof(spec_enum));
	ttlv_start(&w, out, sizeof(out));
	ttlv_put_boolean(&w, TAG, true);
	expect(&w, spec_boolean, sizeof(spec_boolean));
	ttlv_start(&w, out, sizeof(out));
	ttlv_put_text(&w, TAG, "Hello World");
	expect(&w, spec_text, sizeof(spec_text));
	memset(out, 0xee, sizeof(out));
	ttlv_start(&w, out, sizeof(out));
	ttlv_put_bytes(&w, TAG, "\1\2\3", 3);
	expect(&w, spec_bytes, sizeof(spec_bytes));
	ttlv_start(&w, out, sizeof(out));
	ttlv_begin(&w, TAG);
	ttlv_put_enum(&w, 0x420004, 254);
	ttlv_put_integer(&w, 0x420005, 255);
	ttlv_end(&w);
	expect(&w, spec_structure, sizeof(spec_structure));
}

static struct ttlv_item only_item(const uint8_t *in, size_t len)
{
	struct ttlv_cursor c;
	struct ttlv_item i = { 0 }, more;

	ttlv_read(&c, in, len);
	cr_assert_eq(ttlv_next(&c, &i), 1);
	cr_assert_eq(ttlv_next(&c, &more), 0);
	cr_assert_eq(ttlv_next(&c, &more), 0, "and stays there");
	cr_assert_eq(i.tag, TAG);
	return i;
}

Test(kmip_ttlv, the_specification_s_examples_are_read)
{
	struct ttlv_item i = only_item(spec_integer, sizeof(spec_integer));
	struct ttlv_cursor outer, inner;
	int32_t number;
	uint32_t value;
	char text[12];

	cr_assert_eq(ttlv_integer(&i, &number), 0);
	cr_assert_eq(number, 8);
	cr_assert_eq(ttlv_enum(&i, &value), -EPROTO);
	i = only_item(spec_enum, sizeof(spec_enum));
	cr_assert_eq(ttlv_enum(&i, &value), 0);
	cr_assert_eq(value, 255);
	cr_assert_eq(ttlv_integer(&i, &number), -EPROTO);
	i = only_item(spec_boolean, sizeof(spec_boolean));
	cr_assert_eq(i.type, TTLV_BOOLEAN);
	i = only_item(spec_text, sizeof(spec_text));
	cr_assert_eq(ttlv_text(&i, text, sizeof(text)), 0);
	cr_assert_str_eq(text, "Hello World");
	cr_assert_eq(ttlv_text(&i, text, sizeof(text) - 1), -EPROTO, "no room for the NUL");
	i = only_item(spec_bytes, sizeof(spec_bytes));
	cr_assert_eq(i.len, 3);
	cr_assert_arr_eq(i.value, "\1\2\3", 3);
	cr_assert_eq(ttlv_text(&i, text, sizeof(text)), -EPROTO);
	i = only_item(spec_structure, sizeof(spec_structure));
	ttlv_read(&outer, spec_structure, sizeof(spec_structure));
	cr_assert_eq(ttlv_enter(&outer, &i, &inner), 0);
	cr_assert_eq(ttlv_next(&inner, &i), 1);
	cr_assert_eq(i.tag, 0x420004);
	cr_assert_eq(ttlv_enum(&i, &value), 0);
	cr_assert_eq(value, 254);
	cr_assert_eq(ttlv_enter(&outer, &i, &inner), -EPROTO, "not a structure");
	cr_assert_eq(ttlv_next(&inner, &i), 1);
	cr_assert_eq(ttlv_integer(&i, &number), 0);
	cr_assert_eq(number, 255);
	cr_assert_eq(ttlv_next(&inner, &i), 0);
}

/* In a block of exactly that size, so that a sanitizer sees a read beyond it. */
static int next_of(const uint8_t *in, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct ttlv_cursor c;
	struct ttlv_item i;
	int r;

	memcpy(copy, in, len);
	ttlv_read(&c, copy, len);
	r = ttlv_next(&c, &i);
	if (r < 0)
		cr_assert(c.at == copy && c.left == len, "an error moves nothing");
	free(copy);
	return r;
}

Test(kmip_ttlv, cut_off_anywhere)
{
	static const struct {
		const uint8_t *in;
		size_t len;
	} all[] = { { spec_integer, sizeof(spec_integer) }, { spec_enum, sizeof(spec_enum) },
		    { spec_boolean, sizeof(spec_boolean) }, { spec_text, sizeof(spec_text) },
		    { spec_bytes, sizeof(spec_bytes) },     { spec_structure, sizeof(spec_structure) } };

	for (size_t n = 0; n < sizeof(all) / sizeof(*all); n++)
		for (size_t len = 1; len < all[n].len; len++)
			cr_assert_eq(next_of(all[n].in, len), -EPROTO, "item %zu, %zu bytes", n, len);
}

Test(kmip_ttlv, every_type_with_every_length)
{
	static const uint32_t lengths[] = { 0,  1,  2,  3,  4,  5,  7,          8,          9,          15,
					    16, 17, 24, 31, 32, 33, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff };

	for (unsigned type = 0; type < 256; type++) {
		for (size_t n = 0; n < sizeof(lengths) / sizeof(*lengths); n++) {
			uint8_t in[8 + 32] = { 0x42, 0, 0x20, (uint8_t)type };
			uint32_t len = lengths[n];
			bool right = type == TTLV_STRUCTURE || type == TTLV_BIG
					     ? len % 8 == 0 && (len || type == TTLV_STRUCTURE)
				     : type == TTLV_INTEGER || type == TTLV_ENUM || type == TTLV_INTERVAL ? len == 4
				     : type == TTLV_LONG || type == TTLV_BOOLEAN || type == TTLV_TIME
					     ? len == 8
					     : type == TTLV_TEXT || type == TTLV_BYTES;

			in[4] = (uint8_t)(len >> 24);
			in[5] = (uint8_t)(len >> 16);
			in[6] = (uint8_t)(len >> 8);
			in[7] = (uint8_t)len;
			cr_assert_eq(next_of(in, sizeof(in)), right && len <= 32 ? 1 : -EPROTO, "type %u, length %#x",
				     type, len);
		}
	}
}

Test(kmip_ttlv, padding_must_be_zero)
{
	uint8_t in[sizeof(spec_text)];

	for (size_t at = 19; at < sizeof(in); at++) {
		memcpy(in, spec_text, sizeof(in));
		in[at] = 1;
		cr_assert_eq(next_of(in, sizeof(in)), -EPROTO, "byte %zu", at);
	}
	for (size_t at = 12; at < 16; at++) {
		memcpy(in, spec_integer, sizeof(spec_integer));
		in[at] = 0x80;
		cr_assert_eq(next_of(in, sizeof(spec_integer)), -EPROTO, "byte %zu", at);
	}
}

Test(kmip_ttlv, booleans_are_0_or_1)
{
	uint8_t in[sizeof(spec_boolean)];

	for (size_t at = 8; at < 16; at++) {
		memcpy(in, spec_boolean, sizeof(in));
		in[at] = 2;
		cr_assert_eq(next_of(in, sizeof(in)), -EPROTO, "byte %zu", at);
	}
}

Test(kmip_ttlv, a_text_with_a_nul_in_it_is_none)
{
	uint8_t in[sizeof(spec_text)];
	struct ttlv_item i;
	char text[32] = "before";

	memcpy(in, spec_text, sizeof(in));
	in[10] = 0;
	i = only_item(in, sizeof(in));
	cr_assert_eq(ttlv_text(&i, text, sizeof(text)), -EPROTO);
	cr_assert_str_eq(text, "before");
}

Test(kmip_ttlv, depth_is_bounded)
{
	uint8_t out[1024];
	struct ttlv_writer w;
	struct ttlv_cursor c, inner;
	struct ttlv_item i;
	size_t len = 0;

	ttlv_start(&w, out, sizeof(out));
	for (int n = 0; n < TTLV_DEPTH_MAX; n++)
		ttlv_begin(&w, TAG);
	for (int n = 0; n < TTLV_DEPTH_MAX; n++)
		ttlv_end(&w);
	cr_assert_eq(ttlv_finish(&w, &len), 0);
	cr_assert_eq(len, TTLV_HEADER * TTLV_DEPTH_MAX);
	ttlv_start(&w, out, sizeof(out));
	for (int n = 0; n <= TTLV_DEPTH_MAX; n++)
		ttlv_begin(&w, TAG);
	for (int n = 0; n <= TTLV_DEPTH_MAX; n++)
		ttlv_end(&w);
	cr_assert_eq(ttlv_finish(&w, &len), -EMSGSIZE);
	/* One level more than may be: made by hand, from the inside. */
	for (unsigned n = 0; n <= TTLV_DEPTH_MAX; n++) {
		memcpy(out + 8 * n, "\x42\0\x20\1\0\0\0", 7);
		out[8 * n + 7] = (uint8_t)(8 * (TTLV_DEPTH_MAX - n));
	}
	ttlv_read(&c, out, TTLV_HEADER * (TTLV_DEPTH_MAX + 1));
	for (unsigned n = 0; n < TTLV_DEPTH_MAX; n++) {
		cr_assert_eq(ttlv_next(&c, &i), 1);
		cr_assert_eq(ttlv_enter(&c, &i, &inner), 0, "level %u", n);
		c = inner;
	}
	cr_assert_eq(ttlv_next(&c, &i), 1);
	cr_assert_eq(ttlv_enter(&c, &i, &inner), -EPROTO);
}

Test(kmip_ttlv, nothing_is_written_beyond_the_buffer)
{
	for (size_t size = 0; size < 88; size++) {
		uint8_t *out = malloc(size ? size : 1);
		struct ttlv_writer w;
		size_t len = 0;

		ttlv_start(&w, out, size);
		ttlv_begin(&w, TAG);
		ttlv_put_text(&w, TAG, "nine char");
		ttlv_put_boolean(&w, TAG, true);
		ttlv_put_integer(&w, TAG, -1);
		ttlv_put_bytes(&w, TAG, "12345678", 8);
		ttlv_put_bytes(&w, TAG, NULL, 0);
		ttlv_end(&w);
		cr_assert_eq(ttlv_finish(&w, &len), -EMSGSIZE, "%zu bytes", size);
		free(out);
	}
}

Test(kmip_ttlv, structures_must_be_ended_once)
{
	uint8_t out[64];
	struct ttlv_writer w;
	size_t len;

	ttlv_start(&w, out, sizeof(out));
	ttlv_begin(&w, TAG);
	cr_assert_eq(ttlv_finish(&w, &len), -EMSGSIZE);
	ttlv_end(&w);
	cr_assert_eq(ttlv_finish(&w, &len), 0);
	ttlv_end(&w);
	cr_assert_eq(ttlv_finish(&w, &len), -EMSGSIZE);
}

Test(kmip_ttlv, length_of_a_message)
{
	uint8_t header[8] = { 0x42, 0, 0x7b, 1, 0, 0, 0, 16 };
	size_t len = 0;

	cr_assert_eq(ttlv_message_length(header, 0x42007b, 24, &len), 0);
	cr_assert_eq(len, 24);
	cr_assert_eq(ttlv_message_length(header, 0x42007b, 23, &len), -EPROTO, "too long");
	cr_assert_eq(ttlv_message_length(header, 0x420078, 24, &len), -EPROTO, "another tag");
	header[7] = 15;
	cr_assert_eq(ttlv_message_length(header, 0x42007b, 24, &len), -EPROTO, "no multiple of eight");
	header[7] = 16;
	header[3] = 8;
	cr_assert_eq(ttlv_message_length(header, 0x42007b, 24, &len), -EPROTO, "not a structure");
	header[3] = 1;
	memset(header + 4, 0xff, 4);
	cr_assert_eq(ttlv_message_length(header, 0x42007b, 1 << 20, &len), -EPROTO);
	header[7] = 0xf8;
	cr_assert_eq(ttlv_message_length(header, 0x42007b, SIZE_MAX, &len), 0);
	cr_assert_eq(len, 0x100000000);
}
