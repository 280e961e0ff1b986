/* Sealed records: nonce (12) | tag (16) | ciphertext.
 *
 * Inside AES-256-GCM; the additional data is 24 bytes, integers little-endian, and then the caller's:
 *
 *   offset  size
 *        0     4  "COFR"
 *        4     2  version of the sealing, 1
 *        6     2  suite
 *        8     8  object number
 *       16     4  kind
 *       20     4  key version
 *
 * Outside, under SUITE_XTS_GCM, AES-256-XTS over tag and ciphertext as one data unit, whose number is the object's (64 bits)
 * and then the kind (64 bits), little-endian.
 */
#include <errno.h>

#include "coffer/util.h"
#include "cryptor.h"

enum { LONGEST_RECORD = 1 << 20 }; /* bytes of plaintext; an xattr has at most 64 KiB */

/* One record on its way through the layers. What is sealed so far, or not yet opened, is at `sealed`. */
struct record {
	struct context_set *set;
	uint32_t kind;
	uint32_t key_version;
	struct iovec aad[2];
	uint8_t *sealed; /* NONCE_SIZE + TAG_SIZE + len */
	size_t len;      /* of the plaintext */
};

struct record_layer {
	int (*seal)(struct record *rec, const void *plain);
	int (*open)(struct record *rec, void *plain);
};

/* ---- AES-256-GCM: from plaintext to `sealed` and back ---- */

static int seal_gcm(struct record *rec, const void *plain)
{
	uint8_t *nonce = rec->sealed;
	uint8_t *tag = nonce + NONCE_SIZE;
	struct cipher *c;
	int r;

	r = set_cipher(rec->set, SLOT_RECORD_GCM, rec->key_version, rec->kind, &c);
	if (r == 0)
		r = set_nonce(rec->set, nonce);
	return r < 0 ? r : gcm_seal(c, nonce, rec->aad, 2, plain, rec->len, tag + TAG_SIZE, tag);
}

static int open_gcm(struct record *rec, void *plain)
{
	const uint8_t *nonce = rec->sealed;
	const uint8_t *tag = nonce + NONCE_SIZE;
	struct cipher *c;
	int r;

	r = set_cipher(rec->set, SLOT_RECORD_GCM, rec->key_version, rec->kind, &c);
	return r < 0 ? r : gcm_open(c, nonce, rec->aad, 2, tag + TAG_SIZE, rec->len, plain, tag);
}

/* ---- AES-256-XTS: the infrastructure layer, in place ---- */

static int run_xts(struct record *rec, enum slot slot)
{
	uint8_t *from = rec->sealed + NONCE_SIZE;
	uint8_t tweak[TWEAK_SIZE];
	struct cipher *c;
	int r;

	r = set_cipher(rec->set, slot, 0, rec->kind, &c);
	if (r < 0)
		return r;
	put_le64(tweak, rec->set->object);
	put_le64(tweak + 8, rec->kind);
	return xts_crypt(c, tweak, from, TAG_SIZE + rec->len, from);
}

static int seal_xts(struct record *rec, const void *plain)
{
	(void)plain;
	return run_xts(rec, SLOT_RECORD_ENCRYPT);
}

static int open_xts(struct record *rec, void *plain)
{
	(void)plain;
	return run_xts(rec, SLOT_RECORD_DECRYPT);
}

/* ---- the layers of each suite, from the inside out ---- */

enum { MOST_LAYERS = 2 };
static const struct record_layer layers[][MOST_LAYERS] = {
	[SUITE_XTS] = { { seal_gcm, open_gcm } },
	[SUITE_XTS_GMAC] = { { seal_gcm, open_gcm } },
	[SUITE_XTS_GCM] = { { seal_gcm, open_gcm }, { seal_xts, open_xts } },
};

enum { CONTEXT_SIZE = 24 };

static void put_context(uint8_t out[static CONTEXT_SIZE], const struct record *rec)
{
	memcpy(out, "COFR", 4);
	put_le16(out + 4, SEALING_VERSION);
	put_le16(out + 6, (uint16_t)cryptor_suite(rec->set->owner));
	put_le64(out + 8, rec->set->object);
	put_le32(out + 16, rec->kind);
	put_le32(out + 20, rec->key_version);
}

int cryptor_seal_record(struct cryptor *c, uint64_t object, enum record_kind kind, uint32_t key_version,
			const void *aad, size_t aad_len, const void *plain, size_t len, uint8_t *out)
{
	const struct record_layer *l = layers[cryptor_suite(c)];
	uint8_t context[CONTEXT_SIZE];
	struct record rec = {
		.kind = (uint32_t)kind,
		.key_version = key_version,
		.aad = { { context, sizeof(context) }, { .iov_len = aad_len } },
		.sealed = out,
		.len = len,
	};
	int r;

	if (len < RECORD_MIN || len > LONGEST_RECORD)
		return -EINVAL;
	r = cryptor_take(c, object, CRYPTO_SEAL_RECORD, len, &rec.set);
	if (r < 0)
		return r;
	put_context(context, &rec);
	memcpy(&rec.aad[1].iov_base, &aad, sizeof(aad)); /* an iovec has no const */
	for (int i = 0; i < MOST_LAYERS && l[i].seal && r == 0; i++)
		r = l[i].seal(&rec, plain);
	return cryptor_give_back(rec.set, r);
}

int cryptor_open_record(struct cryptor *c, uint64_t object, enum record_kind kind, uint32_t key_version,
			const void *aad, size_t aad_len, const uint8_t *in, size_t len, void *plain)
{
	const struct record_layer *l = layers[cryptor_suite(c)];
	AUTO_FREE uint8_t *copy = NULL; /* layers work in place, and the caller's bytes stay as they are */
	uint8_t context[CONTEXT_SIZE];
	struct record rec = {
		.kind = (uint32_t)kind,
		.key_version = key_version,
		.aad = { { context, sizeof(context) }, { .iov_len = aad_len } },
	};
	int r;

	if (len < RECORD_OVERHEAD + RECORD_MIN || len > RECORD_OVERHEAD + LONGEST_RECORD)
		return -EBADMSG;
	rec.len = len - RECORD_OVERHEAD;
	copy = malloc(len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, in, len);
	rec.sealed = copy;
	r = cryptor_take(c, object, CRYPTO_OPEN_RECORD, rec.len, &rec.set);
	if (r < 0)
		return r;
	put_context(context, &rec);
	memcpy(&rec.aad[1].iov_base, &aad, sizeof(aad));
	for (int i = MOST_LAYERS - 1; i >= 0 && r == 0; i--)
		if (l[i].open)
			r = l[i].open(&rec, plain);
	return cryptor_give_back(rec.set, r);
}
