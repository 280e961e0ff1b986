/* The files of an audit trail's lines. */
#include "audit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coffer/util.h>

enum { DIGITS = 12 }; /* of a file's name: it then sorts as its number does */

void audit_file_name(uint64_t first, char out[static AUDIT_FILE_NAME])
{
	snprintf(out, AUDIT_FILE_NAME, "%0*" PRIu64 ".jsonl", DIGITS, first);
}

/* 0: none of ours. */
static uint64_t number_of(const char *name)
{
	char canonical[AUDIT_FILE_NAME];
	uint64_t first = strtoull(name, NULL, 10);

	audit_file_name(first, canonical);
	return strcmp(name, canonical) == 0 ? first : 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

void audit_files_end(struct audit_files *f)
{
	free(f->first);
	*f = (struct audit_files){ 0 };
}

static int add_file(struct audit_files *f, uint64_t first)
{
	/* Grown whenever the count is a power of two. */
	if ((f->count & (f->count - 1)) == 0) {
		uint64_t *bigger = realloc(f->first, (f->count ? 2 * f->count : 1) * sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		f->first = bigger;
	}
	f->first[f->count++] = first;
	return 0;
}

int audit_files_list(int dir, struct audit_files *ret)
{
	struct audit_files f = { 0 };
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	for (errno = 0; r == 0 && (e = readdir(d)) != NULL; errno = 0)
		if (number_of(e->d_name))
			r = add_file(&f, number_of(e->d_name));
	if (r == 0)
		r = -errno;
	closedir(d);
	if (r < 0) {
		audit_files_end(&f);
		return r;
	}
	if (f.count)
		qsort(f.first, f.count, sizeof(*f.first), by_number);
	*ret = f;
	return 0;
}

/* ---- the end ---- */

void audit_tail_end(struct audit_tail *t)
{
	free(t->rest);
	t->rest = NULL;
}

/* The last authentic line of a text: true, and where it ends. */
static bool find_last(const struct audit *a, const char *text, size_t len, struct audit_tail *t, size_t *ret_end)
{
	struct audit_line l;
	size_t end = len, start;
	bool found = false;

	while (end > 0 && !found) {
		const char *feed = memrchr(text, '\n', end), *before;

		if (!feed)
			return false;
		end = (size_t)(feed - text);
		before = memrchr(text, '\n', end);
		start = before ? (size_t)(before - text) + 1 : 0;
		found = audit_line_parse(a, text + start, end - start, &l) == 0;
		if (found) {
			t->last = l.at;
			t->headless = l.headless;
			t->head = l.head;
			audit_line_end(&l);
			*ret_end = end + 1;
		}
	}
	return found;
}

int audit_tail_find(const struct audit *a, int dir, const struct audit_files *f, struct audit_tail *ret)
{
	struct audit_tail t = { .file = f->count ? f->first[f->count - 1] : 0 };
	bool found = false;
	int r = 0;

	for (size_t i = f->count; i-- > 0 && !found && r == 0;) {
		AUTO_FREE char *text = NULL;
		char name[AUDIT_FILE_NAME];
		size_t len = 0, end = 0;

		audit_file_name(f->first[i], name);
		r = read_file_at(dir, name, AUDIT_READ_MAX, &text, &len);
		if (r < 0)
			break;
		found = find_last(a, text, len, &t, &end);
		if (i + 1 < f->count)
			continue;
		t.valid = end;
		t.rest_len = len - end;
		t.rest = malloc(t.rest_len + 1);
		if (t.rest)
			memcpy(t.rest, text + end, t.rest_len);
		else
			r = -ENOMEM;
	}
	if (r < 0) {
		audit_tail_end(&t);
		return r;
	}
	*ret = t;
	return 0;
}
