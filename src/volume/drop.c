/* Has the kernel let go of what it holds of a scope: dirty pages are written while the keys are still in hand, and then pages,
 * attributes and names go. That waits for the kernel, which waits for requests to be answered: no lock that those need is held, but
 * key_lock, which no request takes.
 */
#include <errno.h>
#include <inttypes.h>
#include <time.h>

#include <coffer/util.h>

#include "keeper.h"

struct drop {
	struct kernel_cache kernel;
	struct kernel_item *items;
	size_t count, room;
	pthread_t thread;
	bool runs;
};

static void drop_free(struct drop *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->count; i++) {
		if (d->items[i].name)
			wipe(d->items[i].name, strlen(d->items[i].name));
		free(d->items[i].name);
	}
	free(d->items);
	free(d);
}

/* Without memory for an item it is left out: its keys are wiped all the same. */
static void add(struct drop *d, uint64_t object, uint64_t dir, char *name)
{
	if (d->count == d->room) {
		size_t room = d->room ? 2 * d->room : 256;
		struct kernel_item *more = realloc(d->items, room * sizeof(*more));

		if (!more) {
			free(name);
			return;
		}
		d->items = more;
		d->room = room;
	}
	d->items[d->count++] = (struct kernel_item){ object, dir, name };
}

/* Every object that the kernel refers to. The root is there without a reference. */
static uint64_t *referenced(struct volume *v, size_t *ret_count)
{
	LOCK_SCOPE(&v->cache_lock);
	uint64_t *numbers = malloc((v->lookups.count + 1) * sizeof(*numbers)), number;
	size_t pos = 0, count = 0;

	if (numbers)
		numbers[count++] = ROOT_OBJECT;
	while (numbers && map_next(&v->lookups, &pos, &number))
		numbers[count++] = number;
	*ret_count = count;
	return numbers;
}

static void add_names(struct volume *v, struct drop *d, uint64_t number)
{
	struct object *o;
	size_t pos = 0, len;
	const char *name;
	uint64_t dir;

	if (object_get_flushing(v, number, &o) < 0)
		return;
	pthread_rwlock_rdlock(&o->lock);
	while (meta_name_next(o->m, &pos, &dir, &name, &len)) {
		char *copy = strndup(name, len);

		if (copy)
			add(d, number, dir, copy);
	}
	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
}

static struct drop *collect(struct volume *v, uint32_t scope, bool names)
{
	struct drop *d = calloc(1, sizeof(*d));
	size_t count = 0;
	AUTO_FREE uint64_t *numbers = d ? referenced(v, &count) : NULL;
	GATE_SCOPE(v);
	size_t mine = 0;

	/* Pages first: they are what must be written. */
	for (size_t i = 0; i < count; i++) {
		struct prologue p;

		if (object_peek(v, numbers[i], &p) < 0 || !prologue_needs(&p, scope))
			continue;
		add(d, numbers[i], 0, NULL);
		numbers[mine++] = numbers[i];
	}
	for (size_t i = 0; names && i < mine; i++)
		add_names(v, d, numbers[i]);
	if (d)
		d->kernel = v->keeper.kernel;
	return d;
}

/* Of what is known not to be a regular file the kernel has no pages that wait. */
static bool may_have_content(struct volume *v, uint64_t number)
{
	GATE_SCOPE(v);
	struct object *o;

	if (!object_is_cached(v, number) || object_get(v, number, &o) < 0)
		return true;
	pthread_rwlock_rdlock(&o->lock);
	bool regular = S_ISREG(o->m->mode);

	pthread_rwlock_unlock(&o->lock);
	object_put(v, o);
	return regular;
}

static void *run_drop(void *arg)
{
	struct drop *d = arg;

	d->kernel.drop(d->kernel.arg, d->items, d->count);
	return NULL;
}

struct drop *drop_start(struct volume *v, uint32_t scope)
{
	struct drop *d = v->keeper.kernel.drop ? collect(v, scope, true) : NULL;

	if (d)
		d->runs = pthread_create(&d->thread, NULL, run_drop, d) == 0;
	return d;
}

void drop_wait(struct drop *d, unsigned seconds)
{
	struct timespec until;

	if (!d || !d->runs)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	d->runs = pthread_timedjoin_np(d->thread, NULL, &until) != 0;
	if (d->runs)
		log_warning(
			"not all that was written to a scope got to the volume before it was locked: what is left is lost, and fsync says so");
}

/* Whatever the kernel still writes is refused by now, so this ends. What it learned while the scope was flushed goes, too. */
void drop_finish(struct volume *v, uint32_t scope, struct drop *d)
{
	if (d && d->runs)
		pthread_join(d->thread, NULL);
	drop_free(d);
	d = v->keeper.kernel.drop ? collect(v, scope, false) : NULL;
	if (d)
		run_drop(d);
	drop_free(d);
}

void volume_flush_kernel(struct volume *v)
{
	struct drop *d = v->keeper.kernel.drop ? calloc(1, sizeof(*d)) : NULL;
	size_t count = 0;
	AUTO_FREE uint64_t *numbers = d ? referenced(v, &count) : NULL;

	if (!d)
		return;
	d->kernel = v->keeper.kernel;
	for (size_t i = 0; i < count; i++)
		if (may_have_content(v, numbers[i]))
			add(d, numbers[i], 0, NULL);
	run_drop(d);
	drop_free(d);
}
