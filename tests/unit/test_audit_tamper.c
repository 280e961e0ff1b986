/* What is found of a trail that was changed. */
#include "audit_fixture.h"

enum { LINES = 6 };
static struct file lines;
static const char *starts[LINES + 1];

static void start_with_lines(void)
{
	start();
	for (int i = 1; i < LINES; i++)
		record("some line");
	cr_assert_eq(load_files(&lines, 1), 1);
	starts[0] = lines.text;
	for (int i = 1; i <= LINES; i++)
		starts[i] = strchr(starts[i - 1], '\n') + 1;
	cr_assert_eq(starts[LINES], lines.text + lines.len);
	sound();
}

TestSuite(audit_tamper, .init = start_with_lines, .fini = end);

static void put_parts(int count, const int *order)
{
	static char text[1 << 16];
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		size_t n = (size_t)(starts[order[i] + 1] - starts[order[i]]);

		memcpy(text + len, starts[order[i]], n);
		len += n;
	}
	put_file(lines.path, text, len, 0600);
}

Test(audit_tamper, every_byte)
{
	struct file f = lines;

	f.text = malloc(lines.len);
	for (size_t i = 0; i < lines.len; i++) {
		memcpy(f.text, lines.text, lines.len);
		f.text[i] ^= (char)(1 << i % 7);
		put_back(&f);
		cr_assert_neq(check(), 0, "byte %zu", i);
	}
	put_back(&lines);
	sound();
}

Test(audit_tamper, every_line_removed)
{
	for (int gone = 0; gone < LINES; gone++) {
		int order[LINES], n = 0;

		for (int i = 0; i < LINES; i++)
			if (i != gone)
				order[n++] = i;
		put_parts(n, order);
		cr_assert_eq(check(), 1 + (gone == 0), "%s", seen.text);
		cr_assert(found("missing"), "%s", seen.text);
	}
}

Test(audit_tamper, every_line_doubled)
{
	for (int twice = 0; twice < LINES; twice++) {
		int order[LINES + 1], n = 0;

		for (int i = 0; i < LINES; i++) {
			order[n++] = i;
			if (i == twice)
				order[n++] = i;
		}
		put_parts(n, order);
		cr_assert_eq(check(), 1, "%s", seen.text);
		cr_assert(found("repeated"), "%s", seen.text);
	}
}

Test(audit_tamper, neighbours_swapped)
{
	for (int at = 0; at + 1 < LINES; at++) {
		int order[LINES] = { 0, 1, 2, 3, 4, 5 };

		order[at] = at + 1;
		order[at + 1] = at;
		put_parts(LINES, order);
		cr_assert_neq(check(), 0, "%s", seen.text);
		cr_assert(found("out of order"), "%s", seen.text);
	}
}

Test(audit_tamper, cut_at_every_length)
{
	for (size_t len = 0; len < lines.len; len++) {
		put_file(lines.path, lines.text, len, 0600);
		cr_assert_neq(check(), 0, "%zu of %zu bytes", len, lines.len);
	}
}

/* What was cut off stays missing when the trail goes on. */
Test(audit_tamper, cut_and_gone_on)
{
	for (int kept = 0; kept < LINES; kept++) {
		struct file head = load_head();

		put_file(lines.path, lines.text, (size_t)(starts[kept] - lines.text), 0600);
		record("later");
		record("later still");
		cr_assert_neq(check(), 0, "%d lines kept", kept);
		cr_assert(found("missing"), "%s", seen.text);
		cr_assert_eq(seen.r.last, LINES + 3); /* one that says so */
		put_back(&head);
		free(head.text);
	}
}

/* An older head and lines that were cut to suit it cannot be told from the truth of then; but as soon as either is newer. */
Test(audit_tamper, older_heads)
{
	struct file older = load_head(), newer;

	record("one more");
	newer = load_head();
	put_back(&older);
	cr_assert_eq(check(), 1, "%s", seen.text);
	cr_assert(found("is older than the lines"), "%s", seen.text);
	record("later");
	cr_assert_neq(check(), 0);
	cr_assert(found("was older than the lines"), "%s", seen.text);
	put_back(&lines);
	put_back(&newer);
	cr_assert_eq(check(), 1, "%s", seen.text);
	cr_assert(found("line 7 is missing at the end"), "%s", seen.text);
}

Test(audit_tamper, heads)
{
	struct file head = load_head(), f = head;

	f.text = malloc(head.len);
	for (size_t i = 0; i < head.len; i += i < 64 ? 1 : 61) {
		memcpy(f.text, head.text, head.len);
		f.text[i] ^= 1;
		put_back(&f);
		cr_assert_neq(check(), 0, "byte %zu", i);
	}
	for (size_t len = 0; len < head.len; len += 511) {
		f.len = len;
		put_back(&f);
		cr_assert_neq(check(), 0, "%zu bytes", len);
	}
	unlink(head.path);
	cr_assert_eq(check(), 1);
	cr_assert(found("is missing or was changed"), "%s", seen.text);
	record("later");
	cr_assert_neq(check(), 0); /* lines may have been cut off before */
	unlink(head.path);
	cr_assert_eq(mkfifo(head.path, 0600), 0);
	cr_assert_neq(check(), 0);
	record("later");
	unlink(head.path);
	cr_assert_eq(symlink("/dev/zero", head.path), 0);
	cr_assert_neq(check(), 0);
	record("later");
}

/* Garbage neither hides the lines before it nor damages those after it. */
Test(audit_tamper, garbage_at_the_end)
{
	static const char *const garbage[] = { "x", "x\n", "\n", "{}\n", "{\"number\":7,\"event\":\"forged\"}" };

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		FILE *f = fopen(lines.path, "a");

		fputs(garbage[i], f);
		fclose(f);
		uint64_t last = seen.r.last;

		cr_assert_eq(check(), i + 1, "%s", seen.text);
		record("after it");
		cr_assert_eq(check(), i + 1, "%s", seen.text);
		cr_assert_eq(seen.r.last, last + 1, "%s", seen.text);
	}
}

/* Lines of another volume's trail, or of no trail at all. */
Test(audit_tamper, a_planted_file)
{
	char *slash = strrchr(lines.path, '/');
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%.*s/000000000100.jsonl", (int)(slash - lines.path), lines.path);
	put_file(path, lines.text, lines.len, 0600);
	cr_assert_neq(check(), 0);
	put_file(path, "{}\n", 3, 0600);
	cr_assert_neq(check(), 0);
	unlink(path);
	snprintf(path, sizeof(path), "%.*s/notes.txt", (int)(slash - lines.path), lines.path);
	put_file(path, "{}\n", 3, 0600);
	sound();
}
