/* Locked memory, secrets, randomness, and OpenSSL's contexts in locked memory. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "bytes.h"
#include "../../src/crypto/arena.h"
#include "../../src/crypto/ossl.h"

static void start(void)
{
	cr_assert_eq(crypto_start(), 0);
}

TestSuite(secret, .init = start);
TestSuite(arena, .init = start);

Test(secret, owns_its_bytes)
{
	uint8_t given[40];
	struct secret *s = secret_new(100), *taken, *random, *other;

	cr_assert_eq(secret_size(s), 100);
	for (int i = 0; i < 100; i++)
		cr_assert_eq(secret_bytes(s)[i], 0);
	secret_data(s)[99] = 7;
	cr_assert_eq(secret_bytes(s)[99], 7);
	memset(given, 0xab, sizeof(given));
	taken = secret_take(given, sizeof(given));
	for (int i = 0; i < 40; i++) {
		cr_assert_eq(given[i], 0, "the giver's copy must be wiped");
		cr_assert_eq(secret_bytes(taken)[i], 0xab);
	}
	random = secret_random(32);
	other = secret_random(32);
	cr_assert_eq(equal_in_constant_time(secret_bytes(random), secret_bytes(other), 32), 0);
	secret_free(s);
	secret_free(taken);
	secret_free(random);
	secret_free(other);
	secret_free(NULL);
	cr_assert_null(secret_new(SIZE_MAX));
}

Test(secret, wiped_when_freed)
{
	struct secret *s = secret_random(64);
	const uint8_t *bytes = secret_bytes(s);

	secret_free(s);
	for (int i = 0; i < 64; i++)
		cr_assert_eq(bytes[i], 0); /* the arena stays mapped */
}

Test(secret, exhaustion_is_null_and_passes)
{
	enum { MOST = ARENA_SIZE / 1024 };
	static struct secret *all[MOST];
	size_t before = arena_available();
	uint8_t given[2048];
	int n = 0;

	while (n < MOST && (all[n] = secret_new(1024)))
		n++;
	cr_assert_gt(n, MOST / 2);
	cr_assert_lt(n, MOST, "the arena is bounded");
	cr_assert_null(secret_random(1024));
	memset(given, 1, sizeof(given));
	cr_assert_null(secret_take(given, sizeof(given)));
	cr_assert(given[0] == 0 && given[2047] == 0, "given away is given away");
	for (int i = 0; i < n; i += 2) /* every other one first: pieces must be joined again */
		secret_free(all[i]);
	for (int i = 1; i < n; i += 2)
		secret_free(all[i]);
	cr_assert_eq(arena_available(), before);
	all[0] = secret_new(before / 2);
	cr_assert_not_null(all[0]);
	secret_free(all[0]);
}

Test(secret, out_of_locked_memory_fails_cleanly_everywhere)
{
	struct secret *key = secret_random(KEY_SIZE), *unwrapped = NULL, *rest[64];
	struct wrapped_key wrapped;
	struct cryptor *c;
	int n = 0;

	cr_assert_eq(key_wrap(key, key, &wrapped), 0);
	for (size_t size = ARENA_SIZE; size > 0; size /= 2)
		while (n < 64 && (rest[n] = secret_new(size > 32 ? size - 32 : 1)))
			n++;
	cr_assert_eq(arena_available(), 0);
	cr_assert_null(kdf_new(key));
	cr_assert_null(aead_new(key));
	cr_assert_lt(cryptor_new(SUITE_XTS_GMAC, key, NULL, &c), 0);
	cr_assert_lt(key_unwrap(key, &wrapped, &unwrapped), 0);
	cr_assert_null(unwrapped);
	while (n > 0)
		secret_free(rest[--n]);
	cr_assert_eq(key_unwrap(key, &wrapped, &unwrapped), 0, "and works again once there is room");
	secret_free(unwrapped);
	secret_free(key);
}

Test(secret, constant_time_comparison)
{
	uint8_t a[33] = { 1, 2, 3 }, b[33] = { 1, 2, 3 };

	cr_assert_eq(equal_in_constant_time(a, b, 33), 1);
	for (int i = 0; i < 33; i++) {
		b[i] ^= 0x80;
		cr_assert_eq(equal_in_constant_time(a, b, 33), 0);
		b[i] ^= 0x80;
	}
	cr_assert_eq(equal_in_constant_time(a, b, 0), 1);
}

Test(secret, random_bytes_fill_everything)
{
	static uint8_t a[1 << 20];
	size_t counts[256] = { 0 };

	cr_assert_eq(random_bytes(a, sizeof(a)), 0);
	for (size_t i = 0; i < sizeof(a); i++)
		counts[a[i]]++;
	for (int i = 0; i < 256; i++) /* 4096 expected; 16 standard deviations away is no accident */
		cr_assert(counts[i] > 3072 && counts[i] < 5120, "%zu times %d", counts[i], i);
}

static void on_signal(int unused)
{
	(void)unused;
}

/* Large requests end early when a signal comes. */
Test(secret, random_bytes_fill_everything_through_signals)
{
	enum { LEN = 64 << 20, PIECE = 1 << 20 };
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval timer = { .it_interval = { 0, 1000 }, .it_value = { 0, 1000 } };
	uint8_t *a = calloc(1, LEN);
	const uint8_t zeros[64] = { 0 };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	cr_assert_eq(random_bytes(a, LEN), 0);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	for (size_t i = PIECE; i <= LEN; i += PIECE)
		cr_assert_neq(memcmp(a + i - 64, zeros, 64), 0, "nothing written before byte %zu", i);
	free(a);
}

/* The /proc/self/smaps entry of the mapping that holds `p`. */
static void smaps_of(const void *p, char *flags, size_t flags_size, long *ret_locked_kib, long *ret_size_kib)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long begin, end;
	bool here = false;
	char line[512];

	cr_assert_not_null(f);
	flags[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			here = begin <= (unsigned long)p && (unsigned long)p < end;
		else if (here && sscanf(line, "Locked: %ld kB", ret_locked_kib) == 1)
			continue;
		else if (here && sscanf(line, "Size: %ld kB", ret_size_kib) == 1)
			continue;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, flags_size, "%s", line + 8);
	}
	fclose(f);
}

static long status_kib(const char *field)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = -1;

	while (fgets(line, sizeof(line), f))
		if (strncmp(line, field, strlen(field)) == 0)
			kib = atol(line + strlen(field) + 1);
	fclose(f);
	return kib;
}

static void check_locked(const void *p)
{
	char flags[512];
	long locked = -1, size = -1;

	smaps_of(p, flags, sizeof(flags), &locked, &size);
	cr_assert_eq(size, ARENA_SIZE / 1024);
	cr_assert_gt(locked, 0, "what is in use must be locked");
	cr_assert_not_null(strstr(flags, " lo"), "locked:%s", flags);
	cr_assert_not_null(strstr(flags, " dd"), "not dumped:%s", flags);
	cr_assert_not_null(strstr(flags, " wf"), "wiped on fork:%s", flags);
}

Test(arena, locked_and_left_out_of_dumps)
{
	struct secret *s = secret_random(32);

	check_locked(s);
	cr_assert_geq(status_kib("VmLck"), ARENA_SIZE / 1024);
	cr_assert_leq(status_kib("VmLck"), 8 * 1024, "an ordinary user's limit");
	secret_free(s);
}

Test(arena, starting_again_changes_nothing)
{
	size_t before = arena_available();

	cr_assert_eq(crypto_start(), 0);
	cr_assert_eq(arena_available(), before);
}

Test(arena, blocks_are_zeroed_aligned_and_apart)
{
	uint8_t *blocks[200];
	size_t before = arena_available();

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 200; i++) {
			size_t len = (size_t)(i * 37 % 500);
			blocks[i] = arena_alloc(len);
			cr_assert_eq((uintptr_t)blocks[i] % ARENA_GRANULE, 0);
			cr_assert(arena_owns(blocks[i]));
			cr_assert_geq(arena_size_of(blocks[i]), len);
			for (size_t j = 0; j < arena_size_of(blocks[i]); j++)
				cr_assert_eq(blocks[i][j], 0);
			memset(blocks[i], i + 1, arena_size_of(blocks[i]));
		}
		for (int i = 0; i < 200; i++)
			for (size_t j = 0; j < arena_size_of(blocks[i]); j++)
				cr_assert_eq(blocks[i][j], (uint8_t)(i + 1), "block %d was overwritten", i);
		for (int i = 0; i < 200; i++)
			arena_free(blocks[(i * 77 + round) % 200]);
		cr_assert_eq(arena_available(), before);
	}
	cr_assert_not(arena_owns(blocks));
	cr_assert_not(arena_owns(NULL));
}

Test(arena, double_free_stops_the_process, .signal = SIGABRT)
{
	void *p = arena_alloc(100);

	arena_free(p);
	arena_free(p);
}

Test(arena, guarded_on_both_sides)
{
	uint8_t *inside = arena_alloc(1), *begin = inside, *end = inside;
	char flags[512];
	long locked, size;

	while (arena_owns(begin - 1))
		begin--;
	while (arena_owns(end))
		end++;
	cr_assert_eq(end - begin, ARENA_SIZE);
	for (int i = 0; i < 2; i++) {
		size = 0;
		smaps_of(i ? end : begin - 1, flags, sizeof(flags), &locked, &size);
		cr_assert_gt(size, 0, "nothing is mapped there");
		cr_assert_null(strstr(flags, " rd"), "readable:%s", flags);
		cr_assert_null(strstr(flags, " wr"), "writable:%s", flags);
	}
	arena_free(inside);
}

Test(arena, a_child_has_no_keys_and_locks_its_own)
{
	struct secret *s = secret_random(32);
	uint8_t copy[32];
	int status;
	pid_t child;

	memcpy(copy, secret_bytes(s), 32);
	child = fork();
	if (child == 0) {
		struct secret *own;
		for (int i = 0; i < 32; i++)
			if (secret_bytes(s)[i])
				_exit(1);
		if (status_kib("VmLck") < ARENA_SIZE / 1024)
			_exit(2);
		own = secret_random(32);
		_exit(own && secret_size(own) == 32 ? 0 : 3);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status));
	cr_assert_eq(WEXITSTATUS(status), 0);
	cr_assert_arr_eq(secret_bytes(s), copy, 32);
	secret_free(s);
}

/* This program run again, to see crypto_start() in a process of its own: as an ordinary user, with this limit. */
static const char limit_variable[] = "COFFER_TEST_MEMLOCK";

__attribute__((constructor(200))) static void start_with_limit(void)
{
	const char *text = getenv(limit_variable);
	struct rlimit limit;

	if (!text)
		return;
	limit.rlim_cur = limit.rlim_max = (rlim_t)atol(text);
	if ((geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) || setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		_exit(100);
	int r = crypto_start();
	_exit(r == 0 && !secret_new(32) ? 101 : -r);
}

static int start_as_user_with(const char *limit)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		setenv(limit_variable, limit, 1);
		execl("/proc/self/exe", "test_secret", NULL);
		_exit(102);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

Test(arena, the_limit_on_locked_memory)
{
	cr_assert_eq(start_as_user_with("65536"), ENOMEM, "too low a limit is an error, not ignored");
	cr_assert_eq(start_as_user_with("0"), ENOMEM);
	cr_assert_eq(start_as_user_with("8388608"), 0, "an ordinary user's limit is enough");
}

#ifndef __SANITIZE_ADDRESS__
/* A search through all memory is not for the sanitizer, whose own parts lie there too. */

/* Searches the process's writable memory outside of the arena for `needle`. */
static bool found_in_memory(const uint8_t *needle, size_t len)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	const uint8_t *hit = NULL;
	char line[512];

	while (!hit && fgets(line, sizeof(line), maps)) {
		unsigned long begin, end;
		char mode[5];
		if (sscanf(line, "%lx-%lx %4s", &begin, &end, mode) != 3 || strncmp(mode, "rw", 2) != 0 ||
		    strstr(line, "[v") || arena_owns((void *)begin))
			continue;
		/* Not the buffer that is being searched for, nor this function's frame. */
		for (const uint8_t *p = (uint8_t *)begin; p && p + len <= (uint8_t *)end && !hit; p++) {
			p = memchr(p, needle[0], (size_t)((uint8_t *)end - p));
			if (!p || p + len > (uint8_t *)end)
				break;
			if (p != needle && memcmp(p, needle, len) == 0)
				hit = p;
		}
	}
	fclose(maps);
	return hit;
}

/* AES-256 key schedules begin with the key itself, so a schedule anywhere in ordinary memory is found by the key. */
Test(arena, contexts_of_openssl_lie_inside)
{
	struct secret *key = secret_random(XTS_KEY_SIZE);
	struct secret *short_key = secret_random(KEY_SIZE);
	size_t before = arena_available();
	struct cipher *xts, *gcm;
	uint8_t *control;
	struct kdf *kdf;
	uint8_t out[32];

	xts = cipher_new(CIPHER_XTS_ENCRYPT);
	cr_assert_leq(arena_available(), before - 1024, "an XTS context has two key schedules of 240 bytes and more");
	cr_assert_eq(cipher_set_key(xts, secret_bytes(key)), 0);
	gcm = cipher_new(CIPHER_GCM);
	cr_assert_eq(cipher_set_key(gcm, secret_bytes(short_key)), 0);
	kdf = kdf_new(short_key);
	cr_assert_eq(kdf_expand(kdf, "x", 1, out, sizeof(out)), 0);
	cr_assert_not(found_in_memory(secret_bytes(key), 32), "the first half of the XTS key is in ordinary memory");
	cr_assert_not(found_in_memory(secret_bytes(key) + 32, 32), "the second half is in ordinary memory");
	cr_assert_not(found_in_memory(secret_bytes(short_key), 32), "the GCM and HMAC key is in ordinary memory");
	control = malloc(32);
	memcpy(control, secret_bytes(key), 32);
	cr_assert(found_in_memory(secret_bytes(key), 32), "the search itself must find what is there");
	free(control);
	cipher_free(xts);
	cipher_free(gcm);
	kdf_free(kdf);
	cr_assert_eq(arena_available(), before, "freed contexts leave nothing behind");
	secret_free(key);
	secret_free(short_key);
}
#endif
