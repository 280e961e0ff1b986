/* Answers of a key server: a right one to each question, and every way to get one thing about it wrong. */
#ifndef COFFER_TESTS_KMIP_FIXTURE_H
#define COFFER_TESTS_KMIP_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "../../src/key/kmip_message.h"
#include "../../src/key/kmip_protocol.h"
#include "../../src/key/kmip_ttlv.h"

enum odd {
	RIGHT,
	/* the message */
	NO_HEADER,
	HEADER_TWICE,
	NO_VERSION,
	VERSION_TWICE,
	VERSION_OLDER,
	MAJOR_2,
	NO_COUNT,
	COUNT_TWICE,
	COUNT_0,
	COUNT_NEGATIVE,
	COUNT_HUGE,
	COUNT_MORE,
	COUNT_LESS,
	COUNT_ENUM,
	AN_ITEM_MORE,
	COUNT_AND_ITEM_MORE,
	ITEM_LEFT_OUT,
	TRAILING,
	OTHER_MESSAGE,
	EMPTY,
	/* a result: the last one */
	NO_OPERATION,
	OPERATION_TWICE,
	OTHER_OPERATION,
	NO_ITEM_ID,
	OTHER_ITEM_ID,
	ITEM_ID_LONG,
	ITEM_ID_EMPTY,
	NO_STATUS,
	STATUS_TWICE,
	STATUS_PENDING,
	STATUS_INTEGER,
	NO_PAYLOAD,
	PAYLOAD_TWICE,
	PAYLOAD_BYTES,
	OTHER_ITEM_TAG,
	EXTENSION,
	/* identifiers: of the last result */
	NO_UID,
	UID_TWICE,
	OTHER_UID,
	UID_LONGER,
	UID_BYTES,
	UID_HUGE,
	UID_EMPTY,
	UID_ODD,
	UID_NUL,
	/* attributes */
	NO_STATE,
	STATE_TWICE,
	STATE_INTEGER,
	NO_TYPE,
	NO_ALGORITHM,
	NO_LENGTH,
	NO_ATTRIBUTE_NAME,
	NO_ATTRIBUTE_VALUE,
	MORE_ATTRIBUTES,
	PRE_ACTIVE,
	DEACTIVATED,
	COMPROMISED,
	DESTROYED,
	DESTROYED_COMPROMISED,
	DEACTIVATED_NAMED,
	COMPROMISED_NAMED,
	DESTROYED_NAMED,
	DEACTIVATED_OTHER_NAME,
	DEACTIVATED_NAME_IS_URI,
	DEACTIVATED_NAME_TEXT,
	STATE_99,
	PRIVATE_KEY,
	DES,
	AES_128,
	/* keys */
	NO_KEY,
	KEY_TWICE,
	NO_BLOCK,
	BLOCK_TWICE,
	NO_FORMAT,
	FORMAT_OPAQUE,
	TRANSPARENT,
	TRANSPARENT_EMPTY,
	NO_VALUE,
	VALUE_BYTES,
	NO_MATERIAL,
	MATERIAL_TWICE,
	MATERIAL_SHORT,
	MATERIAL_LONG,
	MATERIAL_EMPTY,
	MATERIAL_TEXT,
	COMPRESSED,
	WRAPPED,
	BLOCK_DES,
	BLOCK_AES_128,
	BLOCK_BARE,
	OBJECT_OTHER,
	NO_OBJECT_TYPE,
	/* encryption */
	NO_DATA,
	DATA_TWICE,
	DATA_SHORT,
	DATA_LONG,
	NO_TAG,
	TAG_SHORT,
	OTHER_NONCE,
	NO_NONCE,
	/* versions and hits */
	VERSIONS_NONE,
	VERSIONS_OTHERS,
	VERSIONS_1_2,
	VERSION_NO_MINOR,
	HITS_NONE,
	HITS_2,
	HITS_1000,
	ODDITIES,
};

enum { FIXTURE_SIZE = 1 << 16 };
static const uint8_t fixture_key[KEY_SIZE] = "the key of the key server, 32 b";
#define FIXTURE_NAME "a key's name"
static const uint8_t fixture_nonce[NONCE_SIZE] = "nonce-nonce";
static const uint8_t fixture_tag[TAG_SIZE] = "tag-tag-tag-tag";

static inline void put_version_of(struct ttlv_writer *w, int major, int minor, enum odd odd)
{
	ttlv_begin(w, TAG_VERSION);
	ttlv_put_integer(w, TAG_VERSION_MAJOR, major);
	if (odd != VERSION_NO_MINOR)
		ttlv_put_integer(w, TAG_VERSION_MINOR, minor);
	ttlv_end(w);
}

static inline void put_uid(struct ttlv_writer *w, enum odd odd)
{
	char huge[300];

	memset(huge, 'x', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = 0;
	if (odd == NO_UID)
		return;
	if (odd == UID_BYTES)
		ttlv_put_bytes(w, TAG_UNIQUE_ID, "1", 1);
	else
		ttlv_put_text(w, TAG_UNIQUE_ID,
			      odd == OTHER_UID    ? "2"
			      : odd == UID_LONGER ? "11"
			      : odd == UID_HUGE   ? huge
			      : odd == UID_EMPTY  ? ""
			      : odd == UID_ODD    ? "a\"b"
			      : odd == UID_NUL    ? "1?"
						  : "1");
	if (odd == UID_NUL)
		w->out[w->len - 7] = 0;
	if (odd == UID_TWICE)
		ttlv_put_text(w, TAG_UNIQUE_ID, "1");
}

static inline void put_attribute(struct ttlv_writer *w, const char *name, bool integer, uint32_t value, enum odd odd)
{
	ttlv_begin(w, TAG_ATTRIBUTE);
	if (odd != NO_ATTRIBUTE_NAME)
		ttlv_put_text(w, TAG_ATTRIBUTE_NAME, name);
	if (odd != NO_ATTRIBUTE_VALUE && integer)
		ttlv_put_integer(w, TAG_ATTRIBUTE_VALUE, (int32_t)value);
	else if (odd != NO_ATTRIBUTE_VALUE)
		ttlv_put_enum(w, TAG_ATTRIBUTE_VALUE, value);
	ttlv_end(w);
}

static inline void put_name(struct ttlv_writer *w, const char *name, enum odd odd)
{
	ttlv_begin(w, TAG_ATTRIBUTE);
	ttlv_put_text(w, TAG_ATTRIBUTE_NAME, "Name");
	if (odd == DEACTIVATED_NAME_TEXT) {
		ttlv_put_text(w, TAG_ATTRIBUTE_VALUE, name);
	} else {
		ttlv_begin(w, TAG_ATTRIBUTE_VALUE);
		ttlv_put_text(w, TAG_NAME_VALUE, name);
		ttlv_put_enum(w, TAG_NAME_TYPE, odd == DEACTIVATED_NAME_IS_URI ? 2 : 1);
		ttlv_end(w);
	}
	ttlv_end(w);
}

static inline void put_attributes(struct ttlv_writer *w, enum odd odd)
{
	bool other_name = odd == DEACTIVATED_OTHER_NAME;
	uint32_t state = odd == STATE_99                                      ? 99
			 : odd == COMPROMISED_NAMED                           ? 4
			 : odd == DESTROYED_NAMED                             ? 5
			 : odd >= DEACTIVATED_NAMED && odd < STATE_99         ? STATE_DEACTIVATED
			 : odd >= PRE_ACTIVE && odd == PRE_ACTIVE             ? 1
			 : odd >= DEACTIVATED && odd <= DESTROYED_COMPROMISED ? 3U + (odd - DEACTIVATED)
									      : STATE_ACTIVE;

	put_uid(w, odd);
	if (odd == MORE_ATTRIBUTES) {
		put_attribute(w, "x-something of a vendor with a long name, longer than any that Coffer asks for",
			      false, 1, RIGHT);
		put_attribute(w, "Initial Date", true, 7, RIGHT);
	}
	if (odd >= DEACTIVATED_NAMED && odd < STATE_99) {
		put_name(w, "another name of it", odd);
		put_name(w, other_name ? "a key's name, but longer" : FIXTURE_NAME, odd);
	}
	if (odd != NO_TYPE)
		put_attribute(w, "Object Type", false, odd == PRIVATE_KEY ? 4 : 2, odd);
	if (odd != NO_ALGORITHM)
		put_attribute(w, "Cryptographic Algorithm", false, odd == DES ? 2 : 3, RIGHT);
	if (odd != NO_LENGTH)
		put_attribute(w, "Cryptographic Length", true, odd == AES_128 ? 128 : 256, RIGHT);
	if (odd != NO_STATE)
		put_attribute(w, "State", odd == STATE_INTEGER, state, RIGHT);
	if (odd == STATE_TWICE)
		put_attribute(w, "State", false, state, RIGHT);
}

static inline void put_material(struct ttlv_writer *w, enum odd odd)
{
	uint8_t bytes[40] = { 0 };
	size_t len = odd == MATERIAL_SHORT ? 31 : odd == MATERIAL_LONG ? 33 : odd == MATERIAL_EMPTY ? 0 : KEY_SIZE;

	memcpy(bytes, fixture_key, KEY_SIZE);
	if (odd == NO_MATERIAL)
		return;
	if (odd == TRANSPARENT || odd == TRANSPARENT_EMPTY) {
		ttlv_begin(w, TAG_KEY_MATERIAL);
		if (odd == TRANSPARENT)
			ttlv_put_bytes(w, TAG_KEY, bytes, len);
		ttlv_end(w);
	} else if (odd == MATERIAL_TEXT) {
		ttlv_put_text(w, TAG_KEY_MATERIAL, (const char *)bytes);
	} else {
		ttlv_put_bytes(w, TAG_KEY_MATERIAL, bytes, len);
	}
	if (odd == MATERIAL_TWICE)
		ttlv_put_bytes(w, TAG_KEY_MATERIAL, bytes, len);
}

static inline void put_block(struct ttlv_writer *w, enum odd odd)
{
	ttlv_begin(w, TAG_KEY_BLOCK);
	if (odd != NO_FORMAT)
		ttlv_put_enum(w, TAG_KEY_FORMAT,
			      odd == FORMAT_OPAQUE                             ? 2
			      : odd == TRANSPARENT || odd == TRANSPARENT_EMPTY ? FORMAT_TRANSPARENT_SYMMETRIC
									       : FORMAT_RAW);
	if (odd == COMPRESSED)
		ttlv_put_enum(w, TAG_KEY_COMPRESSION, 1);
	if (odd == VALUE_BYTES) {
		ttlv_put_bytes(w, TAG_KEY_VALUE, fixture_key, KEY_SIZE);
	} else if (odd != NO_VALUE) {
		ttlv_begin(w, TAG_KEY_VALUE);
		put_material(w, odd);
		ttlv_end(w);
	}
	if (odd != BLOCK_BARE) {
		ttlv_put_enum(w, TAG_ALGORITHM, odd == BLOCK_DES ? 2 : 3);
		ttlv_put_integer(w, TAG_LENGTH, odd == BLOCK_AES_128 ? 128 : 256);
	}
	if (odd == WRAPPED) {
		ttlv_begin(w, TAG_KEY_WRAPPING_DATA);
		ttlv_end(w);
	}
	ttlv_end(w);
}

static inline void put_got(struct ttlv_writer *w, enum odd odd)
{
	if (odd != NO_OBJECT_TYPE)
		ttlv_put_enum(w, TAG_OBJECT_TYPE, odd == OBJECT_OTHER ? 7 : 2);
	put_uid(w, odd);
	for (int i = 0; i < (odd == NO_KEY ? 0 : odd == KEY_TWICE ? 2 : 1); i++) {
		ttlv_begin(w, TAG_SYMMETRIC_KEY);
		for (int n = 0; n < (odd == NO_BLOCK ? 0 : odd == BLOCK_TWICE ? 2 : 1); n++)
			put_block(w, odd);
		ttlv_end(w);
	}
}

static inline void put_data(struct ttlv_writer *w, enum odd odd)
{
	uint8_t bytes[40] = { 0 };

	memcpy(bytes, fixture_key, KEY_SIZE);
	for (int i = 0; i < (odd == NO_DATA ? 0 : odd == DATA_TWICE ? 2 : 1); i++)
		ttlv_put_bytes(w, TAG_DATA, bytes, odd == DATA_SHORT ? 31 : odd == DATA_LONG ? 33 : KEY_SIZE);
}

static inline void put_encrypted(struct ttlv_writer *w, enum odd odd)
{
	put_uid(w, odd);
	put_data(w, odd);
	if (odd != NO_NONCE)
		ttlv_put_bytes(w, TAG_NONCE, odd == OTHER_NONCE ? fixture_tag : fixture_nonce, NONCE_SIZE);
	if (odd != NO_TAG)
		ttlv_put_bytes(w, TAG_AEAD_TAG, fixture_tag, odd == TAG_SHORT ? 12 : TAG_SIZE);
}

static inline void put_versions(struct ttlv_writer *w, enum odd odd)
{
	if (odd == VERSIONS_NONE)
		return;
	put_version_of(w, 2, 1, RIGHT);
	put_version_of(w, 2, 3, RIGHT);
	if (odd != VERSIONS_1_2 && odd != VERSIONS_OTHERS)
		put_version_of(w, 1, 4, odd);
	put_version_of(w, 1, odd == VERSIONS_OTHERS ? 1 : 2, RIGHT);
	put_version_of(w, 1, 0, RIGHT);
	put_version_of(w, 1, 5, RIGHT);
}

static inline void put_located(struct ttlv_writer *w, enum odd odd)
{
	int hits = odd == HITS_NONE ? 0 : odd == HITS_2 ? 2 : odd == HITS_1000 ? 1000 : 1;

	ttlv_put_integer(w, 0x4200d5, hits);
	for (int i = 0; i < hits; i++)
		put_uid(w, odd);
}

static inline void put_answer_payload(struct ttlv_writer *w, enum kmip_operation operation, enum odd odd)
{
	if (odd == PAYLOAD_BYTES) {
		ttlv_put_bytes(w, TAG_RESPONSE_PAYLOAD, fixture_key, 8);
		return;
	}
	ttlv_begin(w, TAG_RESPONSE_PAYLOAD);
	if (odd == EXTENSION)
		ttlv_put_text(w, 0x540001, "a vendor's own");
	if (operation == OPERATION_DISCOVER_VERSIONS) {
		put_versions(w, odd);
	} else if (operation == OPERATION_LOCATE) {
		put_located(w, odd);
	} else if (operation == OPERATION_GET_ATTRIBUTES) {
		put_attributes(w, odd);
	} else if (operation == OPERATION_GET) {
		put_got(w, odd);
	} else if (operation == OPERATION_ENCRYPT) {
		put_encrypted(w, odd);
	} else {
		put_uid(w, odd);
		put_data(w, odd);
	}
	ttlv_end(w);
}

static inline void put_result_head(struct ttlv_writer *w, enum kmip_operation operation, uint8_t id, enum odd odd)
{
	uint8_t bytes[2] = { odd == OTHER_ITEM_ID ? id + 1 : id };

	for (int i = 0; i < (odd == NO_OPERATION ? 0 : odd == OPERATION_TWICE ? 2 : 1); i++)
		ttlv_put_enum(w, TAG_OPERATION,
			      odd == OTHER_OPERATION ? OPERATION_GET_ATTRIBUTES - 3 + 0x20 : operation);
	if (id && odd != NO_ITEM_ID)
		ttlv_put_bytes(w, TAG_BATCH_ITEM_ID, bytes, odd == ITEM_ID_LONG ? 2 : odd == ITEM_ID_EMPTY ? 0 : 1);
	for (int i = 0; i < (odd == NO_STATUS ? 0 : odd == STATUS_TWICE ? 2 : 1); i++) {
		if (odd == STATUS_INTEGER)
			ttlv_put_integer(w, TAG_RESULT_STATUS, STATUS_SUCCESS);
		else
			ttlv_put_enum(w, TAG_RESULT_STATUS, odd == STATUS_PENDING ? 2 : STATUS_SUCCESS);
	}
}

static inline void put_result(struct ttlv_writer *w, enum kmip_operation operation, uint8_t id, enum odd odd)
{
	ttlv_begin(w, odd == OTHER_ITEM_TAG ? TAG_RESPONSE_HEADER : TAG_BATCH_ITEM);
	put_result_head(w, operation, id, odd);
	for (int i = 0; i < (odd == NO_PAYLOAD ? 0 : odd == PAYLOAD_TWICE ? 2 : 1); i++)
		put_answer_payload(w, operation, odd);
	if (odd == EXTENSION) {
		ttlv_begin(w, 0x420051);
		ttlv_end(w);
	}
	ttlv_end(w);
}

static inline void put_answer_header(struct ttlv_writer *w, unsigned minor, int count, enum odd odd)
{
	ttlv_begin(w, TAG_RESPONSE_HEADER);
	for (int i = 0; i < (odd == NO_VERSION ? 0 : odd == VERSION_TWICE ? 2 : 1); i++)
		put_version_of(w, odd == MAJOR_2 ? 2 : 1, (int)minor - (odd == VERSION_OLDER), RIGHT);
	for (int i = 0; i < (odd == NO_COUNT ? 0 : odd == COUNT_TWICE ? 2 : 1); i++) {
		if (odd == COUNT_ENUM)
			ttlv_put_enum(w, TAG_BATCH_COUNT, (uint32_t)count);
		else
			ttlv_put_integer(w, TAG_BATCH_COUNT,
					 odd == COUNT_0                                    ? 0
					 : odd == COUNT_NEGATIVE                           ? -count
					 : odd == COUNT_HUGE                               ? INT32_MAX
					 : odd == COUNT_MORE || odd == COUNT_AND_ITEM_MORE ? count + 1
					 : odd == COUNT_LESS || odd == ITEM_LEFT_OUT       ? count - 1
											   : count);
	}
	ttlv_end(w);
}

/* The attributes' oddities belong to the first result of two, the others to the last. */
static inline size_t make_answer(enum kmip_question question, unsigned minor, enum odd odd,
				 uint8_t out[static FIXTURE_SIZE])
{
	enum kmip_operation operations[OPERATIONS_MAX];
	unsigned count = kmip_operations(question, operations);
	bool first = odd >= NO_STATE && odd <= AES_128;
	struct ttlv_writer w;
	size_t len = 0;

	ttlv_start(&w, out, FIXTURE_SIZE);
	ttlv_begin(&w, odd == OTHER_MESSAGE ? TAG_REQUEST : TAG_RESPONSE);
	for (int i = 0; i < (odd == NO_HEADER || odd == EMPTY ? 0 : odd == HEADER_TWICE ? 2 : 1); i++)
		put_answer_header(&w, minor, (int)count, odd);
	for (unsigned i = 0; i < count - (odd == ITEM_LEFT_OUT) && odd != EMPTY; i++)
		put_result(&w, operations[i], count > 1 ? (uint8_t)(i + 1) : 0,
			   first == (i == 0) || count == 1 ? odd : RIGHT);
	if (odd == AN_ITEM_MORE || odd == COUNT_AND_ITEM_MORE)
		put_result(&w, operations[count - 1], (uint8_t)(count + 1), RIGHT);
	ttlv_end(&w);
	if (odd == TRAILING)
		ttlv_put_integer(&w, TAG_LENGTH, 0);
	cr_assert_eq(ttlv_finish(&w, &len), 0);
	return len;
}

/* A refusal of the result `at` (from 0), after those before it. `with_operation` false: of the message as a whole. */
static inline size_t make_refusal_after(enum odd before, enum kmip_question question, unsigned minor, unsigned at,
					bool with_operation, uint32_t reason, const char *message,
					uint8_t out[static FIXTURE_SIZE])
{
	enum kmip_operation operations[OPERATIONS_MAX];
	unsigned count = kmip_operations(question, operations);
	struct ttlv_writer w;
	size_t len = 0;

	ttlv_start(&w, out, FIXTURE_SIZE);
	ttlv_begin(&w, TAG_RESPONSE);
	put_answer_header(&w, minor, (int)at + 1, RIGHT);
	for (unsigned i = 0; i < at; i++)
		put_result(&w, operations[i], (uint8_t)(i + 1), before);
	ttlv_begin(&w, TAG_BATCH_ITEM);
	if (with_operation) {
		ttlv_put_enum(&w, TAG_OPERATION, operations[at]);
		if (count > 1)
			ttlv_put_bytes(&w, TAG_BATCH_ITEM_ID, &(uint8_t){ (uint8_t)(at + 1) }, 1);
	}
	ttlv_put_enum(&w, TAG_RESULT_STATUS, STATUS_FAILED);
	if (reason)
		ttlv_put_enum(&w, TAG_RESULT_REASON, reason);
	if (message)
		ttlv_put_text(&w, TAG_RESULT_MESSAGE, message);
	ttlv_end(&w);
	ttlv_end(&w);
	cr_assert_eq(ttlv_finish(&w, &len), 0);
	return len;
}

static inline size_t make_refusal(enum kmip_question question, unsigned minor, unsigned at, bool with_operation,
				  uint32_t reason, const char *message, uint8_t out[static FIXTURE_SIZE])
{
	return make_refusal_after(RIGHT, question, minor, at, with_operation, reason, message, out);
}

#endif
