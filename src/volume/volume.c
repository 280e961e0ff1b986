/* Life of a volume: made, opened (and recovered), closed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <coffer/util.h>

#include "keeper.h"

enum {
	NUMBERS_AHEAD = 65536,     /* object numbers reserved in the descriptor at a time */
	NUMBERS_IN_HAND = 4096,    /* more than are ever taken and not yet committed */
	NUMBERS_UNKNOWN = 1 << 30, /* more than are ever made while a copy is */
	SYNC_SECONDS = 5,
	KEY_POLL = 60, /* seconds */
};

/* ---- locking the directory ---- */
/* The directory itself, which nobody can take away from under the lock. -EBUSY, or a descriptor that holds the lock; -EOPNOTSUPP
 * on network file systems. */
static int lock_directory(int backing_fd, bool shared)
{
	int fd = openat(backing_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
		int r = errno == EWOULDBLOCK ? -EBUSY : -EOPNOTSUPP;

		close(fd);
		return r;
	}
	return fd;
}

/* A record lock of this open file alone, which network file systems know too. Where nothing can be written it cannot keep others out
 * who only read. */
static int lock_file(int backing_fd, bool read_only, bool shared)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	int fd = shared ? -1 : openat(backing_fd, "log/lock", (read_only ? 0 : O_CREAT) | O_RDWR | flags, 0600);

	if (shared || (fd < 0 && read_only && (errno == EROFS || errno == EACCES))) {
		lock.l_type = F_RDLCK;
		fd = openat(backing_fd, "log/lock", O_RDONLY | flags);
	}
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		int r = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int lock_backing(struct volume *v, bool shared)
{
	v->lock_fds[0] = lock_directory(v->backing_fd, shared);
	if (v->lock_fds[0] < 0 && v->lock_fds[0] != -EOPNOTSUPP)
		return v->lock_fds[0];
	v->lock_fds[1] = lock_file(v->backing_fd, v->read_only, shared);
	return v->lock_fds[1] < 0 ? v->lock_fds[1] : 0;
}

/* ---- object numbers ---- */
static int store_descriptor(struct volume *v)
{
	int r = descriptor_store(v->d, v->backing_fd, keys_descriptor_mac(v->keys));

	if (is_full(r) && store_give_reserve(v->store))
		r = descriptor_store(v->d, v->backing_fd, keys_descriptor_mac(v->keys));
	if (r < 0) {
		log_error("the descriptor cannot be replaced: %s", strerror(-r));
		return r;
	}
	return v->state_dir ? pin_update(v->state_dir, v->backing_fd, v->d) : 0;
}

/* The log is synced first: so after an unclean stop only the numbers of the last reservation can belong to objects that the log
 * does not know (remove_unborn), but for the few that were in somebody's hands just then. */
static int reserve_numbers(struct volume *v)
{
	uint64_t old = v->d->next_object;
	int r = store_sync_all(v->store);

	if (r < 0)
		return r;
	v->d->next_object = v->next_object + NUMBERS_AHEAD;
	r = store_descriptor(v);

	if (r < 0) {
		v->d->next_object = old;
		return r;
	}
	v->reserved_to = v->d->next_object;
	return 0;
}

int volume_number(struct volume *v, uint64_t *ret)
{
	LOCK_SCOPE(&v->descriptor_lock);
	int r = v->next_object == v->reserved_to ? reserve_numbers(v) : 0;

	if (r == 0)
		*ret = v->next_object++;
	return r;
}

static void interval(void *arg)
{
	struct volume *v = arg;

	if (atomic_load(&v->frozen))
		return;
	/* Who changes keys waits for operations, and those for this thread: it must not wait for the gate. */
	if (pthread_rwlock_tryrdlock(&v->gate) == 0) {
		flush_lazy(v);
		pthread_rwlock_unlock(&v->gate);
	}
	LOCK_SCOPE(&v->descriptor_lock);
	if (v->reserved_to - v->next_object < NUMBERS_AHEAD / 2 && !volume_rests(v))
		(void)reserve_numbers(v); /* has said why; it is tried again when they run out */
}

/* ---- making and freeing ---- */
static void volume_free(struct volume *v)
{
	if (!v)
		return;
	cache_free(v);
	store_free(v->store);
	audit_close(v->audit);
	keys_free(v->keys);
	descriptor_free(v->d);
	free(v->statuses);
	for (size_t i = 0; i < sizeof(v->lock_fds) / sizeof(v->lock_fds[0]); i++)
		if (v->lock_fds[i] >= 0)
			close(v->lock_fds[i]);
	pthread_rwlock_destroy(&v->gate);
	pthread_rwlock_destroy(&v->names_lock);
	pthread_mutex_destroy(&v->cache_lock);
	pthread_mutex_destroy(&v->descriptor_lock);
	pthread_mutex_destroy(&v->key_lock);
	pthread_cond_destroy(&v->keeper.wake);
	reencrypt_free(v);
	free(v->state_dir);
	free(v);
}

/* Writers first, or a busy volume's keys would never change. */
static void gate_init(struct volume *v)
{
	pthread_rwlockattr_t writers_first;

	pthread_rwlockattr_init(&writers_first);
	pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&v->gate, &writers_first);
	pthread_rwlockattr_destroy(&writers_first);
}

void gate_close(struct volume *v)
{
	atomic_store(&v->gate_wanted, true);
	pthread_rwlock_wrlock(&v->gate);
	atomic_store(&v->gate_wanted, false);
}

void gate_open(struct volume *v)
{
	pthread_rwlock_unlock(&v->gate);
}

static void wake_init(struct volume *v)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&v->keeper.wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

static struct volume *volume_new(int backing_fd, bool read_only, const char *state_dir)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->backing_fd = backing_fd;
	v->lock_fds[0] = v->lock_fds[1] = -1;
	v->read_only = read_only;
	gate_init(v);
	pthread_rwlock_init(&v->names_lock, NULL);
	pthread_mutex_init(&v->cache_lock, NULL);
	pthread_mutex_init(&v->descriptor_lock, NULL);
	pthread_mutex_init(&v->key_lock, NULL);
	wake_init(v);
	reencrypt_init(v);
	v->state_dir = state_dir ? strdup(state_dir) : NULL;
	if (state_dir && !v->state_dir) {
		volume_free(v);
		return NULL;
	}
	return v;
}

static int make_root(struct volume *v)
{
	struct meta like = { .scope = 0 };
	struct change ch;
	struct object *o;
	struct meta *m;
	int r = change_begin(v, &ch, 0, ROOM_NEW);

	if (r < 0)
		return r;
	v->next_object = ROOT_OBJECT;
	v->reserved_to = ROOT_OBJECT + 1;
	r = change_new(&ch, &like, S_IFDIR | 0755, 0, &o, &m);
	if (r == 0) {
		m->uid = geteuid();
		m->gid = getegid();
		m->nlink = 2;
		r = change_commit(&ch);
	} else {
		change_abort(&ch);
	}
	return r < 0 ? r : store_settle(v->store);
}

static int check_empty(int backing_fd)
{
	int fd = openat(backing_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	int r = dir ? 0 : -errno;

	while (dir && (e = readdir(dir)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = -ENOTEMPTY;
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return r;
}

int volume_create(int backing_fd, enum suite suite, const char *key_uri, struct secret *provided, const char *state_dir)
{
	struct volume *v = volume_new(backing_fd, false, state_dir);
	int r = v ? 0 : -ENOMEM;

	if (r == 0)
		r = check_empty(backing_fd);
	if (r == 0) {
		v->d = descriptor_new(suite);
		r = v->d ? 0 : -ENOMEM;
	}
	if (r == 0) {
		v->d->clean = true;
		v->d->next_object = ROOT_OBJECT + 1;
		r = keys_create(v->d, key_uri, state_dir, &provided, &v->keys);
	}
	if (r == 0) { /* after what may be refused: then nothing is left behind */
		r = store_format(backing_fd);
		if (r == -EEXIST)
			r = -ENOTEMPTY;
	}
	if (r == 0)
		r = lock_backing(v, false);
	if (r == 0)
		r = store_new(backing_fd, false, &v->store);
	if (r == 0)
		r = make_root(v);
	if (r == 0)
		r = trail_created(v);
	if (r == 0) /* the descriptor comes last: without it there is no volume */
		r = store_descriptor(v);
	volume_free(v);
	secret_free(provided);
	return r;
}

/* ---- recovery ---- */
static int make_hole(struct volume *v, struct object *o, uint64_t block)
{
	struct change ch;
	struct meta *m;
	int r = change_begin(v, &ch, 0, ROOM_NEW);

	if (r == 0)
		r = change_object(&ch, o, &m);
	if (r == 0)
		r = tags_release(&ch, o, block, block + 1);
	if (r == 0)
		return change_commit(&ch);
	change_abort(&ch);
	return r;
}

/* Without integrity a lost page is known by what the backing file system has in its place: at least one sector of zeros, which
 * ciphertext is not. */
static int looks_lost(struct volume *v, struct object *o, uint64_t page, bool *ret)
{
	enum { SECTOR = 512 };
	static const uint8_t zeros[SECTOR];
	uint8_t raw[BLOCK_SIZE];
	bool without = cryptor_suite(meta_cryptor(o->m, geometry_block(page), v->keys)) == SUITE_XTS;
	int r = without ? store_read(v->store, o->number, page, 1, raw) : 0;

	*ret = false;
	for (unsigned at = 0; r == 0 && without && at < BLOCK_SIZE; at += SECTOR)
		*ret = *ret || memcmp(raw + at, zeros, SECTOR) == 0;
	return r;
}

/* A page that went home directly and was not synced may not have got there: then it is a hole again. One that seems to be there
 * is written again: after a sync that failed the backing file system shows what it could not write. */
static int verify_unsynced(void *arg, uint64_t number, uint64_t page)
{
	struct volume *v = arg;
	uint8_t plain[BLOCK_SIZE];
	struct object *o;
	uint64_t block = geometry_block(page);
	int r = object_get(v, number, &o);

	if (r == -ESTALE || r == -EIO || r == -EACCES)
		return 0; /* the object did not get as far as the log; orphans and fsck see to it. A locked one cannot be verified */
	if (r < 0)
		return r;
	bool lost;

	r = looks_lost(v, o, page, &lost);
	if (r == 0 && !lost) {
		r = data_read(v, NULL, o, block, 1, plain);
		lost = r == -EIO;
	}
	if (lost) {
		log_notice("object %" PRIu64 ": block %" PRIu64
			   " was new and not synced when the daemon stopped: it reads as "
			   "zeros",
			   number, block);
		r = make_hole(v, o, block);
	} else if (r == 0 && !v->read_only) {
		r = store_write_again(v->store, number, page, 1);
	}
	object_put(v, o);
	return r;
}

/* An orphan's companion goes first, durably: a cut in this recovery may leave either file, and only the orphan's header tells
 * the next one of the companion. */
static int remove_companion(void *arg, uint64_t number)
{
	struct volume *v = arg;
	struct object *o;
	struct change ch;
	int r = object_get(v, number, &o);

	if (r == -EIO || r == -ESTALE || r == -EACCES)
		return 0;
	if (r < 0)
		return r;
	uint64_t companion = o->m->nlink ? 0 : o->m->companion;

	object_put(v, o);
	if (!companion)
		return 0;
	r = change_begin(v, &ch, 0, ROOM_REMOVAL);
	if (r == 0)
		r = txn_remove(&ch.t, companion);
	if (r == 0)
		return change_commit(&ch);
	change_abort(&ch);
	return r;
}

static int remove_orphan(void *arg, uint64_t number)
{
	struct volume *v = arg;
	int r = remove_object(v, number);

	if (r == 0)
		v->orphans_removed++;
	return r == -EBUSY ? 0 : r;
}

/* A file that was made for directly written data, whose object did not get as far as the durable log: nothing names it. */
static int remove_unborn(void *arg, uint64_t number)
{
	static const uint8_t none[PROLOGUE_SIZE];
	uint8_t page[BLOCK_SIZE];
	struct volume *v = arg;
	struct change ch;
	int r = store_read(v->store, number, 0, 1, page);

	if (r < 0 || memcmp(page, none, sizeof(none)) != 0)
		return r;
	log_notice("object %" PRIu64 ": new data without an object that the log knows; removed", number);
	r = change_begin(v, &ch, 0, ROOM_REMOVAL);
	if (r == 0)
		r = txn_remove(&ch.t, number);
	if (r == 0)
		return change_commit(&ch);
	change_abort(&ch);
	return r;
}

static int note_number(void *arg, uint64_t number)
{
	struct volume *v = arg;

	if (number >= v->next_object)
		v->next_object = v->reserved_to = number + 1;
	return 0;
}

/* A copy that was made file by file, of a volume that was mounted, may have a descriptor from before the last numbers were
 * reserved. What somebody planted must not use all numbers up. */
static int find_numbers(struct volume *v)
{
	uint64_t first = v->d->next_object;
	int r = store_each_object(v->store, first, first + NUMBERS_UNKNOWN, note_number, v);

	store_expect(v->store, v->next_object);
	return r;
}

static int recover(struct volume *v)
{
	uint64_t ahead = NUMBERS_AHEAD + NUMBERS_IN_HAND, first;

	int r = store_replay(v->store, keys_structure(v->keys), v->d->epoch_salt, EPOCH_SALT_SIZE,
			     &v->recovered_chunks);

	if (r == 0)
		r = find_numbers(v);
	first = v->d->next_object > ahead ? v->d->next_object - ahead : 0;

	if (r == 0)
		r = store_each_unsynced(v->store, verify_unsynced, v);
	if (r == 0)
		r = store_each_orphan(v->store, remove_companion, v);
	if (r == 0 && !v->read_only)
		r = store_settle(v->store);
	if (r == 0)
		r = store_each_orphan(v->store, remove_orphan, v);
	if (r == 0)
		r = store_each_object(v->store, first, v->next_object, remove_unborn, v);
	if (r == 0 && !v->read_only)
		r = store_settle(v->store);
	if (r < 0)
		log_error("the volume was not unmounted, and recovering it failed: %s%s", strerror(-r),
			  is_full(r) ? "; make room in the backing file system, or mount with -o ro" : "");
	else
		log_notice("the volume was not unmounted: %" PRIu64 " log records replayed, %" PRIu64
			   " open files without a name removed",
			   v->recovered_chunks, v->orphans_removed);
	return r;
}

static int open_epoch(struct volume *v, unsigned sync_interval)
{
	int r = 0;

	if (!v->read_only) {
		v->d->epoch++;
		v->d->clean = false;
		r = random_bytes(v->d->epoch_salt, EPOCH_SALT_SIZE);
		if (r == 0)
			r = reserve_numbers(v);
		store_on_interval(v->store, interval, v);
	}
	return r < 0 ? r
		     : store_activate(v->store, keys_structure(v->keys), v->d->epoch_salt, EPOCH_SALT_SIZE,
				      sync_interval ? sync_interval : SYNC_SECONDS);
}

static int load_keys(struct volume *v, const struct volume_options *o)
{
	int r = descriptor_load(v->backing_fd, &v->d), accepted = 0, recorded = 0;

	if (r < 0)
		return r;
	memcpy(v->id, v->d->volume_id, VOLUME_ID_SIZE);
	v->keeper.poll = o->key_poll ? o->key_poll : KEY_POLL;
	v->keeper.grace = o->key_grace;
	v->keeper.flush = o->key_flush;
	v->keeper.rotate_days = o->key_rotate_days;
	if (v->state_dir)
		r = pin_check(v->state_dir, v->backing_fd, v->d);
	if (r < 0 && o->accept_changes) {
		log_notice("accepted, as -o accept says");
		accepted = r;
		r = 0;
	}
	if (r < 0)
		return r;
	r = keys_unlock(v->d, v->state_dir, o->recovery, &v->keys);
	wipe_traces();
	if (v->keys && !keys_descriptor_mac(v->keys)) { /* it was altered, and says nothing that is to be believed */
		if (o->requester)
			trail_unproven(v, o);
		return r;
	}
	if (v->keys && v->d->clean)
		store_forget_log(v->store);
	/* A wrong key is recorded, too, if another one opens the volume key. */
	if (v->keys && o->requester)
		recorded = trail_unlocked(v, o, accepted);
	if (r == 0)
		r = recorded;
	return r < 0 ? r : keeper_begin(v);
}

int volume_open(int backing_fd, const struct volume_options *o, struct volume **ret)
{
	struct volume *v = volume_new(backing_fd, o->read_only, o->state_dir);
	int r = v ? 0 : -ENOMEM;

	if (r == 0 && faccessat(backing_fd, DESCRIPTOR_NAME, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno; /* before a lock file is made where no volume is */
	if (r == 0) {
		r = lock_backing(v, o->shared);
		if (o->read_only && (r == -ENOENT || r == -EROFS))
			r = 0;
		if (r < 0 && r != -EBUSY) {
			log_error("log/lock cannot be opened: %s", strerror(-r));
			r = -EIO; /* whatever it was, it was not about keys */
		}
	}
	if (r == 0) {
		r = store_new(backing_fd, o->read_only, &v->store);
		if (r == -ENOENT || r == -EACCES)
			r = -EIO; /* likewise */
	}
	if (r == 0)
		r = load_keys(v, o);
	if (r == 0) {
		uint64_t blocks = geometry_max_blocks(store_max_pages(v->store));

		v->max_size = blocks > INT64_MAX / BLOCK_SIZE ? INT64_MAX : blocks * BLOCK_SIZE;
		v->next_object = v->reserved_to = v->d->next_object;
		store_expect(v->store, v->next_object);
		if (!v->d->clean)
			r = recover(v);
	}
	if (r == 0)
		r = open_epoch(v, o->sync_interval);
	if (r < 0) {
		if (v && v->audit && r != -ECANCELED)
			trail_not_opened(v, o, r);
		volume_free(v);
		return r;
	}
	*ret = v;
	return 0;
}

/* ---- closing ---- */
static int remove_orphans(struct volume *v)
{
	for (int r = 0, error = 0;; error = r && r != -EBUSY ? r : error) {
		size_t pos = 0;
		uint64_t number;

		pthread_mutex_lock(&v->cache_lock);
		bool any = map_next(&v->orphans, &pos, &number);

		if (any) {
			map_remove(&v->orphans, number);
			map_remove(&v->lookups, number);
		}
		pthread_mutex_unlock(&v->cache_lock);
		if (!any)
			return error;
		r = remove_object(v, number);
	}
}

int volume_close(struct volume *v)
{
	int r = 0;

	if (!v)
		return 0;
	flush_lazy(v);
	if (!v->read_only) {
		int orphans = remove_orphans(v);

		r = store_deactivate(v->store);
		if (r == 0)
			r = orphans; /* the epoch stays open, and the next mount removes what is left */
		if (r == 0) {
			v->d->clean = true;
			v->d->next_object = v->next_object;
			r = store_descriptor(v);
		}
		if (r == 0)
			r = store_empty_log(v->store);
		if (r < 0)
			log_error(
				"the volume could not be closed: %s; its log keeps what is not home yet, for the next mount",
				strerror(-r));
	}
	trail_closed(v, r);
	volume_free(v);
	return r;
}

/* ---- the whole ---- */
int volume_sync(struct volume *v)
{
	return store_sync_all(v->store);
}

int volume_statfs(struct volume *v, struct statvfs *ret)
{
	int r = store_statfs(v->store, ret);

	ret->f_namemax = VOLUME_NAME_MAX;
	return r;
}

int volume_set_read_only(struct volume *v, bool read_only)
{
	if (v->read_only && !read_only)
		log_error("the volume was opened read-only: unmount it, and mount it without ro");
	if (v->read_only)
		return read_only ? 0 : -EROFS;
	/* Whoever is storing keys just now has done so when this returns. */
	pthread_mutex_lock(&v->descriptor_lock);
	atomic_store(&v->resting, read_only);
	pthread_mutex_unlock(&v->descriptor_lock);
	if (!read_only) {
		reencrypt_wake(v);
		return 0;
	}
	gate_close(v); /* what had begun is done */
	gate_open(v);
	GATE_SCOPE(v);
	flush_lazy(v);
	return volume_sync(v);
}

bool volume_has_room(struct volume *v)
{
	bool room = store_has_room(v->store);

	for (int tries = 0; !room && tries < TRIES_ON_FULL && store_reclaim(v->store); tries++)
		room = store_has_room(v->store);
	return room;
}

void volume_status(struct volume *v, struct volume_status *ret)
{
	struct store_counters c;

	store_counters(v->store, &c);
	LOCK_SCOPE(&v->cache_lock);
	*ret = (struct volume_status){
		.recovered_chunks = v->recovered_chunks,
		.orphans_removed = v->orphans_removed,
		.objects_cached = v->cached,
		.bytes_cached = v->bytes,
		.object_hits = v->object_hits,
		.object_misses = v->object_misses,
		.page_hits = v->page_hits,
		.page_misses = v->page_misses,
		.read_only = volume_rests(v),
		.failed = store_failed(v->store),
		.store = c,
	};
}

void volume_id(const struct volume *v, uint8_t out[static VOLUME_ID_SIZE])
{
	memcpy(out, v->id, VOLUME_ID_SIZE);
}
