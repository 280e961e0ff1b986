/* What is sent to key servers, against the bytes of another encoder (vectors/kmip.py), which PyKMIP understands. */
#include <errno.h>

#include "bytes.h"

#include "../../src/key/kmip_message.h"
#include "../vectors/kmip.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(kmip_request, .init = start);

#define UID "b4faee10-aa2a-4446-8ad4-0881f3422959"

static struct kmip_request ask_for(enum kmip_question question)
{
	static struct wrapped_key wrapped = { .len = KMIP_WRAPPED_SIZE };
	struct kmip_request q = { .question = question, .key = UID, .wrapped = &wrapped };
	struct secret *plain = secret_new(KEY_SIZE);

	for (uint8_t i = 0; i < KEY_SIZE; i++)
		secret_data(plain)[i] = i;
	for (uint8_t i = 0; i < NONCE_SIZE; i++)
		q.nonce[i] = wrapped.bytes[i] = 0xa0 + i;
	for (uint8_t i = 0; i < TAG_SIZE; i++)
		wrapped.bytes[NONCE_SIZE + i] = 0xb0 + i;
	memcpy(wrapped.bytes + NONCE_SIZE + TAG_SIZE, secret_bytes(plain), KEY_SIZE);
	q.plain = plain;
	return q;
}

static int write_request(const struct kmip_request *q, unsigned minor, size_t size, const char *expected)
{
	struct secret *out = secret_new(size);
	size_t len = 0;
	int r = kmip_request_write(q, minor, out, &len);

	if (!r && expected)
		check_bytes(secret_bytes(out), len, expected, "request");
	secret_free(out);
	return r;
}

Test(kmip_request, known_answers)
{
	struct kmip_request q = ask_for(KMIP_VERSIONS);

	cr_assert_eq(write_request(&q, 4, KMIP_REQUEST_MAX, request_versions), 0);
	q = ask_for(KMIP_LOCATE);
	q.key = "a key";
	cr_assert_eq(write_request(&q, 3, KMIP_REQUEST_MAX, request_locate), 0);
	q = ask_for(KMIP_DESCRIBE);
	cr_assert_eq(write_request(&q, 2, KMIP_REQUEST_MAX, request_describe), 0);
	q = ask_for(KMIP_GET);
	cr_assert_eq(write_request(&q, 2, KMIP_REQUEST_MAX, request_get), 0);
	q = ask_for(KMIP_ENCRYPT);
	cr_assert_eq(write_request(&q, 4, KMIP_REQUEST_MAX, request_encrypt), 0);
	q = ask_for(KMIP_DECRYPT);
	cr_assert_eq(write_request(&q, 4, KMIP_REQUEST_MAX, request_decrypt), 0);
}

Test(kmip_request, what_cannot_be_asked)
{
	struct wrapped_key wrong = { .len = WRAPPED_KEY_SIZE };
	struct kmip_request q = ask_for(KMIP_GET);

	cr_assert_eq(write_request(&q, 1, KMIP_REQUEST_MAX, NULL), -EINVAL);
	cr_assert_eq(write_request(&q, 5, KMIP_REQUEST_MAX, NULL), -EINVAL);
	q.key = "";
	cr_assert_eq(write_request(&q, 4, KMIP_REQUEST_MAX, NULL), -EINVAL);
	q = ask_for(KMIP_ENCRYPT);
	cr_assert_eq(write_request(&q, 3, KMIP_REQUEST_MAX, NULL), -EINVAL, "AAD came with 1.4");
	q = ask_for(KMIP_DECRYPT);
	cr_assert_eq(write_request(&q, 3, KMIP_REQUEST_MAX, NULL), -EINVAL, "AAD came with 1.4");
	q.wrapped = &wrong;
	cr_assert_eq(write_request(&q, 4, KMIP_REQUEST_MAX, NULL), -EINVAL);
	q = ask_for((enum kmip_question)17);
	cr_assert_eq(write_request(&q, 4, KMIP_REQUEST_MAX, NULL), -EINVAL);
}

Test(kmip_request, no_room)
{
	struct kmip_request q = ask_for(KMIP_DECRYPT);

	for (size_t size = 0; size < strlen(request_decrypt) / 2; size++)
		cr_assert_eq(write_request(&q, 4, size, NULL), -EMSGSIZE, "%zu bytes", size);
	cr_assert_eq(write_request(&q, 4, strlen(request_decrypt) / 2, request_decrypt), 0);
}
