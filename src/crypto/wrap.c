/* AES-256 key wrap with padding. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "arena.h"
#include "coffer/util.h"
#include "ossl.h"

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

int key_wrap(const struct secret *kek, const struct secret *key, struct wrapped_key *ret)
{
	SENSITIVE_SCOPE;
	AUTO_CONTEXT EVP_CIPHER_CTX *ctx = NULL;
	struct wrapped_key out = { 0 };
	size_t len = secret_size(key);
	size_t padded = (len + 7) / 8 * 8;
	int n;

	if (secret_size(kek) != KEY_SIZE || len == 0 || len > WRAPPED_KEY_MAX - 8)
		return -EINVAL;
	ctx = wrap_context(kek, 1);
	if (!ctx || !EVP_CipherUpdate(ctx, out.bytes, &n, secret_bytes(key), (int)len) || (size_t)n != padded + 8)
		return openssl_failed("wrapping a key");
	out.len = (size_t)n;
	*ret = out;
	return 0;
}

int key_unwrap(const struct secret *kek, const struct wrapped_key *in, struct secret **ret_key)
{
	SENSITIVE_SCOPE;
	AUTO_CONTEXT EVP_CIPHER_CTX *ctx = NULL;
	struct secret *padded;
	struct secret *key = NULL;
	int n;
	int r = -EBADMSG;

	if (secret_size(kek) != KEY_SIZE || in->len > WRAPPED_KEY_MAX)
		return -EINVAL;
	if (in->len < 16 || in->len % 8)
		return -EBADMSG; /* no key wraps to that length */
	ctx = wrap_context(kek, 0);
	if (!ctx)
		return openssl_failed("unwrapping a key");
	padded = secret_new(in->len); /* OpenSSL writes before it knows the true length */
	if (!padded)
		return -ENOMEM;
	if (EVP_CipherUpdate(ctx, secret_data(padded), &n, in->bytes, (int)in->len) && n > 0) {
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
