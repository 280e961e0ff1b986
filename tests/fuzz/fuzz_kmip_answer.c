/* libFuzzer's entry for the answers of KMIP servers; replay.c runs it over the corpus as an ordinary test.
 *
 * The first byte is the question and whether a Deactivated key will do, the second the protocol version, the rest is the answer.
 * What is accepted is complete; what is not says why and leaves no key behind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "../../src/key/kmip_message.h"
#include "fuzz.h"

static void require(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "fuzz_kmip_answer: %s\n", what);
		abort();
	}
}

static void check_refusal(int r, const struct kmip_answer *a)
{
	static const int known[] = { ENOENT, EACCES, EINVAL, EBADMSG, EPROTONOSUPPORT, EOPNOTSUPP, EREMOTEIO, EPROTO };
	bool found = false;

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		found = found || r == -known[i];
	require(found, "an unknown error");
	require(!a->key, "a key came with an error");
	require(a->why[0], "no reason given");
	for (const char *c = a->why; *c; c++)
		require(*c >= ' ' && *c <= '~', "a reason that is no text");
}

static void check_answer(const struct kmip_request *q, const struct kmip_answer *a)
{
	bool key = q->question == KMIP_GET || q->question == KMIP_DECRYPT;

	require(key == (a->key != NULL), "a key where none belongs, or none");
	require(!a->deactivated || q->name, "a Deactivated key that will not do");
	require(!key || secret_size(a->key) == KEY_SIZE, "a key of a wrong length");
	require((a->wrapped.len == KMIP_WRAPPED_SIZE) == (q->question == KMIP_ENCRYPT), "nothing was wrapped");
	require((a->minor >= KMIP_MINOR_MIN && a->minor <= KMIP_MINOR_MAX) == (q->question == KMIP_VERSIONS),
		"a version that is none");
	if (q->question == KMIP_LOCATE)
		require(!a->found == !a->id[0] && strlen(a->id) < KMIP_ID_SIZE, "found, but nothing");
	else
		require(!a->found && !a->id[0], "found without looking");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct kmip_request q = { .key = "1", .nonce = "nonce-nonce" };
	struct kmip_answer a;
	int r;

	require(crypto_start() == 0, "no locked memory");
	if (len < 2 || len - 2 > KMIP_ANSWER_MAX)
		return 0;
	q.question = (enum kmip_question)(data[0] % 6);
	q.name = data[0] / 6 % 2 && (q.question == KMIP_GET || q.question == KMIP_DECRYPT) ? "name" : NULL;
	r = kmip_answer_read(&q, KMIP_MINOR_MIN + data[1] % 3, data + 2, len - 2, &a);
	if (r)
		check_refusal(r, &a);
	else
		check_answer(&q, &a);
	secret_free(a.key);
	return 0;
}
