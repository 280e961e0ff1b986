/* The recovery key: its text on paper, and what is sealed for it. The volume has the public half only, so that new keys join
 * by themselves, and yet nothing on the host, not even the volume key, opens what was sealed. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "keys.h"

enum { CHECK = 11, GROUP_DIGITS = 6 };

void recovery_write(const struct secret *key, char out[static RECOVERY_TEXT_SIZE])
{
	const uint8_t *bytes = secret_bytes(key);

	for (unsigned i = 0; i < RECOVERY_GROUPS; i++) {
		unsigned value = (bytes[2 * i] | (unsigned)bytes[2 * i + 1] << 8) * CHECK;
		char *group = out + i * (GROUP_DIGITS + 1);

		for (int j = GROUP_DIGITS - 1; j >= 0; j--, value /= 10)
			group[j] = (char)('0' + value % 10);
		group[GROUP_DIGITS] = i == RECOVERY_GROUPS - 1 ? '\0' : '-';
	}
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

int recovery_read(const struct secret *text, size_t len, struct secret *key, unsigned *ret_group)
{
	const uint8_t *in = secret_bytes(text);
	uint8_t *out = secret_data(key);
	unsigned groups = 0;

	for (size_t at = 0; at < len;) {
		unsigned value = 0, digits = 0;

		for (; at < len && is_digit(in[at]); at++, digits++)
			value = digits < GROUP_DIGITS ? value * 10 + (in[at] - '0') : value;
		if (!digits) {
			at++;
			continue;
		}
		*ret_group = ++groups;
		if (groups > RECOVERY_GROUPS)
			break;
		if (digits != GROUP_DIGITS || value % CHECK || value / CHECK > UINT16_MAX)
			return -EINVAL;
		out[2 * (groups - 1)] = (uint8_t)(value / CHECK);
		out[2 * (groups - 1) + 1] = (uint8_t)(value / CHECK >> 8);
	}
	*ret_group = 0;
	return groups == RECOVERY_GROUPS ? 0 : -EINVAL;
}

/* ---- sealing ---- */

int seal_dek(const struct descriptor *d, const struct scope_entry *s, struct wrapped_dek *dek, const struct secret *key,
	     const struct secret *infra)
{
	struct wrapped_key sealed = { 0 }, sealed_infra = { 0 };
	int r = 0;

	if (d->recovery.created && strcmp(s->key_uri, PROVIDED_URI) != 0) {
		r = key_seal(d->recovery.public, key, &sealed);
		if (!r && infra)
			r = key_seal(d->recovery.public, infra, &sealed_infra);
	}
	if (r)
		return r;
	dek->recovery = sealed;
	dek->infra_recovery = sealed_infra;
	return 0;
}

static int seal_scope(const struct volume_keys *k, const struct descriptor *d, struct scope_entry *s)
{
	const struct scope_keys *sk = keys_scope(k, s->number);
	bool open = keys_access(k, s->number, s->deks[0].version) == SCOPE_OPEN;
	int r = 0;

	for (size_t i = 0; i < s->dek_count && !r; i++) {
		AUTO_SECRET struct secret *dek = NULL;
		AUTO_SECRET struct secret *infra = NULL;

		if (open)
			r = unwrap_dek(k, sk->source, s, i, &dek, &infra);
		/* What an older recovery key opens goes in any case; a locked scope joins when it is unlocked. */
		s->deks[i].recovery = s->deks[i].infra_recovery = (struct wrapped_key){ 0 };
		if (!r && open)
			r = seal_dek(d, s, &s->deks[i], dek, infra);
	}
	return r;
}

int keys_join_recovery(const struct volume_keys *k, const struct descriptor *d, struct scope_entry *s, bool *ret_sealed)
{
	const struct scope_keys *sk = keys_scope(k, s->number);
	int r = 0;

	*ret_sealed = false;
	for (size_t i = 0; i < s->dek_count && !r && d->recovery.created && strcmp(s->key_uri, PROVIDED_URI); i++) {
		AUTO_SECRET struct secret *dek = NULL;
		AUTO_SECRET struct secret *infra = NULL;

		if (s->deks[i].recovery.len)
			continue;
		r = unwrap_dek(k, sk->source, s, i, &dek, &infra);
		if (!r)
			r = seal_dek(d, s, &s->deks[i], dek, infra);
		*ret_sealed = *ret_sealed || !r;
	}
	return r;
}

int keys_seal_recovery(const struct volume_keys *k, struct descriptor *d, const uint8_t public[static PUBLIC_KEY_SIZE])
{
	int r;

	d->recovery.created = time(NULL);
	memcpy(d->recovery.public, public, PUBLIC_KEY_SIZE);
	r = key_seal(public, k->volume_key, &d->recovery.volume_key);
	for (size_t i = 0; i < d->scope_count && !r; i++)
		r = seal_scope(k, d, &d->scopes[i]);
	return r;
}
