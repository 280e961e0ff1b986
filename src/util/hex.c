/* Hexadecimal text. Key files come through here, so the time taken depends on lengths only, never on the digits. */
#include <errno.h>

#include "coffer/util.h"

/* All ones if lo <= c <= hi, else 0. */
static uint32_t mask_if_within(int c, int lo, int hi)
{
	return -(((uint32_t)(lo - 1 - c) & (uint32_t)(c - hi - 1)) >> 31);
}

void hex_encode(const uint8_t *in, size_t len, char *out)
{
	for (size_t i = 0; i < 2 * len; i++) {
		int nibble = i % 2 ? in[i / 2] & 15 : in[i / 2] >> 4;
		out[i] = (char)('0' + nibble + (int)(mask_if_within(nibble, 10, 15) & ('a' - '0' - 10)));
	}
	out[2 * len] = '\0';
}

int hex_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size, size_t *ret_len)
{
	uint32_t valid = UINT32_MAX;

	if (text_len % 2 || text_len / 2 > out_size)
		return -EINVAL;
	for (size_t i = 0; i < text_len; i += 2) {
		uint32_t byte = 0;
		for (size_t j = 0; j < 2; j++) {
			int c = (unsigned char)text[i + j];
			uint32_t digit = mask_if_within(c, '0', '9');
			uint32_t lower = mask_if_within(c, 'a', 'f');
			uint32_t upper = mask_if_within(c, 'A', 'F');
			valid &= digit | lower | upper;
			byte = byte << 4 | (digit & (uint32_t)(c - '0')) | (lower & (uint32_t)(c - 'a' + 10)) |
			       (upper & (uint32_t)(c - 'A' + 10));
		}
		out[i / 2] = (uint8_t)byte;
	}
	if (!valid)
		return -EINVAL;
	*ret_len = text_len / 2;
	return 0;
}
