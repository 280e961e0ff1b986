/* Brings up locked memory, then OpenSSL on top of it. */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "arena.h"
#include "coffer/util.h"
#include "ossl.h"

struct algorithms algorithms;

int openssl_failed(const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);

	log_error("OpenSSL: %s failed: %s", what, reason ? reason : "no reason given");
	ERR_clear_error();
	return -EIO;
}

/* OpenSSL's memory: its place is decided when it is made, and afterwards told by the address. */
static void *allocate(size_t len, const char *file, int line)
{
	(void)file, (void)line;
	if (!len)
		return NULL;
	return sensitive_depth ? arena_alloc(len) : malloc(len);
}

static void release(void *p, const char *file, int line)
{
	(void)file, (void)line;
	if (arena_owns(p))
		arena_free(p);
	else
		free(p);
}

static void *reallocate(void *p, size_t len, const char *file, int line)
{
	size_t old;
	void *grown;

	if (!p)
		return allocate(len, file, line);
	if (!len) {
		release(p, file, line);
		return NULL;
	}
	if (!arena_owns(p))
		return realloc(p, len);
	old = arena_size_of(p);
	grown = arena_alloc(len); /* what was in here stays in here */
	if (grown) {
		memcpy(grown, p, old < len ? old : len);
		arena_free(p);
	}
	return grown;
}

static int fetch_algorithms(void)
{
	algorithms.xts = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
	algorithms.gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	algorithms.wrap = EVP_CIPHER_fetch(NULL, "AES-256-WRAP-PAD", NULL);
	algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	algorithms.x25519 = EVP_KEYEXCH_fetch(NULL, "X25519", NULL);
	algorithms.x25519_keys = EVP_KEYMGMT_fetch(NULL, "X25519", NULL);
	if (!algorithms.xts || !algorithms.gcm || !algorithms.wrap || !algorithms.sha256 || !algorithms.hmac ||
	    !algorithms.x25519 || !algorithms.x25519_keys)
		return openssl_failed("loading AES-256-XTS, AES-256-GCM, AES-256-KWP, SHA-256, HMAC and X25519");
	return 0;
}

int crypto_start(void)
{
	int r;

	if (algorithms.hmac)
		return 0;
	r = arena_start();
	if (r < 0)
		return r;
	if (!CRYPTO_set_mem_functions(allocate, reallocate, release)) {
		log_error("OpenSSL was used before locked memory was set up");
		return -EINVAL;
	}
	return fetch_algorithms();
}
