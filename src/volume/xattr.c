/* Extended attributes: a blob of (length of the name u8, length of the value u32, name, value), in the header while it is
 * short, else the content of a companion object. */
#include <errno.h>
#include <inttypes.h>
#include <sys/xattr.h>

#include <coffer/util.h>

#include "internal.h"

enum { ITEM_HEADER = 5 };
#define CAPABILITY "security.capability"

struct item {
	const char *name; /* not NUL-terminated */
	size_t name_len;
	const uint8_t *value;
	size_t size, end; /* end: offset of the next item */
};

/* The item at `pos`; false at the end, and for what makes no sense. */
static bool item_at(const uint8_t *blob, size_t len, size_t pos, struct item *ret)
{
	if (len - pos < ITEM_HEADER)
		return false;
	ret->name_len = blob[pos];
	ret->size = get_le32(blob + pos + 1);
	if (!ret->name_len || ret->name_len > len - pos - ITEM_HEADER ||
	    ret->size > len - pos - ITEM_HEADER - ret->name_len)
		return false;
	ret->name = (const char *)blob + pos + ITEM_HEADER;
	ret->value = blob + pos + ITEM_HEADER + ret->name_len;
	ret->end = pos + ITEM_HEADER + ret->name_len + ret->size;
	return true;
}

static bool find_item(const uint8_t *blob, size_t len, const char *name, size_t *ret_pos, struct item *ret)
{
	size_t want = strlen(name);

	for (size_t pos = 0; item_at(blob, len, pos, ret); pos = ret->end) {
		if (ret->name_len == want && memcmp(ret->name, name, want) == 0) {
			*ret_pos = pos;
			return true;
		}
	}
	return false;
}

const uint8_t *xattr_find(const uint8_t *blob, size_t len, const char *name, size_t *ret_size)
{
	struct item i;
	size_t pos;

	if (!find_item(blob, len, name, &pos, &i))
		return NULL;
	*ret_size = i.size;
	return i.value;
}

int blob_set(const uint8_t *blob, size_t len, const char *name, const void *value, size_t size, uint8_t **ret,
	     size_t *ret_len)
{
	size_t name_len = strlen(name), at = len, end = len;
	struct item i;

	if (find_item(blob, len, name, &at, &i))
		end = i.end;
	size_t item = value ? ITEM_HEADER + name_len + size : 0;
	uint8_t *made = malloc(len + item + 1);

	if (!made)
		return -ENOMEM;
	if (len) {
		memcpy(made, blob, at);
		memcpy(made + at, blob + end, len - end);
	}
	uint8_t *out = made + len - (end - at);

	*ret_len = len - (end - at) + item;
	if (value) {
		out[0] = (uint8_t)name_len;
		put_le32(out + 1, (uint32_t)size);
		memcpy(out + ITEM_HEADER, name, name_len);
		memcpy(out + ITEM_HEADER + name_len, value, size);
	}
	*ret = made;
	return 0;
}

/* ---- where the blob is ---- */
static int load_companion(struct volume *v, struct object *o)
{
	struct object *c;
	uint8_t *content = NULL;
	int r = object_get(v, o->m->companion, &c);

	if (r == -EACCES) /* it is on its way to another scope, and that one, or this, is locked */
		return r;
	if (r < 0) {
		log_error("object %" PRIu64 ": its extended attributes, object %" PRIu64 ", are not to be had",
			  o->number, o->m->companion);
		return -EIO;
	}
	pthread_rwlock_rdlock(&c->lock);
	size_t len = c->m->size, blocks = (len + BLOCK_SIZE - 1) / BLOCK_SIZE;

	if (!(c->m->flags & META_COMPANION) || len > XATTR_TOTAL)
		r = -EIO;
	else if (!(content = malloc(blocks * BLOCK_SIZE + 1)))
		r = -ENOMEM;
	else
		r = data_read(v, NULL, c, 0, (unsigned)blocks, content);
	pthread_rwlock_unlock(&c->lock);
	object_put(v, c);

	pthread_mutex_lock(&o->page_lock);
	if (r == 0 && !o->xattrs) {
		o->xattrs = content;
		o->xattrs_len = len;
		content = NULL;
	}
	pthread_mutex_unlock(&o->page_lock);
	free(content);
	return r;
}

/* The object's lock is the caller's; what is returned is good while it is held. Staged changes are not seen. */
int xattrs_load(struct volume *v, struct object *o, const uint8_t **ret, size_t *ret_len)
{
	if (!o->m->companion) {
		*ret = meta_xattrs(o->m);
		*ret_len = o->m->xattr_len;
		return 0;
	}
	pthread_mutex_lock(&o->page_lock);
	bool loaded = o->xattrs;

	pthread_mutex_unlock(&o->page_lock);
	int r = loaded ? 0 : load_companion(v, o);

	*ret = o->xattrs;
	*ret_len = o->xattrs_len;
	return r;
}

static int drop_companion(struct change *ch, struct object *o, struct meta *m)
{
	struct object *c;
	struct meta *cm;
	int r = change_pin(ch, m->companion, &c);

	if (r == 0)
		r = change_object(ch, c, &cm);
	if (r == 0)
		r = change_remove(ch, c);
	m->companion = 0;
	change_drop_xattrs(ch, o);
	return r;
}

static int store_companion(struct change *ch, struct object *o, struct meta *m, const uint8_t *blob, size_t len)
{
	struct object *c;
	struct meta *cm;
	int r;

	if (m->companion) {
		r = change_pin(ch, m->companion, &c);
		if (r == 0)
			r = change_object(ch, c, &cm);
	} else {
		r = change_new(ch, m, S_IFREG, META_COMPANION, &c, &cm);
		if (r == 0) {
			cm->nlink = 1;
			m->companion = c->number;
		}
	}
	change_drop_xattrs(ch, o);
	return r < 0 ? r : data_replace(ch, c, blob, len);
}

int xattrs_store(struct change *ch, struct object *o, const uint8_t *blob, size_t len)
{
	struct meta *m = change_staged(ch, o);

	if (len > XATTR_TOTAL)
		return -ENOSPC;
	if (len > XATTR_INLINE) {
		int r = meta_set_xattrs(m, NULL, 0);

		return r < 0 ? r : store_companion(ch, o, m, blob, len);
	}
	int r = m->companion ? drop_companion(ch, o, m) : 0;

	return r < 0 ? r : meta_set_xattrs(m, blob, len);
}

/* ---- operations ---- */
static int set_one(struct change *ch, struct object *o, const char *name, const void *value, size_t size, int flags)
{
	struct meta *m = change_staged(ch, o);
	const uint8_t *blob;
	uint8_t *made;
	size_t len, made_len, pos;
	struct item i;
	int r = xattrs_load(ch->v, o, &blob, &len);

	if (r < 0)
		return r;
	bool there = find_item(blob, len, name, &pos, &i);

	if (flags & XATTR_CREATE && there)
		return -EEXIST;
	if ((flags & XATTR_REPLACE || !value) && !there)
		return -ENODATA;
	r = blob_set(blob, len, name, value, size, &made, &made_len);
	if (r < 0)
		return r;
	if (!strcmp(name, CAPABILITY))
		m->flags = value ? m->flags | META_CAPABILITY : m->flags & ~(uint32_t)META_CAPABILITY;
	m->ctime = now();
	r = xattrs_store(ch, o, made, made_len);
	free(made);
	return r;
}

/* *blob: replaced, and freed if it was made here before. */
static int edit_blob(const uint8_t **blob, size_t *len, uint8_t **made, const char *name, const void *value,
		     size_t size)
{
	uint8_t *next;
	int r = blob_set(*blob, *len, name, value, size, &next, len);

	if (r < 0)
		return r;
	free(*made);
	*blob = *made = next;
	return 0;
}

/* Both at once: what is staged of the attributes is not read again. */
int xattrs_follow(struct change *ch, struct object *o, bool mode, bool content)
{
	struct meta *m = change_staged(ch, o);
	uint8_t *made = NULL, *acl = NULL;
	const uint8_t *blob, *found;
	size_t len, size;

	content = content && m->flags & META_CAPABILITY;
	if (!content && !mode)
		return 0;
	int r = xattrs_load(ch->v, o, &blob, &len);

	if (r == 0 && content) {
		m->flags &= ~(uint32_t)META_CAPABILITY;
		r = edit_blob(&blob, &len, &made, CAPABILITY, NULL, 0);
	}
	found = r == 0 && mode ? xattr_find(blob, len, ACL_ACCESS, &size) : NULL;
	if (found) {
		acl = malloc(size);
		r = acl ? 0 : -ENOMEM;
	}
	if (acl) {
		memcpy(acl, found, size);
		acl_chmod(acl, size, m->mode);
		r = edit_blob(&blob, &len, &made, ACL_ACCESS, acl, size);
	}
	if (r == 0 && made)
		r = xattrs_store(ch, o, made, len);
	free(acl);
	free(made);
	return r;
}

/* Setting the access list sets the mode; one that says no more than the mode does is not kept. */
static int set_acl(struct change *ch, struct object *o, const char *name, const void *value, size_t size, int flags,
		   bool kill_sgid)
{
	struct meta *m = change_staged(ch, o);
	int r = acl_check(value, size);

	if (r < 0)
		return r;
	if (!strcmp(name, ACL_DEFAULT) && !S_ISDIR(m->mode))
		return -EACCES;
	if (!strcmp(name, ACL_ACCESS)) {
		r = acl_to_mode(value, size, &m->mode);
		if (kill_sgid)
			m->mode &= ~(mode_t)S_ISGID;
		if (r == 1) {
			m->ctime = now();
			r = set_one(ch, o, name, NULL, 0, 0);
			return r == -ENODATA ? 0 : r;
		}
	}
	return set_one(ch, o, name, value, size, flags);
}

static bool is_acl(const char *name)
{
	return !strcmp(name, ACL_ACCESS) || !strcmp(name, ACL_DEFAULT);
}

static int change_xattr(struct volume *v, uint64_t number, const char *name, const void *value, size_t size, int flags,
			bool kill_sgid)
{
	GATE_SCOPE(v);
	struct object *o;
	struct change ch;
	struct meta *m;
	int r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	bool large = o->m->companion || size > XATTR_INLINE; /* then all of them are written again */

	pthread_rwlock_unlock(&o->lock);
	r = change_begin(v, &ch, data_payload(large ? 17 + XATTR_TOTAL / BLOCK_SIZE : 3),
			 value ? ROOM_NEW : ROOM_REMOVAL);
	if (r == 0) {
		r = change_object(&ch, o, &m);
		if (r == 0)
			r = value && is_acl(name) ? set_acl(&ch, o, name, value, size, flags, kill_sgid)
						  : set_one(&ch, o, name, value, size, flags);
		if (r == 0)
			r = change_commit(&ch);
		else
			change_abort(&ch);
	}
	object_put(v, o);
	return r;
}

/* The namespaces of local file systems (xattr(7)). */
static bool is_known(const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++)
		if (!strncmp(name, spaces[i], strlen(spaces[i])))
			return name[strlen(spaces[i])];
	return is_acl(name);
}

int volume_setxattr(struct volume *v, uint64_t object, const char *name, const void *value, size_t size, int flags,
		    bool kill_sgid)
{
	if (size > VOLUME_XATTR_MAX)
		return -E2BIG;
	if (strlen(name) > 255 || !*name)
		return -ERANGE;
	if (!is_known(name))
		return -EOPNOTSUPP;
	return change_xattr(v, object, name, value ? value : "", size, flags, kill_sgid);
}

int volume_removexattr(struct volume *v, uint64_t object, const char *name)
{
	int r = is_known(name) ? change_xattr(v, object, name, NULL, 0, 0, false) : -EOPNOTSUPP;

	/* Local file systems do not mind removing an access control list that is not there. */
	return r == -ENODATA && is_acl(name) ? 0 : r;
}

/* Calls for the blob of an object, under its lock. */
static ssize_t with_blob(struct volume *v, uint64_t number,
			 ssize_t (*call)(const uint8_t *blob, size_t len, const char *name, void *buf, size_t size),
			 const char *name, void *buf, size_t size)
{
	GATE_SCOPE(v);
	const uint8_t *blob;
	struct object *o;
	size_t len;
	ssize_t r = object_get(v, number, &o);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&o->lock);
	r = o->removed ? -ESTALE : xattrs_load(v, o, &blob, &len);
	if (r == 0)
		r = call(blob, len, name, buf, size);
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return r;
}

static ssize_t get_value(const uint8_t *blob, size_t len, const char *name, void *buf, size_t size)
{
	size_t have;
	const uint8_t *value = xattr_find(blob, len, name, &have);

	if (!value)
		return -ENODATA;
	if (size && size < have)
		return -ERANGE;
	if (size && have)
		memcpy(buf, value, have);
	return (ssize_t)have;
}

/* Leaves out names that begin with `hidden`, which may be NULL. */
static ssize_t get_list(const uint8_t *blob, size_t len, const char *hidden, void *buf, size_t size)
{
	size_t used = 0, prefix = hidden ? strlen(hidden) : 0;
	struct item i;

	for (size_t pos = 0; item_at(blob, len, pos, &i); pos = i.end) {
		if (prefix && i.name_len >= prefix && memcmp(i.name, hidden, prefix) == 0)
			continue;
		if (size && used + i.name_len + 1 > size)
			return -ERANGE;
		if (size) {
			memcpy((char *)buf + used, i.name, i.name_len);
			((char *)buf)[used + i.name_len] = 0;
		}
		used += i.name_len + 1;
	}
	return (ssize_t)used;
}

ssize_t volume_getxattr(struct volume *v, uint64_t object, const char *name, void *buf, size_t size)
{
	return is_known(name) ? with_blob(v, object, get_value, name, buf, size) : -EOPNOTSUPP;
}

ssize_t volume_listxattr(struct volume *v, uint64_t object, bool trusted, char *buf, size_t size)
{
	return with_blob(v, object, get_list, trusted ? NULL : "trusted.", buf, size);
}
