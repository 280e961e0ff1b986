/* Changes of the volume as a whole: the descriptor, folders, files that do not belong there. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "tamper.h"

/* ---- the descriptor ---- */
static char *text; /* of the volume's */
static size_t text_len;

static void write_file(const char *dir, const char *name, const void *data, size_t len)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
	AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write_all(fd, data, len) == 0, "writing a file");
}

/* No change of its text may go unnoticed, whatever it says. */
static void expect_refused(const char *path, const char *what, size_t where, const void *data, size_t len)
{
	struct volume *v;

	if (!wanted("descriptor"))
		return;
	snprintf(shared->text, sizeof(shared->text), "%s at byte %zu", what, where);
	write_file(path, DESCRIPTOR_NAME, data, len);
	setup.cases++;
	setup.opened++;
	if (open_volume(path, true, &v) == 0)
		bad("descriptor: %s: the volume opens", shared->text);
}

static void edit_bytes(const char *path)
{
	char *edited = malloc(text_len + 1);

	must(edited, "memory");
	for (size_t i = 0; i < text_len; i += setup.full ? 1 : 3) {
		memcpy(edited, text, text_len);
		edited[i] ^= (char)(1 << i % 7);
		expect_refused(path, "bit flipped", i, edited, text_len);
	}
	for (size_t i = 0; i < text_len; i += setup.full ? 1 : 40) {
		memcpy(edited, text, i);
		expect_refused(path, "cut off", i, edited, i);
		memset(edited + i, 0, text_len - i);
		expect_refused(path, "zeros from there on", i, edited, text_len);
	}
	free(edited);
}

/* Lines left out, doubled, and put before the one before. */
static void edit_lines(const char *path)
{
	char *edited = malloc(text_len * 2 + 1);

	must(edited, "memory");
	for (size_t at = 0, next, before = 0; at < text_len; before = at, at = next) {
		const char *end = memchr(text + at, '\n', text_len - at);

		next = end ? (size_t)(end - text) + 1 : text_len;
		memcpy(edited, text, at);
		memcpy(edited + at, text + next, text_len - next);
		expect_refused(path, "line left out", at, edited, text_len - (next - at));
		memcpy(edited, text, next);
		memcpy(edited + next, text + at, text_len - at);
		expect_refused(path, "line doubled", at, edited, text_len + next - at);
		memcpy(edited + before, text + at, next - at);
		memcpy(edited + before + (next - at), text + before, at - before);
		memcpy(edited + next, text + next, text_len - next);
		if (at != before && memcmp(edited, text, text_len) != 0)
			expect_refused(path, "lines swapped", at, edited, text_len);
	}
	free(edited);
}

static void edit_rest(const char *path)
{
	static const char *const tails[] = { "\n", " ", "#\n", "@include \"/dev/zero\"\n", "clean = true;\n" };
	enum { HUGE = 3 << 20 };
	char *edited = malloc(text_len + HUGE);

	must(edited, "memory");
	memcpy(edited, text, text_len);
	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		strcpy(edited + text_len, tails[i]);
		expect_refused(path, "something appended", i, edited, text_len + strlen(tails[i]));
		strcpy(edited, tails[i]);
		memcpy(edited + strlen(tails[i]), text, text_len);
		expect_refused(path, "something put before", i, edited, text_len + strlen(tails[i]));
		memcpy(edited, text, text_len);
	}
	memset(edited + text_len, '\n', HUGE);
	expect_refused(path, "very long", 0, edited, text_len + HUGE);
	free(edited);
}

/* What only reads changes nothing, so one copy and one process serve for all. */
static void edit_descriptor(void *path)
{
	edit_bytes(path);
	edit_lines(path);
	edit_rest(path);
	snprintf(shared->text, sizeof(shared->text), "%lu %lu %lu", setup.cases, setup.failed, setup.opened);
}

static void open_once(void *path)
{
	struct volume *v;

	shared->open_error = open_volume(path, false, &v);
	if (shared->open_error == 0)
		shared->close_error = volume_close(v);
}

/* A host that has seen a volume knows it again. */
static void substituted_descriptors(void)
{
	char path[PATH_MAX], name[PATH_MAX + 32];
	size_t len;
	char *other;

	if (!wanted("descriptor"))
		return;
	snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
	must(apart("opening", open_once, path) && shared->open_error == 0, "opening a copy");
	must(read_file_at(AT_FDCWD, (snprintf(name, sizeof(name), "%s/%s", setup.foreign, DESCRIPTOR_NAME), name),
			  DESCRIPTOR_MAX, &other, &len) == 0,
	     "reading another volume's descriptor");
	for (int i = 0; i < 2; i++) {
		write_file(path, DESCRIPTOR_NAME, i ? text : other, i ? text_len : len);
		setup.cases++;
		if (apart("descriptor", open_once, path) && shared->open_error == 0)
			bad("descriptor: %s is taken", i ? "an older one" : "that of another volume");
	}
	remove_tree(path);
	/* One that has not gets errors for every object. */
	snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
	write_file(path, DESCRIPTOR_NAME, other, len);
	setup.cases++;
	run_refusable(path, "descriptor of another volume, on a host that knows neither");
	remove_tree(path);
	free(other);
}

/* ---- files where new objects will be ---- */
enum { FRESH = 24, FRESH_BLOCKS = 20 };
static uint64_t next_object;

static void fresh_name(unsigned i, char out[static 32])
{
	snprintf(out, 32, "fresh%u", i);
}

static uint64_t work_dir(void)
{
	for (unsigned i = 0; i < shared->count; i++)
		if (shared->nodes[i].kind == K_WORK)
			return shared->nodes[i].number;
	return 0;
}

static void compare_fresh(struct volume *v, unsigned i, uint64_t number, const char *when)
{
	uint8_t want[BLOCK_SIZE], got[BLOCK_SIZE], first[BLOCK_SIZE];
	struct attr a;
	int r = volume_getattr(v, number, &a);

	if (r == 0 && a.st.st_size != FRESH_BLOCKS * BLOCK_SIZE)
		bad("planted where new objects go, %s: another size", when);
	for (unsigned b = 0; r == 0 && b < FRESH_BLOCKS; b++) {
		ssize_t n = volume_read(v, number, (uint64_t)b * BLOCK_SIZE, BLOCK_SIZE, got);

		content_of(2, i % 4, want); /* any text will do: a block of small1 */
		memset(first, 0, sizeof(first));
		if (n == BLOCK_SIZE && memcmp(got, b == 7 ? first : want, BLOCK_SIZE) != 0)
			bad("planted where new objects go, %s: block %u of new object %u is another", when, b, i);
		if (n < 0 && i % 5 < 3)
			bad("planted where new objects go, %s: object %u cannot be read", when, i);
	}
}

static void make_fresh(void *path)
{
	uint8_t data[FRESH_BLOCKS * BLOCK_SIZE];
	struct caller c = { 0 };
	struct volume *v;
	char name[32];

	must(open_volume(path, false, &v) == 0, "opening a volume with planted files");
	for (unsigned i = 0; i < FRESH; i++) {
		struct attr a;

		fresh_name(i, name);
		if (volume_make(v, &c, work_dir(), name, S_IFREG | 0600, 0, NULL, &a) < 0)
			continue;
		for (unsigned b = 0; b < FRESH_BLOCKS; b++)
			content_of(2, i % 4, data + b * BLOCK_SIZE);
		/* All but block 7: a hole, in which something lies. */
		if (volume_write(v, a.st.st_ino, 0, 7 * BLOCK_SIZE, data, false) == 0 &&
		    volume_write(v, a.st.st_ino, 8 * BLOCK_SIZE, 12 * BLOCK_SIZE, data, false) == 0)
			compare_fresh(v, i, a.st.st_ino, "at once");
		(void)volume_fsync(v, a.st.st_ino);
	}
	(void)volume_close(v); /* may fail: a directory lies where a file must go */
	snprintf(shared->text, sizeof(shared->text), "%lu %lu %lu", setup.cases, setup.failed, setup.opened);
}

static void read_fresh(void *path)
{
	struct volume *v;
	struct attr a;
	char name[32];

	must(open_volume(path, true, &v) == 0, "opening the volume again");
	for (unsigned i = 0; i < FRESH; i++) {
		fresh_name(i, name);
		if (volume_lookup(v, work_dir(), name, &a) == 0)
			compare_fresh(v, i, a.st.st_ino, "opened again");
	}
	snprintf(shared->text, sizeof(shared->text), "%lu %lu %lu", setup.cases, setup.failed, setup.opened);
}

/* What a process of its own counted. */
static void take_counts(void)
{
	if (sscanf(shared->text, "%lu %lu %lu", &setup.cases, &setup.failed, &setup.opened) != 3)
		bad("%s: no count", shared->text);
}

/* In the place of a header to come: 0 noise, 1 another object's, 2 nothing. */
static void plant_header(const char *path, uint64_t number, unsigned how)
{
	static const char *const from[] = { "head -c 4096 /dev/urandom",
					    "dd if=objects/000/headers bs=4096 skip=5 count=1 status=none" };
	AUTO_FREE char *script = NULL;
	char file[PATH_MAX];

	if (how == 2)
		return;
	headers_path(path, number, file);
	must(asprintf(&script, "%s | dd of='%s' bs=4096 seek=%lld conv=notrunc status=none", from[how], file,
		      (long long)header_place(number) / BLOCK_SIZE) > 0,
	     "memory");
	run_script(path, script);
	setup.cases++;
}

/* i % 5: 0 noise, 1 another object's file, 2 longer noise; 3 a directory, 4 a FIFO (`hard` only: then writing home fails). */
static void plant(const char *path, bool hard)
{
	static const char *const how[] = { "head -c 60000 /dev/urandom >", "cp objects/000/005 ",
					   "head -c 500000 /dev/urandom >", "mkdir ", "mkfifo " };

	for (unsigned i = 0; i < FRESH; i++) {
		AUTO_FREE char *script = NULL;
		char file[PATH_MAX];

		if (i % 5 >= 3 && !hard)
			continue;
		backing_path(path, next_object + i, file);
		must(asprintf(&script, "%s'%s'", how[i % 5], file) > 0, "memory");
		run_script(path, script);
		plant_header(path, next_object + i, i % 3);
		setup.cases++;
	}
}

static void new_objects(void)
{
	char path[PATH_MAX];

	for (int hard = 0; hard < 2; hard++) {
		if (!wanted("planted where new objects go"))
			return;
		snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
		plant(path, hard);
		if (apart("planted where new objects go", make_fresh, path))
			take_counts();
		if (apart("planted where new objects go", read_fresh, path))
			take_counts();
		remove_tree(path);
	}
}

void tamper_volume(void)
{
	char path[PATH_MAX + 16];
	const char *next;

	snprintf(path, sizeof(path), "%s/%s", setup.world, DESCRIPTOR_NAME);
	must(read_file_at(AT_FDCWD, path, DESCRIPTOR_MAX, &text, &text_len) == 0, "reading the descriptor");
	next = strstr(text, "next_object = ");
	must(next, "the number of the next object");
	next_object = strtoull(next + strlen("next_object = "), NULL, 0);
	snprintf(path, sizeof(path), "%s", fresh_copy(setup.world));
	if (apart("descriptor", edit_descriptor, path))
		take_counts();
	else
		bad("descriptor: %s", shared->text);
	remove_tree(path);
	substituted_descriptors();
	tamper_folders();
	new_objects();
	free(text);
}
