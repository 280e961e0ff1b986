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

int seal_dek(const struct recovery *recovery, const struct scope_entry *s, struct wrapped_dek *dek,
	     const struct secret *key, const struct secret *infra)
{
	struct wrapped_key sealed = { 0 }, sealed_infra = { 0 };
	int r = 0;

	if (recovery->created && strcmp(s->key_uri, PROVIDED_URI) != 0) {
		r = key_seal(recovery->public, key, &sealed);
		if (!r && infra)
			r = key_seal(recovery->public, infra, &sealed_infra);
	}
	if (r)
		return r;
	dek->recovery = sealed;
	dek->infra_recovery = sealed_infra;
	return 0;
}

static int join(const struct volume_keys *k, struct opened_source *source, const struct recovery *recovery,
		struct scope_entry *s, bool *ret_sealed)
{
	int r = 0;

	for (size_t i = 0; i < s->dek_count && !r; i++) {
		AUTO_SECRET struct secret *dek = NULL;
		AUTO_SECRET struct secret *infra = NULL;

		if (s->deks[i].recovery.len)
			continue;
		r = unwrap_dek(k, source, s, i, &dek, &infra);
		if (!r)
			r = seal_dek(recovery, s, &s->deks[i], dek, infra);
		*ret_sealed = *ret_sealed || !r;
	}
	return r;
}

int keys_join_recovery(const struct volume_keys *k, struct opened_source *source, const struct recovery *recovery,
		       struct scope_entry *s, bool *ret_sealed)
{
	int r;

	*ret_sealed = false;
	if (!recovery->created || !strcmp(s->key_uri, PROVIDED_URI))
		return 0;
	if (source)
		pthread_mutex_lock(&source->lock);
	r = join(k, source, recovery, s, ret_sealed);
	if (source)
		pthread_mutex_unlock(&source->lock);
	return r;
}

/* What an older recovery key opens. */
void keys_leave_recovery(struct scope_entry *s)
{
	for (size_t i = 0; i < s->dek_count; i++)
		s->deks[i].recovery = s->deks[i].infra_recovery = (struct wrapped_key){ 0 };
}

int keys_seal_recovery(const struct volume_keys *k, const uint8_t public[static PUBLIC_KEY_SIZE], struct recovery *ret)
{
	ret->created = time(NULL);
	memcpy(ret->public, public, PUBLIC_KEY_SIZE);
	return key_seal(public, k->volume_key, &ret->volume_key);
}
