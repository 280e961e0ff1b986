/* What the results of operations bring. Nothing of a key is believed but what its attributes say. */
#include "kmip_answer.h"

#include <errno.h>
#include <string.h>

static int need_our_id(struct reading *r, const struct field *f)
{
	char id[KMIP_ID_SIZE];

	if (!f->found || ttlv_text(&f->item, id, sizeof(id)) || strcmp(id, r->q->key))
		return kmip_fail(r->a, -EPROTO, "its answer is about another key");
	return 0;
}

bool kmip_is_usable_id(const char *id)
{
	for (const char *c = id; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '"' || *c == '\\' || *c == '@')
			return false;
	return id[0];
}

/* ---- payloads: `c` is inside of the batch item, `i` is the payload ---- */

static int read_versions(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct ttlv_cursor inner;
	struct ttlv_item item;
	int e = kmip_enter(r->a, c, i, &inner);

	while (!e && (e = kmip_next(r->a, &inner, &item)) > 0) {
		struct field v[] = { { TAG_VERSION_MAJOR }, { TAG_VERSION_MINOR } };
		int32_t major = 0, minor = 0;

		e = 0;
		if (item.tag != TAG_VERSION)
			continue;
		e = kmip_collect(r->a, &inner, &item, v, 2);
		if (!e)
			e = kmip_need_integer(r->a, &v[0], &major);
		if (!e)
			e = kmip_need_integer(r->a, &v[1], &minor);
		if (!e && major == 1 && minor >= KMIP_MINOR_MIN && minor <= KMIP_MINOR_MAX &&
		    (unsigned)minor > r->a->minor)
			r->a->minor = (unsigned)minor;
	}
	if (!e && !r->a->minor)
		e = kmip_fail(r->a, -EPROTONOSUPPORT, "it knows none of the KMIP versions 1.%d to 1.%d", KMIP_MINOR_MIN,
			      KMIP_MINOR_MAX);
	return e;
}

static int read_located(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct ttlv_cursor inner;
	struct ttlv_item item;
	char id[KMIP_ID_SIZE];
	int e = kmip_enter(r->a, c, i, &inner);

	while (!e && (e = kmip_next(r->a, &inner, &item)) > 0) {
		e = 0;
		if (item.tag != TAG_UNIQUE_ID)
			continue;
		if (ttlv_text(&item, id, sizeof(id)) || !kmip_is_usable_id(id))
			return kmip_fail(r->a, -EPROTO,
					 "it has a key with an identifier that is too long or has unusual characters");
		if (!r->a->found++)
			memcpy(r->a->id, id, sizeof(id));
	}
	return e;
}

static const char *state_name(uint32_t state)
{
	static const char *const names[] = { "in no state",          "Pre-Active",  "Active",
					     "Deactivated",          "Compromised", "Destroyed",
					     "Destroyed Compromised" };

	return state < sizeof(names) / sizeof(*names) ? names[state] : "in an unknown state";
}

/* A value of the attribute Name, which lies in the structure that `c` walks through. */
static int read_name(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i, bool *ret_ours)
{
	struct field f[] = { { TAG_NAME_VALUE }, { TAG_NAME_TYPE } };
	char name[KMIP_NAME_SIZE];
	uint32_t type = 0;
	int e = kmip_collect(r->a, c, i, f, 2);

	if (!e)
		e = kmip_need_enum(r->a, &f[1], &type);
	if (!e && !f[0].found)
		e = kmip_malformed(r->a, "a field is missing");
	*ret_ours = !e && type == NAME_IS_TEXT && !ttlv_text(&f[0].item, name, sizeof(name)) &&
		    !strcmp(name, r->q->name);
	return e;
}

/* `named`: as the request says that a Deactivated key must be. */
static int check_attributes(struct reading *r, const struct field values[static ATTRIBUTES], bool named)
{
	uint32_t type, algorithm, state;
	int32_t bits;
	int e = kmip_need_enum(r->a, &values[ATTRIBUTE_STATE], &state);

	r->a->deactivated = !e && state == STATE_DEACTIVATED && named;
	if (!e && state != STATE_ACTIVE && !r->a->deactivated)
		return kmip_fail(r->a, -EACCES, "the key is not Active but %s", state_name(state));
	if (!e)
		e = kmip_need_enum(r->a, &values[ATTRIBUTE_TYPE], &type);
	if (!e && type != OBJECT_SYMMETRIC_KEY)
		return kmip_fail(r->a, -EINVAL, "it is not a symmetric key");
	if (!e)
		e = kmip_need_enum(r->a, &values[ATTRIBUTE_ALGORITHM], &algorithm);
	if (!e)
		e = kmip_need_integer(r->a, &values[ATTRIBUTE_LENGTH], &bits);
	if (!e && (algorithm != ALGORITHM_AES || bits != 8 * KEY_SIZE))
		return kmip_fail(r->a, -EINVAL, "it is not an AES key of 256 bits");
	return e;
}

static int read_attributes(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct field id = { TAG_UNIQUE_ID }, values[ATTRIBUTES] = { { 0 } };
	struct ttlv_cursor inner;
	struct ttlv_item item;
	bool named = false;
	int e = kmip_collect(r->a, c, i, &id, 1);

	if (!e)
		e = need_our_id(r, &id);
	if (!e)
		e = kmip_enter(r->a, c, i, &inner);
	while (!e && (e = kmip_next(r->a, &inner, &item)) > 0) {
		struct field f[] = { { TAG_ATTRIBUTE_NAME }, { TAG_ATTRIBUTE_VALUE } };
		struct ttlv_cursor in_attribute = kmip_within(&inner);
		bool ours = false;
		char name[64];

		e = 0;
		if (item.tag != TAG_ATTRIBUTE)
			continue;
		e = kmip_collect(r->a, &inner, &item, f, 2);
		if (!e && (!f[0].found || !f[1].found))
			e = kmip_malformed(r->a, "an attribute without name or value");
		if (e || ttlv_text(&f[0].item, name, sizeof(name)))
			continue;
		if (r->q->name && !strcmp(name, KMIP_NAME)) {
			e = read_name(r, &in_attribute, &f[1].item, &ours);
			named = named || ours;
		}
		for (unsigned n = 0; n < ATTRIBUTES && !e; n++) {
			if (strcmp(name, kmip_attribute_names[n]))
				continue;
			if (values[n].found)
				e = kmip_malformed(r->a, "an attribute comes twice");
			values[n] = f[1];
		}
	}
	return e ? e : check_attributes(r, values, named);
}

/* Takes the bytes of a key into the answer. */
static int take_key(struct reading *r, const struct field *f)
{
	int e = kmip_need_bytes(r->a, f, KEY_SIZE);

	if (e)
		return e;
	r->a->key = secret_new(KEY_SIZE);
	if (!r->a->key)
		return kmip_fail(r->a, -ENOMEM, "no locked memory is left");
	memcpy(secret_data(r->a->key), f->item.value, KEY_SIZE);
	return 0;
}

static int read_key_value(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i, uint32_t format)
{
	struct field material = { TAG_KEY_MATERIAL }, key = { TAG_KEY };
	struct ttlv_cursor inner = kmip_within(c);
	int e = kmip_collect(r->a, c, i, &material, 1);

	if (e || format == FORMAT_RAW)
		return e ? e : take_key(r, &material);
	if (format != FORMAT_TRANSPARENT_SYMMETRIC)
		return kmip_fail(r->a, -EINVAL, "it gives the key in a format that was not asked for");
	if (!material.found)
		return kmip_malformed(r->a, "a field is missing");
	e = kmip_collect(r->a, &inner, &material.item, &key, 1);
	return e ? e : take_key(r, &key);
}

static int read_key_block(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct field f[] = { { TAG_KEY_FORMAT }, { TAG_KEY_VALUE },       { TAG_ALGORITHM },
			     { TAG_LENGTH },     { TAG_KEY_COMPRESSION }, { TAG_KEY_WRAPPING_DATA } };
	struct ttlv_cursor inner = kmip_within(c);
	uint32_t format = 0, algorithm = ALGORITHM_AES;
	int32_t bits = 8 * KEY_SIZE;
	int e = kmip_collect(r->a, c, i, f, sizeof(f) / sizeof(*f));

	if (!e)
		e = kmip_need_enum(r->a, &f[0], &format);
	if (!e && !f[1].found)
		e = kmip_malformed(r->a, "a key block without a key");
	/* The attributes said the same; a key block may leave them out. */
	if (!e && f[2].found)
		e = kmip_need_enum(r->a, &f[2], &algorithm);
	if (!e && f[3].found)
		e = kmip_need_integer(r->a, &f[3], &bits);
	if (!e && (algorithm != ALGORITHM_AES || bits != 8 * KEY_SIZE))
		e = kmip_malformed(r->a, "the key block contradicts the key's attributes");
	if (!e && (f[4].found || f[5].found))
		e = kmip_fail(r->a, -EINVAL, "it gives the key compressed or wrapped");
	return e ? e : read_key_value(r, &inner, &f[1].item, format);
}

static int read_got(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct field f[] = { { TAG_OBJECT_TYPE }, { TAG_UNIQUE_ID }, { TAG_SYMMETRIC_KEY } };
	struct field block = { TAG_KEY_BLOCK };
	struct ttlv_cursor in_payload = kmip_within(c), in_key = kmip_within(&in_payload);
	uint32_t type = 0;
	int e = kmip_collect(r->a, c, i, f, 3);

	if (!e)
		e = kmip_need_enum(r->a, &f[0], &type);
	if (!e)
		e = need_our_id(r, &f[1]);
	if (!e && (type != OBJECT_SYMMETRIC_KEY || !f[2].found))
		e = kmip_malformed(r->a, "another object than a symmetric key");
	if (!e)
		e = kmip_collect(r->a, &in_payload, &f[2].item, &block, 1);
	if (!e && !block.found)
		e = kmip_malformed(r->a, "a key without a key block");
	return e ? e : read_key_block(r, &in_key, &block.item);
}

static int read_encrypted(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct field f[] = { { TAG_UNIQUE_ID }, { TAG_DATA }, { TAG_NONCE }, { TAG_AEAD_TAG } };
	uint8_t *out = r->a->wrapped.bytes;
	int e = kmip_collect(r->a, c, i, f, 4);

	if (!e)
		e = need_our_id(r, &f[0]);
	if (!e)
		e = kmip_need_bytes(r->a, &f[1], KEY_SIZE);
	if (!e && f[2].found)
		e = kmip_need_bytes(r->a, &f[2], NONCE_SIZE);
	if (!e && f[2].found && memcmp(f[2].item.value, r->q->nonce, NONCE_SIZE))
		e = kmip_fail(r->a, -EOPNOTSUPP, "it encrypts with another nonce than it was given");
	if (!e)
		e = kmip_need_bytes(r->a, &f[3], TAG_SIZE);
	if (e)
		return e;
	memcpy(out, r->q->nonce, NONCE_SIZE);
	memcpy(out + NONCE_SIZE, f[3].item.value, TAG_SIZE);
	memcpy(out + NONCE_SIZE + TAG_SIZE, f[1].item.value, KEY_SIZE);
	r->a->wrapped.len = KMIP_WRAPPED_SIZE;
	return 0;
}

static int read_decrypted(struct reading *r, const struct ttlv_cursor *c, const struct ttlv_item *i)
{
	struct field f[] = { { TAG_UNIQUE_ID }, { TAG_DATA } };
	int e = kmip_collect(r->a, c, i, f, 2);

	if (!e)
		e = need_our_id(r, &f[0]);
	return e ? e : take_key(r, &f[1]);
}

int kmip_read_payload(struct reading *r, enum kmip_operation operation, const struct ttlv_cursor *c,
		      const struct ttlv_item *i)
{
	switch (operation) {
	case OPERATION_DISCOVER_VERSIONS:
		return read_versions(r, c, i);
	case OPERATION_LOCATE:
		return read_located(r, c, i);
	case OPERATION_GET_ATTRIBUTES:
		return read_attributes(r, c, i);
	case OPERATION_GET:
		return read_got(r, c, i);
	case OPERATION_ENCRYPT:
		return read_encrypted(r, c, i);
	case OPERATION_DECRYPT:
		return read_decrypted(r, c, i);
	}
	return -EPROTO;
}
