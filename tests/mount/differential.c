/*
 * differential --seed N --ops N --coffer DIR --native DIR [--hook CMD] [--check N] [--check-from N] [--verbose]
 *
 * Does the same random operations in two directories, compares every answer, and both trees as wholes every --check
 * operations (and after every hook, and at the end). CMD is called with "remount" or "kill" appended: it unmounts (or
 * kills the daemon behind) the first directory and mounts it again.
 *
 * To narrow a failure down: the same seed with --check 1 --check-from M, --verbose.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { REBUILD_EVERY = 5000, REMOUNT_EVERY = 7919, KILL_EVERY = 11003 };

struct options {
	uint64_t seed;
	long ops, check, check_from;
	const char *hook;
	bool verbose;
};

void fill_buffer(unsigned char *buffer, size_t length, uint64_t seed)
{
	for (size_t i = 0; i < length; i++) {
		if (i % 8 == 0)
			seed = seed * 6364136223846793005U + 1442695040888963407U;
		buffer[i] = (unsigned char)(seed >> (56 - 8 * (i % 8)));
	}
}

uint64_t hash_buffer(const unsigned char *buffer, size_t length)
{
	uint64_t hash = 14695981039346656037U;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ buffer[i]) * 1099511628211U;
	return hash;
}

const char *time_text(const struct state *state, const struct timespec *when, char text[static 48])
{
	if (labs(when->tv_sec - state->started) < 10 * 86400L)
		snprintf(text, 48, "now");
	else
		snprintf(text, 48, "%ld.%09ld", (long)when->tv_sec, when->tv_nsec);
	return text;
}

void stat_text(const struct state *state, const struct stat *st, char text[static TEXT])
{
	char when[48];

	snprintf(text, TEXT, "mode %o uid %u gid %u nlink %lu size %ld rdev %u:%u mtime %s", st->st_mode, st->st_uid,
		 st->st_gid, (unsigned long)st->st_nlink, S_ISDIR(st->st_mode) ? 0L : (long)st->st_size,
		 major(st->st_rdev), minor(st->st_rdev), time_text(state, &st->st_mtim, when));
}

void become(uid_t uid)
{
	setfsgid(uid);
	setfsuid(uid);
}

void result_set(struct result *result, long ret)
{
	result->error = ret < 0 ? errno : 0;
	result->ret = ret;
}

static const struct op *choose_op(struct state *state)
{
	static const struct op *const tables[] = { name_ops, data_ops, attr_ops };
	/* A full tree only shrinks until there is room again. */
	bool shrink = state->model.count > FULL_NODES && draw_chance(state, 50);
	uint64_t total = 0, at;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct op *op = tables[i]; op->name; op++) {
			if (shrink && (strcmp(op->name, "unlink") == 0 || strcmp(op->name, "rmdir") == 0) &&
			    draw_chance(state, 50))
				return op;
			total += (uint64_t)op->weight;
		}
	}
	at = draw_below(state, total);
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		for (const struct op *op = tables[i]; op->name; op++) {
			if (at < (uint64_t)op->weight)
				return op;
			at -= (uint64_t)op->weight;
		}
	}
	abort();
}

const char *printable(const char *text, char shown[static SHOWN])
{
	size_t length = 0;

	for (; *text && length + 5 < SHOWN; text++) {
		if (*text >= ' ' && *text < 0x7f && *text != '\\' && *text != '\'')
			shown[length++] = *text;
		else
			length += (size_t)snprintf(shown + length, 5, "\\x%02x", (unsigned char)*text);
	}
	shown[length] = '\0';
	return shown;
}

static void print_args(const struct args *args)
{
	char path[SHOWN], other[SHOWN], target[SHOWN];

	fprintf(stderr,
		"%s path='%s' other='%s' slot=%d offset=%ld other_offset=%ld length=%zu flags=%#x mode=%o umask=%o "
		"as=%u uid=%u gid=%u dev=%u:%u key='%.40s'(%zu) target='%.40s'(%zu) fill=%#lx times=%ld.%ld,%ld.%ld\n",
		args->op->name, printable(args->path, path), printable(args->other_path, other), args->slot,
		(long)args->offset, (long)args->other_offset, args->length, (unsigned)args->flags, args->mode,
		args->umask, args->as, args->uid, args->gid, major(args->dev), minor(args->dev), args->key,
		strlen(args->key), printable(args->target, target), strlen(args->target), (unsigned long)args->fill,
		(long)args->times[0].tv_sec, args->times[0].tv_nsec, (long)args->times[1].tv_sec,
		args->times[1].tv_nsec);
}

/* One operation on both sides. False: the answers differ. */
static bool do_op(struct state *state, long number, bool verbose)
{
	static const mode_t masks[] = { 0022, 0, 0077, 0027 };
	static struct result result[SIDES];
	static struct args args;

	do {
		args = (struct args){ .op = choose_op(state), .slot = -1, .node = -1, .other = -1 };
		args.umask = masks[draw_below(state, 4)];
		args.as = draw_chance(state, 85) ? 0 : 1000 + (uid_t)draw_below(state, 2);
	} while (!args.op->choose(state, &args));
	if (verbose) {
		fprintf(stderr, "%ld: ", number);
		print_args(&args);
	}
	umask(args.umask);
	for (int side = SIDES - 1; side >= 0; side--) {
		result[side] = (struct result){ 0 };
		become(args.as);
		args.op->run(state, side, &args, &result[side]);
		become(0);
	}
	umask(0);
	if (verbose)
		fprintf(stderr, "%ld: -> %ld %s\n", number, result[NATIVE].ret,
			result[NATIVE].error ? strerrorname_np(result[NATIVE].error) : "");
	if (result[COFFER].ret != result[NATIVE].ret || result[COFFER].error != result[NATIVE].error ||
	    strcmp(result[COFFER].text, result[NATIVE].text) != 0) {
		fprintf(stderr, "DIFFERENT ANSWERS at operation %ld: ", number);
		print_args(&args);
		for (int side = 0; side < SIDES; side++)
			fprintf(stderr, "  %s: %ld %s; %s\n", side == COFFER ? "coffer" : "native", result[side].ret,
				result[side].error ? strerrorname_np(result[side].error) : "", result[side].text);
		return false;
	}
	if (result[NATIVE].ret >= 0 && args.op->done)
		args.op->done(state, &args);
	return true;
}

static void close_all(struct state *state)
{
	for (int i = 0; i < MAX_SLOTS; i++) {
		for (int side = 0; state->slots[i].open && side < SIDES; side++)
			close(state->slots[i].fd[side]);
		state->slots[i].open = false;
	}
}

static bool open_roots(struct state *state)
{
	for (int side = 0; side < SIDES; side++) {
		state->root[side] = open(state->dir[side], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (state->root[side] < 0) {
			perror(state->dir[side]);
			return false;
		}
	}
	return true;
}

/* A killed daemon may take along what is still in the kernel's write-back cache: sync each file before. */
static bool sync_files(struct state *state)
{
	char path[PATH_MAX];

	for (int i = 1; i < state->model.count; i++) {
		int node = state->model.live[i];
		int fd;

		if (state->model.nodes[node].kind != KIND_FILE || !model_path(&state->model, node, NULL, path))
			continue;
		fd = openat(state->root[COFFER], path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fsync(fd) < 0 && errno != EINVAL) { /* a FIFO, by now */
			perror("fsync before kill");
			close(fd);
			return false;
		}
		close(fd);
	}
	return true;
}

static bool run_hook(struct state *state, const char *hook, const char *what)
{
	char command[2 * PATH_MAX];

	close_all(state);
	if (strcmp(what, "kill") == 0 && !sync_files(state))
		return false;
	for (int side = 0; side < SIDES; side++)
		close(state->root[side]);
	snprintf(command, sizeof(command), "%s %s", hook, what);
	if (system(command) != 0) {
		fprintf(stderr, "the hook failed: %s\n", command);
		return false;
	}
	return open_roots(state);
}

static bool run(struct state *state, const struct options *options)
{
	long checks = 0, hooks = 0;

	for (long i = 1; i <= options->ops; i++) {
		const char *hook = i % KILL_EVERY == 0 ? "kill" : i % REMOUNT_EVERY == 0 ? "remount" : NULL;
		bool rebuild = i % REBUILD_EVERY == 0 || i == options->ops;

		if (!do_op(state, i, options->verbose && i >= options->check_from))
			return false;
		if (options->hook && hook) {
			hooks++;
			if (!run_hook(state, options->hook, hook)) {
				fprintf(stderr, "after operation %ld\n", i);
				return false;
			}
		} else if (!rebuild && (i < options->check_from || i % options->check)) {
			continue;
		}
		checks++;
		if (compare_trees(state, rebuild) > 0) {
			fprintf(stderr, "DIFFERENT TREES after operation %ld%s%s\n", i, hook ? " and " : "",
				hook ? hook : "");
			return false;
		}
	}
	printf("seed %lu: %ld operations, %ld whole comparisons, %ld remounts and kills, %d objects at the end: equal\n",
	       (unsigned long)options->seed, options->ops, checks, hooks, state->model.count);
	return true;
}

static bool parse(int argc, char **argv, struct options *options, struct state *state)
{
	static const struct option longs[] = {
		{ "seed", 1, NULL, 's' },    { "ops", 1, NULL, 'o' },        { "coffer", 1, NULL, 'c' },
		{ "native", 1, NULL, 'n' },  { "hook", 1, NULL, 'h' },       { "check", 1, NULL, 'e' },
		{ "verbose", 0, NULL, 'v' }, { "check-from", 1, NULL, 'f' }, { 0 }
	};

	for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (option) {
		case 's':
			options->seed = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			options->ops = strtol(optarg, NULL, 0);
			break;
		case 'c':
			state->dir[COFFER] = optarg;
			break;
		case 'n':
			state->dir[NATIVE] = optarg;
			break;
		case 'h':
			options->hook = optarg;
			break;
		case 'e':
			options->check = strtol(optarg, NULL, 0);
			break;
		case 'f':
			options->check_from = strtol(optarg, NULL, 0);
			break;
		case 'v':
			options->verbose = true;
			break;
		default:
			return false;
		}
	}
	return optind == argc && state->dir[COFFER] && state->dir[NATIVE] && options->check > 0 && options->ops > 0;
}

int main(int argc, char **argv)
{
	static struct state state;
	struct options options = { .seed = 1, .ops = 100000, .check = 2500 };

	if (!parse(argc, argv, &options, &state)) {
		fprintf(stderr, "usage: differential --seed N --ops N --coffer DIR --native DIR [--hook CMD] "
				"[--check N] [--check-from N] [--verbose]\n");
		return 2;
	}
	state.random = options.seed;
	state.started = time(NULL);
	model_init(&state.model);
	if (!open_roots(&state) || fchmod(state.root[COFFER], 0777) < 0 || fchmod(state.root[NATIVE], 0777) < 0)
		return 2;
	if (!run(&state, &options)) {
		fprintf(stderr, "FAILED: seed %lu\n", (unsigned long)options.seed);
		return 1;
	}
	close_all(&state);
	return 0;
}
