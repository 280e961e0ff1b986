/* The head of an audit trail, in the backing directory: the last lines, sealed. */
#include "audit.h"

#include <errno.h>
#include <string.h>

#include <coffer/util.h>

enum {
	HEAD_FORMAT = 1,
	/* In clear */
	FORMAT_AT = 8,
	NONCE_AT = 16,
	TAG_AT = NONCE_AT + NONCE_SIZE,
	SEALED_AT = TAG_AT + TAG_SIZE,
	/* Sealed, counted from SEALED_AT */
	STATE_AT = AUDIT_PLACE_SIZE,
	LENGTH_AT = STATE_AT + 4,
	LINES_AT = LENGTH_AT + 4,
};
static const char magic[FORMAT_AT] = { 'c', 'o', 'f', 'a', 'u', 'd', 'i', 't' };

void audit_head_end(struct audit_head *h)
{
	free(h->lines.text);
	h->lines = (struct audit_batch){ 0 };
}

/* Where the head's lines begin and end in the chain. What was sealed was authentic. */
static int find_positions(const struct audit *a, struct audit_head *h)
{
	struct audit_line l;
	const char *at = h->lines.text, *end = at + h->lines.len;
	int r = 0;

	for (const char *feed; r == 0 && at < end; at = feed + 1) {
		feed = memchr(at, '\n', (size_t)(end - at));
		r = feed ? audit_line_parse(a, at, (size_t)(feed - at), &l) : -EBADMSG;
		if (r < 0)
			break;
		if (at == h->lines.text) {
			h->before.number = l.at.number - 1;
			memcpy(h->before.mac, l.previous, MAC_SIZE);
		}
		h->last = l.at;
		audit_line_end(&l);
	}
	return h->lines.len ? r : -EBADMSG;
}

static int open_head(struct audit *a, uint8_t *data, size_t len, struct audit_head *h)
{
	struct iovec aad = { .iov_base = data, .iov_len = NONCE_AT };
	uint8_t *plain = data + SEALED_AT;
	uint32_t length;
	int r;

	if (len == 0 || len % AUDIT_HEAD_STEP != 0 || memcmp(data, magic, sizeof(magic)) != 0 ||
	    get_le32(data + FORMAT_AT) != HEAD_FORMAT)
		return -EBADMSG;
	r = aead_open(a->head_key, data + NONCE_AT, &aad, 1, plain, len - SEALED_AT, plain, data + TAG_AT);
	if (r < 0)
		return r;
	memcpy(h->place, plain, AUDIT_PLACE_SIZE);
	length = get_le32(plain + LENGTH_AT);
	if (length > len - SEALED_AT - LINES_AT)
		return -EBADMSG;
	h->lines.text = malloc(length + 1);
	if (!h->lines.text)
		return -ENOMEM;
	memcpy(h->lines.text, plain + LINES_AT, length);
	h->lines.len = length;
	r = find_positions(a, h);
	h->state = get_le32(plain + STATE_AT) == HEAD_PENDING ? HEAD_PENDING : HEAD_SETTLED;
	return r;
}

int audit_head_load(struct audit *a, struct audit_head *ret)
{
	AUTO_FREE char *data = NULL;
	struct audit_head h = { 0 };
	size_t len = 0;
	int r = read_file_at(a->backing_fd, AUDIT_HEAD_NAME, AUDIT_HEAD_MAX, &data, &len);

	if (r == 0)
		r = open_head(a, (uint8_t *)data, len, &h);
	if (r == -EBADMSG || r == -EFBIG || r == -EISDIR || r == -ELOOP || r == -ENXIO) {
		audit_head_end(&h);
		h = (struct audit_head){ .state = HEAD_BAD };
		r = 0;
	}
	if (r == -ENOENT)
		r = 0; /* HEAD_NONE */
	if (r < 0) {
		log_error("%s cannot be read: %s", AUDIT_HEAD_NAME, strerror(-r));
		audit_head_end(&h);
		return r;
	}
	*ret = h;
	return 0;
}

int audit_head_store(struct audit *a, enum audit_head_state state, const struct audit_batch *lines)
{
	size_t size = (SEALED_AT + LINES_AT + lines->len + AUDIT_HEAD_STEP - 1) / AUDIT_HEAD_STEP * AUDIT_HEAD_STEP;
	AUTO_FREE uint8_t *data = calloc(1, size);
	struct iovec aad = { .iov_base = data, .iov_len = NONCE_AT };
	uint8_t *plain = data + SEALED_AT;
	int r;

	if (!data)
		return -ENOMEM;
	memcpy(data, magic, sizeof(magic));
	put_le32(data + FORMAT_AT, HEAD_FORMAT);
	memcpy(plain, a->place, AUDIT_PLACE_SIZE);
	put_le32(plain + STATE_AT, state);
	put_le32(plain + LENGTH_AT, (uint32_t)lines->len);
	memcpy(plain + LINES_AT, lines->text, lines->len);
	r = random_bytes(data + NONCE_AT, NONCE_SIZE);
	if (r == 0)
		r = aead_seal(a->head_key, data + NONCE_AT, &aad, 1, plain, size - SEALED_AT, plain, data + TAG_AT);
	if (r == 0)
		r = replace_file_at(a->backing_fd, AUDIT_HEAD_NAME, 0600, data, size);
	if (r < 0)
		log_error("%s in the backing directory cannot be replaced: %s", AUDIT_HEAD_NAME, strerror(-r));
	return r;
}

const char *audit_head_after(const struct audit *a, const struct audit_head *h, const struct audit_position *at)
{
	struct audit_line l;
	const char *text = h->lines.text, *end = text + h->lines.len;
	bool found;

	if (at->number == h->before.number)
		return memcmp(at->mac, h->before.mac, MAC_SIZE) == 0 ? text : NULL;
	while (text < end) {
		const char *feed = memchr(text, '\n', (size_t)(end - text));

		if (audit_line_parse(a, text, (size_t)(feed - text), &l) < 0)
			return NULL;
		found = l.at.number == at->number && memcmp(l.at.mac, at->mac, MAC_SIZE) == 0;
		audit_line_end(&l);
		text = feed + 1;
		if (found)
			return text;
	}
	return NULL;
}
