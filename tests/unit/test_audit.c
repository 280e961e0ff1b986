#include "audit_fixture.h"

TestSuite(audit, .init = start, .fini = end);

enum { FILES = 64 };

static json_t *line(size_t i)
{
	json_t *o = json_loads(seen.lines[i], 0, NULL);

	cr_assert(o);
	return o;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

Test(audit, what_a_line_says)
{
	struct stat st;
	json_t *o;

	record("first");
	reopen("backing", "state");
	record("second");
	sound();
	cr_assert_eq(seen.notes, 0);
	cr_assert_eq(seen.count, 3); /* the first tells of the beginning */
	cr_assert_eq(seen.r.lines, 3);
	cr_assert_eq(seen.r.first, 1);
	cr_assert_eq(seen.r.last, 3);
	o = line(0);
	cr_assert_str_eq(text_of(o, "event"), "trail-begun");
	cr_assert_str_eq(text_of(o, "requester"), "daemon");
	cr_assert_eq(json_integer_value(json_object_get(o, "pid")), getpid());
	json_decref(o);
	o = line(2);
	cr_assert_eq(json_integer_value(json_object_get(o, "number")), 3);
	cr_assert_str_eq(text_of(o, "event"), "test");
	cr_assert_str_eq(text_of(o, "scope"), "default");
	cr_assert_str_eq(text_of(o, "key_source"), "platform:");
	cr_assert_str_eq(text_of(o, "key"), "platform-0123");
	cr_assert_eq(json_integer_value(json_object_get(o, "key_version")), 3);
	cr_assert_str_eq(text_of(o, "requester"), "user");
	cr_assert_eq(json_integer_value(json_object_get(o, "uid")), 1000);
	cr_assert_eq(json_integer_value(json_object_get(o, "pid")), 4242);
	cr_assert_eq(json_integer_value(json_object_get(o, "result")), -EACCES);
	cr_assert_str_eq(text_of(o, "outcome"), "Permission denied");
	cr_assert_str_eq(text_of(o, "detail"), "second");
	cr_assert_eq(strlen(text_of(o, "time")), strlen("2026-01-01T00:00:00.000Z"));
	json_decref(o);
	cr_assert_eq(stat(in_scratch("state/audit"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	cr_assert_eq(stat(in_scratch("backing/" AUDIT_HEAD_NAME), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_size % AUDIT_HEAD_STEP, 0);
}

Test(audit, nothing_yet)
{
	cr_assert_eq(check(), 1);
	cr_assert(found("there is no audit trail"));
	cr_assert_eq(access(in_scratch("state/audit"), F_OK), -1); /* reading makes nothing */
	cr_assert_eq(audit_record(NULL, NULL, 0), 0);
}

Test(audit, hostile_texts)
{
	static const char *const texts[] = {
		"two\nlines", "\"}\n{\"number\":1,\"mac\":\"", "\x80\xff not UTF-8 \xc3", "\x1b[2J", "\\\"\\", "",
	};
	char longest[5000];

	memset(longest, '\n', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct audit_event e = { .event = texts[i],
					 .scope = texts[i],
					 .key = texts[i],
					 .key_source = texts[i],
					 .detail = texts[i] };

		cr_assert_eq(audit_record(trail, &e, 1), 0);
	}
	record(longest);
	sound();
	cr_assert_eq(seen.count, 8);
	json_t *o = line(1);

	cr_assert_str_eq(text_of(o, "scope"), "two\nlines");
	json_decref(o);
	o = line(7);
	cr_assert_eq(strlen(text_of(o, "detail")), 1023);
	json_decref(o);
}

Test(audit, many_at_once)
{
	struct audit_event e[3 * AUDIT_BATCH + 1];

	for (size_t i = 0; i < sizeof(e) / sizeof(e[0]); i++)
		e[i] = (struct audit_event){ .event = "many" };
	cr_assert_eq(audit_record(trail, e, sizeof(e) / sizeof(e[0])), 0);
	sound();
	cr_assert_eq(seen.r.lines, sizeof(e) / sizeof(e[0]) + 1);
}

static void *record_some(void *arg)
{
	for (int i = 0; i < 20; i++)
		record("at the same time");
	return arg;
}

Test(audit, threads_and_processes)
{
	pthread_t threads[4];
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		start_in_child();
		record_some(NULL);
		_exit(0);
	}
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, record_some, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	sound();
	cr_assert_eq(seen.r.lines, 101);
}

/* ---- rotation ---- */

static void record_over_files(unsigned lines)
{
	trail->file_max = 2000;
	for (unsigned i = 0; i < lines; i++)
		record("rotating");
}

Test(audit, rotation)
{
	struct file files[FILES];

	record_over_files(40);
	cr_assert_gt(load_files(files, FILES), 5);
	sound();
	cr_assert_eq(seen.notes, 0);
	cr_assert_eq(seen.r.lines, 41);
}

Test(audit, rotation_with_a_limit)
{
	struct file files[FILES];

	keep = 3;
	reopen("backing", "state");
	record_over_files(40);
	cr_assert_eq(load_files(files, FILES), 3);
	sound();
	cr_assert(found("were removed, as the setting audit_keep says"));
	cr_assert_gt(seen.r.first, 20);
	/* One more than the limit says. */
	unlink(files[0].path);
	cr_assert_neq(check(), 0);
	cr_assert(found("missing at the beginning"), "%s", seen.text);
	put_back(&files[0]);
	keep = 1;
	reopen("backing", "state");
	record_over_files(20);
	cr_assert_eq(load_files(files, FILES), 1);
	sound();
}

Test(audit, files_removed_renamed_swapped)
{
	struct file f[FILES];
	size_t count;

	record_over_files(40);
	count = load_files(f, FILES);
	for (size_t i = 0; i < count; i++) {
		unlink(f[i].path);
		cr_assert_neq(check(), 0, "file %zu removed", i);
		cr_assert(found("missing"), "%s", seen.text);
		put_back(&f[i]);
		put_file(f[i].path, "", 0, 0600);
		cr_assert_neq(check(), 0, "file %zu emptied", i);
		put_back(&f[i]);
		cr_assert_eq(rename(f[i].path, in_scratch("aside")), 0);
		cr_assert_eq(rename(in_scratch("aside"),
				    in_scratch("%.*s/000000009999.jsonl",
					       (int)(strrchr(f[i].path, '/') - f[i].path - strlen(scratch) - 1),
					       f[i].path + strlen(scratch) + 1)),
			     0);
		cr_assert_neq(check(), 0, "file %zu renamed", i);
		unlink(in_scratch("%.*s/000000009999.jsonl",
				  (int)(strrchr(f[i].path, '/') - f[i].path - strlen(scratch) - 1),
				  f[i].path + strlen(scratch) + 1));
		put_back(&f[i]);
		if (i == 0)
			continue;
		put_file(f[i].path, f[i - 1].text, f[i - 1].len, 0600);
		put_file(f[i - 1].path, f[i].text, f[i].len, 0600);
		cr_assert_neq(check(), 0, "files %zu and %zu swapped", i - 1, i);
		put_back(&f[i]);
		put_back(&f[i - 1]);
	}
	sound();
}

/* ---- places ---- */

Test(audit, on_another_host)
{
	record("here");
	record("here");
	reopen("backing", "other-state");
	sound(); /* nothing of it is here, and that is said */
	cr_assert(found("up to line 3 were last written on another host"), "%s", seen.text);
	record("there");
	sound();
	cr_assert_eq(seen.r.first, 4);
	cr_assert(found("line 4: the trail goes on here"));
	cr_assert(found("lines 1 to 3 were written elsewhere"), "%s", seen.text);
	/* And back: its own lines are still there. */
	reopen("backing", "state");
	record("back");
	sound();
	cr_assert(found("lines 4 to 5 were written elsewhere"), "%s", seen.text);
	/* Those that were there before are missed all the same. */
	struct file f;
	cr_assert_eq(load_files(&f, 1), 1);
	char *third = strchr(strchr(f.text, '\n') + 1, '\n') + 1, *fourth = strchr(third, '\n') + 1;

	memmove(third, fourth, f.len - (size_t)(fourth - f.text) + 1);
	f.len -= (size_t)(fourth - third);
	put_back(&f);
	cr_assert_neq(check(), 0);
	cr_assert(found("line 3 is missing"), "%s", seen.text);
}

Test(audit, all_lines_removed)
{
	struct file f;

	record("here");
	record("here");
	cr_assert_eq(load_files(&f, 1), 1);
	unlink(f.path);
	cr_assert_eq(check(), 1);
	cr_assert(found("lines 1 to 3 are missing at the end"), "%s", seen.text);
	/* Going on does not hide it, unless it was accepted. */
	record("later");
	cr_assert_neq(check(), 0);
	cr_assert(found("lines were missing at the end"), "%s", seen.text);
	cr_assert(logged("is broken"));
	cr_assert_eq(load_files(&f, 1), 1);
	unlink(f.path);
	accept_it = true;
	reopen("backing", "state");
	record("accepted");
	sound();
	cr_assert(found("the mount option accept took it so"), "%s", seen.text);
}

Test(audit, without_writing_to_the_backing_directory)
{
	struct file head, f;

	record("one");
	head = load_head();
	read_only = true;
	reopen("backing", "state");
	record("two");
	record("three");
	sound();
	cr_assert(found("without write access"), "%s", seen.text);
	cr_assert_eq(seen.r.lines, 4);
	struct file now = load_head();

	cr_assert_eq(memcmp(head.text, now.text, head.len), 0);
	read_only = false;
	reopen("backing", "state");
	record("four");
	sound();
	cr_assert_eq(seen.notes, 0);
	/* From then on they are missed, too. */
	cr_assert_eq(load_files(&f, 1), 1);
	char *three = strchr(strchr(f.text, '\n') + 1, '\n') + 1, *four = strchr(three, '\n') + 1;

	memmove(three, four, f.len - (size_t)(four - f.text));
	f.len -= (size_t)(four - three);
	put_back(&f);
	cr_assert_neq(check(), 0);
}

Test(audit, read_only_from_the_start)
{
	read_only = true;
	reopen("backing", "state");
	record("one");
	record("two");
	sound();
	cr_assert_eq(access(in_scratch("backing/" AUDIT_HEAD_NAME), F_OK), -1);
}

Test(audit, without_keys)
{
	static const uint8_t id[VOLUME_ID_SIZE] = { 0xab, 1, 2, 3 };
	struct audit_place p = { .state_dir = in_scratch("state"), .backing_fd = backing_fd, .volume_id = id };

	record("one");
	audit_close(trail);
	cr_assert_eq(audit_open(NULL, &p, &trail), 0);
	sound();
	cr_assert_eq(seen.count, 2);
}
