/* Key bytes: length and bytes in one block of the arena. */
#include <stdint.h>

#include "arena.h"
#include "coffer/crypto.h"

struct secret {
	size_t len;
	uint8_t bytes[];
};

struct secret *secret_new(size_t len)
{
	struct secret *s;

	if (len > ARENA_SIZE) /* keeps the sum from wrapping */
		return NULL;
	s = arena_alloc(sizeof(*s) + len);
	if (s)
		s->len = len;
	return s;
}

struct secret *secret_random(size_t len)
{
	struct secret *s = secret_new(len);

	if (s && random_bytes(s->bytes, len) < 0) {
		secret_free(s);
		s = NULL;
	}
	return s;
}

struct secret *secret_take(uint8_t *bytes, size_t len)
{
	struct secret *s = secret_new(len);

	for (size_t i = 0; s && i < len; i++)
		s->bytes[i] = bytes[i];
	wipe(bytes, len); /* also when there was no room: the caller has given them away */
	return s;
}

uint8_t *secret_data(struct secret *s)
{
	return s->bytes;
}

const uint8_t *secret_bytes(const struct secret *s)
{
	return s->bytes;
}

size_t secret_size(const struct secret *s)
{
	return s->len;
}

void secret_free(struct secret *s)
{
	arena_free(s);
}
