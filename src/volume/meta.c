/* The header of an object, on disk and in memory (FORMAT.md, "The header"). */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>

#include <coffer/util.h>

#include "internal.h"

#define PROLOGUE_MAGIC "COFFEROB"

static_assert(BODY_MAX + PROLOGUE_SIZE + RECORD_OVERHEAD <= BLOCK_SIZE, "a header fits its page");
static_assert(BODY_MAX % BODY_STEP == 0, "bodies are padded to BODY_STEP");
static_assert(HEADER_TAGS * sizeof(struct block_tag) + NAMES_MAX + XATTR_INLINE <= VAR_MAX,
	      "a full file's header fits");
static_assert(NAMES_MAX + XATTR_INLINE + TARGET_INLINE <= VAR_MAX, "a full symlink's header fits");

struct meta *meta_copy(const struct meta *m, size_t var_room)
{
	size_t len = meta_var_len(m);
	struct meta *copy = malloc(sizeof(*copy) + (var_room > len ? var_room : len));

	if (copy)
		memcpy(copy, m, sizeof(*m) + len);
	return copy;
}

/* ---- on disk ---- */
static void put_time(uint8_t *seconds, uint8_t *nanoseconds, const struct timespec *t)
{
	put_le64(seconds, (uint64_t)t->tv_sec);
	put_le32(nanoseconds, (uint32_t)t->tv_nsec);
}

static int get_time(const uint8_t *seconds, const uint8_t *nanoseconds, struct timespec *t)
{
	t->tv_sec = (int64_t)get_le64(seconds);
	t->tv_nsec = get_le32(nanoseconds);
	return t->tv_nsec < 1000000000 ? 0 : -EIO;
}

static void encode_body(const struct meta *m, uint8_t *b)
{
	put_le32(b, m->mode);
	put_le32(b + 4, m->uid);
	put_le32(b + 8, m->gid);
	put_le32(b + 12, m->flags);
	put_le64(b + 16, m->rdev);
	put_le64(b + 24, m->size);
	put_le64(b + 32, m->blocks);
	put_time(b + 40, b + 72, &m->atime);
	put_time(b + 48, b + 76, &m->mtime);
	put_time(b + 56, b + 80, &m->ctime);
	put_time(b + 64, b + 84, &m->btime);
	put_le64(b + 88, m->seals);
	put_le64(b + 96, m->tag_writes);
	put_le32(b + 104, m->height);
	put_le64(b + 108, m->companion);
	put_le16(b + 116, m->tag_count);
	put_le16(b + 118, m->names_len);
	put_le16(b + 120, m->xattr_len);
	put_le16(b + 122, m->target_len);
	memcpy(b + 124, m->root, sizeof(m->root));
	memcpy(b + BODY_FIXED, m->var, meta_var_len(m));
}

static bool names_are_sound(const struct meta *m)
{
	size_t pos = 0, len, used = 0;
	const char *name;
	uint64_t dir;

	while (meta_name_next(m, &pos, &dir, &name, &len)) {
		if (len == 0 || memchr(name, '/', len) || memchr(name, 0, len))
			return false;
		used = pos;
	}
	return used == m->names_len;
}

static int decode_body(const uint8_t *b, size_t len, struct meta *m)
{
	m->mode = get_le32(b);
	m->uid = get_le32(b + 4);
	m->gid = get_le32(b + 8);
	m->flags = get_le32(b + 12);
	m->rdev = get_le64(b + 16);
	m->size = get_le64(b + 24);
	m->blocks = get_le64(b + 32);
	if (get_time(b + 40, b + 72, &m->atime) < 0 || get_time(b + 48, b + 76, &m->mtime) < 0 ||
	    get_time(b + 56, b + 80, &m->ctime) < 0 || get_time(b + 64, b + 84, &m->btime) < 0)
		return -EIO;
	m->seals = get_le64(b + 88);
	m->tag_writes = get_le64(b + 96);
	m->height = get_le32(b + 104);
	m->companion = get_le64(b + 108);
	m->tag_count = get_le16(b + 116);
	m->names_len = get_le16(b + 118);
	m->xattr_len = get_le16(b + 120);
	m->target_len = get_le16(b + 122);
	memcpy(m->root, b + 124, sizeof(m->root));
	if (m->flags & ~META_FLAGS_KNOWN || m->height > LEVELS || m->tag_count > HEADER_TAGS || m->size > INT64_MAX ||
	    m->names_len > NAMES_MAX || m->xattr_len > XATTR_INLINE || m->target_len > TARGET_INLINE ||
	    (m->target_len && m->target_len != m->size) || !IFTODT(m->mode) || m->mode & ~(mode_t)(S_IFMT | 07777) ||
	    meta_var_len(m) > len - BODY_FIXED)
		return -EIO;
	memcpy(m->var, b + BODY_FIXED, meta_var_len(m));
	return names_are_sound(m) ? 0 : -EIO;
}

/* ---- keys ---- */
bool meta_is_moving(const struct meta *m)
{
	return m->old_dek_version;
}

bool meta_needs(const struct meta *m, uint32_t scope)
{
	return m->scope == scope || (meta_is_moving(m) && m->old_scope == scope);
}

bool prologue_needs(const struct prologue *p, uint32_t scope)
{
	return p->scope == scope || (p->old_dek_version && p->old_scope == scope);
}

struct cryptor *meta_cryptor(const struct meta *m, uint64_t block, const struct volume_keys *keys)
{
	bool old = meta_is_moving(m) && block >= m->moved;

	return (meta_is_content(m) ? keys_cryptor : keys_metadata_cryptor)(keys, old ? m->old_scope : m->scope,
									   old ? m->old_dek_version : m->dek_version);
}

/* ---- the whole ---- */
static void encode_prologue(const struct meta *m, enum suite suite, uint64_t number, uint32_t key_version,
			    uint32_t body_len, uint8_t *p)
{
	memset(p, 0, PROLOGUE_SIZE);
	memcpy(p, PROLOGUE_MAGIC, 8);
	put_le16(p + 8, FORMAT_VERSION);
	put_le16(p + 10, suite);
	put_le32(p + 12, m->scope);
	put_le32(p + 16, m->dek_version);
	put_le32(p + 20, key_version);
	put_le64(p + 24, number);
	put_le32(p + 32, m->nlink);
	put_le32(p + 36, body_len);
	if (meta_is_moving(m)) {
		put_le32(p + 40, m->old_scope);
		put_le32(p + 44, m->old_dek_version);
		put_le64(p + 48, m->moved);
	}
}

int meta_encode(struct meta *m, uint64_t number, const struct volume_keys *keys, uint8_t page[static BLOCK_SIZE],
		size_t *ret_used)
{
	struct cryptor *c = meta_cryptor(m, 0, keys);
	uint8_t body[BODY_MAX];
	size_t len = (BODY_FIXED + meta_var_len(m) + BODY_STEP - 1) / BODY_STEP * BODY_STEP;
	uint32_t key_version = (uint32_t)(++m->seals >> WRITES_PER_KEY_SHIFT);

	if (!c)
		return -EACCES;
	if (len > BODY_MAX)
		return -E2BIG;
	memset(body, 0, len);
	encode_body(m, body);
	encode_prologue(m, cryptor_suite(c), number, key_version, (uint32_t)len, page);
	*ret_used = PROLOGUE_SIZE + RECORD_OVERHEAD + len;
	memset(page + *ret_used, 0, BLOCK_SIZE - *ret_used);
	return cryptor_seal_record(c, number, RECORD_HEADER, key_version, page, PROLOGUE_SIZE, body, len,
				   page + PROLOGUE_SIZE);
}

static int damaged(uint64_t number, const char *what)
{
	log_error("object %" PRIu64 ": %s", number, what);
	return -EIO;
}

int meta_peek(const uint8_t page[static BLOCK_SIZE], uint64_t number, struct prologue *ret)
{
	static const uint8_t empty[PROLOGUE_SIZE];

	if (memcmp(page, empty, PROLOGUE_SIZE) == 0)
		return -ENOENT;
	if (memcmp(page, PROLOGUE_MAGIC, 8) != 0)
		return damaged(number, "the header is not one");
	if (get_le16(page + 8) != FORMAT_VERSION)
		return damaged(number, "the header has an unknown format version");
	if (get_le64(page + 24) != number)
		return damaged(number, "the header belongs to another object");
	*ret = (struct prologue){ .scope = get_le32(page + 12),
				  .dek_version = get_le32(page + 16),
				  .nlink = get_le32(page + 32),
				  .old_scope = get_le32(page + 40),
				  .old_dek_version = get_le32(page + 44),
				  .moved = get_le64(page + 48) };
	return 0;
}

/* Whether a scope's keys are to be had for an object. */
static int check_access(const struct volume_keys *keys, uint64_t number, uint32_t scope, uint32_t dek_version)
{
	switch (keys_access(keys, scope, dek_version)) {
	case SCOPE_UNKNOWN:
		return damaged(number, "the header names a scope or DEK version that is not there");
	case SCOPE_LOCKED:
		return -EACCES;
	case SCOPE_OPEN:
	case SCOPE_FLUSHING:
		break;
	}
	return 0;
}

int meta_decode(const uint8_t page[static BLOCK_SIZE], uint64_t number, const struct volume_keys *keys,
		struct meta **ret)
{
	uint8_t body[BODY_MAX];
	uint32_t key_version = get_le32(page + 20), len = get_le32(page + 36);
	struct prologue p;
	int r = meta_peek(page, number, &p);

	if (r < 0)
		return r;
	if (len < BODY_FIXED || len > BODY_MAX || len % BODY_STEP)
		return damaged(number, "the header's length is wrong");
	r = check_access(keys, number, p.scope, p.dek_version);
	if (r == 0 && p.old_dek_version)
		r = check_access(keys, number, p.old_scope, p.old_dek_version);
	if (r < 0)
		return r;

	struct cryptor *content = keys_cryptor(keys, p.scope, p.dek_version),
		       *metadata = keys_metadata_cryptor(keys, p.scope, p.dek_version);
	struct cryptor *c = get_le16(page + 10) == cryptor_suite(content) ? content : metadata;

	if (get_le16(page + 10) != cryptor_suite(c))
		return damaged(number, "the header names another suite than its scope has");

	r = cryptor_open_record(c, number, RECORD_HEADER, key_version, page, PROLOGUE_SIZE, page + PROLOGUE_SIZE,
				RECORD_OVERHEAD + len, body);

	if (r == -EBADMSG)
		return damaged(number, "the header does not authenticate");
	if (r < 0)
		return r;

	struct meta *m = malloc(sizeof(*m) + len - BODY_FIXED);

	if (!m)
		return -ENOMEM;
	m->scope = p.scope;
	m->dek_version = p.dek_version;
	m->nlink = p.nlink;
	m->old_scope = p.old_scope;
	m->old_dek_version = p.old_dek_version;
	m->moved = p.moved;
	if (decode_body(body, len, m) < 0 || (meta_is_moving(m) ? !m->moved : m->old_scope || m->moved) ||
	    c != meta_cryptor(m, 0, keys)) {
		free(m);
		return damaged(number, "the header is authentic and makes no sense");
	}
	*ret = m;
	return 0;
}

/* ---- in memory ---- */
bool meta_is_content(const struct meta *m)
{
	return S_ISREG(m->mode) && !(m->flags & META_COMPANION);
}

/* Makes the `old` bytes at `at` in var `len` long; what follows moves. */
static void resize_part(struct meta *m, uint8_t *at, size_t old, size_t len)
{
	size_t after = meta_var_len(m) - (size_t)(at - m->var) - old;

	memmove(at + len, at + old, after);
	if (len > old)
		memset(at + old, 0, len - old);
}

int meta_set_tag_count(struct meta *m, unsigned count)
{
	if (count > HEADER_TAGS)
		return -EINVAL;
	resize_part(m, m->var, m->tag_count * sizeof(struct block_tag), count * sizeof(struct block_tag));
	m->tag_count = (uint16_t)count;
	return 0;
}

int meta_set_xattrs(struct meta *m, const uint8_t *blob, size_t len)
{
	if (len > XATTR_INLINE)
		return -E2BIG;
	resize_part(m, meta_xattrs(m), m->xattr_len, len);
	m->xattr_len = (uint16_t)len;
	if (len)
		memcpy(meta_xattrs(m), blob, len);
	return 0;
}

int meta_set_target(struct meta *m, const char *target, size_t len)
{
	if (len > TARGET_INLINE)
		return -E2BIG;
	resize_part(m, meta_target(m), m->target_len, len);
	m->target_len = (uint16_t)len;
	memcpy(meta_target(m), target, len);
	return 0;
}

bool meta_name_next(const struct meta *m, size_t *pos, uint64_t *dir, const char **name, size_t *len)
{
	const uint8_t *names = meta_names((struct meta *)(uintptr_t)m);

	if (*pos + NAME_OVERHEAD > m->names_len)
		return false;
	*dir = get_le64(names + *pos);
	*len = names[*pos + 8];
	*name = (const char *)names + *pos + NAME_OVERHEAD;
	if (*pos + NAME_OVERHEAD + *len > m->names_len)
		return false;
	*pos += NAME_OVERHEAD + *len;
	return true;
}

bool meta_name_add(struct meta *m, uint64_t dir, const char *name)
{
	size_t len = strlen(name), old = m->names_len;

	if (old + NAME_OVERHEAD + len > NAMES_MAX) {
		m->flags |= META_NAMES_PARTIAL;
		return false;
	}
	uint8_t *at = meta_names(m) + old;

	resize_part(m, at, 0, NAME_OVERHEAD + len);
	m->names_len = (uint16_t)(old + NAME_OVERHEAD + len);
	put_le64(at, dir);
	at[8] = (uint8_t)len;
	memcpy(at + NAME_OVERHEAD, name, len);
	return true;
}

void meta_name_remove(struct meta *m, uint64_t dir, const char *name)
{
	size_t pos = 0, begin = 0, len, want = strlen(name), count = 0;
	const char *listed;
	uint64_t listed_dir;

	for (; meta_name_next(m, &pos, &listed_dir, &listed, &len); begin = pos) {
		if (listed_dir != dir || len != want || memcmp(listed, name, len) != 0)
			continue;
		resize_part(m, meta_names(m) + begin, NAME_OVERHEAD + len, 0);
		m->names_len = (uint16_t)(m->names_len - NAME_OVERHEAD - len);
		break;
	}
	for (pos = 0; meta_name_next(m, &pos, &listed_dir, &listed, &len);)
		count++;
	if (count == m->nlink) /* the caller has counted the link down */
		m->flags &= ~(uint32_t)(META_NAMES_PARTIAL | META_NAME_DENIES);
}

void meta_names_clear(struct meta *m)
{
	resize_part(m, meta_names(m), m->names_len, 0);
	m->names_len = 0;
	m->flags &= ~(uint32_t)(META_NAMES_PARTIAL | META_NAME_DENIES);
}

uint64_t meta_parent(const struct meta *m)
{
	size_t pos = 0, len;
	const char *name;
	uint64_t dir;

	return meta_name_next(m, &pos, &dir, &name, &len) ? dir : 0;
}
