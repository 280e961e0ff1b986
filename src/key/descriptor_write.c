#include "descriptor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <coffer/util.h>

#include "text.h"

static void write_wrapped_key(struct text *t, config_setting_t *group, const char *name, const struct wrapped_key *key)
{
	if (key->len < WRAPPED_KEY_SIZE || key->len > WRAPPED_KEY_MAX)
		text_refuse(t, NULL, "a wrapped key of no possible length cannot be stored");
	else
		text_put_hex(t, group, name, key->bytes, key->len);
}

static void write_sealed_key(struct text *t, config_setting_t *group, const char *name, const struct wrapped_key *key)
{
	if (key->len && key->len != SEALED_KEY_SIZE)
		text_refuse(t, NULL, "a sealed key of no possible length cannot be stored");
	else
		text_put_hex(t, group, name, key->bytes, key->len);
}

static void write_scope(struct text *t, config_setting_t *list, const struct scope_entry *s)
{
	bool infra = s->suite == SUITE_XTS_GCM;
	const char *suite = suite_name(s->suite);
	config_setting_t *g = text_put_element(t, list), *deks;

	if (!suite || s->created < 0 || s->dek_count < 1 || s->dek_count > DEKS_MAX) {
		text_refuse(t, NULL, "a scope without suite, time of creation or keys cannot be stored");
		return;
	}
	text_put_number(t, g, "number", s->number);
	text_put_string(t, g, "name", s->name);
	text_put_number(t, g, "created", (uint64_t)s->created);
	text_put_bool(t, g, "enabled", !s->disabled);
	text_put_string(t, g, "suite", suite);
	text_put_string(t, g, "key", s->key_uri);
	text_put_string(t, g, "key_id", s->kek_id);
	text_put_number(t, g, "key_version", s->kek_version);
	if (infra) {
		text_put_string(t, g, "infrastructure_id", s->infra_kek_id);
		text_put_number(t, g, "infrastructure_version", s->infra_kek_version);
	}
	text_put_number(t, g, "rotated", (uint64_t)s->rotated);
	write_wrapped_key(t, g, "volume_key", &s->volume_key);
	text_put_number(t, g, "reencrypt_rate", s->reencrypt_rate);
	text_put_bool(t, g, "look_for_lost", s->look_for_lost);
	deks = text_put_list(t, g, "deks");
	for (size_t i = 0; i < s->dek_count; i++) {
		const struct wrapped_dek *dek = &s->deks[i];

		g = text_put_element(t, deks);
		text_put_number(t, g, "version", dek->version);
		text_put_number(t, g, "created", (uint64_t)dek->created);
		write_wrapped_key(t, g, "key", &dek->dek);
		if (infra)
			write_wrapped_key(t, g, "infrastructure_key", &dek->infra);
		write_sealed_key(t, g, "recovery_key", &dek->recovery);
		if (infra)
			write_sealed_key(t, g, "infrastructure_recovery_key", &dek->infra_recovery);
	}
}

static void write_settings(struct text *t, const struct descriptor *d)
{
	config_setting_t *root = text_root(t), *scopes;

	text_put_string(t, root, "coffer", DESCRIPTOR_MAGIC);
	text_put_number(t, root, "format", d->format);
	text_put_number(t, root, "features", d->features);
	text_put_hex(t, root, "volume", d->volume_id, sizeof(d->volume_id));
	text_put_number(t, root, "created", (uint64_t)d->created); /* a negative one is too large, and refused */
	text_put_number(t, root, "sequence", d->sequence);
	text_put_number(t, root, "next_object", d->next_object);
	text_put_bool(t, root, "clean", d->clean);
	text_put_number(t, root, "epoch", d->epoch);
	text_put_hex(t, root, "epoch_salt", d->epoch_salt, sizeof(d->epoch_salt));
	text_put_number(t, root, "platform_version", d->platform_version);
	write_wrapped_key(t, root, "platform_volume_key", &d->platform_volume_key);
	text_put_number(t, root, "recovery_created", (uint64_t)d->recovery.created);
	text_put_hex(t, root, "recovery_public", d->recovery.public, d->recovery.created ? PUBLIC_KEY_SIZE : 0);
	write_sealed_key(t, root, "recovery_volume_key", &d->recovery.volume_key);
	scopes = text_put_list(t, root, "scopes");
	for (size_t i = 0; i < d->scope_count; i++)
		write_scope(t, scopes, &d->scopes[i]);
}

int descriptor_write(const struct descriptor *d, char **ret_body, size_t *ret_len)
{
	AUTO_TEXT t;
	AUTO_FREE char *body = NULL;
	size_t len = 0;
	FILE *out;

	text_start(&t, DESCRIPTOR_NAME);
	write_settings(&t, d);
	out = open_memstream(&body, &len);
	if (!out)
		return -ENOMEM;
	text_write(&t, out);
	if (fclose(out) && !t.error)
		t.error = -ENOMEM;
	if (t.error)
		return t.error;
	*ret_body = body;
	*ret_len = len;
	body = NULL;
	return 0;
}
