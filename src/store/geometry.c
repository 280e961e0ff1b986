#include "geometry.h"

/* The first group that a page covers. */
static uint64_t first_group(unsigned level, uint64_t index)
{
	for (unsigned i = 1; i < level; i++)
		index *= MAP_FANOUT;
	return index;
}

uint64_t geometry_first_block(unsigned level, uint64_t index)
{
	return geometry_group_first(first_group(level, index));
}

uint64_t geometry_meta_page(unsigned level, uint64_t index)
{
	uint64_t group = first_group(level, index);
	uint64_t page = 1 + HEADER_TAGS + group * (1 + GROUP_BLOCKS);
	uint64_t cover = group;

	for (unsigned i = 2; i <= LEVELS; i++) {
		cover /= MAP_FANOUT;
		page += cover + 1;
	}
	return page - (level - 1);
}

uint64_t geometry_page(uint64_t block)
{
	if (block < HEADER_TAGS)
		return 1 + block;
	return geometry_meta_page(1, geometry_group(block)) + 1 + geometry_slot(block);
}

unsigned geometry_height(uint64_t blocks)
{
	if (blocks <= HEADER_TAGS)
		return 0;
	uint64_t last = geometry_group(blocks - 1);
	unsigned height = 1;

	for (; last >= ROOT_BITS; height++)
		last /= MAP_FANOUT;
	return height;
}

uint64_t geometry_max_blocks(uint64_t pages)
{
	uint64_t low = 0, high = pages; /* file of `low` blocks fits, one of `high` + 1 does not */

	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;

		if (geometry_page(middle - 1) < pages)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

uint64_t geometry_block(uint64_t page)
{
	uint64_t low = 0, high = page; /* pages of blocks grow with them, and are never below */

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (geometry_page(middle) < page)
			low = middle + 1;
		else
			high = middle;
	}
	return geometry_page(low) == page ? low : UINT64_MAX;
}
