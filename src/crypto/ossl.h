/* What the files of this layer share: the algorithms, fetched once, and the keyed ciphers of the data path.
 * Private to src/crypto and its tests.
 */
#ifndef COFFER_OSSL_H
#define COFFER_OSSL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "coffer/crypto.h"

/* Fetching costs more than sealing a block, so it is done once, by crypto_start(). Read-only afterwards. */
struct algorithms {
	struct evp_cipher_st *xts, *gcm, *wrap;
	struct evp_md_st *sha256;
	struct evp_mac_st *hmac;
	/* Found by name when they are used; fetched here so that what OpenSSL keeps of them lies outside locked memory. */
	struct evp_keyexch_st *x25519;
	struct evp_keymgmt_st *x25519_keys;
};
extern struct algorithms algorithms;

/* Logs OpenSSL's reason for a failure of `what` and empties its error queue. Returns -EIO. */
int openssl_failed(const char *what);

/* ---- ciphers: a context in locked memory, keyed once, used many times. Not thread-safe per object ---- */
enum { XTS_KEY_SIZE = 64, TWEAK_SIZE = 16, LONGEST_KEY = XTS_KEY_SIZE };
enum cipher_kind { CIPHER_XTS_ENCRYPT, CIPHER_XTS_DECRYPT, CIPHER_GCM };

struct cipher;
struct cipher *cipher_new(enum cipher_kind kind); /* NULL: no locked memory */
void cipher_free(struct cipher *c);
int cipher_set_key(struct cipher *c, const uint8_t *key); /* XTS_KEY_SIZE or KEY_SIZE bytes, by kind */

/* One data unit of 16 bytes to 16 MiB, in the direction of the cipher's kind. `out` may be `in`. */
int xts_crypt(struct cipher *c, const uint8_t tweak[static TWEAK_SIZE], const void *in, size_t len, void *out);
/* With `len` 0 this is GMAC. `cipher` may be `plain`. */
int gcm_seal(struct cipher *c, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	     const void *plain, size_t len, void *cipher, uint8_t tag[static TAG_SIZE]);
/* -EBADMSG: does not authenticate, and `plain` was zeroed. */
int gcm_open(struct cipher *c, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	     const void *cipher, size_t len, void *plain, const uint8_t tag[static TAG_SIZE]);

#endif
