/* Keys that exist nowhere: "provided:". Whoever uses such a scope hands its key over each time; what stands on disk is its
 * fingerprint, as the key's id, and what it wrapped.
 */
#include "provider.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct key_source {
	char id[FINGERPRINT_SIZE];
	struct secret *key;
};

static void provided_close(struct key_source *s)
{
	if (!s)
		return;
	secret_free(s->key);
	free(s);
}

int provided_source(struct secret **key, struct key_source **ret)
{
	struct key_source *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (s) {
		s->key = *key;
		*key = NULL;
		r = secret_size(s->key) == KEY_SIZE ? key_fingerprint(s->key, s->id) : -EINVAL;
	}
	if (r) {
		provided_close(s);
		secret_free(*key);
		*key = NULL;
		return r;
	}
	*ret = s;
	return 0;
}

static int provided_open(const char *uri, const char *state_dir, struct key_source **ret)
{
	(void)uri;
	(void)state_dir;
	(void)ret;
	return -ENOKEY;
}

static int provided_describe(struct key_source *s, struct key_info *ret)
{
	*ret = (struct key_info){ .version = 1, .state = KEY_ACTIVE };
	memcpy(ret->id, s->id, sizeof(s->id));
	return 0;
}

static int provided_wrap(struct key_source *s, const struct secret *key, struct key_info *ret_used,
			 struct wrapped_key *ret)
{
	int r = key_wrap(s->key, key, ret);

	return r ? r : provided_describe(s, ret_used);
}

static int provided_unwrap(struct key_source *s, const char *id, uint32_t version, const struct wrapped_key *in,
			   struct secret **ret)
{
	(void)id;
	return version == 1 ? key_unwrap(s->key, in, ret) : -ENOENT;
}

const struct key_provider provider_provided = {
	.scheme = "provided",
	.open = provided_open,
	.describe = provided_describe,
	.wrap = provided_wrap,
	.unwrap = provided_unwrap,
	.close = provided_close,
};
