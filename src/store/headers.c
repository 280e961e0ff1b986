/* Page 0 of each object, its header: objects/HHH/headers has those of all objects of a folder, each at its place. To look at
 * many objects, as a listing does, or to write many, as a checkpoint does, is then to read or write runs of one open file,
 * and what has no blocks has no file of its own. */
#include <errno.h>
#include <fcntl.h>

#include <coffer/util.h>

#include "internal.h"

enum { PREFETCH_PAGES = 16 };

static int get_file(struct home *h, uint64_t object, struct home_file **ret)
{
	return home_get(h, headers_file(object), false, ret);
}

int headers_read(struct home *h, uint64_t object, uint8_t page[static BLOCK_SIZE])
{
	return home_read(h, headers_file(object), headers_page(object), 1, page);
}

void headers_prefetch(struct home *h, uint64_t object)
{
	home_prefetch(h, headers_file(object), headers_page(object) / PREFETCH_PAGES * PREFETCH_PAGES, PREFETCH_PAGES);
}

static bool is_zeros(const uint8_t page[static BLOCK_SIZE])
{
	static const uint8_t zeros[BLOCK_SIZE];

	return memcmp(page, zeros, BLOCK_SIZE) == 0;
}

bool headers_has(struct home *h, uint64_t object)
{
	uint8_t page[BLOCK_SIZE];

	return headers_read(h, object, page) == 0 && !is_zeros(page);
}

/* Where the backing file system cannot punch, or has no room to keep account of the hole, zeros do. */
static int write_zeros(struct home *h, int fd, uint64_t first, uint64_t count)
{
	static const uint8_t zeros[BLOCK_SIZE];
	int r = 0;

	for (uint64_t i = first; r == 0 && i < first + count; i++)
		if (headers_has(h, i))
			r = pwrite_all(fd, zeros, BLOCK_SIZE, (off_t)(headers_page(i) * BLOCK_SIZE));
	return r;
}

int headers_clear(struct home *h, uint64_t first, uint64_t count)
{
	struct home_file *f;
	int r = get_file(h, first, &f);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(headers_page(first) * BLOCK_SIZE),
		      (off_t)(count * BLOCK_SIZE)) < 0) {
		r = -errno;
		if (r == -EOPNOTSUPP || is_full(r))
			r = write_zeros(h, f->fd, first, count);
	}
	home_put(h, f);
	return r;
}

bool headers_are_clear(struct home *h, uint64_t object)
{
	struct home_file *f;

	if (get_file(h, object, &f) < 0)
		return false;
	bool clear = lseek(f->fd, 0, SEEK_DATA) < 0 && errno == ENXIO;

	home_put(h, f);
	return clear;
}

int headers_mark(struct home *h, uint64_t base, bool marks[static FOLDER_OBJECTS])
{
	enum { AT_ONCE = 64 };
	AUTO_FREE uint8_t *pages = malloc(AT_ONCE * BLOCK_SIZE);
	struct home_file *f;
	int r = pages ? get_file(h, base, &f) : -ENOMEM;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	off_t at = 0;

	while (r == 0 && (at = lseek(f->fd, at, SEEK_DATA)) >= 0) {
		size_t first = (size_t)at / BLOCK_SIZE, got = 0;

		if (first >= FOLDER_OBJECTS)
			break;
		at = (off_t)(first * BLOCK_SIZE);
		r = pread_all(f->fd, pages, AT_ONCE * BLOCK_SIZE, at, &got);
		memset(pages + got, 0, AT_ONCE * BLOCK_SIZE - got); /* what a part of a page lacks reads as zeros */
		for (size_t i = 0; r == 0 && i * BLOCK_SIZE < got && first + i < FOLDER_OBJECTS; i++)
			marks[first + i] = marks[first + i] || !is_zeros(pages + i * BLOCK_SIZE);
		at += AT_ONCE * BLOCK_SIZE;
	}
	if (r == 0 && at < 0 && errno != ENXIO) /* ENXIO: no more data */
		r = -errno;
	home_put(h, f);
	return r;
}
