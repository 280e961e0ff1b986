/* Keys sealed for whoever holds a private key: ephemeral-static Diffie-Hellman over X25519 (RFC 7748), and AES-256-KWP.
 *
 *	sealed = ephemeral public key, 32 bytes | key wrapped under the KEK, 40 bytes
 *	KEK    = HMAC-SHA-256(shared secret, "coffer sealed key 1" | ephemeral public key | recipient's public key)
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "arena.h"
#include "coffer/util.h"
#include "ossl.h"

#define SEAL_LABEL "coffer sealed key 1"
_Static_assert(SEALED_KEY_SIZE == PUBLIC_KEY_SIZE + WRAPPED_KEY_SIZE, "nothing but the two");

static void cleanup_pkey(EVP_PKEY **p)
{
	EVP_PKEY_free(*p);
}
static void cleanup_pkey_context(EVP_PKEY_CTX **ctx)
{
	EVP_PKEY_CTX_free(*ctx);
}
#define AUTO_PKEY         __attribute__((cleanup(cleanup_pkey))) EVP_PKEY
#define AUTO_PKEY_CONTEXT __attribute__((cleanup(cleanup_pkey_context))) EVP_PKEY_CTX

static EVP_PKEY *private_key(const struct secret *key)
{
	return secret_size(key) == KEY_SIZE
		       ? EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, secret_bytes(key), KEY_SIZE)
		       : NULL;
}

int private_key_public(const struct secret *private, uint8_t out[static PUBLIC_KEY_SIZE])
{
	SENSITIVE_SCOPE;
	AUTO_PKEY *key = private_key(private);
	size_t len = PUBLIC_KEY_SIZE;

	if (!key || !EVP_PKEY_get_raw_public_key(key, out, &len) || len != PUBLIC_KEY_SIZE)
		return openssl_failed("X25519");
	return 0;
}

/* `own` is the private key of either side, `other` the public key of the other one. */
static int derive_kek(const struct secret *own, const uint8_t *other, const uint8_t *ephemeral,
		      const uint8_t *recipient, struct secret **ret)
{
	SENSITIVE_SCOPE;
	AUTO_PKEY *mine = private_key(own);
	AUTO_PKEY *theirs = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, other, PUBLIC_KEY_SIZE);
	AUTO_PKEY_CONTEXT *ctx = mine ? EVP_PKEY_CTX_new(mine, NULL) : NULL;
	AUTO_SECRET struct secret *shared = secret_new(KEY_SIZE);
	AUTO_SECRET struct secret *kek = secret_new(KEY_SIZE);
	uint8_t context[sizeof(SEAL_LABEL) - 1 + 2 * PUBLIC_KEY_SIZE];
	size_t len = KEY_SIZE;
	int r;

	if (!shared || !kek)
		return -ENOMEM;
	/* Deriving fails where the other key is of small order, and the shared secret would be zero. */
	if (!ctx || !theirs || EVP_PKEY_derive_init(ctx) <= 0 || EVP_PKEY_derive_set_peer(ctx, theirs) <= 0 ||
	    EVP_PKEY_derive(ctx, secret_data(shared), &len) <= 0 || len != KEY_SIZE) {
		ERR_clear_error();
		return -EBADMSG;
	}
	memcpy(context, SEAL_LABEL, sizeof(SEAL_LABEL) - 1);
	memcpy(context + sizeof(SEAL_LABEL) - 1, ephemeral, PUBLIC_KEY_SIZE);
	memcpy(context + sizeof(SEAL_LABEL) - 1 + PUBLIC_KEY_SIZE, recipient, PUBLIC_KEY_SIZE);
	r = hmac_sha256(shared, context, sizeof(context), secret_data(kek));
	if (r < 0)
		return r;
	*ret = kek;
	kek = NULL;
	return 0;
}

int key_seal(const uint8_t public[static PUBLIC_KEY_SIZE], const struct secret *key, struct wrapped_key *ret)
{
	AUTO_SECRET struct secret *ephemeral = secret_random(KEY_SIZE);
	AUTO_SECRET struct secret *kek = NULL;
	struct wrapped_key wrapped;
	uint8_t own[PUBLIC_KEY_SIZE];
	int r = ephemeral ? private_key_public(ephemeral, own) : -ENOMEM;

	if (r == 0)
		r = derive_kek(ephemeral, public, own, public, &kek);
	if (r == 0)
		r = key_wrap(kek, key, &wrapped);
	if (r == 0 && wrapped.len != WRAPPED_KEY_SIZE)
		r = -EINVAL;
	if (r < 0)
		return r;
	*ret = (struct wrapped_key){ .len = SEALED_KEY_SIZE };
	memcpy(ret->bytes, own, PUBLIC_KEY_SIZE);
	memcpy(ret->bytes + PUBLIC_KEY_SIZE, wrapped.bytes, WRAPPED_KEY_SIZE);
	return 0;
}

int key_open_sealed(const struct secret *private, const struct wrapped_key *in, struct secret **ret)
{
	AUTO_SECRET struct secret *kek = NULL;
	struct wrapped_key wrapped = { .len = WRAPPED_KEY_SIZE };
	uint8_t public[PUBLIC_KEY_SIZE];
	int r = in->len == SEALED_KEY_SIZE ? private_key_public(private, public) : -EBADMSG;

	if (r == 0)
		r = derive_kek(private, in->bytes, in->bytes, public, &kek);
	if (r < 0)
		return r;
	memcpy(wrapped.bytes, in->bytes + PUBLIC_KEY_SIZE, WRAPPED_KEY_SIZE);
	return key_unwrap(kek, &wrapped, ret);
}
