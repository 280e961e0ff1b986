/* A process that is killed at any step of recording: nothing that was acknowledged is missing, nothing is taken for tampering,
 * and the trail goes on. Every system call that changes a file is a step. */
#include "audit_fixture.h"

#include <signal.h>

static int steps_left = -1; /* -1: no step is counted */
static size_t torn;         /* bytes of the last write that are made before the kill */

static bool last_step(void)
{
	return steps_left >= 0 && steps_left-- == 0;
}

#define WRAP(name, parameters, arguments)       \
	int __real_##name parameters;           \
	int __wrap_##name parameters;           \
	int __wrap_##name parameters            \
	{                                       \
		if (last_step())                \
			raise(SIGKILL);         \
		return __real_##name arguments; \
	}
WRAP(fsync, (int fd), (fd))
WRAP(fdatasync, (int fd), (fd))
WRAP(syncfs, (int fd), (fd))
WRAP(ftruncate64, (int fd, off_t len), (fd, len))
WRAP(renameat, (int d, const char *from, int e, const char *to), (d, from, e, to))
WRAP(unlinkat, (int d, const char *name, int flags), (d, name, flags))

ssize_t __real_pwrite64(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t len, off_t off)
{
	if (last_step()) {
		(void)!__real_pwrite64(fd, data, torn < len ? torn : len, off);
		raise(SIGKILL);
	}
	return __real_pwrite64(fd, data, len, off);
}

TestSuite(audit_crash, .init = start, .fini = end, .timeout = 120);

/* Records in a child that is killed at step `step`; true: it got through. */
static bool record_until(int step, size_t events)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct audit_event e[AUDIT_BATCH];

		for (size_t i = 0; i < events; i++)
			e[i] = (struct audit_event){ .event = "crashing", .detail = "perhaps" };
		start_in_child();
		trail->file_max = 3000;
		steps_left = step;
		_exit(audit_record(trail, e, events) == 0 ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "status %x", status);
	return !WIFSIGNALED(status);
}

static uint64_t count_of(const char *event)
{
	uint64_t n = 0;

	for (size_t i = 0; i < seen.count; i++)
		n += strstr(seen.lines[i], event) != NULL;
	return n;
}

static void crash_everywhere(size_t events, bool first)
{
	static const size_t lengths[] = { 0, 1, 100, 300, 1000 };
	uint64_t acknowledged = 0;
	int crashes = 0;
	bool through = false;

	for (int step = 0; !through; step++) {
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			uint64_t before, after;

			if (first) {
				nftw(in_scratch("state"), remove_one, 16, FTW_DEPTH | FTW_PHYS);
				unlink(in_scratch("backing/" AUDIT_HEAD_NAME));
			} else {
				record("before");
				acknowledged++;
				sound();
			}
			before = first ? 0 : count_of("crashing");
			torn = lengths[i];
			through = record_until(step, events);
			crashes += !through;
			/* On a trail that does not exist yet, nothing may have been written. */
			if (check() == 0 || !first || !found("there is no audit trail"))
				cr_assert_eq(seen.r.errors, 0, "step %d: %s", step, seen.text);
			after = count_of("crashing");
			cr_assert(through ? after == before + events : after == before || after == before + events,
				  "step %d: %zu of %zu", step, (size_t)(after - before), events);
			record("after");
			sound();
			cr_assert_eq(count_of("crashing"), after);
			cr_assert(first || count_of("before") == acknowledged);
		}
	}
	cr_assert_gt(crashes, 40);
}

Test(audit_crash, one_line)
{
	trail->file_max = 3000;
	crash_everywhere(1, false);
}

Test(audit_crash, several_lines)
{
	trail->file_max = 3000;
	crash_everywhere(5, false);
}

Test(audit_crash, the_first_lines)
{
	crash_everywhere(2, true);
}

/* The limit removes files in between. */
Test(audit_crash, with_a_limit)
{
	bool through = false;

	keep = 2;
	reopen("backing", "state");
	trail->file_max = 1;
	for (int step = 0; !through; step++) {
		record("before");
		record("before");
		through = record_until(step, 1);
		sound();
		trail->file_max = 1;
		record("after");
		sound();
	}
}

/* A stop leaves zeros where data did not get to the disk. */
Test(audit_crash, zeros_at_the_end)
{
	struct audit_position at;
	struct audit_batch b = { 0 };
	struct audit_event e = { .event = "pending" };
	struct file f;
	static char zeros[4096];

	record("one");
	sound();
	cr_assert_eq(load_files(&f, 1), 1);
	struct audit_head h;

	cr_assert_eq(audit_head_load(trail, &h), 0);
	at = h.last;
	audit_head_end(&h);
	cr_assert_eq(audit_line_add(trail, &b, &at, audit_fields(&e)), 0);
	cr_assert_eq(audit_head_store(trail, HEAD_PENDING, &b), 0);
	for (size_t zero = 0; zero <= b.len; zero += 7) {
		FILE *out = fopen(f.path, "w");

		fwrite(f.text, 1, f.len, out);
		fwrite(b.text, 1, b.len - zero, out);
		fwrite(zeros, 1, zero, out);
		fclose(out);
		sound();
		cr_assert_eq(seen.count, 3);
		/* Something else, or more than that, is no stop's work. */
		if (zero) {
			out = fopen(f.path, "r+");
			fseek(out, -1, SEEK_END);
			fputs("\x01", out);
			fclose(out);
			cr_assert_neq(check(), 0);
		}
		out = fopen(f.path, "a");
		fputs("x", out);
		fclose(out);
		cr_assert_neq(check(), 0);
	}
	put_back(&f);
	sound();
	cr_assert(found("stands in the backing directory only"), "%s", seen.text);
	record("two");
	sound();
	cr_assert_eq(seen.count, 4);
	cr_assert_eq(count_of("pending"), 1);
	free(b.text);
}
