/* coffer stats --prometheus: the text format of Prometheus, version 0.0.4. The samples of a metric must be next to each other, after
 * its HELP and TYPE, so everything goes metric by metric. */
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"

static void print_label(const char *before, const char *name, const char *value)
{
	printf("%s%s=\"", before, name);
	for (; value && *value; value++) {
		if (*value == '\\' || *value == '"')
			putchar('\\');
		if (*value == '\n')
			fputs("\\n", stdout);
		else
			putchar(*value);
	}
	putchar('"');
}

static void metric(const char *name, const char *type, const char *help)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A sample's name and labels: the mount's, and one of its own if `label` is not NULL. The closing brace is left out. */
static void begin_sample(const json_t *stats, const char *name, const char *suffix, const char *label,
			 const char *value)
{
	printf("%s%s", name, suffix);
	print_label("{", "mount", json_string_value(json_object_get(stats, "mountpoint")));
	if (label)
		print_label(",", label, value);
}

static void sample(const json_t *stats, const char *name, const char *label, const char *value, uint64_t number)
{
	begin_sample(stats, name, "", label, value);
	printf("} %" PRIu64 "\n", number);
}

static void print_seconds(uint64_t ns)
{
	printf("%" PRIu64 ".%09" PRIu64, ns / 1000000000, ns % 1000000000);
}

static void sample_seconds(const json_t *stats, const char *name, const char *suffix, const char *label,
			   const char *value, uint64_t ns)
{
	begin_sample(stats, name, suffix, label, value);
	printf("} ");
	print_seconds(ns);
	putchar('\n');
}

/* The buckets count what is up to their bound, those before them included. */
static void histogram(const json_t *stats, const char *name, const char *label, const char *value, const json_t *timing)
{
	const json_t *bounds = json_object_get(stats, "bounds"), *bucket;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(json_object_get(timing, "buckets"), i, bucket)
	{
		sum += (uint64_t)json_integer_value(bucket);
		begin_sample(stats, name, "_bucket", label, value);
		printf(",le=\"");
		if (i < json_array_size(bounds))
			printf("%g", (double)json_integer_value(json_array_get(bounds, i)) / 1e9);
		else
			printf("+Inf");
		printf("\"} %" PRIu64 "\n", sum);
	}
	sample_seconds(stats, name, "_sum", label, value, count_of(timing, "nanoseconds"));
	begin_sample(stats, name, "_count", label, value);
	printf("} %" PRIu64 "\n", sum);
}

/* One sample for each member of a group of timings. */
static void each(const json_t *stats, const char *group, const char *label, const char *name, const char *key)
{
	json_t *members = json_object_get(stats, group), *timing;
	const char *member;

	json_object_foreach(members, member, timing) sample(stats, name, label, member, count_of(timing, key));
}

static void each_seconds(const json_t *stats, const char *group, const char *label, const char *name, const char *key)
{
	json_t *members = json_object_get(stats, group), *timing;
	const char *member;

	json_object_foreach(members, member, timing)
		sample_seconds(stats, name, "", label, member, count_of(timing, key));
}

static void print_operations(const json_t *stats)
{
	json_t *members = json_object_get(stats, "operations"), *timing;
	const char *member;

	metric("coffer_operation_duration_seconds", "histogram",
	       "What the kernel asked for, from the request to the answer.");
	json_object_foreach(members, member, timing)
		histogram(stats, "coffer_operation_duration_seconds", "operation", member, timing);
	metric("coffer_operation_longest_seconds", "gauge", "The longest of them since the mount.");
	each_seconds(stats, "operations", "operation", "coffer_operation_longest_seconds", "longest");
	metric("coffer_operation_errors_total", "counter", "Those that were answered with an error.");
	each(stats, "operations", "operation", "coffer_operation_errors_total", "errors");
	metric("coffer_operation_bytes_total", "counter", "Bytes of file contents that were read or written.");
	for (const char *const *op = (const char *const[]){ "read", "write", NULL }; *op; op++)
		sample(stats, "coffer_operation_bytes_total", "operation", *op,
		       count_of(json_object_get(members, *op), "bytes"));
}

static void print_ciphers(const json_t *stats)
{
	metric("coffer_cipher_seconds_total", "counter", "Time spent in ciphers, of all threads.");
	each_seconds(stats, "ciphers", "work", "coffer_cipher_seconds_total", "nanoseconds");
	metric("coffer_cipher_calls_total", "counter", "Calls of ciphers, each for one or more blocks.");
	each(stats, "ciphers", "work", "coffer_cipher_calls_total", "count");
	metric("coffer_cipher_bytes_total", "counter", "Bytes that went through ciphers.");
	each(stats, "ciphers", "work", "coffer_cipher_bytes_total", "bytes");
	metric("coffer_cipher_failures_total", "counter",
	       "Calls that failed; when opening, what does not authenticate.");
	each(stats, "ciphers", "work", "coffer_cipher_failures_total", "errors");
}

static void print_caches(const json_t *stats)
{
	const json_t *caches = json_object_get(stats, "caches");
	static const char *const kinds[] = { "objects", "pages" };

	metric("coffer_cache_hits_total", "counter", "Looked for in the daemon's memory, and found.");
	for (size_t i = 0; i < 2; i++)
		sample(stats, "coffer_cache_hits_total", "cache", kinds[i],
		       count_of(json_object_get(caches, kinds[i]), "hits"));
	metric("coffer_cache_misses_total", "counter", "Looked for in the daemon's memory, and not found.");
	for (size_t i = 0; i < 2; i++)
		sample(stats, "coffer_cache_misses_total", "cache", kinds[i],
		       count_of(json_object_get(caches, kinds[i]), "misses"));
	metric("coffer_cache_objects", "gauge", "Objects in the daemon's memory.");
	sample(stats, "coffer_cache_objects", NULL, NULL, count_of(caches, "objects_cached"));
	metric("coffer_cache_bytes", "gauge", "Bytes that these have besides their headers.");
	sample(stats, "coffer_cache_bytes", NULL, NULL, count_of(caches, "bytes_cached"));
}

static void print_store(const json_t *stats)
{
	static const struct {
		const char *key, *name, *type, *help;
	} plain[] = {
		{ "log_bytes", "coffer_log_bytes", "gauge", "Bytes in the current segment of the log." },
		{ "dirty_pages", "coffer_dirty_pages", "gauge", "Pages in the log that are not yet home." },
		{ "checkpoints", "coffer_checkpoints_total", "counter", "Times that the log was written home." },
		{ "checkpoint_pages", "coffer_checkpoint_pages_total", "counter", "Pages written home by them." },
		{ "waits", "coffer_log_waits_total", "counter",
		  "Changes that waited for room in the log or on the disk." },
	};
	static const struct {
		const char *key, *name, *help;
	} timed[] = {
		{ "log_append", "coffer_log_append_duration_seconds", "Appending to the log, its ciphers included." },
		{ "log_sync", "coffer_log_sync_duration_seconds", "Making the log durable." },
		{ "home_sync", "coffer_home_sync_duration_seconds", "Making durable what was written home." },
	};
	const json_t *store = json_object_get(stats, "store");

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		metric(plain[i].name, plain[i].type, plain[i].help);
		sample(stats, plain[i].name, NULL, NULL, count_of(store, plain[i].key));
	}
	for (size_t i = 0; i < sizeof(timed) / sizeof(timed[0]); i++) {
		metric(timed[i].name, "histogram", timed[i].help);
		histogram(stats, timed[i].name, NULL, NULL, json_object_get(store, timed[i].key));
	}
	metric("coffer_log_append_bytes_total", "counter", "Bytes appended to the log.");
	sample(stats, "coffer_log_append_bytes_total", NULL, NULL,
	       count_of(json_object_get(store, "log_append"), "bytes"));
	metric("coffer_pages_read_total", "counter", "Pages of ciphertext read: not yet home, or from home.");
	sample(stats, "coffer_pages_read_total", "from", "log", count_of(store, "pages_read_memory"));
	sample(stats, "coffer_pages_read_total", "from", "home", count_of(store, "pages_read_home"));
	metric("coffer_failed", "gauge", "1: the backing directory failed, and nothing more is written.");
	sample(stats, "coffer_failed", NULL, NULL, json_is_true(json_object_get(store, "failed")));
	metric("coffer_read_only", "gauge", "1: the volume is only read.");
	sample(stats, "coffer_read_only", NULL, NULL, json_is_true(json_object_get(store, "read_only")));
}

static void print_scopes(const json_t *stats)
{
	const json_t *scopes = json_object_get(stats, "scopes"), *scope;
	const char *name, *state;
	size_t i;

	metric("coffer_scope_state", "gauge", "1 for the state that the scope's key is in.");
	json_array_foreach(scopes, i, scope)
	{
		state = json_string_value(json_object_get(scope, "key_state"));
		name = json_string_value(json_object_get(scope, "name"));
		for (enum scope_state s = STATE_ACTIVE; s <= STATE_UNPROVIDED; s++) {
			begin_sample(stats, "coffer_scope_state", "", "scope", name);
			print_label(",", "state", scope_state_name(s));
			printf("} %d\n", state && strcmp(state, scope_state_name(s)) == 0);
		}
	}
	metric("coffer_scope_open", "gauge", "1: the scope's keys are in memory, and its files are to be had.");
	json_array_foreach(scopes, i, scope)
		sample(stats, "coffer_scope_open", "scope", json_string_value(json_object_get(scope, "name")),
		       json_is_false(json_object_get(scope, "locked")));
	metric("coffer_scope_last_check_timestamp_seconds", "gauge", "When the key's source was last asked.");
	json_array_foreach(scopes, i, scope)
		sample(stats, "coffer_scope_last_check_timestamp_seconds", "scope",
		       json_string_value(json_object_get(scope, "name")), count_of(scope, "last_check"));
	metric("coffer_scope_key_rotation_timestamp_seconds", "gauge",
	       "Since when the present key wraps the scope's keys.");
	json_array_foreach(scopes, i, scope)
		sample(stats, "coffer_scope_key_rotation_timestamp_seconds", "scope",
		       json_string_value(json_object_get(scope, "name")), count_of(scope, "last_rotation"));
}

void print_prometheus(const json_t *stats)
{
	metric("coffer_info", "gauge", "A mounted volume.");
	begin_sample(stats, "coffer_info", "", "volume", json_string_value(json_object_get(stats, "volume_id")));
	for (const char *const *key = (const char *const[]){ "backing", "transport", "version", NULL }; *key; key++)
		print_label(",", *key, json_string_value(json_object_get(stats, *key)));
	printf("} 1\n");
	metric("coffer_mounted_timestamp_seconds", "gauge", "When it was mounted; all counts began then.");
	sample(stats, "coffer_mounted_timestamp_seconds", NULL, NULL, count_of(stats, "mounted_at"));
	print_operations(stats);
	print_ciphers(stats);
	print_caches(stats);
	print_store(stats);
	print_scopes(stats);
}
