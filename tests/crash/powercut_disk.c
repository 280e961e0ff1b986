/* Power-cut test: follows a trace, and knows what is durable and what is not. */
#include "powercut_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void *disk_grow(void *array, size_t *room, size_t count, size_t item)
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

struct file *disk_file(struct disk *d, uint64_t ino)
{
	for (size_t i = d->file_count; i-- > 0;)
		if (d->files[i]->ino == ino)
			return d->files[i];
	d->files = disk_grow(d->files, &d->file_room, d->file_count, sizeof(*d->files));
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	f->ino = ino;
	d->files[d->file_count++] = f;
	return f;
}

/* ---- contents ---- */
void content_resize(unsigned char **data, uint64_t *size, uint64_t want)
{
	unsigned char *bigger = realloc(*data, want ? want : 1);

	if (!bigger)
		abort();
	if (want > *size)
		memset(bigger + *size, 0, want - *size);
	*data = bigger;
	*size = want;
}

void content_change(const struct change *c, unsigned char **data, uint64_t *size)
{
	if (c->kind == TRACE_TRUNCATE)
		content_resize(data, size, c->len);
	else if (c->kind == TRACE_PUNCH && c->off < *size)
		memset(*data + c->off, 0, c->off + c->len < *size ? c->len : *size - c->off);
	else if (c->kind == TRACE_ALLOCATE && c->grows && c->off + c->len > *size)
		content_resize(data, size, c->off + c->len);
}

void content_write(const struct change *c, uint64_t from, uint64_t to, unsigned char **data, uint64_t *size)
{
	if (to > *size)
		content_resize(data, size, to);
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
			content_write(c, c->off, c->off + c->len, &f->data, &f->size);
		else
			content_change(c, &f->data, &f->size);
		free(c->data);
	}
	f->count = kept;
}

static void add_change(struct disk *d, uint64_t index, const struct trace_record *r, const unsigned char *data)
{
	struct file *f = disk_file(d, r->a);
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
	f->changes = disk_grow(f->changes, &f->room, f->count, sizeof(*f->changes));
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

void list_change(struct entry **list, size_t *count, size_t *room, const struct name_change *n)
{
	struct entry *e = n->from.dir ? find_entry(*list, *count, n->from.dir, n->from.name) : NULL;

	if (e)
		*e = (*list)[--*count];
	if (!n->to.dir)
		return;
	e = find_entry(*list, *count, n->to.dir, n->to.name);
	if (!e) {
		*list = disk_grow(*list, room, *count, sizeof(**list));
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
			list_change(&d->entries, &d->entry_count, &d->entry_room, &d->names[i]);
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
	d->names = disk_grow(d->names, &d->name_room, d->name_count, sizeof(*d->names));
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
	struct file *f = disk_file(d, s.ino);

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
		d->syncs = disk_grow(d->syncs, &d->sync_room, d->sync_count, sizeof(*d->syncs));
		d->syncs[d->sync_count++] = (struct syncing){ r->a, r->b, index, r->c };
		break;
	case TRACE_SYNCED:
		sync_ended(d, r->a);
		break;
	default:
		break;
	}
}

/* ---- a file system as it is ---- */
static int load_file(struct disk *d, const char *path, const struct stat *st)
{
	struct file *f = disk_file(d, st->st_ino);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	content_resize(&f->data, &f->size, (uint64_t)st->st_size);
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
		d->entries = disk_grow(d->entries, &d->entry_room, d->entry_count, sizeof(*d->entries));
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
