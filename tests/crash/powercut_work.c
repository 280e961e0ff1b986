/* Power-cut test: a worker uses the mount, and says in the trace what it begins and what was answered. */
#include "powercut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_SIZE = MAX_BLOCKS * BLOCK, LARGE_MIN = 64 << 10, LARGE_MAX = 300 << 10, XATTR_MAX = 6000 };

int trace_append(int fd, uint32_t kind, uint64_t a, const void *data, size_t len)
{
	struct trace_record r = { .magic = TRACE_MAGIC, .kind = kind, .a = a, .data_len = (uint32_t)len };
	struct iovec out[] = { { &r, sizeof(r) }, { (void *)(uintptr_t)data, len } };

	return writev(fd, out, 2) == (ssize_t)(sizeof(r) + len) ? 0 : -1;
}

void worker_setup(struct worker *w)
{
	world_init(&w->world);
	for (int i = 0; i < MAX_FILES; i++)
		w->fds[i] = -1;
	w->next_op = 1;
	w->buffer = malloc(MAX_SIZE);
	if (!w->buffer)
		abort();
}

/* ---- choosing ---- */
static uint64_t pick(struct worker *w, uint64_t n)
{
	return below(&w->random, n);
}

static bool pick_name(struct worker *w, bool used, int32_t *dir, int32_t *name)
{
	uint64_t start = pick(w, DIRS * NAMES);

	for (uint64_t i = 0; i < DIRS * NAMES; i++) {
		int d = (int)((start + i) % DIRS), n = (int)((start + i) / DIRS % NAMES);

		if (w->world.now.dirs[d] && (w->world.now.at[d][n] >= 0) == used) {
			*dir = d;
			*name = n;
			return true;
		}
	}
	return false;
}

static bool find_name(const struct worker *w, int32_t file, int32_t *dir, int32_t *name)
{
	for (int i = 0; i < DIRS * NAMES; i++) {
		*dir = i / NAMES;
		*name = i % NAMES;
		if (w->world.now.at[*dir][*name] == file)
			return true;
	}
	return false;
}

/* The file of the plan; without one, a file with a name, or one that is open without. */
static bool pick_file(struct worker *w, struct op *op)
{
	if (w->plan) {
		op->file = w->plan_file;
		return find_name(w, op->file, &op->dir, &op->name);
	}
	if (pick(w, 8) == 0) {
		for (int i = 0, start = (int)pick(w, (uint64_t)w->world.file_count + 1); i < w->world.file_count; i++) {
			op->file = (start + i) % w->world.file_count;
			if (w->fds[op->file] >= 0)
				return true;
		}
	}
	if (!pick_name(w, true, &op->dir, &op->name))
		return false;
	op->file = w->world.now.at[op->dir][op->name];
	return true;
}

static bool dir_is_empty(const struct worker *w, int dir)
{
	for (int i = 0; i < NAMES; i++)
		if (w->world.now.at[dir][i] >= 0)
			return false;
	return true;
}

static bool choose_write(struct worker *w, struct op *op)
{
	if (!pick_file(w, op))
		return false;
	uint64_t size = w->world.files[op->file]->size;

	switch (w->plan ? 6 : pick(w, 8)) {
	case 0: /* blocks, as they lie */
		op->off = pick(w, size / BLOCK + 1) * BLOCK;
		op->len = (1 + pick(w, 8)) * BLOCK;
		break;
	case 1: /* inside a block */
	case 2:
		op->off = size ? pick(w, size) : 0;
		op->len = 1 + pick(w, 900);
		break;
	case 3: /* at the end */
	case 4:
		op->off = size;
		op->len = 1 + pick(w, 2000);
		break;
	case 5: /* much, new */
	case 6:
		op->off = pick(w, 2) ? size : pick(w, size / BLOCK + 1) * BLOCK;
		op->len = LARGE_MIN + pick(w, LARGE_MAX - LARGE_MIN);
		break;
	default: /* much, anywhere, holes too */
		op->off = pick(w, MAX_SIZE - LARGE_MAX);
		op->len = LARGE_MIN + pick(w, LARGE_MAX - LARGE_MIN);
	}
	if (op->off >= MAX_SIZE)
		return false;
	if (op->len > MAX_SIZE - op->off)
		op->len = MAX_SIZE - op->off;
	return true;
}

static bool choose_extent(struct worker *w, struct op *op)
{
	uint64_t size;

	if (!pick_file(w, op))
		return false;
	size = w->world.files[op->file]->size;
	if (op->kind == OP_ALLOCATE) {
		op->off = size;
		op->len = 1 + pick(w, LARGE_MAX);
		return op->off + op->len <= MAX_SIZE;
	}
	if (!size)
		return false;
	if (op->kind == OP_TRUNCATE) {
		op->len = pick(w, 4) ? pick(w, size) : pick(w, MAX_SIZE);
		/* A block may be cut off before the kernel sends what it holds of it: an order that the model does not know. */
		if (w->writeback)
			op->len -= op->len % BLOCK;
		return true;
	}
	op->off = pick(w, size);
	op->len = 1 + pick(w, pick(w, 2) ? 3 * BLOCK : size);
	if (pick(w, 2)) {
		op->off = op->off / BLOCK * BLOCK;
		op->len = (op->len + BLOCK - 1) / BLOCK * BLOCK;
	}
	return true;
}

static bool choose_names(struct worker *w, struct op *op)
{
	switch (op->kind) {
	case OP_CREATE:
		op->file = w->world.file_count;
		return op->file < MAX_FILES && pick_name(w, false, &op->dir, &op->name);
	case OP_TMPFILE:
		op->file = w->world.file_count;
		return op->file < MAX_FILES;
	case OP_UNLINK:
		if (!pick_name(w, true, &op->dir, &op->name))
			return false;
		op->file = w->world.now.at[op->dir][op->name];
		return true;
	case OP_LINK:
		if (!pick_name(w, true, &op->dir, &op->name))
			return false;
		op->file = w->world.now.at[op->dir][op->name];
		return pick_name(w, false, &op->dir2, &op->name2);
	default: /* rename over something, or not; exchange */
		if (!(w->plan ? find_name(w, w->plan_file, &op->dir, &op->name)
			      : pick_name(w, true, &op->dir, &op->name)) ||
		    !pick_name(w, op->kind == OP_EXCHANGE || w->plan || pick(w, 2), &op->dir2, &op->name2))
			return false;
		op->file = w->world.now.at[op->dir][op->name];
		op->file2 = w->world.now.at[op->dir2][op->name2];
		return op->file != op->file2;
	}
}

static bool choose_dir(struct worker *w, struct op *op)
{
	op->dir = (int32_t)pick(w, DIRS);
	if (op->kind == OP_SYNC_DIR)
		return w->world.now.dirs[op->dir];
	if (!op->dir || w->world.now.dirs[op->dir] == (op->kind == OP_MKDIR))
		return false;
	return op->kind == OP_MKDIR || dir_is_empty(w, op->dir);
}

static bool choose(struct worker *w, struct op *op)
{
	static const unsigned char weights[OP_KINDS] = {
		[OP_CREATE] = 10, [OP_TMPFILE] = 2,  [OP_WRITE] = 50,   [OP_TRUNCATE] = 7,
		[OP_PUNCH] = 7,   [OP_ALLOCATE] = 3, [OP_XATTR] = 6,    [OP_UNLINK] = 7,
		[OP_RENAME] = 9,  [OP_EXCHANGE] = 2, [OP_LINK] = 3,     [OP_MKDIR] = 2,
		[OP_RMDIR] = 2,   [OP_SYNC] = 26,    [OP_SYNC_DIR] = 5, [OP_CLOSE] = 3,
	};
	unsigned total = 0, at;

	*op = (struct op){ .worker = (uint32_t)w->number, .number = w->next_op, .file = -1, .file2 = -1 };
	if (w->plan && *w->plan == OP_KINDS)
		w->plan = NULL;
	for (unsigned i = 0; i < OP_KINDS; i++)
		total += weights[i];
	at = (unsigned)pick(w, total);
	while (!w->plan && at >= weights[op->kind])
		at -= weights[op->kind++];
	if (w->plan)
		op->kind = *w->plan++;
	op->seed = next_random(&w->random);
	switch (op->kind) {
	case OP_WRITE:
		return choose_write(w, op);
	case OP_TRUNCATE:
	case OP_PUNCH:
	case OP_ALLOCATE:
		return choose_extent(w, op);
	case OP_XATTR:
		op->len = pick(w, 4) ? 1 + pick(w, pick(w, 2) ? 200 : XATTR_MAX) : 0;
		op->seed = (op->seed & ~(uint64_t)0xffff) | op->len;
		return pick_file(w, op) &&
		       (op->len || w->world.files[op->file]->xattrs[w->world.files[op->file]->xattr_count - 1].hash);
	case OP_MKDIR:
	case OP_RMDIR:
	case OP_SYNC_DIR:
		return choose_dir(w, op);
	case OP_SYNC:
		op->len = pick(w, 2);
		return pick_file(w, op);
	case OP_CLOSE:
		return pick_file(w, op) && w->fds[op->file] >= 0;
	default:
		return choose_names(w, op);
	}
}

/* ---- doing ---- */
static void path_of(const struct worker *w, int dir, int name, char out[static 512])
{
	object_path(out, 512, w->mnt, w->number, dir, name);
}

/* The kept handle, or a new one that the caller closes. */
static int open_file(struct worker *w, const struct op *op, bool *own)
{
	char path[512];

	*own = w->fds[op->file] < 0;
	if (!*own)
		return w->fds[op->file];
	path_of(w, op->dir, op->name, path);
	return open(path, O_RDWR | O_CLOEXEC);
}

struct second {
	struct worker *w;
	struct op op;
	int fd;
	bool good;
};

/* The same file synced by two at once: neither may be told that it is done before it is. */
static void *sync_too(void *arg)
{
	struct second *s = arg;

	s->good = fsync(s->fd) == 0 && trace_append(s->w->trace_fd, TRACE_END, 0, &s->op, sizeof(s->op)) == 0;
	return NULL;
}

static int sync_file(struct worker *w, const struct op *op, int fd)
{
	struct second s = { .w = w, .op = *op, .fd = fd };
	pthread_t thread;

	if (op->seed % 3)
		return op->len ? fdatasync(fd) : fsync(fd);
	if (pthread_create(&thread, NULL, sync_too, &s) != 0)
		return -1;
	int r = fsync(fd);

	if (r == 0)
		r = trace_append(w->trace_fd, TRACE_END, 0, op, sizeof(*op));
	pthread_join(thread, NULL);
	return s.good ? r : -1;
}

static int do_file(struct worker *w, const struct op *op)
{
	bool own;
	int fd = open_file(w, op, &own), r = fd < 0 ? -1 : 0;

	if (r == 0 && op->kind == OP_WRITE) {
		fill_pattern(op->seed, op->off, w->buffer, op->len);
		r = pwrite(fd, w->buffer, op->len, (off_t)op->off) == (ssize_t)op->len ? 0 : -1;
	} else if (r == 0 && op->kind == OP_TRUNCATE) {
		r = ftruncate(fd, (off_t)op->len);
	} else if (r == 0 && op->kind == OP_PUNCH) {
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)op->off, (off_t)op->len);
	} else if (r == 0 && op->kind == OP_ALLOCATE) {
		r = fallocate(fd, 0, (off_t)op->off, (off_t)op->len);
	} else if (r == 0 && op->kind == OP_XATTR && op->len) {
		fill_pattern(op->seed, 0, w->buffer, op->len);
		r = fsetxattr(fd, "user.v", w->buffer, op->len, 0);
	} else if (r == 0 && op->kind == OP_XATTR) {
		r = fremovexattr(fd, "user.v");
	} else if (r == 0 && op->kind == OP_SYNC) {
		r = sync_file(w, op, fd);
	}
	if (fd >= 0 && own && close(fd) < 0)
		r = -1;
	return r;
}

static int do_create(struct worker *w, struct op *op)
{
	char path[512];
	struct stat st;
	int fd;

	path_of(w, op->dir, op->kind == OP_CREATE ? op->name : -1, path);
	fd = op->kind == OP_CREATE ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
				   : open(path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	op->ino = st.st_ino;
	if (op->kind == OP_TMPFILE || op->seed % 4 == 0)
		w->fds[op->file] = fd;
	else
		close(fd);
	return 0;
}

static int do_names(struct worker *w, const struct op *op)
{
	char path[512], to[512];
	int r, fd;

	path_of(w, op->dir, op->kind < OP_MKDIR ? op->name : -1, path);
	path_of(w, op->dir2, op->name2, to);
	switch (op->kind) {
	case OP_UNLINK:
		if (w->fds[op->file] < 0 && op->seed % 4 == 0)
			w->fds[op->file] = open(path, O_RDWR | O_CLOEXEC);
		return unlink(path);
	case OP_RENAME:
		return rename(path, to);
	case OP_EXCHANGE:
		return renameat2(AT_FDCWD, path, AT_FDCWD, to, RENAME_EXCHANGE);
	case OP_MKDIR:
		return mkdir(path, 0700);
	case OP_RMDIR:
		return rmdir(path);
	default:
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? -1 : fsync(fd);
		if (fd >= 0)
			close(fd);
		return r;
	}
}

static int perform(struct worker *w, struct op *op)
{
	char path[512], to[512];

	switch (op->kind) {
	case OP_CREATE:
	case OP_TMPFILE:
		return do_create(w, op);
	case OP_LINK:
		path_of(w, op->dir, op->name, path);
		path_of(w, op->dir2, op->name2, to);
		return link(path, to);
	case OP_CLOSE:
		close(w->fds[op->file]);
		w->fds[op->file] = -1;
		return 0;
	case OP_UNLINK:
	case OP_RENAME:
	case OP_EXCHANGE:
	case OP_MKDIR:
	case OP_RMDIR:
	case OP_SYNC_DIR:
		return do_names(w, op);
	default:
		return do_file(w, op);
	}
}

/* What is done to a new file right away: where it is written to home directly, and made durable at once, most can go wrong. */
static void make_plan(struct worker *w, const struct op *op)
{
	static const uint8_t plans[][5] = {
		{ OP_WRITE, OP_SYNC, OP_KINDS },
		{ OP_ALLOCATE, OP_WRITE, OP_SYNC, OP_KINDS },
		{ OP_WRITE, OP_SYNC, OP_RENAME, OP_KINDS },
		{ OP_WRITE, OP_RENAME, OP_SYNC, OP_KINDS },
		{ OP_WRITE, OP_SYNC, OP_TRUNCATE, OP_WRITE, OP_KINDS },
	};

	if (pick(w, 2)) {
		w->plan = plans[pick(w, sizeof(plans) / sizeof(plans[0]))];
		w->plan_file = op->file;
	}
}

bool worker_run(struct worker *w, int ops)
{
	struct op op;

	while (ops > 0 && !w->failed) {
		if (!choose(w, &op))
			continue;
		ops--;
		w->next_op++;
		world_begin(&w->world, &op);
		if (trace_append(w->trace_fd, TRACE_BEGIN, 0, &op, sizeof(op)) < 0 || perform(w, &op) < 0 ||
		    trace_append(w->trace_fd, TRACE_END, 0, &op, sizeof(op)) < 0) {
			printf("worker %d: operation %u, kind %u, file %d, at %llu, length %llu: %s\n", w->number,
			       op.number, op.kind, op.file, (unsigned long long)op.off, (unsigned long long)op.len,
			       strerror(errno));
			w->failed = true;
		}
		world_end(&w->world, &op);
		if (op.kind == OP_CREATE)
			make_plan(w, &op);
	}
	w->plan = NULL;
	return !w->failed;
}

void worker_close(struct worker *w)
{
	for (int i = 0; i < MAX_FILES; i++) {
		if (w->fds[i] >= 0)
			close(w->fds[i]);
		w->fds[i] = -1;
	}
}
