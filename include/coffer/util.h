/* Small helpers that every layer may use. No state but the log's level and target. */
#ifndef COFFER_UTIL_H
#define COFFER_UTIL_H

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether an error means that the disk, or the share of it that one may have, is full. */
static inline bool is_full(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

/* One line each. */
/* clang-format off */
/* ---- cleanup attributes ---- */
static inline void cleanup_free(void *p) { free(*(void **)p); }
static inline void cleanup_close(int *fd) { if (*fd >= 0) close(*fd); }
static inline void cleanup_unlock(pthread_mutex_t **m) { if (*m) pthread_mutex_unlock(*m); }
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))
#define COFFER_PASTE_EXPANDED(a, b) a##b
#define COFFER_PASTE(a, b)          COFFER_PASTE_EXPANDED(a, b)
static inline pthread_mutex_t *lock_returning(pthread_mutex_t *m) { pthread_mutex_lock(m); return m; }
/* Holds a mutex to the end of the enclosing block. */
#define LOCK_SCOPE(m) \
	__attribute__((cleanup(cleanup_unlock), unused)) pthread_mutex_t *COFFER_PASTE(lock_scope_, __LINE__) = lock_returning(m)

/* ---- little-endian fields in byte buffers ---- */
static inline uint16_t get_le16(const void *p) { uint16_t v; memcpy(&v, p, 2); return le16toh(v); }
static inline uint32_t get_le32(const void *p) { uint32_t v; memcpy(&v, p, 4); return le32toh(v); }
static inline uint64_t get_le64(const void *p) { uint64_t v; memcpy(&v, p, 8); return le64toh(v); }
static inline void put_le16(void *p, uint16_t v) { v = htole16(v); memcpy(p, &v, 2); }
static inline void put_le32(void *p, uint32_t v) { v = htole32(v); memcpy(p, &v, 4); }
static inline void put_le64(void *p, uint64_t v) { v = htole64(v); memcpy(p, &v, 8); }
/* clang-format on */

/* ---- I/O that finishes: retries EINTR and short transfers. 0 or -errno ---- */
/* Stops at end of file; *ret_len says where. With ret_len NULL a short file is -EIO. */
int read_all(int fd, void *buf, size_t len, size_t *ret_len);
int pread_all(int fd, void *buf, size_t len, off_t off, size_t *ret_len); /* likewise */
int write_all(int fd, const void *buf, size_t len);
int pwrite_all(int fd, const void *buf, size_t len, off_t off);
/* Reads a whole file of at most `max` bytes below `dirfd`; -EFBIG if larger. *ret_text is malloc'ed, NUL-terminated. */
int read_file_at(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len);
/* Replaces a file atomically and durably: temporary (NAME.new) beside it, write, fsync, rename, fsync of the directory.
 * The caller sees to it that nobody else replaces the same file meanwhile. */
int replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len);
int64_t clock_ms(void); /* milliseconds on a clock that nobody sets; what deadlines are in */
int wait_for(int fd, short events, int64_t deadline); /* poll(2) events; -ETIMEDOUT */
int make_dirs(const char *path, mode_t mode);         /* like mkdir -p, `mode` for every directory made */

/* ---- hex ---- */
void hex_encode(const uint8_t *in, size_t len, char *out /* 2*len+1 */);
int hex_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size, size_t *ret_len); /* -EINVAL */

/* ---- logging: one line an event, to stderr or syslog. Levels are syslog's:
 * errors: something that was asked for failed, or something stored is damaged; warnings: it works, but wants looking after;
 * notices: what an administrator did or would want to know of, such as mounts and locked scopes; infos: the rest ---- */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};
void log_to_syslog(bool on); /* default: stderr */
void log_set_level(enum log_level max);
/* Leaves out what is too much of the same, and says so: lines of one kind, as their format tells it, beyond LOG_BURST in LOG_WINDOW
 * milliseconds. For a process that runs for long; switched off again, it says what was left out at last. */
enum { LOG_BURST = 20, LOG_WINDOW = 10000 };
void log_cut_short(bool on);
/* Passes what this thread logs on, too, without its level, and whatever is left out of the log; NULL: no more. */
void log_tap(void (*call)(void *arg, const char *line), void *arg);
void log_mute(bool on); /* this thread's errors: of what is tried again and again, and fails as it did before */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)

#endif
