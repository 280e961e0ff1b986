/* libFuzzer's entry for the descriptor's parser; replay.c runs it over the corpus as an ordinary test.
 *
 * Whatever is accepted must be written again, and what was written be read as the same: nothing may mean two things.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "../../src/key/descriptor.h"
#include "fuzz.h"

static const char mac_line[] = "\nmac = \"0000000000000000000000000000000000000000000000000000000000000000\";\n";

static void require(bool good, const char *what)
{
	if (!good) {
		fprintf(stderr, "fuzz_descriptor: %s\n", what);
		abort();
	}
}

/* Loads the bytes as they are, or with a last line. NULL: refused. */
static struct descriptor *load(const void *data, size_t len, bool complete)
{
	struct descriptor *d = NULL;
	char *text = malloc(len + sizeof(mac_line));

	require(text != NULL, "out of memory");
	memcpy(text, data, len);
	memcpy(text + len, mac_line, sizeof(mac_line));
	if (!complete)
		len += strlen(mac_line);
	text[len] = '\0';
	return descriptor_take(text, len, &d) ? NULL : d;
}

static void check_round_trip(const struct descriptor *d)
{
	AUTO_FREE char *body = NULL;
	struct descriptor *again, flat, flat_again;
	size_t len = 0;

	require(!descriptor_write(d, &body, &len), "what was accepted cannot be written");
	again = load(body, len, false);
	require(again != NULL, "what was written is not accepted");
	flat = *d;
	flat_again = *again;
	flat.scopes = flat_again.scopes = NULL;
	flat.text = flat_again.text = NULL;
	flat.text_len = flat_again.text_len = 0;
	require(!memcmp(&flat, &flat_again, sizeof(flat)), "the volume reads differently");
	for (size_t i = 0; i < d->scope_count; i++)
		require(!memcmp(&d->scopes[i], &again->scopes[i], sizeof(d->scopes[i])), "a scope reads differently");
	descriptor_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct descriptor *d;

	log_set_level((enum log_level)0);
	if (len > DESCRIPTOR_MAX)
		return 0;
	for (int complete = 0; complete < 2; complete++) {
		d = load(data, len, complete);
		if (d)
			check_round_trip(d);
		descriptor_free(d);
	}
	return 0;
}
