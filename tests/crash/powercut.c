/*
 * The power-cut test: see powercut.h.
 *
 *   powercut --coffer PROGRAM --library RECORDER --work DIR [--seed N] [--cuts N] [--model ordered|strict|subset]
 *            [--epochs N] [--ops N] [--writeback] [--create OPTION] [--cut N] [--trace FILE]
 *            [--keep DIR] [--whole-pages] [--reencrypt]
 *
 * DIR/root is a file system of its own, in memory, and empty. Cuts and what they leave follow from the seed and the trace:
 * with --trace (kept by --keep) nothing is recorded, that trace is cut; --cut makes one cut alone. --reencrypt has the volume
 * rewritten under a new key all the time while it is recorded.
 */
#include "powercut.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const model_names[DISK_MODELS] = { "ordered", "strict", "subset" };

struct plan {
	int epochs, ops;
	bool writeback, reencrypt;
	uint64_t seed;
	int trace_fd;
	struct worker workers[WORKERS];
};

static void *run_worker(void *arg)
{
	struct worker *w = arg;

	worker_run(w, w->ops);
	return NULL;
}

static atomic_bool enough;

/* While one is under way, another one is none. */
static void *keep_reencrypting(void *arg)
{
	struct setup *s = arg;
	const char *argv[] = { s->coffer, "reencrypt", s->mnt, "--no-wait", NULL };
	const struct timespec pause = { .tv_nsec = 10000000 };

	while (!atomic_load(&enough)) {
		(void)run_coffer(s, NULL, argv);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static bool make_dirs(struct setup *s, struct plan *p)
{
	int fd = open(s->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool good = fd >= 0;

	for (int i = 0; good && i < WORKERS; i++) {
		char path[512];

		object_path(path, sizeof(path), s->mnt, i, 0, -1);
		good = mkdir(path, 0700) == 0;
	}
	good = good && fsync(fd) == 0 && trace_append(p->trace_fd, TRACE_EVENT, EVENT_READY, NULL, 0) == 0;
	if (fd >= 0)
		close(fd);
	return good;
}

static bool work(struct setup *s, struct plan *p, int epoch)
{
	pthread_t threads[WORKERS], keys;
	bool good = true;

	atomic_store(&enough, false);
	if (p->reencrypt && pthread_create(&keys, NULL, keep_reencrypting, s) != 0)
		abort();
	for (int i = 0; i < WORKERS; i++) {
		p->workers[i].ops = p->ops / p->epochs + (epoch ? 0 : p->ops % p->epochs);
		if (pthread_create(&threads[i], NULL, run_worker, &p->workers[i]) != 0)
			abort();
	}
	for (int i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], NULL);
		good = good && !p->workers[i].failed;
		worker_close(&p->workers[i]);
	}
	atomic_store(&enough, true);
	if (p->reencrypt)
		pthread_join(keys, NULL);
	return good;
}

/* Mount, work, and the end: unmounted, or, where nothing that was answered is lost by that, killed. */
static bool run_epoch(struct setup *s, struct plan *p, int epoch)
{
	pid_t daemon = start_daemon(s, s->trace);
	int code = wait_mounted(s, daemon);

	if (code) {
		printf("it does not mount: exit code %d\n", code);
		return false;
	}
	bool good = (epoch || make_dirs(s, p)) && work(s, p, epoch);

	if (!p->writeback && epoch % 2 == 0) {
		kill_daemon(s, daemon);
		return good && trace_append(p->trace_fd, TRACE_EVENT, EVENT_KILLED, NULL, 0) == 0;
	}
	code = end_daemon(s, daemon);
	if (code)
		printf("the daemon's exit code is %d\n", code);
	return good && !code && trace_append(p->trace_fd, TRACE_EVENT, EVENT_UNMOUNTED, NULL, 0) == 0;
}

static bool record(struct setup *s, struct plan *p)
{
	const char *argv[] = { s->coffer, "create", s->backing, s->create, NULL };
	bool good = reset_trace(s->trace) == 0;

	p->trace_fd = open(s->trace, O_WRONLY | O_APPEND | O_CLOEXEC);
	good = good && p->trace_fd >= 0 && run_coffer(s, s->trace, argv) == 0 &&
	       trace_append(p->trace_fd, TRACE_EVENT, EVENT_CREATED, NULL, 0) == 0;
	for (int i = 0; i < WORKERS; i++) {
		struct worker *w = &p->workers[i];

		w->number = i;
		w->random = p->seed * WORKERS + (uint64_t)i;
		w->trace_fd = p->trace_fd;
		w->writeback = p->writeback;
		snprintf(w->mnt, sizeof(w->mnt), "%s", s->mnt);
		worker_setup(w);
	}
	for (int epoch = 0; good && epoch < p->epochs; epoch++)
		good = run_epoch(s, p, epoch);
	for (int i = 0; i < WORKERS; i++) {
		world_free(&p->workers[i].world);
		free(p->workers[i].buffer);
	}
	close(p->trace_fd);
	if (good && p->reencrypt) {
		int versions = count_in_log(s, "are given up");

		printf("%d versions of the key were given up\n", versions);
		good = versions >= p->epochs;
	}
	if (!good)
		say_log(s);
	return good;
}

static int model_number(const char *name)
{
	for (int i = 0; i < DISK_MODELS; i++)
		if (!strcmp(name, model_names[i]))
			return i;
	fprintf(stderr, "unknown model %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "coffer", required_argument, NULL, 'c' }, { "library", required_argument, NULL, 'l' },
		{ "work", required_argument, NULL, 'w' },   { "seed", required_argument, NULL, 's' },
		{ "cuts", required_argument, NULL, 'n' },   { "model", required_argument, NULL, 'm' },
		{ "epochs", required_argument, NULL, 'e' }, { "ops", required_argument, NULL, 'o' },
		{ "writeback", no_argument, NULL, 'b' },    { "create", required_argument, NULL, 'C' },
		{ "cut", required_argument, NULL, 'k' },    { "trace", required_argument, NULL, 't' },
		{ "keep", required_argument, NULL, 'K' },   { "whole-pages", no_argument, NULL, 'p' },
		{ "reencrypt", no_argument, NULL, 'r' },    { 0 },
	};
	static struct plan p = { .epochs = 4, .ops = 320, .seed = 1 };
	struct setup s = { 0 };
	struct checks c = { .cuts = 50, .only = -1 };
	const char *work_dir = NULL, *trace = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			s.coffer = optarg;
			break;
		case 'l':
			s.library = optarg;
			break;
		case 'w':
			work_dir = optarg;
			break;
		case 's':
			p.seed = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			c.cuts = atoi(optarg);
			break;
		case 'm':
			c.model = (enum disk_model)model_number(optarg);
			break;
		case 'e':
			p.epochs = atoi(optarg);
			break;
		case 'o':
			p.ops = atoi(optarg);
			break;
		case 'b':
			p.writeback = true;
			break;
		case 'C':
			s.create = optarg;
			break;
		case 'k':
			c.only = atoi(optarg);
			break;
		case 't':
			trace = optarg;
			break;
		case 'p':
			c.whole_pages = true;
			break;
		case 'r':
			p.reencrypt = true;
			break;
		case 'K':
			c.keep = optarg;
			break;
		default:
			return 2;
		}
	}
	if (!s.coffer || !s.library || !work_dir || setup_start(&s, work_dir) < 0) {
		fprintf(stderr, "a program, the recorder and a directory are needed\n");
		return 2;
	}
	c.seed = p.seed;
	s.options = p.writeback ? "writeback=on" : "writeback=off";
	/* One that the file system has little room: short segments of the log, so that they are written home often. */
	s.shared->free_bytes = 24 << 20;
	s.shared->btrfs = c.model == DISK_SUBSET;
	s.shared->delay_us = 1500;
	if (trace)
		snprintf(s.trace, sizeof(s.trace), "%s", trace);
	else if (!record(&s, &p))
		return 1;
	s.shared->delay_us = 0;
	if (check_cuts(&s, &c, !trace) < 0)
		return 1;
	printf("%d passed, %d failed\n", c.passed, c.failed);
	return c.failed ? 1 : 0;
}
