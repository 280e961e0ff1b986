/* Power-cut test: what a disk may hold after a cut. */
#include "powercut_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, SECTORS = BLOCK / SECTOR };

/* What becomes of what no sync covers. */
enum luck {
	LUCK_ALL,   /* everything got to the disk */
	LUCK_NONE,  /* nothing */
	LUCK_EACH,  /* each page up to some write; perhaps torn */
	LUCK_MOST,  /* as before, but most pages whole */
	LUCK_FEW,   /* as before, but most pages old */
	LUCK_FILES, /* all of some files, nothing of the others */
	LUCK_OLDER, /* what was written before some moment */
	LUCK_NEWER, /* what was written after it */
	LUCKS
};
struct cut {
	enum luck luck;
	bool torn;
	uint64_t seed, metadata, moment; /* records */
};

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t z = (a ^ (b * 0x9e3779b97f4a7c15U)) * 0xbf58476d1ce4e5b9U;

	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

static bool meta_is_kept(const struct disk *d, const struct cut *cut, const struct file *f, const struct change *c)
{
	uint64_t own;

	if (cut->luck == LUCK_ALL)
		return true;
	switch (d->model) {
	case DISK_ORDERED:
		return c->index < cut->metadata;
	case DISK_STRICT:
		own = mix(cut->seed, f->ino);
		return own % 3 ? c->index < cut->metadata : own % 2;
	default:
		return cut->luck != LUCK_NONE && mix(cut->seed, c->index) % 2;
	}
}

/* How many of the `writes` of a page got to the disk. */
static uint32_t writes_kept(const struct cut *cut, const struct file *f, uint64_t page, uint32_t writes)
{
	uint64_t z = mix(mix(cut->seed, f->ino), page);

	switch (cut->luck) {
	case LUCK_ALL:
		return writes;
	case LUCK_NONE:
		return 0;
	case LUCK_FILES:
		return mix(cut->seed, f->ino) % 2 ? writes : 0;
	case LUCK_MOST:
		return z % 8 ? writes : (uint32_t)(z / 8 % (writes + 1));
	case LUCK_FEW:
		return z % 8 ? 0 : (uint32_t)(z / 8 % (writes + 1));
	default:
		return (uint32_t)(z % (writes + 1));
	}
}

/* One page's part of a write: kept, dropped or, the last that got anywhere, torn by sectors. */
static void place_page(const struct cut *cut, const struct file *f, const struct change *c, uint64_t page, int64_t left,
		       unsigned char **data, uint64_t *size)
{
	uint64_t from = page * BLOCK, to = from + BLOCK, z = mix(mix(cut->seed + 1, f->ino), page);

	if (from < c->off)
		from = c->off;
	if (to > c->off + c->len)
		to = c->off + c->len;
	if (cut->luck == LUCK_OLDER || cut->luck == LUCK_NEWER) {
		bool whole = (c->index < cut->moment) == (cut->luck == LUCK_OLDER);

		left = whole;
		if (!whole)
			return;
	}
	if (left > 0) {
		content_write(c, from, to, data, size);
	} else if (left == 0 && cut->torn && z % 4 == 0) {
		for (unsigned s = 0; s < SECTORS; s++) {
			uint64_t at = page * BLOCK + s * SECTOR, end = at + SECTOR;

			at = at < from ? from : at;
			end = end > to ? to : end;
			if (at < end && z >> (8 + s) & 1)
				content_write(c, at, end, data, size);
		}
	} else if (to > *size && z >> 20 & 1 && cut->luck != LUCK_NONE) {
		content_resize(data, size, to); /* the size got there, the data did not */
	}
}

/* A hole that did not get to the disk as a whole may have in part, where that keeps no order among pages: what lies in one file
 * may belong to many objects. */
static void place_punch(const struct disk *d, const struct cut *cut, const struct file *f, const struct change *c,
			unsigned char **data, uint64_t *size)
{
	if (d->model == DISK_ORDERED || cut->luck == LUCK_NONE || c->off % BLOCK || c->len % BLOCK)
		return;
	for (uint64_t at = c->off; at < c->off + c->len && at < *size; at += BLOCK) {
		const struct change part = { .kind = TRACE_PUNCH, .off = at, .len = BLOCK };

		if (mix(mix(cut->seed + 3, f->ino ^ c->index), at / BLOCK) % 3 == 0)
			content_change(&part, data, size);
	}
}

static void place_changes(const struct disk *d, const struct cut *cut, const struct file *f, unsigned char **data,
			  uint64_t *size)
{
	uint64_t pages = 0;

	for (size_t i = 0; i < f->count; i++)
		if (f->changes[i].kind == TRACE_WRITE && (f->changes[i].off + f->changes[i].len) / BLOCK + 1 > pages)
			pages = (f->changes[i].off + f->changes[i].len) / BLOCK + 1;
	uint32_t *writes = calloc(pages + 1, sizeof(*writes)), *done = calloc(pages + 1, sizeof(*done));

	if (!writes || !done)
		abort();
	for (size_t i = 0; i < f->count; i++) {
		const struct change *c = &f->changes[i];

		for (uint64_t p = c->off / BLOCK; c->kind == TRACE_WRITE && p * BLOCK < c->off + c->len; p++)
			writes[p]++;
	}
	for (size_t i = 0; i < f->count; i++) {
		const struct change *c = &f->changes[i];

		if (c->kind != TRACE_WRITE) {
			if (meta_is_kept(d, cut, f, c))
				content_change(c, data, size);
			else if (c->kind == TRACE_PUNCH)
				place_punch(d, cut, f, c, data, size);
			continue;
		}
		for (uint64_t p = c->off / BLOCK; p * BLOCK < c->off + c->len; p++) {
			int64_t left = (int64_t)writes_kept(cut, f, p, writes[p]) - done[p]++;

			place_page(cut, f, c, p, left, data, size);
		}
	}
	free(writes);
	free(done);
}

static int write_out(const char *path, const unsigned char *data, uint64_t size)
{
	static const unsigned char zeros[BLOCK];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), r = fd < 0 ? -errno : 0;

	for (uint64_t at = 0; r == 0 && at < size; at += BLOCK) {
		size_t len = size - at < BLOCK ? (size_t)(size - at) : BLOCK;

		if (memcmp(data + at, zeros, len) && pwrite(fd, data + at, len, (off_t)at) != (ssize_t)len)
			r = -EIO;
	}
	if (r == 0 && ftruncate(fd, (off_t)size) < 0)
		r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

static int build_file(struct disk *d, const struct cut *cut, uint64_t ino, const char *path)
{
	const struct file *f = disk_file(d, ino);
	unsigned char *data = NULL;
	uint64_t size = 0;

	content_resize(&data, &size, f->size);
	memcpy(data, f->data ? f->data : data, f->size);
	place_changes(d, cut, f, &data, &size);
	int r = write_out(path, data, size);

	free(data);
	return r;
}

static int build_dir(struct disk *d, const struct cut *cut, const struct entry *list, size_t count, uint64_t dir,
		     const char *path, int depth)
{
	char below_path[1024];
	int r = depth > 8 ? -ELOOP : 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (list[i].dir != dir)
			continue;
		if (snprintf(below_path, sizeof(below_path), "%s/%s", path, list[i].name) >= (int)sizeof(below_path))
			return -ENAMETOOLONG;
		if (!list[i].is_dir)
			r = build_file(d, cut, list[i].ino, below_path);
		else if (mkdir(below_path, 0700) < 0)
			r = -errno;
		else
			r = build_dir(d, cut, list, count, list[i].ino, below_path, depth + 1);
	}
	return r;
}

static bool name_is_kept(const struct disk *d, const struct cut *cut, const struct name_change *n)
{
	if (cut->luck == LUCK_ALL)
		return true;
	if (d->model == DISK_SUBSET)
		return cut->luck != LUCK_NONE && mix(cut->seed + 2, n->index) % 2;
	return n->index < cut->metadata;
}

static uint64_t last_index(const struct disk *d)
{
	uint64_t last = d->floor;

	for (size_t i = 0; i < d->file_count; i++)
		if (d->files[i]->count && d->files[i]->changes[d->files[i]->count - 1].index >= last)
			last = d->files[i]->changes[d->files[i]->count - 1].index + 1;
	if (d->name_count && d->names[d->name_count - 1].index >= last)
		last = d->names[d->name_count - 1].index + 1;
	return last;
}

static uint64_t first_index(const struct disk *d)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < d->file_count; i++)
		if (d->files[i]->count && d->files[i]->changes[0].index < first)
			first = d->files[i]->changes[0].index;
	return first == UINT64_MAX ? 0 : first;
}

int disk_build(struct disk *d, uint64_t seed, bool everything, const char *root)
{
	uint64_t random = seed, end = last_index(d), first = first_index(d);
	struct cut cut = { .luck = everything ? LUCK_ALL : (enum luck)below(&random, LUCKS), .seed = mix(seed, 77) };
	size_t count = d->entry_count, room = count + 1;
	struct entry *list = malloc(room * sizeof(*list));

	if (!list)
		abort();
	cut.torn = !d->whole && cut.luck != LUCK_NONE && cut.luck != LUCK_FILES;
	switch (below(&random, 4)) {
	case 0:
		cut.metadata = d->floor;
		break;
	case 1:
		cut.metadata = end;
		break;
	default:
		cut.metadata = d->floor + below(&random, end - d->floor + 1);
	}
	cut.moment = first + below(&random, end > first ? end - first + 1 : 1);
	memcpy(list, d->entries, count * sizeof(*list));
	for (size_t i = 0; i < d->name_count; i++)
		if (name_is_kept(d, &cut, &d->names[i]))
			list_change(&list, &count, &room, &d->names[i]);
	int r = build_dir(d, &cut, list, count, d->root, root, 0);

	free(list);
	return r;
}
