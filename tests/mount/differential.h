/*
 * The differential test: the same random operations on a Coffer mount and on a native file system, compared one by
 * one and as whole trees.
 *
 * The model only guides the choice of operations (which names exist, of what kind); what counts as right is what the
 * native side answers. Everything is drawn from one seeded generator, so a failure repeats with its seed.
 */
#ifndef COFFER_TEST_DIFFERENTIAL_H
#define COFFER_TEST_DIFFERENTIAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

enum { COFFER, NATIVE, SIDES };
enum { MAX_NODES = 2000, FULL_NODES = 1600, MAX_DEPTH = 12, MAX_SLOTS = 8, TEXT = 768 };
enum { MAX_FILE = 6 << 20, MAX_XATTR = 65536, SHOWN = 4 * PATH_MAX };

enum kind { KIND_FILE, KIND_DIR, KIND_SYMLINK, KIND_SPECIAL, KINDS };

struct node {
	int parent;
	int depth;
	int children;
	int position; /* in model.live, -1 when unused */
	enum kind kind;
	char name[NAME_MAX + 1];
};

struct model {
	struct node nodes[MAX_NODES];
	int live[MAX_NODES]; /* node 0 is the root and always live[0] */
	int count;
};

/* An open file that both sides hold, perhaps with its names gone. */
struct slot {
	bool open;
	int fd[SIDES];
};

struct state {
	uint64_t random;
	struct model model;
	struct slot slots[MAX_SLOTS];
	const char *dir[SIDES];
	int root[SIDES];
	time_t started;
};

struct op;

/* Everything about one operation that is the same on both sides. */
struct args {
	const struct op *op;
	int node, other; /* what it works on, -1 where the name is new */
	int parent, other_parent;
	int slot; /* -1: by path */
	enum kind kind;
	char path[PATH_MAX], other_path[PATH_MAX];
	char name[NAME_MAX + 1], other_name[NAME_MAX + 1];
	char key[NAME_MAX + 1];
	char target[1024];
	uint64_t fill;
	off_t offset, other_offset;
	size_t length;
	int flags;
	mode_t mode, umask;
	uid_t uid, as;
	gid_t gid;
	dev_t dev;
	struct timespec times[2];
};

struct result {
	long ret;
	int error;
	char text[TEXT];
};

struct op {
	const char *name;
	int weight;
	bool (*choose)(struct state *state, struct args *args); /* false: not possible now */
	void (*run)(struct state *state, int side, const struct args *args, struct result *); /* once on each side */
	void (*done)(struct state *state, const struct args *args);                           /* both sides succeeded */
};

extern const struct op name_ops[], data_ops[], attr_ops[]; /* each ends with an entry without a name */

/* The generator: splitmix64. */
uint64_t draw(struct state *state);
uint64_t draw_below(struct state *state, uint64_t bound);
bool draw_chance(struct state *state, unsigned percent);

/* The model; functions that pick return -1 when nothing fits. */
void model_init(struct model *model);
int model_add(struct model *model, int parent, enum kind kind, const char *name);
void model_remove(struct model *model, int node);
void model_move(struct model *model, int node, int parent, const char *name);
void model_exchange(struct model *model, int node, int other);
int model_find(const struct model *model, int parent, const char *name);
bool model_path(const struct model *model, int node, const char *name, char path[static PATH_MAX]);
int pick_node(struct state *state, unsigned kinds); /* bits 1 << kind; never the root */
int pick_dir(struct state *state);
int pick_leaf(struct state *state, unsigned kinds);
void draw_name(struct state *state, char name[static NAME_MAX + 1]);
bool choose_node(struct state *state, struct args *args, unsigned kinds);
bool choose_new(struct state *state, struct args *args);
bool choose_other_new(struct state *state, struct args *args);

/* Fills a buffer from a seed; a hash of a buffer. */
void fill_buffer(unsigned char *buffer, size_t length, uint64_t seed);
uint64_t hash_buffer(const unsigned char *buffer, size_t length);

/* "now" for times of the run, the exact value else: explicit times are always drawn far away from now. */
const char *time_text(const struct state *state, const struct timespec *when, char text[static 48]);
void stat_text(const struct state *state, const struct stat *st, char text[static TEXT]);

/* Runs as another user for permission checks: fsuid, fsgid and the capabilities that go with them. */
void become(uid_t uid);

/* A path for people: every odd byte as \xHH, as bash's $'' takes it. */
const char *printable(const char *text, char shown[static SHOWN]);

void result_set(struct result *result, long ret);

/* Compares both trees; rebuilds the model from them where asked. Returns the number of differences, all reported. */
int compare_trees(struct state *state, bool rebuild);

#endif
