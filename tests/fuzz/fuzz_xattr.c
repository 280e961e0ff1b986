/* libFuzzer's entry for lists of extended attributes: nothing outside of the bytes is read, what is listed is found, and setting
 * or removing one changes no other. The list is the input but for its first byte, the length of the name to set. */
#include "../../src/volume/xattr.c"

#include "fuzz.h"

static void require(bool good)
{
	if (!good)
		abort();
}

static size_t count_items(const uint8_t *blob, size_t len, const char *but)
{
	size_t n = 0;
	struct item i;

	for (size_t pos = 0; item_at(blob, len, pos, &i); pos = i.end)
		n += i.name_len != strlen(but) || memcmp(i.name, but, i.name_len) != 0;
	return n;
}

static void check_list(const uint8_t *blob, size_t len)
{
	ssize_t need = get_list(blob, len, NULL, NULL, 0);
	char *list = malloc((size_t)need + 1);

	require(need >= 0 && list);
	require(get_list(blob, len, NULL, list, (size_t)need + 1) == need);
	if (need > 1)
		require(get_list(blob, len, NULL, list, (size_t)need - 1) == -ERANGE);
	for (char *name = list; name < list + need; name += strlen(name) + 1) {
		uint8_t value[16];
		size_t size = 0;
		const uint8_t *found = xattr_find(blob, len, name, &size);

		if (found)
			require(found >= blob && found + size <= blob + len);
		if (found && size <= sizeof(value))
			require(get_value(blob, len, name, value, sizeof(value)) == (ssize_t)size);
	}
	free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *blob, *made, *less;
	size_t made_len, less_len, size;
	char name[256] = { 0 };

	if (len < 1)
		return 0;
	memset(name, 'a', data[0] ? data[0] : 1);
	if (len > 7 && data[0] && data[0] <= len - 7) /* one that may be there */
		memcpy(name, data + 6, data[0]);
	name[255] = 0;
	if (!*name)
		*name = 'x';
	len--;
	blob = malloc(len ? len : 1); /* of this size, so that every read beyond it shows */
	require(blob);
	memcpy(blob, data + 1, len);
	check_list(blob, len);

	require(blob_set(blob, len, name, "value", 5, &made, &made_len) == 0);
	require(made_len <= len + ITEM_HEADER + strlen(name) + 5);
	if (count_items(blob, len, name) == 0) {
		const uint8_t *found = xattr_find(made, made_len, name, &size);

		if (found && made_len == ITEM_HEADER + strlen(name) + 5)
			require(size == 5 && !memcmp(found, "value", 5));
	}
	require(blob_set(blob, len, name, NULL, 0, &less, &less_len) == 0);
	require(less_len <= len);
	require(count_items(less, less_len, name) >= count_items(blob, len, name));
	check_list(made, made_len);
	check_list(less, less_len);
	free(made);
	free(less);
	free(blob);
	return 0;
}
