/* The helper process: mounts, unmounts and opens key files for a daemon that is confined. It is forked before there are keys or threads, and
 * does only what is asked over one socket pair, about one mount point. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "daemon_internal.h"

enum verb {
	VERB_MOUNT = 'm',
	VERB_READY = 'r',
	VERB_READY_SYSLOG = 's',
	VERB_UNMOUNT = 'u',
	VERB_DETACH = 'd',
	VERB_KEY = 'k', /* and a path */
	VERB_END = 'e'
};

struct serving {
	int fd;
	const char *mountpoint;
	const struct fs_options *options;
	uint64_t mount_id; /* 0: not mounted */
};

/* An answer is 0 or -errno, and a descriptor if `pass` is not negative. */
static int send_answer(int fd, int32_t r, int pass)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { .iov_base = &r, .iov_len = sizeof(r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (pass >= 0) {
		m.msg_control = control.room;
		m.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass, sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* `path` (NULL: none) goes with the verb. */
static int ask(struct helper *h, enum verb verb, const char *path, int *ret_fd)
{
	LOCK_SCOPE(&h->lock);
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	char v = (char)verb;
	struct iovec question[2] = { { &v, 1 }, { (void *)(uintptr_t)path, path ? strlen(path) + 1 : 0 } };
	struct msghdr q = { .msg_iov = question, .msg_iovlen = path ? 2 : 1 };
	int32_t r = -EPIPE;
	struct iovec iov = { .iov_base = &r, .iov_len = sizeof(r) };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *c;
	ssize_t n;

	if (h->fd < 0 || sendmsg(h->fd, &q, MSG_NOSIGNAL) < 0)
		return -EPIPE;
	do
		n = recvmsg(h->fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(r))
		return -EPIPE;
	c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && ret_fd)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return r;
}

static int do_mount(struct serving *s)
{
	struct mount_entry e;
	AUTO_CLOSE int fd = -1;
	int r;

	r = fs_attach(s->mountpoint, s->options, &fd);
	if (r == 0 && mounts_at(s->mountpoint, &e) == 0)
		s->mount_id = e.id;
	return send_answer(s->fd, r, fd);
}

/* Whether what is mounted there is still the daemon's mount. */
static bool is_ours(const struct serving *s)
{
	struct mount_entry e;

	return s->mount_id && mounts_at(s->mountpoint, &e) == 0 && e.id == s->mount_id;
}

static int do_unmount(struct serving *s, bool lazy)
{
	int root, r = 0;

	if (is_ours(s)) {
		/* If the file system stays in use, elsewhere or by open files, nothing else makes the kernel write. */
		root = open(s->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (root >= 0) {
			syncfs(root);
			close(root);
		}
		r = unmount(s->mountpoint, lazy);
	}
	return send_answer(s->fd, r, -1);
}

/* A daemon that does what it should not must not get at more than it needs: a key is a small file. */
static int do_open_key(struct serving *s, const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EACCES;
	if (r == 0 && st.st_size > KEY_TEXT_MAX)
		r = -EFBIG;
	return send_answer(s->fd, r, r == 0 ? fd : -1);
}

static int answer(struct serving *s, char verb, const char *path)
{
	switch (verb) {
	case VERB_KEY:
		return do_open_key(s, path);
	case VERB_MOUNT:
		return do_mount(s);
	case VERB_READY_SYSLOG:
	case VERB_READY:
		fs_tune(s->mountpoint);
		if (verb == VERB_READY_SYSLOG)
			leave_terminal();
		return send_answer(s->fd, 0, -1);
	case VERB_UNMOUNT:
	case VERB_DETACH:
		return do_unmount(s, verb == VERB_DETACH);
	case VERB_END:
		s->mount_id = 0;
		return send_answer(s->fd, 0, -1);
	default:
		return -EINVAL;
	}
}

static void serve(struct serving *s)
{
	char question[1 + PATH_MAX + 1];
	ssize_t n;

	do {
		n = recv(s->fd, question, sizeof(question) - 1, 0);
		if (n > 0) {
			question[n] = 0;
			if (answer(s, question[0], question + 1) < 0)
				n = 0;
		}
	} while (n > 0 || (n < 0 && errno == EINTR));
	/* The daemon is gone. If it could not unmount, what it left answers nothing but errors. */
	if (is_ours(s) && unmount(s->mountpoint, true) == 0)
		log_error("the daemon for %s died; its mount was detached", s->mountpoint);
}

int helper_start(struct helper *h, const char *mountpoint, const struct fs_options *o)
{
	struct serving s = { .options = o };
	int pair[2], r = 0;
	pid_t pid;

	h->fd = -1;
	pthread_mutex_init(&h->lock, NULL);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		r = -errno;
		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (pid > 0) {
		close(pair[1]);
		h->fd = pair[0];
		return 0;
	}
	/* What stops the daemon comes to the whole group of a terminal; the helper is still needed then. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* Nothing is in use because the helper has it open. */
	close_range(3, (unsigned)pair[1] - 1, 0);
	close_range((unsigned)pair[1] + 1, ~0U, 0);
	s.fd = pair[1];
	s.mountpoint = mountpoint;
	process_title_set("coffer-helper");
	serve(&s);
	_exit(0);
}

int helper_mount(struct helper *h, int *ret_fd)
{
	int fd = -1, r = ask(h, VERB_MOUNT, NULL, &fd);

	if (r == 0 && fd < 0)
		r = -EPIPE;
	if (r == 0)
		*ret_fd = fd;
	return r;
}

int helper_ready(struct helper *h, bool background)
{
	return ask(h, background ? VERB_READY_SYSLOG : VERB_READY, NULL, NULL);
}

int helper_unmount(struct helper *h, bool lazy)
{
	return ask(h, lazy ? VERB_DETACH : VERB_UNMOUNT, NULL, NULL);
}

int helper_open_key(void *arg, const char *path)
{
	int fd = -1, r = ask(arg, VERB_KEY, path, &fd);

	if (r == 0 && fd < 0)
		r = -EPIPE;
	return r < 0 ? r : fd;
}

void helper_end(struct helper *h)
{
	ask(h, VERB_END, NULL, NULL);
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}
