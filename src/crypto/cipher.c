/* AES-256-XTS and AES-256-GCM over contexts that are keyed once and used for many blocks. */
#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>

#include "arena.h"
#include "coffer/util.h"
#include "ossl.h"

enum { XTS_LONGEST = 16 << 20 }; /* bytes: 2^20 AES blocks a data unit (NIST SP 800-38E) */

struct cipher {
	EVP_CIPHER_CTX *ctx;
	enum cipher_kind kind;
};

struct cipher *cipher_new(enum cipher_kind kind)
{
	SENSITIVE_SCOPE;
	struct cipher *c = arena_alloc(sizeof(*c));
	const EVP_CIPHER *algorithm = kind == CIPHER_GCM ? algorithms.gcm : algorithms.xts;

	if (!c)
		return NULL;
	c->kind = kind;
	c->ctx = EVP_CIPHER_CTX_new();
	if (!c->ctx || !EVP_CipherInit_ex2(c->ctx, algorithm, NULL, NULL, kind != CIPHER_XTS_DECRYPT, NULL)) {
		openssl_failed("making a cipher context");
		cipher_free(c);
		return NULL;
	}
	return c;
}

void cipher_free(struct cipher *c)
{
	if (!c)
		return;
	EVP_CIPHER_CTX_free(c->ctx);
	arena_free(c);
}

int cipher_set_key(struct cipher *c, const uint8_t *key)
{
	SENSITIVE_SCOPE;

	if (!EVP_CipherInit_ex2(c->ctx, NULL, key, NULL, c->kind != CIPHER_XTS_DECRYPT, NULL))
		return openssl_failed("setting a key");
	return 0;
}

int xts_crypt(struct cipher *c, const uint8_t tweak[static TWEAK_SIZE], const void *in, size_t len, void *out)
{
	int n;

	if (len < 16 || len > XTS_LONGEST)
		return -EINVAL;
	if (!EVP_CipherInit_ex2(c->ctx, NULL, NULL, tweak, -1, NULL) ||
	    !EVP_CipherUpdate(c->ctx, out, &n, in, (int)len) || (size_t)n != len)
		return openssl_failed("AES-256-XTS");
	return 0;
}

static int gcm_begin(struct cipher *c, int encrypt, const uint8_t *nonce, const struct iovec *aad, int aad_count)
{
	int n;

	if (!EVP_CipherInit_ex2(c->ctx, NULL, NULL, nonce, encrypt, NULL))
		return openssl_failed("AES-256-GCM");
	for (int i = 0; i < aad_count; i++) {
		if (aad[i].iov_len > INT_MAX)
			return -EINVAL;
		if (aad[i].iov_len && !EVP_CipherUpdate(c->ctx, NULL, &n, aad[i].iov_base, (int)aad[i].iov_len))
			return openssl_failed("AES-256-GCM");
	}
	return 0;
}

int gcm_seal(struct cipher *c, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	     const void *plain, size_t len, void *cipher, uint8_t tag[static TAG_SIZE])
{
	uint8_t rest[16]; /* GCM leaves none, but the interface wants a place */
	int n, r;

	if (len > INT_MAX)
		return -EINVAL;
	r = gcm_begin(c, 1, nonce, aad, aad_count);
	if (r < 0)
		return r;
	if ((len && !EVP_CipherUpdate(c->ctx, cipher, &n, plain, (int)len)) || !EVP_CipherFinal_ex(c->ctx, rest, &n) ||
	    !EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, tag))
		return openssl_failed("AES-256-GCM");
	return 0;
}

int gcm_open(struct cipher *c, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	     const void *cipher, size_t len, void *plain, const uint8_t tag[static TAG_SIZE])
{
	uint8_t rest[16];
	uint8_t expected[TAG_SIZE];
	int n, r;

	if (len > INT_MAX)
		return -EINVAL;
	memcpy(expected, tag, TAG_SIZE); /* the interface takes no const */
	r = gcm_begin(c, 0, nonce, aad, aad_count);
	if (r < 0)
		return r;
	if (!EVP_CIPHER_CTX_ctrl(c->ctx, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, expected) ||
	    (len && !EVP_CipherUpdate(c->ctx, plain, &n, cipher, (int)len)))
		r = openssl_failed("AES-256-GCM");
	else if (!EVP_CipherFinal_ex(c->ctx, rest, &n))
		r = -EBADMSG;
	if (r < 0 && len)
		wipe(plain, len);
	return r;
}
