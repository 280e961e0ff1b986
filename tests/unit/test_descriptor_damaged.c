/* Descriptors that are not what was stored: every one is refused, and none is the end of the program. */
#include "descriptor_fixture.h"

TestSuite(descriptor_damaged, .init = scratch_start, .fini = scratch_end);

Test(descriptor_damaged, cut_off_anywhere, .timeout = 120)
{
	size_t len;
	char *text = sample_text(&len);

	cr_assert_eq(load_text(text, len), 0);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_neq(load_text(text, cut), 0, "cut to %zu of %zu", cut, len);
	free(text);
}

Test(descriptor_damaged, any_changed_byte_is_noticed, .timeout = 300)
{
	static const uint8_t flips[] = { 0x01, 0x20, 0x80, 0xff };
	struct secret *key = mac_key(1);
	size_t len;
	char *text = sample_text(&len);

	for (size_t i = 0; i < len; i++) {
		for (size_t f = 0; f < sizeof(flips); f++) {
			struct descriptor *d = NULL;
			char *copy = malloc(len + 1);

			cr_assert(copy);
			memcpy(copy, text, len + 1);
			copy[i] = (char)(copy[i] ^ flips[f]);
			if (!descriptor_take(copy, len, &d))
				cr_assert_eq(descriptor_check(d, key), -EBADMSG, "byte %zu ^ %#x", i, flips[f]);
			descriptor_free(d);
		}
	}
	free(text);
	secret_free(key);
}

/* Loads the text with `with` in the place of the `cut` bytes at `at`. */
static int load_changed(const char *text, size_t len, size_t at, size_t cut, const char *with)
{
	size_t more = strlen(with);
	AUTO_FREE char *copy = malloc(len - cut + more + 1);

	cr_assert(copy);
	memcpy(copy, text, at);
	memcpy(copy + at, with, more);
	memcpy(copy + at + more, text + at + cut, len - at - cut);
	return load_text(copy, len - cut + more);
}

/* Calls `check` for every line NAME = VALUE; of one setting, with where the line and its value begin and end. The MAC's line
 * is not among them: it is no setting. */
typedef void check_line(const char *text, size_t len, size_t start, size_t value, size_t end);
static int each_setting(check_line *check)
{
	size_t len, start = 0;
	char *text = sample_text(&len);
	int count = 0;

	while (start < len) {
		size_t end = start + strcspn(text + start, "\n") + 1;
		const char *equals = memmem(text + start, end - start, " = ", 3);

		if (equals && text[end - 2] == ';' && !memmem(text + start, end - start, ")", 1) &&
		    strncmp(text + start, "mac", 3)) {
			check(text, len, start, (size_t)(equals + 3 - text), end);
			count++;
		}
		start = end;
	}
	free(text);
	return count;
}

static void refuse_without(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	(void)value;
	cr_assert_eq(load_changed(text, len, start, end - start, ""), -EINVAL, "without %.*s", (int)(end - start),
		     text + start);
}

static void refuse_twice(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	AUTO_FREE char *line = strndup(text + start, end - start);

	(void)value;
	cr_assert_eq(load_changed(text, len, end, 0, line), -EINVAL, "twice %s", line);
}

static void refuse_other_types(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	static const char *const others[] = { "1.5;\n",  "{ a = 1; };\n", "( );\n", "[ 1 ];\n",
					      "\"\";\n", "\"\\x00\";\n",  "-1;\n" };
	const char *type = text[value] == '"' ? "1;\n" : "\"1\";\n";

	bool may_be_empty = memmem(text + start, value - start, "recovery_key", strlen("recovery_key"));

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		cr_assert_eq(load_changed(text, len, value, end - value, others[i]),
			     may_be_empty && others[i][0] == '"' ? 0 : -EINVAL, "%.*s%s", (int)(value - start),
			     text + start, others[i]);
	cr_assert_eq(load_changed(text, len, value, end - value, type), -EINVAL, "%.*s%s", (int)(value - start),
		     text + start, type);
}

static void refuse_too_large(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	AUTO_FREE char *string = NULL;

	if (text[value] == '"') {
		cr_assert(asprintf(&string, "\"%01100d\";\n", 0) > 0);
		cr_assert_eq(load_changed(text, len, value, end - value, string), -EINVAL, "%.*s", (int)(end - start),
			     text + start);
	} else if (text[value] != 't' && text[value] != 'f') {
		static const char *const large[] = { "9223372036854775807L;\n", "0xffffffffffffffffL;\n",
						     "99999999999999999999L;\n" };

		for (size_t i = 0; i < 3; i++)
			cr_assert_neq(load_changed(text, len, value, end - value, large[i]), 0, "%.*s%s",
				      (int)(value - start), text + start, large[i]);
	}
}

static void refuse_unknown_after(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	(void)value;
	cr_assert_eq(load_changed(text, len, end, 0, "later_invention = 1;\n"), -EINVAL, "after %.*s",
		     (int)(end - start), text + start);
	cr_assert(logged("later_invention"));
}

/* 15 of the volume, 12 of the first scope and 4 of its DEK, 14 of the second and 6 of each of its DEKs. */
enum { SETTINGS = 15 + 12 + 4 + 14 + 6 * DEKS_MAX };

Test(descriptor_damaged, every_setting_is_needed)
{
	cr_assert_eq(each_setting(refuse_without), SETTINGS);
}

Test(descriptor_damaged, no_setting_comes_twice)
{
	cr_assert_eq(each_setting(refuse_twice), SETTINGS);
}

Test(descriptor_damaged, every_setting_has_its_type)
{
	cr_assert_eq(each_setting(refuse_other_types), SETTINGS);
}

Test(descriptor_damaged, every_setting_has_its_range)
{
	cr_assert_eq(each_setting(refuse_too_large), SETTINGS);
}

Test(descriptor_damaged, unknown_settings_are_refused_everywhere)
{
	cr_assert_eq(each_setting(refuse_unknown_after), SETTINGS);
}

/* Replaces the first occurrence of `what`. */
static int load_replaced(const char *what, const char *with)
{
	size_t len;
	AUTO_FREE char *text = sample_text(&len);
	const char *at = strstr(text, what);

	cr_assert(at, "%s", what);
	return load_changed(text, len, (size_t)(at - text), strlen(what), with);
}

Test(descriptor_damaged, other_formats_and_features)
{
	cr_assert_eq(load_replaced("format = 0;", "format = 1;"), -EPROTONOSUPPORT);
	cr_assert(logged("format version 1"));
	cr_assert_eq(load_replaced("features = 0;", "features = 4;"), -EPROTONOSUPPORT);
	cr_assert(logged("features 0x4"));
	/* A newer format may have settings that we have never heard of. */
	cr_assert_eq(load_replaced("format = 0;", "format = 1; later_invention = 1;"), -EPROTONOSUPPORT);
	cr_assert_eq(load_replaced("coffer volume", "other thing"), -EINVAL);
}

Test(descriptor_damaged, includes_and_control_characters)
{
	static const char nul[] = { 0, '\n' };
	size_t len;
	AUTO_FREE char *text = sample_text(&len);

	put_file(in_scratch("included"), "format = 0;\n", 12, 0600);
	cr_assert_eq(load_replaced("format = 0;", "\n@include \"included\"\n"), -EINVAL);
	cr_assert(logged("@include"));
	cr_assert_eq(load_replaced("format = 0;", "format = 0; # @include"), -EINVAL);
	cr_assert_eq(load_replaced("format = 0;", "format = 0;\r"), -EINVAL);
	cr_assert_eq(load_replaced("format = 0;", "format = 0; # harmless"), 0);
	memcpy(strstr(text, "\nformat"), nul, 1);
	cr_assert_eq(load_text(text, len), -EINVAL);
}

Test(descriptor_damaged, order_of_numbers)
{
	cr_assert_eq(load_replaced("number = 0;", "number = 1;"), -EINVAL);
	cr_assert_eq(load_replaced("number = 4294967295L;", "number = 0;"), -EINVAL);
	cr_assert_eq(load_replaced("number = 4294967295L;", "number = 1;"), 0);
	cr_assert_eq(load_replaced("version = 4;", "version = 1;"), -EINVAL);
	cr_assert_eq(load_replaced("AES-256-XTS+GMAC", "ROT13"), -EINVAL);
}

Test(descriptor_damaged, lists_have_bounds)
{
	char many[4096] = "deks = ( {version = 1; key = \"\";}";
	size_t len;
	AUTO_FREE char *text = sample_text(&len);
	const char *last = strstr(strstr(text, suite_name(SUITE_XTS_GCM)), "version = 46;"), *group;

	/* A seventeenth version of a key. */
	cr_assert(last);
	for (group = last; *group != '{'; group--)
		;
	snprintf(many, sizeof(many), "%.*s, ", (int)(strchr(group, '}') + 1 - group), group);
	memcpy(strstr(many, "46"), "45", 2);
	cr_assert_eq(load_changed(text, len, (size_t)(group - text), 0, many), -EINVAL);
	cr_assert(logged("too many"));
	cr_assert_eq(load_replaced("scopes = (", "scopes = ( 1, "), -EINVAL);
}

/* Cuts a list's elements away: from its first occurrence to where `end` begins. */
static int load_emptied(const char *list, const char *end)
{
	size_t len;
	AUTO_FREE char *text = sample_text(&len);
	const char *from = strstr(text, list), *to;

	cr_assert(from);
	from += strlen(list);
	to = strstr(from, end);
	cr_assert(to);
	return load_changed(text, len, (size_t)(from - text), (size_t)(to - from), "");
}

Test(descriptor_damaged, lists_are_not_empty)
{
	cr_assert_eq(load_emptied("deks = (", " );"), -EINVAL);
	cr_assert(logged("\"deks\" has too few"));
	cr_assert_eq(load_emptied("scopes = (", " );\nmac ="), -EINVAL);
	cr_assert(logged("\"scopes\" has too few"));
	cr_assert_eq(load_emptied("file:", "//"), 0); /* the cutting itself is well */
}

Test(descriptor_damaged, bounds_of_numbers)
{
	cr_assert_eq(load_replaced("platform_version = 3;", "platform_version = 4294967295L;"), 0);
	cr_assert_eq(load_replaced("platform_version = 3;", "platform_version = 4294967296L;"), -EINVAL);
	cr_assert_eq(load_replaced("platform_version = 3;", "platform_version = 0;"), -EINVAL);
	cr_assert_eq(load_replaced("sequence = 42;", "sequence = 9223372036854775806L;"), 0);
	cr_assert_eq(load_replaced("sequence = 42;", "sequence = 9223372036854775807L;"), -EINVAL);
	cr_assert_eq(load_replaced("sequence = 42;", "sequence = 0;"), -EINVAL);
	cr_assert_eq(load_replaced("number = 4294967295L;", "number = 4294967296L;"), -EINVAL);
}

Test(descriptor_damaged, the_mac_has_a_line_of_its_own)
{
	cr_assert_eq(load_replaced("\nmac = ", "mac = "), -EINVAL);
	cr_assert_eq(load_replaced("\nmac = ", "\n\nmac = "), 0);
	cr_assert_eq(load_replaced("\nmac = ", "\n mac = "), -EINVAL);
	cr_assert_eq(load_replaced("mac = ", "Mac = "), -EINVAL);
	cr_assert_eq(load_replaced("mac = \"", "mac = \"\"; mac = \""), -EINVAL);
}

Test(descriptor_damaged, deep_nesting_is_no_crash)
{
	enum { DEPTH = 1 << 19 };
	AUTO_FREE char *text = malloc(DEPTH + 256);
	int len;

	cr_assert(text);
	memset(text, '(', DEPTH);
	memcpy(text, "a = ", 4);
	len = DEPTH + sprintf(text + DEPTH, "\nmac = \"%064d\";\n", 0);
	cr_assert_eq(load_text(text, (size_t)len), -EINVAL);
}

Test(descriptor_damaged, very_many_settings_take_no_time, .timeout = 60)
{
	AUTO_FREE char *text = malloc(DESCRIPTOR_MAX);
	size_t len = 0;

	cr_assert(text);
	for (unsigned i = 0; len < DESCRIPTOR_MAX - 200; i++)
		len += (size_t)sprintf(text + len, "a%u%c1;", i, i % 2 ? '=' : ':');
	len += (size_t)sprintf(text + len, "\nmac = \"%064d\";\n", 0);
	cr_assert_eq(load_text(text, len), -EINVAL);
	cr_assert(logged("too many settings"));
}
