/* A volume in a scratch directory, for the tests of the store and volume layers. */
#ifndef COFFER_TESTS_VOLUME_FIXTURE_H
#define COFFER_TESTS_VOLUME_FIXTURE_H

#include "key_fixture.h"

#include <sys/wait.h>

#include <coffer/volume.h>

#include "../../src/volume/keeper.h"

static const enum suite suites[] = { SUITE_XTS, SUITE_XTS_GMAC, SUITE_XTS_GCM };
enum { SUITES = sizeof(suites) / sizeof(*suites) };

static int backing = -1;
static struct volume *vol;

/* A new, empty volume of the suite, in a directory of its own. Not opened. */
static inline void make_volume(enum suite suite)
{
	static unsigned next;
	char uri[2 * PATH_MAX];
	uint8_t key[KEY_SIZE] = { 1, 2, 3, (uint8_t)suite };

	put_file(in_scratch("key"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("key"));
	if (backing >= 0)
		close(backing);
	backing = open_dir_at(in_scratch("volume%u", next++));
	cr_assert_eq(volume_create(backing, suite, uri, NULL, in_scratch("state")), 0);
}

static inline int try_open(bool read_only)
{
	struct volume_options o = {
		.read_only = read_only, .shared = read_only, .state_dir = in_scratch("state"), .sync_interval = 1000
	};

	return volume_open(backing, &o, &vol);
}

static inline void open_volume(void)
{
	int r = try_open(false);

	cr_assert_eq(r, 0, "open: %s", strerror(-r));
}

static inline void close_volume(void)
{
	cr_assert_eq(volume_close(vol), 0);
	vol = NULL;
}

static inline void reopen_volume(void)
{
	close_volume();
	open_volume();
}

/* Works on the volume in another process, which is then gone as by SIGKILL. Not while this one has it open. */
static inline void work_and_die(void (*work)(void *arg), void *arg)
{
	pid_t pid = fork();
	int status;

	cr_assert(pid >= 0);
	if (pid == 0) {
		open_volume();
		work(arg);
		raise(SIGKILL);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
}

static const struct caller me = { .uid = 1000, .gid = 1000, .umask = 022 };

static inline uint64_t make(uint64_t parent, const char *name, mode_t mode)
{
	struct attr a;
	int r = volume_make(vol, &me, parent, name, mode, 0, S_ISLNK(mode) ? "target" : NULL, &a);

	cr_assert_eq(r, 0, "make %s: %s", name, strerror(-r));
	return a.st.st_ino;
}

static inline uint64_t lookup(uint64_t parent, const char *name)
{
	struct attr a;

	return volume_lookup(vol, parent, name, &a) == 0 ? a.st.st_ino : 0;
}

static inline struct stat attributes(uint64_t object)
{
	struct attr a;

	cr_assert_eq(volume_getattr(vol, object, &a), 0);
	return a.st;
}

static inline void truncate_to(uint64_t object, uint64_t size)
{
	struct stat st = { .st_size = (off_t)size };
	struct attr a;
	int r = volume_setattr(vol, object, &st, SET_SIZE, &a);

	cr_assert_eq(r, 0, "truncate: %s", strerror(-r));
	cr_assert_eq((uint64_t)a.st.st_size, size);
}

static inline void say_finding(void *arg, const char *line)
{
	(void)arg;
	if (strstr(line, "it is open"))
		return;
	fprintf(stdout, "fsck: %s\n", line);
	fflush(stdout);
}

static inline void expect_sound(uint64_t orphans)
{
	struct fsck_result f;

	cr_assert_eq(volume_fsck(vol, true, say_finding, NULL, &f), 0);
	cr_assert_eq(f.errors, 0);
	cr_assert_eq(f.orphans, orphans);
}

/* Everybody's key source is asked, and what comes of it is done. */
static inline void poll_now(void)
{
	LOCK_SCOPE(&vol->key_lock);

	for (size_t i = 0; i < vol->status_count; i++)
		vol->statuses[i].asked_ms = 0;
	vol->keeper.platform_ms = 0;
	for (keeper_poll(vol); vol->keeper.questions; keeper_poll(vol))
		pthread_cond_wait(&vol->keeper.wake, &vol->key_lock);
}

#endif
