#include "key_fixture.h"

TestSuite(provider_file, .init = scratch_start, .fini = scratch_end);

static const uint8_t raw[KEY_SIZE] = { 0x00, 0xff, 0x10, 0x83, 0x10, 0x51, 0x87, 0x20, 0x92, 0x8b, 0x30,
				       0xd3, 0x8f, 0x41, 0x14, 0x93, 0x51, 0x55, 0x97, 0x61, 0x96, 0x9b,
				       0x71, 0xd7, 0x9f, 0x82, 0x18, 0xa3, 0x92, 0x59, 0xfb, 0xfe };
static const char hex[] = "00ff108310518720928b30d38f41149351559761969b71d79f8218a39259fbfe";
static const char base64[] = "AP8QgxBRhyCSizDTj0EUk1FVl2GWm3HXn4IYo5JZ+/4=";

static const struct key_provider *provider(void)
{
	const struct key_provider *p = key_provider_for("file:///x");

	cr_assert(p);
	return p;
}

/* Puts the content into a file and opens it as a key. */
static int open_content(const void *content, size_t len, struct key_source **ret)
{
	char uri[PATH_MAX + 16];

	put_file(in_scratch("key"), content, len, 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("key"));
	*ret = NULL;
	return provider()->open(uri, "unused", ret);
}

static void expect_same_key(const void *content, size_t len)
{
	const struct key_provider *p = provider();
	struct secret *data = secret_random(KEY_SIZE), *back = NULL;
	struct key_source *one, *other;
	struct key_info info, other_info;
	struct wrapped_key wrapped;

	cr_assert_eq(open_content(raw, sizeof(raw), &one), 0);
	cr_assert_eq(open_content(content, len, &other), 0, "%.*s", (int)len, (const char *)content);
	cr_assert_eq(p->wrap(one, data, &info, &wrapped), 0);
	cr_assert_eq(info.version, 1);
	cr_assert_eq(wrapped.len, WRAPPED_KEY_SIZE);
	cr_assert_eq(p->unwrap(other, info.id, 1, &wrapped, &back), 0);
	cr_assert(same_secret(data, back));
	cr_assert_eq(p->describe(other, &other_info), 0);
	cr_assert_str_eq(info.id, other_info.id);
	cr_assert_eq(strlen(info.id), 16);
	cr_assert_eq(info.version, 1);
	secret_free(data);
	secret_free(back);
	p->close(one);
	p->close(other);
}

Test(provider_file, raw_hex_and_base64_are_one_key)
{
	char text[80];

	expect_same_key(raw, sizeof(raw));
	expect_same_key(hex, 64);
	expect_same_key(base64, 44);
	snprintf(text, sizeof(text), "%s\n", hex);
	expect_same_key(text, 65);
	snprintf(text, sizeof(text), "%s\r\n", hex);
	expect_same_key(text, 66);
	for (char *c = text; *c; c++)
		if (*c >= 'a' && *c <= 'f')
			*c = (char)(*c - 32);
	expect_same_key(text, 66);
	snprintf(text, sizeof(text), "%s\n", base64);
	expect_same_key(text, 45);
	snprintf(text, sizeof(text), "%s\r\n", base64);
	expect_same_key(text, 46);
}

static void expect_refused(const void *content, size_t len, const char *message)
{
	struct key_source *s;

	cr_assert_eq(open_content(content, len, &s), -EINVAL, "%zu bytes", len);
	cr_assert_null(s);
	cr_assert(logged(message), "%zu bytes: %s", len, message);
}

Test(provider_file, every_other_length_is_refused)
{
	char text[256];

	memset(text, 'A', sizeof(text)); /* good digits for all encodings */
	for (size_t len = 0; len < sizeof(text); len++)
		if (len != 32 && len != 44 && len != 64)
			expect_refused(text, len, "wrong length");
}

Test(provider_file, every_wrong_digit_is_refused)
{
	char text[80];

	for (int c = 0; c < 256; c++) {
		bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
		struct key_source *s;
		int r;

		strcpy(text, hex);
		text[17] = (char)c;
		r = open_content(text, 64, &s);
		cr_assert_eq(r, digit ? 0 : -EINVAL, "hex %#x", c);
		if (!r)
			provider()->close(s);

		digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '+' ||
			c == '/';
		strcpy(text, base64);
		text[17] = (char)c;
		r = open_content(text, 44, &s);
		cr_assert_eq(r, digit ? 0 : -EINVAL, "base64 %#x", c);
		if (!r)
			provider()->close(s);
	}
}

Test(provider_file, other_doubtful_texts_are_refused)
{
	char text[80] = { 0 };

	expect_refused(hex, 32, "128 bits");
	expect_refused(text, 32, "zeros");
	memset(text, '0', 64);
	expect_refused(text, 64, "zeros");
	snprintf(text, sizeof(text), "%.43sA", base64); /* 33 bytes */
	expect_refused(text, 44, "base64");
	snprintf(text, sizeof(text), "%.42s5=", base64); /* left-over bits */
	expect_refused(text, 44, "base64");
}

static int open_uri(const char *uri)
{
	struct key_source *s = NULL;
	int r = provider()->open(uri, "unused", &s);

	cr_assert_eq(r == 0, s != NULL);
	provider()->close(s);
	return r;
}

Test(provider_file, permissions_and_kinds_of_file)
{
	static const mode_t good[] = { 0600, 0400, 0700 };
	char uri[PATH_MAX + 16];

	snprintf(uri, sizeof(uri), "file://%s", in_scratch("key"));
	cr_assert_eq(open_uri(uri), -ENOENT);
	for (unsigned bit = 0; bit < 6; bit++) {
		put_file(in_scratch("key"), raw, sizeof(raw), 0600 | 1U << bit);
		cr_assert_eq(open_uri(uri), -EACCES, "%#o", 0600 | 1U << bit);
		cr_assert(logged("0600"));
	}
	for (size_t i = 0; i < 3; i++) {
		put_file(in_scratch("key"), raw, sizeof(raw), good[i]);
		cr_assert_eq(open_uri(uri), 0);
		unlink(in_scratch("key"));
	}
	cr_assert_eq(mkfifo(in_scratch("key"), 0600), 0);
	cr_assert_eq(open_uri(uri), -EACCES);
	cr_assert(logged("not a regular file"));
	unlink(in_scratch("key"));
	cr_assert_eq(mkdir(in_scratch("key"), 0700), 0);
	cr_assert_eq(open_uri(uri), -EACCES);
	cr_assert_eq(rmdir(in_scratch("key")), 0);
	put_file(in_scratch("target"), raw, sizeof(raw), 0600);
	cr_assert_eq(symlink("target", in_scratch("key")), 0);
	cr_assert_eq(open_uri(uri), 0);
}

static int open_encoded(const char *name)
{
	char uri[2 * PATH_MAX];

	snprintf(uri, sizeof(uri), "file://%s/%s", scratch, name);
	return open_uri(uri);
}

Test(provider_file, uris)
{
	put_file(in_scratch("a key%%"), raw, sizeof(raw), 0600);
	cr_assert_eq(open_encoded("a key%25"), 0);
	cr_assert_eq(open_encoded("a%20key%25"), 0);
	cr_assert_eq(open_encoded("a%2 key%25"), -EINVAL);
	cr_assert_eq(open_encoded("a key%"), -EINVAL);
	cr_assert_eq(open_encoded("a key%2"), -EINVAL);
	cr_assert_eq(open_encoded("a key%25%00"), -EINVAL);
	cr_assert_eq(open_encoded("a key%25?b"), -EINVAL);
	cr_assert_eq(open_encoded("a key%25#b"), -EINVAL);
	cr_assert_eq(open_uri("file:relative"), -EINVAL);
	cr_assert_eq(open_uri("file://host/key"), -EINVAL);
	cr_assert_eq(open_uri("file://"), -EINVAL);
	cr_assert_null(key_provider_for("ftp:///key"));
	cr_assert_null(key_provider_for("file"));
	cr_assert_null(key_provider_for("fil:///key"));
	cr_assert_null(key_provider_for(""));
}

Test(provider_file, state_follows_the_file)
{
	const struct key_provider *p = provider();
	struct key_source *s;
	struct key_info info;
	uint8_t other[KEY_SIZE];

	memcpy(other, raw, sizeof(raw));
	other[5] ^= 1;
	cr_assert_eq(open_content(raw, sizeof(raw), &s), 0);
	cr_assert_eq(p->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_ACTIVE);
	cr_assert_eq(chmod(in_scratch("key"), 0644), 0);
	cr_assert_eq(p->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_REVOKED);
	cr_assert_eq(chmod(in_scratch("key"), 0600), 0);
	cr_assert_eq(p->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_ACTIVE);
	put_file(in_scratch("key"), other, sizeof(other), 0600);
	cr_assert_eq(p->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_REVOKED);
	cr_assert_eq(unlink(in_scratch("key")), 0);
	cr_assert_eq(p->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_REVOKED);
	cr_assert_eq(strlen(info.id), 16);
	p->close(s);
}

Test(provider_file, wrong_key_and_wrong_version)
{
	const struct key_provider *p = provider();
	struct secret *data = secret_random(KEY_SIZE), *back = NULL;
	struct key_source *right, *wrong;
	struct key_info a, b;
	struct wrapped_key wrapped;
	uint8_t other[KEY_SIZE];

	memcpy(other, raw, sizeof(raw));
	other[31] ^= 0x80;
	cr_assert_eq(open_content(raw, sizeof(raw), &right), 0);
	cr_assert_eq(open_content(other, sizeof(other), &wrong), 0);
	cr_assert_eq(p->wrap(right, data, &a, &wrapped), 0);
	cr_assert_eq(p->unwrap(wrong, a.id, 1, &wrapped, &back), -EBADMSG);
	cr_assert_eq(p->unwrap(right, a.id, 2, &wrapped, &back), -ENOENT);
	cr_assert_null(back);
	p->describe(right, &a);
	p->describe(wrong, &b);
	cr_assert_str_neq(a.id, b.id);
	secret_free(data);
	p->close(right);
	p->close(wrong);
}

/* ---- credentials ---- */

static int open_credential(const char *uri, struct key_source **ret)
{
	const struct key_provider *p = key_provider_for(uri);

	cr_assert(p);
	*ret = NULL;
	return p->open(uri, "unused", ret);
}

Test(provider_file, a_credential_is_a_key_file_of_the_service)
{
	const struct key_provider *p = key_provider_for("credential:x");
	struct key_source *credential, *plain;
	struct key_info info, plain_info;

	cr_assert_eq(setenv("CREDENTIALS_DIRECTORY", scratch, 1), 0);
	cr_assert_eq(open_content(hex, 64, &plain), 0); /* into "key" */
	cr_assert_eq(open_credential("credential:key", &credential), 0);
	cr_assert_eq(p->describe(credential, &info), 0);
	cr_assert_eq(info.state, KEY_ACTIVE);
	provider()->describe(plain, &plain_info);
	cr_assert_str_eq(info.id, plain_info.id);
	provider()->close(plain);
	cr_assert_eq(unlink(in_scratch("key")), 0);
	cr_assert_eq(p->describe(credential, &info), 0);
	cr_assert_eq(info.state, KEY_REVOKED);
	p->close(credential);
	cr_assert_eq(open_credential("credential:key", &credential), -ENOENT);
}

Test(provider_file, what_is_no_credential)
{
	struct key_source *s;

	cr_assert_eq(setenv("CREDENTIALS_DIRECTORY", scratch, 1), 0);
	cr_assert_eq(open_credential("credential:", &s), -EINVAL);
	cr_assert_eq(open_credential("credential:..", &s), -EINVAL);
	cr_assert_eq(open_credential("credential:a/b", &s), -EINVAL);
	put_file(in_scratch("open"), hex, 64, 0644);
	cr_assert_eq(open_credential("credential:open", &s), -EACCES);
	cr_assert_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	cr_assert_eq(open_credential("credential:open", &s), -ENOENT);
	cr_assert(logged("CREDENTIALS_DIRECTORY is not set"));
}
