/* Linked into every unit test above util: Criterion brings libraries that use OpenSSL as soon as its main() begins, and
 * crypto_start() must come before any other use of it.
 */
#include <stdlib.h>

#include "coffer/crypto.h"

__attribute__((constructor)) static void start_crypto(void)
{
	if (crypto_start() < 0)
		abort();
}
