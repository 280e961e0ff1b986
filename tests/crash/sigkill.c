/*
 * sigkill --coffer PROGRAM --backing DIR --mnt DIR [--options OPTS] [--seed N] [--kills N] [--writeback] [--between CMD]
 *         [--beside CMD]
 *
 * Serves an existing volume with a daemon of its own in the foreground, lets workers use it, kills the daemon after a
 * random time, mounts again without any repair and has the workers check; every so often also unmounts and has fsck
 * look. --beside runs a command again and again while the workers work, which may fail. Without --coffer it works in a plain directory, where nothing can be lost (to try the test itself, with --between
 * running a command that does damage).
 */
#include "sigkill.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 3, FSCK_EVERY = 10, MOUNT_SECONDS = 60, BESIDE_SECONDS = 5 };

struct options {
	const char *coffer, *backing, *mnt, *options, *between, *beside;
	uint64_t seed;
	long kills;
	bool writeback;
};

volatile bool stopping;
static struct worker workers[WORKERS];

static void sleep_ms(long ms)
{
	struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

/* The program's pid; arguments end with NULL. */
static pid_t start(const char *program, const char *const arguments[])
{
	pid_t pid = fork();

	if (pid == 0) {
		execv(program, (char *const *)(uintptr_t)arguments);
		perror(program);
		_exit(127);
	}
	return pid;
}

static bool run(const char *program, const char *const arguments[])
{
	int status;
	pid_t pid = start(program, arguments);

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (status != 0)
		fprintf(stderr, "%s %s: status %#x\n", program, arguments[1], (unsigned)status);
	return status == 0;
}

static bool is_mounted(const char *dir)
{
	struct stat here, above;
	char parent[512];

	snprintf(parent, sizeof(parent), "%s/..", dir);
	return stat(dir, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev;
}

/* Starts the daemon in the foreground; its pid once the mount works, -1 on failure. */
static pid_t mount_volume(const struct options *options)
{
	const char *const arguments[] = { options->coffer,  "mount", options->backing,
					  options->mnt,     "-f",    options->options ? "-o" : NULL,
					  options->options, NULL };
	pid_t pid;
	int status;

	if (!options->coffer)
		return 0;
	pid = start(options->coffer, arguments);
	for (int i = 0; pid > 0 && i < MOUNT_SECONDS * 100; i++) {
		if (is_mounted(options->mnt))
			return pid;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			fprintf(stderr, "the daemon ended with status %#x\n", (unsigned)status);
			return -1;
		}
		sleep_ms(10);
	}
	fprintf(stderr, "the mount did not come up\n");
	return -1;
}

static bool unmount_volume(const struct options *options, pid_t pid)
{
	const char *const arguments[] = { options->coffer, "umount", options->mnt, NULL };
	const char *const fsck[] = { options->coffer, "fsck", options->backing, NULL };
	int status;

	if (!options->coffer)
		return true;
	if (!run(options->coffer, arguments) || waitpid(pid, &status, 0) != pid)
		return false;
	if (status != 0)
		fprintf(stderr, "the daemon ended with status %#x after an unmount\n", (unsigned)status);
	return status == 0 && run(options->coffer, fsck);
}

static bool kill_daemon(const struct options *options, pid_t pid)
{
	int status;

	if (!options->coffer)
		return true;
	if (waitpid(pid, &status, WNOHANG) != 0) {
		fprintf(stderr, "the daemon had ended by itself, with status %#x\n", (unsigned)status);
		return false;
	}
	kill(pid, SIGKILL);
	return waitpid(pid, &status, 0) == pid;
}

static void *run_worker(void *worker)
{
	return worker_run(worker) ? NULL : worker;
}

static volatile bool beside_was_run; /* in this life */

static void *run_beside(void *command)
{
	while (!stopping) {
		if (system(command) != 0)
			sleep_ms(10);
		beside_was_run = true;
	}
	return NULL;
}

static void *check_worker(void *worker)
{
	return worker_check(worker) ? NULL : worker;
}

static void *clear_worker(void *worker)
{
	bool good = worker_clear(worker);

	if (!good)
		perror("removing everything");
	return good ? NULL : worker;
}

static void start_workers(pthread_t threads[WORKERS], void *(*function)(void *))
{
	for (int i = 0; i < WORKERS; i++) {
		if (pthread_create(&threads[i], NULL, function, &workers[i]) != 0)
			abort();
	}
}

static bool join_workers(pthread_t threads[WORKERS])
{
	bool good = true;
	void *bad;

	for (int i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], &bad);
		good = good && !bad;
	}
	return good;
}

/* One life of the daemon: ends with it dead and unmounted. */
static bool live_once(const struct options *options, uint64_t *random, pid_t pid)
{
	pthread_t threads[WORKERS], beside;
	bool alive, good;

	stopping = beside_was_run = false;
	start_workers(threads, run_worker);
	if (options->beside && pthread_create(&beside, NULL, run_beside, (void *)(uintptr_t)options->beside) != 0)
		abort();
	*random = *random * 6364136223846793005U + 1442695040888963407U;
	/* On a slow machine it would else hardly ever come to its end. */
	for (int i = 0; options->beside && (*random >> 40) % 4 && !beside_was_run && i < BESIDE_SECONDS * 100; i++)
		sleep_ms(10);
	/* Most lives are short, so that also the time just after a mount is met. */
	sleep_ms((long)((*random >> 33) % ((*random >> 60) % 4 ? 400 : 2000)));
	stopping = true;
	alive = kill_daemon(options, pid);
	good = join_workers(threads);
	if (options->beside)
		pthread_join(beside, NULL);
	for (int i = 0; i < WORKERS; i++) {
		for (int j = 1; j < OBJECTS; j++) {
			if (workers[i].world.objects[j].fd >= 0)
				close(workers[i].world.objects[j].fd);
			workers[i].world.objects[j].fd = -1;
		}
	}
	/* EINVAL: somebody else took the dead mount away. */
	if (options->coffer && umount2(options->mnt, MNT_DETACH) < 0 && errno != EINVAL)
		perror("umount -l");
	if (options->between && system(options->between) != 0)
		return false;
	return alive && good;
}

static bool set_up(const struct options *options)
{
	for (int i = 0; i < WORKERS; i++) {
		struct worker *worker = &workers[i];

		worker->number = i;
		worker->random = options->seed * 100 + (uint64_t)i;
		worker->writeback = options->writeback;
		worker->world.dirs[0] = true;
		for (int j = 0; j < ORPHANS; j++)
			worker->orphans[j] = -1;
		for (int j = 0; j < OBJECTS; j++)
			worker->world.objects[j].fd = -1;
		snprintf(worker->dir, sizeof(worker->dir), "%s/w%d", options->mnt, i);
		if (mkdir(worker->dir, 0755) < 0) {
			perror(worker->dir);
			return false;
		}
	}
	return true;
}

static bool run_all(const struct options *options)
{
	uint64_t random = options->seed;
	pthread_t threads[WORKERS];
	pid_t pid = mount_volume(options);

	if (pid < 0 || !set_up(options))
		return false;
	for (long i = 1; i <= options->kills; i++) {
		if (!live_once(options, &random, pid)) {
			fprintf(stderr, "in life %ld\n", i);
			return false;
		}
		pid = mount_volume(options);
		if (pid < 0)
			return false;
		start_workers(threads, check_worker);
		if (!join_workers(threads)) {
			fprintf(stderr, "after kill %ld\n", i);
			return false;
		}
		if (i % FSCK_EVERY && i != options->kills)
			continue;
		if (!unmount_volume(options, pid) || (pid = mount_volume(options)) < 0) {
			fprintf(stderr, "unmount and fsck after kill %ld\n", i);
			return false;
		}
		start_workers(threads, check_worker);
		if (!join_workers(threads)) {
			fprintf(stderr, "after unmount and fsck after kill %ld\n", i);
			return false;
		}
	}
	start_workers(threads, clear_worker);
	return join_workers(threads) && unmount_volume(options, pid);
}

static bool parse(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = { { "coffer", 1, NULL, 'c' },    { "backing", 1, NULL, 'b' },
					       { "mnt", 1, NULL, 'm' },       { "options", 1, NULL, 'o' },
					       { "seed", 1, NULL, 's' },      { "kills", 1, NULL, 'k' },
					       { "writeback", 0, NULL, 'w' }, { "between", 1, NULL, 'x' },
					       { "beside", 1, NULL, 'y' },    { 0 } };

	for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (option) {
		case 'c':
			options->coffer = optarg;
			break;
		case 'b':
			options->backing = optarg;
			break;
		case 'm':
			options->mnt = optarg;
			break;
		case 'o':
			options->options = optarg;
			break;
		case 's':
			options->seed = strtoull(optarg, NULL, 0);
			break;
		case 'k':
			options->kills = strtol(optarg, NULL, 0);
			break;
		case 'w':
			options->writeback = true;
			break;
		case 'x':
			options->between = optarg;
			break;
		case 'y':
			options->beside = optarg;
			break;
		default:
			return false;
		}
	}
	return optind == argc && options->mnt && options->kills > 0 && (options->backing || !options->coffer);
}

int main(int argc, char **argv)
{
	struct options options = { .seed = 1, .kills = 20 };
	long steps[KINDS] = { 0 }, total = 0;

	if (!parse(argc, argv, &options)) {
		fprintf(stderr, "usage: sigkill --coffer PROGRAM --backing DIR --mnt DIR [--options OPTS] [--seed N] "
				"[--kills N] [--writeback] [--between CMD] [--beside CMD]\n");
		return 2;
	}
	umask(0);
	if (!run_all(&options)) {
		fprintf(stderr, "FAILED: seed %lu\n", (unsigned long)options.seed);
		return 1;
	}
	for (int i = 0; i < WORKERS * KINDS; i++) {
		steps[i % KINDS] += workers[i / KINDS].steps[i % KINDS];
		total += workers[i / KINDS].steps[i % KINDS];
	}
	printf("seed %lu: %ld kills, %ld acknowledged steps (%ld writes, %ld syncs, %ld renames): nothing lost\n",
	       (unsigned long)options.seed, options.kills, total, steps[WRITE] + steps[DIRECT], steps[SYNC],
	       steps[RENAME] + steps[EXCHANGE]);
	return 0;
}
