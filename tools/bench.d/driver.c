/*
 * The timed loops of tools/bench: one process per measurement, no shell per file. Each prints one speed (bigger is better).
 *
 *	driver ROW DIR MIB FILES SYNCS	one row on DIR/big or DIR/small
 *	driver run ITEMS CMD...		a command that handles ITEMS files
 *
 * Every block carries its number, and what is read is checked, so that a file system cannot win by being wrong.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, CHUNK = 1 << 20, DIRS = 100, PASSES = 20 };

static struct {
	const char *dir;
	uint64_t size;  /* bytes of DIR/big */
	unsigned files; /* in DIR/small */
	unsigned syncs; /* operations of the fsync'd rows */
} cfg;

static unsigned char chunk[CHUNK];
static struct timespec began;

static uint64_t next_random(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void start(void)
{
	clock_gettime(CLOCK_MONOTONIC, &began);
}

static void stop(double amount)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	double seconds = (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) / 1e9;

	printf("%.3f\n", amount / (seconds > 1e-6 ? seconds : 1e-6));
}

static int open_big(int flags)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/big", cfg.dir);
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void write_at(int fd, size_t len, uint64_t offset)
{
	for (size_t at = 0; at < len; at += BLOCK) {
		uint64_t number = (offset + at) / BLOCK;

		memcpy(chunk + at, &number, sizeof(number));
	}
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, chunk + done, len - done, (off_t)(offset + done));

		if (n < 0)
			err(1, "write");
		done += (size_t)n;
	}
}

static void read_at(int fd, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, chunk + done, len - done, (off_t)(offset + done));

		if (n <= 0)
			err(1, "read at %llu", (unsigned long long)(offset + done));
		done += (size_t)n;
	}
	for (size_t at = 0; at < len; at += BLOCK) {
		uint64_t number;

		memcpy(&number, chunk + at, sizeof(number));
		if (number != (offset + at) / BLOCK)
			errx(1, "wrong data at %llu", (unsigned long long)(offset + at));
	}
}

static void sync_or_die(int fd)
{
	if (fsync(fd))
		err(1, "fsync");
}

static double mib(void)
{
	return (double)cfg.size / (1 << 20);
}

static void write_through(int fd)
{
	start();
	for (uint64_t at = 0; at < cfg.size; at += CHUNK)
		write_at(fd, CHUNK, at);
	sync_or_die(fd);
	stop(mib());
	close(fd);
}

static void seq_write(void)
{
	write_through(open_big(O_WRONLY | O_CREAT | O_EXCL));
}

static void seq_overwrite(void)
{
	write_through(open_big(O_WRONLY));
}

static void seq_read(void)
{
	int fd = open_big(O_RDONLY);

	start();
	for (uint64_t at = 0; at < cfg.size; at += CHUNK)
		read_at(fd, CHUNK, at);
	stop(mib());
	close(fd);
}

static void random_blocks(int flags, void (*one)(int, size_t, uint64_t))
{
	int fd = open_big(flags);
	unsigned count = (unsigned)(cfg.size / BLOCK / 8);

	start();
	for (unsigned i = 0; i < count; i++)
		one(fd, BLOCK, next_random() % (cfg.size / BLOCK) * BLOCK);
	if (flags != O_RDONLY)
		sync_or_die(fd);
	stop(count);
	close(fd);
}

static void rand_write(void)
{
	random_blocks(O_WRONLY, write_at);
}

static void rand_read(void)
{
	random_blocks(O_RDONLY, read_at);
}

static void fsync_write(void)
{
	int fd = open_big(O_WRONLY);

	start();
	for (unsigned i = 0; i < cfg.syncs; i++) {
		write_at(fd, BLOCK, next_random() % (cfg.size / BLOCK) * BLOCK);
		sync_or_die(fd);
	}
	stop(cfg.syncs);
	close(fd);
}

/* Files of 1 to 8 KiB; the size follows from the number, so that reading can check it. */
static size_t small_size(unsigned i)
{
	return 1024 + (i * 2654435761u >> 8) % 7169;
}

static void small_path(char path[static 4096], unsigned i, const char *suffix)
{
	snprintf(path, 4096, "%s/small/d%02u/file-%06u%s", cfg.dir, i % DIRS, i, suffix);
}

static void write_small(const char *path, size_t len, int sync)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, chunk, len) != (ssize_t)len)
		err(1, "%s", path);
	if (sync)
		sync_or_die(fd);
	if (close(fd))
		err(1, "%s", path);
}

static void create(void)
{
	char path[4096];

	start();
	snprintf(path, sizeof(path), "%s/small", cfg.dir);
	if (mkdir(path, 0700))
		err(1, "%s", path);
	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(path, sizeof(path), "%s/small/d%02u", cfg.dir, i);
		if (mkdir(path, 0700))
			err(1, "%s", path);
	}
	for (unsigned i = 0; i < cfg.files; i++) {
		small_path(path, i, "");
		write_small(path, small_size(i), 0);
	}
	stop(cfg.files);
}

static void fsync_create(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/synced", cfg.dir);
	if (mkdir(path, 0700))
		err(1, "%s", path);
	start();
	for (unsigned i = 0; i < cfg.syncs; i++) {
		snprintf(path, sizeof(path), "%s/synced/file-%06u", cfg.dir, i);
		write_small(path, BLOCK, 1);
	}
	stop(cfg.syncs);
	for (unsigned i = 0; i < cfg.syncs; i++) {
		snprintf(path, sizeof(path), "%s/synced/file-%06u", cfg.dir, i);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/synced", cfg.dir);
	rmdir(path);
}

/* What `ls -l` does: names, then attributes. */
static void list(void)
{
	char path[4096];
	unsigned seen = 0;

	start();
	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(path, sizeof(path), "%s/small/d%02u", cfg.dir, i);
		DIR *d = opendir(path);
		struct stat st;

		if (!d)
			err(1, "%s", path);
		for (struct dirent *e = readdir(d); e; e = readdir(d)) {
			if (e->d_name[0] == '.')
				continue;
			if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
				err(1, "%s/%s", path, e->d_name);
			seen++;
		}
		closedir(d);
	}
	stop(seen);
	if (seen != cfg.files)
		errx(1, "listed %u files of %u", seen, cfg.files);
}

static void stat_each(void)
{
	char path[4096];
	struct stat st;

	start();
	for (unsigned n = 0; n < PASSES * cfg.files; n++) {
		unsigned i = n % cfg.files;

		small_path(path, i, "");
		if (stat(path, &st) || (size_t)st.st_size != small_size(i))
			err(1, "stat %s", path);
	}
	stop(PASSES * cfg.files);
}

static void read_each(void)
{
	char path[4096];

	start();
	for (unsigned i = 0; i < cfg.files; i++) {
		small_path(path, i, "");
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, chunk, CHUNK) != (ssize_t)small_size(i))
			err(1, "read %s", path);
		close(fd);
	}
	stop(cfg.files);
}

static void rename_each(void)
{
	char from[4096], to[4096];

	start();
	for (unsigned i = 0; i < cfg.files; i++) {
		small_path(from, i, "");
		small_path(to, i, ".renamed");
		if (rename(from, to))
			err(1, "rename %s", from);
	}
	stop(cfg.files);
	for (unsigned i = 0; i < cfg.files; i++) {
		small_path(from, i, "");
		small_path(to, i, ".renamed");
		if (rename(to, from))
			err(1, "rename %s", to);
	}
}

static void unlink_each(void)
{
	char path[4096];

	start();
	for (unsigned i = 0; i < cfg.files; i++) {
		small_path(path, i, "");
		if (unlink(path))
			err(1, "unlink %s", path);
	}
	for (unsigned i = 0; i < DIRS; i++) {
		snprintf(path, sizeof(path), "%s/small/d%02u", cfg.dir, i);
		if (rmdir(path))
			err(1, "rmdir %s", path);
	}
	stop(cfg.files);
	snprintf(path, sizeof(path), "%s/small", cfg.dir);
	if (rmdir(path))
		err(1, "rmdir %s", path);
}

static void run(unsigned items, char **argv)
{
	int status;

	start();
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], argv);
		err(127, "%s", argv[0]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s failed", argv[0]);
	stop(items);
}

static const struct {
	const char *name;
	void (*function)(void);
} rows[] = {
	{ "seq-write", seq_write }, { "seq-overwrite", seq_overwrite },
	{ "seq-read", seq_read },   { "rand-write", rand_write },
	{ "rand-read", rand_read }, { "fsync-write", fsync_write },
	{ "create", create },       { "fsync-create", fsync_create },
	{ "list", list },           { "stat", stat_each },
	{ "read", read_each },      { "rename", rename_each },
	{ "unlink", unlink_each },
};

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "run")) {
		run((unsigned)atoi(argv[2]), argv + 3);
		return 0;
	}
	if (argc != 6)
		errx(2, "usage: driver ROW DIR MIB FILES SYNCS | run ITEMS CMD...");
	cfg.dir = argv[2];
	cfg.size = strtoull(argv[3], NULL, 10) << 20;
	cfg.files = (unsigned)atoi(argv[4]);
	cfg.syncs = (unsigned)atoi(argv[5]);
	for (size_t i = 0; i < sizeof(chunk); i += sizeof(uint64_t)) {
		uint64_t word = next_random();

		memcpy(chunk + i, &word, sizeof(word));
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strcmp(argv[1], rows[i].name)) {
			rows[i].function();
			return 0;
		}
	errx(2, "unknown row %s", argv[1]);
}
