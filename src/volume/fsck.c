/* Checking, without changing anything: names against objects with names_lock held shared, so that both stand still; then,
 * where asked for, every block of every file, while work goes on. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include <coffer/util.h>

#include "internal.h"

struct fsck {
	struct volume *v;
	fsck_report *report;
	void *arg;
	struct fsck_result *result;
	struct map links; /* number -> (void *)(names found + 1) */
	uint64_t *dirs;   /* still to be walked */
	size_t dir_count, dir_room;
	bool some_locked;
	int error;       /* of the check itself */
	struct finding { /* told once no lock is held: who listens may be slow */
		struct finding *next;
		char line[512];
	} * findings, **last_finding;
};

static void say(struct fsck *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add_finding(struct fsck *f, const char *line)
{
	struct finding *n = calloc(1, sizeof(*n));

	if (!n) {
		f->error = -ENOMEM;
		return;
	}
	snprintf(n->line, sizeof(n->line), "%s", line);
	*f->last_finding = n;
	f->last_finding = &n->next;
}

static void tell_all(struct fsck *f)
{
	while (f->findings) {
		struct finding *next = f->findings->next;

		f->report(f->arg, f->findings->line);
		free(f->findings);
		f->findings = next;
	}
	f->last_finding = &f->findings;
}

static void say(struct fsck *f, const char *fmt, ...)
{
	char line[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	add_finding(f, line);
	f->result->errors++;
}

static void push_dir(struct fsck *f, uint64_t number)
{
	if (f->dir_count == f->dir_room) {
		size_t room = f->dir_room ? f->dir_room * 2 : 64;
		uint64_t *bigger = realloc(f->dirs, room * sizeof(*bigger));

		if (!bigger) {
			f->error = -ENOMEM;
			return;
		}
		f->dirs = bigger;
		f->dir_room = room;
	}
	f->dirs[f->dir_count++] = number;
}

static void count_link(struct fsck *f, uint64_t number, uintptr_t more)
{
	uintptr_t now_there = (uintptr_t)map_get(&f->links, number);

	if (map_put(&f->links, number, (void *)((now_there ? now_there : 1) + more)) < 0)
		f->error = -ENOMEM;
}

/* ---- one object ---- */
static void check_blocks(struct fsck *f, struct object *o)
{
	uint64_t limit = (o->m->size + BLOCK_SIZE - 1) / BLOCK_SIZE, count = 0, at = 0;

	while (at < limit) {
		uint64_t end;
		int r = tags_seek(f->v, o, at, limit, true, &at);

		if (r == 0 && at < limit) {
			r = tags_seek(f->v, o, at, limit, false, &end);
			if (r == 0)
				count += end - at;
			at = end;
		}
		if (r < 0) {
			say(f, "object %" PRIu64 ": the tags of its blocks are damaged", o->number);
			return;
		}
	}
	f->result->blocks += count;
	if (count != o->m->blocks)
		say(f, "object %" PRIu64 ": %" PRIu64 " blocks are there, its header says %" PRIu64, o->number, count,
		    o->m->blocks);
}

static bool lists_name(const struct meta *m, uint64_t dir, const char *name)
{
	size_t pos = 0, len;
	const char *listed;
	uint64_t listed_dir;

	while (meta_name_next(m, &pos, &listed_dir, &listed, &len))
		if (listed_dir == dir && len == strlen(name) && !memcmp(listed, name, len))
			return true;
	return m->flags & META_NAMES_PARTIAL;
}

static void check_companion(struct fsck *f, struct object *o)
{
	const uint8_t *blob;
	size_t len;

	if (!o->m->companion)
		return;
	count_link(f, o->m->companion, 1);
	int r = xattrs_load(f->v, o, &blob, &len);

	if (r == -EACCES) { /* on its way to another scope when that was locked, or this one */
		f->some_locked = true;
		f->result->locked++;
	} else if (r < 0)
		say(f, "object %" PRIu64 ": its extended attributes are damaged", o->number);
}

/* An object seen for the first time. */
static void check_object(struct fsck *f, struct object *o)
{
	f->result->objects++;
	f->result->bytes += S_ISREG(o->m->mode) ? o->m->size : 0;
	check_blocks(f, o);
	check_companion(f, o);
	if (S_ISDIR(o->m->mode)) {
		f->result->directories++;
		push_dir(f, o->number);
	}
}

static void check_entry(struct fsck *f, uint64_t dir, const char *name, const struct dir_entry *e)
{
	struct object *o;
	bool seen = map_get(&f->links, e->object);
	int r = object_get(f->v, e->object, &o);

	f->result->names++;
	count_link(f, e->object, 1);
	if (r == -EACCES) {
		f->some_locked = true;
		f->result->locked++;
		return;
	}
	if (r < 0) {
		say(f, "object %" PRIu64 ", named '%s' in object %" PRIu64 ": %s", e->object, name, dir,
		    r == -ESTALE ? "is not there" : "is damaged");
		return;
	}
	pthread_rwlock_rdlock(&o->lock);
	if ((o->m->mode & S_IFMT) != e->type)
		say(f, "object %" PRIu64 ", named '%s' in object %" PRIu64 ": is of another kind", e->object, name,
		    dir);
	if (!lists_name(o->m, dir, name))
		say(f, "object %" PRIu64 ": does not list its name '%s' in object %" PRIu64, e->object, name, dir);
	if (!seen)
		check_object(f, o);
	else if (S_ISDIR(o->m->mode))
		say(f, "object %" PRIu64 ": a directory with a second name, '%s' in object %" PRIu64, e->object, name,
		    dir);
	pthread_rwlock_unlock(&o->lock);
	object_put(f->v, o);
}

static uint32_t link_count(struct object *o)
{
	pthread_rwlock_rdlock(&o->lock);
	uint32_t nlink = o->m->nlink;

	pthread_rwlock_unlock(&o->lock);
	return nlink;
}

static void check_dir(struct fsck *f, uint64_t number)
{
	char name[VOLUME_NAME_MAX + 1];
	uint64_t offset = 0, subdirs = 0;
	struct dir_entry e;
	struct object *o;
	int r = dir_get(f->v, number, &o);

	if (r < 0) {
		say(f, "object %" PRIu64 ": the directory cannot be read", number);
		return;
	}
	/* names_lock keeps the entries still; the object's own lock is left alone, since entries may lead anywhere. */
	while (f->error == 0 && (r = dir_next(o, &offset, &e, name)) != -ENOENT) {
		if (atomic_load(&f->v->gate_wanted)) {
			f->error = -EAGAIN;
			break;
		}
		if (r < 0) {
			say(f, "object %" PRIu64 ": block %" PRIu64 " of the directory is damaged", number,
			    offset / BLOCK_SIZE);
			offset = (offset / BLOCK_SIZE + 1) * BLOCK_SIZE;
			continue;
		}
		offset++;
		subdirs += S_ISDIR(e.type);
		check_entry(f, number, name, &e);
	}
	if (f->error == 0 && link_count(o) != 2 + subdirs)
		say(f, "object %" PRIu64 ": its link count is %u, and it has %" PRIu64 " directories", number,
		    link_count(o), subdirs);
	object_put(f->v, o);
}

/* ---- the whole ---- */
/* Names in a directory that is locked are not seen. */
static bool links_are_right(const struct fsck *f, uint32_t links, uintptr_t found)
{
	return f->some_locked ? links >= found : links == found;
}

static void check_links(struct fsck *f)
{
	size_t pos = 0;
	uint64_t number;

	for (void *value; (value = map_next(&f->links, &pos, &number));) {
		uintptr_t found = (uintptr_t)value - 1;
		struct object *o;

		if (object_get(f->v, number, &o) < 0)
			continue; /* said before */
		pthread_rwlock_rdlock(&o->lock);
		bool directory = S_ISDIR(o->m->mode);

		pthread_rwlock_unlock(&o->lock);
		if (!directory && !links_are_right(f, link_count(o), found))
			say(f, "object %" PRIu64 ": its link count is %u, and it has %" PRIuPTR " names", number,
			    link_count(o), found);
		object_put(f->v, o);
	}
}

/* A file below objects/ that no name leads to: kept by an open descriptor, or left by something that went wrong. */
static int check_home(void *arg, uint64_t number)
{
	struct fsck *f = arg;
	char line[128];

	if (map_get(&f->links, number) || !store_exists(f->v->store, number))
		return 0;
	pthread_mutex_lock(&f->v->cache_lock);
	bool held = map_get(&f->v->orphans, number);

	pthread_mutex_unlock(&f->v->cache_lock);
	snprintf(line, sizeof(line), "object %" PRIu64 ": has no name%s", number, held ? "; it is open" : "");
	add_finding(f, line);
	f->result->orphans++;
	return 0;
}

static void check_data(struct fsck *f, uint64_t number)
{
	enum { AT_ONCE = 256 };
	AUTO_FREE uint8_t *plain = malloc((size_t)AT_ONCE * BLOCK_SIZE);
	struct object *o;

	if (!plain || object_get(f->v, number, &o) < 0)
		return;
	pthread_rwlock_rdlock(&o->lock);
	uint64_t blocks = o->removed ? 0 : (o->m->size + BLOCK_SIZE - 1) / BLOCK_SIZE;

	for (uint64_t at = 0, next; at < blocks && !atomic_load(&f->v->gate_wanted); at = next) {
		if (tags_seek(f->v, o, at, blocks, true, &at) < 0 || at >= blocks)
			break; /* damaged tags have been reported */
		unsigned n = blocks - at < AT_ONCE ? (unsigned)(blocks - at) : AT_ONCE;

		next = at + n;
		if (data_read(f->v, NULL, o, at, n, plain) == 0)
			continue;
		for (unsigned i = 0; i < n; i++)
			if (data_read(f->v, NULL, o, at + i, 1, plain) < 0)
				say(f, "object %" PRIu64 ": block %" PRIu64 " is damaged", number, at + i);
	}
	pthread_rwlock_unlock(&o->lock);
	object_put(f->v, o);
}

static void check_structure(struct fsck *f)
{
	struct object *root;

	count_link(f, ROOT_OBJECT, 0);
	int r = object_get(f->v, ROOT_OBJECT, &root);

	if (r == -EACCES) {
		f->result->locked++;
		return;
	}
	if (r < 0) {
		say(f, "object 1, the root directory, is damaged or not there");
		return;
	}
	pthread_rwlock_rdlock(&root->lock);
	check_object(f, root);
	pthread_rwlock_unlock(&root->lock);
	object_put(f->v, root);
	while (f->dir_count && f->error == 0)
		check_dir(f, f->dirs[--f->dir_count]);
	if (f->error == 0)
		check_links(f);
	/* What lies below a locked directory has names that cannot be read. */
	r = f->error || f->some_locked ? 0 : store_each_object(f->v->store, 0, UINT64_MAX, check_home, f);

	if (r == -ENOMEM)
		f->error = r;
	else if (r < 0)
		say(f, "objects without a name cannot all be found: %s", strerror(-r));
}

static void check_names(struct fsck *f)
{
	GATE_SCOPE(f->v);
	pthread_rwlock_rdlock(&f->v->names_lock);
	check_structure(f);
	pthread_rwlock_unlock(&f->v->names_lock);
}

static void check_contents(struct fsck *f, uint64_t number)
{
	GATE_SCOPE(f->v);
	check_data(f, number);
	if (atomic_load(&f->v->gate_wanted)) /* who changes keys does not wait for the rest of a large file */
		f->error = -EAGAIN;
}

int volume_fsck(struct volume *v, bool data, fsck_report *report, void *arg, struct fsck_result *ret)
{
	struct fsck f = { .v = v, .report = report, .arg = arg, .result = ret };
	size_t pos = 0;
	uint64_t number;

	*ret = (struct fsck_result){ 0 };
	f.last_finding = &f.findings;
	check_names(&f);
	tell_all(&f);
	while (data && f.error == 0 && map_next(&f.links, &pos, &number)) {
		check_contents(&f, number);
		tell_all(&f);
	}
	map_free(&f.links);
	free(f.dirs);
	return f.error;
}
