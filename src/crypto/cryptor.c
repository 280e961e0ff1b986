/* A cryptor: the keyed layers of one DEK version, and its pool of context sets. */
#include "cryptor.h"

#include <errno.h>

#include "arena.h"
#include "coffer/util.h"

enum {
	MOST_SETS = 32, /* threads at work at once, and objects whose keys are at hand */
	/* Bytes of the arena that pools leave alone, for keys and for every pool's first set. */
	ARENA_RESERVE = 1 << 20,
};

struct pool_entry {
	struct context_set *set;
	uint64_t object;    /* as in the set, to be looked up in few cache lines */
	uint64_t last_used; /* on the pool's clock */
	bool busy;
};

struct cryptor {
	enum suite suite;
	struct kdf *service;
	struct kdf *infrastructure; /* NULL unless SUITE_XTS_GCM */
	pthread_mutex_t lock;       /* for all below */
	pthread_cond_t given_back;
	uint64_t clock;
	unsigned count;
	struct pool_entry pool[MOST_SETS];
};

const char *suite_name(enum suite s)
{
	switch (s) {
	case SUITE_XTS:
		return "AES-256-XTS";
	case SUITE_XTS_GMAC:
		return "AES-256-XTS+GMAC";
	case SUITE_XTS_GCM:
		return "AES-256-XTS+AES-256-GCM";
	}
	return NULL;
}

enum suite cryptor_suite(const struct cryptor *c)
{
	return c->suite;
}

static void set_free(struct context_set *set)
{
	for (unsigned i = 0; set && i < SLOT_COUNT; i++)
		cipher_free(set->slots[i].cipher);
	arena_free(set);
}

int cryptor_new(enum suite suite, const struct secret *dek, const struct secret *infra, struct cryptor **ret)
{
	struct cryptor *c;

	if (!suite_name(suite) || secret_size(dek) != KEY_SIZE || !!infra != (suite == SUITE_XTS_GCM) ||
	    (infra && secret_size(infra) != KEY_SIZE))
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->given_back, NULL);
	c->suite = suite;
	c->service = kdf_new(dek);
	c->infrastructure = infra ? kdf_new(infra) : NULL;
	if (!c->service || (infra && !c->infrastructure)) {
		cryptor_free(c);
		return -ENOMEM;
	}
	*ret = c;
	return 0;
}

void cryptor_free(struct cryptor *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->count; i++)
		set_free(c->pool[i].set);
	kdf_free(c->service);
	kdf_free(c->infrastructure);
	pthread_cond_destroy(&c->given_back);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- the pool ---- */

/* The idle entry for this object, else the idle one unused for longest; NULL: none is idle. */
static struct pool_entry *find_idle(struct cryptor *c, uint64_t object)
{
	struct pool_entry *oldest = NULL;

	for (struct pool_entry *e = c->pool; e < c->pool + c->count; e++) {
		if (e->busy)
			continue;
		if (e->object == object)
			return e;
		if (!oldest || e->last_used < oldest->last_used)
			oldest = e;
	}
	return oldest;
}

/* Adds an entry if the pool and the arena have room for it: NULL if not. */
static struct pool_entry *grow(struct cryptor *c)
{
	struct pool_entry *e = &c->pool[c->count];

	if (c->count == MOST_SETS || (c->count > 0 && arena_available() < ARENA_RESERVE))
		return NULL;
	e->set = arena_alloc(sizeof(*e->set));
	if (!e->set)
		return NULL;
	e->set->owner = c;
	c->count++;
	return e;
}

static int take(struct cryptor *c, uint64_t object, struct context_set **ret)
{
	LOCK_SCOPE(&c->lock);
	struct pool_entry *e = find_idle(c, object);

	while (!e || e->object != object) {
		struct pool_entry *added = grow(c);
		if (added)
			e = added;
		if (e)
			break;
		if (c->count == 0)
			return -ENOMEM;
		pthread_cond_wait(&c->given_back, &c->lock);
		e = find_idle(c, object);
	}
	e->busy = true;
	if (e->object != object) {
		for (unsigned i = 0; i < SLOT_COUNT; i++)
			e->set->slots[i].keyed = false;
		e->object = object;
		e->set->object = object;
	}
	*ret = e->set;
	return 0;
}

int cryptor_take(struct cryptor *c, uint64_t object, enum crypto_work work, size_t bytes, struct context_set **ret)
{
	int r = take(c, object, ret);

	if (r < 0)
		return r;
	(*ret)->work = work;
	(*ret)->bytes = bytes;
	(*ret)->began = clock_ns();
	return 0;
}

int cryptor_give_back(struct context_set *set, int result)
{
	struct cryptor *c = set->owner;
	struct pool_entry *e = c->pool;

	count_work(set->work, set->began, set->bytes, result);
	LOCK_SCOPE(&c->lock);

	while (e->set != set)
		e++;
	e->busy = false;
	e->last_used = ++c->clock;
	pthread_cond_signal(&c->given_back);
	return result;
}

/* ---- object keys ---- */

/* key = HKDF-Expand(DEK, info), with 24 bytes of info, integers little-endian:
 *
 *   offset  size
 *        0     4  "COFK"
 *        4     2  purpose (enum key_purpose)
 *        6     2  suite
 *        8     8  object number
 *       16     4  key version, counted from 0
 *       20     4  record kind; 0 for what is no record
 */
static int object_key(const struct context_set *set, enum key_purpose purpose, uint32_t version, uint32_t kind,
		      uint8_t *key, size_t len)
{
	const struct cryptor *c = set->owner;
	const struct kdf *source = c->service;
	uint8_t info[24] = "COFK";

	if (purpose == KEY_BLOCK_GCM || purpose == KEY_RECORD_XTS || (purpose == KEY_PAGE_GMAC && c->infrastructure))
		source = c->infrastructure;
	put_le16(info + 4, (uint16_t)purpose);
	put_le16(info + 6, (uint16_t)c->suite);
	put_le64(info + 8, set->object);
	put_le32(info + 16, version);
	put_le32(info + 20, kind);
	return kdf_expand(source, info, sizeof(info), key, len);
}

struct slot_use {
	enum cipher_kind cipher;
	enum key_purpose purpose;
};

static struct slot_use use_of(const struct context_set *set, enum slot slot)
{
	static const struct slot_use uses[SLOT_COUNT] = {
		[SLOT_BLOCK_ENCRYPT] = { CIPHER_XTS_ENCRYPT, KEY_BLOCK_XTS },
		[SLOT_BLOCK_DECRYPT] = { CIPHER_XTS_DECRYPT, KEY_BLOCK_XTS },
		[SLOT_BLOCK_TAG] = { CIPHER_GCM, KEY_BLOCK_GMAC },
		[SLOT_RECORD_GCM] = { CIPHER_GCM, KEY_RECORD_GCM },
		[SLOT_RECORD_ENCRYPT] = { CIPHER_XTS_ENCRYPT, KEY_RECORD_XTS },
		[SLOT_RECORD_DECRYPT] = { CIPHER_XTS_DECRYPT, KEY_RECORD_XTS },
		[SLOT_PAGE] = { CIPHER_GCM, KEY_PAGE_GMAC },
	};
	struct slot_use use = uses[slot];

	if (slot == SLOT_BLOCK_TAG && set->owner->suite == SUITE_XTS_GCM)
		use.purpose = KEY_BLOCK_GCM;
	return use;
}

int set_cipher(struct context_set *set, enum slot slot, uint32_t version, uint32_t kind, struct cipher **ret)
{
	typeof(&set->slots[0]) s = &set->slots[slot];
	struct slot_use use;
	int r;

	if (s->keyed && s->version == version && s->kind == kind) {
		*ret = s->cipher;
		return 0;
	}
	use = use_of(set, slot);
	s->keyed = false;
	if (!s->cipher)
		s->cipher = cipher_new(use.cipher);
	if (!s->cipher)
		return -ENOMEM;
	r = object_key(set, use.purpose, version, kind, set->key, use.cipher == CIPHER_GCM ? KEY_SIZE : XTS_KEY_SIZE);
	if (r == 0)
		r = cipher_set_key(s->cipher, set->key);
	wipe(set->key, sizeof(set->key));
	if (r < 0)
		return r;
	s->keyed = true;
	s->version = version;
	s->kind = kind;
	*ret = s->cipher;
	return 0;
}

int set_nonce(struct context_set *set, uint8_t nonce[static NONCE_SIZE])
{
	if (set->nonces_left == 0) {
		int r = random_bytes(set->nonces, sizeof(set->nonces));
		if (r < 0)
			return r;
		set->nonces_left = NONCES_AT_ONCE;
	}
	set->nonces_left--;
	memcpy(nonce, set->nonces[set->nonces_left], NONCE_SIZE);
	wipe(set->nonces[set->nonces_left], NONCE_SIZE);
	return 0;
}
