/* The volume of the tamper test: what is in it, and making it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <coffer/util.h>

#include <coffer/volume_keys.h>

#include "../../src/volume/internal.h"
#include "tamper.h"

enum {
	FOLDER = 4096,     /* objects in a folder below */
	SECOND_FOLDER = 4, /* the directory from which on objects are in the second */
};

static struct node *add(enum kind kind, int parent, const char *name, mode_t mode)
{
	must(shared->count < NODES, "room for nodes");
	struct node *n = &shared->nodes[shared->count++];

	*n = (struct node){ .kind = kind, .parent = parent, .mode = mode, .alias_of = -1 };
	snprintf(n->name, sizeof(n->name), "%s", name);
	return n;
}

static struct node *add_numbered(enum kind kind, unsigned variant, const char *prefix, mode_t mode)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%u", prefix, variant);
	struct node *n = add(kind, 0, name, mode);

	n->variant = variant;
	return n;
}

static void add_run(struct node *n, uint64_t first, uint64_t count)
{
	n->runs[n->run_count++] = (struct run){ first, count };
	n->size = (first + count) * BLOCK_SIZE - 100 - n->variant; /* ends within its last block */
}

static void plan_small(unsigned i)
{
	struct node *n = add_numbered(K_SMALL, i, "small", S_IFREG | 0640);

	n->inline_xattr = i % 3 == 0;
	switch (i % 4) {
	case 0:
		add_run(n, 0, 1);
		break;
	case 1:
		add_run(n, 0, 5);
		break;
	case 2:
		add_run(n, 0, 3);
		add_run(n, 8, HEADER_TAGS - 8);
		break;
	default:
		add_run(n, 2, 20);
	}
}

static void plan_large(unsigned i)
{
	struct node *n = add_numbered(K_LARGE, i, "large", S_IFREG | 0600);

	add_run(n, 0, 2);
	add_run(n, HEADER_TAGS - 2, 6);
	add_run(n, LARGE_MARK - 1, 24);
	add_run(n, geometry_group_first(1) - 2, 4);
	add_run(n, geometry_group_first(3), 3); /* the third group stays a hole */
}

static void plan_map(unsigned i)
{
	struct node *n = add_numbered(K_MAP, i, "map", S_IFREG | 0600);

	add_run(n, 0, 1);
	add_run(n, HEADER_TAGS + 3, 2);
	add_run(n, geometry_group_first(ROOT_BITS + 40) + 5, 2);
	if (i % 2)
		add_run(n, geometry_group_first(MAP_FANOUT + 7) - 1, 3);
}

static void plan_dir(unsigned i)
{
	int dir = (int)shared->count;

	add_numbered(K_DIR, i, "dir", S_IFDIR | 0750);
	for (unsigned j = 0; j < DIR_ENTRIES; j++) {
		struct node *n = add(K_ENTRY, dir, "", S_IFREG | 0400);

		memset(n->name, 'a' + (int)(j % 26), DIR_NAME);
		n->name[DIR_NAME] = 0;
		n->name[snprintf(n->name, 32, "entry %u of %u ", j, i)] = '-';
		n->variant = j;
		n->dir_block = j / PER_BLOCK;
	}
}

void plan_world(void)
{
	shared->count = 0;
	add(K_ROOT, 0, "", S_IFDIR | 0755);
	for (unsigned i = 0; i < 16; i++)
		plan_small(i);
	for (unsigned i = 0; i < 12; i++)
		plan_large(i);
	for (unsigned i = 0; i < 8; i++)
		plan_map(i);
	for (unsigned i = 0; i < 16; i++) {
		struct node *n = add_numbered(K_XATTR, i, "attributes", S_IFREG | 0644);

		n->big_xattr = n->inline_xattr = true;
		add_run(n, 0, 1);
	}
	for (unsigned i = 0; i < 12; i++) {
		struct node *n = add_numbered(K_LINK, i, "link", S_IFLNK | 0777);

		if (i % 2)
			n->runs[n->run_count++] = (struct run){ 0, 1 };
	}
	for (unsigned i = 0; i < 8; i++) {
		static const mode_t types[] = { S_IFCHR, S_IFIFO, S_IFSOCK, S_IFBLK };
		struct node *n = add_numbered(K_SPECIAL, i, "special", types[i % 4] | 0660);

		if (S_ISCHR(n->mode) || S_ISBLK(n->mode))
			n->rdev = makedev(10 + i, 200 + i);
	}
	add_numbered(K_ALIAS, 0, "alias", S_IFREG | 0640)->alias_of = 1; /* of small0 */
	add_numbered(K_WORK, 0, "work", S_IFDIR | 0700);
	for (unsigned i = 0; i < 8; i++)
		plan_dir(i);
}

bool has_block(const struct node *n, uint64_t block)
{
	for (unsigned i = 0; i < n->run_count; i++)
		if (block - n->runs[i].first < n->runs[i].count)
			return true;
	return false;
}

static void fill(uint64_t seed, uint8_t *out, size_t len)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL | 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (uint8_t)(x >> 32);
	}
}

void content_of(unsigned node, uint64_t block, uint8_t out[static 4096])
{
	const struct node *n = &shared->nodes[node];

	memset(out, 0, BLOCK_SIZE);
	if (!has_block(n, block) || block * BLOCK_SIZE >= n->size)
		return;
	uint64_t left = n->size - block * BLOCK_SIZE;

	fill(node << 24 ^ block, out, left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE);
}

size_t xattr_of(unsigned node, bool big, uint8_t out[static BIG_XATTR])
{
	size_t len = big ? BIG_XATTR : 100;

	fill(node << 24 ^ 0xa77a ^ big, out, len);
	return len;
}

void target_of(const struct node *n, char out[static LONG_TARGET + 1])
{
	size_t len = n->run_count ? LONG_TARGET : 50;

	for (size_t i = 0; i < len; i++)
		out[i] = (char)('a' + (i * 7 + n->variant) % 26);
	out[len] = 0;
}

void backing_path(const char *volume, uint64_t number, char out[static PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/objects/%03" PRIx64 "/%03x", volume, number >> 12, (unsigned)(number & 0xfff));
}

void headers_path(const char *volume, uint64_t number, char out[static PATH_MAX])
{
	snprintf(out, PATH_MAX, "%s/objects/%03" PRIx64 "/headers", volume, number >> 12);
}

off_t header_place(uint64_t number)
{
	return (off_t)(number % FOLDER * BLOCK_SIZE);
}

/* ---- making ---- */
static void write_runs(struct volume *v, unsigned node, const struct node *n)
{
	for (unsigned i = 0; i < n->run_count; i++) {
		uint64_t off = n->runs[i].first * BLOCK_SIZE, len = n->runs[i].count * BLOCK_SIZE;
		uint8_t *data = malloc(len);

		must(data, "memory");
		for (uint64_t b = 0; b < n->runs[i].count; b++)
			content_of(node, n->runs[i].first + b, data + b * BLOCK_SIZE);
		if (len > n->size - off)
			len = n->size - off;
		must(volume_write(v, n->number, off, len, data, false) == 0, "writing");
		free(data);
	}
}

static void make_node(struct volume *v, unsigned i)
{
	static uint8_t value[BIG_XATTR];
	struct node *n = &shared->nodes[i];
	struct caller c = { .uid = 1000 + i, .gid = 2000 + i };
	uint64_t parent = shared->nodes[n->parent].number;
	char target[LONG_TARGET + 1];
	struct attr a;

	if (n->kind == K_ALIAS) {
		must(volume_link(v, shared->nodes[n->alias_of].number, parent, n->name, &a) == 0, "linking");
		n->number = a.st.st_ino;
		return;
	}
	target_of(n, target);
	must(volume_make(v, &c, parent, n->name, n->mode, n->rdev, S_ISLNK(n->mode) ? target : NULL, &a) == 0,
	     "making");
	n->number = a.st.st_ino;
	if (n->inline_xattr)
		must(volume_setxattr(v, n->number, "user.short", value, xattr_of(i, false, value), 0, false) == 0,
		     "attribute");
	if (n->big_xattr) {
		must(volume_setxattr(v, n->number, "user.long", value, xattr_of(i, true, value), 0, false) == 0,
		     "attribute");
		n->companion = n->number + 1;
	}
	if (S_ISREG(n->mode))
		write_runs(v, i, n);
	struct stat times = { .st_mtim = { 1000000000 + i, 123456789 } };

	must(volume_setattr(v, n->number, &times, SET_MTIME, &a) == 0, "times");
}

/* Uses up the numbers of the first folder below, and the first of the second: so there are objects in both, some of them at
 * the same place. */
static void next_folder(struct volume *v)
{
	struct caller c = { 0 };
	struct attr a = { 0 };

	while (a.st.st_ino <= FOLDER) {
		must(volume_make(v, &c, ROOT_OBJECT, "gone", S_IFREG | 0600, 0, NULL, &a) == 0 &&
			     volume_unlink(v, ROOT_OBJECT, "gone") == 0,
		     "using up a number");
		volume_forget(v, a.st.st_ino, 1);
	}
}

static bool move_one(struct volume *v, uint64_t number, bool all)
{
	struct prologue p;
	struct rekey_target t = { 0, keys_current_version(v->keys, 0) };
	bool done = false;
	unsigned blocks;

	do
		must(rekey_piece(v, number, &t, true, &done, &blocks) == 0, "moving to another key");
	while (all && !done);
	must(object_peek(v, number, &p) == 0, "a header");
	return p.old_dek_version;
}

/* In the midst of being rewritten under a new key, for good, since nobody goes on with it: some objects are under the old one, some
 * under the new one, and others, where they are large enough, in part. */
static void begin_to_rewrite(struct volume *v)
{
	unsigned moving = 0;

	must(volume_reencrypt(v, 0, 0) == 0, "a new key");
	for (unsigned i = 0; i < shared->count; i++) {
		const struct node *n = &shared->nodes[i];

		if (n->kind == K_ALIAS || i % 3 == 0)
			continue;
		moving += move_one(v, n->number, i % 3 == 1);
		if (n->companion)
			(void)move_one(v, n->companion, i % 2);
	}
	must(moving > 5, "objects that are moved in part");
}

/* What was made, as the volume says right away: times, and blocks. All else is compared with the plan by every check. */
static void look_at_world(struct volume *v)
{
	for (unsigned i = 0; i < shared->count; i++) {
		struct attr a;

		must(volume_getattr(v, shared->nodes[i].number, &a) == 0, "attributes");
		shared->nodes[i].st = a.st;
	}
}

void make_world(void *path)
{
	struct volume *v;
	AUTO_CLOSE int fd = -1;

	must(mkdir(path, 0700) == 0, "directory of the volume");
	fd = open(path, O_RDONLY | O_DIRECTORY);
	must(volume_create(fd, setup.suite, NULL, NULL, setup.state) == 0, "creating the volume");
	must(open_volume(path, false, &v) == 0, "opening the volume");
	shared->nodes[0].number = ROOT_OBJECT;
	for (unsigned i = 1; i < shared->count; i++) {
		if (shared->nodes[i].kind == K_DIR && shared->nodes[i].variant == SECOND_FOLDER)
			next_folder(v);
		make_node(v, i);
	}
	begin_to_rewrite(v);
	must(volume_close(v) == 0, "closing the volume");
	must(open_volume(path, true, &v) == 0, "opening the volume again");
	look_at_world(v);
	must(volume_close(v) == 0, "closing the volume again");
}
