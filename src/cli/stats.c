/* coffer stats: what a mounted volume's daemon has counted. */
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"

/* Where a share of what was counted is reached, as far as the buckets tell: evenly spread within one, and never beyond the longest. */
static uint64_t percentile(const json_t *timing, const json_t *bounds, double share)
{
	const json_t *buckets = json_object_get(timing, "buckets"), *bucket;
	uint64_t longest = count_of(timing, "longest"), low = 0, high;
	double wanted = share * (double)count_of(timing, "count"), in;
	size_t i;

	json_array_foreach(buckets, i, bucket)
	{
		high = i < json_array_size(bounds) ? (uint64_t)json_integer_value(json_array_get(bounds, i)) : longest;
		high = high < longest ? high : longest;
		in = (double)json_integer_value(bucket);
		if (in > 0 && wanted <= in)
			return low + (uint64_t)((double)(high - low) * wanted / in);
		wanted -= in;
		low = high;
	}
	return longest;
}

/* Right-aligned in ten columns. */
static void print_time(uint64_t ns)
{
	if (ns < 1000000)
		printf("%7.1f us", (double)ns / 1e3);
	else if (ns < 1000000000)
		printf("%7.1f ms", (double)ns / 1e6);
	else
		printf("%7.1f s ", (double)ns / 1e9);
}

static void print_size(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double size = (double)bytes;
	size_t i = 0;

	for (; size >= 1024 && i < sizeof(units) / sizeof(units[0]) - 1; i++)
		size /= 1024;
	printf(i ? "%8.1f %-3s" : "%8.0f %-3s", size, units[i]);
}

/* A line each, but not for what never happened. */
static void print_timing(const char *name, const json_t *timing, const json_t *bounds)
{
	uint64_t count = count_of(timing, "count");

	if (!count)
		return;
	printf("%-12s %10" PRIu64 " %8" PRIu64 " ", name, count, count_of(timing, "errors"));
	print_size(count_of(timing, "bytes"));
	print_time(count_of(timing, "nanoseconds") / count);
	print_time(json_object_get(timing, "buckets") ? percentile(timing, bounds, 0.99)
						      : count_of(timing, "nanoseconds"));
	print_time(count_of(timing, "longest"));
	putchar('\n');
}

static void print_share(const char *what, uint64_t hits, uint64_t misses, const char *rest)
{
	uint64_t all = hits + misses;

	printf("%-16s%" PRIu64 " of %" PRIu64 " (%.1f %%) %s\n", what, hits, all,
	       all ? 100.0 * (double)hits / (double)all : 0.0, rest);
}

static void print_people(const json_t *stats)
{
	const json_t *caches = json_object_get(stats, "caches"), *store = json_object_get(stats, "store"), *scope;
	const json_t *bounds = json_object_get(stats, "bounds");
	const char *member;
	json_t *timing;
	size_t i;

	printf("%-12s %10s %8s %12s%10s%10s%10s\n", "operation", "count", "errors", "bytes ", "mean", "99 %",
	       "longest");
	json_object_foreach(json_object_get(stats, "operations"), member, timing) print_timing(member, timing, bounds);
	printf("\n%-12s %10s %8s %12s%10s%10s%10s\n", "disk", "count", "errors", "bytes ", "mean", "99 %", "longest");
	for (const char *const *key = (const char *const[]){ "log_append", "log_sync", "home_sync", NULL }; *key; key++)
		print_timing(*key, json_object_get(store, *key), bounds);
	printf("\n%-12s %10s %8s %12s%10s%10s%10s\n", "cipher", "calls", "failed", "bytes ", "mean", "in all",
	       "longest");
	json_object_foreach(json_object_get(stats, "ciphers"), member, timing) print_timing(member, timing, bounds);
	putchar('\n');
	print_share("object cache", count_of(json_object_get(caches, "objects"), "hits"),
		    count_of(json_object_get(caches, "objects"), "misses"), "found in memory");
	print_share("page cache", count_of(json_object_get(caches, "pages"), "hits"),
		    count_of(json_object_get(caches, "pages"), "misses"), "pages of tags found in memory");
	print_share("pages read", count_of(store, "pages_read_memory"), count_of(store, "pages_read_home"),
		    "from the log, not yet home");
	printf("checkpoints     %" PRIu64 ", of %" PRIu64 " pages; %" PRIu64 " changes waited for room\n",
	       count_of(store, "checkpoints"), count_of(store, "checkpoint_pages"), count_of(store, "waits"));
	json_array_foreach(json_object_get(stats, "scopes"), i, scope)
		printf("scope %-10s%s\n", json_string_value(json_object_get(scope, "name")),
		       json_string_value(json_object_get(scope, "key_state")));
}

int command_stats(int argc, char **argv)
{
	struct arguments a = { .command = "stats" };
	bool json = false, prometheus = false;
	json_t *stats = NULL;
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_JSON)
			json = true;
		else if (option == OPTION_PROMETHEUS)
			prometheus = true;
	}
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	if (json && prometheus) {
		log_error("--json or --prometheus, not both");
		return EXIT_USAGE;
	}
	code = ask_daemon(&c, argv[optind], json_pack("{s:s}", "verb", "stats"), NULL, &stats);
	if (code == EXIT_DONE && json) {
		json_object_del(stats, "result");
		json_dumpf(stats, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (code == EXIT_DONE && prometheus) {
		print_prometheus(stats);
	} else if (code == EXIT_DONE) {
		print_people(stats);
	}
	json_decref(stats);
	return code;
}
