/* Keys on KMIP servers. A source that names a key by its unique identifier has that key for good. One that names it by its name has
 * whatever single key is Active under that name: looked for by the first wrap and by each describe, and used until the next.
 * Unwrapping goes by identifier, so that what an older key wrapped still opens while the server has that key Active; and also if
 * it is Deactivated by now, as long as another key of that name is Active: its owner has put that one in its place.
 *
 * A key that may leave its server is kept, in locked memory, until describe finds that it may no longer be used. Of one that may not
 * what it unwrapped is kept likewise: servers need not decrypt with a key that is Deactivated, and then that is all there is to wrap
 * by the next. (Whoever unwraps has the same in use.)
 */
#include "provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "kmip_client.h"
#include "kmip_uri.h"

enum { KEPT_MAX = 2 * (DEKS_MAX + 1) }; /* of a scope's keys and the volume key, by an old key and by a new one */
struct kept {
	struct wrapped_key wrapped;
	struct secret *key; /* NULL: free */
};
struct key_source {
	pthread_mutex_t lock;
	struct kmip_uri uri;
	struct shared *shared;
	char id[KMIP_ID_SIZE];      /* of the current key; empty: not looked for yet */
	struct secret *key;         /* the current key; NULL: not fetched, or mode=remote */
	struct kept kept[KEPT_MAX]; /* mode=remote by name: what was unwrapped */
	unsigned next_kept;
};

/* ---- clients: sources with the same servers share a connection ---- */

struct shared {
	struct shared *next;
	unsigned users;
	struct kmip_client *client;
	size_t count;
	struct kmip_server servers[KMIP_SERVERS_MAX];
};
static struct {
	pthread_mutex_t lock;
	struct shared *first;
} clients = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct shared *shared_new(const struct kmip_uri *u)
{
	struct shared *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->client = kmip_client_new(u->servers, u->count, &kmip_network, key_settings()->kmip_timeout * INT64_C(1000));
	if (!s->client) {
		free(s);
		return NULL;
	}
	s->count = u->count;
	memcpy(s->servers, u->servers, sizeof(s->servers));
	s->next = clients.first;
	clients.first = s;
	return s;
}

static struct shared *client_get(const struct kmip_uri *u)
{
	LOCK_SCOPE(&clients.lock);
	struct shared *s = clients.first;

	while (s && (s->count != u->count || memcmp(s->servers, u->servers, sizeof(s->servers)) != 0))
		s = s->next;
	if (!s)
		s = shared_new(u);
	if (s)
		s->users++;
	return s;
}

static void client_put(struct shared *s)
{
	LOCK_SCOPE(&clients.lock);
	struct shared **link = &clients.first;

	if (--s->users)
		return;
	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	kmip_client_free(s->client);
	free(s);
}

/* ---- questions ---- */

/* An answer that is a refusal is logged with what it is about. -EHOSTUNREACH: each server's reason was logged. */
static int ask(struct key_source *s, const struct kmip_request *q, struct kmip_answer *ret)
{
	int r = kmip_client_ask(s->shared->client, q, ret);

	if (r == -EHOSTUNREACH)
		log_error(
			"no key server could be asked for the key %s; see the settings kmip in coffer.conf, and the server",
			q->key);
	else if (r && r != -EBADMSG) /* whoever knows where the wrapped key comes from explains that */
		log_error("the key %s of the key server %s cannot be used: %s", q->key, s->uri.servers[0].host,
			  ret->why);
	return r;
}

/* The identifier of the key that is to be used now. -ENOTUNIQ: several are Active. */
static int find(struct key_source *s, char id[static KMIP_ID_SIZE])
{
	struct kmip_request q = { .question = KMIP_LOCATE, .key = s->uri.name };
	struct kmip_answer a;
	int r;

	if (!s->uri.by_name) {
		snprintf(id, KMIP_ID_SIZE, "%s", s->uri.name);
		return 0;
	}
	r = ask(s, &q, &a);
	if (!r && a.found > 1) {
		log_error(
			"several keys with the name %s are Active, and it is not known which one is meant; deactivate all but one",
			s->uri.name);
		r = -ENOTUNIQ;
	} else if (!r && !a.found) {
		log_error("no symmetric key with the name %s is Active on the key server", s->uri.name);
		r = -ENOENT;
	}
	if (!r)
		memcpy(id, a.id, KMIP_ID_SIZE);
	return r;
}

/* Makes sure that the key may be used; *ret_key is the caller's. With mode=remote only that. */
static int fetch(struct key_source *s, const char *id, struct secret **ret_key)
{
	struct kmip_request q = { .question = s->uri.remote ? KMIP_DESCRIBE : KMIP_GET, .key = id };
	struct kmip_answer a;
	int r = ask(s, &q, &a);

	if (!r)
		*ret_key = a.key;
	return r;
}

static void set_current(struct key_source *s, const char *id, struct secret *key)
{
	secret_free(s->key);
	s->key = key;
	if (id != s->id)
		snprintf(s->id, sizeof(s->id), "%s", id);
}

/* For wrapping: the current key, found and fetched if need be. */
static int have_current(struct key_source *s)
{
	struct secret *key = NULL;
	char id[KMIP_ID_SIZE];
	int r = 0;

	if (s->id[0])
		memcpy(id, s->id, sizeof(id));
	else
		r = find(s, id);
	if (!r && !s->key && !(s->uri.remote && s->id[0])) {
		r = fetch(s, id, &key);
		if (!r)
			set_current(s, id, key);
	}
	return r;
}

/* ---- what was unwrapped ---- */

static struct kept *find_kept(struct key_source *s, const struct wrapped_key *wrapped)
{
	for (unsigned i = 0; i < KEPT_MAX; i++)
		if (s->kept[i].key && !memcmp(s->kept[i].wrapped.bytes, wrapped->bytes, KMIP_WRAPPED_SIZE))
			return &s->kept[i];
	return NULL;
}

static struct secret *copy_of(const struct secret *key)
{
	struct secret *copy = secret_new(secret_size(key));

	if (copy)
		memcpy(secret_data(copy), secret_bytes(key), secret_size(key));
	return copy;
}

/* Without memory it is not kept. */
static void keep(struct key_source *s, const struct wrapped_key *wrapped, const struct secret *key)
{
	struct kept *k = &s->kept[s->next_kept];

	if (find_kept(s, wrapped))
		return;
	secret_free(k->key);
	*k = (struct kept){ .wrapped = *wrapped, .key = copy_of(key) };
	s->next_kept = (s->next_kept + 1) % KEPT_MAX;
}

static void forget_kept(struct key_source *s)
{
	for (unsigned i = 0; i < KEPT_MAX; i++) {
		secret_free(s->kept[i].key);
		s->kept[i].key = NULL;
	}
}

/* ---- the provider ---- */

static void kmip_close(struct key_source *s)
{
	if (!s)
		return;
	if (s->shared)
		client_put(s->shared);
	secret_free(s->key);
	forget_kept(s);
	kmip_uri_free(&s->uri);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int kmip_open(const char *uri, const char *state_dir, struct key_source **ret)
{
	struct key_source *s;
	int r;

	(void)state_dir;
	if (!key_settings()->kmip_ca[0]) {
		log_error(
			"%s: to use a key server, Coffer needs the settings ca, certificate and key of the group kmip in coffer.conf",
			uri);
		return -EINVAL;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	pthread_mutex_init(&s->lock, NULL);
	r = kmip_uri_parse(uri, &s->uri);
	if (!r) {
		s->shared = client_get(&s->uri);
		r = s->shared ? 0 : -ENOMEM;
	}
	if (r) {
		kmip_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* Refused, for whatever reason, is revoked: the server was asked, and says that the key is not to be used. What only a server that
 * works properly can say is not known otherwise. */
static enum key_state state_of(int r)
{
	if (!r)
		return KEY_ACTIVE;
	return r == -ENOENT || r == -EACCES || r == -EINVAL ? KEY_REVOKED : KEY_UNREACHABLE;
}

static int look(struct key_source *s)
{
	struct kmip_request q = { .question = KMIP_DESCRIBE, .key = s->id };
	struct secret *key = NULL;
	struct kmip_answer a;
	char id[KMIP_ID_SIZE];
	int r = find(s, id);

	if (r || !strcmp(id, s->id))
		return r ? r : ask(s, &q, &a);
	r = fetch(s, id, &key);
	if (!r)
		set_current(s, id, key);
	return r;
}

static int kmip_describe(struct key_source *s, struct key_info *ret)
{
	LOCK_SCOPE(&s->lock);
	struct key_info info = { .version = 1 };
	int r = look(s);

	/* It may have been rotated just while it was looked at. */
	if (s->uri.by_name && state_of(r) == KEY_REVOKED)
		r = look(s);
	info.state = state_of(r);
	if (info.state == KEY_REVOKED) {
		set_current(s, s->id, NULL);
		forget_kept(s);
	}
	/* A source that never got as far as a key still names the one that it would use. */
	snprintf(info.id, sizeof(info.id), "%s", s->id[0] || s->uri.by_name ? s->id : s->uri.name);
	*ret = info;
	return 0;
}

static int kmip_wrap(struct key_source *s, const struct secret *key, struct key_info *ret_used, struct wrapped_key *ret)
{
	LOCK_SCOPE(&s->lock);
	struct kmip_request q = { .question = KMIP_ENCRYPT, .key = s->id, .plain = key };
	struct key_info used = { .version = 1, .state = KEY_ACTIVE };
	struct kmip_answer a;
	int r = have_current(s);

	if (r)
		return r;
	if (s->uri.remote) {
		r = random_bytes(q.nonce, sizeof(q.nonce));
		if (!r)
			r = ask(s, &q, &a);
		if (!r)
			*ret = a.wrapped;
	} else {
		r = key_wrap(s->key, key, ret);
	}
	if (r)
		return r;
	memcpy(used.id, s->id, sizeof(s->id));
	*ret_used = used;
	return 0;
}

/* A Deactivated key unwraps only where its name has gone over to another key. */
static int check_successor(struct key_source *s)
{
	char id[KMIP_ID_SIZE];
	int r = find(s, id);

	return r == -ENOENT ? -EACCES : r;
}

/* The key that is current already, or, of a source that follows a name, another one, for this once. */
static int unwrap_here(struct key_source *s, const char *id, const struct wrapped_key *in, struct secret **ret)
{
	struct kmip_request q = { .question = KMIP_GET, .key = id, .name = s->uri.by_name ? s->uri.name : NULL };
	AUTO_SECRET struct secret *key = NULL;
	struct kmip_answer a;
	int r;

	if (s->key && !strcmp(s->id, id))
		return key_unwrap(s->key, in, ret);
	r = ask(s, &q, &a);
	key = a.key;
	if (!r && a.deactivated)
		r = check_successor(s);
	if (!r)
		r = key_unwrap(key, in, ret);
	if (!r && !a.deactivated && (!s->id[0] || !strcmp(s->id, id))) {
		set_current(s, id, key);
		key = NULL;
	}
	return r ? r : a.deactivated ? KEY_RETIRED : 0;
}

/* What a Deactivated key wrapped, where its server decrypts nothing with it any more. */
static int unwrap_kept(struct key_source *s, const char *id, const struct wrapped_key *in, struct secret **ret)
{
	const struct kept *k = find_kept(s, in);

	if (k) {
		*ret = copy_of(k->key);
		return *ret ? 0 : -ENOMEM;
	}
	log_error(
		"the key %s of the key server %s is Deactivated, and that server decrypts nothing with it any more: what it encrypted cannot go over to the newer key of its name",
		id, s->uri.servers[0].host);
	return -EOPNOTSUPP;
}

static int unwrap_there(struct key_source *s, const char *id, const struct wrapped_key *in, struct secret **ret)
{
	struct kmip_request q = {
		.question = KMIP_DECRYPT,
		.key = id,
		.name = s->uri.by_name ? s->uri.name : NULL,
		.wrapped = in,
	};
	AUTO_SECRET struct secret *key = NULL;
	struct kmip_answer a;
	int r, successor;

	if (in->len != KMIP_WRAPPED_SIZE)
		return -EBADMSG; /* no server encrypted it */
	r = ask(s, &q, &a);
	key = a.key;
	successor = a.deactivated ? check_successor(s) : 0;
	if (successor)
		r = successor;
	else if (r == -EACCES && a.deactivated)
		r = unwrap_kept(s, id, in, &key);
	if (r)
		return r;
	if (s->uri.by_name)
		keep(s, in, key);
	*ret = key;
	key = NULL;
	if (!a.deactivated && !s->id[0])
		set_current(s, id, NULL);
	return a.deactivated ? KEY_RETIRED : 0;
}

static int kmip_unwrap(struct key_source *s, const char *id, uint32_t version, const struct wrapped_key *in,
		       struct secret **ret)
{
	LOCK_SCOPE(&s->lock);

	if (!id || version != 1 || strlen(id) >= KMIP_ID_SIZE)
		return -ENOENT;
	/* A source that names a key by its identifier uses no other, whatever a descriptor says. */
	if (!s->uri.by_name && strcmp(id, s->uri.name) != 0)
		return -EBADMSG;
	return s->uri.remote ? unwrap_there(s, id, in, ret) : unwrap_here(s, id, in, ret);
}

const struct key_provider provider_kmip = {
	.scheme = "kmip",
	.open = kmip_open,
	.describe = kmip_describe,
	.wrap = kmip_wrap,
	.unwrap = kmip_unwrap,
	.close = kmip_close,
};
