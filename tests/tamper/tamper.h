/* The tamper test: a small volume of which everything is known; copies of it, changed below in all manners; and what opening
 * and reading them gives, which is the truth or an error.
 *
 * The volume layer is called directly. Each opening of a volume is a process of its own, so that a crash or a hang is an
 * outcome like any other, and nothing is cached from one to the next. What the processes share lies in `shared`.
 */
#ifndef COFFER_TEST_TAMPER_H
#define COFFER_TEST_TAMPER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <coffer/volume.h>

enum {
	NODES = 640,
	RUNS = 6,
	RANGES = 16,
	DIR_ENTRIES = 60,
	DIR_NAME = 200,                     /* bytes of a name in a large directory */
	PER_BLOCK = 4096 / (12 + DIR_NAME), /* such entries in one of its blocks */
	BIG_XATTR = 60000,                  /* bytes: in a companion object */
	LONG_TARGET = 3000,                 /* bytes: a data block of the symlink */
	HANG_SECONDS = 120,
};
#define LARGE_MARK 41 /* a block of every large file that is part of a long write */

/* K_WORK: a directory in which tests make what they like. */
enum kind { K_ROOT, K_SMALL, K_LARGE, K_MAP, K_XATTR, K_LINK, K_SPECIAL, K_ALIAS, K_DIR, K_ENTRY, K_WORK, KINDS };

struct run {
	uint64_t first, count; /* blocks */
};

/* An object (or, K_ALIAS, another name of one) as it must be. */
struct node {
	enum kind kind;
	unsigned variant;
	int parent;         /* index; the root is its own */
	unsigned dir_block; /* of the parent, that holds the entry, where it is a large directory */
	int alias_of;
	char name[VOLUME_NAME_MAX + 1];
	mode_t mode;
	dev_t rdev;
	uint64_t size; /* of a regular file */
	struct run runs[RUNS];
	unsigned run_count;
	bool inline_xattr, big_xattr;
	/* found when the volume was made */
	uint64_t number, companion;
	struct stat st;
};

/* What was done to a node, and what may come of it. Ranges are of blocks. */
struct damage {
	bool used;    /* something was done to it, perhaps without effect */
	bool whole;   /* nothing of it need be readable */
	bool xattrs;  /* its extended attributes need not be */
	bool maps;    /* where its holes are need not be */
	bool noticed; /* something of it must be an error */
	struct {
		uint64_t first, end;
		bool garbage; /* no integrity: may read as anything */
	} ranges[RANGES];
	unsigned range_count;
	char label[160];
};

struct outcome {
	unsigned wrong, errors; /* answers that were neither true nor errors; errors */
	char first[200];        /* the first wrong answer, or error where none may be */
};

struct shared {
	struct node nodes[NODES];
	unsigned count;
	struct damage damage[NODES];
	struct outcome outcome[NODES];
	int open_error, close_error;
	struct fsck_result fsck;
	bool reported[NODES]; /* fsck named the object, or its companion */
	int fsck_error;
	unsigned log_first, log_last; /* the range of states that fits, see tamper_log.c */
	uint64_t appended;            /* object number, in tamper_log.c */
	char text[400];
};
extern struct shared *shared;

struct setup {
	const char *dir; /* scratch */
	char state[PATH_MAX], world[PATH_MAX], foreign[PATH_MAX];
	enum suite suite;
	bool full;
	const char *only; /* part of the labels of the cases to run; NULL: all */
	unsigned long cases, failed, opened;
};
extern struct setup setup;

/* ---- tamper.c ---- */
void bad(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* counts and prints a failure */
void must(bool ok, const char *what);                                 /* gives up: the test itself is broken */
/* Runs `call` in a process of its own. False, and a failure is counted, if it crashed or hung. */
bool apart(const char *label, void (*call)(void *arg), void *arg);
const char *fresh_copy(const char *from); /* of a volume; its path is new, and lies in static memory */
void remove_tree(const char *path);
int open_volume(const char *path, bool read_only, struct volume **ret);
bool wanted(const char *label);

/* ---- tamper_world.c ---- */
void plan_world(void);
void make_world(void *path); /* to be run apart */
bool has_block(const struct node *n, uint64_t block);
void content_of(unsigned node, uint64_t block, uint8_t out[static 4096]);
size_t xattr_of(unsigned node, bool big, uint8_t out[static BIG_XATTR]);
void target_of(const struct node *n, char out[static LONG_TARGET + 1]);
/* Where an object is below: its own file, of all pages but the first; and the file that has its header, and where. */
void backing_path(const char *volume, uint64_t number, char out[static PATH_MAX]);
void headers_path(const char *volume, uint64_t number, char out[static PATH_MAX]);
off_t header_place(uint64_t number);

/* ---- tamper_check.c: in a process of its own, on an open volume ---- */
void check_world(struct volume *v, bool exact); /* exact: times and sizes of directories, too */
void check_file(struct volume *v, unsigned node, uint64_t number);
void touch_world(struct volume *v); /* changes, among them of what is damaged, that change nothing of the truth */

/* ---- tamper_batch.c ---- */
/* Reads a changed copy in all ways: read-only, checked, writable, changed, again; then holds the outcome against `damage`. */
void run_copy(const char *path, const char *label);
/* Same, but it may refuse to be changed. */
void run_reading(const char *path, const char *label);
/* Same, for a change after which everything may be refused, but nothing be untrue. */
void run_refusable(const char *path, const char *label);
void clear_damage(void);
void add_damage(int node, bool companion, const char *before,
		const char *after); /* compares two volumes' files of it */
void lose(int node, bool noticed);

/* ---- tamper_copies.c: many changes to a copy ---- */
enum op { FLIP, ZERO, ONES, NOISE, OP_KINDS };
static inline uint64_t at_page(uint64_t page)
{
	return page * 4096;
}
/* Where a byte of an object lies: that many bytes into its pages. */
struct spot {
	int fd; /* to be closed */
	off_t at;
};
/* One or two nodes (`b` may be NULL) that nothing was done to, in the first copy that has them. Of that kind and variant; any:
 * -1; those alike modulo `step`. */
void take_two(enum kind kind, int variant, int step, int *a, int *b);
int take(enum kind kind, int variant, int step);
const char *copy_path(void);                                                           /* where a node was last taken */
void path_in(const char *volume, int node, bool companion, char out[static PATH_MAX]); /* its own file */
struct spot open_spot(const char *volume, int node, bool companion, uint64_t off);
void apply(struct spot where, size_t len, enum op op); /* and closes it */
void done(int node, bool companion, const char *label,
	  const char *what); /* finds what a change touches, and names it */
void run_copies(void);

/* ---- tamper_scenes.c ---- */
/* One change, made by a shell in a copy. $A and $B are the headers of the first folder (of the root, too) and of the second;
 * $FOREIGN is the other volume, `header VOLUME N` gives a header; $OTHER and $SAVED: see tamper_log.c. */
struct scene {
	const char *label, *script;
	enum {
		HARMLESS,
		COMPARED,         /* what it touches is found by comparing files */
		COMPARED_READING, /* and changes may be refused */
		REFUSABLE,        /* everything may be */
	} outcome;
	int orphans; /* that fsck finds; -1: whatever */
};
void run_scenes(const char *prefix, const struct scene *scenes, size_t count);
void run_script(const char *path, const char *script);
void find_damage(const char *path); /* of all nodes */

/* ---- what is tried ---- */
void tamper_files(void);
void tamper_folders(void);
void tamper_objects(void);
void tamper_headers(void);
void tamper_volume(void);
void tamper_log(void);

#endif
