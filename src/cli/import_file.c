/* Contents: written past the kernel's cache, and read back past it, so that what is compared comes from the volume. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include <coffer/store.h>

#include "commands.h"
#include "import.h"

enum { ALIGNMENT = 4096 };

bool import_same_time(const struct statx_timestamp *a, const struct statx_timestamp *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool import_is_unchanged(const struct statx *before, const struct statx *after)
{
	return before->stx_size == after->stx_size && import_same_time(&before->stx_mtime, &after->stx_mtime) &&
	       import_same_time(&before->stx_ctime, &after->stx_ctime);
}

uint64_t import_bytes(const struct statx *st)
{
	uint64_t held = st->stx_blocks * 512;

	return !S_ISREG(st->stx_mode) ? 0 : held < st->stx_size ? held : st->stx_size;
}

/* The next piece that is no hole: *at is moved to its beginning. False: there is none. */
static bool next_data(int fd, uint64_t *at, uint64_t size, uint64_t *ret_end)
{
	off_t data = lseek(fd, (off_t)*at, SEEK_DATA), hole;

	*ret_end = size;
	if (data < 0)
		return errno != ENXIO && *at < size; /* a file system that does not tell: all is data */
	/* Whole blocks, as the volume has them. */
	*at = (uint64_t)data / ALIGNMENT * ALIGNMENT;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole >= 0 && (uint64_t)hole < size)
		*ret_end = (uint64_t)hole;
	return *at < size;
}

/* One piece, written and read back. */
static int copy_chunk(struct import *i, int from, int to, uint64_t at, size_t len)
{
	size_t got;
	int r = pread_all(from, i->data, len, (off_t)at, &got);

	if (r < 0) {
		import_not_taken(i, NULL, r);
		return 1;
	}
	if (got < len)
		return 2; /* it was cut off */
	r = pwrite_all(to, i->data, len, (off_t)at);
	if (r == 0)
		r = pread_all(to, i->back, len, (off_t)at, NULL);
	if (r < 0) {
		import_failed(i, NULL, r);
		return 1;
	}
	if (memcmp(i->data, i->back, len) == 0)
		return 0;
	log_error("%s: the volume does not give back what was written to it; stopped", i->path);
	i->stop = EXIT_DAMAGED;
	return 1;
}

static int copy_pieces(struct import *i, int from, const struct statx *st, int to, uint64_t *copied)
{
	uint64_t at = 0, end;
	int r = 0;

	while (r == 0 && next_data(from, &at, st->stx_size, &end)) {
		for (; r == 0 && at < end && import_goes_on(i); import_progress(i, false)) {
			size_t len = end - at < IMPORT_CHUNK ? (size_t)(end - at) : IMPORT_CHUNK;

			r = copy_chunk(i, from, to, at, len);
			at += len;
			*copied += len;
			i->copied.bytes += len;
		}
		if (!import_goes_on(i))
			r = 1;
	}
	return r;
}

int import_content(struct import *i, int from, const struct statx *st, int to)
{
	uint64_t copied = 0;
	struct statx after;
	int r = 0;

	/* To its length first: then the volume takes pieces of one write at the same time, and what is not written is a hole. */
	if (ftruncate(to, (off_t)st->stx_size) < 0) {
		import_failed(i, NULL, -errno);
		return 1;
	}
	r = copy_pieces(i, from, st, to, &copied);
	if (r == 0 && (statx(from, "", AT_EMPTY_PATH, IMPORT_STATX, &after) < 0 || !import_is_unchanged(st, &after)))
		r = 2;
	/* Before it has its name: a name promises that all is there, also after a power cut. What is smaller comes before it in
	 * the log. */
	if (r == 0 && st->stx_size >= DIRECT_MIN && fdatasync(to) < 0) {
		import_failed(i, NULL, -errno);
		r = 1;
	}
	i->copied.bytes -= copied;
	if (r == 0)
		i->copied.bytes += import_bytes(st);
	return r;
}
