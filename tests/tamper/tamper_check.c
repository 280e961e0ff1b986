/* Reading everything: each answer is the truth, or an error where something was damaged. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "../../src/store/geometry.h"
#include "tamper.h"

static void wrong(unsigned i, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void wrong(unsigned i, const char *fmt, ...)
{
	struct outcome *o = &shared->outcome[i];
	va_list args;

	va_start(args, fmt);
	if (o->wrong++ == 0)
		vsnprintf(o->first, sizeof(o->first), fmt, args);
	va_end(args);
}

static void refused(unsigned i, bool allowed, const char *what, int r)
{
	shared->outcome[i].errors++;
	if (!allowed)
		wrong(i, "%s: %s, though nothing of that was touched", what, strerror(-r));
}

static bool in_damage(const struct damage *d, uint64_t first, uint64_t count, bool *ret_garbage)
{
	bool hit = d->whole;

	*ret_garbage = false;
	for (unsigned i = 0; i < d->range_count; i++) {
		if (d->ranges[i].first >= first + count || first >= d->ranges[i].end)
			continue;
		hit = true;
		*ret_garbage = *ret_garbage || d->ranges[i].garbage;
	}
	return hit;
}

/* Whether a name may be out of reach because of its directory. */
static bool behind_damage(const struct node *n)
{
	const struct damage *d = &shared->damage[n->parent];
	bool garbage;

	if (shared->nodes[n->parent].kind == K_ROOT)
		return d->whole || d->range_count;
	return in_damage(d, n->dir_block, 1, &garbage);
}

/* ---- contents ---- */
static void check_block(struct volume *v, unsigned i, uint64_t number, uint64_t block)
{
	const struct node *n = &shared->nodes[i];
	uint8_t want[BLOCK_SIZE], got[BLOCK_SIZE];
	uint64_t off = block * BLOCK_SIZE, left = off < n->size ? n->size - off : 0;
	size_t len = left < BLOCK_SIZE ? (size_t)left : BLOCK_SIZE;
	bool garbage, allowed = in_damage(&shared->damage[i], block, 1, &garbage);
	ssize_t r = volume_read(v, number, off, BLOCK_SIZE, got);

	content_of(i, block, want);
	if (r < 0)
		refused(i, allowed, "reading a block", (int)r);
	else if ((size_t)r != len)
		wrong(i, "block %llu: %zd bytes instead of %zu", (unsigned long long)block, r, len);
	else if (!garbage && memcmp(want, got, len) != 0)
		wrong(i, "block %llu reads as something else", (unsigned long long)block);
}

static void check_run(struct volume *v, unsigned i, uint64_t number, const struct run *run)
{
	const struct node *n = &shared->nodes[i];
	uint64_t off = run->first * BLOCK_SIZE;
	uint8_t *got = malloc(run->count * BLOCK_SIZE), want[BLOCK_SIZE];
	bool garbage, allowed = in_damage(&shared->damage[i], run->first, run->count, &garbage);
	ssize_t r = got ? volume_read(v, number, off, run->count * BLOCK_SIZE, got) : -ENOMEM;
	uint64_t len = run->count * BLOCK_SIZE;

	if (len > n->size - off)
		len = n->size - off;
	if (r < 0)
		refused(i, allowed, "reading many blocks", (int)r);
	else if ((uint64_t)r != len)
		wrong(i, "%zd bytes instead of %llu", r, (unsigned long long)len);
	for (uint64_t b = 0; r > 0 && !garbage && b < run->count; b++) {
		content_of(i, run->first + b, want);
		size_t part = len - b * BLOCK_SIZE < BLOCK_SIZE ? (size_t)(len - b * BLOCK_SIZE) : BLOCK_SIZE;

		if (memcmp(got + b * BLOCK_SIZE, want, part) != 0)
			wrong(i, "block %llu of many reads as something else", (unsigned long long)(run->first + b));
	}
	free(got);
}

static void check_seek(struct volume *v, unsigned i, uint64_t number)
{
	const struct node *n = &shared->nodes[i];
	const struct damage *d = &shared->damage[i];
	uint64_t from = 0, at;

	for (unsigned j = 0; j < n->run_count; j++) {
		uint64_t first = n->runs[j].first * BLOCK_SIZE, end = first + n->runs[j].count * BLOCK_SIZE;
		int r = volume_seek(v, number, from, SEEK_DATA, &at);

		if (end > n->size)
			end = n->size;
		if (r < 0)
			refused(i, d->whole || d->maps, "SEEK_DATA", r);
		else if (at != first)
			wrong(i, "data begins at %llu instead of %llu", (unsigned long long)at,
			      (unsigned long long)first);
		r = volume_seek(v, number, first, SEEK_HOLE, &at);
		if (r < 0)
			refused(i, d->whole || d->maps, "SEEK_HOLE", r);
		else if (at != end)
			wrong(i, "a hole begins at %llu instead of %llu", (unsigned long long)at,
			      (unsigned long long)end);
		from = end;
	}
}

void check_file(struct volume *v, unsigned i, uint64_t number)
{
	const struct node *n = &shared->nodes[i];
	uint64_t limit = (n->size + BLOCK_SIZE - 1) / BLOCK_SIZE;

	for (unsigned j = 0; j < n->run_count; j++) {
		uint64_t first = n->runs[j].first, end = first + n->runs[j].count + 3;

		for (uint64_t b = first < 3 ? 0 : first - 3; b < end && b < limit; b++)
			check_block(v, i, number, b);
		check_run(v, i, number, &n->runs[j]);
	}
	for (uint64_t g = 0; g < 6 && geometry_group_first(g) + 1 < limit; g++)
		for (uint64_t b = geometry_group_first(g) - 1; b <= geometry_group_first(g); b++)
			check_block(v, i, number, b);
	check_seek(v, i, number);
}

/* ---- the rest of an object ---- */
static void check_link(struct volume *v, unsigned i, uint64_t number)
{
	const struct node *n = &shared->nodes[i];
	char want[LONG_TARGET + 1], got[VOLUME_SYMLINK_MAX + 1];
	bool garbage, allowed = in_damage(&shared->damage[i], 0, 1, &garbage);
	int r = volume_readlink(v, number, got, sizeof(got));

	target_of(n, want);
	if (r < 0)
		refused(i, allowed, "readlink", r);
	else if (strcmp(want, got) != 0)
		wrong(i, "the link leads elsewhere");
}

static void check_xattr(struct volume *v, unsigned i, uint64_t number, const char *name, bool there, bool big)
{
	static uint8_t want[BIG_XATTR], got[VOLUME_XATTR_MAX];
	size_t len = there ? xattr_of(i, big, want) : 0;
	const struct damage *d = &shared->damage[i];
	ssize_t r = volume_getxattr(v, number, name, got, sizeof(got));

	if (!there && r == -ENODATA)
		return;
	if (r < 0)
		refused(i, d->whole || d->xattrs, name, (int)r);
	else if (!there || (size_t)r != len || memcmp(want, got, len) != 0)
		wrong(i, "attribute %s is another one", name);
}

static void check_xattrs(struct volume *v, unsigned i, uint64_t number)
{
	const struct node *n = &shared->nodes[i];
	const struct damage *d = &shared->damage[i];
	static const char both[] = "user.short\0user.long";
	char got[256];
	size_t len = n->big_xattr ? sizeof(both) : n->inline_xattr ? strlen(both) + 1 : 0;
	ssize_t r = volume_listxattr(v, number, true, got, sizeof(got));

	if (r < 0)
		refused(i, d->whole || d->xattrs, "listxattr", (int)r);
	else if ((size_t)r != len || memcmp(got, both, len) != 0)
		wrong(i, "the list of attributes is another one");
	check_xattr(v, i, number, "user.short", n->inline_xattr, false);
	check_xattr(v, i, number, "user.long", n->big_xattr, true);
	check_xattr(v, i, number, "user.none", false, false);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static void check_stat(unsigned i, const struct stat *st, bool exact)
{
	const struct node *n = &shared->nodes[i];
	const struct stat *base = &n->st;
	bool dir = S_ISDIR(n->mode);

	if (st->st_ino != n->number || st->st_mode != n->mode || st->st_rdev != n->rdev)
		wrong(i, "it is another object, or of another kind");
	if (n->kind != K_ROOT && n->kind != K_ALIAS && (st->st_uid != 1000 + i || st->st_gid != 2000 + i))
		wrong(i, "owned by %u:%u", st->st_uid, st->st_gid);
	if (st->st_uid != base->st_uid || st->st_gid != base->st_gid)
		wrong(i, "owned by %u:%u", st->st_uid, st->st_gid);
	if (S_ISREG(n->mode) && n->kind != K_ALIAS && (uint64_t)st->st_size != n->size)
		wrong(i, "%lld bytes long", (long long)st->st_size);
	if (st->st_nlink != base->st_nlink || (!dir && st->st_size != base->st_size) ||
	    (!dir && st->st_blocks != base->st_blocks))
		wrong(i, "links, size or blocks are others");
	if (exact && n->kind != K_WORK &&
	    (!same_time(&st->st_mtim, &base->st_mtim) || !same_time(&st->st_ctim, &base->st_ctim) ||
	     st->st_size != base->st_size))
		wrong(i, "its times are others, or its size is");
}

/* ---- directories ---- */
struct listing {
	unsigned dir, found;
	uint64_t cookie;
	bool any;
};

static bool take_entry(void *arg, const struct dirent_view *e)
{
	struct listing *l = arg;

	l->cookie = e->next_cookie;
	l->any = true;
	if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return true;
	for (unsigned i = 1; i < shared->count; i++) {
		const struct node *n = &shared->nodes[i];

		if (n->parent != (int)l->dir || strcmp(n->name, e->name) != 0)
			continue;
		l->found++;
		if (n->number != e->object || (n->mode & S_IFMT) != e->type)
			wrong(l->dir, "lists '%.40s' as something else", e->name);
		if (e->a && (e->a->st.st_ino != n->number || e->a->st.st_mode != n->mode ||
			     (!S_ISDIR(n->mode) && e->a->st.st_size != n->st.st_size)))
			wrong(i, "listed with attributes that are not its own");
		return true;
	}
	wrong(l->dir, "lists '%.40s', which is not in it", e->name);
	return true;
}

static void check_listing(struct volume *v, unsigned i, uint64_t number)
{
	const struct damage *d = &shared->damage[i];
	struct listing l = { .dir = i };
	unsigned children = 0;
	int r;

	do {
		l.any = false;
		r = volume_readdir(v, number, l.cookie, true, take_entry, &l);
	} while (r == 0 && l.any);
	for (unsigned j = 1; j < shared->count; j++)
		children += shared->nodes[j].parent == (int)i;
	if (r < 0)
		refused(i, d->whole || d->range_count, "listing", r);
	else if (l.found != children)
		wrong(i, "lists %u names instead of %u", l.found, children);
	struct attr a;

	r = volume_lookup(v, number, "never there", &a);
	if (r == 0)
		wrong(i, "holds a name that nobody made");
	else if (r == -ENOENT && d->range_count)
		wrong(i, "knows what is not in it, though a part of it cannot be read");
	else if (r != -ENOENT)
		refused(i, d->whole || d->range_count, "looking for what is not there", r);
}

static void check_node(struct volume *v, unsigned i, bool exact)
{
	const struct node *n = &shared->nodes[i];
	const struct damage *d = &shared->damage[n->kind == K_ALIAS ? n->alias_of : (int)i];
	struct attr a;
	int r;

	if (n->kind != K_ROOT) {
		r = volume_lookup(v, shared->nodes[n->parent].number, n->name, &a);
		if (r == -ENOENT && !d->whole && !shared->damage[n->parent].whole)
			wrong(i, "is said not to exist");
		else if (r < 0)
			refused(i, d->whole || behind_damage(n), "looking up its name", r);
		else
			check_stat(i, &a.st, exact);
	}
	/* And by its number, as an open file is read. */
	r = volume_getattr(v, n->number, &a);
	if (r < 0) {
		refused(i, d->whole, "its attributes", r);
		return;
	}
	check_stat(i, &a.st, exact);
	if (n->kind == K_ALIAS)
		return;
	check_xattrs(v, i, n->number);
	if (S_ISREG(n->mode))
		check_file(v, i, n->number);
	else if (S_ISLNK(n->mode))
		check_link(v, i, n->number);
	else if (S_ISDIR(n->mode) && n->kind != K_WORK)
		check_listing(v, i, n->number);
}

void check_world(struct volume *v, bool exact)
{
	memset(shared->outcome, 0, sizeof(shared->outcome));
	for (unsigned i = 0; i < shared->count; i++)
		check_node(v, i, exact);
}

/* ---- changing what must not change the truth ---- */
static void write_again(struct volume *v, unsigned i, uint64_t block)
{
	const struct node *n = &shared->nodes[i];
	uint8_t data[BLOCK_SIZE];
	uint64_t off = block * BLOCK_SIZE + 7;
	bool garbage;

	/* Into a block that reads as garbage any byte may be written. */
	in_damage(&shared->damage[i], block, 1, &garbage);
	content_of(i, block, data);
	if (off < n->size && !garbage)
		(void)volume_write(v, n->number, off, 1, data + 7, false);
}

void touch_world(struct volume *v)
{
	struct caller c = { 0 };
	struct attr a;

	for (unsigned i = 0; i < shared->count; i++) {
		const struct node *n = &shared->nodes[i];
		struct stat st = { .st_mode = n->mode };

		(void)volume_setattr(v, n->number, &st, SET_MODE, &a);
		for (unsigned j = 0; S_ISREG(n->mode) && j < n->run_count; j++) {
			write_again(v, i, n->runs[j].first);
			write_again(v, i, n->runs[j].first + n->runs[j].count - 1);
		}
		for (unsigned j = 0; j < shared->damage[i].range_count && S_ISREG(n->mode); j++)
			if (has_block(n, shared->damage[i].ranges[j].first))
				write_again(v, i, shared->damage[i].ranges[j].first);
		if (S_ISREG(n->mode) && n->size > 6 * BLOCK_SIZE && !has_block(n, 6) &&
		    n->size > geometry_group_first(0) * BLOCK_SIZE) { /* a hole written and given up again */
			uint8_t byte = 1;

			if (volume_write(v, n->number, 6 * BLOCK_SIZE, 1, &byte, false) == 0)
				(void)volume_fallocate(v, n->number, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						       6 * BLOCK_SIZE, BLOCK_SIZE, false);
		}
		if (S_ISDIR(n->mode) && volume_make(v, &c, n->number, "new", S_IFREG | 0600, 0, NULL, &a) == 0) {
			(void)volume_write(v, a.st.st_ino, 0, 3, "new", false);
			(void)volume_unlink(v, n->number, "new");
			volume_forget(v, a.st.st_ino, 1);
		}
	}
	(void)volume_sync(v);
}
