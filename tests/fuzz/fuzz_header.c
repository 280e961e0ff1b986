/* libFuzzer's entry for an object's header. The first byte chooses: a page as an attacker may write it, whose prologue is looked
 * at before anything is authentic; or a body, sealed here, which must make sense or be refused, and which fits what is made of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/util.h>

#include "../../src/volume/internal.h"
#include "fuzz.h"

enum { NUMBER = 7 };

static void require(bool good)
{
	if (!good)
		abort();
}

static struct volume_keys *make_keys(void)
{
	char dir[] = "/tmp/fuzz-header-XXXXXX", path[64], uri[80];
	struct descriptor *d = descriptor_new(SUITE_XTS_GMAC);
	struct volume_keys *keys = NULL;

	require(crypto_start() == 0 && mkdtemp(dir) && d);
	snprintf(path, sizeof(path), "%s/key", dir);
	snprintf(uri, sizeof(uri), "file://%s", path);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	require(fd >= 0 && write_all(fd, "\xff\xfe binary, so that it is not text", KEY_SIZE) == 0);
	close(fd);
	require(keys_create(d, uri, dir, NULL, &keys) == 0);
	unlink(path);
	rmdir(dir);
	descriptor_free(d);
	return keys;
}

static void seal(const struct volume_keys *keys, const uint8_t *body, size_t len, bool metadata,
		 uint8_t page[static BLOCK_SIZE])
{
	struct cryptor *c = (metadata ? keys_metadata_cryptor : keys_cryptor)(keys, 0, 1);

	memset(page, 0, BLOCK_SIZE);
	memcpy(page, "COFFEROB", 8);
	put_le16(page + 8, FORMAT_VERSION);
	put_le16(page + 10, (uint16_t)cryptor_suite(c));
	put_le32(page + 16, 1);
	put_le64(page + 24, NUMBER);
	put_le32(page + 32, 1);
	put_le32(page + 36, (uint32_t)len);
	require(cryptor_seal_record(c, NUMBER, RECORD_HEADER, 0, page, PROLOGUE_SIZE, body, len,
				    page + PROLOGUE_SIZE) == 0);
}

/* Works on it as changes do, and writes it again. */
static void use(const struct volume_keys *keys, const struct meta *m)
{
	struct meta *copy = meta_copy(m, VAR_MAX), *again = NULL;
	uint8_t page[BLOCK_SIZE], blob[XATTR_INLINE] = { 0 };
	size_t used;

	require(copy != NULL);
	int r = meta_encode(copy, NUMBER, keys, page, &used);

	if (r == 0) {
		require(used <= BLOCK_SIZE && meta_decode(page, NUMBER, keys, &again) == 0);
		require(meta_var_len(again) == meta_var_len(m) && !memcmp(again->var, m->var, meta_var_len(m)));
		free(again);
	}
	if (!m->target_len)
		require(meta_set_tag_count(copy, HEADER_TAGS) == 0);
	meta_name_add(copy, 3, "a name that is new");
	require(meta_set_xattrs(copy, blob, sizeof(blob)) == 0);
	require(meta_var_len(copy) <= VAR_MAX);
	meta_name_remove(copy, 3, "a name that is new");
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct volume_keys *keys;
	uint8_t page[BLOCK_SIZE] = { 0 }, body[BODY_MAX] = { 0 };
	struct meta *m;

	log_set_level((enum log_level)0);
	if (!keys)
		keys = make_keys();
	if (len < 1)
		return 0;
	uint8_t how = *data++;

	len--;
	if (how & 1) {
		if (len)
			memcpy(page, data, len < BLOCK_SIZE ? len : BLOCK_SIZE);
	} else {
		size_t body_len = BODY_STEP * (1 + (how >> 4) % (BODY_MAX / BODY_STEP));

		if (len)
			memcpy(body, data, len < body_len ? len : body_len);
		seal(keys, body, body_len, how & 2, page);
	}
	if (meta_decode(page, NUMBER, keys, &m) == 0) {
		use(keys, m);
		free(m);
	}
	return 0;
}
