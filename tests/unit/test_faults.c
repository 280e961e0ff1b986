/* The backing file system fails: at every call in turn, once or from then on, with EIO, ENOSPC or a short write. Nothing hangs,
 * what was acknowledged is there at the next mount, and nothing is damaged. The calls are wrapped by the linker (--wrap). */
#include "volume_fixture.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "../../src/store/internal.h"

TestSuite(faults, .init = scratch_in_memory, .fini = scratch_end, .timeout = 280);

enum mode { FAIL_ONCE, FAIL_ALWAYS, SHORT_WRITES };
enum { STEPS = 45, LAG = 8, SMALL = 5000, LARGE = 80000 };

/* Shared with the process that meets the faults. */
static struct plan {
	atomic_uint calls; /* so far; those count only when armed */
	atomic_bool armed;
	unsigned fail_at;
	enum mode mode;
	int error;
	atomic_uint made[STEPS];    /* 1: under way, 2: acknowledged */
	atomic_uint removed[STEPS]; /* likewise */
	atomic_bool failed, opened;
	atomic_int closed; /* 1 + what volume_close said */
} * plan;

static bool fails(void)
{
	if (!plan || !atomic_load(&plan->armed) || plan->mode == SHORT_WRITES)
		return false;
	unsigned call = atomic_fetch_add(&plan->calls, 1);

	if (call < plan->fail_at || (plan->mode == FAIL_ONCE && call > plan->fail_at))
		return false;
	atomic_store(&plan->failed, true);
	errno = plan->error;
	return true;
}

#define WRAP(name, params, args)                          \
	int __real_##name params;                         \
	int __wrap_##name params;                         \
	int __wrap_##name params                          \
	{                                                 \
		return fails() ? -1 : __real_##name args; \
	}
WRAP(fdatasync, (int fd), (fd))
WRAP(fsync, (int fd), (fd))
WRAP(syncfs, (int fd), (fd))
WRAP(ftruncate64, (int fd, off_t len), (fd, len))

/* The log's space is not really reserved: on memory that would take most of the test's time. */
int __real_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t len)
{
	struct stat s;

	if (fails())
		return -1;
	if (mode != 0 || len < 16 << 20)
		return __real_fallocate64(fd, mode, off, len);
	return fstat(fd, &s) < 0 ? -1 : s.st_size < off + len ? __real_ftruncate64(fd, off + len) : 0;
}

ssize_t __real_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t len, off_t off)
{
	if (fails())
		return -1;
	if (plan && atomic_load(&plan->armed) && plan->mode == SHORT_WRITES && len > 1)
		len -= len / 3;
	return __real_pwrite64(fd, buf, len, off);
}

ssize_t __real_pwritev64(int fd, const struct iovec *pieces, int count, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *pieces, int count, off_t off);
ssize_t __wrap_pwritev64(int fd, const struct iovec *pieces, int count, off_t off)
{
	static atomic_uint turn;

	if (fails()) {
		/* An error may leave half of it written. */
		if (plan->error == EIO && count > 1)
			(void)!__real_pwritev64(fd, pieces, count / 2, off);
		errno = plan->error;
		return -1;
	}
	if (plan && atomic_load(&plan->armed) && plan->mode == SHORT_WRITES) {
		struct iovec first = pieces[0];
		unsigned how = atomic_fetch_add(&turn, 1) % 4;

		if (how == 0)
			return __real_pwrite64(fd, first.iov_base, first.iov_len > 1 ? first.iov_len / 2 : 1, off);
		if (how == 1 && count > 1)
			count = (count + 1) / 2;
	}
	return __real_pwritev64(fd, pieces, count, off);
}

static size_t size_of(unsigned step)
{
	return step % 6 == 5 ? LARGE : SMALL;
}

static void one_step(unsigned step)
{
	static uint8_t data[LARGE];
	char name[16];
	struct attr a;

	snprintf(name, sizeof(name), "%u", step);
	memset(data, (int)step + 1, sizeof(data));
	atomic_store(&plan->made[step], 1);
	if (volume_make(vol, &me, ROOT_OBJECT, name, S_IFREG | 0644, 0, NULL, &a) == 0 &&
	    volume_write(vol, a.st.st_ino, 0, size_of(step), data, KEEP_IDS) == 0)
		atomic_store(&plan->made[step], 2);
	if (step % 4 == 0)
		(void)volume_fsync(vol, ROOT_OBJECT);
	if (step % 4 == 1)
		(void)volume_sync(vol);
	if (step < LAG)
		return;
	snprintf(name, sizeof(name), "%u", step - LAG);
	atomic_store(&plan->removed[step - LAG], 1);
	if (volume_unlink(vol, ROOT_OBJECT, name) == 0)
		atomic_store(&plan->removed[step - LAG], 2);
}

static void work(bool armed_early)
{
	atomic_store(&plan->armed, armed_early);
	if (try_open(false) < 0)
		return;
	atomic_store(&plan->opened, true);
	atomic_store(&plan->armed, true);
	for (unsigned step = 0; step < STEPS; step++) {
		one_step(step);
		if (step % 15 == 14) { /* a checkpoint, now */
			pthread_mutex_lock(&vol->store->log_lock);
			vol->store->wanted = true;
			pthread_cond_signal(&vol->store->wake);
			pthread_mutex_unlock(&vol->store->log_lock);
			usleep(2000);
		}
	}
	atomic_store(&plan->closed, 1 + volume_close(vol));
}

static void expect_step(unsigned step)
{
	static uint8_t got[LARGE + 2 * BLOCK_SIZE];
	unsigned made = plan->made[step], removed = plan->removed[step];
	char name[16];

	snprintf(name, sizeof(name), "%u", step);
	uint64_t file = lookup(ROOT_OBJECT, name);

	if (made == 2 && !removed)
		cr_assert_neq(file, 0, "%s is lost; failing at %u, mode %d, error %d", name, plan->fail_at, plan->mode,
			      plan->error);
	if (removed == 2 || !made)
		cr_assert_eq(file, 0, "%s is there", name);
	if (!file || made != 2)
		return;
	cr_assert_eq(volume_read(vol, file, 0, LARGE, got), (ssize_t)size_of(step));
	for (size_t i = 0; i < size_of(step); i++)
		cr_assert_eq(got[i], (uint8_t)(step + 1));
}

/* Whether the fault was met at all. */
static bool one_fault(unsigned at, enum mode mode, int error, bool armed_early)
{
	int status, r;

	memset(plan, 0, sizeof(*plan));
	plan->fail_at = at;
	plan->mode = mode;
	plan->error = error;
	pid_t pid = fork();

	cr_assert(pid >= 0);
	if (pid == 0) {
		work(armed_early);
		_exit(0);
	}
	for (unsigned i = 0; (r = waitpid(pid, &status, WNOHANG)) == 0; i++) {
		usleep(1000);
		if (i > 30000) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			cr_assert_fail("hangs: failing at %u, mode %d, error %d", at, mode, error);
		}
	}
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x, failing at %u", status, at);
	atomic_store(&plan->armed, false);
	open_volume();
	for (unsigned step = 0; step < STEPS; step++)
		expect_step(step);
	expect_sound(0);
	for (unsigned step = 0; step < STEPS; step++) { /* for the next round */
		char name[16];

		snprintf(name, sizeof(name), "%u", step);
		(void)volume_unlink(vol, ROOT_OBJECT, name);
	}
	close_volume();
	return plan->failed;
}

static void start_plan(enum suite suite)
{
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(plan, MAP_FAILED);
	memset(plan, 0, sizeof(*plan));
	make_volume(suite);
}

Test(faults, errors_once)
{
	start_plan(SUITE_XTS_GMAC);
	for (unsigned at = 0; at < 1000; at += 1 + at / 40)
		if (!one_fault(at, FAIL_ONCE, EIO, false))
			break;
}

Test(faults, errors_for_good)
{
	start_plan(SUITE_XTS_GCM);
	for (unsigned at = 0; at < 1000; at += 2 + at / 40)
		if (!one_fault(at, FAIL_ALWAYS, EIO, false))
			break;
}

Test(faults, no_space_once)
{
	start_plan(SUITE_XTS_GMAC);
	for (unsigned at = 0; at < 1000; at += 2 + at / 40)
		if (!one_fault(at, FAIL_ONCE, ENOSPC, false))
			break;
}

Test(faults, while_opening)
{
	start_plan(SUITE_XTS);
	for (unsigned at = 0; at < 24; at++) {
		one_fault(at, FAIL_ONCE, EIO, true);
		one_fault(at, FAIL_ALWAYS, at % 2 ? EIO : ENOSPC, true);
	}
}

Test(faults, short_writes)
{
	for (unsigned s = 0; s < SUITES; s++) {
		start_plan(suites[s]);
		one_fault(0, SHORT_WRITES, 0, false);
		cr_assert_eq(plan->closed, 1);
		for (unsigned step = 0; step < STEPS; step++)
			cr_assert_eq(plan->made[step], 2);
	}
}
