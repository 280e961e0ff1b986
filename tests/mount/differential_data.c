/* Differential test: operations on contents. */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DIRECT_ALIGN = 4096, BUFFER = 2 << 20 };

/* One thread, one operation at a time. */
static _Alignas(DIRECT_ALIGN) unsigned char buffer[BUFFER];

/* By path, or sometimes through a descriptor that has been open for a while. */
static bool choose_file(struct state *state, struct args *args)
{
	args->slot = draw_chance(state, 20) ? (int)draw_below(state, MAX_SLOTS) : -1;
	if (args->slot >= 0 && state->slots[args->slot].open)
		return true;
	args->slot = -1;
	return choose_node(state, args, draw_chance(state, 98) ? 1U << KIND_FILE : 1U << KIND_DIR | 1U << KIND_SYMLINK);
}

/* The native side's size, to aim at the end of the file. */
static off_t native_size(struct state *state, const struct args *args)
{
	struct stat st = { 0 };
	int ret;

	ret = args->slot >= 0 ? fstat(state->slots[args->slot].fd[NATIVE], &st)
			      : fstatat(state->root[NATIVE], args->path, &st, 0);
	return ret < 0 ? 0 : st.st_size;
}

static off_t draw_offset(struct state *state, off_t size)
{
	switch (draw_below(state, 6)) {
	case 0:
		return 0;
	case 1:
		return (off_t)draw_below(state, 64 << 10);
	case 2:
		return (off_t)(1 + draw_below(state, 64)) * 4096 + (off_t)draw_below(state, 3) - 1;
	case 3:
		return size < MAX_FILE ? size : 0;
	case 4:
		return (off_t)draw_below(state, (uint64_t)size + 1);
	default:
		return (off_t)draw_below(state, draw_chance(state, 90) ? 512 << 10 : MAX_FILE / 2);
	}
}

static size_t draw_length(struct state *state)
{
	switch (draw_below(state, 20)) {
	case 0:
		return draw_below(state, BUFFER);
	case 1:
	case 2:
		return draw_below(state, 256 << 10);
	case 3:
	case 4:
	case 5:
		return 4096 * (1 + draw_below(state, 8));
	case 6:
	case 7:
	case 8:
		return 1 + draw_below(state, 16);
	default:
		return draw_below(state, 16 << 10);
	}
}

static bool choose_span(struct state *state, struct args *args)
{
	if (!choose_file(state, args))
		return false;
	args->offset = draw_offset(state, native_size(state, args));
	args->length = draw_length(state);
	args->fill = draw(state);
	return true;
}

static int open_file(struct state *state, int side, const struct args *args, int flags)
{
	if (args->slot >= 0)
		return state->slots[args->slot].fd[side];
	return openat(state->root[side], args->path, flags | O_NONBLOCK | O_CLOEXEC, 0600);
}

static void close_file(const struct args *args, int fd)
{
	if (args->slot < 0 && fd >= 0)
		close(fd);
}

/* Opens, does one step, closes; the step returns like a system call. */
static void on_file(struct state *state, int side, const struct args *args, struct result *result, int flags,
		    long (*step)(int fd, const struct args *args, struct result *result))
{
	int fd = open_file(state, side, args, flags);

	result_set(result, fd < 0 ? -1 : step(fd, args, result));
	close_file(args, fd);
}

static long step_write(int fd, const struct args *args, struct result *result)
{
	(void)result;
	fill_buffer(buffer, args->length, args->fill);
	if (args->flags & O_APPEND)
		return write(fd, buffer, args->length);
	return pwrite(fd, buffer, args->length, args->offset);
}

static void run_write(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, O_WRONLY | args->flags, step_write);
}

/* Through a descriptor of its own, so that the flag is sure to be set. */
static bool choose_append(struct state *state, struct args *args)
{
	args->slot = -1;
	args->flags = O_APPEND | (draw_chance(state, 5) ? O_TRUNC : 0);
	args->fill = draw(state);
	args->length = draw_length(state) / 4;
	return choose_node(state, args, 1U << KIND_FILE) && native_size(state, args) < MAX_FILE;
}

static long step_read(int fd, const struct args *args, struct result *result)
{
	long ret = pread(fd, buffer, args->length, args->offset);

	if (ret >= 0)
		snprintf(result->text, TEXT, "sum %016lx", (unsigned long)hash_buffer(buffer, (size_t)ret));
	return ret;
}

static void run_read(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, O_RDONLY, step_read);
}

static long step_truncate(int fd, const struct args *args, struct result *result)
{
	(void)result;
	return ftruncate(fd, args->offset);
}

static void run_truncate(struct state *state, int side, const struct args *args, struct result *result)
{
	char path[2 * PATH_MAX];
	struct stat st;

	if (args->slot >= 0 || args->flags) {
		on_file(state, side, args, result, O_WRONLY, step_truncate);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", state->root[side], args->path);
	/* xfs then does nothing at all, and keeps the bits, which other file systems clear. */
	if (args->offset == 0 && stat(path, &st) == 0 && st.st_size == 0 && st.st_mode & (S_ISUID | S_ISGID))
		result_set(result, 0);
	else
		result_set(result, truncate(path, args->offset));
}

static bool choose_truncate(struct state *state, struct args *args)
{
	args->flags = draw_chance(state, 50);
	return choose_span(state, args);
}

static long step_allocate(int fd, const struct args *args, struct result *result)
{
	(void)result;
	return fallocate(fd, args->flags, args->offset, (off_t)args->length);
}

static void run_allocate(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, O_RDWR, step_allocate);
}

static bool choose_punch(struct state *state, struct args *args)
{
	args->flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	return choose_span(state, args);
}

static bool choose_zero(struct state *state, struct args *args)
{
	args->flags = FALLOC_FL_ZERO_RANGE | (draw_chance(state, 50) ? FALLOC_FL_KEEP_SIZE : 0);
	return choose_span(state, args);
}

static bool choose_allocate(struct state *state, struct args *args)
{
	args->flags = draw_chance(state, 50) ? FALLOC_FL_KEEP_SIZE : 0;
	return choose_span(state, args);
}

/* The last page may reach past the end; what is written there must not show, so it stays within. */
static long step_map(int fd, const struct args *args, struct result *result)
{
	off_t start = args->offset & ~(off_t)4095;
	size_t skip = (size_t)(args->offset - start);
	size_t length = args->length;
	unsigned char *map;
	struct stat st;
	long ret = 0;

	if (fstat(fd, &st) < 0)
		return -1;
	if (args->offset >= st.st_size)
		return 0;
	if ((off_t)length > st.st_size - args->offset)
		length = (size_t)(st.st_size - args->offset);
	if (!length)
		return 0;
	map = mmap(NULL, skip + length, args->flags, MAP_SHARED, fd, start);
	if (map == MAP_FAILED)
		return -1;
	if (args->flags & PROT_WRITE) {
		fill_buffer(map + skip, length, args->fill);
		ret = msync(map, skip + length, MS_SYNC);
	}
	snprintf(result->text, TEXT, "sum %016lx", (unsigned long)hash_buffer(map + skip, length));
	munmap(map, skip + length);
	return ret;
}

static bool choose_map(struct state *state, struct args *args)
{
	args->flags = PROT_READ | (draw_chance(state, 70) ? PROT_WRITE : 0);
	return choose_span(state, args);
}

static void run_map(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, O_RDWR, step_map);
}

static bool choose_direct(struct state *state, struct args *args)
{
	if (!choose_span(state, args))
		return false;
	args->slot = -1;
	args->flags = O_DIRECT | (draw_chance(state, 65) ? O_RDWR : O_RDONLY);
	args->offset &= ~(off_t)(DIRECT_ALIGN - 1);
	args->length = (args->length + DIRECT_ALIGN) & ~(size_t)(DIRECT_ALIGN - 1);
	if (args->length > BUFFER)
		args->length = BUFFER;
	return args->path[0] != '\0';
}

static long step_direct(int fd, const struct args *args, struct result *result)
{
	if (args->flags & O_RDWR) {
		fill_buffer(buffer, args->length, args->fill);
		return pwrite(fd, buffer, args->length, args->offset);
	}
	return step_read(fd, args, result);
}

static void run_direct(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, args->flags, step_direct);
	/* Where a mapping and a direct write meet, a native file system may give up ("Direct I/O collision with buffered
	 * writes!", says its kernel log): what it then has to answer with is what it answers without O_DIRECT. */
	if (side == NATIVE && result->ret < 0 && result->error == EIO)
		on_file(state, side, args, result, args->flags & ~O_DIRECT, step_direct);
}

static bool choose_copy(struct state *state, struct args *args)
{
	if (!choose_span(state, args))
		return false;
	args->other = pick_node(state, 1U << KIND_FILE);
	args->other_offset = draw_offset(state, 0);
	return args->other > 0 && model_path(&state->model, args->other, NULL, args->other_path);
}

static void run_copy(struct state *state, int side, const struct args *args, struct result *result)
{
	int from = open_file(state, side, args, O_RDONLY);
	int to = openat(state->root[side], args->other_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	off_t in = args->offset, out = args->other_offset;
	size_t left = args->length;
	long copied = 0, ret = -1;

	/* A short copy is allowed; what counts is that repeating it copies everything. */
	while (from >= 0 && to >= 0) {
		ret = copy_file_range(from, &in, to, &out, left, 0);
		if (ret <= 0)
			break;
		copied += ret;
		left -= (size_t)ret;
	}
	result_set(result, ret < 0 ? -1 : copied);
	if (to >= 0)
		close(to);
	close_file(args, from);
}

static bool is_zero(int fd, off_t from, off_t to)
{
	while (from < to) {
		size_t want = to - from < BUFFER ? (size_t)(to - from) : BUFFER;
		ssize_t got = pread(fd, buffer, want, from);

		if (got <= 0 || buffer[0] || memcmp(buffer, buffer + 1, (size_t)got - 1))
			return false;
		from += got;
	}
	return true;
}

/*
 * Holes may be smaller than what the native side reports, never larger than the truth: whatever is called a hole must
 * read as zeros, and the walk must end at the end of the file.
 */
static long step_seek(int fd, const struct args *args, struct result *result)
{
	off_t at = 0, data, hole;
	struct stat st;

	(void)args;
	if (fsync(fd) < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode))
		return 0;
	while (at < st.st_size) {
		data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return -1;
		if (data < 0)
			data = st.st_size;
		hole = data < st.st_size ? lseek(fd, data, SEEK_HOLE) : data;
		if (data < at || (data < st.st_size && hole <= data) || hole > st.st_size || !is_zero(fd, at, data)) {
			snprintf(result->text, TEXT, "at %ld: data %ld hole %ld size %ld", (long)at, (long)data,
				 (long)hole, (long)st.st_size);
			return 1;
		}
		at = hole > data ? hole : data;
	}
	return lseek(fd, st.st_size, SEEK_DATA) < 0 && errno == ENXIO && lseek(fd, st.st_size + 1, SEEK_HOLE) < 0 &&
			       errno == ENXIO
		       ? 0
		       : 2;
}

static void run_seek(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, O_RDONLY, step_seek);
}

static long step_sync(int fd, const struct args *args, struct result *result)
{
	(void)result;
	return args->flags ? fdatasync(fd) : fsync(fd);
}

static bool choose_sync(struct state *state, struct args *args)
{
	args->flags = draw_chance(state, 50);
	return choose_file(state, args);
}

static void run_sync(struct state *state, int side, const struct args *args, struct result *result)
{
	on_file(state, side, args, result, O_RDONLY, step_sync);
}

static bool choose_open(struct state *state, struct args *args)
{
	args->slot = (int)draw_below(state, MAX_SLOTS);
	args->flags = O_RDWR | O_NOFOLLOW | (draw_chance(state, 20) ? O_APPEND : 0) |
		      (draw_chance(state, 5) ? O_TRUNC : 0);
	return !state->slots[args->slot].open && choose_node(state, args, 1U << KIND_FILE);
}

static void run_open(struct state *state, int side, const struct args *args, struct result *result)
{
	int fd = openat(state->root[side], args->path, args->flags | O_NONBLOCK | O_CLOEXEC);

	result_set(result, fd < 0 ? -1 : 0);
	state->slots[args->slot].fd[side] = fd;
}

static void done_open(struct state *state, const struct args *args)
{
	state->slots[args->slot].open = true;
}

static bool choose_close(struct state *state, struct args *args)
{
	args->slot = (int)draw_below(state, MAX_SLOTS);
	return state->slots[args->slot].open;
}

static void run_close(struct state *state, int side, const struct args *args, struct result *result)
{
	struct stat st;

	/* Also the attributes, which a file without a name shows nowhere else. */
	if (!fstat(state->slots[args->slot].fd[side], &st))
		stat_text(state, &st, result->text);
	result_set(result, close(state->slots[args->slot].fd[side]));
}

static void done_close(struct state *state, const struct args *args)
{
	state->slots[args->slot].open = false;
}

const struct op data_ops[] = {
	{ "write", 130, choose_span, run_write, NULL },
	{ "append", 35, choose_append, run_write, NULL },
	{ "read", 90, choose_span, run_read, NULL },
	{ "truncate", 45, choose_truncate, run_truncate, NULL },
	{ "punch", 25, choose_punch, run_allocate, NULL },
	{ "zero", 20, choose_zero, run_allocate, NULL },
	{ "allocate", 15, choose_allocate, run_allocate, NULL },
	{ "mmap", 40, choose_map, run_map, NULL },
	{ "direct", 25, choose_direct, run_direct, NULL },
	{ "copy", 15, choose_copy, run_copy, NULL },
	{ "seek", 15, choose_file, run_seek, NULL },
	{ "sync", 10, choose_sync, run_sync, NULL },
	{ "open", 20, choose_open, run_open, done_open },
	{ "close", 15, choose_close, run_close, done_close },
	{ 0 },
};
