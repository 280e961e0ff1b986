/* Where things lie in an object's backing file: pure arithmetic. Units: blocks and pages of BLOCK_SIZE (4096) bytes.
 *
 * page 0                  the header; it holds the tags of the first HEADER_TAGS blocks
 * pages 1 .. HEADER_TAGS  those blocks
 * then groups             [level 4][level 3][level 2][tag page][GROUP_BLOCKS blocks] [tag page][GROUP_BLOCKS blocks] ...
 *
 * A page of level 1 is a tag page: GROUP_BLOCKS entries of 32 bytes. A page of level n > 1 is an existence map: one bit for
 * each of MAP_FANOUT pages of level n-1. A map page stands right before the first group that it covers, the higher level
 * first, so that a file is contiguous but for one page in 127 and one more in 4 million. Pages that are not needed are holes.
 * The header holds the root: one bit for each of ROOT_BITS pages of level `height`.
 */
#ifndef COFFER_STORE_GEOMETRY_H
#define COFFER_STORE_GEOMETRY_H

#include <stdint.h>

#include <coffer/crypto.h>

enum {
	HEADER_TAGS = 32,
	PAGE_BODY = 4032,                                    /* bytes of a tag or map page before its trailer */
	GROUP_BLOCKS = PAGE_BODY / sizeof(struct block_tag), /* 126 */
	MAP_FANOUT = PAGE_BODY * 8,                          /* 32256 */
	LEVELS = 4,
	ROOT_BITS = 256,
};

/* Group of a block, which must not be one of the header's. */
static inline uint64_t geometry_group(uint64_t block)
{
	return (block - HEADER_TAGS) / GROUP_BLOCKS;
}

static inline unsigned geometry_slot(uint64_t block)
{
	return (unsigned)((block - HEADER_TAGS) % GROUP_BLOCKS);
}

static inline uint64_t geometry_group_first(uint64_t group)
{
	return HEADER_TAGS + group * GROUP_BLOCKS;
}

/* The first block that the `index`-th page of a level covers. */
uint64_t geometry_first_block(unsigned level, uint64_t index);
/* Page of a data block. */
uint64_t geometry_page(uint64_t block);
/* The block that lies in a page; UINT64_MAX: none does. */
uint64_t geometry_block(uint64_t page);
/* Page of the `index`-th page of a level (1: tag page of group `index`). */
uint64_t geometry_meta_page(unsigned level, uint64_t index);
/* Height of the tree that a file of `blocks` blocks needs: 0 where the header's tags suffice. */
unsigned geometry_height(uint64_t blocks);
/* The number of blocks that a file may have, if its backing file may have `pages` pages. */
uint64_t geometry_max_blocks(uint64_t pages);

#endif
