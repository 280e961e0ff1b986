/* Data blocks, and clear pages: 4096 bytes and a tag.
 *
 * The additional data of every tag, 32 bytes, integers little-endian:
 *
 *   offset  size
 *        0     4  "COFB" for a data block, "COFM" for a clear page
 *        4     2  version of the sealing, 1
 *        6     2  suite
 *        8     8  object number
 *       16     8  index of the block in the object, or of the page in the backing file
 *       24     8  zero
 *
 * GMAC authenticates it and after it the ciphertext, or page; GCM takes it as its additional data.
 */
#include <errno.h>

#include "coffer/util.h"
#include "cryptor.h"

enum { POSITION_SIZE = 32 };

/* One block on its way through the layers. A layer that transforms leaves its result in `to`, and `from` pointing there. */
struct block {
	struct context_set *set;
	uint64_t index;
	uint32_t key_version;
	const uint8_t *from;
	uint8_t *to;
};

struct block_layer {
	int (*seal)(struct block *b, struct block_tag *tag);
	int (*open)(struct block *b, const struct block_tag *tag);
};

static void put_position(uint8_t out[static POSITION_SIZE], const char *magic, const struct context_set *set,
			 uint64_t index)
{
	memset(out, 0, POSITION_SIZE);
	memcpy(out, magic, 4);
	put_le16(out + 4, SEALING_VERSION);
	put_le16(out + 6, (uint16_t)cryptor_suite(set->owner));
	put_le64(out + 8, set->object);
	put_le64(out + 16, index);
}

/* ---- AES-256-XTS: the data-unit number is the block's index, 128 bits, little-endian ---- */

static int run_xts(struct block *b, enum slot slot)
{
	uint8_t tweak[TWEAK_SIZE] = { 0 };
	struct cipher *c;
	int r;

	r = set_cipher(b->set, slot, 0, 0, &c);
	if (r < 0)
		return r;
	put_le64(tweak, b->index);
	r = xts_crypt(c, tweak, b->from, BLOCK_SIZE, b->to);
	b->from = b->to;
	return r;
}

static int seal_xts(struct block *b, struct block_tag *tag)
{
	(void)tag;
	return run_xts(b, SLOT_BLOCK_ENCRYPT);
}

static int open_xts(struct block *b, const struct block_tag *tag)
{
	(void)tag;
	return run_xts(b, SLOT_BLOCK_DECRYPT);
}

/* ---- no integrity: the tag entry says only that the block exists ---- */

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *bytes = p;

	return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static int open_untagged_xts(struct block *b, const struct block_tag *tag)
{
	if (!all_zero(tag->nonce, sizeof(tag->nonce)) || !all_zero(tag->tag, sizeof(tag->tag)))
		return -EBADMSG;
	/* Without tags a page that never reached the disk cannot be told from one that did: it reads as a hole. */
	if (all_zero(b->from, BLOCK_SIZE)) {
		memset(b->to, 0, BLOCK_SIZE);
		b->from = b->to;
		return 0;
	}
	return run_xts(b, SLOT_BLOCK_DECRYPT);
}

/* ---- AES-256-GMAC over position and data: for ciphertext, and for clear pages ---- */

struct gmac_input {
	uint8_t position[POSITION_SIZE];
	struct iovec parts[2];
};

static void gmac_input(struct gmac_input *in, const struct context_set *set, const char *magic, uint64_t index,
		       const void *data, size_t len)
{
	put_position(in->position, magic, set, index);
	in->parts[0] = (struct iovec){ in->position, POSITION_SIZE };
	in->parts[1].iov_len = len;
	memcpy(&in->parts[1].iov_base, &data, sizeof(data)); /* an iovec has no const */
}

static int seal_gmac(struct block *b, struct block_tag *tag)
{
	struct gmac_input in;
	struct cipher *c;
	int r;

	r = set_cipher(b->set, SLOT_BLOCK_TAG, b->key_version, 0, &c);
	if (r == 0)
		r = set_nonce(b->set, tag->nonce);
	if (r < 0)
		return r;
	gmac_input(&in, b->set, "COFB", b->index, b->from, BLOCK_SIZE);
	return gcm_seal(c, tag->nonce, in.parts, 2, NULL, 0, NULL, tag->tag);
}

static int open_gmac(struct block *b, const struct block_tag *tag)
{
	struct gmac_input in;
	struct cipher *c;
	int r;

	r = set_cipher(b->set, SLOT_BLOCK_TAG, b->key_version, 0, &c);
	if (r < 0)
		return r;
	gmac_input(&in, b->set, "COFB", b->index, b->from, BLOCK_SIZE);
	return gcm_open(c, tag->nonce, in.parts, 2, NULL, 0, NULL, tag->tag);
}

/* ---- AES-256-GCM: the infrastructure layer ---- */

static int seal_gcm(struct block *b, struct block_tag *tag)
{
	uint8_t position[POSITION_SIZE];
	const struct iovec aad = { position, sizeof(position) };
	struct cipher *c;
	int r;

	r = set_cipher(b->set, SLOT_BLOCK_TAG, b->key_version, 0, &c);
	if (r == 0)
		r = set_nonce(b->set, tag->nonce);
	if (r < 0)
		return r;
	put_position(position, "COFB", b->set, b->index);
	r = gcm_seal(c, tag->nonce, &aad, 1, b->from, BLOCK_SIZE, b->to, tag->tag);
	b->from = b->to;
	return r;
}

static int open_gcm(struct block *b, const struct block_tag *tag)
{
	uint8_t position[POSITION_SIZE];
	const struct iovec aad = { position, sizeof(position) };
	struct cipher *c;
	int r;

	r = set_cipher(b->set, SLOT_BLOCK_TAG, b->key_version, 0, &c);
	if (r < 0)
		return r;
	put_position(position, "COFB", b->set, b->index);
	r = gcm_open(c, tag->nonce, &aad, 1, b->from, BLOCK_SIZE, b->to, tag->tag);
	b->from = b->to;
	return r;
}

/* ---- the layers of each suite, from the inside out ---- */

enum { MOST_LAYERS = 2 };
static const struct block_layer layers[][MOST_LAYERS] = {
	[SUITE_XTS] = { { seal_xts, open_untagged_xts } },
	[SUITE_XTS_GMAC] = { { seal_xts, open_xts }, { seal_gmac, open_gmac } },
	[SUITE_XTS_GCM] = { { seal_xts, open_xts }, { seal_gcm, open_gcm } },
};

static int seal_block(struct block *b, struct block_tag *tag)
{
	const struct block_layer *l = layers[cryptor_suite(b->set->owner)];
	int r = 0;

	memset(tag, 0, sizeof(*tag));
	for (int i = 0; i < MOST_LAYERS && l[i].seal && r == 0; i++)
		r = l[i].seal(b, tag);
	put_le32(tag->key_version, b->key_version + 1);
	return r;
}

static int open_block(struct block *b, const struct block_tag *tag)
{
	const struct block_layer *l = layers[cryptor_suite(b->set->owner)];
	uint32_t stored_version = get_le32(tag->key_version);
	int r = 0;

	if (stored_version == 0) {
		memset(b->to, 0, BLOCK_SIZE);
		return all_zero(tag, sizeof(*tag)) ? 0 : -EBADMSG;
	}
	b->key_version = stored_version - 1;
	for (int i = MOST_LAYERS - 1; i >= 0 && r == 0; i--)
		if (l[i].open)
			r = l[i].open(b, tag);
	if (r < 0)
		wipe(b->to, BLOCK_SIZE);
	return r;
}

int cryptor_seal_blocks(struct cryptor *c, uint64_t object, uint64_t first, unsigned count, uint32_t tag_key_version,
			const uint8_t *plain, uint8_t *cipher, struct block_tag *tags)
{
	struct block b = { .key_version = tag_key_version };
	int r;

	if (tag_key_version == UINT32_MAX) /* stored plus one */
		return -EINVAL;
	r = cryptor_take(c, object, CRYPTO_SEAL_BLOCKS, (size_t)count * BLOCK_SIZE, &b.set);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count && r == 0; i++) {
		b.index = first + i;
		b.from = plain + (size_t)i * BLOCK_SIZE;
		b.to = cipher + (size_t)i * BLOCK_SIZE;
		r = seal_block(&b, &tags[i]);
	}
	return cryptor_give_back(b.set, r);
}

int cryptor_open_blocks(struct cryptor *c, uint64_t object, uint64_t first, unsigned count, const uint8_t *cipher,
			uint8_t *plain, const struct block_tag *tags, unsigned *ret_bad)
{
	struct block b = { 0 };
	int r;

	r = cryptor_take(c, object, CRYPTO_OPEN_BLOCKS, (size_t)count * BLOCK_SIZE, &b.set);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count && r == 0; i++) {
		b.index = first + i;
		b.from = cipher + (size_t)i * BLOCK_SIZE;
		b.to = plain + (size_t)i * BLOCK_SIZE;
		r = open_block(&b, &tags[i]);
		if (r == -EBADMSG && ret_bad)
			*ret_bad = i;
	}
	return cryptor_give_back(b.set, r);
}

/* ---- clear pages: the same for every suite ---- */

int cryptor_mac_page(struct cryptor *c, uint64_t object, uint64_t position, uint32_t key_version, const void *page,
		     size_t len, struct block_tag *mac)
{
	struct block_tag made = { 0 };
	struct context_set *set;
	struct gmac_input in;
	struct cipher *gcm;
	int r;

	if (key_version == UINT32_MAX) /* stored plus one */
		return -EINVAL;
	r = cryptor_take(c, object, CRYPTO_SEAL_PAGE, len, &set);
	if (r < 0)
		return r;
	gmac_input(&in, set, "COFM", position, page, len);
	r = set_cipher(set, SLOT_PAGE, key_version, 0, &gcm);
	if (r == 0)
		r = set_nonce(set, made.nonce);
	if (r == 0)
		r = gcm_seal(gcm, made.nonce, in.parts, 2, NULL, 0, NULL, made.tag);
	if (r == 0) {
		put_le32(made.key_version, key_version + 1);
		*mac = made;
	}
	return cryptor_give_back(set, r);
}

int cryptor_check_page(struct cryptor *c, uint64_t object, uint64_t position, const void *page, size_t len,
		       const struct block_tag *mac)
{
	uint32_t stored_version = get_le32(mac->key_version);
	struct context_set *set;
	struct gmac_input in;
	struct cipher *gcm;
	int r;

	if (stored_version == 0)
		return -EBADMSG;
	r = cryptor_take(c, object, CRYPTO_OPEN_PAGE, len, &set);
	if (r < 0)
		return r;
	gmac_input(&in, set, "COFM", position, page, len);
	r = set_cipher(set, SLOT_PAGE, stored_version - 1, 0, &gcm);
	if (r == 0)
		r = gcm_open(gcm, mac->nonce, in.parts, 2, NULL, 0, NULL, mac->tag);
	return cryptor_give_back(set, r);
}
