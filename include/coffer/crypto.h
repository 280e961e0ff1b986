/* Cryptography: the only layer that knows OpenSSL.
 *
 * All functions return 0 or -errno unless said otherwise; -EBADMSG means "does not authenticate" (wrong key or changed data).
 * Everything here is thread-safe unless said otherwise. Keys and cipher contexts live in locked memory that is left out of
 * core dumps and wiped when freed.
 */
#ifndef COFFER_CRYPTO_H
#define COFFER_CRYPTO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <coffer/timing.h>

enum {
	BLOCK_SIZE = 4096, /* bytes: a data block, and every page of a backing file */
	KEY_SIZE = 32,     /* bytes: a KEK, a DEK, the volume key */
	NONCE_SIZE = 12,   /* bytes: GCM and GMAC nonces (NIST SP 800-38D) */
	TAG_SIZE = 16,     /* bytes: GCM and GMAC tags */
	MAC_SIZE = 32,     /* bytes: HMAC-SHA-256 */
};

/* Sets up locked memory and OpenSSL. Call before anything else in this header, before any other use of OpenSSL and before
 * any thread starts; again is harmless. -ENOMEM: the limit on locked memory is too low. A forked child finds every secret,
 * kdf, aead and cryptor of its parent wiped and must not use them; it may make its own. */
int crypto_start(void);

/* ---- secrets: the one type that owns key bytes ---- */
struct secret;
struct secret *secret_new(size_t len);                  /* zeroed; NULL: no locked memory left */
struct secret *secret_random(size_t len);               /* NULL: no locked memory or no randomness */
struct secret *secret_take(uint8_t *bytes, size_t len); /* copies, then wipes `bytes` */
uint8_t *secret_data(struct secret *s);
const uint8_t *secret_bytes(const struct secret *s);
size_t secret_size(const struct secret *s);
void secret_free(struct secret *s); /* wipes; NULL is fine */
static inline void cleanup_secret(struct secret **s)
{
	secret_free(*s);
}
#define AUTO_SECRET __attribute__((cleanup(cleanup_secret)))

int random_bytes(void *out, size_t len);
void wipe(void *p, size_t len); /* never optimised away */
/* Clears what functions that handled keys may have left in memory that is nobody's: the stack below the caller, and vector
 * registers, which memcpy fills and which the dynamic linker stores on the stack when some library first calls another. For where a
 * thread is through with keys: after a mount, an answer of a key server, a command, a look at key sources, and when a scope is
 * locked. Takes some microseconds. */
void wipe_traces(void);
int equal_in_constant_time(const void *a, const void *b, size_t len); /* 1: equal */

/* ---- key derivation and wrapping ---- */
/* HKDF-Expand, SHA-256 (RFC 5869 section 2.3), keyed once. The key must be uniform: there is no Extract. */
struct kdf;
struct kdf *kdf_new(const struct secret *prk);
void kdf_free(struct kdf *k);
int kdf_expand(const struct kdf *k, const void *info, size_t info_len, uint8_t *out, size_t out_len);
struct secret *kdf_secret(const struct kdf *k, const char *info, size_t len); /* NULL: out of memory */

int hmac_sha256(const struct secret *key, const void *data, size_t len, uint8_t mac[static MAC_SIZE]);
int sha256(const void *data, size_t len, uint8_t out[static 32]);

/* AES-256-KWP (RFC 5649, NIST SP 800-38F). Wrapped length: key rounded up to 8, plus 8. */
enum {
	WRAPPED_KEY_SIZE = KEY_SIZE + 8,
	WRAPPED_KEY_MAX = 128, /* by whatever method: a vault of its own may add more than KWP does */
};
struct wrapped_key {
	size_t len; /* bytes; those after it are zero */
	uint8_t bytes[WRAPPED_KEY_MAX];
};
int key_wrap(const struct secret *kek, const struct secret *key, struct wrapped_key *ret);
int key_unwrap(const struct secret *kek, const struct wrapped_key *in,
	       struct secret **ret_key); /* -EBADMSG: wrong KEK */

/* ---- keys sealed for the holder of a private key, by whoever knows the public one: see sealed.c ---- */
enum { PUBLIC_KEY_SIZE = 32, SEALED_KEY_SIZE = PUBLIC_KEY_SIZE + WRAPPED_KEY_SIZE };
int private_key_public(const struct secret *private, uint8_t out[static PUBLIC_KEY_SIZE]); /* any 32 bytes are a key */
int key_seal(const uint8_t public[static PUBLIC_KEY_SIZE], const struct secret *key /* KEY_SIZE bytes */,
	     struct wrapped_key *ret);
int key_open_sealed(const struct secret *private, const struct wrapped_key *in,
		    struct secret **ret); /* -EBADMSG: not for this key */

/* ---- AES-256-GCM with one fixed key and caller's nonces: the framing of the log ---- */
struct aead;
struct aead *aead_new(const struct secret *key);
void aead_free(struct aead *a);
/* Not thread-safe per `a`. A nonce must never be used twice with one key. `aad` pieces are authenticated in order. */
int aead_seal(struct aead *a, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	      const void *plain, size_t len, void *cipher, uint8_t tag[static TAG_SIZE]);
int aead_open(struct aead *a, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	      const void *cipher, size_t len, void *plain, const uint8_t tag[static TAG_SIZE]);

/* ---- the layers of one DEK version ---- */
/* Suites, named on disk in every object; numbers are part of the format. */
enum suite {
	SUITE_XTS = 1,      /* blocks AES-256-XTS, no integrity for blocks; records AES-256-GCM */
	SUITE_XTS_GMAC = 2, /* blocks AES-256-XTS, GMAC over the ciphertext; records AES-256-GCM */
	SUITE_XTS_GCM = 3,  /* double: blocks AES-256-XTS inside AES-256-GCM; records AES-256-GCM inside AES-256-XTS */
};
const char *suite_name(enum suite s); /* e.g. "AES-256-XTS+GMAC"; NULL: unknown number */

/* One tag entry, as stored: 32 bytes, little-endian. All zero: the block is a hole. */
struct block_tag {
	uint8_t nonce[NONCE_SIZE];
	uint8_t tag[TAG_SIZE];
	uint8_t key_version[4]; /* 1 + version of the tag key, never 0 for a block that exists */
};
_Static_assert(sizeof(struct block_tag) == 32, "tag entries are 32 bytes on disk");

struct cryptor; /* the keyed layers of one scope's DEK version; object keys are derived when first needed */
/* `infra` is the infrastructure DEK: needed for SUITE_XTS_GCM, NULL otherwise. The secrets stay the caller's. */
int cryptor_new(enum suite suite, const struct secret *dek, const struct secret *infra, struct cryptor **ret);
enum suite cryptor_suite(const struct cryptor *c);
void cryptor_free(struct cryptor *c); /* wipes every context; no call may be under way */

/* Encrypts `count` blocks of an object from `plain` to `cipher` (may be the same buffer) with fresh random nonces into
 * `tags`. `first` is the block's index in the object: XTS data-unit number, and part of every tag's AAD with the object
 * number, format version and suite. `tag_key_version` counts from 0 and is stored in the tags plus one. */
int cryptor_seal_blocks(struct cryptor *c, uint64_t object, uint64_t first, unsigned count, uint32_t tag_key_version,
			const uint8_t *plain, uint8_t *cipher, struct block_tag *tags);
/* The reverse. A block whose tag is all zero is a hole: its plaintext is zeros whatever `cipher` holds. On -EBADMSG
 * *ret_bad (may be NULL) is the index of the first bad block, from 0 for `first`: blocks before it are in `plain`, its own
 * place there is zeroed, those after it are not written. `plain` may be `cipher`. */
int cryptor_open_blocks(struct cryptor *c, uint64_t object, uint64_t first, unsigned count, const uint8_t *cipher,
			uint8_t *plain, const struct block_tag *tags, unsigned *ret_bad);

/* A sealed record: nonce, tag, ciphertext. `kind` separates keys by purpose; `aad` is authenticated with it. */
enum { RECORD_OVERHEAD = NONCE_SIZE + TAG_SIZE, RECORD_MIN = 16 /* bytes of plaintext */ };
enum record_kind { RECORD_HEADER = 1, RECORD_XATTR = 2 };
int cryptor_seal_record(struct cryptor *c, uint64_t object, enum record_kind kind, uint32_t key_version,
			const void *aad, size_t aad_len, const void *plain, size_t len, uint8_t *out);
int cryptor_open_record(struct cryptor *c, uint64_t object, enum record_kind kind, uint32_t key_version,
			const void *aad, size_t aad_len, const uint8_t *in, size_t len, void *plain);

/* Authenticates a clear page (tag pages and existence maps) under the outermost layer's key: GMAC with a fresh nonce.
 * `mac` is stored in the page's own trailer. `position` is the page's index in the backing file. */
int cryptor_mac_page(struct cryptor *c, uint64_t object, uint64_t position, uint32_t key_version, const void *page,
		     size_t len, struct block_tag *mac);
int cryptor_check_page(struct cryptor *c, uint64_t object, uint64_t position, const void *page, size_t len,
		       const struct block_tag *mac);

/* ---- what the ciphers did, in the whole process: times are those in the ciphers, without waiting for one that is free ---- */
enum crypto_work {
	CRYPTO_SEAL_BLOCKS,
	CRYPTO_OPEN_BLOCKS,
	CRYPTO_SEAL_RECORD,
	CRYPTO_OPEN_RECORD,
	CRYPTO_SEAL_PAGE, /* cryptor_mac_page */
	CRYPTO_OPEN_PAGE, /* cryptor_check_page */
	CRYPTO_SEAL_LOG,  /* aead_seal */
	CRYPTO_OPEN_LOG,
	CRYPTO_WORK_COUNT,
};
const char *crypto_work_name(enum crypto_work w); /* e.g. "seal_blocks" */
/* Errors are what did not authenticate, mostly. */
void crypto_work_done(enum crypto_work w, struct timing *ret);

#endif
