/* Keys that an administrator keeps in a file: file:///absolute/path, percent-encoded where need be; or credential:NAME, a file that
 * the service manager puts into $CREDENTIALS_DIRECTORY for the daemon alone.
 *
 * The file's length alone tells its kind, so that no key is ever taken for another: 32 bytes are the key itself; 44 characters
 * are base64 and 64 are hexadecimal digits, both with or without one end of line. 32 hexadecimal digits are refused: they
 * would be accepted as a raw key although somebody meant a key of 128 bits.
 */
#include "provider.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

enum {
	HEX_LENGTH = 2 * KEY_SIZE,
	BASE64_LENGTH = 44, /* 43 digits and one '=' */
};

struct key_source {
	char *path;
	char id[FINGERPRINT_SIZE];
	struct secret *key;
};

/* ---- decoding in time that depends on the length alone, not on the key ---- */

/* -1 (all bits) if low <= c <= high, else 0. */
static int in_range(int c, int low, int high)
{
	return ((low - 1 - c) & (c - high - 1)) >> 8;
}

/* The digit's value, or -1. */
static int hex_digit(int c)
{
	return (in_range(c, '0', '9') & (c - '0' + 1)) + (in_range(c, 'a', 'f') & (c - 'a' + 11)) +
	       (in_range(c, 'A', 'F') & (c - 'A' + 11)) - 1;
}

static int base64_digit(int c)
{
	return (in_range(c, 'A', 'Z') & (c - 'A' + 1)) + (in_range(c, 'a', 'z') & (c - 'a' + 27)) +
	       (in_range(c, '0', '9') & (c - '0' + 53)) + (in_range(c, '+', '+') & 63) + (in_range(c, '/', '/') & 64) -
	       1;
}

static bool decode_hex(const uint8_t *text, size_t digits, uint8_t *out)
{
	int bad = 0;

	for (size_t i = 0; i < digits / 2; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		bad |= high | low;
		out[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
	}
	return bad >= 0;
}

static bool decode_base64(const uint8_t *text, uint8_t out[static KEY_SIZE])
{
	unsigned bits = 0;
	int bad = 0, held = 0;
	size_t len = 0;

	for (size_t i = 0; i < BASE64_LENGTH - 1; i++) {
		int digit = base64_digit(text[i]);

		bad |= digit;
		bits = bits << 6 | ((unsigned)digit & 63);
		held += 6;
		if (held >= 8) {
			held -= 8;
			out[len++] = (uint8_t)(bits >> held);
		}
	}
	/* The two bits that are left over must be zero: there is one text for one key. */
	return bad >= 0 && !(bits & 3) && text[BASE64_LENGTH - 1] == '=';
}

const char *key_parse(const struct secret *text, size_t len, struct secret *key)
{
	static const uint8_t zeros[KEY_SIZE];
	const uint8_t *in = secret_bytes(text);
	uint8_t *out = secret_data(key);

	if (len == KEY_SIZE) {
		if (decode_hex(in, KEY_SIZE, out))
			return "holds 32 hexadecimal digits, which is a key of 128 bits; 64 digits are needed";
		memcpy(out, in, KEY_SIZE);
	} else {
		if (len && in[len - 1] == '\n')
			len--;
		if (len && in[len - 1] == '\r')
			len--;
		if (len == HEX_LENGTH) {
			if (!decode_hex(in, HEX_LENGTH, out))
				return "has the length of 64 hexadecimal digits, but other characters among them";
		} else if (len == BASE64_LENGTH) {
			if (!decode_base64(in, out))
				return "has the length of a key in base64, but is not base64 of 32 bytes";
		} else {
			return "has a wrong length: it must hold 32 bytes (and no end of line), 64 hexadecimal digits, or 44 characters of base64";
		}
	}
	return equal_in_constant_time(out, zeros, KEY_SIZE) ? "holds nothing but zeros" : NULL;
}

/* ---- the provider ---- */

/* Reads the key again each time. `log`: false for looks at its state, which are no failures. */
static int load(const char *path, bool log, struct secret **ret)
{
	struct secret *text = secret_new(KEY_TEXT_MAX), *key = secret_new(KEY_SIZE);
	const char *why = NULL;
	size_t len = 0;
	int r = -ENOMEM;

	if (!text || !key)
		goto out;
	r = key_file_read(AT_FDCWD, path, log ? path : NULL, text, &len);
	if (!r || r == -EFBIG)
		why = key_parse(text, r ? 0 : len, key);
	if (why) {
		if (log)
			log_error("the key file %s %s", path, why);
		r = -EINVAL;
	}
	if (r)
		goto out;
	*ret = key;
	key = NULL;
out:
	secret_free(text);
	secret_free(key);
	return r;
}

int key_file_path(const char *uri, char **ret)
{
	static const char start[] = "file://";
	int r = -EINVAL;

	if (!strncmp(uri, start, strlen(start)) && uri[strlen(start)] == '/' && !strpbrk(uri, "?#"))
		r = key_uri_decode(uri + strlen(start), strlen(uri + strlen(start)), ret);
	if (r == -EINVAL)
		log_error(
			"a key file is named by file:///absolute/path, with %%, ? and # in the path written as %%25, %%3F and %%23");
	return r;
}

static void file_close(struct key_source *s)
{
	if (!s)
		return;
	secret_free(s->key);
	free(s->path);
	free(s);
}

static int credential_path(const char *uri, char **ret)
{
	const char *name = uri + strlen("credential:"), *dir = getenv("CREDENTIALS_DIRECTORY");

	if (!name[0] || name[0] == '.' || strchr(name, '/')) {
		log_error("a credential is named by credential:NAME, with the name that the service's unit gives it");
		return -EINVAL;
	}
	if (!dir || dir[0] != '/') {
		log_error(
			"%s: CREDENTIALS_DIRECTORY is not set: only a service whose unit loads credentials has some, see systemd.exec(5)",
			uri);
		return -ENOENT;
	}
	if (asprintf(ret, "%s/%s", dir, name) < 0) {
		*ret = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int open_by(int (*find_path)(const char *uri, char **ret), const char *uri, struct key_source **ret)
{
	struct key_source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	r = find_path(uri, &s->path);
	if (!r)
		r = load(s->path, true, &s->key);
	if (!r)
		r = key_fingerprint(s->key, s->id);
	if (r) {
		file_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

static int file_open(const char *uri, const char *state_dir, struct key_source **ret)
{
	(void)state_dir;
	return open_by(key_file_path, uri, ret);
}

static int credential_open(const char *uri, const char *state_dir, struct key_source **ret)
{
	(void)state_dir;
	return open_by(credential_path, uri, ret);
}

/* A file that is gone, closed to us or holds another key was taken away by its owner. Anything else may pass. */
static int file_describe(struct key_source *s, struct key_info *ret)
{
	struct key_info info = { .version = 1, .state = KEY_ACTIVE };
	struct secret *now = NULL;
	int r = load(s->path, false, &now);

	if (r == -ENOENT || r == -EACCES || r == -EINVAL)
		info.state = KEY_REVOKED;
	else if (r)
		info.state = KEY_UNREACHABLE;
	else if (!equal_in_constant_time(secret_bytes(now), secret_bytes(s->key), KEY_SIZE))
		info.state = KEY_REVOKED;
	secret_free(now);
	memcpy(info.id, s->id, sizeof(s->id));
	*ret = info;
	return 0;
}

static int file_wrap(struct key_source *s, const struct secret *key, struct key_info *ret_used, struct wrapped_key *ret)
{
	int r = key_wrap(s->key, key, ret);

	if (!r) {
		*ret_used = (struct key_info){ .version = 1, .state = KEY_ACTIVE };
		memcpy(ret_used->id, s->id, sizeof(s->id));
	}
	return r;
}

static int file_unwrap(struct key_source *s, const char *id, uint32_t version, const struct wrapped_key *in,
		       struct secret **ret)
{
	(void)id;
	/* A file holds one version; another one was never wrapped by it. */
	if (version != 1)
		return -ENOENT;
	return key_unwrap(s->key, in, ret);
}

const struct key_provider provider_file = {
	.scheme = "file",
	.open = file_open,
	.describe = file_describe,
	.wrap = file_wrap,
	.unwrap = file_unwrap,
	.close = file_close,
};

const struct key_provider provider_credential = {
	.scheme = "credential",
	.open = credential_open,
	.describe = file_describe,
	.wrap = file_wrap,
	.unwrap = file_unwrap,
	.close = file_close,
};
