/* AES-256-GCM under one key, for those who manage their nonces themselves. */
#include <errno.h>

#include "cryptor.h"

/* An aead is a keyed GCM cipher and nothing else; the type only keeps the others of this layer out of reach. */
struct aead *aead_new(const struct secret *key)
{
	struct cipher *c;

	if (secret_size(key) != KEY_SIZE)
		return NULL;
	c = cipher_new(CIPHER_GCM);
	if (c && cipher_set_key(c, secret_bytes(key)) < 0) {
		cipher_free(c);
		c = NULL;
	}
	return (struct aead *)c;
}

void aead_free(struct aead *a)
{
	cipher_free((struct cipher *)a);
}

static size_t bytes_of(const struct iovec *pieces, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += pieces[i].iov_len;
	return len;
}

int aead_seal(struct aead *a, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	      const void *plain, size_t len, void *cipher, uint8_t tag[static TAG_SIZE])
{
	uint64_t began = clock_ns();
	int r = gcm_seal((struct cipher *)a, nonce, aad, aad_count, plain, len, cipher, tag);

	count_work(CRYPTO_SEAL_LOG, began, len + bytes_of(aad, aad_count), r);
	return r;
}

int aead_open(struct aead *a, const uint8_t nonce[static NONCE_SIZE], const struct iovec *aad, int aad_count,
	      const void *cipher, size_t len, void *plain, const uint8_t tag[static TAG_SIZE])
{
	uint64_t began = clock_ns();
	int r = gcm_open((struct cipher *)a, nonce, aad, aad_count, cipher, len, plain, tag);

	count_work(CRYPTO_OPEN_LOG, began, len + bytes_of(aad, aad_count), r);
	return r;
}
