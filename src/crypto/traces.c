/* What functions leave behind that were careful with keys themselves. */
#include "coffer/crypto.h"

enum { DEEPEST = 32 << 10 }; /* bytes of stack that a call into OpenSSL uses, and more */

#ifdef __x86_64__
__attribute__((target("avx512f"))) static void clear_upper_registers(void)
{
	__asm__ volatile("vpxord %%zmm16, %%zmm16, %%zmm16\n\tvpxord %%zmm17, %%zmm17, %%zmm17\n\t"
			 "vpxord %%zmm18, %%zmm18, %%zmm18\n\tvpxord %%zmm19, %%zmm19, %%zmm19\n\t"
			 "vpxord %%zmm20, %%zmm20, %%zmm20\n\tvpxord %%zmm21, %%zmm21, %%zmm21\n\t"
			 "vpxord %%zmm22, %%zmm22, %%zmm22\n\tvpxord %%zmm23, %%zmm23, %%zmm23\n\t"
			 "vpxord %%zmm24, %%zmm24, %%zmm24\n\tvpxord %%zmm25, %%zmm25, %%zmm25\n\t"
			 "vpxord %%zmm26, %%zmm26, %%zmm26\n\tvpxord %%zmm27, %%zmm27, %%zmm27\n\t"
			 "vpxord %%zmm28, %%zmm28, %%zmm28\n\tvpxord %%zmm29, %%zmm29, %%zmm29\n\t"
			 "vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31" ::
				 : "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",
				   "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

__attribute__((target("avx"))) static void clear_lower_registers(void)
{
	__asm__ volatile("vzeroall" ::
				 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
				   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void clear_registers(void)
{
	if (__builtin_cpu_supports("avx512f"))
		clear_upper_registers();
	if (__builtin_cpu_supports("avx"))
		clear_lower_registers();
}
#else
static void clear_registers(void) {}
#endif

__attribute__((noinline)) static void clear_stack(void)
{
	uint8_t below[DEEPEST];

	wipe(below, sizeof(below));
}

/* Registers first: wiping uses some, but only for zeros. */
void wipe_traces(void)
{
	clear_registers();
	clear_stack();
}
