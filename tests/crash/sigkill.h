/*
 * The SIGKILL test: workers use a mount, each in a directory of its own, and remember what was acknowledged; the daemon
 * is killed at a random moment; on the next mount each worker compares.
 *
 * A worker's knowledge of its directory is a struct world. Contents are counted in units: the pieces that a file falls
 * into when it is cut at every multiple of 96 and of 4096 bytes. So writes begin and end anywhere in a block, and
 * each unit lies in one block, whose old or new value it must show after a kill, as a whole.
 */
#ifndef COFFER_TEST_SIGKILL_H
#define COFFER_TEST_SIGKILL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { CELL = 96, BLOCK = 4096, GROUP = 12288 /* their least common multiple */, GROUP_UNITS = 130 };
enum { MAX_GROUPS = 110, MAX_UNITS = MAX_GROUPS * GROUP_UNITS, MAX_SIZE = MAX_GROUPS * GROUP };
enum { DIRS = 4, NAMES = 14, OBJECTS = DIRS * NAMES + 8, UNSYNCED = 64, ORPHANS = 6 };

/* A write that the write-back cache may still hold: the units show it or what was there before. */
struct span {
	int from, to;
	uint32_t version;
};

struct object {
	char type; /* '\0' unused, 'f' file, 'l' symlink */
	int links;
	int fd; /* -1: not open */
	ino_t ino;
	mode_t mode;
	uint32_t xattr;        /* version of its user.v, 0: none */
	uint32_t target;       /* of a symlink */
	int least, most, size; /* in units: what may be on the volume, and what the running mount shows */
	int span_count;
	struct span spans[UNSYNCED];
	uint32_t base[MAX_UNITS]; /* version that must be there, unless a span covers the unit; 0: zeros */
};

struct world {
	bool dirs[DIRS]; /* the first is the worker's own, always there */
	int names[DIRS][NAMES];
	struct object objects[OBJECTS]; /* number 0 is never used: no object */
};

enum kind {
	CREATE,
	TMPFILE,
	WRITE,
	DIRECT,
	SYNC,
	TRUNCATE,
	PUNCH,
	UNLINK,
	RENAME,
	EXCHANGE,
	LINK,
	SYMLINK,
	MKDIR,
	RMDIR,
	CHMOD,
	XATTR,
	READ,
	KINDS
};

/* One operation, enough to do it and to know its effect. */
struct step {
	enum kind kind;
	int dir, name, dir2, name2;
	int object;
	int from, to; /* units */
	uint32_t version;
	mode_t mode;
	ino_t ino; /* found out when it was done */
};

struct worker {
	int number;
	uint64_t random;
	uint32_t version;
	bool writeback; /* write(2) alone does not reach the daemon */
	char dir[256];
	struct world world;
	bool in_flight; /* step was begun, but not acknowledged */
	struct step step;
	int emptied;          /* a directory on its way to be removed, 0: none */
	int orphans[ORPHANS]; /* open files without a name, -1: none */
	long steps[KINDS];
	unsigned char buffer[MAX_SIZE + BLOCK] __attribute__((aligned(BLOCK)));
};

extern volatile bool stopping; /* set before the daemon is killed: from now on system calls may fail */

/* Byte position of the begin of a unit; the unit that begins at a position, -1 if none does. */
int unit_position(int unit);
int unit_at(off_t position);

void unit_fill(const struct worker *worker, int unit, uint32_t version, unsigned char *data);
bool unit_is(const struct worker *worker, int unit, uint32_t version, const unsigned char *data);

/* What the running mount must show. */
uint32_t unit_latest(const struct object *object, int unit);

/* An acknowledged step's effect, and that of one in flight that leaves either value. */
void world_apply(struct world *world, const struct step *step, bool writeback);
void world_maybe(struct world *world, const struct step *step);

/* Works until stopping is set and something fails, or it is seen set; false: something failed before. */
bool worker_run(struct worker *worker);

/* Compares the directory with what was acknowledged and takes over what it found; false: reported what is wrong. */
bool worker_check(struct worker *worker);

/* Removes everything in the worker's directory. */
bool worker_clear(struct worker *worker);

void name_path(const struct worker *worker, int dir, int name, char path[static 512]);

#endif
