/* SIGKILL test: what a worker knows, and comparing it with what the mount shows. */
#include "sigkill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int positions[GROUP_UNITS];

__attribute__((constructor)) static void make_positions(void)
{
	int count = 0;

	for (int at = 0; at < GROUP; at++) {
		if (at % CELL == 0 || at % BLOCK == 0)
			positions[count++] = at;
	}
	if (count != GROUP_UNITS)
		abort();
}

int unit_position(int unit)
{
	return unit / GROUP_UNITS * GROUP + positions[unit % GROUP_UNITS];
}

int unit_at(off_t position)
{
	int first = (int)(position / GROUP) * GROUP_UNITS;

	for (int i = 0; i < GROUP_UNITS; i++) {
		if (unit_position(first + i) == position)
			return first + i;
	}
	return -1;
}

void unit_fill(const struct worker *worker, int unit, uint32_t version, unsigned char *data)
{
	int length = unit_position(unit + 1) - unit_position(unit);
	uint64_t z = (uint64_t)worker->number << 56 ^ (uint64_t)version << 24 ^ (uint64_t)unit;

	for (int i = 0; i < length; i++) {
		if (i % 8 == 0) {
			z = (z + 0x9e3779b97f4a7c15U) * 0xbf58476d1ce4e5b9U;
			z ^= z >> 29;
		}
		data[i] = version ? (unsigned char)(z >> (8 * (i % 8))) : 0;
	}
}

bool unit_is(const struct worker *worker, int unit, uint32_t version, const unsigned char *data)
{
	unsigned char wanted[CELL];

	unit_fill(worker, unit, version, wanted);
	return memcmp(data, wanted, (size_t)(unit_position(unit + 1) - unit_position(unit))) == 0;
}

uint32_t unit_latest(const struct object *object, int unit)
{
	for (int i = object->span_count - 1; i >= 0; i--) {
		if (unit >= object->spans[i].from && unit < object->spans[i].to)
			return object->spans[i].version;
	}
	return object->base[unit];
}

static void add_span(struct object *object, int from, int to, uint32_t version)
{
	if (from < to && object->span_count < UNSYNCED)
		object->spans[object->span_count++] = (struct span){ from, to, version };
}

/* The units of a range have one certain version from now on. */
static void set_range(struct object *object, int from, int to, uint32_t version)
{
	int count = object->span_count;

	for (int i = 0; i < count; i++) {
		struct span *span = &object->spans[i];
		int end = span->to;

		if (span->to <= from || span->from >= to)
			continue;
		if (end > to) {
			/* The rest keeps its place in the order: nothing after it can cover it otherwise. */
			if (span->from < from && object->span_count < UNSYNCED) {
				memmove(span + 2, span + 1, (size_t)(object->span_count - i - 1) * sizeof(*span));
				span[1] = (struct span){ to, end, span->version };
				object->span_count++;
				count++;
				i++;
				span->to = from;
			} else {
				span->from = to;
			}
		} else {
			span->to = span->from < from ? from : span->from;
		}
	}
	for (int unit = from; unit < to; unit++)
		object->base[unit] = version;
}

static void sync_object(struct object *object)
{
	for (int i = 0; i < object->span_count; i++) {
		for (int unit = object->spans[i].from; unit < object->spans[i].to; unit++)
			object->base[unit] = object->spans[i].version;
	}
	object->span_count = 0;
	object->least = object->most = object->size;
}

static void truncate_object(struct object *object, int size)
{
	set_range(object, size, MAX_UNITS, 0);
	object->least = object->most = object->size = size;
}

static void write_object(struct object *object, const struct step *step, bool certain)
{
	int size = step->to > object->size ? step->to : object->size;

	if (certain)
		set_range(object, step->from, step->to, step->version);
	else
		add_span(object, step->from, step->to, step->version);
	object->size = size;
	if (size > object->most)
		object->most = size;
	/* Written through to the daemon at the end of what it knows, or beyond it. */
	if (certain && step->to > object->least)
		object->least = step->to;
}

static void drop_link(struct world *world, int dir, int name)
{
	struct object *object = &world->objects[world->names[dir][name]];

	world->names[dir][name] = 0;
	if (object->type && --object->links == 0) {
		if (object->fd >= 0)
			close(object->fd);
		object->fd = -1;
		object->type = '\0';
	}
}

static void new_object(struct world *world, const struct step *step, char type)
{
	struct object *object = &world->objects[step->object];

	*object = (struct object){ .type = type, .links = 1, .fd = -1, .ino = step->ino, .mode = step->mode };
	if (type == 'l')
		object->target = step->version;
	world->names[step->dir][step->name] = step->object;
}

void world_apply(struct world *world, const struct step *step, bool writeback)
{
	struct object *object = &world->objects[step->object];
	int moved = world->names[step->dir][step->name];

	switch (step->kind) {
	case CREATE:
	case TMPFILE:
		new_object(world, step, 'f');
		break;
	case SYMLINK:
		new_object(world, step, 'l');
		break;
	case WRITE:
	case DIRECT:
		write_object(object, step, !writeback || step->kind == DIRECT);
		break;
	case SYNC:
		sync_object(object);
		break;
	case TRUNCATE:
		truncate_object(object, step->to);
		break;
	case PUNCH:
		set_range(object, step->from, step->to, 0);
		break;
	case UNLINK:
		drop_link(world, step->dir, step->name);
		break;
	case RENAME:
		if (moved == world->names[step->dir2][step->name2])
			break; /* two links of one file: nothing happens */
		drop_link(world, step->dir2, step->name2);
		world->names[step->dir2][step->name2] = moved;
		world->names[step->dir][step->name] = 0;
		break;
	case EXCHANGE:
		world->names[step->dir][step->name] = world->names[step->dir2][step->name2];
		world->names[step->dir2][step->name2] = moved;
		break;
	case LINK:
		world->names[step->dir2][step->name2] = moved;
		world->objects[moved].links++;
		break;
	case MKDIR:
		world->dirs[step->dir] = true;
		break;
	case RMDIR:
		world->dirs[step->dir] = false;
		break;
	case CHMOD:
		object->mode = step->mode;
		break;
	case XATTR:
		object->xattr = step->version;
		break;
	case READ:
	case KINDS:
		break;
	}
}

void world_maybe(struct world *world, const struct step *step)
{
	struct object *object = &world->objects[step->object];

	if (step->kind == PUNCH) {
		add_span(object, step->from, step->to, 0);
	} else if (step->kind == WRITE || step->kind == DIRECT) {
		add_span(object, step->from, step->to, step->version);
		if (step->to > object->most)
			object->most = step->to;
	}
}

void name_path(const struct worker *worker, int dir, int name, char path[static 512])
{
	char sub[16] = "";

	if (dir)
		snprintf(sub, sizeof(sub), "/d%d", dir);
	if (name < 0)
		snprintf(path, 512, "%s%s", worker->dir, sub);
	else /* of several lengths, the longest among them */
		snprintf(path, 512, "%s%s/n%0*d", worker->dir, sub, name % 7 == 3 ? 254 : name % 5 * 15 + 2, name);
}

__attribute__((format(printf, 3, 4))) static bool wrong(const char *path, bool quiet, const char *format, ...)
{
	va_list list;

	if (quiet)
		return false;
	fprintf(stderr, "WRONG %s: ", path);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	return false;
}

/* Finds which allowed version a unit shows. */
static bool find_version(const struct worker *worker, const struct object *object, int unit, uint32_t *ret_version)
{
	const unsigned char *data = worker->buffer + unit_position(unit);

	*ret_version = object->base[unit];
	if (unit_is(worker, unit, *ret_version, data))
		return true;
	for (int i = object->span_count - 1; i >= 0; i--) {
		const struct span *span = &object->spans[i];

		*ret_version = span->version;
		if (unit >= span->from && unit < span->to && unit_is(worker, unit, *ret_version, data))
			return true;
	}
	return false;
}

static bool check_contents(struct worker *worker, struct object *object, const char *path, bool quiet)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : pread(fd, worker->buffer, sizeof(worker->buffer), 0);
	int size = length < 0 ? -1 : unit_at(length);
	uint32_t version;

	if (length < 0)
		wrong(path, false, "cannot be read: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	if (length < 0)
		return false;
	if (size < object->least || size > object->most)
		return wrong(path, quiet, "has %zd bytes, should have %d to %d", length, unit_position(object->least),
			     unit_position(object->most));
	for (int unit = 0; unit < size; unit++) {
		if (!find_version(worker, object, unit, &version))
			return wrong(path, quiet,
				     "bytes %d to %d show none of the values that were written there "
				     "(must be version %u, %d unsynced)",
				     unit_position(unit), unit_position(unit + 1), object->base[unit],
				     object->span_count);
	}
	if (quiet)
		return true;
	/* What was read once is certain from now on. */
	for (int unit = 0; unit < size; unit++) {
		find_version(worker, object, unit, &version);
		object->base[unit] = version;
	}
	for (int unit = size; unit < MAX_UNITS; unit++)
		object->base[unit] = 0;
	object->least = object->most = object->size = size;
	object->span_count = 0;
	return true;
}

static bool check_object(struct worker *worker, struct object *object, const char *path, bool quiet)
{
	char text[32], wanted[32] = "";
	struct stat st;
	ssize_t length;

	if (lstat(path, &st) < 0)
		return wrong(path, quiet, "%s", strerror(errno));
	if (object->ino && st.st_ino != object->ino)
		return wrong(path, quiet, "is object %lu, should be %lu", (unsigned long)st.st_ino,
			     (unsigned long)object->ino);
	if ((int)st.st_nlink != object->links || S_ISLNK(st.st_mode) != (object->type == 'l'))
		return wrong(path, quiet, "has %d links, should have %d; mode %o", (int)st.st_nlink, object->links,
			     st.st_mode);
	if (object->type == 'l') {
		length = readlink(path, text, sizeof(text) - 1);
		snprintf(wanted, sizeof(wanted), "%u", object->target);
	} else {
		if ((st.st_mode & 07777) != object->mode)
			return wrong(path, quiet, "has mode %o, should have %o", st.st_mode, object->mode);
		length = getxattr(path, "user.v", text, sizeof(text) - 1);
		if (length < 0 && errno == ENODATA)
			length = 0;
		if (object->xattr)
			snprintf(wanted, sizeof(wanted), "%u", object->xattr);
	}
	if (length < 0)
		return wrong(path, quiet, "target or xattr: %s", strerror(errno));
	text[length] = '\0';
	if (strcmp(text, wanted) != 0)
		return wrong(path, quiet, "has target or xattr '%s', should have '%s'", text, wanted);
	object->ino = st.st_ino;
	return object->type == 'l' || check_contents(worker, object, path, quiet);
}

static bool check_dir(struct worker *worker, struct world *world, int dir, bool quiet)
{
	int wanted = 0, found = 0;
	char path[512];
	struct dirent *entry;
	bool good = true;
	DIR *stream;

	name_path(worker, dir, -1, path);
	stream = opendir(path);
	if (!stream)
		return !world->dirs[dir] && errno == ENOENT ? true : wrong(path, quiet, "%s", strerror(errno));
	if (!world->dirs[dir])
		good = wrong(path, quiet, "is there, but should not");
	while ((entry = readdir(stream)))
		found += entry->d_name[0] == 'n';
	closedir(stream);
	for (int name = 0; name < NAMES && good; name++) {
		wanted += world->names[dir][name] != 0;
		name_path(worker, dir, name, path);
		if (world->names[dir][name])
			good = check_object(worker, &world->objects[world->names[dir][name]], path, quiet);
	}
	name_path(worker, dir, -1, path);
	if (good && wanted != found)
		good = wrong(path, quiet, "lists %d names, should list %d", found, wanted);
	return good;
}

static bool check_world(struct worker *worker, struct world *world, bool quiet)
{
	bool good = true;

	for (int dir = 0; dir < DIRS && good; dir++)
		good = check_dir(worker, world, dir, quiet);
	return good;
}

bool worker_check(struct worker *worker)
{
	struct world *other = NULL;
	bool good;

	for (int i = 1; i < OBJECTS; i++) {
		if (worker->world.objects[i].fd >= 0)
			close(worker->world.objects[i].fd);
		worker->world.objects[i].fd = -1;
	}
	if (worker->in_flight) {
		world_maybe(&worker->world, &worker->step);
		if (!check_world(worker, &worker->world, true)) {
			/* Not as before the last step: then as after it. */
			other = malloc(sizeof(*other));
			if (!other)
				abort();
			*other = worker->world;
			world_apply(other, &worker->step, worker->writeback);
			if (check_world(worker, other, true))
				worker->world = *other;
			else
				fprintf(stderr, "neither as before nor as after step %d (dir %d name %d object %d):\n",
					worker->step.kind, worker->step.dir, worker->step.name, worker->step.object);
			free(other);
		}
		worker->in_flight = false;
	}
	good = check_world(worker, &worker->world, false);
	if (!good)
		fprintf(stderr, "worker %d: %s\n", worker->number, worker->dir);
	return good;
}
