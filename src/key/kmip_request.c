#include "kmip_message.h"

#include <errno.h>
#include <string.h>

#include "kmip_protocol.h"
#include "kmip_ttlv.h"

const char *const kmip_attribute_names[ATTRIBUTES] = {
	[ATTRIBUTE_TYPE] = "Object Type",
	[ATTRIBUTE_ALGORITHM] = "Cryptographic Algorithm",
	[ATTRIBUTE_LENGTH] = "Cryptographic Length",
	[ATTRIBUTE_STATE] = "State",
};

unsigned kmip_operations(enum kmip_question question, enum kmip_operation ret[static OPERATIONS_MAX])
{
	ret[0] = OPERATION_GET_ATTRIBUTES;
	switch (question) {
	case KMIP_VERSIONS:
		ret[0] = OPERATION_DISCOVER_VERSIONS;
		return 1;
	case KMIP_LOCATE:
		ret[0] = OPERATION_LOCATE;
		return 1;
	case KMIP_DESCRIBE:
		return 1;
	case KMIP_GET:
		ret[1] = OPERATION_GET;
		return 2;
	case KMIP_ENCRYPT:
		ret[1] = OPERATION_ENCRYPT;
		return 2;
	case KMIP_DECRYPT:
		ret[1] = OPERATION_DECRYPT;
		return 2;
	}
	return 0;
}

static void put_version(struct ttlv_writer *w, unsigned minor)
{
	ttlv_begin(w, TAG_VERSION);
	ttlv_put_integer(w, TAG_VERSION_MAJOR, 1);
	ttlv_put_integer(w, TAG_VERSION_MINOR, (int32_t)minor);
	ttlv_end(w);
}

static void put_enum_attribute(struct ttlv_writer *w, enum kmip_attribute attribute, uint32_t value)
{
	ttlv_begin(w, TAG_ATTRIBUTE);
	ttlv_put_text(w, TAG_ATTRIBUTE_NAME, kmip_attribute_names[attribute]);
	ttlv_put_enum(w, TAG_ATTRIBUTE_VALUE, value);
	ttlv_end(w);
}

static void put_locate(struct ttlv_writer *w, const char *name)
{
	ttlv_put_integer(w, TAG_MAXIMUM_ITEMS, 2); /* one too many is all that needs to be known */
	ttlv_begin(w, TAG_ATTRIBUTE);
	ttlv_put_text(w, TAG_ATTRIBUTE_NAME, KMIP_NAME);
	ttlv_begin(w, TAG_ATTRIBUTE_VALUE);
	ttlv_put_text(w, TAG_NAME_VALUE, name);
	ttlv_put_enum(w, TAG_NAME_TYPE, NAME_IS_TEXT);
	ttlv_end(w);
	ttlv_end(w);
	put_enum_attribute(w, ATTRIBUTE_TYPE, OBJECT_SYMMETRIC_KEY);
	put_enum_attribute(w, ATTRIBUTE_STATE, STATE_ACTIVE);
}

static void put_gcm(struct ttlv_writer *w)
{
	ttlv_begin(w, TAG_PARAMETERS);
	ttlv_put_enum(w, TAG_BLOCK_CIPHER_MODE, MODE_GCM);
	ttlv_put_enum(w, TAG_ALGORITHM, ALGORITHM_AES);
	ttlv_put_integer(w, TAG_TAG_LENGTH, TAG_SIZE);
	ttlv_end(w);
}

static void put_payload(struct ttlv_writer *w, const struct kmip_request *q, enum kmip_operation operation)
{
	const uint8_t *wrapped = q->wrapped ? q->wrapped->bytes : NULL;

	ttlv_begin(w, TAG_REQUEST_PAYLOAD);
	if (operation == OPERATION_DISCOVER_VERSIONS) {
		for (unsigned minor = KMIP_MINOR_MAX; minor >= KMIP_MINOR_MIN; minor--)
			put_version(w, minor);
	} else if (operation == OPERATION_LOCATE) {
		put_locate(w, q->key);
	} else {
		ttlv_put_text(w, TAG_UNIQUE_ID, q->key);
	}
	if (operation == OPERATION_GET_ATTRIBUTES) {
		for (unsigned i = 0; i < ATTRIBUTES; i++)
			ttlv_put_text(w, TAG_ATTRIBUTE_NAME, kmip_attribute_names[i]);
		if (q->name)
			ttlv_put_text(w, TAG_ATTRIBUTE_NAME, KMIP_NAME);
	} else if (operation == OPERATION_GET) {
		ttlv_put_enum(w, TAG_KEY_FORMAT, FORMAT_RAW);
	} else if (operation == OPERATION_ENCRYPT) {
		put_gcm(w);
		ttlv_put_bytes(w, TAG_DATA, secret_bytes(q->plain), secret_size(q->plain));
		ttlv_put_bytes(w, TAG_NONCE, q->nonce, NONCE_SIZE);
		ttlv_put_bytes(w, TAG_AEAD_AAD, KMIP_AAD, strlen(KMIP_AAD));
	} else if (operation == OPERATION_DECRYPT) {
		put_gcm(w);
		ttlv_put_bytes(w, TAG_DATA, wrapped + NONCE_SIZE + TAG_SIZE, KEY_SIZE);
		ttlv_put_bytes(w, TAG_NONCE, wrapped, NONCE_SIZE);
		ttlv_put_bytes(w, TAG_AEAD_AAD, KMIP_AAD, strlen(KMIP_AAD));
		ttlv_put_bytes(w, TAG_AEAD_TAG, wrapped + NONCE_SIZE, TAG_SIZE);
	}
	ttlv_end(w);
}

static bool can_be_made(const struct kmip_request *q, unsigned minor)
{
	if (minor < KMIP_MINOR_MIN || minor > KMIP_MINOR_MAX)
		return false;
	if (q->question != KMIP_VERSIONS && (!q->key || !q->key[0]))
		return false;
	if (q->question == KMIP_ENCRYPT)
		return minor >= 4 && q->plain && secret_size(q->plain) == KEY_SIZE;
	if (q->question == KMIP_DECRYPT)
		return minor >= 4 && q->wrapped && q->wrapped->len == KMIP_WRAPPED_SIZE;
	return true;
}

/* No time stamp: servers compare it with their own clock, and refuse. */
static void put_header(struct ttlv_writer *w, unsigned minor, unsigned count)
{
	ttlv_begin(w, TAG_REQUEST_HEADER);
	put_version(w, minor);
	ttlv_put_integer(w, TAG_MAXIMUM_RESPONSE_SIZE, KMIP_ANSWER_MAX);
	if (count > 1)
		ttlv_put_boolean(w, TAG_BATCH_ORDER_OPTION, true);
	ttlv_put_integer(w, TAG_BATCH_COUNT, (int32_t)count);
	ttlv_end(w);
}

int kmip_request_write(const struct kmip_request *q, unsigned minor, struct secret *out, size_t *ret_len)
{
	enum kmip_operation operations[OPERATIONS_MAX];
	unsigned count = kmip_operations(q->question, operations);
	struct ttlv_writer w;

	if (!count || !can_be_made(q, minor))
		return -EINVAL;
	ttlv_start(&w, secret_data(out), secret_size(out));
	ttlv_begin(&w, TAG_REQUEST);
	put_header(&w, minor, count);
	for (unsigned i = 0; i < count; i++) {
		ttlv_begin(&w, TAG_BATCH_ITEM);
		ttlv_put_enum(&w, TAG_OPERATION, operations[i]);
		if (count > 1)
			ttlv_put_bytes(&w, TAG_BATCH_ITEM_ID, &(uint8_t){ (uint8_t)(i + 1) }, 1);
		put_payload(&w, q, operations[i]);
		ttlv_end(&w);
	}
	ttlv_end(&w);
	return ttlv_finish(&w, ret_len);
}
