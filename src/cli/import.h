/* What the files of `coffer import` share: import.c (the command, the tree), import_object.c, import_file.c (contents), import_attributes.c,
 * import_progress.c. One thread. */
#ifndef COFFER_IMPORT_H
#define COFFER_IMPORT_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <coffer/exit.h>
#include <coffer/map.h>

enum { IMPORT_CHUNK = 8 << 20 /* bytes that are written and read back at a time */ };
#define IMPORT_STATX (STATX_BASIC_STATS | STATX_MNT_ID)

struct import_count {
	uint64_t objects, bytes; /* names; bytes of content that are no holes */
};

struct import {
	int root; /* the copy's: where names in `links` begin */
	bool across_mounts;
	dev_t volume;              /* is never gone into */
	char path[PATH_MAX];       /* of what is looked at; where the tree is deeper than that, its beginning */
	size_t path_len, root_len; /* as if there were room */
	struct map links;          /* of files with several names: inode number -> struct import_link */
	uint8_t *data, *back;      /* IMPORT_CHUNK bytes each, aligned */

	struct import_count all, copied,
		there;       /* in the tree (counted for a terminal only), copied now, there before */
	uint64_t not_taken;  /* has been listed */
	enum exit_code stop; /* not EXIT_DONE: the volume failed, nothing more is tried */

	bool terminal;
	int64_t began, shown; /* clock_ms() */
};
extern volatile sig_atomic_t import_interrupted;

/* Something that is there by its path; `follow`: the path is of an open file, and leads to it. */
struct node {
	char path[64 + NAME_MAX + 1];
	bool follow;
};
void node_of_name(struct node *n, int dir, const char *name);
void node_of_file(struct node *n, int fd);

/* Lists what was not taken: of the present path, `what` (NULL: all of it). */
void import_not_taken(struct import *i, const char *what, int error);
void import_say_not_taken(struct import *i, const char *why);
/* The same for an error of the volume's side; one that will not be the last stops everything. */
void import_failed(struct import *i, const char *what, int error);
bool import_goes_on(const struct import *i); /* neither stopped nor interrupted */

/* Below directories, by name. The source's descriptor is of what `st` describes, or it is -ESTALE. */
int import_open_source(int dir, const char *name, const struct statx *st);
bool import_same_attributes(const struct statx *a, const struct statx *b); /* as far as statx shows them */
void import_object(struct import *i, int from, int to, const char *name, struct statx *st);
void import_free_links(struct import *i);

/* Bytes of content, as counted. */
uint64_t import_bytes(const struct statx *st);
/* Copies content from `from`, as `st` describes it, to the empty file `to`, and reads it back. 0; 1: listed; 2: the source was
 * changed meanwhile. */
int import_content(struct import *i, int from, const struct statx *st, int to);
bool import_is_unchanged(const struct statx *before, const struct statx *after);
bool import_same_time(const struct statx_timestamp *a, const struct statx_timestamp *b);
/* Owner, extended attributes, ACLs, mode, times. Lists what cannot be had. */
void import_attributes(struct import *i, const struct node *from, const struct statx *st, const struct node *to);

void import_progress(struct import *i, bool now); /* at a terminal, now and then */
void import_summary(struct import *i);

#endif
