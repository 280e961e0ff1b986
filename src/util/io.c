/* Transfers that finish or say why not. */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "coffer/util.h"

/* off < 0: at the descriptor's own position. */
static int read_until_end(int fd, uint8_t *buf, size_t len, off_t off, size_t *ret_len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = off < 0 ? read(fd, buf + done, len - done)
				    : pread(fd, buf + done, len - done, off + (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	if (ret_len)
		*ret_len = done;
	else if (done < len)
		return -EIO;
	return 0;
}

static int write_until_done(int fd, const uint8_t *buf, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = off < 0 ? write(fd, buf + done, len - done)
				    : pwrite(fd, buf + done, len - done, off + (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) /* neither progress nor an error: do not spin */
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int read_all(int fd, void *buf, size_t len, size_t *ret_len)
{
	return read_until_end(fd, buf, len, -1, ret_len);
}

int pread_all(int fd, void *buf, size_t len, off_t off, size_t *ret_len)
{
	return off < 0 ? -EINVAL : read_until_end(fd, buf, len, off, ret_len);
}

int write_all(int fd, const void *buf, size_t len)
{
	return write_until_done(fd, buf, len, -1);
}

int pwrite_all(int fd, const void *buf, size_t len, off_t off)
{
	return off < 0 ? -EINVAL : write_until_done(fd, buf, len, off);
}

int64_t clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int wait_for(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left;
	int n;

	do {
		left = deadline - clock_ms();
		n = left > 0 ? poll(&p, 1, left < INT32_MAX ? (int)left : INT32_MAX) : 0;
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n < 0 ? -errno : -ETIMEDOUT;
}
