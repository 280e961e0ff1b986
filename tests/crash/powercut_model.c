/* Power-cut test: what a worker's directory may look like, and comparing it with what is there. */
#include "powercut.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15U);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

uint64_t below(uint64_t *state, uint64_t n)
{
	return next_random(state) % n;
}

/* Bytes that depend on the seed and their place alone. */
void fill_pattern(uint64_t seed, uint64_t off, unsigned char *data, size_t len)
{
	uint64_t word = 0;

	for (size_t i = 0; i < len; i++) {
		uint64_t at = off + i;

		if (i == 0 || at % 8 == 0) {
			uint64_t state = seed ^ (at / 8) << 20;

			word = next_random(&state);
		}
		data[i] = (unsigned char)(word >> (at % 8 * 8));
	}
}

static uint64_t hash_bytes(const unsigned char *data, size_t len)
{
	uint64_t h = len, word;

	for (size_t i = 0; i + 8 <= len; i += 8) {
		memcpy(&word, data + i, 8);
		h = (h ^ word) * 0x9e3779b97f4a7c15U;
		h ^= h >> 32;
	}
	for (size_t i = len & ~(size_t)7; i < len; i++)
		h = (h ^ data[i]) * 0x100000001b3U;
	return h;
}

static uint64_t zero_hash(void)
{
	static const unsigned char zeros[BLOCK];

	return hash_bytes(zeros, BLOCK);
}

/* ---- one file ---- */
static struct version *push(struct version *list, uint32_t *count, uint32_t *size, uint64_t hash, uint32_t op)
{
	if (*count == *size) {
		*size = *size ? *size * 2 : 4;
		list = realloc(list, *size * sizeof(*list));
		if (!list)
			abort();
	}
	list[(*count)++] = (struct version){ hash, op };
	return list;
}

static void block_changed(struct file_model *f, uint32_t number, uint32_t op)
{
	struct block_model *b = &f->block[number];

	if (!b->count) /* what it was before anything was written to it */
		b->versions = push(b->versions, &b->count, &b->size, zero_hash(), 0);
	b->versions = push(b->versions, &b->count, &b->size, hash_bytes(f->content + (size_t)number * BLOCK, BLOCK),
			   op);
	if (number >= f->blocks)
		f->blocks = number + 1;
}

static void size_changed(struct file_model *f, uint64_t size)
{
	f->size = size;
	f->size_min = size < f->size_min ? size : f->size_min;
	f->size_max = size > f->size_max ? size : f->size_max;
}

static void change_bytes(struct file_model *f, const struct op *op, uint64_t off, uint64_t len)
{
	if (op->kind == OP_WRITE)
		fill_pattern(op->seed, off, f->content + off, len);
	else
		memset(f->content + off, 0, len);
	for (uint64_t b = off / BLOCK; len && b * BLOCK < off + len; b++)
		block_changed(f, (uint32_t)b, op->number);
}

static void change_file(struct file_model *f, const struct op *op)
{
	switch (op->kind) {
	case OP_WRITE:
		change_bytes(f, op, op->off, op->len);
		size_changed(f, op->off + op->len > f->size ? op->off + op->len : f->size);
		break;
	case OP_TRUNCATE:
		if (op->len < f->size)
			change_bytes(f, op, op->len, f->size - op->len);
		size_changed(f, op->len);
		break;
	case OP_PUNCH:
		if (op->off < f->size)
			change_bytes(f, op, op->off, op->off + op->len < f->size ? op->len : f->size - op->off);
		break;
	case OP_ALLOCATE:
		size_changed(f, op->off + op->len > f->size ? op->off + op->len : f->size);
		break;
	default:
		f->xattrs = push(f->xattrs, &f->xattr_count, &f->xattr_size, op->len ? op->seed : 0, op->number);
	}
}

static void file_synced(struct file_model *f)
{
	for (uint32_t i = 0; i < f->blocks; i++)
		if (f->block[i].count)
			f->block[i].since = f->block[i].count - 1;
	f->size_min = f->size_max = f->size;
	f->xattr_since = f->xattr_count - 1;
}

static struct file_model *file_new(struct world *w)
{
	struct file_model *f = calloc(1, sizeof(*f));

	if (!f || w->file_count == MAX_FILES)
		abort();
	f->content = calloc(MAX_BLOCKS, BLOCK);
	if (!f->content)
		abort();
	f->xattrs = push(NULL, &f->xattr_count, &f->xattr_size, 0, 0);
	return w->files[w->file_count++] = f;
}

/* ---- names ---- */
static void change_names(struct names *n, const struct op *op)
{
	int32_t *from = &n->at[op->dir][op->name], *to = &n->at[op->dir2][op->name2], swap = *from;

	switch (op->kind) {
	case OP_CREATE:
		*from = op->file;
		break;
	case OP_UNLINK:
		*from = -1;
		break;
	case OP_RENAME:
		if (*from != *to) { /* two names of one file: nothing happens */
			*from = -1;
			*to = swap;
		}
		break;
	case OP_EXCHANGE:
		*from = *to;
		*to = swap;
		break;
	case OP_LINK:
		*to = op->file;
		break;
	case OP_MKDIR:
	case OP_RMDIR:
		n->dirs[op->dir] = op->kind == OP_MKDIR;
		break;
	default:
		break;
	}
}

void world_init(struct world *w)
{
	*w = (struct world){ 0 };
	memset(w->now.at, -1, sizeof(w->now.at));
	w->now.dirs[0] = true;
	w->synced = w->now;
}

void world_free(struct world *w)
{
	for (int i = 0; i < w->file_count; i++) {
		for (uint32_t b = 0; b < MAX_BLOCKS; b++)
			free(w->files[i]->block[b].versions);
		free(w->files[i]->xattrs);
		free(w->files[i]->content);
		free(w->files[i]);
	}
	free(w->since);
	*w = (struct world){ 0 };
}

void world_begin(struct world *w, const struct op *op)
{
	switch (op->kind) {
	case OP_CREATE:
	case OP_TMPFILE:
		file_new(w);
		break;
	case OP_WRITE:
	case OP_TRUNCATE:
	case OP_PUNCH:
	case OP_ALLOCATE:
	case OP_XATTR:
		change_file(w->files[op->file], op);
		return;
	case OP_SYNC:
	case OP_SYNC_DIR:
		w->syncing = *op;
		return;
	case OP_CLOSE:
		return;
	default:
		break;
	}
	change_names(&w->now, op);
	if (w->since_count == w->since_size) {
		w->since_size = w->since_size ? w->since_size * 2 : 64;
		w->since = realloc(w->since, w->since_size * sizeof(*w->since));
		if (!w->since)
			abort();
	}
	w->since[w->since_count++] = *op;
}

static bool concerns(const struct op *change, const struct op *sync)
{
	bool two = change->kind == OP_RENAME || change->kind == OP_EXCHANGE || change->kind == OP_LINK;
	bool one = change->kind != OP_LINK && change->kind != OP_TMPFILE;
	bool whole = change->kind == OP_MKDIR || change->kind == OP_RMDIR;

	if (sync->kind == OP_SYNC)
		return !whole && (change->file == sync->file || change->file2 == sync->file);
	return (one && change->dir == sync->dir) || (two && change->dir2 == sync->dir) || (whole && sync->dir == 0);
}

/* Changes of names get to the disk in order, so a sync makes durable those up to the last one of what is synced. Two syncs of
 * one operation may both end: the first one counts. */
void world_end(struct world *w, const struct op *op)
{
	uint32_t durable = 0;

	if (op->kind == OP_CREATE || op->kind == OP_TMPFILE)
		w->files[op->file]->ino = op->ino;
	if ((op->kind != OP_SYNC && op->kind != OP_SYNC_DIR) || w->syncing.number != op->number)
		return;
	w->syncing.number = 0;
	if (op->kind == OP_SYNC)
		file_synced(w->files[op->file]);
	for (uint32_t i = 0; i < w->since_count; i++)
		if (concerns(&w->since[i], op))
			durable = i + 1;
	for (uint32_t i = 0; i < durable; i++)
		change_names(&w->synced, &w->since[i]);
	w->since_count -= durable;
	memmove(w->since, w->since + durable, w->since_count * sizeof(*w->since));
}

void world_synced(struct world *w)
{
	for (int i = 0; i < w->file_count; i++)
		file_synced(w->files[i]);
	w->synced = w->now;
	w->since_count = 0;
}

/* ---- comparing ---- */
__attribute__((format(printf, 2, 3))) static bool wrong(const char *path, const char *format, ...)
{
	va_list list;

	printf("%s: ", path);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	printf("\n");
	return false;
}

void object_path(char *out, size_t size, const char *mnt, int worker, int dir, int name)
{
	int n = snprintf(out, size, "%s/w%d", mnt, worker);

	if (dir)
		n += snprintf(out + n, size - (size_t)n, "/d%d", dir);
	if (name >= 0)
		snprintf(out + n, size - (size_t)n, "/n%d", name);
}

struct found {
	bool dirs[DIRS];
	uint64_t ino[DIRS][NAMES];
};

static bool list_dir(const char *mnt, int worker, int dir, struct found *found)
{
	char path[512];
	struct dirent *e;
	bool good = true;

	object_path(path, sizeof(path), mnt, worker, dir, -1);
	DIR *d = opendir(path);

	if (!d)
		return wrong(path, "cannot be listed: %s", strerror(errno));
	found->dirs[dir] = true;
	while (good && (errno = 0, e = readdir(d))) {
		int number = e->d_name[0] ? e->d_name[1] - '0' : -1;
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			good = wrong(path, "%s is listed, but: %s", e->d_name, strerror(errno));
		else if (e->d_name[0] == 'd' && !dir && number > 0 && number < DIRS && S_ISDIR(st.st_mode))
			good = list_dir(mnt, worker, number, found);
		else if (e->d_name[0] == 'n' && number >= 0 && number < NAMES && S_ISREG(st.st_mode))
			found->ino[dir][number] = st.st_ino;
		else
			good = wrong(path, "holds %s, which nobody made", e->d_name);
	}
	if (good && errno)
		good = wrong(path, "cannot be read: %s", strerror(errno));
	closedir(d);
	return good;
}

static bool names_agree(const struct world *w, const struct names *n, const struct found *found)
{
	for (int d = 0; d < DIRS; d++) {
		if (n->dirs[d] != found->dirs[d])
			return false;
		for (int i = 0; i < NAMES; i++) {
			int32_t file = n->at[d][i];

			if ((file >= 0) != (found->ino[d][i] != 0))
				return false;
			if (file >= 0 && w->files[file]->ino && w->files[file]->ino != found->ino[d][i])
				return false;
		}
	}
	return true;
}

static void say_names(const struct world *w, const struct names *n, const struct found *found)
{
	for (int d = 0; d < DIRS; d++)
		for (int i = 0; i < NAMES; i++) {
			int32_t file = n->at[d][i];
			uint64_t ino = file >= 0 ? w->files[file]->ino : 0;

			if (found->ino[d][i] != ino)
				printf("  dir %d name %d: object %llu, synced was file %d, object %llu\n", d, i,
				       (unsigned long long)found->ino[d][i], file, (unsigned long long)ino);
		}
	for (uint32_t i = 0; i < w->since_count; i++)
		printf("  then operation %u, kind %u: dir %d name %d dir %d name %d file %d\n", w->since[i].number,
		       w->since[i].kind, w->since[i].dir, w->since[i].name, w->since[i].dir2, w->since[i].name2,
		       w->since[i].file);
}

static bool check_block(const struct file_model *f, uint32_t number, const unsigned char *data, const char *path)
{
	const struct block_model *b = &f->block[number];
	uint64_t hash = hash_bytes(data, BLOCK);

	if (!b->count && hash == zero_hash())
		return true;
	for (uint32_t i = b->since; i < b->count; i++)
		if (b->versions[i].hash == hash)
			return true;
	for (uint32_t i = 0; i < b->since; i++)
		if (b->versions[i].hash == hash)
			return wrong(path, "block %u is as operation %u left it; that of %u was synced", number,
				     b->versions[i].op, b->versions[b->since].op);
	return wrong(path, "block %u is nothing that was ever written there (%s)", number,
		     hash == zero_hash() ? "zeros" : "no zeros either");
}

static bool check_content(const struct file_model *f, int fd, const struct stat *st, const char *path)
{
	static unsigned char data[(MAX_BLOCKS + 1) * BLOCK];
	uint64_t size = (uint64_t)st->st_size;
	bool good = true;
	ssize_t n;

	if (size < f->size_min || size > f->size_max)
		return wrong(path, "has %llu bytes, from %llu to %llu may be", (unsigned long long)size,
			     (unsigned long long)f->size_min, (unsigned long long)f->size_max);
	memset(data, 0, sizeof(data));
	for (uint64_t at = 0; at < size; at += (uint64_t)n) {
		n = pread(fd, data + at, size - at, (off_t)at);
		if (n <= 0)
			return wrong(path, "cannot be read at %llu: %s", (unsigned long long)at,
				     n ? strerror(errno) : "end");
	}
	for (uint32_t i = 0; i < MAX_BLOCKS && (uint64_t)i * BLOCK < size; i++)
		good = check_block(f, i, data + (size_t)i * BLOCK, path) && good;
	return good;
}

static bool check_xattr(const struct file_model *f, int fd, const char *path)
{
	static unsigned char value[65536], want[65536];
	ssize_t n = fgetxattr(fd, "user.v", value, sizeof(value));

	if (n < 0 && errno != ENODATA)
		return wrong(path, "its attribute cannot be read: %s", strerror(errno));
	for (uint32_t i = f->xattr_since; i < f->xattr_count; i++) {
		uint64_t seed = f->xattrs[i].hash;

		if (n < 0 && !seed)
			return true;
		if (n > 0 && seed) {
			fill_pattern(seed, 0, want, (size_t)n);
			/* The seed's low bits are the length. */
			if ((seed & 0xffff) == (uint64_t)n && !memcmp(value, want, (size_t)n))
				return true;
		}
	}
	return wrong(path, "its attribute has %zd bytes that nobody gave it, or that were replaced before a sync", n);
}

static bool check_file(const struct file_model *f, const char *path, int links)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool good;

	if (fd < 0 || fstat(fd, &st) < 0)
		return wrong(path, "cannot be opened: %s", strerror(errno));
	good = check_content(f, fd, &st, path) && check_xattr(f, fd, path);
	if (good && (int)st.st_nlink != links)
		good = wrong(path, "has %d links, %d names", (int)st.st_nlink, links);
	close(fd);
	return good;
}

static bool check_files(const struct world *w, const struct names *n, const char *mnt, int worker)
{
	bool good = true;

	for (int d = 0; d < DIRS; d++)
		for (int i = 0; i < NAMES; i++) {
			int32_t file = n->at[d][i];
			char path[512];
			int links = 0;

			for (int j = 0; file >= 0 && j < DIRS * NAMES; j++)
				links += n->at[j / NAMES][j % NAMES] == file;
			object_path(path, sizeof(path), mnt, worker, d, i);
			if (file >= 0)
				good = check_file(w->files[file], path, links) && good;
		}
	return good;
}

bool world_check(const struct world *w, const char *mnt, int worker)
{
	struct found found = { 0 };
	struct names n = w->synced;
	char path[512];

	if (!list_dir(mnt, worker, 0, &found))
		return false;
	for (uint32_t i = 0; !names_agree(w, &n, &found); i++) {
		if (i == w->since_count) {
			object_path(path, sizeof(path), mnt, worker, 0, -1);
			say_names(w, &w->synced, &found);
			return wrong(path, "its names are at no moment since the last sync");
		}
		change_names(&n, &w->since[i]);
	}
	return check_files(w, &n, mnt, worker);
}
