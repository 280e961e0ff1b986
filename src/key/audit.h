/* What the files of the audit trail share. Format and order of writes: FORMAT.md. */
#ifndef COFFER_KEY_AUDIT_H
#define COFFER_KEY_AUDIT_H

#include <jansson.h>
#include <limits.h>
#include <pthread.h>

#include <coffer/audit.h>

enum {
	AUDIT_FILE_MAX = 1 << 20,  /* bytes from which on the next lines go to a new file */
	AUDIT_READ_MAX = 16 << 20, /* a file larger than that is none of ours */
	AUDIT_BATCH = 16,          /* events written in one go */
	AUDIT_PLACE_SIZE = 16,
	AUDIT_HEAD_STEP = 4096, /* bytes: heads are padded to it, so that lengths do not show */
	AUDIT_HEAD_MAX = 1 << 20,
};

struct audit {
	pthread_mutex_t lock;
	struct secret *line_key; /* NULL: nothing can be checked */
	struct aead *head_key;
	int backing_fd;
	bool read_only, accept;
	unsigned keep;
	size_t file_max; /* AUDIT_FILE_MAX but in tests */
	uint8_t place[AUDIT_PLACE_SIZE];
	char where[2 * PATH_MAX]; /* for people: host and directory */
	char *dir;                /* of the lines */
};

/* ---- lines: audit_line.c ---- */
struct audit_position { /* of a line in the chain; number 0: before the first */
	uint64_t number;
	uint8_t mac[MAC_SIZE];
};
struct audit_line {
	struct audit_position at;
	uint8_t previous[MAC_SIZE];
	bool headless; /* no head goes with it */
	uint64_t head; /* then: the number at the last head, 0: none */
	json_t *json;  /* owned */
};
void audit_line_end(struct audit_line *l);
/* Parses one line without its line feed. -EBADMSG: not authentic. */
int audit_line_parse(const struct audit *a, const char *text, size_t len, struct audit_line *ret);
/* Appends a line to `text` (realloc'ed) and moves `at` on. Consumes a reference of `fields`. */
struct audit_batch {
	char *text; /* owned */
	size_t len;
};
int audit_line_add(const struct audit *a, struct audit_batch *b, struct audit_position *at, json_t *fields);
json_t *audit_fields(const struct audit_event *e); /* NULL: no memory */

/* ---- the head: audit_head.c ---- */
enum audit_head_state { HEAD_NONE = 0, HEAD_PENDING = 1, HEAD_SETTLED = 2 /* on disk */, HEAD_BAD = 3 };
struct audit_head {
	enum audit_head_state state;
	uint8_t place[AUDIT_PLACE_SIZE];
	struct audit_batch lines;     /* the last that were written, or are being written; owned */
	struct audit_position before; /* them */
	struct audit_position last;
};
void audit_head_end(struct audit_head *h);
int audit_head_load(struct audit *a, struct audit_head *ret);
int audit_head_store(struct audit *a, enum audit_head_state state, const struct audit_batch *lines);
/* The part of the head's lines that comes after `at`. NULL: `at` is neither one of them nor just before them. */
const char *audit_head_after(const struct audit *a, const struct audit_head *h, const struct audit_position *at);

/* ---- files: audit_files.c. A file is called by the number of its first line ---- */
enum { AUDIT_FILE_NAME = 32 };
void audit_file_name(uint64_t first, char out[static AUDIT_FILE_NAME]);
struct audit_files {
	uint64_t *first; /* ascending; owned */
	size_t count;
};
void audit_files_end(struct audit_files *f);
int audit_files_list(int dir, struct audit_files *ret);
struct audit_tail {                 /* where the lines end */
	struct audit_position last; /* the last authentic line */
	bool headless;              /* what it says, as in audit_line */
	uint64_t head;
	uint64_t file; /* the last file; 0: none */
	size_t valid;  /* its bytes up to the end of the last authentic line */
	char *rest;    /* what follows them; owned */
	size_t rest_len;
};
void audit_tail_end(struct audit_tail *t);
int audit_tail_find(const struct audit *a, int dir, const struct audit_files *f, struct audit_tail *ret);

/* ---- how lines and head go together: audit.c ---- */
enum audit_relation {
	AUDIT_NEW,           /* neither is there */
	AUDIT_AGREE,         /* the last line is the same */
	AUDIT_UNFINISHED,    /* the head's lines were not all appended: a stop in between */
	AUDIT_HEADLESS,      /* lines that say themselves that no head goes with them follow on the head's */
	AUDIT_ELSEWHERE,     /* the head was last written on another host, or for another directory */
	AUDIT_LINES_MISSING, /* at the end */
	AUDIT_HEAD_MISSING,  /* or not authentic */
	AUDIT_HEAD_OLDER,
};
enum audit_relation audit_relate(const struct audit *a, const struct audit_head *h, const struct audit_tail *t);
/* Whether the rest of the last file is what a stop leaves of an append: a part of the head's lines, the bytes of which are
 * there or zero. */
bool audit_rest_is_unfinished(const struct audit *a, const struct audit_head *h, const struct audit_tail *t);
/* Opens the directory of the lines, and takes its lock, which closing *ret_lock gives back. */
int audit_lock(const struct audit *a, bool make, int *ret_dir, int *ret_lock);

#endif
