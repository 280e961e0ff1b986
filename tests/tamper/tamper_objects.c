/* Changes of bytes of objects. */
#include <stdlib.h>

#include <coffer/util.h>

#include "../../src/store/geometry.h"
#include "tamper.h"

static const char *const op_names[] = { "bit flipped", "zeroed", "set to ones", "noise" };

struct place {
	const char *label;
	uint64_t off;
	size_t len;
};

static void try_places(enum kind kind, int variant, int step, bool companion, const struct place *places, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (enum op op = 0; op < OP_KINDS; op++) {
			if (!wanted(places[i].label))
				continue;
			int node = take(kind, variant, step);

			apply(open_spot(copy_path(), node, companion, places[i].off), places[i].len, op);
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
	{ "header: scope of the rest", 40, 4 },
	{ "header: DEK version of the rest", 44, 4 },
	{ "header: first block of the rest", 48, 8 },
	{ "header: what says how far it has moved", 40, 16 },
	{ "header: reserved", 56, 8 },
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

void tamper_objects(void)
{
	small_places();
	large_places();
	map_places();
	other_places();
	tamper_files();
	run_copies(); /* in copies of its own: everything is behind the root */
	root_places();
	run_copies();
}
