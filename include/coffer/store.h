/* The ciphertext view of a volume: objects as files of 4096-byte pages, changed by atomic, ordered transactions.
 *
 * A transaction is one sealed chunk in the write-ahead log (src/store/FORMAT.md): after store_commit returned, a killed daemon
 * loses nothing of it, and store_sync makes it, and all before it, durable. Pages that are in the log and not yet home are
 * kept in memory and are what reads see; a background thread writes them home, a generation at a time.
 * This layer moves ciphertext only: it needs the volume key for the framing of the log, and no object's keys.
 *
 * Errors are -errno: -ENOSPC before anything was changed; -EROFS on a read-only store, or one that failed (a sync or a home
 * write did not succeed, see store_failed). Thread-safe unless said otherwise.
 * Order of locks: the caller's locks come before all of this layer's; store_begin may wait and wants none of the caller's.
 */
#ifndef COFFER_STORE_H
#define COFFER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include <coffer/crypto.h>

struct store;

enum {
	COMMIT_MAX = 2 << 20,  /* bytes: no chunk is larger */
	DIRECT_MIN = 64 << 10, /* bytes of new data in a request from which it goes home directly */
};

/* ---- life ---- */
/* Takes `backing_fd` (stays the caller's). Finds the backing file system's limits. */
int store_new(int backing_fd, bool read_only, struct store **ret);
void store_free(struct store *s);
/* Makes objects/ and log/ in an empty backing directory. */
int store_format(int backing_fd);

/* New objects have numbers from here on. */
void store_expect(struct store *s, uint64_t first_new);
/* The volume is clean: nothing will be read from the log, and until store_activate its space may be given up. */
void store_forget_log(struct store *s);
/* Reads the log of an unclean epoch into memory. From here to store_activate commits go to memory only: what they change is
 * derived from the log, which still stands. */
int store_replay(struct store *s, const struct kdf *structure, const uint8_t *salt, size_t salt_size,
		 uint64_t *ret_chunks);
/* After store_replay: data pages that went home directly and were not synced when the epoch ended, for the caller to verify. */
typedef int unsynced_page(void *arg, uint64_t object, uint64_t page);
int store_each_unsynced(struct store *s, unsynced_page *call, void *arg);
/* After store_replay: objects that had lost their last name. */
typedef int orphan_object(void *arg, uint64_t object);
int store_each_orphan(struct store *s, orphan_object *call, void *arg);
/* Writes home, durably, all that is in memory. Only before store_activate. */
int store_settle(struct store *s);
/* Opens the log of a new epoch, whose salt is durable in the descriptor; starts the background thread. A read-only store has
 * no epoch: it only stops taking commits. */
int store_activate(struct store *s, const struct kdf *structure, const uint8_t *salt, size_t salt_size,
		   unsigned sync_interval);
/* Stops the background thread, writes everything home, durably. The log may be emptied once the descriptor says so. */
int store_deactivate(struct store *s);
int store_empty_log(struct store *s);
/* Called by the background thread after each interval, without locks. Set before store_activate. */
void store_on_interval(struct store *s, void (*call)(void *arg), void *arg);

/* Writes everything home, durably; then the log says nothing but which objects have no name, and until store_thaw nothing below
 * changes: store_begin says -EBUSY. The caller keeps those away who should wait instead. -ENOSPC, -EIO: not frozen. */
int store_freeze(struct store *s);
void store_thaw(struct store *s);

/* ---- transactions ---- */
/* What a transaction needs besides room in the log. */
enum room {
	ROOM_NEW,      /* backing space for its pages */
	ROOM_REMOVAL,  /* nothing: it gives space back, and works on a full disk */
	ROOM_IN_PLACE, /* nothing: every page is there already */
};
struct txn {
	struct store *store;
	uint8_t *frames;
	size_t frames_len, frames_size;
	struct txn_page *pages; /* what the write frames carry */
	size_t page_count, page_size;
	size_t reserved;
	enum room room;
	bool writes_home; /* store_write_home was called */
};
/* Reserves room in the log for `payload` bytes (pages and frames together); waits for a checkpoint if need be, or says -EAGAIN
 * to the background thread, which makes them. -EBUSY: frozen. */
int store_begin(struct store *s, struct txn *t, size_t payload, enum room room);
/* Gives up the space that is kept for such a time. False: there was none. */
bool store_give_reserve(struct store *s);
/* After -ENOSPC: waits until what was removed is given back to the disk. False: nothing was, trying again is of no use. No
 * transaction may be open, no lock held. */
bool store_reclaim(struct store *s);
/* Writes a page: `used` bytes from `data`, then zeros. `data` must stay until the commit. A page at most once. */
int txn_write(struct txn *t, uint64_t object, uint64_t page, const uint8_t *data, size_t used);
/* The same for a whole page of file content: it is kept in the log's file alone, not in memory. */
int txn_write_bulk(struct txn *t, uint64_t object, uint64_t page, const uint8_t *data);
/* Releases pages: their content is not needed any more. */
int txn_release(struct txn *t, uint64_t object, uint64_t first_page, uint64_t count /* UINT64_MAX: to the end */);
int txn_remove(struct txn *t, uint64_t object);
int txn_orphan(struct txn *t, uint64_t object); /* has no name any more; ended by txn_remove or txn_adopt */
int txn_adopt(struct txn *t, uint64_t object);  /* has a name again */
/* Says that pages were written by store_write_home and not synced. */
int txn_unsynced(struct txn *t, uint64_t object, uint64_t first_page, uint32_t count);
/* All or nothing; ends the transaction either way. *ret_seq (may be NULL): what store_sync wants. */
int store_commit(struct txn *t, uint64_t *ret_seq);
void store_abort(struct txn *t); /* ends it without a trace; harmless after store_commit */

/* ---- pages ---- */
/* Reads `count` pages into `buf`; what the file lacks reads as zeros. The caller keeps writers of the object out. */
int store_read(struct store *s, uint64_t object, uint64_t page, unsigned count, uint8_t *buf);
/* Has the backing file system read pages ahead, without waiting for them; with a header (page 0) its neighbours' too. */
void store_prefetch(struct store *s, uint64_t object, uint64_t page, unsigned count);
bool store_exists(struct store *s, uint64_t object); /* whether it has a file or pages in memory */
/* Writes new pages home at once, outside the log. Never a header (page 0); only pages that are holes in every state a crash
 * may leave: store_may_write_home says whether that is known of the object. Followed by a commit that names them txn_unsynced. */
int store_write_home(struct txn *t, uint64_t object, uint64_t page, unsigned count, const uint8_t *data);
/* Writes pages home that are there already: what a failed sync left in memory alone looks as if it were on the disk. */
int store_write_again(struct store *s, uint64_t object, uint64_t page, unsigned count);
bool store_may_write_home(struct store *s, uint64_t object);
/* Allocates backing space (fallocate). -EOPNOTSUPP where the backing file system cannot. */
int store_allocate(struct store *s, uint64_t object, uint64_t page, uint64_t count);
/* How many pages from `page` on have space that a write needs no more of; *ret_end: where the last such page ends, 0: none. */
uint64_t store_allocated(struct store *s, uint64_t object, uint64_t page, uint64_t *ret_end);
/* Gives back what was allocated from a page on, where nothing was written. */
void store_give_back(struct store *s, uint64_t object, uint64_t page);
/* Waits until what was released of an object is given back to the disk: what is allocated before would go with it. -ENOSPC: the
 * disk is full. No transaction may be open, no lock held. */
int store_settle_releases(struct store *s, uint64_t object);

/* Makes all commits up to `seq` (0: all so far) durable, and the object's directly written pages with them (0: no object). */
int store_sync(struct store *s, uint64_t object, uint64_t seq);
/* Makes directly written pages of an object durable, and what the log says of them known as such; not the log itself. */
int store_sync_data(struct store *s, uint64_t object);
int store_sync_all(struct store *s);

int store_statfs(struct store *s, struct statvfs *ret);
bool store_has_room(struct store *s);            /* on the disk, for a transaction of any size */
bool store_is_behind(struct store *s);           /* with writing home: who can wait had better */
uint64_t store_max_pages(const struct store *s); /* of one object's file */
size_t store_max_payload(const struct store *s); /* of one transaction, bytes */
bool store_failed(const struct store *s);
bool store_read_only(const struct store *s);
/* Numbers of the objects from `first` up to `end` that are there when it begins, at home or in memory, in no order, and perhaps of
 * some that are not any more. `call` returns nonzero to stop. */
int store_each_object(struct store *s, uint64_t first, uint64_t end, int (*call)(void *arg, uint64_t object),
		      void *arg);

struct store_counters {
	uint64_t dirty_pages, log_bytes; /* at present: pages not yet home, bytes in the log's current segment */
	uint64_t syncs, checkpoints, home_pages; /* of the log; that succeeded; pages that these wrote home */
	uint64_t read_memory, read_home;         /* pages read that were not yet home, and that were */
	uint64_t waits;                          /* of transactions for room in the log or on the disk */
	struct timing append, sync_log,
		sync_home; /* chunks into the log, with their bytes; syncs of it, and of what is home */
};
void store_counters(struct store *s, struct store_counters *ret);

#endif
