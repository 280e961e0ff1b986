#include <errno.h>

#include "kmip_fixture.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(kmip_answer, .init = start);

static struct kmip_request ask_for(enum kmip_question question)
{
	struct kmip_request q = { .question = question, .key = "1" };

	memcpy(q.nonce, fixture_nonce, NONCE_SIZE);
	return q;
}

/* Reads it from a block of exactly that size, so that a sanitizer sees a read beyond it. */
static int read_bytes(enum kmip_question question, unsigned minor, const uint8_t *in, size_t len,
		      struct kmip_answer *ret)
{
	struct kmip_request q = ask_for(question);
	uint8_t *copy = malloc(len ? len : 1);
	int r;

	memcpy(copy, in, len);
	r = kmip_answer_read(&q, minor, copy, len, ret);
	free(copy);
	cr_assert_eq(r != 0, ret->why[0] != 0, "a reason goes with an error");
	cr_assert(!r || !ret->key, "an error leaves no key");
	return r;
}

static int read_odd(enum kmip_question question, enum odd odd, struct kmip_answer *ret)
{
	static uint8_t out[FIXTURE_SIZE];

	return read_bytes(question, 4, out, make_answer(question, 4, odd, out), ret);
}

Test(kmip_answer, right_ones)
{
	struct kmip_answer a;

	cr_assert_eq(read_odd(KMIP_VERSIONS, RIGHT, &a), 0, "%s", a.why);
	cr_assert_eq(a.minor, 4);
	cr_assert_eq(read_odd(KMIP_VERSIONS, VERSIONS_1_2, &a), 0);
	cr_assert_eq(a.minor, 2);
	cr_assert_eq(read_odd(KMIP_LOCATE, RIGHT, &a), 0, "%s", a.why);
	cr_assert_eq(a.found, 1);
	cr_assert_str_eq(a.id, "1");
	cr_assert_eq(read_odd(KMIP_LOCATE, HITS_NONE, &a), 0);
	cr_assert_eq(a.found, 0);
	cr_assert_eq(read_odd(KMIP_LOCATE, HITS_2, &a), 0);
	cr_assert_eq(a.found, 2);
	cr_assert_eq(read_odd(KMIP_LOCATE, HITS_1000, &a), 0);
	cr_assert_eq(a.found, 1000);
	cr_assert_eq(read_odd(KMIP_DESCRIBE, RIGHT, &a), 0, "%s", a.why);
	cr_assert_eq(read_odd(KMIP_GET, RIGHT, &a), 0, "%s", a.why);
	cr_assert_arr_eq(secret_bytes(a.key), fixture_key, KEY_SIZE);
	cr_assert_eq(secret_size(a.key), KEY_SIZE);
	secret_free(a.key);
	cr_assert_eq(read_odd(KMIP_ENCRYPT, RIGHT, &a), 0, "%s", a.why);
	cr_assert_eq(a.wrapped.len, KMIP_WRAPPED_SIZE);
	cr_assert_arr_eq(a.wrapped.bytes, fixture_nonce, NONCE_SIZE);
	cr_assert_arr_eq(a.wrapped.bytes + NONCE_SIZE, fixture_tag, TAG_SIZE);
	cr_assert_arr_eq(a.wrapped.bytes + NONCE_SIZE + TAG_SIZE, fixture_key, KEY_SIZE);
	cr_assert_eq(read_odd(KMIP_DECRYPT, RIGHT, &a), 0, "%s", a.why);
	cr_assert_arr_eq(secret_bytes(a.key), fixture_key, KEY_SIZE);
	secret_free(a.key);
}

/* What each oddity does to the answer to a question that it is about. */
static int expected(enum kmip_question question, enum odd odd)
{
	bool about_key = question >= KMIP_DESCRIBE, two = question >= KMIP_GET;

	if (odd == RIGHT || odd == EXTENSION)
		return 0;
	if (odd >= NO_ITEM_ID && odd <= ITEM_ID_EMPTY)
		return two ? -EPROTO : 0;
	if (odd < NO_UID)
		return -EPROTO;
	if (odd <= UID_NUL) {
		if (question == KMIP_VERSIONS)
			return 0;
		if (question == KMIP_LOCATE)
			return odd == NO_UID || odd == UID_TWICE || odd == OTHER_UID || odd == UID_LONGER ? 0 : -EPROTO;
		return -EPROTO;
	}
	if (odd <= AES_128) {
		if (!about_key || odd == MORE_ATTRIBUTES)
			return 0;
		return odd < PRE_ACTIVE ? -EPROTO : odd <= STATE_99 ? -EACCES : -EINVAL;
	}
	if (odd <= NO_OBJECT_TYPE) {
		if (question != KMIP_GET || odd == TRANSPARENT || odd == BLOCK_BARE)
			return 0;
		return odd == FORMAT_OPAQUE || odd == COMPRESSED || odd == WRAPPED ? -EINVAL : -EPROTO;
	}
	if (odd <= DATA_LONG)
		return question >= KMIP_ENCRYPT ? -EPROTO : 0;
	if (odd <= NO_NONCE)
		return question != KMIP_ENCRYPT || odd == NO_NONCE ? 0 : odd == OTHER_NONCE ? -EOPNOTSUPP : -EPROTO;
	if (question == KMIP_VERSIONS && (odd == VERSIONS_NONE || odd == VERSIONS_OTHERS))
		return -EPROTONOSUPPORT;
	return question == KMIP_VERSIONS && odd == VERSION_NO_MINOR ? -EPROTO : 0;
}

Test(kmip_answer, every_oddity_in_the_answer_to_every_question)
{
	for (int question = KMIP_VERSIONS; question <= KMIP_DECRYPT; question++) {
		for (int odd = RIGHT; odd < ODDITIES; odd++) {
			struct kmip_answer a;
			int r = read_odd((enum kmip_question)question, (enum odd)odd, &a);

			cr_assert_eq(r, expected((enum kmip_question)question, (enum odd)odd),
				     "question %d, oddity %d: %d, %s", question, odd, r, a.why);
			secret_free(a.key);
		}
	}
}

Test(kmip_answer, cut_off_or_longer_anywhere)
{
	static uint8_t out[FIXTURE_SIZE];
	struct kmip_answer a;

	for (int question = KMIP_VERSIONS; question <= KMIP_DECRYPT; question++) {
		size_t len = make_answer((enum kmip_question)question, 4, RIGHT, out);

		for (size_t n = 0; n < len; n++)
			cr_assert_eq(read_bytes((enum kmip_question)question, 4, out, n, &a), -EPROTO, "%zu bytes", n);
		cr_assert_eq(read_bytes((enum kmip_question)question, 4, out, len + 8, &a), -EPROTO);
	}
}

/* Lengths are the bytes 4 to 7 of each item, types its byte 3: any change there must end in an error or in nothing at all. */
Test(kmip_answer, every_byte_changed)
{
	static uint8_t out[FIXTURE_SIZE];
	struct kmip_answer a;
	size_t len = make_answer(KMIP_GET, 4, RIGHT, out);

	for (size_t at = 0; at < len; at++) {
		for (int bit = 0; bit < 8; bit++) {
			int r;

			out[at] ^= (uint8_t)(1 << bit);
			r = read_bytes(KMIP_GET, 4, out, len, &a);
			if (!r)
				cr_assert_eq(secret_size(a.key), KEY_SIZE);
			secret_free(a.key);
			out[at] ^= (uint8_t)(1 << bit);
		}
	}
}

Test(kmip_answer, refusals_have_a_meaning)
{
	static const struct {
		uint32_t reason;
		int meaning;
	} all[] = { { 0x01, -ENOENT },          { 0x03, -EACCES },          { 0x0c, -EACCES },
		    { 0x0d, -EACCES },          { 0x16, -EACCES },          { 0x17, -EACCES },
		    { 0x13, -EACCES },          { 0x36, -EACCES },          { 0x37, -ENOENT },
		    { 0x39, -EACCES },          { 0x43, -EACCES },          { 0x0a, -EBADMSG },
		    { 0x05, -EOPNOTSUPP },      { 0x08, -EOPNOTSUPP },      { 0x10, -EOPNOTSUPP },
		    { 0x04, -EPROTONOSUPPORT }, { 0x3f, -EPROTONOSUPPORT }, { 0x100, -EREMOTEIO },
		    { 0x02, -EREMOTEIO },       { 0, -EREMOTEIO } };
	static uint8_t out[FIXTURE_SIZE];
	struct kmip_answer a;

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		for (unsigned at = 0; at < 2; at++) {
			size_t len = make_refusal(KMIP_GET, 4, at, true, all[i].reason, "because\n\x1b[31m", out);

			cr_assert_eq(read_bytes(KMIP_GET, 4, out, len, &a), all[i].meaning, "reason %#x",
				     all[i].reason);
			cr_assert(strstr(a.why, "because??[31m"), "%s", a.why);
		}
	}
}

Test(kmip_answer, messages_refused_as_a_whole)
{
	static uint8_t out[FIXTURE_SIZE];
	struct kmip_answer a;
	size_t len = make_refusal(KMIP_GET, 0, 0, false, REASON_INVALID_MESSAGE, "bad version", out);

	cr_assert_eq(read_bytes(KMIP_GET, 4, out, len, &a), -EPROTONOSUPPORT, "in a 1.0 header");
	len = make_refusal(KMIP_GET, 0, 0, false, REASON_AUTHENTICATION, NULL, out);
	cr_assert_eq(read_bytes(KMIP_GET, 4, out, len, &a), -EACCES);
	len = make_refusal(KMIP_GET, 0, 0, false, 0x100, NULL, out);
	cr_assert_eq(read_bytes(KMIP_GET, 4, out, len, &a), -EPROTONOSUPPORT, "another version, and whatever reason");
	len = make_refusal(KMIP_GET, 4, 0, false, 0x100, NULL, out);
	cr_assert_eq(read_bytes(KMIP_GET, 4, out, len, &a), -EREMOTEIO);
	len = make_refusal(KMIP_GET, 4, 1, false, REASON_NOT_FOUND, NULL, out);
	cr_assert_eq(read_bytes(KMIP_GET, 4, out, len, &a), -EPROTO, "not after a result");
}

/* A server that sends the key of a deactivated one, and says so. */
Test(kmip_answer, reasons_are_for_people)
{
	struct kmip_answer a;

	cr_assert_eq(read_odd(KMIP_GET, DEACTIVATED, &a), -EACCES);
	cr_assert_str_eq(a.why, "the key is not Active but Deactivated");
	cr_assert_eq(read_odd(KMIP_GET, STATE_99, &a), -EACCES);
	cr_assert_eq(read_odd(KMIP_GET, AES_128, &a), -EINVAL);
	cr_assert_str_eq(a.why, "it is not an AES key of 256 bits");
	cr_assert_eq(read_odd(KMIP_GET, COUNT_AND_ITEM_MORE, &a), -EPROTO);
	cr_assert(strstr(a.why, "wrong number of results"), "%s", a.why);
}

/* Where the request names it, a Deactivated key of that name will do, to get what it wrapped, and nothing else will. */
Test(kmip_answer, a_deactivated_key_of_the_name)
{
	static const enum kmip_question questions[] = { KMIP_GET, KMIP_DECRYPT };
	static uint8_t out[FIXTURE_SIZE];
	struct kmip_answer a;

	for (unsigned i = 0; i < 2; i++) {
		struct kmip_request q = ask_for(questions[i]);

		q.name = FIXTURE_NAME;
		for (int odd = RIGHT; odd < ODDITIES; odd++) {
			size_t len = make_answer(q.question, 4, (enum odd)odd, out);
			int r = kmip_answer_read(&q, 4, out, len, &a);
			int wanted = odd == DEACTIVATED_NAMED       ? 0
				     : odd == DEACTIVATED_NAME_TEXT ? -EPROTO
								    : expected(q.question, (enum odd)odd);

			cr_assert_eq(r, wanted, "question %u, oddity %d: %d, %s", i, odd, r, a.why);
			cr_assert_eq(a.deactivated, odd == DEACTIVATED_NAMED);
			cr_assert_eq(a.key != NULL, r == 0);
			secret_free(a.key);
		}
	}
}

/* A server that does not decrypt with such a key any more: what is known of the key is known all the same. */
Test(kmip_answer, a_deactivated_key_that_the_server_refuses_to_use)
{
	static uint8_t out[FIXTURE_SIZE];
	struct kmip_request q = ask_for(KMIP_DECRYPT);
	size_t len = make_refusal_after(DEACTIVATED_NAMED, KMIP_DECRYPT, 4, 1, true, REASON_PERMISSION_DENIED, NULL,
					out);
	struct kmip_answer a;

	q.name = FIXTURE_NAME;
	cr_assert_eq(kmip_answer_read(&q, 4, out, len, &a), -EACCES);
	cr_assert(a.deactivated);
	cr_assert_null(a.key);
}

Test(kmip_answer, structures_too_deep)
{
	static uint8_t out[FIXTURE_SIZE];
	uint8_t deep[8 * 4000];
	struct kmip_answer a;
	size_t len = sizeof(deep);

	/* Nothing but beginnings of structures, each around the rest. */
	for (size_t at = 0; at < len; at += 8) {
		size_t rest = len - at - 8;
		uint32_t tag = at == 0 ? TAG_RESPONSE : at == 8 ? TAG_RESPONSE_HEADER : TAG_VERSION;
		uint8_t header[8] = { (uint8_t)(tag >> 16), (uint8_t)(tag >> 8),   (uint8_t)tag,
				      TTLV_STRUCTURE,       (uint8_t)(rest >> 24), (uint8_t)(rest >> 16),
				      (uint8_t)(rest >> 8), (uint8_t)rest };

		memcpy(deep + at, header, 8);
	}
	cr_assert_eq(read_bytes(KMIP_DESCRIBE, 4, deep, len, &a), -EPROTO);
	memset(out, 0xff, sizeof(out));
	cr_assert_eq(read_bytes(KMIP_DESCRIBE, 4, out, sizeof(out), &a), -EPROTO);
}

Test(kmip_answer, out_of_locked_memory)
{
	struct secret *rest[64];
	struct kmip_answer a;
	int n = 0;

	for (size_t size = 4 << 20; size > 0; size /= 2)
		while (n < 64 && (rest[n] = secret_new(size > 32 ? size - 32 : 1)))
			n++;
	cr_assert_eq(read_odd(KMIP_GET, RIGHT, &a), -ENOMEM);
	while (n > 0)
		secret_free(rest[--n]);
}
