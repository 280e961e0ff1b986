/* Power-cut test: cutting a trace, and what must hold of a volume after the cut. */
#include "powercut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_NOT_A_VOLUME = 3, AFTER_SIZE = 200 << 10, NESTED_MAX = 2 };

/* How far the trace was at the cut. */
struct moment {
	bool created, ready;
	struct world worlds[WORKERS];
};

static bool complain(const char *what)
{
	printf("%s\n", what);
	return false;
}

/* ---- the volume after a cut ---- */
static bool look(struct setup *s, const struct moment *m)
{
	bool good = true;

	for (int i = 0; i < WORKERS; i++) {
		char path[512];
		struct stat st;

		object_path(path, sizeof(path), s->mnt, i, 0, -1);
		if (!m->ready && stat(path, &st) < 0 && errno == ENOENT)
			continue;
		good = world_check(&m->worlds[i], s->mnt, i) && good;
	}
	return good;
}

static bool write_and_compare(const char *path, uint64_t seed, uint64_t off, size_t len)
{
	static unsigned char data[AFTER_SIZE + BLOCK], back[AFTER_SIZE + BLOCK];
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool good = fd >= 0;

	fill_pattern(seed, off, data, len);
	good = good && pwrite(fd, data, len, (off_t)off) == (ssize_t)len && fsync(fd) == 0 &&
	       posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && pread(fd, back, len, (off_t)off) == (ssize_t)len &&
	       !memcmp(data, back, len);
	if (fd >= 0)
		close(fd);
	if (!good)
		printf("%s: writing there after the cut: %s\n", path, strerror(errno));
	return good;
}

/* The mount works: new files, and what survived is written to. */
static bool use(struct setup *s, const struct moment *m, uint64_t seed)
{
	char path[512], other[512];
	struct stat st;
	bool good;

	snprintf(path, sizeof(path), "%s/after", s->mnt);
	snprintf(other, sizeof(other), "%s/after-too", s->mnt);
	good = write_and_compare(path, seed, 0, AFTER_SIZE) && write_and_compare(path, seed + 1, 5000, 300) &&
	       rename(path, other) == 0 && truncate(other, 70000) == 0 && unlink(other) == 0;
	if (!good)
		return complain("the mount does not work for writes");
	for (int w = 0; good && m->ready && w < WORKERS; w++) {
		int dir = (int)below(&seed, DIRS), name = (int)below(&seed, NAMES);
		uint64_t off = below(&seed, AFTER_SIZE);

		object_path(path, sizeof(path), s->mnt, w, dir, name);
		if (stat(path, &st) < 0)
			continue;
		good = write_and_compare(path, seed, off, 1 + below(&seed, AFTER_SIZE)) &&
		       truncate(path, (off_t)below(&seed, AFTER_SIZE)) == 0;
	}
	return good;
}

static bool fsck(struct setup *s, bool clean)
{
	const char *argv[] = { s->coffer, "fsck", "--data", s->backing, NULL };
	char text[4096] = "";
	int code, fd;
	struct stat st;
	off_t before = stat(s->log, &st) == 0 ? st.st_size : 0;

	code = run_coffer(s, NULL, argv);
	fd = open(s->log, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, before) < 0)
		text[0] = 0;
	if (fd >= 0)
		close(fd);
	if (code) {
		printf("fsck's exit code is %d\n", code);
		return false;
	}
	return !clean || !strstr(text, "no name") || complain("objects without a name are left after recovery");
}

/* Mounts what is there, without any repair, and looks. `recorded`: it is to be cut again, so that nothing else is done. */
static bool check_state(struct setup *s, const struct moment *m, uint64_t seed, const char *recorded)
{
	pid_t daemon;
	int code;
	bool good;

	if (m->created && seed % 4 == 0 && !fsck(s, false))
		return false;
	daemon = start_daemon(s, recorded);
	code = wait_mounted(s, daemon);
	if (code == EXIT_NOT_A_VOLUME && !m->created)
		return true;
	if (code) {
		printf("it does not mount: exit code %d\n", code);
		return false;
	}
	good = look(s, m);
	if (good && !recorded)
		good = use(s, m, seed);
	code = end_daemon(s, daemon);
	if (code) {
		printf("the daemon's exit code is %d\n", code);
		return false;
	}
	return good && fsck(s, true);
}

/* The volume mounts again after that, and everything in it reads. */
static bool read_again(struct setup *s)
{
	char command[600];
	pid_t daemon = start_daemon(s, NULL);

	if (wait_mounted(s, daemon))
		return complain("it does not mount a second time");
	snprintf(command, sizeof(command), "find '%s' -type f -exec cat {} + >/dev/null", s->mnt);
	bool good = system(command) == 0;

	return end_daemon(s, daemon) == 0 && good && fsck(s, true);
}

static uint64_t inode(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

/* What is there is mounted under the recorder, and that is cut. 1: there is a new state; 0: there was nothing to cut. */
static int cut_again(struct setup *s, const struct moment *m, const struct checks *c, uint64_t *random, bool *good)
{
	struct disk *d = disk_new(c->model, c->whole_pages, inode(s->root));
	struct trace t = { 0 };
	int r = disk_load(d, s->root);

	if (r == 0)
		r = reset_trace(s->second_trace);
	if (r == 0) {
		*good = check_state(s, m, next_random(random), s->second_trace);
		r = trace_read(&t, s->second_trace);
	}
	if (r == 0 && *good && t.count) {
		uint64_t end = below(random, t.count + 1);

		for (uint64_t i = 0; i < end; i++)
			disk_apply(d, i, trace_at(&t, i), trace_payload(&t, i));
		r = empty_dir(s->root);
		if (r == 0)
			r = disk_build(d, next_random(random), false, s->root);
		r = r < 0 ? r : 1;
	}
	trace_free(&t);
	disk_free(d);
	return r;
}

static bool check_cut(struct setup *s, const struct checks *c, const struct moment *m, struct disk *d, uint64_t seed)
{
	bool good = true;
	uint64_t random = seed;
	int r = empty_dir(s->root);

	if (r == 0)
		r = disk_build(d, next_random(&random), false, s->root);
	for (int level = 0; r == 0 && good && level < NESTED_MAX && below(&random, 3) == 0; level++) {
		r = cut_again(s, m, c, &random, &good);
		if (r != 1)
			break;
		r = 0;
	}
	if (r < 0) {
		printf("the state cannot be rebuilt: %s\n", strerror(-r));
		return false;
	}
	good = good && check_state(s, m, next_random(&random), NULL);
	if (good && m->created && below(&random, 4) == 0)
		good = read_again(s);
	return good;
}

/* ---- the trace ---- */
static void advance(struct moment *m, const struct trace_record *r, const unsigned char *payload)
{
	struct op op;

	if (r->kind == TRACE_EVENT) {
		m->created = m->created || r->a == EVENT_CREATED;
		m->ready = m->ready || r->a == EVENT_READY;
		for (int i = 0; i < WORKERS && r->a == EVENT_UNMOUNTED; i++)
			world_synced(&m->worlds[i]);
	} else if (r->kind == TRACE_BEGIN || r->kind == TRACE_END) {
		memcpy(&op, payload, sizeof(op));
		(r->kind == TRACE_BEGIN ? world_begin : world_end)(&m->worlds[op.worker], &op);
	}
}

/* The answer to a sync, which has just promised something. */
static bool is_promise(const struct trace *t, uint64_t at)
{
	struct op op;

	if (trace_at(t, at)->kind != TRACE_END)
		return false;
	memcpy(&op, trace_payload(t, at), sizeof(op));
	return op.kind == OP_SYNC || op.kind == OP_SYNC_DIR;
}

/* Anywhere, or right after a promise, or right before or after a record of a rare kind. */
static uint64_t choose_record(const struct trace *t, uint64_t *random)
{
	static const uint32_t rare[] = { TRACE_CREATE, TRACE_UNLINK, TRACE_RENAME, TRACE_PUNCH, TRACE_TRUNCATE,
					 TRACE_SYNCED, TRACE_END,    TRACE_EVENT,  TRACE_SYNC,  TRACE_MKDIR };
	uint64_t at = below(random, t->count + 1), created = 0;

	if (below(random, 3) == 0)
		return at;
	if (below(random, 16) == 0) { /* when the volume was made, and mounted for the first time */
		while (created + 1 < t->count && trace_at(t, created)->kind != TRACE_EVENT)
			created++;
		return below(random, created * 2);
	}
	if (below(random, 3) == 0) {
		while (at < t->count && !is_promise(t, at))
			at++;
		return at < t->count ? at + 1 : at;
	}
	uint32_t kind = rare[below(random, sizeof(rare) / sizeof(rare[0]))];

	while (at < t->count && trace_at(t, at)->kind != kind)
		at++;
	at += below(random, 3);
	return at > t->count ? t->count : at;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The recorder saw everything: its trace rebuilds what is there. */
static bool check_recorder(struct setup *s, const struct checks *c, const struct trace *t, uint64_t root)
{
	struct disk *d = disk_new(c->model, c->whole_pages, root);
	char copy[300], command[1000];

	for (uint64_t i = 0; i < t->count; i++)
		disk_apply(d, i, trace_at(t, i), trace_payload(t, i));
	snprintf(copy, sizeof(copy), "%s.whole", s->root);
	snprintf(command, sizeof(command), "mkdir -p '%s' && rm -rf '%s'/*", copy, copy);
	bool good = system(command) == 0 && disk_build(d, 1, true, copy) == 0;

	snprintf(command, sizeof(command), "diff -r '%s' '%s' 2>&1 | grep -v '\\.sock'; rm -rf '%s'", s->root, copy,
		 copy);
	FILE *out = good ? popen(command, "r") : NULL;
	char line[500];

	while (out && fgets(line, sizeof(line), out)) {
		printf("the recorder missed something: %s", line);
		good = false;
	}
	if (out)
		pclose(out);
	disk_free(d);
	return good;
}

static void keep_state(const struct setup *s, const struct checks *c, int cut)
{
	char command[1200];

	if (!c->keep)
		return;
	snprintf(command, sizeof(command), "mkdir -p '%s' && cp -a '%s' '%s/cut%d' && cp '%s' '%s/trace'", c->keep,
		 s->root, c->keep, cut, s->trace, c->keep);
	if (system(command) != 0)
		printf("the state could not be kept\n");
}

static void make_cut(struct setup *s, struct checks *c, const struct moment *m, struct disk *d, int cut, uint64_t at,
		     uint64_t count)
{
	uint64_t seed = c->seed * 1000003 + (uint64_t)cut;

	if (c->only >= 0 && cut != c->only)
		return;
	if (truncate(s->log, 0) < 0 && errno != ENOENT)
		perror(s->log);
	if (check_cut(s, c, m, d, seed)) {
		c->passed++;
	} else {
		c->failed++;
		printf("FAILED: seed %llu, cut %d, at record %llu of %llu\n", (unsigned long long)c->seed, cut,
		       (unsigned long long)at, (unsigned long long)count);
		say_log(s);
		keep_state(s, c, cut);
	}
	fflush(stdout);
}

int check_cuts(struct setup *s, struct checks *c, bool recorded)
{
	enum { FAILURES_MAX = 5 };
	struct trace t;
	struct moment m = { 0 };
	uint64_t random = c->seed, *cuts = calloc((size_t)c->cuts + 1, sizeof(*cuts)), i = 0;
	int r = cuts ? trace_read(&t, s->trace) : -ENOMEM;

	if (r < 0) {
		free(cuts);
		return r;
	}
	/* The first record of all makes something in the root directory. */
	uint64_t root = trace_at(&t, 0)->a;
	struct disk *d = disk_new(c->model, c->whole_pages, root);

	if (recorded && !check_recorder(s, c, &t, root))
		c->failed++;
	for (int cut = 0; cut < c->cuts; cut++)
		cuts[cut] = choose_record(&t, &random);
	qsort(cuts, (size_t)c->cuts, sizeof(*cuts), compare_numbers);
	for (int w = 0; w < WORKERS; w++)
		world_init(&m.worlds[w]);
	for (int cut = 0; cut < c->cuts && c->failed < FAILURES_MAX; cut++) {
		for (; i < cuts[cut]; i++) {
			disk_apply(d, i, trace_at(&t, i), trace_payload(&t, i));
			advance(&m, trace_at(&t, i), trace_payload(&t, i));
		}
		make_cut(s, c, &m, d, cut, i, t.count);
	}
	for (int w = 0; w < WORKERS; w++)
		world_free(&m.worlds[w]);
	disk_free(d);
	trace_free(&t);
	free(cuts);
	return 0;
}
