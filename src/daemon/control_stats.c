/* The verb "stats": everything that is counted, as JSON. Times are nanoseconds; counts are since the mount. */
#include "daemon_internal.h"

static json_t *integer(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* With the buckets of timing_bounds, where those are of use. */
static json_t *describe_timing(const struct timing *t, bool buckets)
{
	json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)t->count, "errors",
			      (json_int_t)t->errors, "bytes", (json_int_t)t->bytes, "nanoseconds", (json_int_t)t->total,
			      "longest", (json_int_t)t->longest);
	json_t *list = buckets ? json_array() : NULL;

	for (unsigned i = 0; list && i <= TIMING_BOUNDS; i++)
		json_array_append_new(list, integer(t->buckets[i]));
	if (list)
		json_object_set_new(o, "buckets", list);
	return o;
}

static json_t *describe_operations(struct fs *f)
{
	json_t *o = json_object();
	struct timing t;

	for (unsigned op = 0; op < FS_OP_COUNT; op++) {
		fs_op_times(f, op, &t);
		json_object_set_new(o, fs_op_name(op), describe_timing(&t, true));
	}
	return o;
}

static json_t *describe_ciphers(void)
{
	json_t *o = json_object();
	struct timing t;

	for (unsigned w = 0; w < CRYPTO_WORK_COUNT; w++) {
		crypto_work_done(w, &t);
		json_object_set_new(o, crypto_work_name(w), describe_timing(&t, false));
	}
	return o;
}

static json_t *describe_caches(const struct volume_status *s)
{
	return json_pack("{s:{s:I, s:I}, s:{s:I, s:I}, s:I, s:I}", "objects", "hits", (json_int_t)s->object_hits,
			 "misses", (json_int_t)s->object_misses, "pages", "hits", (json_int_t)s->page_hits, "misses",
			 (json_int_t)s->page_misses, "objects_cached", (json_int_t)s->objects_cached, "bytes_cached",
			 (json_int_t)s->bytes_cached);
}

static json_t *describe_store(const struct volume_status *s)
{
	const struct store_counters *c = &s->store;
	json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b}", "log_bytes", (json_int_t)c->log_bytes,
			      "dirty_pages", (json_int_t)c->dirty_pages, "checkpoints", (json_int_t)c->checkpoints,
			      "checkpoint_pages", (json_int_t)c->home_pages, "pages_read_memory",
			      (json_int_t)c->read_memory, "pages_read_home", (json_int_t)c->read_home, "waits",
			      (json_int_t)c->waits, "failed", s->failed, "read_only", s->read_only);

	json_object_set_new(o, "log_append", describe_timing(&c->append, true));
	json_object_set_new(o, "log_sync", describe_timing(&c->sync_log, true));
	json_object_set_new(o, "home_sync", describe_timing(&c->sync_home, true));
	return o;
}

json_t *verb_stats(struct connection *c, int *ret_result)
{
	const struct control_facts *f = c->facts;
	struct volume_status s;
	json_t *o = json_object(), *bounds = json_array(), *volume = describe_volume(f->volume);

	volume_status(f->volume, &s);
	for (unsigned i = 0; i < TIMING_BOUNDS; i++)
		json_array_append_new(bounds, integer(timing_bounds[i]));
	for (const char *const *key = (const char *const[]){ "volume_id", "scopes", NULL }; *key; key++)
		json_object_set(o, *key, json_object_get(volume, *key));
	json_decref(volume);
	json_object_set_new(o, "version", json_string(COFFER_VERSION));
	json_object_set_new(o, "backing", json_string(f->backing));
	json_object_set_new(o, "mountpoint", json_string(f->mountpoint));
	json_object_set_new(o, "mounted_at", json_integer(f->mounted_at));
	json_object_set_new(o, "transport", json_string(fs_transport(f->fs)));
	json_object_set_new(o, "operations", describe_operations(f->fs));
	json_object_set_new(o, "ciphers", describe_ciphers());
	json_object_set_new(o, "caches", describe_caches(&s));
	json_object_set_new(o, "store", describe_store(&s));
	json_object_set_new(o, "bounds", bounds);
	*ret_result = 0;
	return o;
}
