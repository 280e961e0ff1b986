/* SIGKILL test: what a worker does. */
#include "sigkill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint64_t draw(struct worker *worker, uint64_t below)
{
	uint64_t z = (worker->random += 0x9e3779b97f4a7c15U);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	z ^= z >> 31;
	return below ? z % below : 0;
}

/* A name that is taken (by a file where file is set), or one that is free; false if twenty tries found none. */
static bool pick_name(struct worker *worker, bool taken, bool file, int *ret_dir, int *ret_name)
{
	const struct world *world = &worker->world;

	for (int i = 0; i < 20; i++) {
		int dir = (int)draw(worker, DIRS), name = (int)draw(worker, NAMES);
		int object = world->names[dir][name];

		if (!world->dirs[dir] || !taken == !!object || (!taken && dir == worker->emptied && dir))
			continue;
		if (file && world->objects[object].type != 'f')
			continue;
		*ret_dir = dir;
		*ret_name = name;
		return true;
	}
	return false;
}

static int free_object(const struct worker *worker)
{
	for (int i = 1; i < OBJECTS; i++) {
		if (!worker->world.objects[i].type)
			return i;
	}
	abort();
}

/* Where a write goes: small ones everywhere, appends, overwrites, rarely a large one. */
static void pick_range(struct worker *worker, struct step *step)
{
	const struct object *object = &worker->world.objects[step->object];
	int length = 1 + (int)draw(worker, draw(worker, 3) ? 8 : 300);

	if (draw(worker, 40) == 0)
		length = (int)draw(worker, MAX_UNITS);
	step->from = (int)draw(worker, (uint64_t)(object->size < 100 ? 400 : object->size));
	if (draw(worker, 3) == 0)
		step->from = object->size;
	if (step->kind == DIRECT) {
		step->from -= step->from % GROUP_UNITS;
		length = GROUP_UNITS * (1 + length / 100);
	}
	if (step->from >= MAX_UNITS - GROUP_UNITS)
		step->from = 0;
	step->to = step->from + length;
	if (step->to > MAX_UNITS - GROUP_UNITS)
		step->to = MAX_UNITS - GROUP_UNITS;
}

static enum kind pick_kind(struct worker *worker)
{
	static const int weights[KINDS] = {
		[CREATE] = 50, [TMPFILE] = 5, [WRITE] = 120, [DIRECT] = 15,   [SYNC] = 25, [TRUNCATE] = 25,
		[PUNCH] = 12,  [UNLINK] = 40, [RENAME] = 40, [EXCHANGE] = 10, [LINK] = 12, [SYMLINK] = 10,
		[MKDIR] = 10,  [RMDIR] = 2,   [CHMOD] = 15,  [XATTR] = 20,    [READ] = 15,
	};
	int total = 0, at;

	for (int i = 0; i < KINDS; i++)
		total += weights[i];
	at = (int)draw(worker, (uint64_t)total);
	for (int i = 0; i < KINDS; i++) {
		if (at < weights[i])
			return (enum kind)i;
		at -= weights[i];
	}
	abort();
}

/* RMDIR empties a directory first, over many steps. */
static bool choose_removal(struct worker *worker, struct step *step)
{
	const struct world *world = &worker->world;

	if (!worker->emptied)
		worker->emptied = 1 + (int)draw(worker, DIRS - 1);
	step->dir = worker->emptied;
	step->kind = RMDIR;
	if (!world->dirs[step->dir]) {
		worker->emptied = 0;
		return false;
	}
	for (int name = 0; name < NAMES; name++) {
		if (world->names[step->dir][name]) {
			step->kind = UNLINK;
			step->name = name;
			return true;
		}
	}
	worker->emptied = 0;
	return true;
}

static bool choose(struct worker *worker, struct step *step)
{
	const struct world *world = &worker->world;
	bool good;

	*step = (struct step){ .kind = pick_kind(worker), .version = ++worker->version };
	if (worker->emptied && draw(worker, 4) == 0)
		step->kind = RMDIR;
	switch (step->kind) {
	case CREATE:
	case TMPFILE:
	case SYMLINK:
		step->object = free_object(worker);
		step->mode = 0600 | (mode_t)draw(worker, 0100);
		return pick_name(worker, false, false, &step->dir, &step->name);
	case MKDIR:
		step->dir = 1 + (int)draw(worker, DIRS - 1);
		return !world->dirs[step->dir];
	case RMDIR:
		return choose_removal(worker, step);
	case UNLINK:
		return pick_name(worker, true, false, &step->dir, &step->name);
	case RENAME:
	case EXCHANGE:
	case LINK:
		good = step->kind == EXCHANGE || (step->kind == RENAME && draw(worker, 2));
		return pick_name(worker, true, false, &step->dir, &step->name) &&
		       pick_name(worker, good, false, &step->dir2, &step->name2) &&
		       !(step->dir2 && step->dir2 == worker->emptied);
	default:
		break;
	}
	if (!pick_name(worker, true, true, &step->dir, &step->name))
		return false;
	step->object = world->names[step->dir][step->name];
	step->mode = (mode_t)draw(worker, 01000);
	if (world->objects[step->object].span_count > UNSYNCED / 2 - 4)
		step->kind = SYNC;
	if (step->kind == XATTR && draw(worker, 4) == 0)
		step->version = 0;
	pick_range(worker, step);
	if (step->kind == TRUNCATE && draw(worker, 2))
		step->to = step->from;
	return true;
}

static int open_object(struct worker *worker, const struct step *step, const char *path)
{
	struct object *object = &worker->world.objects[step->object];

	if (object->fd >= 0 && draw(worker, 6) == 0) {
		close(object->fd);
		object->fd = -1;
	}
	if (object->fd < 0)
		object->fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	return object->fd;
}

static bool do_write(struct worker *worker, const struct step *step, const char *path)
{
	size_t length = (size_t)(unit_position(step->to) - unit_position(step->from));
	int fd = step->kind == DIRECT ? open(path, O_WRONLY | O_DIRECT | O_CLOEXEC) : open_object(worker, step, path);
	ssize_t done;

	if (fd < 0)
		return false;
	for (int unit = step->from; unit < step->to; unit++)
		unit_fill(worker, unit, step->version,
			  worker->buffer + unit_position(unit) - unit_position(step->from));
	done = pwrite(fd, worker->buffer, length, unit_position(step->from));
	if (done >= 0 && done != (ssize_t)length)
		errno = EIO;
	if (step->kind == DIRECT) {
		int error = errno;

		close(fd);
		errno = error;
	}
	return done == (ssize_t)length;
}

/* What the running mount shows must be the latest of everything. */
static bool do_read(struct worker *worker, const struct step *step, const char *path)
{
	const struct object *object = &worker->world.objects[step->object];
	int fd = open_object(worker, step, path);
	ssize_t length = fd < 0 ? -1 : pread(fd, worker->buffer, sizeof(worker->buffer), 0);

	if (length < 0)
		return false;
	/* A daemon that dies half way through leaves a short read. */
	errno = stopping ? EIO : EBADMSG;
	if (length != unit_position(object->size))
		return false;
	errno = EBADMSG;
	for (int unit = 0; unit < object->size; unit++) {
		if (!unit_is(worker, unit, unit_latest(object, unit), worker->buffer + unit_position(unit)))
			return false;
	}
	return true;
}

static bool do_tmpfile(const struct worker *worker, const struct step *step, const char *path)
{
	char dir[512], name[32];
	bool good;
	int fd;

	name_path(worker, step->dir, -1, dir);
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, step->mode);
	if (fd < 0)
		return false;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	good = linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0;
	close(fd);
	return good;
}

/* Sometimes the file stays open without a name, and is written to. */
static bool do_unlink(struct worker *worker, const struct step *step, const char *path)
{
	const struct object *object = &worker->world.objects[worker->world.names[step->dir][step->name]];
	int slot = (int)draw(worker, ORPHANS * 4);
	off_t position = (off_t)draw(worker, 100000);
	int *orphan = &worker->orphans[slot % ORPHANS];

	if (slot >= ORPHANS || object->type != 'f' || object->links > 1)
		return unlink(path) == 0;
	if (*orphan >= 0)
		close(*orphan);
	*orphan = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (*orphan < 0 || unlink(path) < 0)
		return false;
	return pwrite(*orphan, worker->buffer, 10000, position) == 10000 || stopping;
}

static bool do_xattr(const struct step *step, const char *path)
{
	char text[16];

	if (!step->version)
		return removexattr(path, "user.v") == 0 || errno == ENODATA;
	snprintf(text, sizeof(text), "%u", step->version);
	return setxattr(path, "user.v", text, strlen(text), 0) == 0;
}

static bool create(const struct step *step, const char *path)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, step->mode);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

static bool do_name(struct worker *worker, struct step *step, const char *path)
{
	char path2[512], text[16];
	struct stat st;
	bool good = false;

	name_path(worker, step->dir2, step->name2, path2);
	snprintf(text, sizeof(text), "%u", step->version);
	switch (step->kind) {
	case CREATE:
		good = create(step, path);
		break;
	case TMPFILE:
		good = do_tmpfile(worker, step, path);
		break;
	case SYMLINK:
		good = symlink(text, path) == 0;
		break;
	case UNLINK:
		return do_unlink(worker, step, path);
	case RENAME:
		return rename(path, path2) == 0;
	case EXCHANGE:
		return renameat2(AT_FDCWD, path, AT_FDCWD, path2, RENAME_EXCHANGE) == 0;
	default:
		return linkat(AT_FDCWD, path, AT_FDCWD, path2, 0) == 0;
	}
	/* Done is done, even if its number cannot be asked for any more. */
	if (good && lstat(path, &st) == 0)
		step->ino = st.st_ino;
	return good;
}

static bool do_step(struct worker *worker, struct step *step)
{
	char path[512], dir[512];
	int fd;

	name_path(worker, step->dir, step->name, path);
	name_path(worker, step->dir, -1, dir);
	switch (step->kind) {
	case MKDIR:
		return mkdir(dir, 0755) == 0;
	case RMDIR:
		return rmdir(dir) == 0;
	case WRITE:
	case DIRECT:
		return do_write(worker, step, path);
	case SYNC:
		fd = open_object(worker, step, path);
		return fd >= 0 && fsync(fd) == 0;
	case TRUNCATE:
		if (step->version % 2)
			return truncate(path, unit_position(step->to)) == 0;
		fd = open_object(worker, step, path);
		return fd >= 0 && ftruncate(fd, unit_position(step->to)) == 0;
	case PUNCH:
		fd = open_object(worker, step, path);
		return fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, unit_position(step->from),
					    unit_position(step->to) - unit_position(step->from)) == 0;
	case CHMOD:
		return chmod(path, step->mode) == 0;
	case XATTR:
		return do_xattr(step, path);
	case READ:
		return do_read(worker, step, path);
	default:
		return do_name(worker, step, path);
	}
}

bool worker_run(struct worker *worker)
{
	while (!stopping) {
		struct step *step = &worker->step;

		if (!choose(worker, step))
			continue;
		worker->in_flight = true;
		if (!do_step(worker, step)) {
			/* What was acknowledged must be right even while the daemon dies. */
			if (stopping && errno != EBADMSG)
				break;
			fprintf(stderr, "worker %d: step %d on dir %d name %d object %d units %d to %d: %s\n",
				worker->number, step->kind, step->dir, step->name, step->object, step->from, step->to,
				strerror(errno));
			return false;
		}
		world_apply(&worker->world, step, worker->writeback);
		worker->in_flight = false;
		worker->steps[step->kind]++;
	}
	for (int i = 0; i < ORPHANS; i++) {
		if (worker->orphans[i] >= 0)
			close(worker->orphans[i]);
		worker->orphans[i] = -1;
	}
	return true;
}

bool worker_clear(struct worker *worker)
{
	char path[512];

	for (int dir = DIRS - 1; dir >= 0; dir--) {
		for (int name = 0; name < NAMES; name++) {
			name_path(worker, dir, name, path);
			if (worker->world.names[dir][name] && unlink(path) < 0)
				return false;
		}
		name_path(worker, dir, -1, path);
		if (worker->world.dirs[dir] && rmdir(path) < 0)
			return false;
	}
	return true;
}
