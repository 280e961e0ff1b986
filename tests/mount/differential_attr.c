/* Differential test: attributes, extended attributes and ACLs. */
#include "differential.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

static unsigned char value[MAX_XATTR];

/* xattr calls have no *at form: go through the root's descriptor. */
static void full_path(struct state *state, int side, const struct args *args, char path[static 2 * PATH_MAX])
{
	snprintf(path, 2 * PATH_MAX, "/proc/self/fd/%d/%s", state->root[side], args->path);
}

static bool choose_chmod(struct state *state, struct args *args)
{
	args->mode = draw_chance(state, 60) ? 0755 : draw_below(state, 010000);
	return choose_node(state, args, ~(1U << KIND_SYMLINK));
}

static void run_chmod(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, fchmodat(state->root[side], args->path, args->mode, 0));
}

static uid_t draw_id(struct state *state)
{
	switch (draw_below(state, 4)) {
	case 0:
		return (uid_t)-1; /* leave it */
	case 1:
		return (uid_t)draw_below(state, UINT32_MAX);
	default:
		return 1000 + (uid_t)draw_below(state, 3);
	}
}

static bool choose_chown(struct state *state, struct args *args)
{
	args->uid = draw_id(state);
	args->gid = draw_id(state);
	/* Changing neither still drops set-user-ID on a native file system; the kernel tells a FUSE one nothing of it. */
	if (args->uid == (uid_t)-1 && args->gid == (gid_t)-1)
		args->uid = 1000;
	return choose_node(state, args, ~0U);
}

static void run_chown(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, fchownat(state->root[side], args->path, args->uid, args->gid, AT_SYMLINK_NOFOLLOW));
}

/* Explicit times lie outside of the years round now, see time_text(). */
static struct timespec draw_time(struct state *state)
{
	struct timespec when = { .tv_nsec = (long)draw_below(state, 1000000000) };

	switch (draw_below(state, 5)) {
	case 0:
		when.tv_nsec = UTIME_NOW;
		break;
	case 1:
		when.tv_nsec = UTIME_OMIT;
		break;
	case 2:
		when.tv_sec = -(time_t)draw_below(state, 2147483648U); /* before 1970 */
		break;
	case 3:
		when.tv_sec = 2200000000 + (time_t)draw_below(state, 10000000000U); /* past 2038 */
		break;
	default:
		when.tv_sec = (time_t)draw_below(state, 1000000000);
	}
	return when;
}

static bool choose_times(struct state *state, struct args *args)
{
	args->times[0] = draw_time(state);
	args->times[1] = draw_time(state);
	return choose_node(state, args, ~0U);
}

static void run_times(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, utimensat(state->root[side], args->path, args->times, AT_SYMLINK_NOFOLLOW));
}

static void draw_key(struct state *state, char key[static NAME_MAX + 1])
{
	static const char *const spaces[] = { "user.", "user.", "user.", "trusted.", "security." };
	size_t pad = draw_chance(state, 3) ? 200 + draw_below(state, 45) : 0;

	snprintf(key, NAME_MAX + 1, "%s%0*u", spaces[draw_below(state, 5)], (int)pad, (unsigned)draw_below(state, 6));
}

static bool choose_setxattr(struct state *state, struct args *args)
{
	draw_key(state, args->key);
	args->fill = draw(state);
	args->length = draw_below(state, draw_chance(state, 90) ? 300 : 5000);
	if (draw_chance(state, 2))
		args->length = MAX_XATTR - draw_below(state, 2) * draw_below(state, 4000);
	args->flags = draw_chance(state, 20) ? XATTR_CREATE : draw_chance(state, 20) ? XATTR_REPLACE : 0;
	return choose_node(state, args, ~0U);
}

static void run_setxattr(struct state *state, int side, const struct args *args, struct result *result)
{
	char path[2 * PATH_MAX];

	full_path(state, side, args, path);
	fill_buffer(value, args->length, args->fill);
	result_set(result, lsetxattr(path, args->key, value, args->length, args->flags));
}

static bool choose_getxattr(struct state *state, struct args *args)
{
	draw_key(state, args->key);
	/* Asking for the size, with too little room, and with room enough. */
	args->length = draw_chance(state, 20) ? 0 : draw_chance(state, 20) ? 20 : MAX_XATTR;
	return choose_node(state, args, ~0U);
}

static void run_getxattr(struct state *state, int side, const struct args *args, struct result *result)
{
	char path[2 * PATH_MAX];
	ssize_t length;

	full_path(state, side, args, path);
	length = lgetxattr(path, args->key, value, args->length);
	result_set(result, length);
	if (length > 0 && args->length)
		snprintf(result->text, TEXT, "sum %016lx", (unsigned long)hash_buffer(value, (size_t)length));
}

static void run_removexattr(struct state *state, int side, const struct args *args, struct result *result)
{
	char path[2 * PATH_MAX];

	full_path(state, side, args, path);
	result_set(result, lremovexattr(path, args->key));
}

/* xfs shows its ACLs a second time under names of its own. */
static void run_listxattr(struct state *state, int side, const struct args *args, struct result *result)
{
	ssize_t length, asked, shown = 0;
	char path[2 * PATH_MAX];
	uint64_t sum = 0;

	full_path(state, side, args, path);
	length = llistxattr(path, (char *)value, MAX_XATTR);
	for (ssize_t at = 0, next; at < length; at = next) {
		next = at + (ssize_t)strlen((char *)value + at) + 1;
		if (strncmp((char *)value + at, "trusted.SGI_ACL", 15) == 0)
			continue;
		sum += hash_buffer(value + at, (size_t)(next - at));
		shown += next - at;
	}
	result_set(result, length < 0 ? -1 : shown);
	/* Asking for the size, or with too little room. */
	asked = llistxattr(path, (char *)value, args->length);
	snprintf(result->text, TEXT, "sum %016lx %s", (unsigned long)sum,
		 args->length && length > (ssize_t)args->length ? (asked < 0 && errno == ERANGE ? "" : "no ERANGE")
		 : asked == length                              ? ""
								: "another length");
}

/* The kernel's form of an ACL: version 2, then entries {tag, permissions, id}, ordered by tag and id. */
struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

static size_t make_acl(const struct args *args, unsigned char data[static 256])
{
	const struct {
		uint16_t tag;
		uint32_t id;
	} all[] = { { 0x01, UINT32_MAX }, { 0x02, 1000 }, { 0x02, 1001 },       { 0x04, UINT32_MAX },
		    { 0x08, 1000 },       { 0x08, 1002 }, { 0x10, UINT32_MAX }, { 0x20, UINT32_MAX } };
	uint32_t version = htole32(2);
	size_t length = sizeof(version);
	bool minimal = args->fill >> 40 & 1;

	memcpy(data, &version, sizeof(version));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct acl_entry entry = { htole16(all[i].tag), htole16(args->fill >> (3 * i) & 7),
					   htole32(all[i].id) };

		if (minimal && (all[i].tag == 0x02 || all[i].tag == 0x08 || all[i].tag == 0x10))
			continue;
		memcpy(data + length, &entry, sizeof(entry));
		length += sizeof(entry);
	}
	return length;
}

static bool choose_acl(struct state *state, struct args *args)
{
	bool preset = draw_chance(state, 40);

	snprintf(args->key, sizeof(args->key), "system.posix_acl_%s", preset ? "default" : "access");
	args->fill = draw(state);
	return choose_node(state, args, preset && draw_chance(state, 90) ? 1U << KIND_DIR : ~(1U << KIND_SYMLINK));
}

static void run_setacl(struct state *state, int side, const struct args *args, struct result *result)
{
	char path[2 * PATH_MAX];
	unsigned char data[256];

	full_path(state, side, args, path);
	result_set(result, lsetxattr(path, args->key, data, make_acl(args, data), 0));
}

static bool choose_getacl(struct state *state, struct args *args)
{
	args->length = MAX_XATTR;
	return choose_acl(state, args);
}

/* A valid security.capability (version 2): writing, truncating and chown remove it. */
static bool choose_setcap(struct state *state, struct args *args)
{
	return choose_node(state, args, 1U << KIND_FILE);
}

static void run_setcap(struct state *state, int side, const struct args *args, struct result *result)
{
	const uint32_t caps[5] = { htole32(0x02000001), htole32(1U << 10), 0, 0, 0 };
	char path[2 * PATH_MAX];

	full_path(state, side, args, path);
	result_set(result, lsetxattr(path, "security.capability", caps, sizeof(caps), 0));
}

const struct op attr_ops[] = {
	{ "chmod", 45, choose_chmod, run_chmod, NULL },
	{ "chown", 35, choose_chown, run_chown, NULL },
	{ "utimens", 30, choose_times, run_times, NULL },
	{ "setxattr", 55, choose_setxattr, run_setxattr, NULL },
	{ "getxattr", 35, choose_getxattr, run_getxattr, NULL },
	{ "removexattr", 20, choose_getxattr, run_removexattr, NULL },
	{ "listxattr", 15, choose_getxattr, run_listxattr, NULL },
	{ "setacl", 25, choose_acl, run_setacl, NULL },
	{ "getacl", 15, choose_getacl, run_getxattr, NULL },
	{ "removeacl", 6, choose_acl, run_removexattr, NULL },
	{ "setcap", 4, choose_setcap, run_setcap, NULL },
	{ 0 },
};
