/* What a change below touches, found by comparing backing files page by page; and holding what is read against that. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "../../src/store/geometry.h"
#include "tamper.h"

enum { HEADER_FIXED = 64 + RECORD_OVERHEAD, BODY_LENGTH_AT = 36, TRAILER_USED = sizeof(struct block_tag) };

void clear_damage(void)
{
	memset(shared->damage, 0, sizeof(shared->damage));
}

void lose(int node, bool noticed)
{
	shared->damage[node].used = shared->damage[node].whole = true;
	shared->damage[node].noticed |= noticed;
}

static void add_range(struct damage *d, uint64_t first, uint64_t end, bool garbage)
{
	if (d->range_count && d->ranges[d->range_count - 1].end == first &&
	    d->ranges[d->range_count - 1].garbage == garbage) {
		d->ranges[d->range_count - 1].end = end;
		return;
	}
	if (d->range_count == RANGES) {
		d->whole = true;
		return;
	}
	d->ranges[d->range_count].first = first;
	d->ranges[d->range_count].end = end;
	d->ranges[d->range_count++].garbage = garbage;
}

/* Bytes in between are looked at only for whether they differ. */
static bool differ(const uint8_t *a, const uint8_t *b, size_t from, size_t to)
{
	return memcmp(a + from, b + from, to - from) != 0;
}

/* Level and index of a tag or map page that the object uses; level 0: it is none. */
static unsigned used_meta_page(const struct node *n, uint64_t page, uint64_t *ret_index, uint64_t *ret_span)
{
	unsigned height = geometry_height((n->size + BLOCK_SIZE - 1) / BLOCK_SIZE);

	for (unsigned r = 0; r < n->run_count; r++) {
		for (uint64_t b = n->runs[r].first; b < n->runs[r].first + n->runs[r].count; b++) {
			uint64_t index = b < HEADER_TAGS ? 0 : geometry_group(b), span = 1;

			for (unsigned level = 1; b >= HEADER_TAGS && level <= height; level++) {
				if (geometry_meta_page(level, index) == page) {
					*ret_index = index;
					*ret_span = span;
					return level;
				}
				index /= MAP_FANOUT;
				span *= MAP_FANOUT;
			}
		}
	}
	return 0;
}

static uint64_t group_end(uint64_t group)
{
	return geometry_group_first(group) + GROUP_BLOCKS;
}

static bool header_differs(const uint8_t *a, const uint8_t *b)
{
	size_t used = HEADER_FIXED + get_le32(a + BODY_LENGTH_AT);

	return differ(a, b, 0, used < BLOCK_SIZE ? used : BLOCK_SIZE);
}

static void page_changed(int node, uint64_t page, const uint8_t *a, const uint8_t *b)
{
	const struct node *n = &shared->nodes[node];
	struct damage *d = &shared->damage[node];
	uint64_t block = geometry_block(page), index, span;

	if (block != UINT64_MAX) {
		bool dir = S_ISDIR(n->mode), free = setup.suite == SUITE_XTS && S_ISREG(n->mode);

		/* A directory's blocks are filled from the start. */
		if (dir || has_block(n, block)) {
			add_range(d, block, block + 1, free);
			d->noticed |= !free;
		}
	} else if (used_meta_page(n, page, &index, &span) && differ(a, b, 0, PAGE_BODY + TRAILER_USED)) {
		add_range(d, geometry_group_first(index * span), group_end((index + 1) * span - 1), false);
		d->maps = d->noticed = true;
	}
}

/* The companion: whatever of it is changed, the attributes are lost. */
static void lose_xattrs(int node)
{
	shared->damage[node].xattrs = shared->damage[node].noticed = true;
}

static void companion_changed(int node, uint64_t page)
{
	if (page <= (BIG_XATTR + 200) / BLOCK_SIZE + 1)
		lose_xattrs(node);
}

static void read_page(int fd, uint64_t page, uint8_t out[static BLOCK_SIZE])
{
	ssize_t got = fd < 0 ? 0 : pread(fd, out, BLOCK_SIZE, (off_t)(page * BLOCK_SIZE));

	if (got < 0)
		got = 0;
	memset(out + got, 0, BLOCK_SIZE - (size_t)got);
}

/* The next page at or after `page` that either file has data in; UINT64_MAX: none. */
static uint64_t next_data(int fd, uint64_t page)
{
	struct stat st;
	off_t at = fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)
			   ? -1
			   : lseek(fd, (off_t)(page * BLOCK_SIZE), SEEK_DATA);

	return at < 0 ? UINT64_MAX : (uint64_t)at / BLOCK_SIZE;
}

static void open_both(void (*path_of)(const char *volume, uint64_t number, char *out), uint64_t number,
		      const char *before, const char *after, int *a, int *b)
{
	char path[PATH_MAX];

	path_of(before, number, path);
	*a = open(path, O_RDONLY | O_CLOEXEC);
	path_of(after, number, path);
	*b = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
}

static void compare_headers(int node, bool companion, uint64_t number, const char *before, const char *after)
{
	AUTO_CLOSE int a = -1;
	AUTO_CLOSE int b = -1;
	uint8_t old[BLOCK_SIZE], new[BLOCK_SIZE];
	struct damage *d = &shared->damage[node];

	open_both(headers_path, number, before, after, &a, &b);
	must(a >= 0, "opening unchanged headers");
	read_page(a, (uint64_t)header_place(number) / BLOCK_SIZE, old);
	read_page(b, (uint64_t)header_place(number) / BLOCK_SIZE, new);
	if (!header_differs(old, new))
		return;
	if (companion)
		lose_xattrs(node);
	else
		d->whole = d->noticed = true;
}

void add_damage(int node, bool companion, const char *before, const char *after)
{
	const struct node *n = &shared->nodes[node];
	uint64_t number = companion ? n->companion : n->number;
	AUTO_CLOSE int a = -1;
	AUTO_CLOSE int b = -1;
	uint8_t old[BLOCK_SIZE], new[BLOCK_SIZE];

	shared->damage[node].used = true;
	compare_headers(node, companion, number, before, after);
	open_both(backing_path, number, before, after, &a, &b); /* no file: what has no blocks has none */
	for (uint64_t page = 1;; page++) {                      /* the first page is nothing's place */
		uint64_t next = next_data(a, page), other = next_data(b, page);

		page = next < other ? next : other;
		if (page == UINT64_MAX)
			return;
		read_page(a, page, old);
		read_page(b, page, new);
		if (memcmp(old, new, BLOCK_SIZE) == 0)
			continue;
		if (companion)
			companion_changed(node, page);
		else
			page_changed(node, page, old, new);
	}
}

/* ---- reading, in processes of their own ---- */
static void note_line(void *arg, const char *line)
{
	unsigned long long number = 0;

	(void)arg;
	if (getenv("TAMPER_LOG"))
		fprintf(stderr, "fsck: %s\n", line);
	(void)sscanf(line, "object %llu", &number);
	for (unsigned i = 0; i < shared->count; i++)
		if (number && (shared->nodes[i].number == number || shared->nodes[i].companion == number))
			shared->reported[i] = true;
}

static void look(void *arg)
{
	struct volume *v;

	shared->open_error = open_volume(arg, true, &v);
	if (shared->open_error < 0)
		return;
	check_world(v, true);
	shared->close_error = volume_close(v);
}

static void check(void *arg)
{
	struct volume *v;

	memset(&shared->fsck, 0, sizeof(shared->fsck));
	memset(shared->reported, 0, sizeof(shared->reported));
	shared->open_error = open_volume(arg, true, &v);
	if (shared->open_error < 0)
		return;
	shared->fsck_error = volume_fsck(v, true, note_line, NULL, &shared->fsck);
	shared->close_error = volume_close(v);
}

static void change(void *arg)
{
	struct volume *v;

	shared->open_error = open_volume(arg, false, &v);
	if (shared->open_error < 0)
		return;
	check_world(v, true);
	touch_world(v);
	shared->close_error = volume_close(v);
}

static void look_loosely(void *arg)
{
	struct volume *v;

	shared->open_error = open_volume(arg, true, &v);
	if (shared->open_error < 0)
		return;
	check_world(v, false);
	shared->close_error = volume_close(v);
}

/* What a node suffers that is noticed through another: an alias through its file. */
static void judge(const char *label, const char *when)
{
	for (unsigned i = 0; i < shared->count; i++) {
		const struct damage *d = &shared->damage[i];
		const struct outcome *o = &shared->outcome[i];
		const char *what = d->label[0] ? d->label : label;

		if (o->wrong)
			bad("%s, %s: %.40s: %s", what, when, shared->nodes[i].name, o->first);
		else if (d->noticed && !o->errors)
			bad("%s, %s: %.40s: read as if nothing were wrong", what, when, shared->nodes[i].name);
	}
}

static bool stage(const char *path, const char *label, const char *when, void (*call)(void *arg))
{
	char arg[PATH_MAX];

	snprintf(arg, sizeof(arg), "%s", path);
	setup.opened++;
	shared->open_error = shared->close_error = shared->fsck_error = 0;
	if (!apart(label, call, arg))
		return false;
	if (shared->open_error < 0)
		bad("%s, %s: the volume does not open: %s", label, when, strerror(-shared->open_error));
	else if (shared->close_error < 0 || shared->fsck_error < 0)
		bad("%s, %s: %s", label, when,
		    strerror(-(shared->close_error ? shared->close_error : shared->fsck_error)));
	return shared->open_error == 0;
}

static void refusable_stage(const char *path, const char *label, const char *when, void (*call)(void *arg))
{
	char arg[PATH_MAX];

	snprintf(arg, sizeof(arg), "%s", path);
	setup.opened++;
	shared->open_error = 0;
	if (apart(label, call, arg) && shared->open_error == 0)
		judge(label, when);
}

void run_refusable(const char *path, const char *label)
{
	clear_damage();
	for (unsigned i = 0; i < shared->count; i++)
		lose((int)i, false);
	refusable_stage(path, label, "read-only", look);
	refusable_stage(path, label, "writable", change);
	refusable_stage(path, label, "after changes", look_loosely);
}

static void read_copy(const char *path, const char *label)
{
	bool noticed = false;

	for (unsigned i = 0; i < shared->count; i++)
		noticed |= shared->damage[i].noticed;
	if (stage(path, label, "read-only", look))
		judge(label, "read-only");
	if (stage(path, label, "fsck", check)) {
		for (unsigned i = 0; i < shared->count; i++) {
			const struct damage *d = &shared->damage[i], *p = &shared->damage[shared->nodes[i].parent];

			/* What is behind a damaged directory is not found. */
			if (d->noticed && !shared->reported[i] && (i == 0 || (!p->whole && !p->range_count)))
				bad("%s: fsck does not report %.40s", d->label[0] ? d->label : label,
				    shared->nodes[i].name);
		}
		if (noticed && !shared->fsck.errors)
			bad("%s: fsck finds nothing", label);
		if (!noticed && shared->fsck.errors)
			bad("%s: fsck finds %llu errors where nothing that counts was changed", label,
			    (unsigned long long)shared->fsck.errors);
	}
}

void run_reading(const char *path, const char *label)
{
	read_copy(path, label);
	run_refusable(path, label);
}

void run_copy(const char *path, const char *label)
{
	read_copy(path, label);
	if (stage(path, label, "writable", change))
		judge(label, "writable");
	if (stage(path, label, "after changes", look_loosely))
		judge(label, "after changes");
}
