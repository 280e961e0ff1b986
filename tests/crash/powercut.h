/*
 * The power-cut test. The daemon runs under a recorder (powercut_record.c, preloaded), which appends every change and every
 * sync of a file system of the test's own to a trace; workers use the mount and append what they do, and what was answered,
 * to the same trace. Then the trace is cut at a record: powercut_disk.c rebuilds what the disk may hold, the volume is
 * mounted, and powercut_model.c compares it with what had been answered before the cut.
 */
#ifndef COFFER_TEST_POWERCUT_H
#define COFFER_TEST_POWERCUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- the trace: records, each appended by one write, so the file's order is the order of events ---- */
enum { TRACE_MAGIC = 0x54554350 };
enum trace_kind {
	TRACE_CREATE = 1, /* a: directory, b: inode; name */
	TRACE_MKDIR,      /* a: directory, b: inode; name */
	TRACE_UNLINK,     /* a: directory; name. Directories too */
	TRACE_RENAME,     /* a, b: directories, c: inode; both names, NUL between them */
	TRACE_WRITE,      /* a: inode, b: offset; data */
	TRACE_TRUNCATE,   /* a: inode, b: size */
	TRACE_PUNCH,      /* a: inode, b: offset, c: length */
	TRACE_ALLOCATE,   /* a: inode, b: offset, c: length, d: whether the file grows */
	TRACE_SYNC,       /* a: its number, b: inode, c: of the whole file system */
	TRACE_SYNCED,     /* a: its number: it has ended */
	TRACE_UNKNOWN,    /* a call that the simulation does not know; name */
	TRACE_BEGIN,      /* of an operation: struct op */
	TRACE_END,        /* the same, done; what it found out is filled in */
	TRACE_EVENT,      /* a: enum event */
};
struct trace_record {
	uint32_t magic, kind;
	uint64_t a, b, c, d;
	uint32_t name_len, data_len; /* bytes that follow */
};

/* What the recorder and the test share: a small file that both map. */
struct shared {
	pthread_mutex_t lock; /* held around each change and its record: nobody is killed between the two */
	uint64_t syncs;       /* numbers given to syncs */
	uint32_t delay_us;    /* syncs take up to so much longer */
	uint32_t btrfs;       /* the file system says that it is btrfs */
	uint64_t free_bytes;  /* and that so much is free */
};

/* ---- operations ---- */
enum { BLOCK = 4096, DIRS = 4, NAMES = 6, MAX_BLOCKS = 300, MAX_FILES = 2048, WORKERS = 3 };
enum op_kind {
	OP_CREATE,   /* dir, name -> file */
	OP_TMPFILE,  /* dir -> file without a name, linked later or never */
	OP_WRITE,    /* file, off, len, seed */
	OP_TRUNCATE, /* file, len */
	OP_PUNCH,    /* file, off, len */
	OP_ALLOCATE, /* file, off, len */
	OP_XATTR,    /* file, len (0: remove), seed */
	OP_UNLINK,   /* dir, name */
	OP_RENAME,   /* dir, name -> dir2, name2 */
	OP_EXCHANGE, /* the same */
	OP_LINK,     /* file -> dir2, name2 */
	OP_MKDIR,    /* dir */
	OP_RMDIR,
	OP_SYNC,     /* file; len 1: fdatasync */
	OP_SYNC_DIR, /* dir */
	OP_CLOSE,    /* file: the handle that was kept */
	OP_KINDS
};
struct op {
	uint32_t kind, worker, number;
	int32_t file, file2, dir, name, dir2, name2; /* file2: what a name was taken from, or -1 */
	uint64_t off, len, seed;
	uint64_t ino; /* of what was made, in the end's record */
};
enum event { EVENT_CREATED = 1, EVENT_READY, EVENT_MOUNTED, EVENT_UNMOUNTED, EVENT_KILLED };

/* ---- powercut_model.c: what a worker's directory may look like ---- */
struct version {
	uint64_t hash; /* of the block */
	uint32_t op;
};
struct block_model {
	struct version *versions; /* all it ever had; the last is the newest */
	uint32_t count, size;
	uint32_t since; /* the first that may still be read */
};
struct file_model {
	uint64_t ino; /* 0: not known, its creation was not answered */
	unsigned char *content;
	uint64_t size, size_min, size_max;
	uint32_t blocks; /* that ever had content */
	struct block_model block[MAX_BLOCKS];
	struct version *xattrs;
	uint32_t xattr_count, xattr_size, xattr_since;
	int links;
};
struct names {
	bool dirs[DIRS]; /* the first is the worker's own */
	int32_t at[DIRS][NAMES];
};
struct world {
	struct names now, synced;
	struct file_model *files[MAX_FILES];
	int file_count;
	struct op *since; /* changes of names since `synced` */
	uint32_t since_count, since_size;
	struct op syncing; /* the sync under way */
};
void world_init(struct world *w);
void world_free(struct world *w);
void world_begin(struct world *w, const struct op *op);
void world_end(struct world *w, const struct op *op);
void world_synced(struct world *w); /* all of it */
/* Compares the mounted volume with a world; false, and said why, if it is not what it may be. */
bool world_check(const struct world *w, const char *mnt, int worker);
void fill_pattern(uint64_t seed, uint64_t off, unsigned char *data, size_t len);
void object_path(char *out, size_t size, const char *mnt, int worker, int dir, int name);

/* ---- powercut_work.c ---- */
struct worker {
	int number;
	uint64_t random;
	uint32_t next_op;
	int ops;             /* to do */
	const uint8_t *plan; /* kinds of operations to do next to one file, ended by OP_KINDS; NULL: as it comes */
	int32_t plan_file;
	struct world world;
	int fds[MAX_FILES]; /* kept open, -1: not */
	char mnt[256];
	int trace_fd;
	bool failed, writeback;
	unsigned char *buffer;
};
void worker_setup(struct worker *w);
bool worker_run(struct worker *w, int ops);
void worker_close(struct worker *w);

/* ---- powercut_disk.c, powercut_cut.c: what a disk may hold after a cut ---- */
enum disk_model {
	DISK_ORDERED, /* metadata is a prefix in order; syncing a new file makes its name durable (ext4, xfs) */
	DISK_STRICT, /* names are a prefix in order, made durable by their directory's sync alone; files' own metadata apart */
	DISK_SUBSET, /* any subset of the metadata that no sync covers (btrfs) */
	DISK_MODELS
};
struct disk;
/* `whole`: pages are never torn. */
struct disk *disk_new(enum disk_model model, bool whole, uint64_t root_ino);
void disk_free(struct disk *d);
int disk_load(struct disk *d, const char *root); /* takes what is there as durable */
void disk_apply(struct disk *d, uint64_t index, const struct trace_record *r, const unsigned char *payload);
/* Writes what the disk may hold now to `root`, which is empty. `everything`: nothing was lost. */
int disk_build(struct disk *d, uint64_t seed, bool everything, const char *root);

/* ---- powercut_run.c: the program under test, its file system, its trace ---- */
struct setup {
	const char *coffer, *library, *create, *options;
	char root[256], backing[300], mnt[256], trace[256], second_trace[256], shared_path[256], log[256], config[256];
	struct shared *shared;
	off_t log_start; /* of what the last daemon wrote to the log */
};
int setup_start(struct setup *s, const char *work);
/* Runs the program: `recorded` is the trace, or NULL. Returns its exit code, -1: it could not be run. */
int run_coffer(struct setup *s, const char *recorded, const char *const argv[]);
pid_t start_daemon(struct setup *s, const char *recorded);
/* Waits until the mount works: 0, or the daemon's exit code. */
int wait_mounted(struct setup *s, pid_t daemon);
int end_daemon(struct setup *s, pid_t daemon); /* unmounts; its exit code */
void kill_daemon(struct setup *s, pid_t daemon);
void say_log(const struct setup *s);
int count_in_log(const struct setup *s, const char *what); /* lines of what the daemons said that hold it */
int empty_dir(const char *path);
int reset_trace(const char *path);

struct trace {
	unsigned char *data;
	size_t size;
	size_t *records; /* where each begins */
	uint64_t count;
};
int trace_read(struct trace *t, const char *path);
void trace_free(struct trace *t);
static inline const struct trace_record *trace_at(const struct trace *t, uint64_t i)
{
	return (const struct trace_record *)(const void *)(t->data + t->records[i]);
}
static inline const unsigned char *trace_payload(const struct trace *t, uint64_t i)
{
	return t->data + t->records[i] + sizeof(struct trace_record);
}

/* ---- powercut_check.c ---- */
struct checks {
	uint64_t seed;
	int cuts, only; /* only: the one cut to make, or -1 */
	enum disk_model model;
	bool whole_pages;
	const char *keep; /* where a state that failed is copied to, or NULL */
	int passed, failed;
};
/* Cuts the trace that was recorded. */
int check_cuts(struct setup *s, struct checks *c, bool recorded); /* recorded: just now */

/* ---- helpers ---- */
uint64_t next_random(uint64_t *state);
uint64_t below(uint64_t *state, uint64_t n);
int trace_append(int fd, uint32_t kind, uint64_t a, const void *data, size_t len);

#endif
