/* What the ciphers did. */
#include "cryptor.h"

static _Alignas(64) struct timing_counter counters[CRYPTO_WORK_COUNT];

const char *crypto_work_name(enum crypto_work w)
{
	static const char *const names[] = {
		[CRYPTO_SEAL_BLOCKS] = "seal_blocks", [CRYPTO_OPEN_BLOCKS] = "open_blocks",
		[CRYPTO_SEAL_RECORD] = "seal_record", [CRYPTO_OPEN_RECORD] = "open_record",
		[CRYPTO_SEAL_PAGE] = "seal_page",     [CRYPTO_OPEN_PAGE] = "open_page",
		[CRYPTO_SEAL_LOG] = "seal_log",       [CRYPTO_OPEN_LOG] = "open_log",
	};

	return names[w];
}

void count_work(enum crypto_work w, uint64_t began, size_t bytes, int result)
{
	timing_add(&counters[w], clock_ns() - began, bytes, result < 0);
}

void crypto_work_done(enum crypto_work w, struct timing *ret)
{
	timing_read(&counters[w], ret);
}
