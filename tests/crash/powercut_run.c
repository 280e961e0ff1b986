/* Power-cut test: running the program, under the recorder, and reading what was recorded. */
#include "powercut.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000, STEP_MS = 2 };

static void init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(lock, &attr);
	pthread_mutexattr_destroy(&attr);
}

int setup_start(struct setup *s, const char *work)
{
	snprintf(s->root, sizeof(s->root), "%s/root", work);
	snprintf(s->backing, sizeof(s->backing), "%s/backing", s->root);
	snprintf(s->mnt, sizeof(s->mnt), "%s/mnt", work);
	snprintf(s->trace, sizeof(s->trace), "%s/trace", work);
	snprintf(s->second_trace, sizeof(s->second_trace), "%s/trace2", work);
	snprintf(s->shared_path, sizeof(s->shared_path), "%s/shared", work);
	snprintf(s->log, sizeof(s->log), "%s/log", work);
	snprintf(s->config, sizeof(s->config), "%s/config", work);
	mkdir(s->mnt, 0700);
	FILE *config = fopen(s->config, "w");

	/* So that what is done at intervals is done at all. */
	if (!config || fputs("sync_interval = 1;\n", config) < 0 || fclose(config) != 0)
		return -errno;
	int fd = open(s->shared_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*s->shared)) < 0)
		return -errno;
	s->shared = mmap(NULL, sizeof(*s->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (s->shared == MAP_FAILED)
		return -errno;
	init_lock(&s->shared->lock);
	return 0;
}

static pid_t spawn(struct setup *s, const char *recorded, const char *const argv[])
{
	char state[300];
	pid_t pid = fork();

	if (pid)
		return pid;
	int log = open(s->log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	dup2(log, 1);
	dup2(log, 2);
	snprintf(state, sizeof(state), "%s/state/coffer", s->root);
	setenv("COFFER_STATE_DIR", state, 1);
	setenv("COFFER_CONFIG", s->config, 1);
	setenv("POWERCUT_ROOT", s->root, 1);
	setenv("POWERCUT_SHARED", s->shared_path, 1);
	if (recorded)
		setenv("POWERCUT_TRACE", recorded, 1);
	setenv("LD_PRELOAD", s->library, 1);
	execv(s->coffer, (char *const *)(uintptr_t)argv); /* which changes nothing */
	perror(s->coffer);
	_exit(127);
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_coffer(struct setup *s, const char *recorded, const char *const argv[])
{
	int status;
	pid_t pid = spawn(s, recorded, argv);

	return pid < 0 || waitpid(pid, &status, 0) < 0 ? -1 : exit_code(status);
}

static off_t log_size(const struct setup *s)
{
	struct stat st;

	return stat(s->log, &st) < 0 ? 0 : st.st_size;
}

pid_t start_daemon(struct setup *s, const char *recorded)
{
	const char *argv[] = { s->coffer, "mount", "-f", s->backing, s->mnt, "-o", s->options, NULL };

	s->log_start = log_size(s);
	return spawn(s, recorded, argv);
}

/* The daemon has seen, too, that its mount works; one that is ended before calls that a failure. */
static bool says_mounted(const struct setup *s)
{
	off_t size = log_size(s) - s->log_start;
	char *text = size > 0 ? calloc(1, (size_t)size + 1) : NULL;
	int fd = open(s->log, O_RDONLY | O_CLOEXEC);
	bool says = text && fd >= 0 && pread(fd, text, (size_t)size, s->log_start) > 0 && strstr(text, "is mounted on");

	if (fd >= 0)
		close(fd);
	free(text);
	return says;
}

static void pause_ms(long ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000 };

	nanosleep(&t, NULL);
}

int wait_mounted(struct setup *s, pid_t daemon)
{
	struct stat at, above;
	int status;

	for (int waited = 0; waited < PATIENCE_MS; waited += STEP_MS) {
		if (stat(s->root, &above) == 0 && stat(s->mnt, &at) == 0 && at.st_ino == 1 &&
		    at.st_dev != above.st_dev && says_mounted(s))
			return 0;
		if (waitpid(daemon, &status, WNOHANG) == daemon)
			return exit_code(status) ? exit_code(status) : 255;
		pause_ms(STEP_MS);
	}
	kill_daemon(s, daemon);
	return 254;
}

int end_daemon(struct setup *s, pid_t daemon)
{
	int status;

	kill(daemon, SIGTERM);
	for (int waited = 0; waited < PATIENCE_MS; waited += STEP_MS) {
		if (waitpid(daemon, &status, WNOHANG) == daemon)
			return exit_code(status);
		pause_ms(STEP_MS);
	}
	kill_daemon(s, daemon);
	return 254;
}

/* Nobody is killed between a change and its record. */
void kill_daemon(struct setup *s, pid_t daemon)
{
	pthread_mutex_lock(&s->shared->lock);
	kill(daemon, SIGKILL);
	waitpid(daemon, NULL, 0);
	init_lock(&s->shared->lock);
	umount2(s->mnt, MNT_DETACH);
}

void say_log(const struct setup *s)
{
	char command[400];

	fflush(stdout);
	snprintf(command, sizeof(command), "tail -n 12 '%s'", s->log);
	if (system(command) != 0)
		printf("no log\n");
}

int count_in_log(const struct setup *s, const char *what)
{
	FILE *log = fopen(s->log, "r");
	char line[1024];
	int count = 0;

	while (log && fgets(line, sizeof(line), log))
		count += strstr(line, what) != NULL;
	if (log)
		fclose(log);
	return count;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
	(void)st;
	(void)flag;
	return at->level && remove(path) < 0 ? -1 : 0;
}

int empty_dir(const char *path)
{
	return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 ? -errno : 0;
}

int reset_trace(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int trace_read(struct trace *t, const char *path)
{
	struct stat st;
	size_t room = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	*t = (struct trace){ 0 };
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	t->size = (size_t)st.st_size;
	t->data = mmap(NULL, t->size + 1, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (t->data == MAP_FAILED)
		return -errno;
	for (size_t at = 0; at < t->size;) {
		struct trace_record r;

		if (t->size - at < sizeof(r))
			return -EBADMSG;
		memcpy(&r, t->data + at, sizeof(r));
		if (r.magic != TRACE_MAGIC || t->size - at - sizeof(r) < (size_t)r.name_len + r.data_len)
			return -EBADMSG;
		if (t->count == room) {
			room = room ? room * 2 : 1024;
			t->records = realloc(t->records, room * sizeof(*t->records));
			if (!t->records)
				abort();
		}
		if (r.kind == TRACE_UNKNOWN) {
			printf("the recorder cannot record: %.*s\n", (int)r.name_len, t->data + at + sizeof(r));
			return -EOPNOTSUPP;
		}
		t->records[t->count++] = at;
		at += sizeof(r) + r.name_len + r.data_len;
	}
	return 0;
}

void trace_free(struct trace *t)
{
	if (t->data && t->data != MAP_FAILED)
		munmap(t->data, t->size + 1);
	free(t->records);
}
