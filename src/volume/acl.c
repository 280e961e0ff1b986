/* POSIX access control lists as the kernel hands them over: version 2 (u32), then entries of tag u16, permissions u16, id u32,
 * little-endian. The rules are those of POSIX.1e draft 17, section 23.1, as the kernel's own file systems apply them. */
#include <errno.h>

#include <coffer/util.h>

#include "internal.h"

enum {
	ACL_VERSION = 2,
	ACL_HEADER = 4,
	ACL_ENTRY = 8,
	TAG_USER_OBJ = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OBJ = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHER = 0x20,
};

static unsigned acl_count(size_t len)
{
	return (unsigned)((len - ACL_HEADER) / ACL_ENTRY);
}

static unsigned entry_tag(const uint8_t *acl, unsigned i)
{
	return get_le16(acl + ACL_HEADER + i * ACL_ENTRY);
}

static unsigned entry_perm(const uint8_t *acl, unsigned i)
{
	return get_le16(acl + ACL_HEADER + i * ACL_ENTRY + 2);
}

static void set_perm(uint8_t *acl, unsigned i, unsigned perm)
{
	put_le16(acl + ACL_HEADER + i * ACL_ENTRY + 2, (uint16_t)perm);
}

int acl_check(const uint8_t *acl, size_t len)
{
	unsigned owners = 0, groups = 0, others = 0, masks = 0, named = 0;

	if (len < ACL_HEADER || (len - ACL_HEADER) % ACL_ENTRY || get_le32(acl) != ACL_VERSION)
		return -EINVAL;
	for (unsigned i = 0; i < acl_count(len); i++) {
		unsigned tag = entry_tag(acl, i);

		if (entry_perm(acl, i) & ~7u)
			return -EINVAL;
		owners += tag == TAG_USER_OBJ;
		groups += tag == TAG_GROUP_OBJ;
		others += tag == TAG_OTHER;
		masks += tag == TAG_MASK;
		named += tag == TAG_USER || tag == TAG_GROUP;
	}
	return owners == 1 && groups == 1 && others == 1 && masks <= 1 && (!named || masks) &&
			       owners + groups + others + masks + named == acl_count(len)
		       ? 0
		       : -EINVAL;
}

int acl_to_mode(const uint8_t *acl, size_t len, mode_t *mode)
{
	mode_t bits = 0;
	int plain = 1;

	for (unsigned i = 0; i < acl_count(len); i++) {
		unsigned perm = entry_perm(acl, i);

		switch (entry_tag(acl, i)) {
		case TAG_USER_OBJ:
			bits |= perm << 6;
			break;
		case TAG_GROUP_OBJ:
			bits |= plain ? perm << 3 : 0; /* the mask, where there is one, is the group's mode bits */
			break;
		case TAG_MASK:
			bits = (bits & ~(mode_t)070) | perm << 3;
			plain = 0;
			break;
		case TAG_OTHER:
			bits |= perm;
			break;
		default:
			plain = 0;
		}
	}
	for (unsigned i = 0; i < acl_count(len); i++) /* whatever the order of entries */
		if (entry_tag(acl, i) == TAG_MASK)
			bits = (bits & ~(mode_t)070) | entry_perm(acl, i) << 3;
	*mode = (*mode & ~(mode_t)0777) | bits;
	return plain;
}

/* The entry that the group's mode bits stand for. */
static unsigned group_class(const uint8_t *acl, size_t len)
{
	unsigned group = 0;

	for (unsigned i = 0; i < acl_count(len); i++) {
		if (entry_tag(acl, i) == TAG_MASK)
			return i;
		if (entry_tag(acl, i) == TAG_GROUP_OBJ)
			group = i;
	}
	return group;
}

void acl_chmod(uint8_t *acl, size_t len, mode_t mode)
{
	for (unsigned i = 0; i < acl_count(len); i++) {
		if (entry_tag(acl, i) == TAG_USER_OBJ)
			set_perm(acl, i, mode >> 6 & 7);
		if (entry_tag(acl, i) == TAG_OTHER)
			set_perm(acl, i, mode & 7);
	}
	set_perm(acl, group_class(acl, len), mode >> 3 & 7);
}

int acl_inherit(const uint8_t *acl, size_t len, mode_t *mode, struct acl_pair *ret)
{
	if (acl_check(acl, len) < 0)
		return -EIO;

	uint8_t *access = malloc(len), *copy = malloc(len);

	if (!access || !copy) {
		free(access);
		free(copy);
		return -ENOMEM;
	}
	memcpy(access, acl, len);
	memcpy(copy, acl, len);

	/* Owner, group class and others are cut to what the creator asked for, and the mode to what is left. */
	unsigned group = group_class(acl, len);
	mode_t bits = 0;

	for (unsigned i = 0; i < acl_count(len); i++) {
		unsigned shift = entry_tag(acl, i) == TAG_USER_OBJ ? 6 : entry_tag(acl, i) == TAG_OTHER ? 0 : 3;

		if (shift == 3 && i != group)
			continue;
		set_perm(access, i, entry_perm(acl, i) & (*mode >> shift & 7));
		bits |= entry_perm(access, i) << shift;
	}
	*mode = (*mode & ~(mode_t)0777) | bits;

	mode_t ignored = 0;

	if (acl_to_mode(access, len, &ignored) == 1) {
		free(access);
		access = NULL;
	}
	*ret = (struct acl_pair){ access, copy, access ? len : 0, len };
	return 0;
}
