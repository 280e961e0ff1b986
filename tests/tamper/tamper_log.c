/* Changes of the log: on a clean volume it is ignored; after an unclean stop, what is left of it is a beginning of what was done,
 * and once it was accepted nothing of recovery's leniency is left.
 *
 * An epoch that is never closed does OPS operations in rounds of the kinds below. What a volume shows of
 * each kind says after how many operations it may be: ranges, which must have a number in common.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "../../src/store/geometry.h"
#include "tamper.h"

enum { OVERWRITE, MAKE, RENAME, OWNER, APPEND, XATTR, UNLINK, DOINGS };
enum {
	ROUNDS = 5,
	OPS = ROUNDS * DOINGS,
	BLOCKS = 20, /* of a write: enough to go home directly */
	HEADER = 64, /* bytes of a segment before its first chunk */
	CHUNK_HEADER = 40,
	PER_ROUND = DOINGS + 1, /* chunks: removing a file is one for its name and one for itself */
	CHUNKS = ROUNDS * PER_ROUND + 16,
};

static char base[PATH_MAX + 8];     /* clean, with the files that the operations work on */
static char unclean[PATH_MAX + 8];  /* the same, after them, never closed */
static char diverged[PATH_MAX + 8]; /* another epoch on a copy of the same volume */

/* ---- the operations ---- */
static struct {
	uint64_t dir, overwritten, owned, appended, attributed;
} at;

static uint64_t find(struct volume *v, uint64_t dir, const char *name)
{
	struct attr a;

	return volume_lookup(v, dir, name, &a) == 0 ? a.st.st_ino : 0;
}

static void find_all(struct volume *v)
{
	at.dir = find(v, ROOT_OBJECT, "work0");
	at.overwritten = find(v, at.dir, "overwritten");
	at.owned = find(v, at.dir, "owned");
	at.appended = find(v, at.dir, "appended");
	at.attributed = find(v, at.dir, "attributed");
	shared->appended = at.appended;
}

static uint8_t *text_of(unsigned kind, unsigned round, unsigned block)
{
	static uint8_t data[BLOCK_SIZE];

	memset(data, 0, sizeof(data));
	snprintf((char *)data, sizeof(data), "kind %u, round %u, block %u", kind, round, block);
	memset(data + 100, (int)(kind * 50 + round * 7 + block + 1), BLOCK_SIZE - 100);
	return data;
}

static int write_blocks(struct volume *v, uint64_t number, unsigned kind, unsigned round, unsigned first)
{
	static uint8_t data[BLOCKS * BLOCK_SIZE];

	for (unsigned b = 0; b < BLOCKS; b++)
		memcpy(data + b * BLOCK_SIZE, text_of(kind, round, b), BLOCK_SIZE);
	return volume_write(v, number, (uint64_t)first * BLOCK_SIZE, sizeof(data), data, false);
}

static const char *numbered(const char *prefix, unsigned i)
{
	static char names[2][32];
	static unsigned turn;
	char *name = names[turn++ % 2];

	snprintf(name, sizeof(names[0]), "%s%u", prefix, i);
	return name;
}

static int operate(struct volume *v, unsigned kind, unsigned round)
{
	struct caller c = { 0 };
	struct stat st = { .st_uid = round };
	struct attr a;

	switch (kind) {
	case OVERWRITE:
		return write_blocks(v, at.overwritten, OVERWRITE, round, 0);
	case MAKE:
		return volume_make(v, &c, at.dir, numbered("made", round), S_IFREG | 0600, 0, NULL, &a);
	case RENAME:
		return volume_rename(v, at.dir, numbered("name", round - 1), at.dir, numbered("name", round), 0);
	case OWNER:
		return volume_setattr(v, at.owned, &st, SET_UID, &a);
	case APPEND:
		return write_blocks(v, at.appended, APPEND, round, (round - 1) * BLOCKS);
	case XATTR:
		return volume_setxattr(v, at.attributed, "user.round", &round, sizeof(round), 0, false);
	default:
		return volume_unlink(v, at.dir, numbered("removed", round));
	}
}

static void prepare(void *path)
{
	static const char *const names[] = { "overwritten", "owned", "appended", "attributed", "name0" };
	struct caller c = { 0 };
	struct volume *v;
	struct attr a;

	must(open_volume(path, false, &v) == 0, "opening");
	find_all(v);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		must(volume_make(v, &c, at.dir, names[i], S_IFREG | 0600, 0, NULL, &a) == 0, "making");
	for (unsigned i = 1; i <= ROUNDS; i++)
		must(volume_make(v, &c, at.dir, numbered("removed", i), S_IFREG | 0600, 0, NULL, &a) == 0, "making");
	find_all(v);
	must(write_blocks(v, at.overwritten, OVERWRITE, 0, 0) == 0, "writing");
	must(volume_close(v) == 0, "closing");
}

static void run_epoch(const char *path, unsigned rounds)
{
	struct volume *v;

	must(open_volume(path, false, &v) == 0, "opening");
	find_all(v);
	for (unsigned i = 0; i < rounds * DOINGS; i++)
		must(operate(v, i % DOINGS, i / DOINGS + 1) == 0, "an operation");
	_exit(0); /* as if killed */
}

/* One that ends well, but of whose log a part is kept. */
static void run_kept_epoch(void *path)
{
	struct volume *v;

	must(open_volume(path, false, &v) == 0, "opening");
	find_all(v);
	for (unsigned i = 0; i < OPS; i++) {
		if (i == 2 * DOINGS)
			run_script(path, "mkdir -p $SAVED; cp log/segment* $SAVED/");
		must(operate(v, i % DOINGS, i / DOINGS + 1) == 0, "an operation");
	}
	must(volume_close(v) == 0, "closing");
}

static void run_long_epoch(void *path)
{
	run_epoch(path, ROUNDS);
}

static void run_short_epoch(void *path)
{
	run_epoch(path, 2);
}

/* ---- what a volume shows ---- */
static void fits(unsigned kind, unsigned count)
{
	unsigned first = count ? (count - 1) * DOINGS + kind + 1 : 0, last = count * DOINGS + kind;

	if (last > OPS || count == ROUNDS)
		last = OPS;
	if (first > shared->log_first)
		shared->log_first = first;
	if (last < shared->log_last)
		shared->log_last = last;
}

static void untrue(const char *what, unsigned number)
{
	snprintf(shared->text, sizeof(shared->text), "%s (%u)", what, number);
}

/* Which round's text a block is; OPS + 1: none's. */
static unsigned round_of(struct volume *v, uint64_t number, unsigned kind, unsigned first, unsigned b)
{
	uint8_t got[BLOCK_SIZE];
	ssize_t r = volume_read(v, number, (uint64_t)(first + b) * BLOCK_SIZE, BLOCK_SIZE, got);

	for (unsigned round = 0; r == BLOCK_SIZE && round <= ROUNDS; round++)
		if (memcmp(got, text_of(kind, round, b), BLOCK_SIZE) == 0)
			return round;
	return OPS + 1;
}

static void see_contents(struct volume *v)
{
	unsigned round = round_of(v, at.overwritten, OVERWRITE, 0, 0), count;
	struct attr a;

	if (round > ROUNDS)
		untrue("the overwritten file holds what was never in it", 0);
	else
		fits(OVERWRITE, round);
	for (unsigned b = 1; b < BLOCKS; b++)
		if (round_of(v, at.overwritten, OVERWRITE, 0, b) != round)
			untrue("blocks of one write are of different age", b);
	if (volume_getattr(v, at.appended, &a) < 0 || a.st.st_size % (BLOCKS * BLOCK_SIZE)) {
		untrue("the appended file has a size it never had", 0);
		return;
	}
	count = (unsigned)(a.st.st_size / (BLOCKS * BLOCK_SIZE));
	fits(APPEND, count);
	for (unsigned b = 0; b < count * BLOCKS; b++)
		if (round_of(v, at.appended, APPEND, b / BLOCKS * BLOCKS, b % BLOCKS) != b / BLOCKS + 1)
			untrue("an appended block is not what was written", b);
}

static void see_names(struct volume *v)
{
	unsigned made = 0, removed = 0, names = 0, name = 0;

	for (unsigned i = 1; i <= ROUNDS; i++) {
		if (find(v, at.dir, numbered("made", i)) && ++made != i)
			untrue("a file was made before an earlier one", i);
		if (!find(v, at.dir, numbered("removed", i)) && ++removed != i)
			untrue("a file was removed before an earlier one", i);
	}
	for (unsigned i = 0; i <= ROUNDS; i++) {
		if (find(v, at.dir, numbered("name", i))) {
			names++;
			name = i;
		}
	}
	if (names != 1)
		untrue("a renamed file has this many names", names);
	fits(MAKE, made);
	fits(UNLINK, removed);
	fits(RENAME, name);
}

static void see(struct volume *v)
{
	unsigned round = 0;
	struct attr a;

	shared->log_first = 0;
	shared->log_last = OPS;
	shared->text[0] = 0;
	find_all(v);
	if (!at.dir || !at.overwritten || !at.owned || !at.appended || !at.attributed) {
		untrue("files that were there before are gone", 0);
		return;
	}
	see_contents(v);
	see_names(v);
	if (volume_getattr(v, at.owned, &a) == 0)
		fits(OWNER, a.st.st_uid > ROUNDS ? 0 : a.st.st_uid);
	ssize_t r = volume_getxattr(v, at.attributed, "user.round", &round, sizeof(round));

	if (r == sizeof(round) || r == -ENODATA)
		fits(XATTR, round);
	else
		untrue("an attribute cannot be read", 0);
}

/* ---- looking at many changed logs in one process: reading only leaves everything as it is ---- */
static struct view {
	const char *label;
	unsigned number;
	int wanted;   /* operations that must be there: exactly; -1: any number of them */
	bool refusal; /* may be refused, too */
} view;

static void judge_view(const char *when)
{
	if (shared->text[0])
		bad("log: %s (%u), %s: %s", view.label, view.number, when, shared->text);
	else if (shared->log_first > shared->log_last)
		bad("log: %s (%u), %s: not a beginning of what was done: at least %u, at most %u operations",
		    view.label, view.number, when, shared->log_first, shared->log_last);
	else if (view.wanted >= 0 &&
		 (shared->log_first > (unsigned)view.wanted || shared->log_last < (unsigned)view.wanted))
		bad("log: %s (%u), %s: between %u and %u operations instead of %d", view.label, view.number, when,
		    shared->log_first, shared->log_last, view.wanted);
}

static void view_once(const char *path)
{
	struct volume *v;
	int r = open_volume(path, true, &v);

	setup.opened++;
	setup.cases++;
	if (r < 0) {
		if (!view.refusal)
			bad("log: %s (%u): the volume does not open: %s", view.label, view.number, strerror(-r));
		return;
	}
	see(v);
	judge_view("read-only");
	(void)volume_close(v);
}

static struct chunk_at {
	uint64_t off;
	uint32_t frames, payload;
} chunks[CHUNKS];
static unsigned chunk_count;

static void find_chunks(int fd)
{
	uint8_t header[CHUNK_HEADER];
	uint64_t off = HEADER;

	chunk_count = 0;
	while (chunk_count < CHUNKS && pread(fd, header, sizeof(header), (off_t)off) == sizeof(header) &&
	       memcmp(header, "CHNK", 4) == 0) {
		struct chunk_at *c = &chunks[chunk_count++];

		*c = (struct chunk_at){ off, get_le32(header + 4), get_le32(header + 8) };
		off += CHUNK_HEADER + c->frames + c->payload;
	}
	must(chunk_count == ROUNDS * PER_ROUND + 1, "the chunks of the log");
	chunks[chunk_count] = (struct chunk_at){ off, 0, 0 };
}

/* Operations that the first `count` chunks hold; the very first says only that a generation begins. */
static int ops_in(unsigned count)
{
	unsigned n = count ? count - 1 : 0, rest = n % PER_ROUND;

	return (int)(n / PER_ROUND * DOINGS + (rest < DOINGS ? rest : DOINGS));
}

static int open_segment(const char *path, unsigned i)
{
	char name[PATH_MAX + 32];

	snprintf(name, sizeof(name), "%s/log/segment%u", path, i);
	int fd = open(name, O_RDWR | O_CLOEXEC);

	must(fd >= 0, name);
	return fd;
}

/* Changes bytes, looks, and puts them back. */
static void with_bytes(const char *path, int fd, uint64_t off, const void *bytes, size_t len)
{
	uint8_t *old = malloc(len);

	must(old && pread_all(fd, old, len, (off_t)off, NULL) == 0, "reading the log");
	if (memcmp(old, bytes, len) != 0) {
		must(pwrite_all(fd, bytes, len, (off_t)off) == 0, "writing the log");
		view_once(path);
		must(pwrite_all(fd, old, len, (off_t)off) == 0, "writing the log back");
	}
	free(old);
}

static void with_flip(const char *path, int fd, uint64_t off)
{
	uint8_t byte;

	must(pread_all(fd, &byte, 1, (off_t)off, NULL) == 0, "reading the log");
	byte ^= (uint8_t)(1 << off % 8);
	with_bytes(path, fd, off, &byte, 1);
}

static void flip_chunks(const char *path, int fd)
{
	static const struct {
		const char *label;
		unsigned off;
	} fields[] = { { "chunk's magic", 1 },
		       { "chunk's length of frames", 4 },
		       { "chunk's length of frames, high", 7 },
		       { "chunk's length of payload", 9 },
		       { "chunk's zero field", 13 },
		       { "chunk's number", 16 },
		       { "chunk's number, high", 22 },
		       { "chunk's tag", 30 },
		       { "chunk's first frame", 41 } };

	for (unsigned c = 0; c < chunk_count; c += setup.full ? 1 : 3) {
		/* Without the first chunk of its generation a segment says nothing. */
		view = (struct view){ .number = c, .wanted = ops_in(c) };
		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
			view.label = fields[i].label;
			with_flip(path, fd, chunks[c].off + fields[i].off);
		}
		view.label = "chunk's last byte of frames";
		with_flip(path, fd, chunks[c].off + CHUNK_HEADER + chunks[c].frames - 1);
		view.label = "chunk's payload";
		if (chunks[c].payload) {
			with_flip(path, fd, chunks[c].off + CHUNK_HEADER + chunks[c].frames);
			with_flip(path, fd, chunks[c + 1].off - 1);
		}
	}
	view = (struct view){ .label = "segment's header", .wanted = 0 };
	for (unsigned i = 0; i < 32; i++, view.number++)
		with_flip(path, fd, i);
	view = (struct view){ .label = "segment's reserved bytes", .wanted = OPS };
	with_flip(path, fd, 40);
}

/* Chunks left out, doubled, exchanged: what follows them does not count. */
static void move_chunks(const char *path, int fd)
{
	size_t end = chunks[chunk_count].off;
	uint8_t *all = malloc(2 * end + CHUNK_HEADER), *made = calloc(1, 2 * end + CHUNK_HEADER);

	must(all && made && pread_all(fd, all, end, 0, NULL) == 0, "reading the log");
	for (unsigned c = 1; c + 1 < chunk_count; c += setup.full ? 1 : 2) {
		size_t first = chunks[c].off, second = chunks[c + 1].off, third = chunks[c + 2].off;

		view = (struct view){ .label = "chunk left out", .number = c, .wanted = ops_in(c) };
		memcpy(made, all, end);
		memmove(made + first, made + second, end - second);
		memset(made + end - (second - first), 0, second - first);
		with_bytes(path, fd, 0, made, end);
		view = (struct view){ .label = "chunks exchanged", .number = c, .wanted = ops_in(c) };
		memcpy(made, all, end);
		memcpy(made + first, all + second, third - second);
		memcpy(made + first + (third - second), all + first, second - first);
		with_bytes(path, fd, 0, made, end);
		view = (struct view){ .label = "chunk doubled", .number = c, .wanted = ops_in(c + 1) };
		memcpy(made, all, second);
		memcpy(made + second, all + first, end - first);
		with_bytes(path, fd, 0, made, end + second - first);
		view = (struct view){ .label = "log ends", .number = c, .wanted = ops_in(c) };
		memcpy(made, all, first);
		memset(made + first, 0, end - first);
		with_bytes(path, fd, 0, made, end);
		memset(made + first, 0xff, end - first);
		with_bytes(path, fd, 0, made, end);
		memcpy(made + first, all + first, (second - first) / 2);
		with_bytes(path, fd, 0, made, end);
	}
	free(all);
	free(made);
}

static void edit_log(void *path)
{
	AUTO_CLOSE int fd = open_segment(path, 0);

	find_chunks(fd);
	view = (struct view){ .label = "nothing changed", .wanted = OPS };
	view_once(path);
	flip_chunks(path, fd);
	move_chunks(path, fd);
	snprintf(shared->text, sizeof(shared->text), "%lu %lu %lu", setup.cases, setup.failed, setup.opened);
}

static void take_counts(void)
{
	if (sscanf(shared->text, "%lu %lu %lu", &setup.cases, &setup.failed, &setup.opened) != 3)
		bad("log: no count: %s", shared->text);
}

/* ---- accepted once, and for good ---- */
static void see_reading(void *path)
{
	struct volume *v;

	shared->open_error = open_volume(path, true, &v);
	if (shared->open_error < 0)
		return;
	see(v);
	(void)volume_close(v);
}

static void see_writing(void *path)
{
	struct volume *v;

	shared->open_error = open_volume(path, false, &v);
	if (shared->open_error < 0)
		return;
	see(v);
	shared->close_error = volume_close(v);
}

static void no_line(void *arg, const char *line)
{
	(void)arg;
	snprintf(shared->text, sizeof(shared->text), "%s", line);
}

static void sound(void *path)
{
	struct volume *v;

	shared->open_error = open_volume(path, true, &v);
	if (shared->open_error < 0)
		return;
	check_world(v, true);
	shared->fsck_error = volume_fsck(v, true, no_line, NULL, &shared->fsck);
	(void)volume_close(v);
}

/* Recovery for reading, recovery for good, and reading what that left: all see the same. */
static void view_thrice(const char *path)
{
	char arg[PATH_MAX];

	snprintf(arg, sizeof(arg), "%s", path);
	for (int i = 0; i < 3; i++) {
		shared->open_error = shared->close_error = 0;
		setup.opened++;
		if (!apart(view.label, i == 1 ? see_writing : see_reading, arg))
			return;
		if (shared->open_error < 0) {
			if (!view.refusal)
				bad("log: %s: the volume does not open: %s", view.label, strerror(-shared->open_error));
			return;
		}
		if (shared->close_error < 0)
			bad("log: %s: the volume does not close: %s", view.label, strerror(-shared->close_error));
		judge_view(i == 0 ? "read-only" : i == 1 ? "recovered" : "after recovery");
		if (view.wanted < 0)
			view.wanted = (int)shared->log_first;
	}
	clear_damage();
	if (!apart(view.label, sound, arg))
		return;
	if (shared->fsck_error < 0 || shared->fsck.errors)
		bad("log: %s: fsck: %s", view.label, shared->text);
	for (unsigned i = 0; i < shared->count; i++)
		if (shared->outcome[i].wrong)
			bad("log: %s: %.40s: %s", view.label, shared->nodes[i].name, shared->outcome[i].first);
}

static const struct log_scene {
	const char *label, *script;
	int wanted;
	bool refusal;
} log_scenes[] = {
	{ "nothing changed", "true", OPS, false },
	{ "segments exchanged", "cd log; mv segment0 x; mv segment1 segment0; mv x segment1", OPS, false },
	{ "segment twice", "cp log/segment0 log/segment1", OPS, false },
	{ "segment removed", "rm log/segment0", 0, true },
	{ "both segments removed", "rm log/segment*", 0, true },
	{ "unused segment removed", "rm log/segment1", OPS, true },
	{ "segments empty", ": >log/segment0; : >log/segment1", 0, true },
	{ "segment cut off", "truncate -s 100000 log/segment0", -1, true },
	{ "log/ removed", "rm -r log", 0, true },
	{ "segments of another volume", "cp $FOREIGN/log/segment* log/", 0, true },
	{ "segments of a diverged copy", "cp $OTHER/log/segment* log/", 0, true },
	{ "a diverged copy's beside the right one", "cp $OTHER/log/segment0 log/segment1", OPS, true },
	{ "segment a directory", "rm log/segment1; mkdir log/segment1", -1, true },
	{ "segment a FIFO", "rm log/segment1; mkfifo log/segment1", -1, true },
};

static void run_log_scenes(void)
{
	for (size_t i = 0; i < sizeof(log_scenes) / sizeof(log_scenes[0]); i++) {
		const struct log_scene *s = &log_scenes[i];
		char path[PATH_MAX];

		if (!wanted("log"))
			continue;
		snprintf(path, sizeof(path), "%s", fresh_copy(unclean));
		run_script(path, s->script);
		setup.cases++;
		view = (struct view){ s->label, 0, s->wanted, s->refusal };
		view_thrice(path);
		remove_tree(path);
	}
}

/* ---- old segments in later times ---- */
static void must_open(void *path)
{
	struct volume *v;

	must(open_volume(path, false, &v) == 0 && volume_close(v) == 0, "opening and closing");
}

static void replay_into_later(void)
{
	char path[PATH_MAX];

	if (!wanted("log"))
		return;
	/* A part of what the last epoch logged, put back after it ended: the same key, but the volume is clean. */
	snprintf(path, sizeof(path), "%s", fresh_copy(base));
	must(apart("an epoch", run_kept_epoch, path), "an epoch");
	run_script(path, "cp $SAVED/segment* log/");
	setup.cases++;
	view = (struct view){ "the last epoch's own segments on the clean volume", 0, OPS, false };
	view_thrice(path);
	remove_tree(path);

	/* What an unclean epoch logged, put back once it is settled. */
	snprintf(path, sizeof(path), "%s", fresh_copy(diverged));
	run_script(path, "mkdir -p $SAVED; cp log/segment* $SAVED/");
	must(apart("recovering", must_open, path), "recovering");
	run_script(path, "cp $SAVED/segment* log/");
	setup.cases++;
	view = (struct view){ "old segments on the volume once it is clean", 0, 2 * DOINGS, false };
	view_thrice(path);
	remove_tree(path);

	/* And into an unclean epoch after it: from the same clean state, so that every trace of the old one shows. */
	snprintf(path, sizeof(path), "%s", fresh_copy(base));
	must(apart("an epoch", run_short_epoch, path), "an epoch");
	for (int i = 0; i < 3; i++) {
		static const char *const scripts[] = { "cp $SAVED/segment0 log/segment1",
						       "cp $SAVED/segment1 log/segment1",
						       "cp $SAVED/segment0 log/segment0" };

		run_script(path, scripts[i]);
		setup.cases++;
		view = (struct view){ "old segments in a later epoch", 0, i < 2 ? 2 * DOINGS : 0, i < 2 };
		if (i == 2)
			view.refusal = true;
		AUTO_FREE char *twin = strdup(fresh_copy(path));

		view_thrice(twin);
		remove_tree(twin);
	}
	remove_tree(path);
}

/* ---- what was written directly and never synced ---- */
static void punch_block(const char *path, uint64_t number, uint64_t block)
{
	char file[PATH_MAX];

	backing_path(path, number, file);
	AUTO_CLOSE int fd = open(file, O_RDWR | O_CLOEXEC);

	must(fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)(geometry_page(block) * BLOCK_SIZE), BLOCK_SIZE) == 0,
	     "punching");
}

static void read_punched(void *path)
{
	static const uint8_t zeros[BLOCK_SIZE];
	uint8_t got[BLOCK_SIZE];
	struct volume *v;

	must(open_volume(path, true, &v) == 0, "opening");
	find_all(v);
	for (unsigned b = 0; b < 4; b++) {
		ssize_t r = volume_read(v, at.appended, (uint64_t)b * BLOCK_SIZE, BLOCK_SIZE, got);

		shared->outcome[b].errors = r < 0;
		shared->outcome[b].wrong = r == BLOCK_SIZE && memcmp(got, text_of(APPEND, 1, b), BLOCK_SIZE) != 0;
		shared->log_first = r == BLOCK_SIZE && memcmp(got, zeros, BLOCK_SIZE) == 0; /* of the last */
	}
	(void)volume_close(v);
}

/* A new block that never reached the disk is a hole after an unclean stop, and an error from then on. */
static void leniency_ends(void)
{
	char path[PATH_MAX];

	if (!wanted("log") || setup.suite == SUITE_XTS)
		return;
	snprintf(path, sizeof(path), "%s", fresh_copy(unclean));
	must(apart("finding", see_reading, path), "finding a file");
	punch_block(path, shared->appended, 3);
	setup.cases++;
	if (apart("a lost new block", read_punched, path) && (shared->outcome[3].errors || !shared->log_first))
		bad("log: a new block that was lost is not a hole after an unclean stop");
	must(apart("recovering", must_open, path), "recovering");
	punch_block(path, shared->appended, 1);
	setup.cases++;
	if (apart("a lost block", read_punched, path) && (!shared->outcome[1].errors || shared->outcome[0].wrong ||
							  shared->outcome[0].errors || shared->outcome[2].errors))
		bad("log: a block that was lost after recovery is not an error");
	remove_tree(path);
}

/* ---- headers, after an unclean stop ---- */
static bool is_there(const char *path, const char *name)
{
	char file[2 * PATH_MAX];
	struct stat st;

	snprintf(file, sizeof(file), "%s/%s", path, name);
	return stat(file, &st) == 0;
}

/* Where objects were to be made: a header, authentic or not, is kept, with its file or without; a file without a header is of an
 * object that was never made, and goes. */
static void planted_ahead(void)
{
	char path[PATH_MAX];

	if (!wanted("log"))
		return;
	snprintf(path, sizeof(path), "%s", fresh_copy(unclean));
	run_script(path, "n=$(sed -n 's/^ *next_object = \\([0-9]*\\).*/\\1/p' coffer.volume); "
			 "d=objects/$(printf %03x $((n / 4096 - 1))); mkdir -p $d; ln -s $d planted; "
			 "header . 5 | dd of=$d/headers bs=4096 seek=10; "
			 "head -c 4096 /dev/urandom | dd of=$d/headers bs=4096 seek=11 conv=notrunc; "
			 "header . 5 | dd of=$d/headers bs=4096 seek=12 conv=notrunc; cp objects/000/005 $d/00c; "
			 "cp objects/000/005 $d/00d; head -c 300000 /dev/urandom >$d/00e; : >$d/fff");
	setup.cases += 6;
	view = (struct view){ "headers and files where the next objects go", 0, OPS, false };
	view_thrice(path);
	if (shared->fsck.orphans != 3)
		bad("log: %s: fsck finds %llu objects without a name instead of 3", view.label,
		    (unsigned long long)shared->fsck.orphans);
	if (!is_there(path, "planted/headers") || !is_there(path, "planted/00c"))
		bad("log: %s: what has a header is gone", view.label);
	if (is_there(path, "planted/00d") || is_there(path, "planted/00e") || is_there(path, "planted/fff"))
		bad("log: %s: files of objects that were never made are kept", view.label);
	remove_tree(path);
}

static void changed_headers(void)
{
	static const char *const scripts[] = { "rm $A",
					       "rm $B",
					       ": >$A",
					       ": >$B",
					       "truncate -s 200000 $A",
					       "rm $A; mkfifo $A",
					       "rm $B; mkdir $B",
					       "mv $A x; mv $B $A; mv x $B",
					       "cp $FOREIGN/$A $A",
					       "header . 5 | dd of=$A bs=4096 seek=1 conv=notrunc" };

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		char path[PATH_MAX], label[PATH_MAX];

		if (!wanted("log"))
			continue;
		snprintf(path, sizeof(path), "%s", fresh_copy(unclean));
		snprintf(label, sizeof(label), "log: headers after an unclean stop: %s", scripts[i]);
		run_script(path, scripts[i]);
		setup.cases++;
		run_refusable(path, label);
		remove_tree(path);
	}
}

void tamper_log(void)
{
	snprintf(base, sizeof(base), "%s/base", setup.dir);
	snprintf(unclean, sizeof(unclean), "%s/unclean", setup.dir);
	snprintf(diverged, sizeof(diverged), "%s/diverged", setup.dir); /* as scripts know it */
	must(rename(fresh_copy(setup.world), base) == 0, "renaming");
	must(apart("preparing", prepare, base), "preparing");
	must(rename(fresh_copy(base), unclean) == 0 && rename(fresh_copy(base), diverged) == 0, "renaming");
	must(apart("an epoch", run_long_epoch, unclean), "an epoch");
	must(apart("an epoch", run_short_epoch, diverged), "an epoch");
	if (wanted("log") && apart("log", edit_log, unclean))
		take_counts();
	run_log_scenes();
	replay_into_later();
	leniency_ends();
	planted_ahead();
	changed_headers();
}
