/* Differential test: comparing two whole trees. */
#include "differential.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { CLOCK_TOLERANCE = 10, CHUNK = 1 << 20, REPORTED = 20 };

struct name {
	char text[NAME_MAX + 1];
	unsigned char type;
	ino_t ino;
};

/* Which inode of one side goes with which of the other: hard links must form the same groups. */
struct pair {
	ino_t ino[SIDES];
};

struct walk {
	struct state *state;
	struct pair pairs[4 * MAX_NODES];
	int pair_count;
	int differences;
	bool rebuild;
	long bytes;
};

__attribute__((format(printf, 3, 4))) static void differ(struct walk *walk, const char *path, const char *format, ...)
{
	char shown[SHOWN];
	va_list list;

	if (walk->differences++ > REPORTED)
		return;
	fprintf(stderr, "DIFFERENCE '%s': ", printable(path, shown));
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

/* The caller frees *names. */
static int list(int dirfd, struct name **names)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	int count = 0, room = 64;
	struct dirent *entry;

	*names = malloc((size_t)room * sizeof(**names));
	if (!dir || !*names)
		return -1;
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (count == room) {
			room *= 2;
			*names = realloc(*names, (size_t)room * sizeof(**names));
			if (!*names)
				abort();
		}
		snprintf((*names)[count].text, NAME_MAX + 1, "%s", entry->d_name);
		(*names)[count].type = entry->d_type;
		(*names)[count++].ino = entry->d_ino;
	}
	if (errno)
		count = -1;
	closedir(dir);
	if (count > 0)
		qsort(*names, (size_t)count, sizeof(**names), by_name);
	return count;
}

static void compare_time(struct walk *walk, const char *path, const char *what, const struct timespec when[SIDES])
{
	char text[SIDES][48];

	time_text(walk->state, &when[COFFER], text[COFFER]);
	time_text(walk->state, &when[NATIVE], text[NATIVE]);
	if (strcmp(text[COFFER], text[NATIVE]) != 0)
		differ(walk, path, "%s: coffer %s native %s", what, text[COFFER], text[NATIVE]);
	else if (strcmp(text[COFFER], "now") == 0 && labs(when[COFFER].tv_sec - when[NATIVE].tv_sec) > CLOCK_TOLERANCE)
		differ(walk, path, "%s: coffer is %ld s after native", what,
		       (long)(when[COFFER].tv_sec - when[NATIVE].tv_sec));
}

static void compare_stat(struct walk *walk, const char *path, const struct stat st[SIDES])
{
	const struct timespec modified[SIDES] = { st[COFFER].st_mtim, st[NATIVE].st_mtim };
	char text[SIDES][TEXT];

	stat_text(walk->state, &st[COFFER], text[COFFER]);
	stat_text(walk->state, &st[NATIVE], text[NATIVE]);
	if (strcmp(text[COFFER], text[NATIVE]) != 0)
		differ(walk, path, "coffer %s | native %s", text[COFFER], text[NATIVE]);
	compare_time(walk, path, "mtime", modified);
	/* Some native file systems leave it alone where others do not (when names are exchanged): it may be later. */
	if (st[NATIVE].st_ctim.tv_sec - st[COFFER].st_ctim.tv_sec > CLOCK_TOLERANCE)
		differ(walk, path, "ctime: coffer is %ld s before native",
		       (long)(st[NATIVE].st_ctim.tv_sec - st[COFFER].st_ctim.tv_sec));
	if (S_ISDIR(st[NATIVE].st_mode) || st[NATIVE].st_nlink == 1)
		return;
	for (int i = 0; i < walk->pair_count; i++) {
		bool same[SIDES];

		for (int side = 0; side < SIDES; side++)
			same[side] = walk->pairs[i].ino[side] == st[side].st_ino;
		if (same[COFFER] != same[NATIVE])
			differ(walk, path, "is a link of another file than on the other side");
		if (same[COFFER] || same[NATIVE])
			return;
	}
	if (walk->pair_count < (int)(sizeof(walk->pairs) / sizeof(walk->pairs[0])))
		walk->pairs[walk->pair_count++] = (struct pair){ { st[COFFER].st_ino, st[NATIVE].st_ino } };
}

static void compare_contents(struct walk *walk, const char *path, const int dirfd[SIDES], const char *name)
{
	static unsigned char data[SIDES][CHUNK];
	ssize_t got[SIDES] = { 0 };
	off_t at = 0;
	int fd[SIDES];

	for (int side = 0; side < SIDES; side++)
		fd[side] = openat(dirfd[side], name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	while (fd[COFFER] >= 0 && fd[NATIVE] >= 0) {
		size_t first = 0;

		for (int side = 0; side < SIDES; side++)
			got[side] = pread(fd[side], data[side], CHUNK, at);
		if (got[COFFER] != got[NATIVE]) {
			differ(walk, path, "read at %ld: coffer %zd native %zd (%s)", (long)at, got[COFFER],
			       got[NATIVE], strerror(errno));
			break;
		}
		if (got[COFFER] <= 0)
			break;
		if (memcmp(data[COFFER], data[NATIVE], (size_t)got[COFFER]) != 0) {
			while (data[COFFER][first] == data[NATIVE][first])
				first++;
			differ(walk, path, "contents differ from byte %ld: coffer %02x native %02x",
			       (long)(at + (off_t)first), data[COFFER][first], data[NATIVE][first]);
			break;
		}
		at += got[COFFER];
	}
	if ((fd[COFFER] < 0) != (fd[NATIVE] < 0))
		differ(walk, path, "open: coffer %d native %d", fd[COFFER], fd[NATIVE]);
	for (int side = 0; side < SIDES; side++) {
		if (fd[side] >= 0)
			close(fd[side]);
	}
	walk->bytes += at;
}

static int by_string(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts a list of attribute names into an array of at most room strings; -1 with errno on failure. */
static int list_xattrs(const char *path, char *data, const char **keys, int room)
{
	ssize_t length = llistxattr(path, data, MAX_XATTR);
	int count = 0;

	if (length < 0)
		return -1;
	for (char *at = data; at < data + length && count < room; at += strlen(at) + 1) {
		/* xfs shows its ACLs a second time under names of its own. */
		if (strncmp(at, "trusted.SGI_ACL", 15) != 0)
			keys[count++] = at;
	}
	qsort(keys, (size_t)count, sizeof(*keys), by_string);
	return count;
}

static void compare_xattrs(struct walk *walk, const char *path, const int dirfd[SIDES], const char *name)
{
	static char names[SIDES][MAX_XATTR], value[SIDES][MAX_XATTR];
	const char *keys[SIDES][64];
	char full[SIDES][NAME_MAX + 64];
	int count[SIDES];
	ssize_t length[SIDES];

	for (int side = 0; side < SIDES; side++) {
		snprintf(full[side], sizeof(full[side]), "/proc/self/fd/%d/%s", dirfd[side], name);
		count[side] = list_xattrs(full[side], names[side], keys[side], 64);
	}
	if (count[COFFER] != count[NATIVE]) {
		differ(walk, path, "%d xattrs, native has %d (%s)", count[COFFER], count[NATIVE], strerror(errno));
		return;
	}
	for (int i = 0; i < count[COFFER]; i++) {
		if (strcmp(keys[COFFER][i], keys[NATIVE][i]) != 0) {
			differ(walk, path, "xattr %s, native has %s", keys[COFFER][i], keys[NATIVE][i]);
			return;
		}
		for (int side = 0; side < SIDES; side++)
			length[side] = lgetxattr(full[side], keys[side][i], value[side], MAX_XATTR);
		if (length[COFFER] != length[NATIVE] ||
		    (length[COFFER] > 0 && memcmp(value[COFFER], value[NATIVE], (size_t)length[COFFER]) != 0))
			differ(walk, path, "value of xattr %s: length %zd, native %zd", keys[COFFER][i], length[COFFER],
			       length[NATIVE]);
	}
}

static void compare_links(struct walk *walk, const char *path, const int dirfd[SIDES], const char *name)
{
	char target[SIDES][1100];
	ssize_t length[SIDES];

	for (int side = 0; side < SIDES; side++)
		length[side] = readlinkat(dirfd[side], name, target[side], sizeof(target[side]));
	if (length[COFFER] != length[NATIVE] || length[COFFER] < 0 ||
	    memcmp(target[COFFER], target[NATIVE], (size_t)length[COFFER]) != 0)
		differ(walk, path, "link target differs");
}

static void compare_dirs(struct walk *walk, const char *path, const int dirfd[SIDES], int node);

static void compare_entry(struct walk *walk, const char *dir, const int dirfd[SIDES], const struct name *entry[SIDES],
			  int parent)
{
	const char *name = entry[COFFER]->text;
	char path[2 * PATH_MAX];
	struct stat st[SIDES];
	int fd[SIDES], node = -1;
	enum kind kind;

	snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX, dir, name);
	for (int side = 0; side < SIDES; side++) {
		if (fstatat(dirfd[side], name, &st[side], AT_SYMLINK_NOFOLLOW) < 0) {
			differ(walk, path, "stat on side %d: %s", side, strerror(errno));
			return;
		}
		if (entry[side]->ino != st[side].st_ino || entry[side]->type != IFTODT(st[side].st_mode))
			differ(walk, path, "readdir and stat disagree on side %d: ino %lu %lu type %d mode %o", side,
			       (unsigned long)entry[side]->ino, (unsigned long)st[side].st_ino, entry[side]->type,
			       st[side].st_mode);
	}
	compare_stat(walk, path, st);
	compare_xattrs(walk, path, dirfd, name);
	kind = S_ISREG(st[NATIVE].st_mode)   ? KIND_FILE
	       : S_ISDIR(st[NATIVE].st_mode) ? KIND_DIR
	       : S_ISLNK(st[NATIVE].st_mode) ? KIND_SYMLINK
					     : KIND_SPECIAL;
	if (walk->rebuild && parent >= 0)
		node = model_add(&walk->state->model, parent, kind, name);
	if (kind == KIND_FILE)
		compare_contents(walk, path, dirfd, name);
	if (kind == KIND_SYMLINK)
		compare_links(walk, path, dirfd, name);
	if (kind != KIND_DIR)
		return;
	for (int side = 0; side < SIDES; side++)
		fd[side] = openat(dirfd[side], name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd[COFFER] >= 0 && fd[NATIVE] >= 0)
		compare_dirs(walk, path, fd, node);
	else
		differ(walk, path, "cannot open: %s", strerror(errno));
	close(fd[COFFER]);
	close(fd[NATIVE]);
}

static void compare_dirs(struct walk *walk, const char *path, const int dirfd[SIDES], int node)
{
	struct name *names[SIDES];
	int count[SIDES], at[SIDES] = { 0 };
	char shown[SHOWN];

	for (int side = 0; side < SIDES; side++) {
		count[side] = list(dirfd[side], &names[side]);
		if (count[side] < 0)
			differ(walk, path, "readdir on side %d: %s", side, strerror(errno));
	}
	while (at[COFFER] < count[COFFER] || at[NATIVE] < count[NATIVE]) {
		const struct name *entry[SIDES] = { &names[COFFER][at[COFFER]], &names[NATIVE][at[NATIVE]] };
		int order = at[COFFER] >= count[COFFER]   ? 1
			    : at[NATIVE] >= count[NATIVE] ? -1
							  : strcmp(entry[COFFER]->text, entry[NATIVE]->text);

		if (order)
			differ(walk, path, "'%s' is only on the %s side",
			       printable(entry[order < 0 ? COFFER : NATIVE]->text, shown),
			       order < 0 ? "coffer" : "native");
		else
			compare_entry(walk, path, dirfd, entry, node);
		at[COFFER] += order <= 0;
		at[NATIVE] += order >= 0;
	}
	free(names[COFFER]);
	free(names[NATIVE]);
}

int compare_trees(struct state *state, bool rebuild)
{
	static struct walk walk;
	struct stat st[SIDES];

	walk = (struct walk){ .state = state, .rebuild = rebuild };
	if (rebuild)
		model_init(&state->model);
	for (int side = 0; side < SIDES; side++) {
		if (fstat(state->root[side], &st[side]) < 0) {
			differ(&walk, ".", "stat of the root on side %d: %s", side, strerror(errno));
			return walk.differences;
		}
	}
	compare_stat(&walk, ".", st);
	compare_xattrs(&walk, ".", state->root, ".");
	compare_dirs(&walk, ".", state->root, 0);
	return walk.differences;
}
