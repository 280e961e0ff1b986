/* Differential test: operations on names. */
#include "differential.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NON_DIRS (~(1U << KIND_DIR))

static mode_t draw_mode(struct state *state)
{
	return draw_chance(state, 70) ? 0755 : draw_below(state, 010000);
}

static void add_new(struct state *state, const struct args *args)
{
	if (args->node < 0)
		model_add(&state->model, args->parent, args->kind, args->name);
}

static bool choose_create(struct state *state, struct args *args)
{
	args->kind = KIND_FILE;
	args->mode = draw_mode(state);
	args->flags = O_NOFOLLOW | O_CREAT | O_RDWR | (draw_chance(state, 70) ? O_EXCL : 0) |
		      (draw_chance(state, 10) ? O_TRUNC : 0);
	return choose_new(state, args);
}

static void run_create(struct state *state, int side, const struct args *args, struct result *result)
{
	/* O_NONBLOCK: the name may be a FIFO. */
	int fd = openat(state->root[side], args->path, args->flags | O_NONBLOCK | O_CLOEXEC, args->mode);

	result_set(result, fd < 0 ? -1 : 0);
	if (fd >= 0)
		close(fd);
}

static bool choose_mkdir(struct state *state, struct args *args)
{
	args->kind = KIND_DIR;
	args->mode = draw_chance(state, 70) ? 0777 : draw_below(state, 010000);
	return choose_new(state, args);
}

static void run_mkdir(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, mkdirat(state->root[side], args->path, args->mode));
}

static bool choose_mknod(struct state *state, struct args *args)
{
	static const mode_t types[] = { S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };

	args->kind = KIND_SPECIAL;
	args->mode = types[draw_below(state, 4)] | (draw_mode(state) & 07777);
	/* xfs stops at 18 bits for the minor number. */
	args->dev = S_ISCHR(args->mode) || S_ISBLK(args->mode)
			    ? makedev(200 + draw_below(state, 50), draw_below(state, 1 << 18))
			    : 0;
	return choose_new(state, args);
}

static void run_mknod(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, mknodat(state->root[side], args->path, args->mode, args->dev));
}

/* Targets never lead upwards or away: a moved link must not leave the trees that are compared. */
static bool choose_symlink(struct state *state, struct args *args)
{
	size_t length = 1 + draw_below(state, draw_chance(state, 80) ? 40 : sizeof(args->target) - 2);
	int sibling = pick_node(state, ~0U);

	args->kind = KIND_SYMLINK;
	if (!choose_new(state, args))
		return false;
	for (size_t i = 0; i < length; i++)
		args->target[i] = (char)('A' + draw_below(state, 26));
	args->target[length] = '\0';
	if (sibling > 0 && draw_chance(state, 60)) {
		args->parent = state->model.nodes[sibling].parent;
		args->node = -1;
		draw_name(state, args->name);
		snprintf(args->target, sizeof(args->target), "%s", state->model.nodes[sibling].name);
		return model_path(&state->model, args->parent, args->name, args->path);
	}
	return true;
}

static void run_symlink(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, symlinkat(args->target, state->root[side], args->path));
}

static bool choose_link(struct state *state, struct args *args)
{
	return choose_node(state, args, NON_DIRS) && choose_other_new(state, args);
}

static void run_link(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, linkat(state->root[side], args->path, state->root[side], args->other_path, 0));
}

static void done_link(struct state *state, const struct args *args)
{
	model_add(&state->model, args->other_parent, args->kind, args->other_name);
}

static bool choose_unlink(struct state *state, struct args *args)
{
	if (draw_chance(state, 3))
		return choose_node(state, args, 1U << KIND_DIR);
	return choose_node(state, args, NON_DIRS);
}

static void run_unlink(struct state *state, int side, const struct args *args, struct result *result)
{
	result_set(result, unlinkat(state->root[side], args->path, args->flags));
}

static void done_unlink(struct state *state, const struct args *args)
{
	model_remove(&state->model, args->node);
}

static bool choose_rmdir(struct state *state, struct args *args)
{
	args->flags = AT_REMOVEDIR;
	if (draw_chance(state, 20))
		return choose_node(state, args, draw_chance(state, 90) ? 1U << KIND_DIR : ~0U);
	args->node = pick_leaf(state, 1U << KIND_DIR);
	return args->node > 0 && model_path(&state->model, args->node, NULL, args->path);
}

static bool choose_rename(struct state *state, struct args *args)
{
	int over;

	args->flags = draw_chance(state, 20) ? RENAME_NOREPLACE : 0;
	if (!choose_node(state, args, ~0U) || !choose_other_new(state, args))
		return false;
	if (draw_chance(state, 60))
		return true;
	over = draw_chance(state, 80) ? pick_leaf(state, 1U << args->kind) : pick_node(state, ~0U);
	if (over <= 0)
		return true;
	args->other = over;
	args->other_parent = state->model.nodes[over].parent;
	snprintf(args->other_name, sizeof(args->other_name), "%s", state->model.nodes[over].name);
	return model_path(&state->model, over, NULL, args->other_path);
}

static bool choose_exchange(struct state *state, struct args *args)
{
	args->flags = RENAME_EXCHANGE;
	if (!choose_node(state, args, ~0U))
		return false;
	args->other = draw_chance(state, 50) ? pick_node(state, ~0U) : pick_node(state, 1U << args->kind);
	return args->other > 0 && model_path(&state->model, args->other, NULL, args->other_path);
}

static void run_rename(struct state *state, int side, const struct args *args, struct result *result)
{
	long ret = renameat2(state->root[side], args->path, state->root[side], args->other_path, (unsigned)args->flags);

	/* POSIX allows both; xfs has EEXIST here. */
	if (ret < 0 && errno == EEXIST && !(args->flags & RENAME_NOREPLACE))
		errno = ENOTEMPTY;
	result_set(result, ret);
}

/* xfs takes the change of ".." in an exchanged directory for a modification, ext4 does not: make the times equal again. */
static void same_times(struct state *state, const char *path)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };
	struct stat st;

	if (fstatat(state->root[NATIVE], path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
		return;
	for (int side = 0; side < SIDES; side++)
		utimensat(state->root[side], path, times, AT_SYMLINK_NOFOLLOW);
}

static void done_rename(struct state *state, const struct args *args)
{
	struct model *model = &state->model;
	char text[TEXT];
	struct stat st;
	bool gone;

	/* Two names of one file: rename(2) leaves both. */
	gone = fstatat(state->root[NATIVE], args->path, &st, AT_SYMLINK_NOFOLLOW) < 0;
	stat_text(state, &st, text);
	if (args->flags & RENAME_EXCHANGE) {
		model_exchange(model, args->node, args->other);
		same_times(state, args->path);
		same_times(state, args->other_path);
	} else if (gone) {
		if (args->other > 0)
			model_remove(model, args->other);
		model_move(model, args->node, args->other_parent, args->other_name);
	}
}

static bool choose_tmpfile(struct state *state, struct args *args)
{
	args->kind = KIND_FILE;
	args->mode = draw_mode(state);
	args->fill = draw(state);
	args->length = draw_below(state, 20000);
	args->flags = draw_chance(state, 15) ? O_EXCL : 0;
	return choose_new(state, args) && args->node < 0;
}

static void run_tmpfile(struct state *state, int side, const struct args *args, struct result *result)
{
	char parent[PATH_MAX], name[32];
	unsigned char data[20000];
	long ret = -1;
	int fd;

	model_path(&state->model, args->parent, NULL, parent);
	fd = openat(state->root[side], parent, O_TMPFILE | O_RDWR | O_CLOEXEC | args->flags, args->mode);
	if (fd >= 0) {
		fill_buffer(data, args->length, args->fill);
		ret = write(fd, data, args->length);
		/* Linked by /proc, as a user without CAP_DAC_READ_SEARCH has to. */
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (ret >= 0)
			ret = linkat(AT_FDCWD, name, state->root[side], args->path, AT_SYMLINK_FOLLOW);
	}
	result_set(result, ret);
	if (fd >= 0)
		close(fd);
}

static bool choose_any(struct state *state, struct args *args)
{
	args->flags = AT_SYMLINK_NOFOLLOW;
	if (draw_chance(state, 10))
		return choose_new(state, args);
	if (draw_chance(state, 10))
		args->flags = 0;
	return choose_node(state, args, ~0U);
}

static void run_stat(struct state *state, int side, const struct args *args, struct result *result)
{
	struct stat st;

	result_set(result, fstatat(state->root[side], args->path, &st, args->flags));
	if (!result->ret)
		stat_text(state, &st, result->text);
}

static bool choose_readlink(struct state *state, struct args *args)
{
	return choose_node(state, args, draw_chance(state, 95) ? 1U << KIND_SYMLINK : ~0U);
}

static void run_readlink(struct state *state, int side, const struct args *args, struct result *result)
{
	char target[1100];
	ssize_t length = readlinkat(state->root[side], args->path, target, sizeof(target) - 1);

	result_set(result, length);
	if (length >= 0)
		snprintf(result->text, TEXT, "%.*s", (int)length, target);
}

static bool choose_access(struct state *state, struct args *args)
{
	args->mode = draw_below(state, 8);
	return choose_node(state, args, ~0U);
}

static void run_access(struct state *state, int side, const struct args *args, struct result *result)
{
	/* AT_EACCESS with the raw system call goes by the fsuid that was set. */
	result_set(result, faccessat(state->root[side], args->path, (int)args->mode, AT_EACCESS));
}

static bool choose_readdir(struct state *state, struct args *args)
{
	if (draw_chance(state, 95))
		return choose_node(state, args, 1U << KIND_DIR);
	return choose_node(state, args, ~0U);
}

static void run_readdir(struct state *state, int side, const struct args *args, struct result *result)
{
	int fd = openat(state->root[side], args->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	uint64_t sum = 0;
	long count = 0;

	if (!dir) {
		result_set(result, -1);
		return;
	}
	/* The sum of the names' hashes does not depend on their order. */
	while ((errno = 0, entry = readdir(dir))) {
		sum += hash_buffer((unsigned char *)entry->d_name, strlen(entry->d_name)) * (1U + entry->d_type);
		count++;
	}
	result_set(result, errno ? -1 : count);
	snprintf(result->text, TEXT, "%ld entries, sum %016lx", count, (unsigned long)sum);
	closedir(dir);
}

const struct op name_ops[] = {
	{ "create", 70, choose_create, run_create, add_new },
	{ "mkdir", 35, choose_mkdir, run_mkdir, add_new },
	{ "mknod", 10, choose_mknod, run_mknod, add_new },
	{ "symlink", 20, choose_symlink, run_symlink, add_new },
	{ "link", 25, choose_link, run_link, done_link },
	{ "unlink", 60, choose_unlink, run_unlink, done_unlink },
	{ "rmdir", 30, choose_rmdir, run_unlink, done_unlink },
	{ "rename", 45, choose_rename, run_rename, done_rename },
	{ "exchange", 12, choose_exchange, run_rename, done_rename },
	{ "tmpfile", 8, choose_tmpfile, run_tmpfile, add_new },
	{ "stat", 45, choose_any, run_stat, NULL },
	{ "readlink", 8, choose_readlink, run_readlink, NULL },
	{ "access", 12, choose_access, run_access, NULL },
	{ "readdir", 15, choose_readdir, run_readdir, NULL },
	{ 0 },
};
