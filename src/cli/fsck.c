/* coffer fsck: checks, and changes nothing. A mounted volume is checked by its daemon. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "commands.h"

static void print_line(void *arg, const char *line)
{
	(void)arg;
	printf("%s\n", line);
}

static bool print_control_line(void *arg, const char *line)
{
	print_line(arg, line);
	return true;
}

static enum exit_code summarise(const char *path, int r, const struct fsck_result *f, bool data)
{
	if (r < 0) {
		log_error("%s: the check could not be finished: %s", path,
			  r == -EAGAIN ? "a key was changed meanwhile; try again" : strerror(-r));
		return f->errors ? EXIT_DAMAGED : exit_code_of(r);
	}
	printf("%" PRIu64 " objects (%" PRIu64 " directories), %" PRIu64 " names", f->objects, f->directories,
	       f->names);
	if (data)
		printf(", %" PRIu64 " blocks (%" PRIu64 " bytes)", f->blocks, f->bytes);
	printf(": ");
	if (f->errors)
		printf("%" PRIu64 " errors\n", f->errors);
	else
		printf("no errors\n");
	if (f->locked)
		printf("%" PRIu64
		       " names lead to objects whose scope is locked: those, and what is below them, were not checked\n",
		       f->locked);
	if (f->orphans)
		printf("%" PRIu64 " objects have no name; they are removed by the next unmount or mount\n", f->orphans);
	return f->errors ? EXIT_DAMAGED : EXIT_DONE;
}

static enum exit_code check_live(int fd, const char *path, bool data)
{
	json_t *answer = NULL;
	struct fsck_result f;
	int r = control_send(fd, json_pack("{s:s, s:b}", "verb", "fsck", "data", data));

	if (r == 0)
		r = control_receive(fd, print_control_line, NULL, &answer);
	f = (struct fsck_result){
		.objects = count_of(answer, "objects"),
		.directories = count_of(answer, "directories"),
		.names = count_of(answer, "names"),
		.blocks = count_of(answer, "blocks"),
		.bytes = count_of(answer, "bytes"),
		.errors = count_of(answer, "errors"),
		.orphans = count_of(answer, "orphans"),
		.locked = count_of(answer, "locked"),
	};
	json_decref(answer);
	return summarise(path, r, &f, data);
}

static enum exit_code check_unmounted(const struct target *t, const char *path, const struct config *c, bool data)
{
	struct volume_options o = { .read_only = true, .shared = true, .state_dir = c->state_dir };
	struct fsck_result f = { 0 };
	struct volume *v;
	char backing[PATH_MAX];
	AUTO_CLOSE int fd = -1;
	int r;

	if (backing_open(t->backing, &fd, backing) < 0)
		return EXIT_NOT_A_VOLUME;
	r = volume_open(fd, &o, &v);
	if (r == -EBUSY)
		log_error("%s: a daemon serves this volume, but it could not be asked (another --state-dir?)", path);
	if (r < 0)
		return exit_code_of(r);
	r = volume_fsck(v, data, print_line, NULL, &f);
	volume_close(v);
	return summarise(path, r, &f, data);
}

int command_fsck(int argc, char **argv)
{
	struct arguments a = { .command = "fsck" };
	bool data = false;
	enum exit_code code;
	struct config c;
	struct target t;
	AUTO_CLOSE int fd = -1;
	int option;

	while (take_option(&a, argc, argv, &option)) {
		if (option == OPTION_DATA)
			data = true;
	}
	if (!take_arguments(&a, argc, 1, 1, &c, &code))
		return code;
	code = find_target(&c, argv[optind], &t);
	if (code == EXIT_DONE)
		code = start_crypto();
	if (code != EXIT_DONE)
		return code;
	if (connect_target(&c, &t, &fd) == 0)
		return check_live(fd, argv[optind], data);
	return check_unmounted(&t, argv[optind], &c, data);
}
