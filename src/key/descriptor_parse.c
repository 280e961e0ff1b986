#include "descriptor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

#include "text.h"

/* A version or a feature that we do not know says nothing about the other settings: it is looked at before all of them. */
static int check_format(struct text *t, struct descriptor *d)
{
	config_setting_t *root = text_root(t);
	char magic[sizeof(DESCRIPTOR_MAGIC)];

	text_get_string(t, root, "coffer", magic, sizeof(magic));
	text_get_u32(t, root, "format", 0, &d->format);
	text_get_u32(t, root, "features", 0, &d->features);
	if (t->error)
		return t->error;
	if (strcmp(magic, DESCRIPTOR_MAGIC)) {
		text_refuse(t, NULL, "does not describe a coffer volume");
		return t->error;
	}
	if (d->format != FORMAT_VERSION) {
		log_error(
			"%s: the volume has format version %u, this program knows version %d only; use the version of coffer that made it",
			t->what, d->format, FORMAT_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (d->features & ~(uint32_t)FEATURES_KNOWN) {
		log_error(
			"%s: the volume uses features %#x that this program does not know; use a newer version of coffer",
			t->what, d->features & ~(uint32_t)FEATURES_KNOWN);
		return -EPROTONOSUPPORT;
	}
	return 0;
}

static bool parse_suite(struct text *t, config_setting_t *group, enum suite *ret)
{
	char name[64];

	if (!text_get_string(t, group, "suite", name, sizeof(name)))
		return false;
	for (int s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		if (!strcmp(name, suite_name((enum suite)s))) {
			*ret = (enum suite)s;
			return true;
		}
	}
	text_refuse(t, config_setting_get_member(group, "suite"), "names no suite that this version of coffer knows");
	return false;
}

static void parse_wrapped_key(struct text *t, config_setting_t *group, const char *name, struct wrapped_key *ret)
{
	text_get_hex_between(t, group, name, WRAPPED_KEY_SIZE, WRAPPED_KEY_MAX, ret->bytes, &ret->len);
}

/* What is sealed for the recovery key, or nothing. */
static void parse_sealed_key(struct text *t, config_setting_t *group, const char *name, struct wrapped_key *ret)
{
	if (text_get_hex_between(t, group, name, 0, SEALED_KEY_SIZE, ret->bytes, &ret->len) && ret->len &&
	    ret->len != SEALED_KEY_SIZE)
		text_refuse(t, config_setting_get_member(group, name), "is neither empty nor a sealed key");
}

static bool parse_time(struct text *t, config_setting_t *group, const char *name, int64_t *ret)
{
	uint64_t seconds;

	if (!text_get_number(t, group, name, 0, TEXT_NUMBER_MAX, &seconds))
		return false;
	*ret = (int64_t)seconds;
	return true;
}

static void parse_deks(struct text *t, config_setting_t *group, struct scope_entry *s)
{
	config_setting_t *list = NULL;

	text_get_list(t, group, "deks", 1, DEKS_MAX, &list, &s->dek_count);
	for (size_t i = 0; i < s->dek_count && !t->error; i++) {
		config_setting_t *g = text_get_element(t, list, i);
		struct wrapped_dek *dek = &s->deks[i];

		text_get_u32(t, g, "version", 1, &dek->version);
		parse_time(t, g, "created", &dek->created);
		parse_wrapped_key(t, g, "key", &dek->dek);
		if (s->suite == SUITE_XTS_GCM)
			parse_wrapped_key(t, g, "infrastructure_key", &dek->infra);
		parse_sealed_key(t, g, "recovery_key", &dek->recovery);
		if (s->suite == SUITE_XTS_GCM)
			parse_sealed_key(t, g, "infrastructure_recovery_key", &dek->infra_recovery);
		text_finish(t, g);
		if (i && dek->version <= s->deks[i - 1].version)
			text_refuse(t, g, "the versions of a scope's keys must ascend");
	}
}

static void parse_scope(struct text *t, config_setting_t *g, struct scope_entry *s)
{
	bool enabled = true;

	text_get_u32(t, g, "number", 0, &s->number);
	text_get_string(t, g, "name", s->name, sizeof(s->name));
	parse_time(t, g, "created", &s->created);
	text_get_bool(t, g, "enabled", &enabled);
	s->disabled = !enabled;
	parse_suite(t, g, &s->suite);
	text_get_string(t, g, "key", s->key_uri, sizeof(s->key_uri));
	text_get_string(t, g, "key_id", s->kek_id, sizeof(s->kek_id));
	text_get_u32(t, g, "key_version", 1, &s->kek_version);
	if (s->suite == SUITE_XTS_GCM) {
		text_get_string(t, g, "infrastructure_id", s->infra_kek_id, sizeof(s->infra_kek_id));
		text_get_u32(t, g, "infrastructure_version", 1, &s->infra_kek_version);
	}
	parse_time(t, g, "rotated", &s->rotated);
	parse_wrapped_key(t, g, "volume_key", &s->volume_key);
	text_get_u32(t, g, "reencrypt_rate", 0, &s->reencrypt_rate);
	text_get_bool(t, g, "look_for_lost", &s->look_for_lost);
	parse_deks(t, g, s);
	text_finish(t, g);
}

static void parse_scopes(struct text *t, config_setting_t *root, struct descriptor *d)
{
	config_setting_t *list = NULL;
	size_t count = 0;

	if (!text_get_list(t, root, "scopes", 1, SCOPES_MAX, &list, &count))
		return;
	d->scopes = calloc(count, sizeof(*d->scopes));
	if (!d->scopes) {
		t->error = -ENOMEM;
		return;
	}
	d->scope_count = count;
	for (size_t i = 0; i < count && !t->error; i++) {
		config_setting_t *g = text_get_element(t, list, i);

		parse_scope(t, g, &d->scopes[i]);
		/* The default scope comes first, and lookups are by bisection. */
		if (i ? d->scopes[i].number <= d->scopes[i - 1].number : d->scopes[i].number != 0)
			text_refuse(t, g, "the numbers of scopes must ascend from 0");
	}
}

static void parse_recovery(struct text *t, config_setting_t *root, struct descriptor *d)
{
	size_t len = 0;

	parse_time(t, root, "recovery_created", &d->recovery.created);
	text_get_hex_between(t, root, "recovery_public", 0, PUBLIC_KEY_SIZE, d->recovery.public, &len);
	parse_sealed_key(t, root, "recovery_volume_key", &d->recovery.volume_key);
	if (!t->error && (len != (d->recovery.created ? PUBLIC_KEY_SIZE : 0) || !!len != !!d->recovery.volume_key.len))
		text_refuse(t, NULL, "a recovery key is there only in part");
}

int descriptor_parse(struct descriptor *d, const char *body, size_t len)
{
	AUTO_TEXT t;
	config_setting_t *root;
	int r = text_parse(&t, DESCRIPTOR_NAME, body, len);

	if (!r)
		r = check_format(&t, d);
	if (r)
		return r;
	root = text_root(&t);
	text_get_hex(&t, root, "volume", d->volume_id, sizeof(d->volume_id));
	parse_time(&t, root, "created", &d->created);
	text_get_number(&t, root, "sequence", 1, TEXT_NUMBER_MAX, &d->sequence);
	text_get_number(&t, root, "next_object", 1, TEXT_NUMBER_MAX, &d->next_object);
	text_get_bool(&t, root, "clean", &d->clean);
	text_get_number(&t, root, "epoch", 0, TEXT_NUMBER_MAX, &d->epoch);
	text_get_hex(&t, root, "epoch_salt", d->epoch_salt, sizeof(d->epoch_salt));
	text_get_u32(&t, root, "platform_version", 1, &d->platform_version);
	parse_wrapped_key(&t, root, "platform_volume_key", &d->platform_volume_key);
	parse_recovery(&t, root, d);
	parse_scopes(&t, root, d);
	text_finish(&t, root);
	return t.error;
}
