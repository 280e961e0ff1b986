/* Randomness, wiping, comparing. */
#include <errno.h>
#include <openssl/crypto.h>
#include <sys/random.h>

#include "coffer/crypto.h"
#include "coffer/util.h"

/* The kernel's generator rather than OpenSSL's: no generator state lies in our memory that would foretell keys to whoever
 * reads it, none is shared after fork, and a bulk request costs no more. */
int random_bytes(void *out, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = getrandom((uint8_t *)out + done, len - done, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;
			log_error("no random bytes from the kernel: %m");
			return r;
		}
		done += (size_t)n;
	}
	return 0;
}

void wipe(void *p, size_t len)
{
	OPENSSL_cleanse(p, len);
}

int equal_in_constant_time(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
