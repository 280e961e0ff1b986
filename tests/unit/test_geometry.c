/* The arithmetic of an object's file at 0, +-1 round every boundary, and at the largest offsets. */
#include <criterion/criterion.h>

#include "../../src/store/geometry.h"

static const uint64_t fan = MAP_FANOUT;
static const uint64_t most_blocks = (uint64_t)1 << 51; /* of a file of 2^63 bytes */

struct edges {
	uint64_t block[256];
	unsigned count;
};

static void add(struct edges *e, uint64_t block)
{
	for (int i = -2; i <= 2; i++)
		if (block + (uint64_t)i < most_blocks && (i >= 0 || block >= (uint64_t)-i))
			e->block[e->count++] = block + (uint64_t)i;
	cr_assert_lt(e->count, 250);
}

/* Blocks where something begins: the groups, what a map page of each level covers, what the root covers at each height. */
static struct edges edges(void)
{
	const uint64_t groups[] = { 0,
				    1,
				    2,
				    ROOT_BITS,
				    fan,
				    2 * fan,
				    ROOT_BITS * fan,
				    fan * fan,
				    2 * fan * fan,
				    ROOT_BITS * fan * fan,
				    fan * fan * fan / 2 };
	struct edges e = { .count = 0 };

	add(&e, 0);
	add(&e, HEADER_TAGS);
	for (unsigned i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		add(&e, geometry_group_first(groups[i]));
	add(&e, most_blocks - 1);
	return e;
}

Test(geometry, first_pages)
{
	cr_assert_eq(geometry_page(0), 1);
	cr_assert_eq(geometry_page(HEADER_TAGS - 1), HEADER_TAGS);
	/* The first group has a map page of each level right before its tag page. */
	for (unsigned level = LEVELS; level >= 1; level--)
		cr_assert_eq(geometry_meta_page(level, 0), HEADER_TAGS + 1 + (LEVELS - level));
	cr_assert_eq(geometry_page(HEADER_TAGS), HEADER_TAGS + 1 + LEVELS);
	cr_assert_eq(geometry_meta_page(1, 1), geometry_page(HEADER_TAGS + GROUP_BLOCKS - 1) + 1);
	cr_assert_eq(geometry_page(HEADER_TAGS + GROUP_BLOCKS), geometry_meta_page(1, 1) + 1);
}

Test(geometry, groups_and_slots)
{
	struct edges e = edges();

	for (unsigned i = 0; i < e.count; i++) {
		uint64_t block = e.block[i];

		if (block < HEADER_TAGS)
			continue;
		cr_assert_lt(geometry_slot(block), GROUP_BLOCKS);
		cr_assert_eq(geometry_group_first(geometry_group(block)) + geometry_slot(block), block);
		cr_assert_eq(geometry_page(block),
			     geometry_meta_page(1, geometry_group(block)) + 1 + geometry_slot(block));
	}
}

Test(geometry, page_and_block_are_inverse)
{
	struct edges e = edges();

	for (unsigned i = 0; i < e.count; i++)
		cr_assert_eq(geometry_block(geometry_page(e.block[i])), e.block[i], "block %lu", e.block[i]);
	for (uint64_t block = 0; block < 3 * GROUP_BLOCKS; block++)
		cr_assert_eq(geometry_block(geometry_page(block)), block);
	cr_assert_eq(geometry_block(0), UINT64_MAX);
}

Test(geometry, no_block_lies_in_a_map_page)
{
	struct edges e = edges();

	for (unsigned i = 0; i < e.count; i++) {
		if (e.block[i] < HEADER_TAGS)
			continue;
		uint64_t index = geometry_group(e.block[i]);

		for (unsigned level = 1; level <= LEVELS; level++, index /= fan)
			cr_assert_eq(geometry_block(geometry_meta_page(level, index)), UINT64_MAX);
	}
}

/* Every page from 0 up is exactly one thing, with nothing between: the layout computed by walking it. */
Test(geometry, contiguous)
{
	uint64_t page = 1, block = 0;

	for (; block < HEADER_TAGS; block++)
		cr_assert_eq(geometry_page(block), page++);
	for (uint64_t group = 0; group < 2 * fan + 3; group++) {
		if (group == 0)
			for (unsigned level = LEVELS; level > 2; level--)
				cr_assert_eq(geometry_meta_page(level, 0), page++);
		if (group % fan == 0)
			cr_assert_eq(geometry_meta_page(2, group / fan), page++);
		cr_assert_eq(geometry_meta_page(1, group), page++, "group %lu", group);
		cr_assert_eq(geometry_page(geometry_group_first(group)), page);
		page += GROUP_BLOCKS;
	}
}

/* Where a page of a higher level begins, all levels below begin with it, the highest first. */
Test(geometry, maps_stand_before_what_they_cover)
{
	const uint64_t starts[] = { fan, 7 * fan, fan * fan, 3 * fan * fan, fan * fan * fan / 4 };

	for (unsigned i = 0; i < sizeof(starts) / sizeof(*starts); i++) {
		uint64_t group = starts[i] / fan * fan, index = group, page = geometry_meta_page(1, group);

		cr_assert_eq(geometry_page(geometry_group_first(group)), page + 1);
		for (unsigned level = 2; level <= LEVELS && index % fan == 0; level++) {
			index /= fan;
			cr_assert_eq(geometry_meta_page(level, index), page - (level - 1));
		}
		cr_assert_gt(page, geometry_page(geometry_group_first(group) - 1));
	}
}

Test(geometry, grows_with_the_block)
{
	struct edges e = edges();

	for (unsigned i = 1; i < e.count; i++)
		for (unsigned j = 0; j < i; j++)
			cr_assert_eq(geometry_page(e.block[i]) < geometry_page(e.block[j]), e.block[i] < e.block[j]);
}

Test(geometry, height)
{
	static const struct {
		uint64_t groups;
		unsigned height;
	} last[] = { { ROOT_BITS, 1 }, { ROOT_BITS * (uint64_t)MAP_FANOUT, 2 } };

	cr_assert_eq(geometry_height(0), 0);
	cr_assert_eq(geometry_height(HEADER_TAGS), 0);
	cr_assert_eq(geometry_height(HEADER_TAGS + 1), 1);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(geometry_height(geometry_group_first(last[i].groups)), last[i].height);
		cr_assert_eq(geometry_height(geometry_group_first(last[i].groups) + 1), last[i].height + 1);
	}
	cr_assert_eq(geometry_height(geometry_group_first(ROOT_BITS * fan * fan)), 3);
	cr_assert_eq(geometry_height(geometry_group_first(ROOT_BITS * fan * fan) + 1), 4);
	cr_assert_leq(geometry_height(most_blocks), LEVELS);
}

Test(geometry, most_blocks_that_fit)
{
	struct edges e = edges();

	cr_assert_eq(geometry_max_blocks(0), 0);
	cr_assert_eq(geometry_max_blocks(1), 0);
	cr_assert_eq(geometry_max_blocks(2), 1);
	for (unsigned i = 0; i < e.count; i++) {
		uint64_t page = geometry_page(e.block[i]);

		cr_assert_eq(geometry_max_blocks(page), e.block[i]);
		cr_assert_eq(geometry_max_blocks(page + 1), e.block[i] + 1);
	}
	/* The whole of a file of 2^63 - 1 bytes: the last page lies in it, and the one after would not. */
	uint64_t pages = INT64_MAX / BLOCK_SIZE, blocks = geometry_max_blocks(pages);

	cr_assert_lt(geometry_page(blocks - 1), pages);
	cr_assert_geq(geometry_page(blocks), pages);
	cr_assert_lt(blocks, most_blocks);
}
