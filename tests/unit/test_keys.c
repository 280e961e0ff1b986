#include "key_fixture.h"

static int backing = -1;

static void start(void)
{
	scratch_start();
	backing = open_dir_at(in_scratch("backing"));
}

static void end(void)
{
	close(backing);
	scratch_end();
}

TestSuite(keys, .init = start, .fini = end);

static const char *key_file(const char *name, uint8_t first)
{
	static char uri[2 * PATH_MAX];
	uint8_t key[KEY_SIZE] = { first, 1, 2, 3 };

	put_file(in_scratch("%s", name), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("%s", name));
	return uri;
}

/* Makes a volume, stores its descriptor and loads it again. */
static struct descriptor *volume(enum suite suite, const char *uri, struct volume_keys **ret)
{
	struct descriptor *d = descriptor_new(suite), *loaded = NULL;

	cr_assert(d);
	cr_assert_eq(keys_create(d, uri, in_scratch("state"), NULL, ret), 0);
	cr_assert_eq(descriptor_store(d, backing, keys_descriptor_mac(*ret)), 0);
	cr_assert_eq(descriptor_load(backing, &loaded), 0);
	cr_assert_arr_eq(loaded->scopes, d->scopes, sizeof(*d->scopes));
	descriptor_free(d);
	return loaded;
}

static int open_keys(const struct descriptor *d, const char *state, struct volume_keys **ret)
{
	return keys_unlock(d, state, NULL, ret);
}

static int unlock(const struct descriptor *d, const char *state)
{
	struct volume_keys *k = NULL;
	int r = open_keys(d, in_scratch("%s", state), &k);

	cr_assert(r || k);
	keys_free(k);
	return r;
}

/* What one seals, the other opens: they hold the same keys. */
static void expect_same_cryptor(struct cryptor *a, struct cryptor *b)
{
	static uint8_t plain[BLOCK_SIZE], cipher[BLOCK_SIZE], back[BLOCK_SIZE];
	uint8_t record[RECORD_OVERHEAD + 64], opened[64];
	struct block_tag tag = { 0 };

	cr_assert(a && b && a != b);
	random_bytes(plain, sizeof(plain));
	cr_assert_eq(cryptor_seal_blocks(a, 7, 3, 1, 0, plain, cipher, &tag), 0);
	cr_assert_eq(cryptor_open_blocks(b, 7, 3, 1, cipher, back, &tag, NULL), 0);
	cr_assert_arr_eq(plain, back, BLOCK_SIZE);
	cr_assert_eq(cryptor_seal_record(a, 7, RECORD_HEADER, 1, "x", 1, plain, 64, record), 0);
	cr_assert_eq(cryptor_open_record(b, 7, RECORD_HEADER, 1, "x", 1, record, sizeof(record), opened), 0);
	cr_assert_arr_eq(plain, opened, 64);
}

static void create_and_unlock(enum suite suite, const char *uri)
{
	struct volume_keys *made = NULL, *k = NULL;
	struct descriptor *d = volume(suite, uri, &made);
	uint8_t a[32], b[32];
	struct opened_source *source;
	struct key_info info;

	cr_assert_eq(d->scope_count, 1);
	cr_assert_eq(d->scopes[0].number, 0);
	cr_assert_str_eq(d->scopes[0].name, "default");
	cr_assert_str_eq(d->scopes[0].key_uri, uri ? uri : "platform:");
	cr_assert_eq(d->scopes[0].suite, suite);
	cr_assert_eq(open_keys(d, in_scratch("state"), &k), 0);
	expect_same_cryptor(keys_cryptor(made, 0, 1), keys_cryptor(k, 0, 1));
	cr_assert_eq(keys_current_version(k, 0), 1);
	cr_assert_eq(keys_current_version(k, 1), 0);
	cr_assert_null(keys_cryptor(k, 0, 0));
	cr_assert_null(keys_cryptor(k, 0, 2));
	cr_assert_null(keys_cryptor(k, 1, 1));
	cr_assert_null(keys_cryptor(k, UINT32_MAX, UINT32_MAX));
	cr_assert(same_secret(keys_descriptor_mac(made), keys_descriptor_mac(k)));
	cr_assert_eq(kdf_expand(keys_structure(made), "t", 1, a, sizeof(a)), 0);
	cr_assert_eq(kdf_expand(keys_structure(k), "t", 1, b, sizeof(b)), 0);
	cr_assert_arr_eq(a, b, sizeof(a));
	source = keys_source(k, 0);
	cr_assert_eq(keys_ask(source, &d->scopes[0], &info), 0);
	opened_source_free(source);
	cr_assert_str_eq(info.id, d->scopes[0].kek_id);
	cr_assert_eq(info.version, 1);
	cr_assert_eq(info.state, KEY_ACTIVE);
	cr_assert_null(keys_source(k, 1));
	keys_free(made);
	keys_free(k);
	descriptor_free(d);
}

Test(keys, platform_key)
{
	for (enum suite s = SUITE_XTS; s <= SUITE_XTS_GCM; s++)
		create_and_unlock(s, NULL);
}

Test(keys, key_file)
{
	for (enum suite s = SUITE_XTS; s <= SUITE_XTS_GCM; s++)
		create_and_unlock(s, key_file("key", 9));
}

Test(keys, every_volume_has_keys_of_its_own)
{
	struct volume_keys *a = NULL, *b = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, NULL, &a), *e = volume(SUITE_XTS_GMAC, NULL, &b);

	cr_assert_arr_neq(d->volume_id, e->volume_id, sizeof(d->volume_id));
	cr_assert_not(same_secret(keys_descriptor_mac(a), keys_descriptor_mac(b)));
	cr_assert_arr_neq(d->scopes[0].deks[0].dek.bytes, e->scopes[0].deks[0].dek.bytes, WRAPPED_KEY_SIZE);
	keys_free(a);
	keys_free(b);
	descriptor_free(d);
	descriptor_free(e);
}

Test(keys, create_refuses)
{
	struct descriptor *d = descriptor_new(SUITE_XTS_GMAC);
	struct volume_keys *k = NULL;
	char uri[2048] = "file:///";

	cr_assert_eq(keys_create(d, "ftp://x", in_scratch("state"), NULL, &k), -EINVAL);
	cr_assert(logged("ftp://x"));
	cr_assert_eq(keys_create(d, "file:///nowhere/at/all", in_scratch("state"), NULL, &k), -ENOENT);
	memset(uri + 8, 'a', 1100);
	cr_assert_eq(keys_create(d, uri, in_scratch("state"), NULL, &k), -EINVAL);
	d->scopes[0].suite = (enum suite)77;
	cr_assert_eq(keys_create(d, NULL, in_scratch("state"), NULL, &k), -EINVAL);
	cr_assert_null(k);
	descriptor_free(d);
}

/* ---- keys that are not to be had ---- */

Test(keys, file_gone_closed_or_wrong)
{
	struct volume_keys *k = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, key_file("key", 1), &k);
	char id[256];

	keys_free(k);
	cr_assert_eq(rename(in_scratch("key"), in_scratch("away")), 0);
	logged("");
	cr_assert_eq(unlock(d, "state"), -ENOENT);
	cr_assert(logged("cannot be opened"));
	cr_assert_eq(rename(in_scratch("away"), in_scratch("key")), 0);
	cr_assert_eq(chmod(in_scratch("key"), 0644), 0);
	cr_assert_eq(unlock(d, "state"), -EACCES);
	cr_assert(logged("0600"));
	key_file("key", 2);
	cr_assert_eq(chmod(in_scratch("key"), 0600), 0);
	cr_assert_eq(unlock(d, "state"), -EBADMSG);
	snprintf(id, sizeof(id), "locked by the key %s", d->scopes[0].kek_id);
	cr_assert(logged(id));
	key_file("key", 1);
	cr_assert_eq(unlock(d, "state"), 0);
	descriptor_free(d);
}

Test(keys, platform_key_of_another_host)
{
	struct volume_keys *k = NULL, *elsewhere = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, NULL, &k), *other = descriptor_new(SUITE_XTS_GMAC);

	keys_free(k);
	cr_assert_eq(unlock(d, "new host"), -ENOENT);
	cr_assert(logged("bring the state directory"));
	cr_assert_eq(access(in_scratch("new host"), F_OK), -1); /* unlocking makes no ring */
	cr_assert_eq(keys_create(other, NULL, in_scratch("new host"), NULL, &elsewhere), 0);
	keys_free(elsewhere);
	cr_assert_eq(unlock(d, "new host"), -EBADMSG);
	cr_assert(logged("wrong key"));
	cr_assert_eq(unlock(d, "state"), 0);
	descriptor_free(d);
	descriptor_free(other);
}

Test(keys, key_file_carries_a_volume_to_another_host)
{
	struct volume_keys *k = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, key_file("key", 1), &k);

	keys_free(k);
	cr_assert_eq(unlock(d, "new host"), 0);
	descriptor_free(d);
}

Test(keys, infrastructure_key_of_another_host)
{
	struct volume_keys *k = NULL, *elsewhere = NULL;
	struct descriptor *d = volume(SUITE_XTS_GCM, key_file("key", 1), &k), *other = descriptor_new(SUITE_XTS_GCM);

	keys_free(k);
	cr_assert_eq(unlock(d, "new host"), -ENOENT);
	cr_assert(logged("infrastructure-"));
	cr_assert_eq(keys_create(other, NULL, in_scratch("new host"), NULL, &elsewhere), 0);
	keys_free(elsewhere);
	cr_assert_eq(unlock(d, "new host"), -EBADMSG);
	cr_assert(logged("wrong key"));
	descriptor_free(d);
	descriptor_free(other);
}

/* ---- descriptors that were meddled with: each text is well-formed ---- */

/* Loads the stored descriptor's text with `what` replaced by something of the same length. */
static struct descriptor *meddled(const char *what, const char *with)
{
	AUTO_FREE char *text = NULL;
	struct descriptor *d = NULL;
	size_t len;
	char *at;

	cr_assert_eq(read_file_at(backing, DESCRIPTOR_NAME, DESCRIPTOR_MAX, &text, &len), 0);
	at = strstr(text, what);
	cr_assert(at, "%s", what);
	memcpy(at, with, strlen(with));
	put_file(in_scratch("backing/" DESCRIPTOR_NAME), text, len, 0600);
	cr_assert_eq(descriptor_load(backing, &d), 0);
	return d;
}

Test(keys, edited_descriptor)
{
	struct volume_keys *k = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, NULL, &k);

	keys_free(k);
	descriptor_free(d);
	d = meddled("clean = true", "clean =false");
	logged("");
	cr_assert_eq(unlock(d, "state"), -EUCLEAN);
	cr_assert(logged("does not authenticate"));
	descriptor_free(d);
	d = meddled("clean =false", "clean = true");
	cr_assert_eq(unlock(d, "state"), 0);
	descriptor_free(d);
	d = meddled("mac = \"", "mac = \"x");
	cr_assert_eq(unlock(d, "state"), -EUCLEAN);
	descriptor_free(d);
}

Test(keys, edited_key_source)
{
	struct volume_keys *k = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, key_file("key", 1), &k);

	keys_free(k);
	descriptor_free(d);
	/* The file that it names now is not there; the platform's key tells that it was never the one. */
	d = meddled("/key\"", "/kez\"");
	cr_assert_eq(unlock(d, "state"), -EUCLEAN);
	cr_assert_eq(unlock(d, "new host"), -ENOENT);
	descriptor_free(d);
}

Test(keys, edited_wrapped_keys)
{
	struct volume_keys *k = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, NULL, &k);
	char hex[2 * WRAPPED_KEY_SIZE + 1], other[2 * WRAPPED_KEY_SIZE + 1];

	keys_free(k);
	/* The scope's copy of the volume key: the platform's opens the structure, and so the edit is found. */
	hex_encode(d->scopes[0].volume_key.bytes, WRAPPED_KEY_SIZE, hex);
	strcpy(other, hex);
	other[3] = other[3] == '0' ? '1' : '0';
	descriptor_free(d);
	d = meddled(hex, other);
	cr_assert_eq(unlock(d, "state"), -EUCLEAN);
	descriptor_free(d);
	d = meddled(other, hex);
	cr_assert_eq(unlock(d, "state"), 0);
	/* A DEK. */
	hex_encode(d->scopes[0].deks[0].dek.bytes, WRAPPED_KEY_SIZE, hex);
	strcpy(other, hex);
	other[79] = other[79] == '0' ? '1' : '0';
	descriptor_free(d);
	d = meddled(hex, other);
	cr_assert_eq(unlock(d, "state"), -EUCLEAN);
	descriptor_free(d);
}

Test(keys, substituted_descriptor_opens_nothing_of_the_first)
{
	struct volume_keys *a = NULL, *b = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, NULL, &a), *e = volume(SUITE_XTS_GMAC, NULL, &b);
	struct descriptor *mixed = NULL;

	/* The second volume's scopes under the first one's MAC key would be a way in. */
	cr_assert_eq(descriptor_check(e, keys_descriptor_mac(a)), -EBADMSG);
	memcpy(e->scopes[0].deks, d->scopes[0].deks, sizeof(d->scopes[0].deks));
	cr_assert_eq(descriptor_store(e, backing, keys_descriptor_mac(a)), 0);
	cr_assert_eq(descriptor_load(backing, &mixed), 0);
	cr_assert_eq(unlock(mixed, "state"), -EUCLEAN);
	keys_free(a);
	keys_free(b);
	descriptor_free(d);
	descriptor_free(e);
	descriptor_free(mixed);
}

/* ---- several scopes and versions ---- */

/* Adds a scope under a key file, with `deks` versions, as a later command would. */
static void add_scope(struct descriptor *d, const struct secret *volume_key, uint32_t number, const char *uri,
		      uint32_t deks)
{
	const struct key_provider *p = key_provider_for(uri);
	struct key_source *source = NULL;
	struct scope_entry *s;
	struct key_info used;

	d->scopes = realloc(d->scopes, (d->scope_count + 1) * sizeof(*d->scopes));
	cr_assert(d->scopes);
	s = &d->scopes[d->scope_count++];
	memset(s, 0, sizeof(*s));
	s->number = number;
	sprintf(s->name, "scope%u", number);
	strcpy(s->key_uri, uri);
	s->suite = SUITE_XTS_GMAC;
	cr_assert_eq(p->open(uri, in_scratch("state"), &source), 0);
	cr_assert_eq(p->wrap(source, volume_key, &used, &s->volume_key), 0);
	strcpy(s->kek_id, used.id);
	s->kek_version = used.version;
	s->dek_count = deks;
	for (uint32_t i = 0; i < deks; i++) {
		struct secret *dek = secret_random(KEY_SIZE);

		s->deks[i].version = 2 * i + 1;
		cr_assert_eq(p->wrap(source, dek, &used, &s->deks[i].dek), 0);
		secret_free(dek);
	}
	p->close(source);
}

/* A volume with `count` more scopes under the file "scope key", numbered from 10 by tens. */
static struct descriptor *with_scopes(const char *uri, unsigned count, uint32_t deks)
{
	struct volume_keys *k = NULL;
	struct descriptor *d = volume(SUITE_XTS_GMAC, uri, &k), *loaded = NULL;
	const struct key_provider *p = key_provider_for("platform:");
	struct key_source *platform = NULL;
	struct secret *volume_key = NULL;

	cr_assert_eq(p->open("platform:", in_scratch("state"), &platform), 0);
	cr_assert_eq(p->unwrap(platform, NULL, d->platform_version, &d->platform_volume_key, &volume_key), 0);
	p->close(platform);
	for (unsigned i = 1; i <= count; i++)
		add_scope(d, volume_key, 10 * i, key_file("scope key", 77), deks);
	cr_assert_eq(descriptor_store(d, backing, keys_descriptor_mac(k)), 0);
	cr_assert_eq(descriptor_load(backing, &loaded), 0);
	secret_free(volume_key);
	keys_free(k);
	descriptor_free(d);
	return loaded;
}

Test(keys, every_scope_and_version_is_found)
{
	enum { COUNT = 40, DEKS = 3 };
	struct descriptor *d = with_scopes(NULL, COUNT, DEKS);
	struct volume_keys *k = NULL;
	struct cryptor *seen[COUNT * DEKS];
	unsigned n = 0;

	cr_assert_eq(open_keys(d, in_scratch("state"), &k), 0);
	cr_assert(keys_cryptor(k, 0, 1));
	for (uint32_t scope = 10; scope <= 10 * COUNT; scope += 10) {
		cr_assert_eq(keys_current_version(k, scope), 2 * DEKS - 1);
		cr_assert_eq(keys_current_version(k, scope + 1), 0);
		for (uint32_t version = 0; version <= 2 * DEKS; version++) {
			struct cryptor *c = keys_cryptor(k, scope, version);

			cr_assert_null(keys_cryptor(k, scope + 1, version));
			cr_assert_eq(c != NULL, version % 2 == 1, "%u version %u", scope, version);
			for (unsigned i = 0; c && i < n; i++)
				cr_assert_neq(seen[i], c);
			if (c)
				seen[n++] = c;
		}
	}
	cr_assert_eq(n, COUNT * DEKS);
	/* More versions than the table has slots: each stranger meets entries of its own scope. */
	for (uint32_t version = 2 * DEKS; version < 4096; version++)
		cr_assert_null(keys_cryptor(k, 10, version));
	keys_free(k);
	descriptor_free(d);
}

Test(keys, a_locked_scope_stops_no_other)
{
	struct descriptor *d = with_scopes(NULL, 2, 1);
	struct volume_keys *k = NULL;

	cr_assert_eq(unlink(in_scratch("scope key")), 0);
	cr_assert_eq(open_keys(d, in_scratch("state"), &k), 0);
	cr_assert(keys_cryptor(k, 0, 1));
	cr_assert_null(keys_cryptor(k, 10, 1));
	cr_assert_null(keys_cryptor(k, 20, 1));
	cr_assert_eq(keys_current_version(k, 10), 1);
	cr_assert_eq(keys_access(k, 0, 1), SCOPE_OPEN);
	cr_assert_eq(keys_access(k, 10, 1), SCOPE_LOCKED);
	cr_assert_eq(keys_access(k, 10, 2), SCOPE_UNKNOWN);
	cr_assert_eq(keys_access(k, 10, 0), SCOPE_UNKNOWN);
	cr_assert_eq(keys_access(k, 11, 1), SCOPE_UNKNOWN);
	cr_assert_null(keys_source(k, 10));
	keys_free(k);
	descriptor_free(d);
}

Test(keys, the_default_scope_may_be_the_locked_one)
{
	struct descriptor *d = with_scopes(key_file("key", 1), 1, 1);
	struct volume_keys *k = NULL;

	cr_assert_eq(unlink(in_scratch("key")), 0);
	cr_assert_eq(open_keys(d, in_scratch("state"), &k), 0);
	cr_assert_null(keys_cryptor(k, 0, 1));
	cr_assert(keys_cryptor(k, 10, 1));
	cr_assert_eq(keys_outcome(k, 0), -ENOENT);
	cr_assert_eq(keys_outcome(k, 10), 0);
	keys_free(k);
	k = NULL;
	/* With its key gone too, nothing is left to serve, though the platform's key would open the structure. */
	cr_assert_eq(unlink(in_scratch("scope key")), 0);
	cr_assert_eq(open_keys(d, in_scratch("state"), &k), -ENOENT);
	cr_assert(keys_structure(k));
	cr_assert_null(keys_cryptor(k, 10, 1));
	cr_assert_eq(keys_outcome(k, 10), -ENOENT);
	cr_assert_eq(keys_outcome(k, 0), -ENOENT);
	keys_free(k);
	descriptor_free(d);
}

/* ---- nothing in the clear ---- */

static const uint8_t *needle;

static int look_for_needle(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	AUTO_FREE char *text = NULL;
	char hex[2 * KEY_SIZE + 1];
	size_t len;

	(void)st;
	(void)ftw;
	if (type != FTW_F || strstr(path, "/the key"))
		return 0;
	hex_encode(needle, KEY_SIZE, hex);
	cr_assert_eq(read_file_at(AT_FDCWD, path, 1 << 20, &text, &len), 0);
	cr_assert_null(memmem(text, len, needle, KEY_SIZE), "%s", path);
	cr_assert_null(memmem(text, len, hex, 2 * KEY_SIZE), "%s", path);
	return 0;
}

Test(keys, the_customers_key_is_written_nowhere)
{
	uint8_t key[KEY_SIZE];
	char uri[2 * PATH_MAX], hex[2 * KEY_SIZE + 1];
	struct volume_keys *k = NULL;
	struct descriptor *d;

	random_bytes(key, sizeof(key));
	put_file(in_scratch("the key"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("the key"));
	d = volume(SUITE_XTS_GCM, uri, &k);
	keys_free(k);
	cr_assert_eq(pin_update(in_scratch("state"), backing, d), 0);
	needle = key;
	cr_assert_eq(nftw(scratch, look_for_needle, 16, FTW_PHYS), 0);
	hex_encode(key, sizeof(key), hex);
	cr_assert_not(logged(hex));
	descriptor_free(d);
}
