/* The write-ahead log: two segments of preallocated space, used in turn, a generation each. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#undef BLOCK_SIZE /* the kernel's, of old */
#include <linux/magic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include <coffer/util.h>

#include "internal.h"
#include "segment.h"

enum {
	SEGMENT_SHARE = 16 /* a segment takes at most this part of the free space */,
	PIECES_MAX = 1024,
	WRITE_AHEAD = 1 << 20 /* bytes */,
	RESERVE_SHARE = 4 /* the reserve is that part of a segment */
};

static void segment_name(unsigned i, char out[static 16])
{
	snprintf(out, 16, "segment%u", i);
}

int log_open_dir(struct log *l, int backing_fd, bool read_only)
{
	*l = (struct log){ .dir_fd = openat(backing_fd, "log", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			   .reserve_fd = -1,
			   .segments = { { .fd = -1 }, { .fd = -1 } } };
	if (l->dir_fd < 0) {
		int r = -errno;

		log_error("the backing directory has no usable log/ folder: %s", strerror(-r));
		return r;
	}
	/* What an epoch before kept is there to be given up in recovering from it. */
	l->reserve_fd = read_only ? -1 : openat(l->dir_fd, "reserve", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	l->reserve_held = l->reserve_fd >= 0;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		char name[16];
		struct stat st;

		segment_name(i, name);
		l->segments[i].fd = openat(l->dir_fd, name,
					   (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (l->segments[i].fd < 0 && errno != ENOENT)
			return -errno;
		if (l->segments[i].fd < 0)
			continue;
		if (fstat(l->segments[i].fd, &st) < 0 || !S_ISREG(st.st_mode)) {
			log_error("log/%s is not a regular file", name);
			return -EIO;
		}
		l->segments[i].size = (size_t)st.st_size;
	}
	return 0;
}

void log_close(struct log *l)
{
	for (unsigned i = 0; i < SEGMENTS; i++)
		if (l->segments[i].fd >= 0)
			close(l->segments[i].fd);
	if (l->reserve_fd >= 0)
		close(l->reserve_fd);
	if (l->dir_fd >= 0)
		close(l->dir_fd);
	aead_free(l->aead);
	aead_free(l->header_aead);
	free(l->buffer);
	*l = (struct log){ .dir_fd = -1, .reserve_fd = -1, .segments = { { .fd = -1 }, { .fd = -1 } } };
}

int log_key(const struct kdf *structure, const uint8_t *salt, size_t salt_size, struct aead **ret)
{
	static const char purpose[] = "coffer log";
	uint8_t info[sizeof(purpose) - 1 + 64];

	if (salt_size > 64)
		return -EINVAL;
	memcpy(info, purpose, sizeof(purpose) - 1);
	memcpy(info + sizeof(purpose) - 1, salt, salt_size);

	struct secret *key = secret_new(KEY_SIZE);
	int r = key ? kdf_expand(structure, info, sizeof(purpose) - 1 + salt_size, secret_data(key), KEY_SIZE)
		    : -ENOMEM;

	if (r == 0) {
		*ret = aead_new(key);
		r = *ret ? 0 : -ENOMEM;
	}
	secret_free(key);
	return r;
}

/* Space for one segment: as large as the disk allows, at least SEGMENT_MIN. Real blocks, so that appending never fails. */
static int allocate_segment(struct segment *s, size_t want)
{
	for (size_t size = want; size >= SEGMENT_MIN; size /= 2) {
		if (s->size > size && ftruncate(s->fd, (off_t)size) < 0)
			return -errno;
		if (fallocate(s->fd, 0, 0, (off_t)size) == 0) {
			s->size = size;
			return 0;
		}
		if (errno == EOPNOTSUPP && ftruncate(s->fd, (off_t)size) == 0) {
			s->size = size;
			return 0;
		}
		if (!is_full(-errno))
			return -errno;
	}
	return -ENOSPC;
}

/* What is written again must not need new space, as it does where writing is copying (btrfs), but for files that are told so
 * while they are empty. */
static int keep_in_place(struct segment *s)
{
	struct statfs fs;
	int flags;

	if (fstatfs(s->fd, &fs) < 0 || fs.f_type != BTRFS_SUPER_MAGIC || ioctl(s->fd, FS_IOC_GETFLAGS, &flags) < 0 ||
	    flags & FS_NOCOW_FL)
		return 0;
	if (ftruncate(s->fd, 0) < 0)
		return -errno;
	s->size = 0;
	flags |= FS_NOCOW_FL;
	if (ioctl(s->fd, FS_IOC_SETFLAGS, &flags) < 0)
		log_warning("the log cannot be written in place: %s; on a full disk removing may fail",
			    strerror(errno));
	return 0;
}

int log_allocate(struct log *l)
{
	struct statvfs fs;

	if (fstatvfs(l->dir_fd, &fs) < 0)
		return -errno;
	size_t want = SEGMENT_SIZE;

	while (want > SEGMENT_MIN && (uint64_t)want * SEGMENT_SHARE > (uint64_t)fs.f_bavail * fs.f_frsize)
		want /= 2;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		char name[16];

		segment_name(i, name);
		if (l->segments[i].fd < 0)
			l->segments[i].fd = openat(l->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (l->segments[i].fd < 0)
			return -errno;
		int r = keep_in_place(&l->segments[i]);

		if (r == 0)
			r = allocate_segment(&l->segments[i], want);

		if (r < 0) {
			log_error("no space for the volume's log: %s; free at least %d KiB on the backing file system, "
				  "or mount with -o ro",
				  strerror(-r), SEGMENTS * SEGMENT_MIN / 1024);
			return r;
		}
	}
	return fsync(l->dir_fd) < 0 ? -errno : 0;
}

bool log_hold_reserve(struct log *l)
{
	size_t size = l->segments[0].size / RESERVE_SHARE;

	if (l->reserve_held)
		return true;
	if (l->reserve_fd < 0)
		l->reserve_fd = openat(l->dir_fd, "reserve", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
				       0600);
	if (l->reserve_fd < 0)
		return false;
	l->reserve_held = fallocate(l->reserve_fd, 0, 0, (off_t)size) == 0 || errno == EOPNOTSUPP;
	if (!l->reserve_held && ftruncate(l->reserve_fd, 0) < 0) /* what there was of it */
		log_warning("log/reserve cannot be emptied: %s", strerror(errno));
	return l->reserve_held;
}

bool log_give_reserve(struct log *l)
{
	if (!l->reserve_held || ftruncate(l->reserve_fd, 0) < 0)
		return false;
	l->reserve_held = false;
	return true;
}

bool log_give_idle(struct log *l)
{
	struct segment *s = &l->segments[SEGMENTS - 1];

	/* The whole: btrfs gives no part of an extent back. */
	if (s->fd < 0 || !s->size || ftruncate(s->fd, 0) < 0)
		return false;
	s->size = 0;
	return syncfs(s->fd) == 0; /* some take it for free only then */
}

bool log_grow(struct log *l)
{
	struct segment *s = &l->segments[l->current];
	struct statvfs fs;

	if (s->size < SEGMENT_SIZE || s->size + SEGMENT_SIZE > SEGMENT_MAX || fstatvfs(s->fd, &fs) < 0 ||
	    (uint64_t)fs.f_bavail * fs.f_frsize < (uint64_t)SEGMENT_SHARE * (s->size + SEGMENT_SIZE) ||
	    fallocate(s->fd, 0, (off_t)s->size, SEGMENT_SIZE) < 0)
		return false;
	s->size += SEGMENT_SIZE;
	return true;
}

int log_shrink(struct log *l)
{
	int r = unlinkat(l->dir_fd, "reserve", 0) < 0 && errno != ENOENT ? -errno : 0;

	for (unsigned i = 0; i < SEGMENTS; i++) {
		struct segment *s = &l->segments[i];

		if (s->fd < 0)
			continue;
		if (ftruncate(s->fd, 0) < 0 || (fallocate(s->fd, 0, 0, SEGMENT_IDLE) < 0 && errno != EOPNOTSUPP))
			r = -errno;
		s->size = SEGMENT_IDLE;
		s->generation = 0;
	}
	return r;
}

/* The nonces of an epoch's key: no two of what they seal share one. */
static void make_nonce(uint32_t domain, uint64_t number, uint8_t out[static NONCE_SIZE])
{
	put_le32(out, domain);
	put_le64(out + 4, number);
}

static void header_aad(uint64_t generation, uint8_t out[static SEGMENT_HEADER_AAD])
{
	memcpy(out, SEGMENT_MAGIC, 8);
	put_le64(out + 8, generation);
}

int log_start_segment(struct log *l, unsigned i, uint64_t generation)
{
	uint8_t header[SEGMENT_HEADER] = { 0 }, nonce[NONCE_SIZE], none[1] = { 0 };
	struct iovec aad = { header, SEGMENT_HEADER_AAD };

	header_aad(generation, header);
	make_nonce(NONCE_SEGMENT, generation, nonce);
	int r = aead_seal(l->header_aead, nonce, &aad, 1, none, 0, none, header + SEGMENT_HEADER_AAD);

	if (r == 0)
		r = pwrite_all(l->segments[i].fd, header, sizeof(header), 0);
	if (r == 0 && fdatasync(l->segments[i].fd) < 0)
		r = -errno;
	if (r == 0)
		l->segments[i].generation = generation;
	return r;
}

int segment_read_header(struct log *l, struct aead *aead, unsigned i, uint64_t *ret_generation)
{
	uint8_t header[SEGMENT_HEADER], nonce[NONCE_SIZE], none[1] = { 0 };
	struct iovec aad = { header, SEGMENT_HEADER_AAD };
	size_t got;

	if (l->segments[i].fd < 0)
		return -ENOENT;
	int r = pread_all(l->segments[i].fd, header, sizeof(header), 0, &got);

	if (r < 0)
		return r;
	if (got < sizeof(header) || memcmp(header, SEGMENT_MAGIC, 8) != 0)
		return -ENOENT;
	*ret_generation = get_le64(header + 8);
	make_nonce(NONCE_SEGMENT, *ret_generation, nonce);
	return aead_open(aead, nonce, &aad, 1, none, 0, none, header + SEGMENT_HEADER_AAD);
}

/* A chunk counts only where it was put: none can be taken out of the chain, or change places with another. */
static void put_bound(uint64_t generation, size_t pos, uint8_t out[static CHUNK_BOUND])
{
	put_le64(out, generation);
	put_le64(out + 8, pos);
}

size_t chunk_size(size_t frames_len, size_t payload_len)
{
	return CHUNK_HEADER + frames_len + payload_len;
}

int log_append(struct log *l, uint64_t generation, size_t *pos, uint64_t seq, const uint8_t *frames, size_t frames_len,
	       const struct iovec *payload, int payload_count)
{
	uint8_t header[CHUNK_HEADER] = { 0 }, nonce[NONCE_SIZE], bound[CHUNK_BOUND];
	struct iovec aad[PIECES_MAX + 2], out[PIECES_MAX + 2];
	size_t payload_len = 0;

	if (payload_count > PIECES_MAX)
		return -E2BIG;
	if (l->buffer_size < frames_len) {
		uint8_t *bigger = realloc(l->buffer, frames_len * 2);

		if (!bigger)
			return -ENOMEM;
		l->buffer = bigger;
		l->buffer_size = frames_len * 2;
	}
	for (int i = 0; i < payload_count; i++) {
		aad[i + 2] = out[i + 2] = payload[i];
		payload_len += payload[i].iov_len;
	}
	put_le32(header, CHUNK_MAGIC);
	put_le32(header + 4, (uint32_t)frames_len);
	put_le32(header + 8, (uint32_t)payload_len);
	put_le64(header + 16, seq);
	put_bound(generation, *pos, bound);
	aad[0] = (struct iovec){ header, CHUNK_HEADER_AAD };
	aad[1] = (struct iovec){ bound, sizeof(bound) };
	make_nonce(NONCE_CHUNK, seq, nonce);
	int r = aead_seal(l->aead, nonce, aad, payload_count + 2, frames, frames_len, l->buffer,
			  header + CHUNK_HEADER_AAD);

	if (r < 0)
		return r;
	out[0] = (struct iovec){ header, CHUNK_HEADER };
	out[1] = (struct iovec){ l->buffer, frames_len };

	size_t total = chunk_size(frames_len, payload_len);
	ssize_t done = pwritev(l->segments[l->current].fd, out, payload_count + 2, (off_t)*pos);

	for (int i = 0; done >= 0 && (size_t)done < total && i < payload_count + 2; i++) { /* finish a short write */
		size_t begin = 0;

		for (int j = 0; j < i; j++)
			begin += out[j].iov_len;
		if ((size_t)done >= begin + out[i].iov_len)
			continue;
		size_t skip = (size_t)done > begin ? (size_t)done - begin : 0;

		r = pwrite_all(l->segments[l->current].fd, (uint8_t *)out[i].iov_base + skip, out[i].iov_len - skip,
			       (off_t)(*pos + begin + skip));
		if (r < 0)
			return r;
	}
	if (done < 0)
		return -errno;
	*pos += total;
	if (l->segments[l->current].written < *pos)
		l->segments[l->current].written = *pos;
	return 0;
}

void log_write_ahead(struct log *l, size_t pos)
{
	static const uint8_t zeros[WRITE_AHEAD];
	struct segment *s = &l->segments[l->current];

	if (s->written < pos)
		s->written = pos;
	if (s->written >= pos + WRITE_AHEAD / 4 || s->written >= s->size)
		return;
	size_t len = s->size - s->written < WRITE_AHEAD ? s->size - s->written : WRITE_AHEAD;

	if (pwrite_all(s->fd, zeros, len, (off_t)s->written) == 0) /* else appending there will say what is wrong */
		s->written += len;
}

int segment_next_chunk(struct log *l, struct aead *aead, unsigned i, uint64_t generation, size_t *pos, uint64_t *seq,
		       struct chunk *ret)
{
	uint8_t header[CHUNK_HEADER], nonce[NONCE_SIZE], bound[CHUNK_BOUND];
	struct segment *s = &l->segments[i];
	size_t got;
	int r = pread_all(s->fd, header, sizeof(header), (off_t)*pos, &got);

	if (r < 0)
		return r;
	ret->frames_len = get_le32(header + 4);
	ret->payload_len = get_le32(header + 8);
	ret->seq = get_le64(header + 16);
	if (got < sizeof(header) || get_le32(header) != CHUNK_MAGIC || ret->seq <= *seq ||
	    ret->frames_len > COMMIT_MAX || ret->payload_len > COMMIT_MAX || ret->frames_len % FRAME_SIZE)
		return -ENODATA;

	size_t len = ret->frames_len + ret->payload_len;

	ret->body = malloc(len ? len : 1);
	if (!ret->body)
		return -ENOMEM;
	r = pread_all(s->fd, ret->body, len, (off_t)(*pos + CHUNK_HEADER), &got);
	if (r == 0 && got < len)
		r = -ENODATA;
	if (r == 0) {
		struct iovec aad[] = { { header, CHUNK_HEADER_AAD },
				       { bound, sizeof(bound) },
				       { ret->body + ret->frames_len, ret->payload_len } };

		put_bound(generation, *pos, bound);
		make_nonce(NONCE_CHUNK, ret->seq, nonce);
		r = aead_open(aead, nonce, aad, 3, ret->body, ret->frames_len, ret->body, header + CHUNK_HEADER_AAD);
		if (r == -EBADMSG)
			r = -ENODATA;
	}
	if (r < 0) {
		free(ret->body);
		ret->body = NULL;
		return r;
	}
	*seq = ret->seq;
	*pos += chunk_size(ret->frames_len, ret->payload_len);
	return 0;
}
