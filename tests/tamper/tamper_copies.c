/* Copies of the volume, each changed in many places before it is read: each change on an object of its own. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <coffer/util.h>

#include "tamper.h"

/* Copies of the volume that are being changed, and what was done to each. */
enum { COPIES = 256 };
static struct copy {
	char path[PATH_MAX];
	struct damage damage[NODES];
} * copies[COPIES];
static unsigned copy_count;
static struct copy *copy; /* where a node was last taken */

const char *copy_path(void)
{
	return copy->path;
}

void run_copies(void)
{
	for (unsigned i = 0; i < copy_count; i++) {
		memcpy(shared->damage, copies[i]->damage, sizeof(shared->damage));
		run_copy(copies[i]->path, "objects");
		remove_tree(copies[i]->path);
		free(copies[i]);
	}
	copy_count = 0;
	copy = NULL;
}

static void begin(void)
{
	if (copy_count == COPIES)
		run_copies();
	copy = calloc(1, sizeof(*copy));
	must(copy, "memory");
	snprintf(copy->path, sizeof(copy->path), "%s", fresh_copy(setup.world));
	copies[copy_count++] = copy;
}

/* A node of that kind and variant (any: -1; those alike modulo `step`) that nothing was done to yet in the current copy. */
static int find_node(enum kind kind, int variant, int step, int but)
{
	for (int i = 0; i < (int)shared->count; i++) {
		const struct node *n = &shared->nodes[i];

		if (n->kind == kind && i != but && !copy->damage[i].used && !(kind == K_SMALL && n->variant == 0) &&
		    (variant < 0 || (int)n->variant % step == variant))
			return i;
	}
	return -1;
}

void take_two(enum kind kind, int variant, int step, int *a, int *b)
{
	bool fresh = false;

	for (unsigned i = 0;; i++) {
		if (i >= copy_count) {
			must(!fresh, "a node to be changed");
			begin();
			fresh = true;
			i = copy_count - 1;
		}
		copy = copies[i];
		*a = find_node(kind, variant, step, -1);
		if (*a >= 0 && b)
			*b = find_node(kind, variant, step, *a);
		if (*a >= 0 && (!b || *b >= 0))
			break;
	}
	copy->damage[*a].used = true;
	if (b)
		copy->damage[*b].used = true;
}

int take(enum kind kind, int variant, int step)
{
	int a;

	take_two(kind, variant, step, &a, NULL);
	return a;
}

void path_in(const char *volume, int node, bool companion, char out[static PATH_MAX])
{
	const struct node *n = &shared->nodes[node];

	backing_path(volume, companion ? n->companion : n->number, out);
}

struct spot open_spot(const char *volume, int node, bool companion, uint64_t off)
{
	const struct node *n = &shared->nodes[node];
	uint64_t number = companion ? n->companion : n->number;
	bool header = off < BLOCK_SIZE;
	char path[PATH_MAX];

	(header ? headers_path : backing_path)(volume, number, path);
	struct spot s = { open(path, O_RDWR | O_CLOEXEC), (off_t)off + (header ? header_place(number) : 0) };

	must(s.fd >= 0, path);
	return s;
}

void done(int node, bool companion, const char *label, const char *what)
{
	struct damage *d = &copy->damage[node];

	shared->damage[node] = *d;
	add_damage(node, companion, setup.world, copy->path);
	*d = shared->damage[node];
	snprintf(d->label, sizeof(d->label), "%s%s, %s", companion ? "companion's " : "", label, what);
	setup.cases++;
}

void apply(struct spot where, size_t len, enum op op)
{
	uint8_t *bytes = malloc(len);

	must(bytes, "memory");
	memset(bytes, 0, len);
	must(pread(where.fd, bytes, len, where.at) >= 0, "reading a backing file");
	if (op == FLIP)
		bytes[len / 2] ^= (uint8_t)(1 << setup.cases % 8);
	else if (op == NOISE)
		for (size_t i = 0; i < len; i++)
			bytes[i] ^= (uint8_t)(i * 37 + 11);
	else
		memset(bytes, op == ZERO ? 0 : 0xff, len);
	must(pwrite_all(where.fd, bytes, len, where.at) == 0, "writing a backing file");
	close(where.fd);
	free(bytes);
}
