/*
 * tamper --dir DIR [--suite gmac|infrastructure|none] [--full] [--only TEXT]
 *
 * Makes a volume in DIR, changes copies of it below, and sees what is read. Prints each failure, and at the end counts.
 */
#include "tamper.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <coffer/util.h>

struct shared *shared;
struct setup setup;

void bad(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("FAILED: ");
	vprintf(fmt, args);
	printf("\n");
	va_end(args);
	fflush(stdout);
	setup.failed++;
}

void must(bool ok, const char *what)
{
	if (ok)
		return;
	printf("the test itself failed: %s (%s)\n", what, strerror(errno));
	fflush(stdout);
	_exit(3);
}

bool wanted(const char *label)
{
	return !setup.only || strstr(label, setup.only);
}

bool apart(const char *label, void (*call)(void *arg), void *arg)
{
	int status;

	fflush(stdout);
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0) {
		alarm(HANG_SECONDS);
		must(crypto_start() == 0, "starting the cryptography");
		call(arg);
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (WIFSIGNALED(status))
		bad("%s: %s", label, WTERMSIG(status) == SIGALRM ? "hangs" : strsignal(WTERMSIG(status)));
	else
		bad("%s: ended with %d", label, WEXITSTATUS(status));
	return false;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

void remove_tree(const char *path)
{
	nftw(path, remove_one, 64, FTW_DEPTH | FTW_PHYS);
}

const char *fresh_copy(const char *from)
{
	static char path[PATH_MAX];
	static unsigned number;
	int status;

	snprintf(path, sizeof(path), "%s/copy%u", setup.dir, ++number);
	fflush(stdout);
	pid_t pid = fork();

	must(pid >= 0, "fork");
	if (pid == 0) {
		execlp("cp", "cp", "-a", "--reflink=auto", "--sparse=auto", from, path, (char *)NULL);
		_exit(127);
	}
	must(waitpid(pid, &status, 0) == pid && status == 0, "copying a volume");
	return path;
}

int open_volume(const char *path, bool read_only, struct volume **ret)
{
	/* The descriptor must stay open as long as the volume: to the end of this process. */
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct volume_options o = { .read_only = read_only, .state_dir = setup.state, .sync_interval = 3600 };

	return fd < 0 ? -errno : volume_open(fd, &o, ret);
}

static void usage(void)
{
	fprintf(stderr, "usage: tamper --dir DIR [--suite gmac|infrastructure|none] [--full] [--only TEXT]\n");
	exit(2);
}

static void take_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dir", required_argument, NULL, 'd' },
		{ "suite", required_argument, NULL, 's' },
		{ "full", no_argument, NULL, 'f' },
		{ "only", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	setup.suite = SUITE_XTS_GMAC;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'd')
			setup.dir = optarg;
		else if (option == 'f')
			setup.full = true;
		else if (option == 'o')
			setup.only = optarg;
		else if (option == 's' && !strcmp(optarg, "infrastructure"))
			setup.suite = SUITE_XTS_GCM;
		else if (option == 's' && !strcmp(optarg, "none"))
			setup.suite = SUITE_XTS;
		else if (option != 's' || strcmp(optarg, "gmac") != 0)
			usage();
	}
	if (!setup.dir || optind != argc)
		usage();
	snprintf(setup.state, sizeof(setup.state), "%s/state", setup.dir);
	snprintf(setup.world, sizeof(setup.world), "%s/world", setup.dir);
	snprintf(setup.foreign, sizeof(setup.foreign), "%s/foreign", setup.dir);
}

int main(int argc, char **argv)
{
	take_options(argc, argv);
	log_set_level(getenv("TAMPER_LOG") ? LOG_LEVEL_INFO : 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(shared != MAP_FAILED, "memory");
	must(make_dirs(setup.state, 0700) == 0, "state directory");
	plan_world();
	must(apart("another volume", make_world, setup.foreign), "making another volume");
	must(apart("the volume", make_world, setup.world), "making the volume");

	const char *copy = fresh_copy(setup.world);

	clear_damage();
	run_copy(copy, "nothing changed");
	remove_tree(copy);
	tamper_objects();
	tamper_headers();
	tamper_volume();
	tamper_log();
	printf("%lu changes, volumes opened %lu times\n", setup.cases, setup.opened);
	printf("%lu passed, %lu failed\n", setup.cases - (setup.failed < setup.cases ? setup.failed : setup.cases),
	       setup.failed);
	return setup.failed != 0;
}
