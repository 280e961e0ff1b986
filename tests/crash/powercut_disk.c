/* Power-cut test: what is durable, what is not, and a disk's state after a cut. */
#include "powercut.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, SECTORS = BLOCK / SECTOR, NAME_SIZE = 256 };

/* A change of a file that no sync covers yet. */
struct change {
	uint64_t index; /* of its record */
	uint32_t kind;
	uint64_t off, len; /* of a truncation: size */
	bool grows;
	unsigned char *data;
};
struct file {
	uint64_t ino;
	unsigned char *data; /* durable */
	uint64_t size;
	struct change *changes;
	size_t count, room;
};
struct entry {
	uint64_t dir, ino;
	bool is_dir;
	char name[NAME_SIZE];
};
struct name_change {
	uint64_t index;
	uint32_t kind;
	struct entry from, to; /* what goes, if its dir is not 0, and what comes */
};
struct syncing {
	uint64_t number, ino, index;
	bool whole;
};
struct disk {
	enum disk_model model;
	bool whole;
	uint64_t root;
	uint64_t floor; /* metadata before this record is durable: all of it, or, with DISK_STRICT, names */
	struct file **files;
	size_t file_count, file_room;
	struct entry *entries; /* durable */
	size_t entry_count, entry_room;
	struct name_change *names;
	size_t name_count, name_room;
	struct syncing *syncs;
	size_t sync_count, sync_room;
};

static void *grow(void *array, size_t *room, size_t count, size_t item)
{
	if (count < *room)
		return array;
	*room = *room ? *room * 2 : 64;
	array = realloc(array, *room * item);
	if (!array)
		abort();
	return array;
}

struct disk *disk_new(enum disk_model model, bool whole, uint64_t root_ino)
{
	struct disk *d = calloc(1, sizeof(*d));

	if (!d)
		abort();
	d->model = model;
	d->whole = whole;
	d->root = root_ino;
	return d;
}

void disk_free(struct disk *d)
{
	for (size_t i = 0; i < d->file_count; i++) {
		for (size_t j = 0; j < d->files[i]->count; j++)
			free(d->files[i]->changes[j].data);
		free(d->files[i]->changes);
		free(d->files[i]->data);
		free(d->files[i]);
	}
	free(d->files);
	free(d->entries);
	free(d->names);
	free(d->syncs);
	free(d);
}

static struct file *find_file(struct disk *d, uint64_t ino)
{
	for (size_t i = d->file_count; i-- > 0;)
		if (d->files[i]->ino == ino)
			return d->files[i];
	d->files = grow(d->files, &d->file_room, d->file_count, sizeof(*d->files));
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->ino = ino;
	d->files[d->file_count++] = f;
	return f;
}

/* ---- contents ---- */
static void set_size(unsigned char **data, uint64_t *size, uint64_t want)
{
	unsigned char *bigger = realloc(*data, want ? want : 1);

	if (!bigger)
		abort();
	if (want > *size)
		memset(bigger + *size, 0, want - *size);
	*data = bigger;
	*size = want;
}

static void apply_meta(const struct change *c, unsigned char **data, uint64_t *size)
{
	if (c->kind == TRACE_TRUNCATE)
		set_size(data, size, c->len);
	else if (c->kind == TRACE_PUNCH && c->off < *size)
		memset(*data + c->off, 0, c->off + c->len < *size ? c->len : *size - c->off);
	else if (c->kind == TRACE_ALLOCATE && c->grows && c->off + c->len > *size)
		set_size(data, size, c->off + c->len);
}

static void apply_write(const struct change *c, uint64_t from, uint64_t to, unsigned char **data, uint64_t *size)
{
	if (to > *size)
		set_size(data, size, to);
	memcpy(*data + from, c->data + (from - c->off), to - from);
}

/* A sync makes all changes before a record durable. */
static void sync_file(struct file *f, uint64_t index)
{
	size_t kept = 0;

	for (size_t i = 0; i < f->count; i++) {
		struct change *c = &f->changes[i];

		if (c->index >= index) {
			f->changes[kept++] = *c;
			continue;
		}
		if (c->kind == TRACE_WRITE)
			apply_write(c, c->off, c->off + c->len, &f->data, &f->size);
		else
			apply_meta(c, &f->data, &f->size);
		free(c->data);
	}
	f->count = kept;
}

static void add_change(struct disk *d, uint64_t index, const struct trace_record *r, const unsigned char *data)
{
	struct file *f = find_file(d, r->a);
	struct change c = { .index = index, .kind = r->kind, .off = r->b, .len = r->c, .grows = r->d };

	if (r->kind == TRACE_TRUNCATE)
		c.len = r->b;
	if (r->kind == TRACE_WRITE) {
		c.len = r->data_len;
		c.data = malloc(r->data_len + 1);
		if (!c.data)
			abort();
		memcpy(c.data, data, r->data_len);
	}
	f->changes = grow(f->changes, &f->room, f->count, sizeof(*f->changes));
	f->changes[f->count++] = c;
}

/* ---- names ---- */
static struct entry *find_entry(struct entry *list, size_t count, uint64_t dir, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (list[i].dir == dir && !strcmp(list[i].name, name))
			return &list[i];
	return NULL;
}

static void apply_name(struct entry **list, size_t *count, size_t *room, const struct name_change *n)
{
	struct entry *e = n->from.dir ? find_entry(*list, *count, n->from.dir, n->from.name) : NULL;

	if (e)
		*e = (*list)[--*count];
	if (!n->to.dir)
		return;
	e = find_entry(*list, *count, n->to.dir, n->to.name);
	if (!e) {
		*list = grow(*list, room, *count, sizeof(**list));
		e = &(*list)[(*count)++];
	}
	*e = n->to;
}

static bool touches(const struct name_change *n, uint64_t dir)
{
	return n->from.dir == dir || n->to.dir == dir;
}

/* Makes changes of names durable: those before a record, in one directory or (0) in all. */
static void sync_names(struct disk *d, uint64_t index, uint64_t dir)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->name_count; i++) {
		if (d->names[i].index < index && (!dir || touches(&d->names[i], dir)))
			apply_name(&d->entries, &d->entry_count, &d->entry_room, &d->names[i]);
		else
			d->names[kept++] = d->names[i];
	}
	d->name_count = kept;
}

static void raise_floor(struct disk *d, uint64_t floor)
{
	if (floor <= d->floor)
		return;
	d->floor = floor;
	sync_names(d, floor, 0);
}

static void put_entry(struct entry *e, uint64_t dir, uint64_t ino, bool is_dir, const char *name, size_t len)
{
	e->dir = dir;
	e->ino = ino;
	e->is_dir = is_dir;
	snprintf(e->name, sizeof(e->name), "%.*s", (int)len, name);
}

static void add_name(struct disk *d, uint64_t index, const struct trace_record *r, const char *name)
{
	struct name_change n = { .index = index, .kind = r->kind };
	size_t len = strnlen(name, r->name_len);

	if (r->kind == TRACE_UNLINK) {
		put_entry(&n.from, r->a, 0, false, name, len);
	} else if (r->kind == TRACE_RENAME) {
		put_entry(&n.from, r->a, 0, false, name, len);
		put_entry(&n.to, r->b, r->c, false, name + len + 1, r->name_len - len - 1);
	} else {
		put_entry(&n.to, r->a, r->b, r->kind == TRACE_MKDIR, name, len);
	}
	d->names = grow(d->names, &d->name_room, d->name_count, sizeof(*d->names));
	d->names[d->name_count++] = n;
}

/* ---- syncs ---- */
/* Syncing a file on a file system that journals metadata in order: what came before the file's last metadata is durable. */
static void raise_for_file(struct disk *d, const struct file *f, uint64_t index)
{
	uint64_t floor = 0;

	for (size_t i = 0; i < f->count; i++)
		if (f->changes[i].index < index && f->changes[i].kind != TRACE_WRITE)
			floor = f->changes[i].index + 1;
	for (size_t i = 0; i < d->name_count; i++)
		if (d->names[i].index < index && d->names[i].to.ino == f->ino && d->names[i].kind == TRACE_CREATE &&
		    d->names[i].index >= floor)
			floor = d->names[i].index + 1;
	raise_floor(d, floor);
}

static void sync_directory(struct disk *d, uint64_t dir, uint64_t index)
{
	uint64_t floor = 0;

	if (d->model == DISK_SUBSET) {
		sync_names(d, index, dir);
		return;
	}
	for (size_t i = 0; i < d->name_count; i++)
		if (d->names[i].index < index && touches(&d->names[i], dir))
			floor = d->names[i].index + 1;
	raise_floor(d, floor);
}

static void sync_ended(struct disk *d, uint64_t number)
{
	size_t i = 0;

	while (i < d->sync_count && d->syncs[i].number != number)
		i++;
	if (i == d->sync_count)
		abort();
	struct syncing s = d->syncs[i];

	d->syncs[i] = d->syncs[--d->sync_count];
	if (s.whole) {
		for (size_t j = 0; j < d->file_count; j++)
			sync_file(d->files[j], s.index);
		if (d->model == DISK_SUBSET)
			sync_names(d, s.index, 0);
		else
			raise_floor(d, s.index);
		return;
	}
	struct file *f = find_file(d, s.ino);

	if (d->model == DISK_ORDERED)
		raise_for_file(d, f, s.index);
	sync_file(f, s.index);
	sync_directory(d, s.ino, s.index);
}

void disk_apply(struct disk *d, uint64_t index, const struct trace_record *r, const unsigned char *payload)
{
	switch (r->kind) {
	case TRACE_CREATE:
	case TRACE_MKDIR:
	case TRACE_UNLINK:
	case TRACE_RENAME:
		add_name(d, index, r, (const char *)payload);
		break;
	case TRACE_WRITE:
	case TRACE_TRUNCATE:
	case TRACE_PUNCH:
	case TRACE_ALLOCATE:
		add_change(d, index, r, payload + r->name_len);
		break;
	case TRACE_SYNC:
		d->syncs = grow(d->syncs, &d->sync_room, d->sync_count, sizeof(*d->syncs));
		d->syncs[d->sync_count++] = (struct syncing){ r->a, r->b, index, r->c };
		break;
	case TRACE_SYNCED:
		sync_ended(d, r->a);
		break;
	default:
		break;
	}
}

/* ---- a cut ---- */
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
		apply_write(c, from, to, data, size);
	} else if (left == 0 && cut->torn && z % 4 == 0) {
		for (unsigned s = 0; s < SECTORS; s++) {
			uint64_t at = page * BLOCK + s * SECTOR, end = at + SECTOR;

			at = at < from ? from : at;
			end = end > to ? to : end;
			if (at < end && z >> (8 + s) & 1)
				apply_write(c, at, end, data, size);
		}
	} else if (to > *size && z >> 20 & 1 && cut->luck != LUCK_NONE) {
		set_size(data, size, to); /* the size got there, the data did not */
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
				apply_meta(c, data, size);
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
	const struct file *f = find_file(d, ino);
	unsigned char *data = NULL;
	uint64_t size = 0;

	set_size(&data, &size, f->size);
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
			apply_name(&list, &count, &room, &d->names[i]);
	int r = build_dir(d, &cut, list, count, d->root, root, 0);

	free(list);
	return r;
}

/* ---- a file system as it is ---- */
static int load_file(struct disk *d, const char *path, const struct stat *st)
{
	struct file *f = find_file(d, st->st_ino);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	set_size(&f->data, &f->size, (uint64_t)st->st_size);
	bool whole = pread(fd, f->data, f->size, 0) == (ssize_t)f->size;

	close(fd);
	return whole ? 0 : -EIO;
}

static int load_dir(struct disk *d, const char *path, uint64_t ino)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	int r = dir ? 0 : -errno;

	while (r == 0 && (e = readdir(dir))) {
		char below_path[1024];
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(below_path, sizeof(below_path), "%s/%s", path, e->d_name);
		if (lstat(below_path, &st) < 0)
			r = -errno;
		else if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
			continue; /* a socket */
		d->entries = grow(d->entries, &d->entry_room, d->entry_count, sizeof(*d->entries));
		put_entry(&d->entries[d->entry_count++], ino, st.st_ino, S_ISDIR(st.st_mode), e->d_name,
			  strlen(e->d_name));
		if (r == 0)
			r = S_ISDIR(st.st_mode) ? load_dir(d, below_path, st.st_ino) : load_file(d, below_path, &st);
	}
	if (dir)
		closedir(dir);
	return r;
}

int disk_load(struct disk *d, const char *root)
{
	return load_dir(d, root, d->root);
}
