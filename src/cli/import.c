/* coffer import: copies a tree into a volume, with everything, and reads back what it wrote.
 *
 * A file gets its name when its content has been read back and its attributes are set, its times last (O_TMPFILE, linkat). So what has a
 * name and the source's size and time is complete, and an import that was interrupted goes on by being run again; a file
 * that it was at leaves nothing. Directories get their attributes when all is in them. Nothing outside of the source is gone into: names
 * are looked up one by one, below open directories, and links are not followed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "commands.h"
#include "import.h"

volatile sig_atomic_t import_interrupted;

bool import_goes_on(const struct import *i)
{
	return i->stop == EXIT_DONE && !import_interrupted;
}

void import_failed(struct import *i, const char *what, int error)
{
	switch (-error) {
	case ENOSPC:
	case EDQUOT:
	case EROFS:
	case EIO:
	case ENOTCONN:
	case ECONNABORTED:
		if (i->stop == EXIT_DONE)
			log_error("%s: %s: stopped", i->path, strerror(-error));
		i->stop = EXIT_IO;
		break;
	default:
		import_not_taken(i, what, error);
	}
}

/* ---- the path, for messages ---- */

static size_t path_add(struct import *i, const char *name)
{
	size_t before = i->path_len, len = strlen(name);

	i->path_len += 1 + len;
	if (i->path_len < sizeof(i->path)) {
		i->path[before] = '/';
		memcpy(i->path + before + 1, name, len + 1);
	}
	return before;
}

static void path_cut(struct import *i, size_t to)
{
	i->path_len = to;
	if (to < sizeof(i->path))
		i->path[to] = 0;
}

/* ---- the tree ---- */

static void import_name(struct import *i, int from, int to, const char *name, uint64_t mount);

static void import_names(struct import *i, DIR *dir, int to, uint64_t mount)
{
	const struct dirent *e;

	while (import_goes_on(i) && (errno = 0, e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		size_t before = path_add(i, e->d_name);

		import_name(i, dirfd(dir), to, e->d_name, mount);
		path_cut(i, before);
		import_progress(i, false);
	}
	if (import_goes_on(i) && errno)
		import_not_taken(i, "all that is in it", -errno);
}

/* `from` is closed. `st`: of the source, as it was when it was opened. */
static void import_directory(struct import *i, int from, int to, const struct statx *st)
{
	DIR *dir = fdopendir(from);
	struct statx after;
	struct node a, b;

	if (!dir) {
		import_not_taken(i, "all that is in it", -errno);
		close(from);
		return;
	}
	import_names(i, dir, to, st->stx_mnt_id);
	if (import_goes_on(i)) {
		node_of_file(&a, from);
		node_of_file(&b, to);
		if (statx(to, "", AT_EMPTY_PATH, IMPORT_STATX, &after) < 0 || !import_same_attributes(st, &after))
			import_attributes(i, &a, st, &b);
		if (statx(from, "", AT_EMPTY_PATH, IMPORT_STATX, &after) == 0 &&
		    !import_same_time(&st->stx_mtime, &after.stx_mtime))
			import_say_not_taken(i, "names came or went meanwhile: run it again");
	}
	closedir(dir);
}

static int open_copy(int to, const char *name)
{
	return openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void import_subdirectory(struct import *i, int from, int to, const char *name, struct statx *st)
{
	bool made = mkdirat(to, name, 0700) == 0;
	AUTO_CLOSE int copy = made || errno == EEXIST ? open_copy(to, name) : -1;
	int source;

	if (copy < 0) {
		import_failed(i, NULL, -errno);
		return;
	}
	source = import_open_source(from, name, st);
	if (source < 0) {
		import_not_taken(i, "all that is in it", source);
		return;
	}
	i->copied.objects += made;
	i->there.objects += !made;
	import_directory(i, source, copy, st);
}

static bool is_in_volume(const struct import *i, const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor) == i->volume;
}

static void import_name(struct import *i, int from, int to, const char *name, uint64_t mount)
{
	struct statx st;

	if (statx(from, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, IMPORT_STATX, &st) < 0) {
		import_not_taken(i, NULL, -errno);
		return;
	}
	if (is_in_volume(i, &st))
		import_say_not_taken(i, "it is on the volume itself");
	else if (st.stx_mnt_id != mount && !i->across_mounts)
		import_say_not_taken(i, "something is mounted there, see --across-mounts");
	else if (S_ISDIR(st.stx_mode))
		import_subdirectory(i, from, to, name, &st);
	else
		import_object(i, from, to, name, &st);
}

/* ---- counting, so that the time that is left can be told ---- */

static void count_names(struct import *i, int fd, uint64_t mount)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *e;
	struct statx st;

	if (!dir) {
		close(fd);
		return;
	}
	while (import_goes_on(i) && (e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    statx(fd, e->d_name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, IMPORT_STATX, &st) < 0 ||
		    is_in_volume(i, &st) || (st.stx_mnt_id != mount && !i->across_mounts))
			continue;
		i->all.objects++;
		i->all.bytes += import_bytes(&st);
		int below = S_ISDIR(st.stx_mode) ? import_open_source(fd, e->d_name, &st) : -1;

		if (below >= 0)
			count_names(i, below, st.stx_mnt_id);
	}
	closedir(dir);
}

/* ---- the command ---- */

static void note_interrupt(int sig)
{
	(void)sig;
	import_interrupted = 1;
}

/* `there` is the destination, or the directory that it is to be made in. */
static enum exit_code check_destination(struct import *i, const char *there, const char *whole,
					const struct statx *source)
{
	struct mount_entry e;
	char real[PATH_MAX];
	struct stat st;

	if (!realpath(there, real) || stat(real, &st) < 0) {
		log_error("%s: %s", there, strerror(errno));
		return EXIT_OTHER;
	}
	if (mounts_above(real, &e) < 0 || !mount_is_coffer(&e)) {
		log_error("%s: not on a mounted volume", whole);
		return EXIT_NOT_MOUNTED;
	}
	i->volume = st.st_dev;
	if (!is_in_volume(i, source))
		return EXIT_DONE;
	log_error("%s: the source is on that volume itself", whole);
	return EXIT_USAGE;
}

static enum exit_code open_destination(struct import *i, const char *path, const struct statx *source, int *ret)
{
	AUTO_FREE char *copy = strdup(path);
	bool missing = access(path, F_OK) < 0 && errno == ENOENT && S_ISDIR(source->stx_mode) && copy;
	enum exit_code code = check_destination(i, missing ? dirname(copy) : path, path, source);

	if (code != EXIT_DONE)
		return code;
	if (missing)
		(void)mkdir(path, 0700);
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret >= 0)
		return EXIT_DONE;
	log_error("%s: %s", path, strerror(errno));
	return EXIT_OTHER;
}

static enum exit_code outcome(struct import *i)
{
	if (i->stop == EXIT_DONE && fsync(i->root) < 0)
		import_failed(i, NULL, -errno);
	import_summary(i);
	if (i->stop != EXIT_DONE)
		return i->stop;
	if (import_interrupted)
		log_error("interrupted; the same command goes on from here");
	return import_interrupted || i->not_taken ? EXIT_INCOMPLETE : EXIT_DONE;
}

static enum exit_code import_tree(struct import *i, int source, struct statx *st, int to)
{
	i->root = to;
	if (i->terminal) {
		fprintf(stderr, "counting...");
		i->shown = clock_ms();
		count_names(i, openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), st->stx_mnt_id);
	}
	i->began = clock_ms();
	import_directory(i, dup(source), to, st);
	return outcome(i);
}

static enum exit_code import_one(struct import *i, const char *path, struct statx *st, int to)
{
	AUTO_FREE char *a = strdup(path);
	AUTO_FREE char *b = strdup(path);
	AUTO_CLOSE int parent = a ? open(dirname(a), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (parent < 0 || !b) {
		log_error("%s: %s", path, strerror(errno));
		return EXIT_OTHER;
	}
	i->root = to;
	i->all = (struct import_count){ 1, import_bytes(st) };
	i->began = clock_ms();
	import_object(i, parent, to, basename(b), st);
	return outcome(i);
}

/* Two descriptors for each level of the tree. */
static void allow_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static enum exit_code import(struct import *i, const char *source, const char *destination)
{
	AUTO_CLOSE int from = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), to = -1;
	enum exit_code code;
	struct statx st;

	if (from < 0 || statx(from, "", AT_EMPTY_PATH, IMPORT_STATX, &st) < 0) {
		log_error("%s: %s", source, strerror(errno));
		return EXIT_OTHER;
	}
	if (!S_ISDIR(st.stx_mode) && !S_ISREG(st.stx_mode)) {
		log_error("%s: neither a directory nor a file", source);
		return EXIT_USAGE;
	}
	code = open_destination(i, destination, &st, &to);
	if (code != EXIT_DONE)
		return code;
	i->data = aligned_alloc(4096, IMPORT_CHUNK);
	i->back = aligned_alloc(4096, IMPORT_CHUNK);
	i->path_len = i->root_len = (size_t)snprintf(i->path, sizeof(i->path), "%s", source);
	if (!i->data || !i->back || i->path_len >= sizeof(i->path)) {
		log_error("%s: %s", source, strerror(!i->data || !i->back ? ENOMEM : ENAMETOOLONG));
		return EXIT_OTHER;
	}
	return S_ISDIR(st.stx_mode) ? import_tree(i, from, &st, to) : import_one(i, source, &st, to);
}

int command_import(int argc, char **argv)
{
	struct sigaction note = { .sa_handler = note_interrupt, .sa_flags = SA_RESTART };
	struct arguments a = { .command = "import" };
	struct import i = { .terminal = isatty(STDERR_FILENO) };
	enum exit_code code;
	struct config c;
	int option;

	while (take_option(&a, argc, argv, &option))
		i.across_mounts = true;
	if (!take_arguments(&a, argc, 2, 2, &c, &code))
		return code;
	allow_files();
	umask(0);
	sigaction(SIGINT, &note, NULL);
	sigaction(SIGTERM, &note, NULL);
	sigaction(SIGHUP, &note, NULL);
	code = import(&i, argv[optind], argv[optind + 1]);
	import_free_links(&i);
	free(i.data);
	free(i.back);
	return code;
}
