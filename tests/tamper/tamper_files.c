/* Changes of objects' files: pages, sizes, swaps, and whole files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include <coffer/util.h>

#include "../../src/store/geometry.h"
#include "tamper.h"

/* ---- pages and sizes ---- */
static void truncate_files(enum kind kind, const uint64_t *sizes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char what[64];

		if (!wanted("file cut off"))
			continue;
		int node = take(kind, -1, 1);
		AUTO_CLOSE int fd = open_spot(copy_path(), node, false, BLOCK_SIZE).fd;
		struct stat st;

		snprintf(what, sizeof(what), "to %llu bytes", (unsigned long long)sizes[i]);
		must(fstat(fd, &st) == 0, "fstat");
		if ((uint64_t)st.st_size > sizes[i])
			must(ftruncate(fd, (off_t)sizes[i]) == 0, "cutting off");
		done(node, false, "file cut off", what);
	}
}

static void punch(enum kind kind, bool companion, uint64_t page)
{
	if (!wanted("page punched"))
		return;
	int node = take(kind, -1, 1);
	struct spot s = open_spot(copy_path(), node, companion, at_page(page));
	char what[64];

	snprintf(what, sizeof(what), "page %llu", (unsigned long long)page);
	must(fallocate(s.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, s.at, BLOCK_SIZE) == 0, "punching");
	close(s.fd);
	done(node, companion, "page punched", what);
}

static const enum kind kinds[] = { K_SMALL, K_LARGE, K_MAP, K_XATTR, K_LINK, K_SPECIAL, K_DIR, K_ENTRY };
enum { KINDS_TRIED = sizeof(kinds) / sizeof(kinds[0]) };

static void cut_and_punch(void)
{
	uint64_t last = at_page(geometry_page(geometry_group_first(3)));
	const uint64_t small[] = { 0, 1, 4000, 4096, 4097, 8191, 8192, 12288 };
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
	const uint64_t pages[] = { 1,
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
	truncate_files(K_DIR, small + 2, 6);
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		punch(K_LARGE, false, pages[i]);
	for (size_t i = 0; i < KINDS_TRIED; i++)
		punch(kinds[i], false, 0);
	punch(K_XATTR, true, 0);
}

static void swap_pages(struct spot a, struct spot b, bool both)
{
	uint8_t one[BLOCK_SIZE], two[BLOCK_SIZE];

	must(pread_all(a.fd, one, BLOCK_SIZE, a.at, NULL) == 0, "reading a page");
	must(pread_all(b.fd, two, BLOCK_SIZE, b.at, NULL) == 0, "reading a page");
	must(pwrite_all(a.fd, two, BLOCK_SIZE, a.at) == 0, "writing a page");
	if (both)
		must(pwrite_all(b.fd, one, BLOCK_SIZE, b.at) == 0, "writing a page");
	close(a.fd);
	close(b.fd);
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
	{ K_SMALL, "headers", 9, 9, 0, 0 },
	{ K_XATTR, "headers", 9, 9, 0, 0 },
	{ K_LINK, "headers", 9, 9, 0, 0 },
	{ K_SPECIAL, "headers", 9, 9, 0, 0 },
	{ K_DIR, "headers", 9, 9, 0, 0 },
	{ K_ENTRY, "headers", 9, 9, 0, 0 },
};

static uint64_t page_of(unsigned level, uint64_t index)
{
	return level == 9 ? index : level ? geometry_meta_page(level, index) : geometry_page(index);
}

static int take_swapped(const struct swap *s, int *other)
{
	int node;

	take_two(s->kind, s->kind == K_SMALL ? 1 : -1, s->kind == K_SMALL ? 4 : 1, &node, other);
	return node;
}

static void swap_within(void)
{
	for (size_t i = 0; i < sizeof(swaps) / sizeof(swaps[0]); i++) {
		const struct swap *s = &swaps[i];
		uint64_t one = at_page(page_of(s->level_a, s->a)), two = at_page(page_of(s->level_b, s->b));

		if (!wanted("swapped within a file") || one == two)
			continue;
		for (int once = 0; once < 2; once++) {
			int node = take_swapped(s, NULL);

			swap_pages(open_spot(copy_path(), node, false, one), open_spot(copy_path(), node, false, two),
				   once == 0);
			done(node, false, once ? "copied within a file" : "swapped within a file", s->label);
		}
	}
}

static void swap_between(void)
{
	enum { DIFFERENT, SAME, COPIED, WAYS }; /* places of both; the same, and only the first is changed */

	for (size_t i = 0; i < sizeof(swaps) / sizeof(swaps[0]); i++) {
		const struct swap *s = &swaps[i];
		uint64_t one = at_page(page_of(s->level_a, s->a)), two = at_page(page_of(s->level_b, s->b));
		int a, b;

		if (!wanted("swapped between files"))
			continue;
		for (int way = one == two ? SAME : DIFFERENT; way < WAYS; way++) {
			a = take_swapped(s, &b);
			swap_pages(open_spot(copy_path(), a, false, one),
				   open_spot(copy_path(), b, false, way == DIFFERENT ? two : one), way != COPIED);
			done(a, false, "swapped between files", s->label);
			done(b, false, way == COPIED ? "copied from" : "swapped between files", s->label);
		}
		/* A page of the same object and place, in another volume whose key has the same source. */
		a = take_swapped(s, NULL);
		swap_pages(open_spot(copy_path(), a, false, one), open_spot(setup.foreign, a, false, one), false);
		done(a, false, "page of another volume", s->label);
	}
}

/* ---- whole files: headers are elsewhere, and stay ---- */
static void whole_files(enum kind kind, int variant, bool companion)
{
	char one[PATH_MAX], two[PATH_MAX], command[3 * PATH_MAX];
	int a, b, step = variant < 0 ? 1 : 2;

	if (!wanted("file "))
		return;
	take_two(kind, variant, step, &a, &b);
	path_in(copy_path(), a, companion, one);
	path_in(copy_path(), b, companion, two);
	must(renameat2(AT_FDCWD, one, AT_FDCWD, two, 2 /* RENAME_EXCHANGE */) == 0, "exchanging files");
	done(a, companion, "file swapped", "with another");
	done(b, companion, "file swapped", "with another");

	take_two(kind, variant, step, &a, &b);
	path_in(copy_path(), a, companion, one);
	path_in(copy_path(), b, companion, two);
	must(unlink(two) == 0 && link(one, two) == 0, "linking files");
	done(a, companion, "file linked", "and what is written to the link");
	done(b, companion, "file replaced", "by a link to another");

	a = take(kind, variant, step);
	path_in(copy_path(), a, companion, one);
	must(unlink(one) == 0, "removing a file");
	done(a, companion, "file removed", "all of it");

	a = take(kind, variant, step);
	path_in(copy_path(), a, companion, one);
	path_in(setup.foreign, a, companion, two);
	snprintf(command, sizeof(command), "cp --sparse=auto '%s' '%s'", two, one);
	must(system(command) == 0, "copying a file");
	done(a, companion, "file replaced", "by that of another volume");
}

static void replace(const char *path, int how)
{
	if (unlink(path) < 0)
		must(errno == ENOENT, "removing a file");
	if (how == 0)
		must(mkfifo(path, 0600) == 0, "mkfifo");
	else if (how == 1)
		must(mkdir(path, 0700) == 0, "mkdir");
	else if (how == 4)
		must(mknod(path, S_IFCHR | 0600, 0x103 /* /dev/null */) == 0 || mkdir(path, 0700) == 0, "mknod");
	else
		must(symlink(how == 2 ? "/nonexistent/x" : path, path) == 0, "symlink");
}

static void not_files(void)
{
	static const char *const labels[] = { "file is a FIFO", "file is a directory", "file is a dangling link",
					      "file is a link to itself", "file is a device" };
	static const enum kind tried[] = { K_SMALL, K_DIR, K_ENTRY /* has none */ };
	char path[PATH_MAX];

	for (int i = 0; i < 3 * 5; i++) {
		if (!wanted(labels[i % 5]))
			continue;
		int node = take(tried[i / 5], -1, 1);

		path_in(copy_path(), node, false, path);
		replace(path, i % 5);
		done(node, false, labels[i % 5], tried[i / 5] == K_ENTRY ? "where none was" : "in its place");
	}
}

/* What is not looked at: the first page of an object's own file, and the file of what has no blocks. */
static void planted_files(void)
{
	static const uint64_t offsets[] = { 0, 100, BLOCK_SIZE, 40 * BLOCK_SIZE };
	char path[PATH_MAX];

	for (size_t k = 0; k < KINDS_TRIED; k++) {
		bool none = kinds[k] == K_SPECIAL || kinds[k] == K_ENTRY;

		for (size_t i = 0; i < (none ? 4 : 2); i++) {
			if (!wanted("planted in its own file"))
				continue;
			int node = take(kinds[k], kinds[k] == K_LINK ? 1 : -1, 2);

			path_in(copy_path(), node, false, path);
			int fd = open(path, O_RDWR | O_CLOEXEC | (none ? O_CREAT : 0), 0600);

			must(fd >= 0, path);
			apply((struct spot){ fd, (off_t)offsets[i] }, BLOCK_SIZE - 100, NOISE);
			done(node, false, "planted in its own file", i < 2 ? "in the first page" : "where no block is");
			must(!shared->damage[node].noticed, "what is not looked at");
		}
	}
}

void tamper_files(void)
{
	cut_and_punch();
	swap_within();
	swap_between();
	for (size_t i = 0; i < KINDS_TRIED; i++)
		if (kinds[i] != K_SPECIAL && kinds[i] != K_ENTRY) /* they have no files */
			whole_files(kinds[i], kinds[i] == K_MAP || kinds[i] == K_LINK ? 1 : -1, false);
	whole_files(K_XATTR, -1, true);
	not_files();
	planted_files();
}
