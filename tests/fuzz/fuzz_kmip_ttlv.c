/* libFuzzer's entry for TTLV; replay.c runs it over the corpus as an ordinary test.
 *
 * Whatever is accepted lies inside of the input, and is written again as the same bytes: nothing has two encodings.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/key/kmip_ttlv.h"
#include "fuzz.h"

static void require(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "fuzz_kmip_ttlv: %s\n", what);
		abort();
	}
}

struct walk {
	const uint8_t *in;
	size_t len;
	struct ttlv_writer out;
	bool foreign; /* a type that Coffer never writes */
};

static void write_again(struct walk *w, const struct ttlv_item *i)
{
	char text[4096];
	int32_t number = 0;
	uint32_t value = 0;

	switch (i->type) {
	case TTLV_INTEGER:
		require(!ttlv_integer(i, &number), "an integer is none");
		ttlv_put_integer(&w->out, i->tag, number);
		break;
	case TTLV_ENUM:
		require(!ttlv_enum(i, &value), "an enumeration is none");
		ttlv_put_enum(&w->out, i->tag, value);
		break;
	case TTLV_BOOLEAN:
		ttlv_put_boolean(&w->out, i->tag, i->value[7]);
		break;
	case TTLV_BYTES:
		ttlv_put_bytes(&w->out, i->tag, i->value, i->len);
		break;
	case TTLV_TEXT:
		if (ttlv_text(i, text, sizeof(text)))
			w->foreign = true;
		else
			ttlv_put_text(&w->out, i->tag, text);
		break;
	default:
		w->foreign = true;
	}
}

/* false: malformed somewhere. */
static bool visit(struct walk *w, struct ttlv_cursor *c)
{
	struct ttlv_cursor inner;
	struct ttlv_item i;
	int r;

	require(c->depth <= TTLV_DEPTH_MAX, "too deep");
	while ((r = ttlv_next(c, &i)) > 0) {
		require(i.value >= w->in && i.len <= (size_t)(w->in + w->len - i.value), "outside of the input");
		require(i.tag < 1 << 24, "a tag has more than three bytes");
		if (i.type != TTLV_STRUCTURE) {
			require(ttlv_enter(c, &i, &inner) < 0, "entered what is no structure");
			write_again(w, &i);
			continue;
		}
		if (ttlv_enter(c, &i, &inner))
			return false;
		ttlv_begin(&w->out, i.tag);
		if (!visit(w, &inner))
			return false;
		ttlv_end(&w->out);
	}
	return !r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct walk w = { .in = data, .len = len };
	uint8_t *out = malloc(len + 1);
	struct ttlv_cursor c;
	size_t written = 0;

	require(out != NULL, "out of memory");
	ttlv_start(&w.out, out, len);
	ttlv_read(&c, data, len);
	if (visit(&w, &c) && !w.foreign) {
		require(!ttlv_finish(&w.out, &written), "what was accepted cannot be written");
		require(written == len && !memcmp(out, data, len), "it is written differently");
	}
	if (len >= TTLV_HEADER && !ttlv_message_length(data, 0x42007b, len, &written))
		require(written <= len && written % 8 == 0, "a message is longer than was allowed");
	free(out);
	return 0;
}
