/* util: transfers, whole files, directories, hexadecimal text, the log. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#include "coffer/util.h"

static char dir[] = "/tmp/coffer-test-util-XXXXXX";
static int dirfd_;

static void make_dir(void)
{
	cr_assert_not_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
	cr_assert_geq(dirfd_, 0);
}

static void remove_dir(void)
{
	char command[PATH_MAX];

	close(dirfd_);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	cr_assert_eq(system(command), 0);
}

TestSuite(io, .init = make_dir, .fini = remove_dir);
TestSuite(file, .init = make_dir, .fini = remove_dir);

Test(io, transfers_at_an_offset)
{
	char buf[16] = { 0 };
	size_t len;
	int fd = openat(dirfd_, "f", O_RDWR | O_CREAT, 0600);

	cr_assert_eq(pwrite_all(fd, "hello", 5, 3), 0);
	cr_assert_eq(pread_all(fd, buf, sizeof(buf), 0, &len), 0);
	cr_assert_eq(len, 8);
	cr_assert_arr_eq(buf, "\0\0\0hello", 8);
	cr_assert_eq(pread_all(fd, buf, 5, 3, NULL), 0);
	cr_assert_arr_eq(buf, "hello", 5);
	cr_assert_eq(pread_all(fd, buf, 6, 3, NULL), -EIO, "a short file is an error where no length is asked for");
	cr_assert_eq(pread_all(fd, buf, 6, 100, &len), 0);
	cr_assert_eq(len, 0);
	cr_assert_eq(pread_all(fd, buf, 1, -1, &len), -EINVAL);
	cr_assert_eq(pwrite_all(fd, buf, 1, -1), -EINVAL);
	close(fd);
	cr_assert_eq(pread_all(fd, buf, 1, 0, &len), -EBADF);
	cr_assert_eq(write_all(fd, buf, 1), -EBADF);
}

static void on_signal(int unused)
{
	(void)unused;
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* 30 ms, whatever signals come. */
static void pause_a_while(void)
{
	double end = seconds() + 0.03;

	while (seconds() < end)
		usleep(1000);
}

/* A timer without SA_RESTART, a reader that waits for the writer, then a writer that waits for the reader: both sides see
 * EINTR and short transfers. */
Test(io, finishes_through_short_transfers_and_signals)
{
	enum { LEN = 4 << 20 };
	struct sigaction action = { .sa_handler = on_signal };
	struct itimerval timer = { .it_interval = { 0, 500 }, .it_value = { 0, 500 } };
	uint8_t *data = malloc(LEN), *got = malloc(LEN + 1);
	int pair[2], status;
	size_t len;
	pid_t child;

	for (size_t i = 0; i < LEN; i++)
		data[i] = (uint8_t)(i * 31 + (i >> 12));
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	sigaction(SIGALRM, &action, NULL);
	child = fork();
	setitimer(ITIMER_REAL, &timer, NULL);
	if (child == 0) {
		close(pair[0]);
		pause_a_while();
		_exit(write_all(pair[1], data, LEN) == 0 ? 0 : 1);
	}
	close(pair[1]);
	cr_assert_eq(read_all(pair[0], got, 1, NULL), 0);
	pause_a_while();
	cr_assert_eq(read_all(pair[0], got + 1, LEN, &len), 0);
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	cr_assert_eq(len, LEN - 1);
	cr_assert_eq(memcmp(got, data, LEN), 0);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	free(data);
	free(got);
}

Test(io, a_full_device_is_reported)
{
	int fd = open("/dev/full", O_WRONLY);

	cr_assert_eq(write_all(fd, "x", 1), -ENOSPC);
	close(fd);
}

Test(file, reads_up_to_the_limit)
{
	char *text;
	size_t len;
	int fd = openat(dirfd_, "f", O_WRONLY | O_CREAT, 0600);

	cr_assert_eq(write_all(fd, "0123456789", 10), 0);
	close(fd);
	cr_assert_eq(read_file_at(dirfd_, "f", 10, &text, &len), 0);
	cr_assert_eq(len, 10);
	cr_assert_str_eq(text, "0123456789");
	free(text);
	cr_assert_eq(read_file_at(dirfd_, "f", 9, &text, &len), -EFBIG);
	cr_assert_eq(read_file_at(dirfd_, "missing", 9, &text, &len), -ENOENT);
	cr_assert_eq(read_file_at(dirfd_, ".", 9, &text, &len), -EISDIR);
}

Test(file, replaces_atomically_and_leaves_nothing_behind)
{
	struct stat st;
	char *text;
	size_t len;

	umask(077);
	cr_assert_eq(replace_file_at(dirfd_, "f", 0644, "one", 3), 0);
	cr_assert_eq(fstatat(dirfd_, "f", &st, 0), 0);
	cr_assert_eq(st.st_mode & 07777, 0644, "the umask must not matter");
	int old = openat(dirfd_, "f", O_RDONLY);
	cr_assert_eq(replace_file_at(dirfd_, "f", 0600, "second", 6), 0);
	cr_assert_eq(read_file_at(dirfd_, "f", 100, &text, &len), 0);
	cr_assert_str_eq(text, "second");
	free(text);
	char buf[8];
	cr_assert_eq(read_all(old, buf, sizeof(buf), &len), 0);
	cr_assert(len == 3 && memcmp(buf, "one", 3) == 0, "whoever had it open must still see the old one whole");
	close(old);
	cr_assert_eq(fstatat(dirfd_, "f.new", &st, 0), -1);
}

Test(file, replaces_despite_a_leftover_and_follows_no_planted_link)
{
	char *text;
	size_t len;

	cr_assert_eq(replace_file_at(dirfd_, "victim", 0600, "safe", 4), 0);
	cr_assert_eq(symlinkat("victim", dirfd_, "f.new"), 0);
	cr_assert_eq(replace_file_at(dirfd_, "f", 0600, "data", 4), 0);
	cr_assert_eq(read_file_at(dirfd_, "victim", 100, &text, &len), 0);
	cr_assert_str_eq(text, "safe");
	free(text);
	cr_assert_eq(read_file_at(dirfd_, "f", 100, &text, &len), 0);
	cr_assert_str_eq(text, "data");
	free(text);
}

Test(file, a_failed_replacement_keeps_the_old_file)
{
	struct rlimit limit = { 4, 4 };
	struct stat st;
	char *text;
	size_t len;

	cr_assert_eq(replace_file_at(dirfd_, "f", 0600, "old", 3), 0);
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	cr_assert_eq(replace_file_at(dirfd_, "f", 0600, "much too long", 13), -EFBIG);
	cr_assert_eq(read_file_at(dirfd_, "f", 100, &text, &len), 0);
	cr_assert_str_eq(text, "old");
	free(text);
	cr_assert_eq(fstatat(dirfd_, "f.new", &st, 0), -1, "the temporary must go");
}

Test(file, replaces_below_a_directory_and_by_absolute_path)
{
	char path[PATH_MAX];
	char name[NAME_MAX + 1];
	char *text;
	size_t len;

	cr_assert_eq(mkdirat(dirfd_, "sub", 0700), 0);
	cr_assert_eq(replace_file_at(dirfd_, "sub/f", 0600, "x", 1), 0);
	snprintf(path, sizeof(path), "%s/sub/f", dir);
	cr_assert_eq(replace_file_at(AT_FDCWD, path, 0600, "y", 1), 0);
	cr_assert_eq(read_file_at(dirfd_, "sub/f", 10, &text, &len), 0);
	cr_assert_str_eq(text, "y");
	free(text);
	cr_assert_eq(replace_file_at(dirfd_, "nowhere/f", 0600, "x", 1), -ENOENT);
	memset(name, 'n', NAME_MAX);
	name[NAME_MAX] = '\0';
	cr_assert_eq(replace_file_at(dirfd_, name, 0600, "x", 1), -ENAMETOOLONG, "no room for the temporary's ending");
}

Test(file, makes_directories)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a//b/c", dir);
	cr_assert_eq(make_dirs(path, 0700), 0);
	cr_assert_eq(make_dirs(path, 0700), 0, "being there is fine");
	cr_assert(stat(path, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0700);
	snprintf(path, sizeof(path), "%s/d/", dir);
	cr_assert_eq(make_dirs(path, 0700), 0);
	cr_assert_eq(replace_file_at(dirfd_, "f", 0600, "x", 1), 0);
	snprintf(path, sizeof(path), "%s/f", dir);
	cr_assert_eq(make_dirs(path, 0700), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/f/below", dir);
	cr_assert_eq(make_dirs(path, 0700), -ENOTDIR);
	cr_assert_eq(make_dirs("", 0700), -ENOENT);
}

Test(hex, both_ways_for_every_byte)
{
	uint8_t all[256], back[256];
	char text[513], upper[513];
	size_t len;

	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)i;
	hex_encode(all, 256, text);
	for (int i = 0; i < 256; i++) {
		char two[3];
		snprintf(two, sizeof(two), "%02x", i);
		cr_assert_arr_eq(text + 2 * i, two, 2);
	}
	cr_assert_eq(text[512], '\0');
	cr_assert_eq(hex_decode(text, 512, back, sizeof(back), &len), 0);
	cr_assert(len == 256 && memcmp(all, back, 256) == 0);
	for (int i = 0; i < 513; i++)
		upper[i] = text[i] >= 'a' ? (char)(text[i] - 'a' + 'A') : text[i];
	memset(back, 0, sizeof(back));
	cr_assert_eq(hex_decode(upper, 512, back, sizeof(back), &len), 0);
	cr_assert_eq(memcmp(all, back, 256), 0);
}

Test(hex, refuses_everything_else)
{
	uint8_t out[2];
	size_t len = 77;

	for (int c = 0; c < 256; c++) {
		bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
		char left[2] = { (char)c, '0' }, right[2] = { '0', (char)c };
		cr_assert_eq(hex_decode(left, 2, out, sizeof(out), &len), digit ? 0 : -EINVAL, "character %d", c);
		cr_assert_eq(hex_decode(right, 2, out, sizeof(out), &len), digit ? 0 : -EINVAL, "character %d", c);
	}
	cr_assert_eq(hex_decode("abc", 3, out, sizeof(out), &len), -EINVAL, "odd");
	cr_assert_eq(hex_decode("aabbcc", 6, out, sizeof(out), &len), -EINVAL, "too long");
	cr_assert_eq(hex_decode("", 0, out, sizeof(out), &len), 0);
	cr_assert_eq(len, 0);
}

Test(endian, fields_are_little_endian_at_any_address)
{
	uint8_t b[9] = { 0 };

	put_le64(b + 1, 0x0102030405060708);
	cr_assert_arr_eq(b, ((uint8_t[]){ 0, 8, 7, 6, 5, 4, 3, 2, 1 }), 9);
	cr_assert_eq(get_le64(b + 1), 0x0102030405060708);
	put_le32(b + 1, 0xa1b2c3d4);
	cr_assert_arr_eq(b, ((uint8_t[]){ 0, 0xd4, 0xc3, 0xb2, 0xa1, 4, 3, 2, 1 }), 9);
	cr_assert_eq(get_le32(b + 1), 0xa1b2c3d4);
	put_le16(b + 1, 0xbeef);
	cr_assert_eq(b[1], 0xef);
	cr_assert_eq(get_le16(b + 1), 0xbeef);
}

Test(cleanup, lock_scope_ends_with_its_block)
{
	pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
	int fds[2];

	{
		LOCK_SCOPE(&a);
		LOCK_SCOPE(&b);
		cr_assert_eq(pthread_mutex_trylock(&a), EBUSY);
		cr_assert_eq(pthread_mutex_trylock(&b), EBUSY);
	}
	cr_assert_eq(pthread_mutex_trylock(&a), 0);
	cr_assert_eq(pthread_mutex_trylock(&b), 0);
	cr_assert_eq(pipe(fds), 0);
	{
		AUTO_CLOSE int reader = fds[0];
		AUTO_CLOSE int none = -1;
		cr_assert(reader >= 0 && none < 0);
	}
	cr_assert_eq(fcntl(fds[0], F_GETFD), -1);
	close(fds[1]);
}

static void log_into(int fds[2])
{
	cr_assert_eq(pipe2(fds, O_NONBLOCK), 0);
	cr_assert_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
}

Test(log, one_masked_line_an_event)
{
	char line[4096], longest[3000];
	int fds[2];
	ssize_t n;

	log_into(fds);
	errno = ENOENT;
	log_error("cannot open %s: %m", "a\nb\x1b[0m");
	cr_assert_eq(errno, ENOENT, "logging must not change errno");
	n = read(fds[0], line, sizeof(line) - 1);
	cr_assert_gt(n, 0);
	line[n] = '\0';
	cr_assert_str_eq(line, "coffer: error: cannot open a?b?[0m: No such file or directory\n");

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	log_warning("%s", longest);
	n = read(fds[0], line, sizeof(line));
	cr_assert(n > 500 && n < 2000, "%zd bytes", n);
	cr_assert_eq(line[n - 1], '\n');
	cr_assert_eq(memchr(line, '\n', (size_t)n - 1), NULL);
}

Test(log, levels)
{
	char line[256];
	int fds[2];

	log_into(fds);
	log_line(LOG_LEVEL_DEBUG, "hidden by default");
	cr_assert_lt(read(fds[0], line, sizeof(line)), 0);
	log_set_level(LOG_LEVEL_WARNING);
	log_notice("hidden");
	log_info("hidden");
	cr_assert_lt(read(fds[0], line, sizeof(line)), 0);
	log_warning("shown");
	cr_assert_gt(read(fds[0], line, sizeof(line)), 0);
	log_set_level(LOG_LEVEL_DEBUG);
	log_line(LOG_LEVEL_DEBUG, "shown");
	cr_assert_gt(read(fds[0], line, sizeof(line)), 0);
}

Test(log, syslog_instead_of_stderr)
{
	char line[256];
	int fds[2];

	log_into(fds);
	log_to_syslog(true);
	log_error("not to stderr, and no failure where nobody listens");
	cr_assert_lt(read(fds[0], line, sizeof(line)), 0);
	log_to_syslog(false);
	log_error("back");
	cr_assert_gt(read(fds[0], line, sizeof(line)), 0);
}

static unsigned lines_in(int fd, char *last, size_t size)
{
	char text[1 << 16];
	ssize_t n = read(fd, text, sizeof(text) - 1);
	unsigned lines = 0;

	for (char *line = text, *end; n > 0 && (end = memchr(line, '\n', (size_t)(text + n - line))); line = end + 1) {
		snprintf(last, size, "%.*s", (int)(end - line), line);
		lines++;
	}
	return lines;
}

static void tapped(void *arg, const char *line)
{
	(void)line;
	++*(unsigned *)arg;
}

Test(log, too_much_of_the_same_is_counted)
{
	unsigned heard = 0;
	char last[2048];
	int fds[2];

	log_into(fds);
	log_cut_short(true);
	log_tap(tapped, &heard);
	for (int i = 1; i <= 100; i++)
		log_error("block %d is damaged", i);
	log_tap(NULL, NULL);
	cr_assert_eq(heard, 100, "who asked hears of everything");
	cr_assert_eq(lines_in(fds[0], last, sizeof(last)), LOG_BURST);
	cr_assert_str_eq(last,
			 "coffer: error: block 20 is damaged (more lines like this are left out for some seconds)");
	log_warning("something else");
	cr_assert_eq(lines_in(fds[0], last, sizeof(last)), 1);
	log_cut_short(false);
	cr_assert_eq(lines_in(fds[0], last, sizeof(last)), 1);
	cr_assert_str_eq(last, "coffer: error: 80 lines were left out, the last: block 100 is damaged");
	for (int i = 1; i <= 100; i++)
		log_error("block %d is damaged", i);
	cr_assert_eq(lines_in(fds[0], last, sizeof(last)), 100);
}
