/* libFuzzer's entry for a directory's block that is authentic: one that is taken for sound can be walked, every entry in it is
 * found, and putting names into it leaves it sound. The block is the input, ended by zeros. */
#include "../../src/volume/dir.c"

#include "fuzz.h"

static void require(bool good)
{
	if (!good)
		abort();
}

static struct dir *load_one(const uint8_t *block)
{
	struct dir *d = calloc(1, sizeof(*d));

	require(d != NULL);
	d->block_count = 1;
	require(reserve_blocks(d, 1) == 0 && index_reserve(d, 1) == 0);
	memcpy(d->blocks, block, BLOCK_SIZE);
	require(index_block(d, 0) == 0);
	return d;
}

static size_t walk(struct object *o)
{
	char name[VOLUME_NAME_MAX + 1];
	struct dir_entry e, found;
	uint64_t offset = 0;
	size_t count = 0;
	int r;

	while ((r = dir_next(o, &offset, &e, name)) == 0) {
		require(strlen(name) > 0 && !strchr(name, '/') && e.object);
		require(dir_find(o, name, &found) == 0); /* it, or one of the same name */
		require(offset == e.offset && offset < BLOCK_SIZE);
		offset++;
		count++;
	}
	require(r == -ENOENT && count == o->dir->count);
	return count;
}

/* Names of several lengths, until one does not fit. */
static void fill(const uint8_t *block, size_t before)
{
	static struct dir_edit e;
	char name[VOLUME_NAME_MAX + 1];
	size_t count = before;

	memset(&e, 0, sizeof(e));
	memcpy(e.data, block, BLOCK_SIZE);
	for (unsigned i = 1;; i++) {
		size_t len = i * 37 % VOLUME_NAME_MAX + 1;

		memset(name, 'n', len);
		unsigned room = largest_room(e.data);

		e.op_count = 0;
		bool put = put_in_block(&e, name, len, i, S_IFREG);

		require(put == (room >= rec_need(len)));
		require(block_is_sound(e.data));
		if (!put)
			break;
		count++;
	}
	struct dir *d = load_one(e.data);
	struct object o = { .dir = d };

	require(walk(&o) == count);
	dir_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t block[BLOCK_SIZE] = { 0 };

	if (crypto_start() < 0 || len > BLOCK_SIZE)
		return 0;
	if (len)
		memcpy(block, data, len);
	if (!block_is_sound(block))
		return 0;
	struct dir *d = load_one(block);
	struct object o = { .dir = d };
	size_t count = walk(&o);

	dir_free(d);
	fill(block, count);
	return 0;
}
