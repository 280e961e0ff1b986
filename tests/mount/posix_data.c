/* POSIX suite: contents. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

/* As far as the file systems below go: a byte at every power of two up to 8 TiB, EFBIG beyond all of them. */
static bool sparse_files(void)
{
	const off_t far = (off_t)8 << 40;
	unsigned char byte;
	struct stat st;
	off_t data;
	int fd = open(path_of("f"), O_CREAT | O_RDWR, 0644);

	CHECK(fd >= 0);
	for (off_t at = 4096; at <= far; at *= 2)
		CHECK(pwrite(fd, "x", 1, at) == 1);
	CHECK(fsync(fd) == 0 && fstat(fd, &st) == 0 && st.st_size == far + 1);
	CHECK(st.st_blocks < 4096);
	close(fd);
	CHECK(remount());
	fd = open(path_of("f"), O_RDWR);
	CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == far + 1 && st.st_blocks < 4096);
	for (off_t at = 4096; at <= far; at *= 2) {
		CHECK(pread(fd, &byte, 1, at) == 1 && byte == 'x');
		CHECK(pread(fd, &byte, 1, at - 1) == 1 && byte == 0);
		CHECK(at == far || (pread(fd, &byte, 1, at + at / 2) == 1 && byte == 0));
	}
	data = lseek(fd, ((off_t)4 << 40) + MIB * 100L, SEEK_DATA);
	CHECK(data > (off_t)5 << 40 && data <= far);
	CHECK(ftruncate(fd, 5000) == 0 && ftruncate(fd, far) == 0);
	CHECK(pread(fd, &byte, 1, (off_t)1 << 40) == 1 && byte == 0);
	CHECK(lseek(fd, 8192, SEEK_DATA) < 0 && errno == ENXIO);
	CHECK(fstat(fd, &st) == 0 && st.st_size == far);
	close(fd);
	return true;
}

/* Where the limit of the file system below lies, a write gives EFBIG, at once or when it is synced; nothing is damaged. */
static bool too_big(void)
{
	off_t good = 1, bad = LLONG_MAX;
	struct stat st;
	int fd = open(path_of("f"), O_CREAT | O_RDWR, 0644);

	CHECK(fd >= 0 && pwrite(fd, "old", 3, 0) == 3 && fsync(fd) == 0);
	while (bad - good > 1) {
		off_t middle = good + (bad - good) / 2;

		if (ftruncate(fd, middle) == 0)
			good = middle;
		else
			bad = middle;
	}
	printf("  largest file: %ld bytes\n", (long)good);
	CHECK(good >= (off_t)8 << 40);
	CHECK(ftruncate(fd, 3) == 0);
	if (good < LLONG_MAX - 1) {
		CHECK_ERROR(EFBIG, ftruncate(fd, good + 1));
		errno = 0;
		CHECK(pwrite(fd, "x", 1, good + 4096) < 0 || fsync(fd) < 0);
		CHECK(errno == EFBIG);
	}
	close(fd);
	fd = open(path_of("f"), O_RDWR);
	CHECK(ftruncate(fd, 3) == 0 && fstat(fd, &st) == 0 && st.st_size == 3);
	CHECK(pwrite(fd, "new", 3, 3) == 3 && fsync(fd) == 0);
	close(fd);
	return true;
}

static bool holes(void)
{
	struct stat full, punched;
	unsigned char byte = 1;
	int fd;

	CHECK(put_file(path_of("f"), 4 * MIB, 1));
	fd = open(path_of("f"), O_RDWR);
	CHECK(fd >= 0 && fsync(fd) == 0 && fstat(fd, &full) == 0);
	CHECK(full.st_blocks >= 4 * MIB / 512 && full.st_blocks < 5 * MIB / 512);
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, 2 * MIB) == 0);
	CHECK(fsync(fd) == 0);
	CHECK(fstat(fd, &punched) == 0 && punched.st_size == 4 * MIB);
	CHECK(full.st_blocks - punched.st_blocks > 3 * MIB / 2 / 512);
	CHECK(lseek(fd, 0, SEEK_HOLE) >= MIB && lseek(fd, 2 * MIB, SEEK_HOLE) == 2 * MIB);
	CHECK(lseek(fd, 2 * MIB, SEEK_DATA) > 2 * MIB && lseek(fd, 2 * MIB, SEEK_DATA) <= 3 * MIB);
	CHECK(pread(fd, &byte, 1, 2 * MIB) == 1 && byte == 0);
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 4 * MIB, MIB) == 0 && fstat(fd, &full) == 0 &&
	      full.st_size == 4 * MIB);
	CHECK(fallocate(fd, 0, 4 * MIB, MIB) == 0 && fstat(fd, &full) == 0 && full.st_size == 5 * MIB);
	CHECK(pread(fd, &byte, 1, 5 * MIB - 1) == 1 && byte == 0);
	CHECK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 5000) == 0 && pread(fd, &byte, 1, 100) == 1 && byte == 0);
	CHECK_ERROR(EINVAL, fallocate(fd, 0, 0, 0));
	CHECK_ERROR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096));
	close(fd);
	return true;
}

static bool shared_mappings(void)
{
	unsigned char *one, *other, byte;
	int fd, status;
	pid_t pid;

	CHECK(put_file(path_of("f"), 3 * MIB + 100, 1));
	fd = open(path_of("f"), O_RDWR);
	one = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	other = mmap(NULL, 4 * MIB, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(one != MAP_FAILED && other != MAP_FAILED);
	one[2 * MIB] = 0x5a;
	CHECK(other[2 * MIB] == 0x5a && pread(fd, &byte, 1, 2 * MIB) == 1 && byte == 0x5a);
	byte = 0xa5;
	CHECK(pwrite(fd, &byte, 1, 2 * MIB + 1) == 1 && one[2 * MIB + 1] == 0xa5);
	CHECK(msync(one, 4 * MIB, MS_SYNC) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		/* Past the end: SIGBUS, not zeros. */
		signal(SIGBUS, SIG_DFL);
		_exit(one[3 * MIB + 8192]);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	munmap(one, 4 * MIB);
	munmap(other, 4 * MIB);
	close(fd);
	CHECK(remount());
	fd = open(path_of("f"), O_RDONLY);
	CHECK(pread(fd, &byte, 1, 2 * MIB + 1) == 1 && byte == 0xa5);
	CHECK(pread(fd, &byte, 1, 2 * MIB) == 1 && byte == 0x5a);
	close(fd);
	return true;
}

static bool direct_io(void)
{
	enum { SIZE = 4 * MIB };
	unsigned char *data = aligned_alloc(4096, SIZE), *found = aligned_alloc(4096, SIZE), byte;
	int direct = open(path_of("f"), O_CREAT | O_RDWR | O_DIRECT, 0644), buffered = open(path_of("f"), O_RDWR);

	CHECK(data && found && direct >= 0 && buffered >= 0);
	fill(data, SIZE, 7);
	CHECK(pwrite(direct, data, SIZE, 8192) == SIZE);
	CHECK(pread(buffered, found, SIZE, 8192) == SIZE && memcmp(data, found, SIZE) == 0);
	CHECK(pwrite(buffered, "abc", 3, 8192 + 100) == 3);
	memcpy(data + 100, "abc", 3);
	CHECK(pread(direct, found, SIZE, 8192) == SIZE && memcmp(data, found, SIZE) == 0);
	CHECK(pwrite(direct, data, 4096, 4096) == 4096 && pread(buffered, &byte, 1, 4096) == 1 && byte == data[0]);
	CHECK(pread(direct, found, 8192, 8192 + SIZE - 4096) == 4096);
	/* Unaligned: refused, or right. */
	if (pwrite(direct, data, 512, 512) == 512)
		CHECK(pread(buffered, found, 512, 512) == 512 && memcmp(data, found, 512) == 0);
	else
		CHECK(errno == EINVAL);
	close(direct);
	close(buffered);
	free(data);
	free(found);
	return true;
}

static bool appending(void)
{
	enum { RECORDS = 2000, WRITERS = 3, LENGTH = 61 };
	static char all[RECORDS * WRITERS * LENGTH + 1];
	int counts[WRITERS] = { 0 }, fd, status;

	CHECK(put_file(path_of("f"), 0, 0));
	fflush(stdout);
	for (int i = 0; i < WRITERS; i++) {
		if (fork() == 0) {
			char record[LENGTH];

			fd = open(path_of("f"), O_WRONLY | O_APPEND);
			memset(record, 'A' + i, LENGTH);
			for (int j = 0; j < RECORDS; j++) {
				if (write(fd, record, LENGTH) != LENGTH)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < WRITERS; i++)
		CHECK(wait(&status) > 0 && status == 0);
	fd = open(path_of("f"), O_RDONLY);
	CHECK(read(fd, all, sizeof(all)) == sizeof(all) - 1);
	close(fd);
	for (int i = 0; i < RECORDS * WRITERS; i++) {
		for (int j = 1; j < LENGTH; j++)
			CHECK(all[i * LENGTH + j] == all[i * LENGTH]);
		counts[all[i * LENGTH] - 'A']++;
	}
	return counts[0] == RECORDS && counts[1] == RECORDS && counts[2] == RECORDS;
}

static bool copying(void)
{
	int in, out;
	off_t at = 0;

	CHECK(put_file(path_of("f"), 3 * MIB + 77, 1));
	in = open(path_of("f"), O_RDONLY);
	out = open(path_of("g"), O_CREAT | O_RDWR, 0644);
	CHECK(in >= 0 && out >= 0);
	while (copy_file_range(in, NULL, out, NULL, 8 * MIB, 0) > 0)
		continue;
	CHECK(has_contents(path_of("g"), 3 * MIB + 77, 1));
	CHECK(ftruncate(out, 0) == 0 && lseek(out, 0, SEEK_SET) == 0);
	while (sendfile(out, in, &at, MIB) > 0)
		continue;
	CHECK(has_contents(path_of("g"), 3 * MIB + 77, 1));
	close(in);
	close(out);
	return true;
}

static bool executables(void)
{
	char command[PATH_MAX + 64];

	snprintf(command, sizeof(command), "cp /bin/true '%s' && '%s'", path_of("true"), path_of("true"));
	CHECK(system(command) == 0 && remount());
	snprintf(command, sizeof(command), "'%s'", path_of("true"));
	CHECK(system(command) == 0);
	/* Running programs cannot be written. */
	snprintf(command, sizeof(command),
		 "cp /bin/sleep '%s' && { '%s' 5 & pid=$!; sleep 0.3; ! echo x 2>&- >>'%s'; r=$?; "
		 "kill $pid; exit $r; }",
		 path_of("sleep"), path_of("sleep"), path_of("sleep"));
	CHECK(system(command) == 0);
	return true;
}

const struct test data_tests[] = {
	{ "sparse_files", sparse_files },
	{ "too_big", too_big },
	{ "holes", holes },
	{ "shared_mappings", shared_mappings },
	{ "direct_io", direct_io },
	{ "appending", appending },
	{ "copying", copying },
	{ "executables", executables },
	{ 0 },
};
