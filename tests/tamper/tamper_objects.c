/* Changes of objects' files. Many are tried on one copy, each on objects of its own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "../../src/store/geometry.h"
#include "tamper.h"

enum op { FLIP, ZERO, ONES, NOISE, OPS };
static const char *const op_names[] = { "bit flipped", "zeroed", "set to ones", "noise" };

/* Copies of the volume that are being changed, and what was done to each. */
enum { COPIES = 256 };
static struct copy {
	char path[PATH_MAX];
	struct damage damage[NODES];
} * copies[COPIES];
static unsigned copy_count;
static struct copy *copy; /* where a node was last taken */

/* ---- batches ---- */
static void flush(void)
{
	for (unsigned i = 0; i < copy_count; i++) {
		memcpy(shared->damage, copies[i]->damage, sizeof(shared->damage));
		run_copy(copies[i]->path, "objects");
		remove_tree(copies[i]->path);
		free(copies[i]);
	}
	copy_count = 0;
	copy = NULL;
}

static void begin(void)
{
	if (copy_count == COPIES)
		flush();
	copy = calloc(1, sizeof(*copy));
	must(copy, "memory");
	snprintf(copy->path, sizeof(copy->path), "%s", fresh_copy(setup.world));
	copies[copy_count++] = copy;
}

/* A node of that kind and variant (any: -1; those alike modulo `step`) that nothing was done to yet in the current copy. */
static int find_node(enum kind kind, int variant, int step, int but)
{
	for (int i = 0; i < (int)shared->count; i++) {
		const struct node *n = &shared->nodes[i];

		if (n->kind == kind && i != but && !copy->damage[i].used && !(kind == K_SMALL && n->variant == 0) &&
		    (variant < 0 || (int)n->variant % step == variant))
			return i;
	}
	return -1;
}

/* One or two of them (`b` may be NULL), in the first copy that has them. */
static void take_two(enum kind kind, int variant, int step, int *a, int *b)
{
	bool fresh = false;

	for (unsigned i = 0;; i++) {
		if (i >= copy_count) {
			must(!fresh, "a node to be changed");
			begin();
			fresh = true;
			i = copy_count - 1;
		}
		copy = copies[i];
		*a = find_node(kind, variant, step, -1);
		if (*a >= 0 && b)
			*b = find_node(kind, variant, step, *a);
		if (*a >= 0 && (!b || *b >= 0))
			break;
	}
	copy->damage[*a].used = true;
	if (b)
		copy->damage[*b].used = true;
}

static int take(enum kind kind, int variant, int step)
{
	int a;

	take_two(kind, variant, step, &a, NULL);
	return a;
}

static void path_in(const char *volume, int node, bool companion, char out[static PATH_MAX])
{
	const struct node *n = &shared->nodes[node];

	backing_path(volume, companion ? n->companion : n->number, out);
}

static int open_file(int node, bool companion)
{
	char path[PATH_MAX];

	path_in(copy->path, node, companion, path);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	must(fd >= 0, path);
	return fd;
}

/* After a change: finds what it touches, and names it. */
static void done(int node, bool companion, const char *label, const char *what)
{
	char before[PATH_MAX], after[PATH_MAX];
	struct damage *d = &copy->damage[node];

	path_in(setup.world, node, companion, before);
	path_in(copy->path, node, companion, after);
	shared->damage[node] = *d;
	add_damage(node, companion, before, after);
	*d = shared->damage[node];
	snprintf(d->label, sizeof(d->label), "%s%s, %s", companion ? "companion's " : "", label, what);
	setup.cases++;
}

/* ---- bytes ---- */
static void apply(int fd, uint64_t off, size_t len, enum op op)
{
	uint8_t *bytes = malloc(len);

	must(bytes, "memory");
	memset(bytes, 0, len);
	must(pread(fd, bytes, len, (off_t)off) >= 0, "reading a backing file");
	if (op == FLIP)
		bytes[len / 2] ^= (uint8_t)(1 << setup.cases % 8);
	else if (op == NOISE)
		for (size_t i = 0; i < len; i++)
			bytes[i] ^= (uint8_t)(i * 37 + 11);
	else
		memset(bytes, op == ZERO ? 0 : 0xff, len);
	must(pwrite_all(fd, bytes, len, (off_t)off) == 0, "writing a backing file");
	free(bytes);
}

struct place {
	const char *label;
	uint64_t off;
	size_t len;
};

static void try_places(enum kind kind, int variant, int step, bool companion, const struct place *places, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (enum op op = 0; op < OPS; op++) {
			if (!wanted(places[i].label))
				continue;
			int node = take(kind, variant, step);
			AUTO_CLOSE int fd = open_file(node, companion);

			apply(fd, places[i].off, places[i].len, op);
			done(node, companion, places[i].label, op_names[op]);
		}
	}
}
#define TRY(kind, variant, step, companion, places) \
	try_places(kind, variant, step, companion, places, sizeof(places) / sizeof((places)[0]))

static const struct place header_places[] = {
	{ "header: magic", 0, 8 },
	{ "header: format version", 8, 2 },
	{ "header: suite", 10, 2 },
	{ "header: scope", 12, 4 },
	{ "header: DEK version", 16, 4 },
	{ "header: key version", 20, 4 },
	{ "header: object number", 24, 8 },
	{ "header: link count", 32, 4 },
	{ "header: length", 36, 4 },
	{ "header: reserved", 40, 24 },
	{ "header: whole prologue", 0, 64 },
	{ "header: nonce", 64, 12 },
	{ "header: tag", 76, 16 },
	{ "header: mode", 92, 4 },
	{ "header: owner", 96, 8 },
	{ "header: size", 92 + 24, 8 },
	{ "header: times", 92 + 40, 48 },
	{ "header: root map", 92 + 124, 32 },
	{ "header: end of the body", 92 + 240, 16 },
	{ "header: whole record", 64, 284 },
	{ "header: last bytes of the page", 4032, 64 },
	{ "header: whole page", 0, 4096 },
};

static uint64_t at_page(uint64_t page)
{
	return page * BLOCK_SIZE;
}

static void small_places(void)
{
	static const struct place tags[] = {
		{ "header: tags of blocks", 92 + 176, 64 },
		{ "header: nonce of a block", 92 + 176, 12 },
		{ "header: key version of a block", 92 + 176 + 28, 4 },
	};
	static const struct place data[] = {
		{ "data: first byte", 4096, 1 },
		{ "data: last byte", 2 * 4096 - 1, 1 },
		{ "data: a cipher block", 4096 + 160, 16 },
		{ "data: whole block", 4096, 4096 },
		{ "data: another block", 3 * 4096, 4096 },
	};
	static const struct place holes[] = {
		{ "hole: bytes planted", 6 * 4096 + 100, 50 },
		{ "hole: block planted", 6 * 4096, 4096 },
		{ "past the end: planted", 40 * 4096, 8192 },
	};

	TRY(K_SMALL, -1, 1, false, header_places);
	TRY(K_SMALL, -1, 1, false, tags);
	TRY(K_SMALL, 1, 4, false, data);
	TRY(K_SMALL, 2, 4, false, holes);
}

static void large_places(void)
{
	uint64_t first = at_page(geometry_meta_page(1, 0)), second = at_page(geometry_meta_page(1, 1));
	uint64_t fourth = at_page(geometry_meta_page(1, 3)), third = at_page(geometry_meta_page(1, 2));
	const struct place places[] = {
		{ "tag page: nonce of a block", first + 9 * 32, 12 },
		{ "tag page: tag of a block", first + 9 * 32 + 12, 16 },
		{ "tag page: key version of a block", first + 9 * 32 + 28, 4 },
		{ "tag page: entry of a hole", first + 100 * 32, 32 },
		{ "tag page: nonce of the trailer", first + PAGE_BODY, 12 },
		{ "tag page: tag of the trailer", first + PAGE_BODY + 12, 16 },
		{ "tag page: key version of the trailer", first + PAGE_BODY + 28, 4 },
		{ "tag page: reserved bytes", first + PAGE_BODY + 32, 32 },
		{ "tag page: whole", first, 4096 },
		{ "tag page: second, whole", second, 4096 },
		{ "tag page: last, whole", fourth, 4096 },
		{ "tag page: planted in a hole", third, 4096 },
		{ "map page: planted where none is", first - 4096, 4096 },
		{ "data: block of a long write", at_page(geometry_page(LARGE_MARK)), 4096 },
		{ "data: cipher block of a long write", at_page(geometry_page(LARGE_MARK + 3)) + 512, 16 },
		{ "data: block of the header's", at_page(geometry_page(31)), 4096 },
		{ "data: first block with a tag page", at_page(geometry_page(32)), 4096 },
		{ "data: last block of a group", at_page(geometry_page(geometry_group_first(1) - 1)), 4096 },
		{ "data: last block", at_page(geometry_page(geometry_group_first(3) + 2)), 4096 },
		{ "hole: block planted in a group", at_page(geometry_page(120)), 4096 },
	};

	TRY(K_LARGE, -1, 1, false, places);
	TRY(K_LARGE, -1, 1, false, header_places);
}

static void map_places(void)
{
	uint64_t group = ROOT_BITS + 40, map = at_page(geometry_meta_page(2, 0));
	const struct place places[] = {
		{ "map page: a bit that is set", map + group / 8, 1 },
		{ "map page: bits that are not set", map + 500, 8 },
		{ "map page: first bits", map, 8 },
		{ "map page: trailer", map + PAGE_BODY, 32 },
		{ "map page: reserved bytes", map + PAGE_BODY + 32, 32 },
		{ "map page: whole", map, 4096 },
		{ "map page: tag page under it", at_page(geometry_meta_page(1, group)), 4096 },
		{ "map page: data under it", at_page(geometry_page(geometry_group_first(group) + 5)), 4096 },
	};
	const struct place second[] = {
		{ "second map page: whole", at_page(geometry_meta_page(2, 1)), 4096 },
		{ "second map page: trailer", at_page(geometry_meta_page(2, 1)) + PAGE_BODY, 32 },
		{ "second map page: tag page under it", at_page(geometry_meta_page(1, MAP_FANOUT + 7)), 4096 },
	};

	TRY(K_MAP, -1, 1, false, places);
	TRY(K_MAP, 1, 2, false, second);
}

static void other_places(void)
{
	static const struct place record[] = {
		{ "header: attributes", 92 + 200, 32 },
	};
	static const struct place data[] = {
		{ "data: a cipher block", 4096 + 160, 16 },
		{ "data: whole block", 4096, 4096 },
		{ "data: start of a block", 4096, 8 },
	};
	static const struct place later[] = {
		{ "data: a later block", 3 * 4096, 4096 },
		{ "data: a cipher block of a later block", 2 * 4096 + 212, 16 },
	};

	TRY(K_XATTR, -1, 1, true, header_places);
	TRY(K_XATTR, -1, 1, true, data);
	TRY(K_XATTR, -1, 1, true, later);
	TRY(K_XATTR, -1, 1, false, header_places);
	TRY(K_LINK, -1, 1, false, header_places);
	TRY(K_LINK, 1, 2, false, data);
	TRY(K_LINK, 0, 2, false, record);
	TRY(K_SPECIAL, -1, 1, false, header_places);
	TRY(K_DIR, -1, 1, false, header_places);
	TRY(K_DIR, -1, 1, false, data);
	TRY(K_DIR, -1, 1, false, later);
	TRY(K_ENTRY, -1, 1, false, header_places);
}

/* The root: everything is behind it, but by its number. */
static void root_places(void)
{
	static const struct place places[] = {
		{ "header: root's magic", 0, 8 },
		{ "header: root's body", 92, 64 },
		{ "header: root's page", 0, 4096 },
		{ "data: root's first block", 4096, 4096 },
		{ "data: cipher block of the root", 4096 + 320, 16 },
	};

	TRY(K_ROOT, -1, 1, false, places);
}

/* ---- pages and sizes ---- */
static void truncate_files(enum kind kind, const uint64_t *sizes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char what[64];

		if (!wanted("file cut off"))
			continue;
		int node = take(kind, -1, 1);
		AUTO_CLOSE int fd = open_file(node, false);
		struct stat st;

		snprintf(what, sizeof(what), "to %llu bytes", (unsigned long long)sizes[i]);
		must(fstat(fd, &st) == 0, "fstat");
		if ((uint64_t)st.st_size > sizes[i])
			must(ftruncate(fd, (off_t)sizes[i]) == 0, "cutting off");
		done(node, false, "file cut off", what);
	}
}

static void cut_and_punch(void)
{
	uint64_t last = at_page(geometry_page(geometry_group_first(3)));
	const uint64_t small[] = { 0, 1, 63, 64, 91, 100, 300, 700, 4000, 4096, 4097, 8191, 8192, 12288 };
	const uint64_t large[] = { 0,
				   4096,
				   at_page(32),
				   at_page(33),
				   at_page(geometry_meta_page(1, 0)),
				   at_page(geometry_meta_page(1, 0)) + 4096,
				   at_page(geometry_meta_page(1, 1)) + 2000,
				   last,
				   last + 4096,
				   last + 3 * 4096 - 1 };
	const uint64_t pages[] = { 0,
				   1,
				   31,
				   geometry_meta_page(1, 0),
				   geometry_page(LARGE_MARK),
				   geometry_page(LARGE_MARK + 1),
				   geometry_meta_page(1, 1),
				   geometry_page(geometry_group_first(1)),
				   geometry_meta_page(1, 3),
				   geometry_page(geometry_group_first(3)) };

	truncate_files(K_SMALL, small, sizeof(small) / sizeof(small[0]));
	truncate_files(K_LARGE, large, sizeof(large) / sizeof(large[0]));
	truncate_files(K_DIR, small + 8, 6);
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (!wanted("page punched"))
			continue;
		int node = take(K_LARGE, -1, 1);
		AUTO_CLOSE int fd = open_file(node, false);
		char what[64];

		snprintf(what, sizeof(what), "page %llu", (unsigned long long)pages[i]);
		must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at_page(pages[i]), BLOCK_SIZE) ==
			     0,
		     "punching");
		done(node, false, "page punched", what);
	}
}

static void swap_pages(int fd, uint64_t a, int other, uint64_t b, bool both)
{
	uint8_t one[BLOCK_SIZE], two[BLOCK_SIZE];

	must(pread_all(fd, one, BLOCK_SIZE, (off_t)at_page(a), NULL) == 0, "reading a page");
	must(pread_all(other, two, BLOCK_SIZE, (off_t)at_page(b), NULL) == 0, "reading a page");
	must(pwrite_all(fd, two, BLOCK_SIZE, (off_t)at_page(a)) == 0, "writing a page");
	if (both)
		must(pwrite_all(other, one, BLOCK_SIZE, (off_t)at_page(b)) == 0, "writing a page");
}

static const struct swap {
	enum kind kind;
	const char *label;
	unsigned level_a, level_b; /* 0: a data block, 9: the page itself */
	uint64_t a, b;
} swaps[] = {
	{ K_SMALL, "blocks of the header", 0, 0, 2, 3 },
	{ K_LARGE, "blocks", 0, 0, LARGE_MARK, LARGE_MARK + 1 },
	{ K_LARGE, "blocks of two groups", 0, 0, LARGE_MARK, 159 },
	{ K_LARGE, "block of the header and of a group", 0, 0, 31, LARGE_MARK },
	{ K_LARGE, "tag pages", 1, 1, 0, 1 },
	{ K_LARGE, "last tag pages", 1, 1, 1, 3 },
	{ K_LARGE, "tag page and block", 1, 0, 0, LARGE_MARK },
	{ K_LARGE, "header and block", 9, 0, 0, 1 },
	{ K_LARGE, "header and tag page", 9, 1, 0, 0 },
	{ K_LARGE, "block moved into a hole", 0, 0, LARGE_MARK, 120 },
	{ K_LARGE, "tag page of a hole", 1, 1, 1, 2 },
	{ K_MAP, "map page and tag page", 2, 1, 0, ROOT_BITS + 40 },
	{ K_DIR, "blocks of a directory", 0, 0, 0, 1 },
	{ K_DIR, "last blocks of a directory", 0, 0, 1, 2 },
};

static uint64_t page_of(unsigned level, uint64_t index)
{
	return level == 9 ? index : level ? geometry_meta_page(level, index) : geometry_page(index);
}

static void swap_within(void)
{
	for (size_t i = 0; i < sizeof(swaps) / sizeof(swaps[0]); i++) {
		const struct swap *s = &swaps[i];

		if (!wanted("swapped within a file"))
			continue;
		for (int once = 0; once < 2; once++) {
			int node = take(s->kind, s->kind == K_SMALL ? 1 : -1, s->kind == K_SMALL ? 4 : 1);
			AUTO_CLOSE int fd = open_file(node, false);

			swap_pages(fd, page_of(s->level_a, s->a), fd, page_of(s->level_b, s->b), once == 0);
			done(node, false, once ? "copied within a file" : "swapped within a file", s->label);
		}
	}
}

static void swap_between(void)
{
	for (size_t i = 0; i < sizeof(swaps) / sizeof(swaps[0]); i++) {
		const struct swap *s = &swaps[i];
		int a, b;

		if (!wanted("swapped between files"))
			continue;
		for (int same = 0; same < 2; same++) { /* the same place of both, and different ones */
			take_two(s->kind, s->kind == K_SMALL ? 1 : -1, s->kind == K_SMALL ? 4 : 1, &a, &b);
			AUTO_CLOSE int one = open_file(a, false);
			AUTO_CLOSE int two = open_file(b, false);
			uint64_t page = page_of(s->level_a, s->a);

			swap_pages(one, page, two, same ? page : page_of(s->level_b, s->b), true);
			done(a, false, "swapped between files", s->label);
			done(b, false, "swapped between files", s->label);
		}
		/* A page of the same object and place, in another volume whose key has the same source. */
		a = take(s->kind, s->kind == K_SMALL ? 1 : -1, s->kind == K_SMALL ? 4 : 1);
		AUTO_CLOSE int one = open_file(a, false);
		char path[PATH_MAX];

		path_in(setup.foreign, a, false, path);
		AUTO_CLOSE int other = open(path, O_RDONLY | O_CLOEXEC);

		swap_pages(one, page_of(s->level_a, s->a), other, page_of(s->level_a, s->a), false);
		done(a, false, "page of another volume", s->label);
	}
}

/* ---- whole files ---- */
static void mark_lost(int node, bool companion, const char *label)
{
	struct damage *d = &copy->damage[node];

	d->used = d->noticed = true;
	*(companion ? &d->xattrs : &d->whole) = true;
	snprintf(d->label, sizeof(d->label), "%s%s", companion ? "companion's " : "", label);
	setup.cases++;
}

static void whole_files(enum kind kind, bool companion)
{
	char one[PATH_MAX], two[PATH_MAX], command[3 * PATH_MAX];
	int a, b;

	if (!wanted("file "))
		return;
	take_two(kind, kind == K_MAP ? 1 : -1, kind == K_MAP ? 2 : 1, &a, &b);
	path_in(copy->path, a, companion, one);
	path_in(copy->path, b, companion, two);
	must(renameat2(AT_FDCWD, one, AT_FDCWD, two, 2 /* RENAME_EXCHANGE */) == 0, "exchanging files");
	mark_lost(a, companion, "file swapped with another");
	mark_lost(b, companion, "file swapped with another");

	take_two(kind, -1, 1, &a, &b);
	path_in(copy->path, a, companion, one);
	path_in(copy->path, b, companion, two);
	must(unlink(two) == 0 && link(one, two) == 0, "linking files");
	mark_lost(b, companion, "file replaced by a link to another");

	a = take(kind, -1, 1);
	path_in(copy->path, a, companion, one);
	must(unlink(one) == 0, "removing a file");
	mark_lost(a, companion, "file removed");

	a = take(kind, -1, 1);
	path_in(copy->path, a, companion, one);
	path_in(setup.foreign, a, companion, two);
	snprintf(command, sizeof(command), "cp --sparse=auto '%s' '%s'", two, one);
	must(system(command) == 0, "copying a file");
	mark_lost(a, companion, "file of another volume");
}

static void not_files(void)
{
	char path[PATH_MAX];

	for (int i = 0; i < 5; i++) {
		static const char *const labels[] = { "file is a FIFO", "file is a directory",
						      "file is a dangling link", "file is a link to itself",
						      "file is a device" };

		if (!wanted(labels[i]))
			continue;
		int node = take(K_SMALL, -1, 1);

		path_in(copy->path, node, false, path);
		must(unlink(path) == 0, "removing a file");
		if (i == 0)
			must(mkfifo(path, 0600) == 0, "mkfifo");
		else if (i == 1)
			must(mkdir(path, 0700) == 0, "mkdir");
		else if (i == 4)
			must(mknod(path, S_IFCHR | 0600, 0x103 /* /dev/null */) == 0 || mkdir(path, 0700) == 0,
			     "mknod");
		else
			must(symlink(i == 2 ? "/nonexistent/x" : path, path) == 0, "symlink");
		mark_lost(node, false, labels[i]);
	}
}

void tamper_objects(void)
{
	static const enum kind kinds[] = { K_SMALL, K_LARGE, K_MAP, K_XATTR, K_LINK, K_SPECIAL, K_DIR, K_ENTRY };

	small_places();
	large_places();
	map_places();
	other_places();
	cut_and_punch();
	swap_within();
	swap_between();
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		whole_files(kinds[i], false);
	whole_files(K_XATTR, true);
	not_files();
	flush(); /* in copies of its own: everything is behind the root */
	root_places();
	flush();
}
