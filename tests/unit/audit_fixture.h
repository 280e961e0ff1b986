/* A trail in a scratch directory, for the tests of the audit trail. */
#ifndef COFFER_TESTS_AUDIT_FIXTURE_H
#define COFFER_TESTS_AUDIT_FIXTURE_H

#include "key_fixture.h"

#include <glob.h>
#include <sys/wait.h>

#include "../../src/key/audit.h"

static struct audit *trail;
static int backing_fd = -1;
static struct kdf *structure;
static bool read_only, accept_it;
static unsigned keep;

static inline struct audit *open_trail(const char *backing, const char *state)
{
	static const uint8_t id[VOLUME_ID_SIZE] = { 0xab, 1, 2, 3 };
	uint8_t key[KEY_SIZE] = { 7, 7, 7 };
	struct secret *volume_key = secret_take(key, sizeof(key));
	struct audit *a;

	if (backing_fd >= 0)
		close(backing_fd);
	kdf_free(structure);
	backing_fd = open_dir_at(in_scratch("%s", backing));
	structure = kdf_new(volume_key);
	secret_free(volume_key);
	struct audit_place p = {
		.state_dir = in_scratch("%s", state),
		.backing_fd = backing_fd,
		.volume_id = id,
		.read_only = read_only,
		.accept = accept_it,
		.keep = keep,
	};
	cr_assert_eq(audit_open(structure, &p, &a), 0);
	return a;
}

static inline void start(void)
{
	scratch_in_memory();
	trail = open_trail("backing", "state");
}

static inline void end(void)
{
	audit_close(trail);
	kdf_free(structure);
	close(backing_fd);
	scratch_end();
}

static inline void reopen(const char *backing, const char *state)
{
	audit_close(trail);
	trail = open_trail(backing, state);
}

/* The parent's keys were wiped, and are not even to be freed. */
static inline void start_in_child(void)
{
	structure = NULL;
	trail = open_trail("backing", "state");
}

static inline int try_record(const char *event, const char *detail)
{
	struct audit_requester who = { .uid = 1000, .pid = 4242 };
	struct audit_event e = {
		.event = event,
		.scope = "default",
		.key_source = "platform:",
		.key = "platform-0123",
		.key_version = 3,
		.requester = &who,
		.outcome = -EACCES,
		.detail = detail,
	};

	return audit_record(trail, &e, 1);
}

static inline void record(const char *detail)
{
	cr_assert_eq(try_record("test", detail), 0);
}

/* ---- what reading says ---- */
static struct {
	struct audit_result r;
	char text[1 << 17]; /* findings */
	char *lines[4096];
	size_t count, notes;
} seen;

static inline void see(void *arg, const char *text)
{
	(void)arg;
	if (text[0] == '{') {
		cr_assert_lt(seen.count, sizeof(seen.lines) / sizeof(seen.lines[0]));
		seen.lines[seen.count++] = strdup(text);
	} else if (strlen(seen.text) + strlen(text) + 2 < sizeof(seen.text)) {
		strcat(strcat(seen.text, text), "\n");
	}
	seen.notes += strncmp(text, "note: ", 6) == 0;
}

/* The number of errors. */
static inline uint64_t check(void)
{
	while (seen.count)
		free(seen.lines[--seen.count]);
	seen.text[0] = 0;
	seen.notes = 0;
	cr_assert_eq(audit_read(trail, true, see, NULL, &seen.r), 0);
	return seen.r.errors;
}

static inline bool found(const char *what)
{
	return strstr(seen.text, what) != NULL;
}

#define sound() cr_assert_eq(check(), 0, "%s", seen.text)

/* ---- the files ---- */
struct file {
	char path[PATH_MAX];
	char *text;
	size_t len;
};
/* Those of the lines, in order. */
static inline size_t load_files(struct file *files, size_t max)
{
	glob_t g;
	size_t count;

	cr_assert_eq(glob(in_scratch("state/audit/*/*.jsonl"), 0, NULL, &g), 0);
	count = g.gl_pathc;
	cr_assert_leq(count, max);
	for (size_t i = 0; i < count; i++) {
		strcpy(files[i].path, g.gl_pathv[i]);
		cr_assert_eq(read_file_at(AT_FDCWD, files[i].path, AUDIT_READ_MAX, &files[i].text, &files[i].len), 0);
	}
	globfree(&g);
	return count;
}

static inline void put_back(const struct file *f)
{
	put_file(f->path, f->text, f->len, 0600);
}

static inline struct file load_head(void)
{
	struct file f;

	strcpy(f.path, in_scratch("backing/" AUDIT_HEAD_NAME));
	cr_assert_eq(read_file_at(AT_FDCWD, f.path, AUDIT_HEAD_MAX, &f.text, &f.len), 0);
	return f;
}

#endif
