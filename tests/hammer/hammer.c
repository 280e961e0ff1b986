/* hammer [SECONDS [SEED]]: several threads do everything at once on one open volume, whose log is so small that it goes home all
 * the time, and two more move objects between scopes, re-encrypt scopes and lock one of them; then it is closed, opened and checked. Then the same in a process that is killed. For the thread sanitizer, and for
 * any other build. As root the volume lies on a small file system in memory, so that it also fills up.
 *
 * What is checked meanwhile: every 64 bytes of every file say whose they are and where; no operation fails but for a reason that
 * it may have. Exit status 1: something was wrong. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

#undef BLOCK_SIZE /* <sys/mount.h> brings another one */
#include <coffer/util.h>
#include <coffer/volume.h>
#include <coffer/volume_keys.h>

enum {
	THREADS = 8,
	NAMES = 24, /* in each directory */
	DIRS = 5,   /* below the root, and the root */
	HELD = 16,  /* references that a thread keeps at most */
	UNIT = 64,  /* bytes */
	IO_MAX = 300 << 10,
	FILE_MAX = 2 << 20,
	VOLUME_MIB = 48,
	SCOPES = 3, /* numbers 0, 1, 2: the last one is locked now and then */
};

static struct volume *vol;
static int backing = -1;
static char scratch[PATH_MAX], state[PATH_MAX + 16], key_uri[PATH_MAX + 32];
static atomic_bool stop, wrong;
static bool locking; /* then what holds the attributes of what is removed while it is locked stays, without a name */
static atomic_ulong operations, assigned, reencrypted;

struct worker {
	pthread_t thread;
	unsigned seed;
	uint64_t held[HELD];
	unsigned held_count;
	uint8_t *buf;
};

static void complain(const char *what, uint64_t object, int error)
{
	if (!atomic_exchange(&wrong, true))
		fprintf(stderr, "hammer: %s, object %" PRIu64 ": %s\n", what, object,
			error ? strerror(-error) : "wrong");
	atomic_store(&stop, true);
}

/* An operation may meet what another thread did, and a full disk; nothing else. */
static int may(int r, const char *what, uint64_t object)
{
	static const int fine[] = { -ENOENT,  -EEXIST, -ENOTEMPTY, -ESTALE, -ENOTDIR, -EISDIR, -ENOSPC,
				    -ENODATA, -ENXIO,  -EINVAL,    -EPERM,  -EMLINK,  -EACCES, -EXDEV };

	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++)
		if (r == fine[i])
			return r;
	if (r < 0)
		complain(what, object, r);
	return r;
}

static unsigned any(struct worker *w, unsigned below)
{
	return (unsigned)rand_r(&w->seed) % below;
}

static void keep(struct worker *w, uint64_t object)
{
	if (w->held_count == HELD) {
		unsigned i = any(w, HELD);

		volume_forget(vol, w->held[i], 1);
		w->held[i] = w->held[--w->held_count];
	}
	w->held[w->held_count++] = object;
}

/* The root or one of the directories below it, which come and go. */
static uint64_t some_dir(struct worker *w)
{
	unsigned d = any(w, DIRS + 1);
	char name[16];
	struct attr a;

	if (d == DIRS)
		return ROOT_OBJECT;
	snprintf(name, sizeof(name), "dir%u", d);
	if (volume_lookup(vol, ROOT_OBJECT, name, &a) < 0)
		return ROOT_OBJECT;
	keep(w, a.st.st_ino);
	return a.st.st_ino;
}

static void some_name(struct worker *w, char out[static 300])
{
	unsigned i = any(w, NAMES);

	/* Some are long, so that directories have several blocks. */
	snprintf(out, 300, "%u%0*d", i, i % 3 ? 1 : 200, 0);
}

static uint64_t some_file(struct worker *w)
{
	char name[300];
	struct attr a;

	if (w->held_count && any(w, 2))
		return w->held[any(w, w->held_count)];
	some_name(w, name);
	if (may(volume_lookup(vol, some_dir(w), name, &a), "lookup", 0) < 0)
		return 0;
	keep(w, a.st.st_ino);
	return a.st.st_ino;
}

static void stamp(uint8_t *buf, uint64_t object, uint64_t off, size_t len)
{
	for (size_t at = 0; at < len; at += UNIT) {
		memset(buf + at, (int)(off / UNIT), UNIT);
		put_le64(buf + at, object);
		put_le64(buf + at + 8, off + at);
	}
}

static void check_stamps(const uint8_t *buf, uint64_t object, uint64_t off, size_t len)
{
	static const uint8_t zeros[UNIT];

	for (size_t at = 0; at + UNIT <= len; at += UNIT)
		if (memcmp(buf + at, zeros, UNIT) != 0 &&
		    (get_le64(buf + at) != object || get_le64(buf + at + 8) != off + at))
			complain("another file's content, or another place's", object, 0);
}

static void do_read(struct worker *w, uint64_t object)
{
	uint64_t off = any(w, FILE_MAX) / UNIT * UNIT;
	size_t len = 1 + any(w, IO_MAX);
	ssize_t n = volume_read(vol, object, off, len, w->buf);

	may((int)n, "read", object);
	if (n > 0)
		check_stamps(w->buf, object, off, (size_t)n);
}

static void do_write(struct worker *w, uint64_t object)
{
	uint64_t off = any(w, FILE_MAX) / UNIT * UNIT;
	size_t len = (1 + any(w, any(w, 4) ? 8192 : IO_MAX)) / UNIT * UNIT;

	stamp(w->buf, object, off, len);
	may(volume_write(vol, object, off, len, w->buf, any(w, 3) ? KEEP_IDS : KILL_IDS), "write", object);
}

static void do_resize(struct worker *w, uint64_t object)
{
	struct stat st = { .st_size = (off_t)(any(w, 3) ? any(w, FILE_MAX) / UNIT * UNIT : 0) };
	struct attr a;

	switch (any(w, 3)) {
	case 0:
		may(volume_setattr(vol, object, &st, SET_SIZE, &a), "truncate", object);
		break;
	case 1:
		may(volume_fallocate(vol, object, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     any(w, FILE_MAX) / UNIT * UNIT, (1 + any(w, FILE_MAX / UNIT)) * UNIT, KEEP_IDS),
		    "punch", object);
		break;
	default:
		may(volume_fallocate(vol, object, FALLOC_FL_KEEP_SIZE, any(w, FILE_MAX), 1 + any(w, 65536), KEEP_IDS),
		    "allocate", object);
	}
}

static void do_attributes(struct worker *w, uint64_t object)
{
	struct stat s = { .st_mode = 0600 | any(w, 0100), .st_uid = any(w, 5) };
	char list[4096];
	struct attr a;
	uint64_t at;

	switch (any(w, 6)) {
	case 0:
		may(volume_setattr(vol, object, &s, SET_MODE | (any(w, 2) ? SET_UID : 0), &a), "chmod", object);
		break;
	case 1:
		may(volume_setxattr(vol, object, any(w, 2) ? "user.a" : "user.b", w->buf,
				    any(w, any(w, 8) ? 200 : 20000), 0, false),
		    "setxattr", object);
		break;
	case 2:
		may(volume_removexattr(vol, object, any(w, 2) ? "user.a" : "user.b"), "removexattr", object);
		break;
	case 3:
		at = (uint64_t)volume_listxattr(vol, object, true, list, sizeof(list));
		may((int)at, "listxattr", object);
		break;
	case 4:
		may(volume_seek(vol, object, any(w, FILE_MAX), any(w, 2) ? SEEK_DATA : SEEK_HOLE, &at), "seek", object);
		break;
	default:
		may(volume_getattr(vol, object, &a), "getattr", object);
	}
}

static bool see_entry(void *arg, const struct dirent_view *e)
{
	unsigned *left = arg;

	if (e->a && strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0) {
		if (!*left) /* not accepted: no reference */
			return false;
		volume_forget(vol, e->object, 0);
	}
	return (*left)-- > 1;
}

static void do_list(struct worker *w)
{
	unsigned left = 1 + any(w, 60);

	may(volume_readdir(vol, some_dir(w), 0, false, see_entry, &left), "readdir", 0);
}

static void do_names(struct worker *w)
{
	static const struct caller c = { .uid = 1, .gid = 2, .umask = 022 };
	uint64_t dir = some_dir(w), other = some_dir(w), object;
	char name[300], new_name[300], top[16];
	struct attr a;

	some_name(w, name);
	some_name(w, new_name);
	snprintf(top, sizeof(top), "dir%u", any(w, DIRS));
	switch (any(w, 10)) {
	case 0:
		if (may(volume_make(vol, &c, ROOT_OBJECT, top, S_IFDIR | 0755, 0, NULL, &a), "mkdir", 0) == 0)
			keep(w, a.st.st_ino);
		break;
	case 1:
		may(volume_rmdir(vol, ROOT_OBJECT, top), "rmdir", 0);
		break;
	case 2:
		if (may(volume_tmpfile(vol, &c, dir, 0600, &a), "tmpfile", 0) == 0)
			keep(w, a.st.st_ino);
		break;
	case 3:
		object = some_file(w);
		if (object && may(volume_link(vol, object, dir, name, &a), "link", object) == 0)
			keep(w, object);
		break;
	case 4:
	case 5:
		may(volume_unlink(vol, dir, name), "unlink", 0);
		break;
	case 6:
	case 7:
		may(volume_rename(vol, dir, name, other, new_name, any(w, 3)), "rename", 0);
		break;
	default:
		if (may(volume_make(vol, &c, dir, name, S_IFREG | 0644, 0, NULL, &a), "create", 0) == 0)
			keep(w, a.st.st_ino);
	}
}

static void see_line(void *arg, const char *line)
{
	(void)arg;
	if (!strstr(line, "has no name"))
		fprintf(stderr, "fsck: %s\n", line);
}

static void do_whole(struct worker *w)
{
	struct volume_status s;
	struct fsck_result f;
	struct statvfs fs;
	int r;

	switch (any(w, 40)) {
	case 0:
		r = volume_fsck(vol, any(w, 2), see_line, NULL, &f);
		if ((r < 0 && r != -EAGAIN) || f.errors) /* it makes way for who changes keys */
			complain("fsck", 0, r);
		break;
	case 1:
		may(volume_sync(vol), "sync", 0);
		break;
	case 2:
		volume_status(vol, &s);
		if (s.failed)
			complain("the volume failed", 0, 0);
		break;
	default:
		may(volume_statfs(vol, &fs), "statfs", 0);
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&stop)) {
		unsigned what = any(w, 100);
		uint64_t file = what < 60 ? some_file(w) : 0;

		atomic_fetch_add(&operations, 1);
		if (what >= 98)
			do_whole(w);
		else if (what >= 95)
			do_list(w);
		else if (what >= 60)
			do_names(w);
		else if (!file)
			continue;
		else if (what < 20)
			do_read(w, file);
		else if (what < 38)
			do_write(w, file);
		else if (what < 44)
			do_resize(w, file);
		else if (what < 52)
			do_attributes(w, file);
		else if (what < 57)
			may(volume_fsync(vol, file), "fsync", file);
		else if (w->held_count)
			volume_forget(vol, w->held[--w->held_count], 1);
	}
	return NULL;
}

/* ---- keys ---- */

static void *move_around(void *arg)
{
	struct worker *w = arg;

	log_mute(true); /* what is refused */
	while (!atomic_load(&stop)) {
		uint64_t object = any(w, 4) ? some_file(w) : some_dir(w);

		/* All in reach may end up in the scope that is locked at times: so most go elsewhere. */
		if (object && object != ROOT_OBJECT &&
		    may(volume_scope_assign(vol, object, any(w, any(w, 4) ? SCOPES - 1 : SCOPES), any(w, 10) == 0),
			"assign", object) == 0)
			atomic_fetch_add(&assigned, 1);
	}
	return NULL;
}

static void *change_keys(void *arg)
{
	struct worker *w = arg;
	struct scope_view s;
	uint32_t pending;

	log_mute(true);
	while (!atomic_load(&stop)) {
		pending = any(w, SCOPES);
		if (volume_scope(vol, pending, &s) < 0)
			complain("scope", pending, 0);
		/* -EAGAIN: the volume's own thread changed something about the scope meanwhile. */
		int r = !s.reencryption.pending && s.open ? volume_reencrypt(vol, pending, any(w, 2) * 64) : -EAGAIN;

		if (r != -EAGAIN && may(r, "reencrypt", pending) == 0)
			atomic_fetch_add(&reencrypted, 1);
		if (locking && any(w, 4) == 0 && volume_key_lock(vol, SCOPES - 1) < 0)
			complain("lock", 0, 0);
		usleep(any(w, 50000));
		if (locking && (r = volume_key_unlock(vol, SCOPES - 1)) < 0 && r != -EAGAIN)
			complain("unlock", 0, r);
	}
	return NULL;
}

static int open_volume(void)
{
	struct volume_options o = { .state_dir = state, .sync_interval = 1 };
	int r = volume_open(backing, &o, &vol);

	if (r < 0)
		fprintf(stderr, "hammer: open: %s\n", strerror(-r));
	return r;
}

static void run(double seconds, unsigned seed)
{
	static void *(*const others[])(void *arg) = { move_around, change_keys };
	struct worker workers[THREADS + 2] = { 0 };
	enum { ALL = sizeof(workers) / sizeof(*workers) };
	struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	volume_keeper_start(vol, &(struct kernel_cache){ 0 });
	for (unsigned i = 0; i < ALL; i++) {
		workers[i].seed = seed * 1000 + i;
		workers[i].buf = malloc(IO_MAX + 3 * BLOCK_SIZE);
		pthread_create(&workers[i].thread, NULL, i < THREADS ? work : others[i - THREADS], &workers[i]);
	}
	nanosleep(&t, NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < ALL; i++) {
		pthread_join(workers[i].thread, NULL);
		while (workers[i].held_count)
			volume_forget(vol, workers[i].held[--workers[i].held_count], 1);
		free(workers[i].buf);
	}
	volume_keeper_stop(vol);
}

/* Everything is there and fits together, and nothing is left over. */
static int check(const char *when)
{
	struct fsck_result f = { 0 };
	int r = open_volume();

	if (r < 0)
		return r;
	r = volume_fsck(vol, true, see_line, NULL, &f);
	printf("%s: %" PRIu64 " objects, %" PRIu64 " names, %" PRIu64 " errors, %" PRIu64 " orphans\n", when, f.objects,
	       f.names, f.errors, f.orphans);
	if (r < 0 || f.errors || (f.orphans && !locking))
		atomic_store(&wrong, true);
	r = volume_close(vol);
	if (r < 0)
		complain("close", 0, r);
	return r;
}

static int live(double seconds, unsigned seed)
{
	if (open_volume() < 0)
		return 1;
	run(seconds, seed);
	int r = volume_close(vol);

	if (r < 0)
		complain("close", 0, r);
	printf("%lu operations, %lu assigned, %lu reencrypted\n", atomic_load(&operations), atomic_load(&assigned),
	       atomic_load(&reencrypted));
	return check("closed and opened") < 0 || atomic_load(&wrong);
}

static int killed(double seconds, unsigned seed)
{
	fflush(NULL);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

		pid_t victim = getpid();

		if (fork() == 0) { /* before there are threads */
			nanosleep(&t, NULL);
			kill(victim, SIGKILL);
			_exit(0);
		}
		if (open_volume() < 0)
			_exit(1);
		run(1000, seed);
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		fprintf(stderr, "hammer: the process ended by itself\n");
		return 1;
	}
	return check("killed and opened") < 0 || atomic_load(&wrong);
}

static int make_key(void)
{
	uint8_t key[KEY_SIZE];
	char path[PATH_MAX + 16];

	random_bytes(key, sizeof(key));
	snprintf(path, sizeof(path), "%s/key", scratch);
	snprintf(key_uri, sizeof(key_uri), "file://%s", path);
	snprintf(state, sizeof(state), "%s/state", scratch);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	int r = fd < 0 ? -errno : write_all(fd, key, sizeof(key));

	if (fd >= 0)
		close(fd);
	return r;
}

static int make_volume(enum suite suite)
{
	static const enum suite suites[] = { SUITE_XTS, SUITE_XTS_GMAC, SUITE_XTS_GCM };
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/volume%d", scratch, suite);
	if (mkdir(path, 0700) < 0)
		return -errno;
	if (geteuid() == 0) { /* our own view of mounts: it goes with the process */
		char options[32];

		snprintf(options, sizeof(options), "size=%dm", VOLUME_MIB);
		if (mount("hammer", path, "tmpfs", 0, options) < 0)
			fprintf(stderr, "hammer: no file system of its own: %s\n", strerror(errno));
	}
	if (backing >= 0)
		close(backing);
	backing = open(path, O_RDONLY | O_DIRECTORY);
	int r = backing < 0 ? -errno : volume_create(backing, suite, key_uri, NULL, state);

	if (r == 0)
		r = open_volume();
	for (uint32_t i = 1; r == 0 && i < SCOPES; i++)
		r = volume_scope_create(vol, i == 1 ? "one" : "two", key_uri, suites[(suite + i) % SCOPES], NULL);
	return r < 0 ? r : volume_close(vol);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 3;
	unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : (unsigned)time(NULL);
	const char *tmp = getenv("TMPDIR");
	int r = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(scratch, sizeof(scratch), "%s/coffer-hammer-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(scratch) || crypto_start() < 0 || make_key() < 0)
		return 2;
	if (geteuid() == 0 && (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
		perror("hammer: unshare");
	printf("seed %u\n", seed);
	log_set_level(LOG_LEVEL_ERROR);
	for (enum suite s = SUITE_XTS; r == 0 && s <= SUITE_XTS_GCM; s++) {
		locking = s == SUITE_XTS_GCM;
		r = make_volume(s) < 0 ? 2 : live(seconds, seed);
		atomic_store(&stop, false);
		for (unsigned i = 0; r == 0 && i < 3; i++)
			r = killed(seconds / 3, seed + i + 1);
	}
	if (backing >= 0)
		close(backing);
	for (enum suite s = SUITE_XTS; s <= SUITE_XTS_GCM; s++) {
		char path[PATH_MAX + 32];

		snprintf(path, sizeof(path), "%s/volume%d", scratch, s);
		umount2(path, MNT_DETACH);
	}
	nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return r;
}
