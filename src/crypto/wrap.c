/* AES-256 key wrap with padding. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "arena.h"
#include "coffer/util.h"
#include "ossl.h"

enum { LONGEST_WRAPPED_KEY = 1 << 16 }; /* bytes; far above any key, far below where sums could wrap */

static void cleanup_context(EVP_CIPHER_CTX **ctx)
{
	EVP_CIPHER_CTX_free(*ctx);
}
#define AUTO_CONTEXT __attribute__((cleanup(cleanup_context)))

static EVP_CIPHER_CTX *wrap_context(const struct secret *kek, int encrypt)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (!ctx)
		return NULL;
	EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	if (EVP_CipherInit_ex2(ctx, algorithms.wrap, secret_bytes(kek), NULL, encrypt, NULL))
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

int key_wrap(const struct secret *kek, const struct secret *key, uint8_t *out, size_t out_size, size_t *ret_len)
{
	SENSITIVE_SCOPE;
	AUTO_CONTEXT EVP_CIPHER_CTX *ctx = NULL;
	size_t len = secret_size(key);
	size_t padded = (len + 7) / 8 * 8;
	int n;

	if (secret_size(kek) != KEY_SIZE || len == 0 || len > LONGEST_WRAPPED_KEY || out_size < padded + 8)
		return -EINVAL;
	ctx = wrap_context(kek, 1);
	if (!ctx || !EVP_CipherUpdate(ctx, out, &n, secret_bytes(key), (int)len) || (size_t)n != padded + 8)
		return openssl_failed("wrapping a key");
	*ret_len = (size_t)n;
	return 0;
}

int key_unwrap(const struct secret *kek, const uint8_t *in, size_t len, struct secret **ret_key)
{
	SENSITIVE_SCOPE;
	AUTO_CONTEXT EVP_CIPHER_CTX *ctx = NULL;
	struct secret *padded;
	struct secret *key = NULL;
	int n;
	int r = -EBADMSG;

	if (secret_size(kek) != KEY_SIZE || len < 16 || len % 8 || len > LONGEST_WRAPPED_KEY + 8)
		return -EINVAL;
	ctx = wrap_context(kek, 0);
	if (!ctx)
		return openssl_failed("unwrapping a key");
	padded = secret_new(len); /* OpenSSL writes before it knows the true length */
	if (!padded)
		return -ENOMEM;
	if (EVP_CipherUpdate(ctx, secret_data(padded), &n, in, (int)len) && n > 0) {
		key = secret_new((size_t)n);
		r = key ? 0 : -ENOMEM;
	}
	if (key) {
		memcpy(secret_data(key), secret_bytes(padded), (size_t)n);
		*ret_key = key;
	}
	ERR_clear_error();
	secret_free(padded);
	return r;
}
