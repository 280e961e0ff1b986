/* A descriptor to store, to load and to damage. */
#ifndef COFFER_TESTS_DESCRIPTOR_FIXTURE_H
#define COFFER_TESTS_DESCRIPTOR_FIXTURE_H

#include "key_fixture.h"

#include "../../src/key/descriptor.h"

static inline struct secret *mac_key(uint8_t first)
{
	struct secret *s = secret_new(MAC_SIZE);

	cr_assert(s);
	secret_data(s)[0] = first;
	return s;
}

/* Of every length that there may be, in turn. */
static inline struct wrapped_key some_wrapped_key(void)
{
	static size_t more;
	struct wrapped_key key = { .len = WRAPPED_KEY_SIZE + more++ % (WRAPPED_KEY_MAX - WRAPPED_KEY_SIZE + 1) };

	random_bytes(key.bytes, key.len);
	return key;
}

static inline struct wrapped_key some_sealed_key(void)
{
	struct wrapped_key key = { .len = SEALED_KEY_SIZE };

	random_bytes(key.bytes, key.len);
	return key;
}

/* Two scopes of different suites, the second with every version of its DEK that there may be. */
static inline struct descriptor *sample(void)
{
	struct descriptor *d = descriptor_new(SUITE_XTS_GMAC);
	struct scope_entry *s;

	cr_assert(d);
	d->scopes = realloc(d->scopes, 2 * sizeof(*d->scopes));
	cr_assert(d->scopes);
	d->scope_count = 2;
	memset(&d->scopes[1], 0, sizeof(d->scopes[1]));
	random_bytes(d->volume_id, sizeof(d->volume_id));
	random_bytes(d->epoch_salt, sizeof(d->epoch_salt));
	d->platform_volume_key = some_wrapped_key();
	d->created = 1700000000;
	d->sequence = 41;
	d->next_object = 1ULL << 40;
	d->clean = false;
	d->epoch = 7;
	d->platform_version = 3;
	d->recovery.created = 1700000007;
	random_bytes(d->recovery.public, sizeof(d->recovery.public));
	d->recovery.volume_key = some_sealed_key();
	for (int i = 0; i < 2; i++) {
		s = &d->scopes[i];
		s->number = i ? UINT32_MAX : 0;
		strcpy(s->name, i ? "secret \"projects\" \\ \xc3\xa9\n" : "default");
		strcpy(s->key_uri, i ? "file:///etc/keys/a key" : "platform:");
		strcpy(s->kek_id, i ? "0123456789abcdef" : "platform-00");
		s->kek_version = 1 + i;
		s->suite = i ? SUITE_XTS_GCM : SUITE_XTS_GMAC;
		s->created = 1700000000 + i;
		s->rotated = 1700000100 + i;
		s->disabled = i;
		s->volume_key = some_wrapped_key();
		s->dek_count = i ? DEKS_MAX : 1;
		for (size_t v = 0; v < s->dek_count; v++) {
			s->deks[v].version = 1 + 3 * v;
			s->deks[v].created = 1700001000 + (int64_t)v;
			s->deks[v].dek = some_wrapped_key();
			if (i)
				s->deks[v].infra = some_wrapped_key();
			/* Not all of them are sealed. */
			if (v % 4 == 0)
				s->deks[v].recovery = some_sealed_key();
			if (v % 4 == 0 && i)
				s->deks[v].infra_recovery = some_sealed_key();
		}
	}
	strcpy(d->scopes[1].infra_kek_id, "infrastructure-00");
	d->scopes[1].infra_kek_version = 9;
	return d;
}

static inline int load_text(const char *text, size_t len)
{
	char *copy = malloc(len + 1);
	struct descriptor *d = NULL;
	int r;

	cr_assert(copy);
	memcpy(copy, text, len);
	copy[len] = '\0';
	r = descriptor_take(copy, len, &d);
	cr_assert_eq(r == 0, d != NULL);
	descriptor_free(d);
	return r;
}

/* The sample's text, with a last line; the MAC is not looked at when loading. */
static inline char *sample_text(size_t *ret_len)
{
	struct descriptor *d = sample();
	struct secret *key = mac_key(1);
	int fd = open_dir_at(scratch);
	char *text;

	cr_assert_eq(descriptor_store(d, fd, key), 0);
	text = d->text;
	*ret_len = d->text_len;
	d->text = NULL;
	descriptor_free(d);
	secret_free(key);
	close(fd);
	return text;
}

#endif
