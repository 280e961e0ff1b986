/* Loading, checking and replacing the descriptor. Its last line holds the MAC of every byte before it:
 *
 *	mac = "64 lower-case hexadecimal digits";
 */
#include "descriptor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <coffer/util.h>

#define MAC_START "mac = \""
#define MAC_END   "\";\n"
enum {
	MAC_DIGITS = 2 * MAC_SIZE,
	MAC_LINE = sizeof(MAC_START) - 1 + MAC_DIGITS + sizeof(MAC_END) - 1,
};

struct descriptor *descriptor_new(enum suite suite)
{
	struct descriptor *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->scopes = calloc(1, sizeof(*d->scopes));
	if (!d->scopes) {
		free(d);
		return NULL;
	}
	d->scope_count = 1;
	d->format = FORMAT_VERSION;
	d->created = time(NULL);
	d->next_object = 1;
	d->clean = true;
	d->scopes[0].suite = suite;
	d->scopes[0].created = d->created;
	return d;
}

struct descriptor *descriptor_copy(const struct descriptor *d)
{
	struct descriptor *copy = malloc(sizeof(*copy));

	if (!copy)
		return NULL;
	*copy = *d;
	copy->text = NULL;
	copy->text_len = 0;
	copy->scopes = malloc(d->scope_count * sizeof(*d->scopes));
	if (!copy->scopes) {
		free(copy);
		return NULL;
	}
	memcpy(copy->scopes, d->scopes, d->scope_count * sizeof(*d->scopes));
	return copy;
}

void descriptor_free(struct descriptor *d)
{
	if (!d)
		return;
	free(d->scopes);
	free(d->text);
	free(d);
}

/* Splits off the last line; *ret_digits are not looked at. false: the text does not end in one. */
static bool split_mac(const char *text, size_t len, size_t *ret_body_len, const char **ret_digits)
{
	const char *line;

	if (len <= MAC_LINE || text[len - MAC_LINE - 1] != '\n')
		return false;
	line = text + len - MAC_LINE;
	if (memcmp(line, MAC_START, strlen(MAC_START)) ||
	    memcmp(line + MAC_LINE - strlen(MAC_END), MAC_END, strlen(MAC_END)))
		return false;
	*ret_body_len = len - MAC_LINE;
	*ret_digits = line + strlen(MAC_START);
	return true;
}

int descriptor_take(char *text, size_t len, struct descriptor **ret)
{
	struct descriptor *d = calloc(1, sizeof(*d));
	const char *digits;
	size_t body_len;
	int r;

	if (!d) {
		free(text);
		return -ENOMEM;
	}
	d->text = text;
	d->text_len = len;
	if (split_mac(text, len, &body_len, &digits)) {
		r = descriptor_parse(d, text, body_len);
	} else {
		log_error(
			"%s: does not end in its authentication code: it was cut off or edited; restore it from a copy",
			DESCRIPTOR_NAME);
		r = -EINVAL;
	}
	if (r) {
		descriptor_free(d);
		return r;
	}
	*ret = d;
	return 0;
}

int descriptor_load(int backing_fd, struct descriptor **ret)
{
	char *text;
	size_t len;
	int r = read_file_at(backing_fd, DESCRIPTOR_NAME, DESCRIPTOR_MAX, &text, &len);

	if (!r)
		return descriptor_take(text, len, ret);
	if (r == -EFBIG) {
		log_error("%s: larger than any descriptor; this is not a coffer volume, or it was damaged",
			  DESCRIPTOR_NAME);
		r = -EINVAL;
	} else if (r == -ENOENT) {
		log_error("there is no %s: this is not a volume; make one with \"coffer create\"", DESCRIPTOR_NAME);
	} else {
		log_error("%s cannot be read: %s", DESCRIPTOR_NAME, strerror(-r));
	}
	return r;
}

static int mac_digits(const char *body, size_t len, const struct secret *mac_key, char digits[static MAC_DIGITS + 1])
{
	uint8_t mac[MAC_SIZE];
	int r = hmac_sha256(mac_key, body, len, mac);

	if (!r)
		hex_encode(mac, MAC_SIZE, digits);
	return r;
}

int descriptor_check(const struct descriptor *d, const struct secret *mac_key)
{
	const char *stored;
	char computed[MAC_DIGITS + 1];
	size_t body_len;
	int r;

	if (!d->text || !split_mac(d->text, d->text_len, &body_len, &stored))
		return -EBADMSG;
	r = mac_digits(d->text, body_len, mac_key, computed);
	if (r)
		return r;
	return equal_in_constant_time(stored, computed, MAC_DIGITS) ? 0 : -EBADMSG;
}

/* Appends the line with the MAC; *text, of *len bytes, is malloc'ed. */
static int append_mac(char **text, size_t *len, const struct secret *mac_key)
{
	char digits[MAC_DIGITS + 1], *whole;
	int r = mac_digits(*text, *len, mac_key, digits);

	if (r)
		return r;
	whole = realloc(*text, *len + MAC_LINE + 1);
	if (!whole)
		return -ENOMEM;
	snprintf(whole + *len, MAC_LINE + 1, MAC_START "%s" MAC_END, digits);
	*text = whole;
	*len += MAC_LINE;
	return 0;
}

int descriptor_store(struct descriptor *d, int backing_fd, const struct secret *mac_key)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int r;

	d->sequence++;
	r = descriptor_write(d, &text, &len);
	if (r)
		goto out;
	r = append_mac(&text, &len, mac_key);
	if (r)
		goto out;
	if (len > DESCRIPTOR_MAX) {
		log_error("%s: the volume has too many scopes or key versions to be described", DESCRIPTOR_NAME);
		r = -EFBIG;
		goto out;
	}
	r = replace_file_at(backing_fd, DESCRIPTOR_NAME, 0600, text, len);
	if (r) {
		log_error("%s cannot be replaced: %s", DESCRIPTOR_NAME, strerror(-r));
		goto out;
	}
	free(d->text);
	d->text = text;
	d->text_len = len;
	text = NULL;
out:
	if (r)
		d->sequence--;
	return r;
}

const struct scope_entry *descriptor_scope(const struct descriptor *d, uint32_t number)
{
	size_t low = 0, high = d->scope_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (d->scopes[mid].number == number)
			return &d->scopes[mid];
		if (d->scopes[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct scope_entry *descriptor_scope_named(const struct descriptor *d, const char *name)
{
	for (size_t i = 0; i < d->scope_count; i++)
		if (!strcmp(d->scopes[i].name, name))
			return &d->scopes[i];
	return NULL;
}
