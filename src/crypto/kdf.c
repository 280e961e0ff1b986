/* HKDF-Expand, HMAC, SHA-256. */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "arena.h"
#include "coffer/util.h"
#include "ossl.h"

struct kdf {
	struct kdf *self;     /* the way to what a const kdf may still change: nothing that callers see */
	pthread_mutex_t lock; /* for ctx */
	EVP_MAC_CTX *ctx;     /* keyed; every use starts from the keyed state again, a quarter of the cost of keying */
};

static EVP_MAC_CTX *hmac_context(const struct secret *key)
{
	SENSITIVE_SCOPE;
	char digest[] = "SHA256";
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
				OSSL_PARAM_construct_end() };
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(algorithms.hmac);

	if (ctx && EVP_MAC_init(ctx, secret_bytes(key), secret_size(key), params))
		return ctx;
	EVP_MAC_CTX_free(ctx);
	openssl_failed("HMAC-SHA-256");
	return NULL;
}

struct kdf *kdf_new(const struct secret *prk)
{
	struct kdf *k;

	if (secret_size(prk) < MAC_SIZE) /* RFC 5869: at least as long as the hash */
		return NULL;
	k = malloc(sizeof(*k));
	if (!k)
		return NULL;
	k->ctx = hmac_context(prk);
	if (!k->ctx) {
		free(k);
		return NULL;
	}
	k->self = k;
	pthread_mutex_init(&k->lock, NULL);
	return k;
}

void kdf_free(struct kdf *k)
{
	if (!k)
		return;
	EVP_MAC_CTX_free(k->ctx);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* T(counter) = HMAC(prk, previous | info | counter) */
static int expand_block(EVP_MAC_CTX *ctx, const uint8_t *previous, size_t previous_len, const void *info,
			size_t info_len, uint8_t counter, uint8_t out[static MAC_SIZE])
{
	size_t n;

	if (!EVP_MAC_init(ctx, NULL, 0, NULL) || !EVP_MAC_update(ctx, previous, previous_len) ||
	    !EVP_MAC_update(ctx, info, info_len) || !EVP_MAC_update(ctx, &counter, 1) ||
	    !EVP_MAC_final(ctx, out, &n, MAC_SIZE) || n != MAC_SIZE)
		return openssl_failed("HKDF-Expand");
	return 0;
}

int kdf_expand(const struct kdf *k, const void *info, size_t info_len, uint8_t *out, size_t out_len)
{
	SENSITIVE_SCOPE; /* OpenSSL copies the keyed hash state */
	uint8_t block[MAC_SIZE];
	size_t done = 0;
	int r = 0;

	if (out_len > 255 * MAC_SIZE)
		return -EINVAL;
	LOCK_SCOPE(&k->self->lock);
	for (uint8_t counter = 1; done < out_len && r == 0; counter++) {
		size_t piece = out_len - done < MAC_SIZE ? out_len - done : MAC_SIZE;
		r = expand_block(k->ctx, block, done ? MAC_SIZE : 0, info, info_len, counter, block);
		if (r == 0)
			memcpy(out + done, block, piece);
		done += piece;
	}
	wipe(block, sizeof(block));
	if (r < 0)
		wipe(out, out_len);
	return r;
}

struct secret *kdf_secret(const struct kdf *k, const char *info, size_t len)
{
	struct secret *s = secret_new(len);

	if (s && kdf_expand(k, info, strlen(info), secret_data(s), len) < 0) {
		secret_free(s);
		s = NULL;
	}
	return s;
}

int hmac_sha256(const struct secret *key, const void *data, size_t len, uint8_t mac[static MAC_SIZE])
{
	SENSITIVE_SCOPE;
	EVP_MAC_CTX *ctx = hmac_context(key);
	size_t n;
	int r = 0;

	if (!ctx)
		return -EIO;
	if (!EVP_MAC_update(ctx, data, len) || !EVP_MAC_final(ctx, mac, &n, MAC_SIZE))
		r = openssl_failed("HMAC-SHA-256");
	EVP_MAC_CTX_free(ctx);
	return r;
}

int sha256(const void *data, size_t len, uint8_t out[static 32])
{
	SENSITIVE_SCOPE; /* what is hashed may be a secret */

	if (!EVP_Digest(data, len, out, NULL, algorithms.sha256, NULL))
		return openssl_failed("SHA-256");
	return 0;
}
