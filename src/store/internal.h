/* What the store's files share. Nothing here crosses the layer.
 *
 * Locks, in this order:
 *   home_sync_lock  one sync of what is home at a time
 *   sync_lock   one sync of the log at a time
 *   log_lock    the log's position, the current generation's identity, reservations, the orphans
 *   overlay_lock (rwlock)  the pages and lists of both generations
 *   home_lock   the table of open home files
 */
#ifndef COFFER_STORE_INTERNAL_H
#define COFFER_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include <coffer/map.h>
#include <coffer/store.h>

/* ---- home.c: the objects' files ---- */
enum { FOLDER_SHIFT = 12, FOLDER_OBJECTS = 1 << FOLDER_SHIFT /* in a folder below objects/ */ };
/* In the place of an object's number: the file that has the headers of the objects in its folder. */
#define HEADERS_FILE (UINT64_C(1) << 63)
#define HEADERS_NAME "headers"
struct home {
	int objects_fd;  /* BACKING/objects */
	int backing_fd;  /* for syncfs; the caller's */
	bool order_free; /* the file system keeps no order of metadata (btrfs): names are synced by syncfs */
	pthread_mutex_t lock;
	struct map open; /* object number -> struct home_file */
	struct home_file *lru_head, *lru_tail;
	size_t open_count, open_max;
	uint64_t last_folder; /* the highest that had a file opened, or will: new objects may come there */
	uint64_t removals;    /* of files, ever: one that was opened meanwhile may be gone */
	struct map
		new_names; /* object + 1 -> (void *)1: its own file was made here, and its name is not known to be durable */
};
struct home_file {
	uint64_t object;
	int fd;
	unsigned users;
	bool forgotten; /* not in the cache any more: closed by who puts it last */
	struct home_file *prev, *next;
};
int home_init(struct home *h, int backing_fd);
void home_close(struct home *h);
/* A descriptor to an object's file, kept open while in use. `create`: makes it. -ENOENT. */
int home_get(struct home *h, uint64_t object, bool create, struct home_file **ret);
void home_put(struct home *h, struct home_file *f);
int home_read(struct home *h, uint64_t object, uint64_t page, unsigned count, uint8_t *buf);
void home_prefetch(struct home *h, uint64_t object, uint64_t page, unsigned count); /* does not wait */
int home_remove(struct home *h, uint64_t object); /* its file; 0 also when there is none */
bool home_file_exists(struct home *h, uint64_t object);
int home_release(struct home *h, uint64_t object, uint64_t page, uint64_t count);
/* Takes away a folder whose headers are all cleared, but the last. It is made again if a file in it is. */
void home_drop_folder(struct home *h, uint64_t object);
/* How many pages from `page` on have space of their own on the disk, written or not; *ret_end: where the last such page of the
 * file from there on ends, 0 if there is none. 0 also where the backing file system does not tell. */
uint64_t home_allocated(struct home *h, uint64_t object, uint64_t page, uint64_t *ret_end);
int home_sync_name(struct home *h, uint64_t object); /* the directory that holds the object's file */
bool home_name_is_new(struct home *h, uint64_t object);
void home_name_synced(struct home *h, uint64_t object); /* after it was, not before */
/* Of the objects from `first` up to `end` that have a file or a header, in order within a folder. */
int home_each(struct home *h, uint64_t first, uint64_t end, int (*call)(void *arg, uint64_t object), void *arg);
uint64_t home_max_pages(struct home *h);

/* ---- headers.c: page 0 of each object, those of a folder in one file ---- */
static inline uint64_t headers_file(uint64_t object)
{
	return (object - object % FOLDER_OBJECTS) | HEADERS_FILE;
}
static inline uint64_t headers_page(uint64_t object)
{
	return object % FOLDER_OBJECTS;
}
int headers_read(struct home *h, uint64_t object, uint8_t page[static BLOCK_SIZE]);
void headers_prefetch(struct home *h, uint64_t object); /* with its neighbours; does not wait */
bool headers_has(struct home *h, uint64_t object);
/* Takes back the space of neighbours in one folder; what is there reads as zeros. */
int headers_clear(struct home *h, uint64_t first, uint64_t count);
bool headers_are_clear(struct home *h, uint64_t object); /* all of the object's folder */
/* Marks the objects of the folder of `base` that have a header. */
int headers_mark(struct home *h, uint64_t base, bool marks[static FOLDER_OBJECTS]);

/* ---- overlay.c: pages in the log and not yet home ---- */
/* A page is in memory, or, where it is file content, only in the log's file: `data` is then empty. */
struct overlay_page {
	uint16_t size; /* bytes that `data` has; the rest of the page is zeros */
	bool bulk;
	uint8_t segment; /* of bulk: where the log has it */
	uint64_t offset; /* bytes into that segment */
	uint8_t data[];
};
struct payload { /* what a write frame carries */
	const uint8_t *bytes;
	unsigned segment; /* NOT_LOGGED: nowhere */
	uint64_t offset;
};
enum { NOT_LOGGED = UINT8_MAX };
struct range {
	uint64_t first, count; /* pages; count UINT64_MAX: to the end */
};
bool range_has(const struct range *r, uint64_t page);
struct dirty_object {
	uint64_t number;
	struct map pages;       /* page + 1 -> struct overlay_page; */
	struct range *released; /* in order of the log */
	size_t released_count, released_size;
	uint64_t released_seq; /* 0, or the chunk of the last release */
	struct map unsynced;   /* page + 1 -> (void *)1: written home directly, not known to be synced */
	uint64_t unsynced_seq; /* of the last such page */
	uint64_t removed_seq;  /* 0, or the chunk that removed the object */
};
struct generation {
	uint64_t number;
	struct map objects; /* number -> struct dirty_object */
	size_t bytes;       /* of memory for pages */
	size_t page_count;  /* in memory or not */
	size_t log_used;    /* bytes in its segment */
	uint64_t last_seq;
};
struct generation *generation_new(uint64_t number);
void generation_free(struct generation *g);
struct dirty_object *generation_object(struct generation *g, uint64_t object); /* makes it; NULL: no memory */
/* Makes it, or makes it larger, zeroed; `size` bytes at least. Earlier pointers to the page are dead. */
struct overlay_page *dirty_page(struct generation *g, struct dirty_object *o, uint64_t page, size_t size);
int dirty_bulk(struct generation *g, struct dirty_object *o, uint64_t page, const struct payload *where);
int dirty_release(struct generation *g, struct dirty_object *o, uint64_t first, uint64_t count);
void dirty_remove(struct generation *g, struct dirty_object *o, uint64_t seq);
const struct overlay_page *dirty_find(const struct generation *g, uint64_t object, uint64_t page);

/* ---- frames: what a chunk says (FORMAT.md, "The log") ---- */
enum frame_kind {
	FRAME_START = 1,   /* page: the last sequence number of the generation before */
	FRAME_WRITE = 2,   /* offset, length: bytes of the payload into a page */
	FRAME_RELEASE = 3, /* page, count */
	FRAME_REMOVE = 4,
	FRAME_ORPHAN = 5,
	FRAME_ADOPT = 6,
	FRAME_UNSYNCED = 7, /* page, count */
	FRAME_SYNCED = 8,   /* page: unsynced pages up to this sequence number are synced */
};
enum { FRAME_SIZE = 24 };
enum frame_flags {
	FRAME_WHOLE = 1, /* of a write: the rest of the page is zeros */
	FRAME_BULK = 2,  /* of a write: file content, a whole page; no later frame patches it */
};
struct frame {
	uint8_t kind, flags;
	uint16_t offset;
	uint32_t length; /* bytes of a write, or 0 */
	uint64_t object;
	uint64_t page;
	uint64_t count; /* released or unsynced pages: in place of `offset` and `length`, see frame_encode */
};
void frame_encode(const struct frame *f, uint8_t out[static FRAME_SIZE]);
int frame_decode(const uint8_t in[static FRAME_SIZE], struct frame *ret); /* -EBADMSG */
/* Applies one frame to a generation. `payload` is what a write carries. Used when committing and when replaying. */
int frame_apply(struct store *s, struct generation *g, const struct frame *f, const struct payload *payload,
		uint64_t seq);

/* ---- log.c: segments and chunks ---- */
enum {
	CHUNK_HEADER = 40,
	SEGMENT_HEADER = 64,
	SEGMENTS = 2,
	SEGMENT_SIZE = 64 << 20, /* bytes, where the disk has room */
	SEGMENT_MAX = 512 << 20, /* to which it grows while writing home does not keep up */
	SEGMENT_MIN = 512 << 10,
	SEGMENT_IDLE = 1 << 20, /* bytes kept of each after a clean unmount, so that removal works on a full disk */
};
struct segment {
	int fd;
	uint64_t generation; /* 0: none */
	size_t size;
	size_t written; /* bytes from its start that hold real data, not just reserved space */
};
struct log {
	int dir_fd;     /* BACKING/log */
	int reserve_fd; /* log/reserve: space given up when writing home meets a full disk */
	bool reserve_held;
	struct aead *aead;        /* under log_lock */
	struct aead *header_aead; /* the same key, for segments that are made ready without it */
	struct segment segments[SEGMENTS];
	unsigned current;
	uint64_t next_seq;
	uint8_t *buffer; /* frames, encrypted */
	size_t buffer_size;
};
int log_open_dir(struct log *l, int backing_fd, bool read_only);
void log_close(struct log *l);
int log_key(const struct kdf *structure, const uint8_t *salt, size_t salt_size, struct aead **ret);
int log_allocate(struct log *l); /* opens and preallocates the segments of a new epoch */
/* Keeps, or gives up, some space for what no counting foresees: the backing file system's own blocks for what is written
 * home. False: there is no space for it; there was none to give. */
bool log_hold_reserve(struct log *l);
bool log_give_reserve(struct log *l);
bool log_give_idle(struct log *l); /* a segment that nobody reads; log_allocate takes as much of it again as it can */
bool log_grow(struct log *l);      /* the current segment, by SEGMENT_SIZE; false: it cannot be */
int log_start_segment(struct log *l, unsigned i, uint64_t generation); /* writes its header, durably */
/* Appends one chunk at `*pos` of the current segment and moves it. A failed append leaves the position. */
int log_append(struct log *l, uint64_t generation, size_t *pos, uint64_t seq, const uint8_t *frames, size_t frames_len,
	       const struct iovec *payload, int payload_count);
/* Writes zeros ahead of `pos`, so that syncing what is appended there next is data alone: the first write to reserved space
 * changes the backing file's map, and each sync after it would cost a commit of the backing file system's journal. */
void log_write_ahead(struct log *l, size_t pos);
size_t chunk_size(size_t frames_len, size_t payload_len);
int log_shrink(struct log *l);
/* replay.c */
int log_replay(struct store *s, uint64_t *ret_chunks);

/* ---- the store ---- */
enum { MEMORY_MAX = 64 << 20 /* bytes of pages in one generation */ };
enum store_mode { STORE_RECOVERING, STORE_ACTIVE, STORE_CLOSED };
struct store {
	int backing_fd;
	bool read_only;
	enum store_mode mode;
	bool log_forgotten; /* nothing will be read from the log, and nothing is in it yet */
	atomic_bool failed;
	struct home home;
	struct log log;
	uint64_t max_pages;
	size_t max_payload; /* bytes; does not change while the store is active */

	pthread_mutex_t sync_lock, home_sync_lock;
	atomic_uint syncing;              /* calls of store_sync under way */
	atomic_uint_fast64_t sync_ms;     /* when the last one ended; milliseconds of the monotonic clock */
	atomic_uint writing_home;         /* transactions that have, and are not yet committed */
	atomic_uint_fast64_t durable_seq; /* every chunk up to it is durable */

	pthread_mutex_t log_lock;
	pthread_cond_t room; /* a checkpoint ended, or failed */
	size_t reserved;     /* bytes of the log promised by store_begin */
	bool stuck;          /* the last checkpoint met ENOSPC */
	bool quiet;          /* store_freeze: no transaction may begin */
	uint64_t next_generation;
	uint64_t first_seq;            /* of the current generation: its start */
	uint64_t dirty_since;          /* it has more than that; milliseconds, 0: not yet seen */
	struct map orphans;            /* object + 1 -> (void *)1 */
	struct map released;           /* object -> (void *)(generation of its last release) */
	uint64_t space, space_pending; /* bytes free below, at the last look; accepted since */
	unsigned waiting;              /* threads that wait for an attempt to write home to end */
	uint64_t checkpoints, syncs, home_pages, waits;
	uint64_t attempts;   /* checkpoints that were tried, with success or without */
	bool gave_back;      /* something was removed since the last attempt began: another one may find room */
	bool giving_back;    /* the attempt under way may */
	uint64_t space_seen; /* when `space` was looked at; milliseconds */

	/* What happened, see store_counters. */
	atomic_uint_fast64_t read_memory, read_home;
	struct timing_counter append_times, sync_log_times, sync_home_times;

	pthread_rwlock_t overlay_lock;
	struct generation *current, *frozen; /* frozen: being written home, NULL otherwise */
	uint64_t oldest;                     /* number of the oldest generation whose log is live; atomic by log_lock */

	pthread_t thread;
	bool thread_runs, thread_stop;
	pthread_t thread_self; /* what the thread says of itself; log_lock */
	bool thread_known;
	pthread_cond_t wake; /* with log_lock */
	bool wanted;         /* a checkpoint is wanted now */
	unsigned interval;   /* seconds */
	void (*on_interval)(void *arg);
	void *on_interval_arg;
};
int store_checkpoint(struct store *s);             /* writes `frozen` home; called by one thread at a time */
int store_sync_log(struct store *s, uint64_t seq); /* makes the log durable up to `seq` */
/* fdatasync or syncfs of what went home. A failure is the store's (-EIO), but for a full disk where all that it covered is in the
 * log and written again. */
int store_sync_home(struct store *s, int fd, int (*sync)(int fd));
int store_rotate(struct store *s); /* current, made durable, becomes frozen; frozen is NULL */
void store_fail(struct store *s, const char *what, int error);
int store_append_locked(struct store *s, const struct frame *frames, size_t count, uint64_t *ret_seq);
void want_checkpoint(struct store *s); /* log_lock held */
void wait_for_attempt(struct store *s,
		      uint64_t attempts); /* log_lock held: until s->attempts differs, or the store failed */
bool has_release(const struct store *s, uint64_t object); /* that may still be replayed; log_lock held */
size_t store_dirty_bytes(const struct store *s);          /* of all pages in both generations; log_lock held */
int store_read_bulk(struct store *s, const struct overlay_page *p, unsigned count, uint8_t *out); /* contiguous there */
/* Called between pieces of what goes home: somebody who syncs waits for the disk, and what goes home can wait, as long as
 * nobody waits for that and there is room for more meanwhile. */
void keeper_yield(struct store *s);
uint64_t milliseconds(void);                /* of the monotonic clock */
bool keeper_is_self(const struct store *s); /* called by the background thread; log_lock held */
int keeper_start(struct store *s);
void keeper_stop(struct store *s);

#endif
