/* The host's own keys: "platform:" wraps DEKs, "platform:infrastructure" the second layer's. Both come from the key ring. */
#include "provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "ring.h"

struct key_source {
	char *state_dir;
	const char *name; /* of the key in the ring */
	struct ring ring;
};

static const char *key_name(const char *uri)
{
	if (!strcmp(uri, "platform:"))
		return RING_PLATFORM;
	if (!strcmp(uri, "platform:infrastructure"))
		return RING_INFRASTRUCTURE;
	return NULL;
}

static void platform_close(struct key_source *s)
{
	if (!s)
		return;
	ring_free(&s->ring);
	free(s->state_dir);
	free(s);
}

/* A ring that is not there yet is no error: wrap makes it. */
static int platform_open(const char *uri, const char *state_dir, struct key_source **ret)
{
	struct key_source *s;
	int r;

	if (!key_name(uri)) {
		log_error("%s names no key of the platform: there are platform: and platform:infrastructure", uri);
		return -EINVAL;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->name = key_name(uri);
	s->state_dir = strdup(state_dir);
	r = s->state_dir ? ring_load(state_dir, s->name, &s->ring) : -ENOMEM;
	if (r && r != -ENOENT) {
		platform_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Others, for volumes of their own, add versions too. A ring that cannot be read now may be damaged or away for good, but nobody
 * said that its key is not to be used any more: it is out of reach. */
static bool reload(struct key_source *s)
{
	struct ring *now = malloc(sizeof(*now));
	bool same = now && !ring_load(s->state_dir, s->name, now) && !strcmp(now->id, s->ring.id);

	if (same) {
		ring_free(&s->ring);
		s->ring = *now;
	} else if (now) {
		ring_free(now);
	}
	free(now);
	return same;
}

static int platform_describe(struct key_source *s, struct key_info *ret)
{
	struct key_info info = { 0 };

	if (!s->ring.count)
		return -ENOENT;
	info.state = reload(s) ? KEY_ACTIVE : KEY_UNREACHABLE;
	info.version = s->ring.keys[s->ring.count - 1].version;
	info.created = s->ring.keys[s->ring.count - 1].created;
	snprintf(info.id, sizeof(info.id), "%s-%s", s->name, s->ring.id);
	*ret = info;
	return 0;
}

static int platform_wrap(struct key_source *s, const struct secret *key, struct key_info *ret_used,
			 struct wrapped_key *ret)
{
	int r = 0;

	if (!s->ring.count) {
		r = ring_create(s->state_dir);
		if (!r)
			r = ring_load(s->state_dir, s->name, &s->ring);
		if (r)
			return r;
	}
	r = key_wrap(s->ring.keys[s->ring.count - 1].key, key, ret);
	return r ? r : platform_describe(s, ret_used);
}

static int platform_unwrap(struct key_source *s, const char *id, uint32_t version, const struct wrapped_key *in,
			   struct secret **ret)
{
	(void)id;
	for (size_t i = 0; i < s->ring.count; i++)
		if (s->ring.keys[i].version == version)
			return key_unwrap(s->ring.keys[i].key, in, ret);
	return -ENOENT;
}

static int platform_new_version(struct key_source *s)
{
	int r = ring_add_version(s->state_dir, s->name);

	return r ? r : reload(s) ? 0 : -EIO;
}

const struct key_provider provider_platform = {
	.scheme = "platform",
	.open = platform_open,
	.describe = platform_describe,
	.wrap = platform_wrap,
	.unwrap = platform_unwrap,
	.close = platform_close,
	.rotate = platform_new_version,
};
