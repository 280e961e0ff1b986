/* What has to be said to the kernel unasked, by a thread of its own: each that answers requests is wanted for what the kernel
 * does then.
 *
 * SEEK_DATA and SEEK_HOLE. The kernel asks without having written back what it holds: what it has not sent yet would seem to be
 * a hole, and a copy of a file that somebody is writing would be zeros. So with the write-back cache on it is first told to let
 * go of the file's pages, which makes it write those that wait, and returns when it has (syncfs would not wait).
 *
 * A full disk. With the write-back cache on the kernel takes writes without asking, and that they could not be stored only
 * fsync and close tell. So once that happened to a file, the kernel is made to ask for its attributes before each write, and
 * hears of it there. */
#include <errno.h>

#include "fs_internal.h"

struct notice {
	struct notice *next;
	fuse_req_t req; /* of a seek; NULL: the object's attributes are to be asked for again */
	uint64_t object, off;
	int whence;
	bool over_uring;
	struct entered entered;
};

static void answer(struct fs *f, fuse_req_t req, uint64_t object, uint64_t off, int whence)
{
	uint64_t found = 0;
	int r = volume_seek(f->volume, object, off, whence, &found);

	reply_offset(req, r, found);
}

static void give_notice(struct fs *f, const struct notice *n, bool stop)
{
	if (n->req)
		resume_op(n->entered);
	if (stop) {
		if (n->req && !n->over_uring) /* those of a ring went with it */
			reply_result(n->req, -EIO);
		return;
	}
	/* An inode that it does not know has no pages. From -1: attributes alone. */
	(void)fuse_lowlevel_notify_inval_inode(f->session, n->object, n->req ? 0 : -1, 0);
	if (n->req)
		answer(f, n->req, n->object, n->off, n->whence);
}

static void *run_notifier(void *arg)
{
	struct fs *f = arg;

	for (;;) {
		pthread_mutex_lock(&f->notify_lock);
		while (!f->notices && !f->notify_stop)
			pthread_cond_wait(&f->notify_wake, &f->notify_lock);
		struct notice *list = f->notices;
		bool stop = f->notify_stop;

		f->notices = NULL;
		pthread_mutex_unlock(&f->notify_lock);
		if (!list && stop)
			return NULL;

		while (list) {
			struct notice *n = list;

			list = n->next;
			give_notice(f, n, stop);
			free(n);
		}
	}
}

static bool queue(struct fs *f, const struct notice *n)
{
	struct notice *copy = malloc(sizeof(*copy));

	if (!copy)
		return false;
	*copy = *n;
	pthread_mutex_lock(&f->notify_lock);
	copy->next = f->notices;
	f->notices = copy;
	pthread_cond_signal(&f->notify_wake);
	pthread_mutex_unlock(&f->notify_lock);
	return true;
}

int notifier_start(struct fs *f)
{
	int r;

	if (!f->writeback)
		return 0;
	pthread_mutex_init(&f->notify_lock, NULL);
	pthread_cond_init(&f->notify_wake, NULL);
	r = -pthread_create(&f->notifier, NULL, run_notifier, f);
	f->notifier_runs = r == 0;
	return r;
}

void notifier_stop(struct fs *f)
{
	if (!f->notifier_runs)
		return;
	pthread_mutex_lock(&f->notify_lock);
	f->notify_stop = true;
	pthread_cond_signal(&f->notify_wake);
	pthread_mutex_unlock(&f->notify_lock);
	pthread_join(f->notifier, NULL);
	f->notifier_runs = false;
	map_free(&f->starved);
	pthread_mutex_destroy(&f->notify_lock);
	pthread_cond_destroy(&f->notify_wake);
}

void op_lseek(fuse_req_t req, fuse_ino_t object, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *f = enter_plain(req, FS_LSEEK);
	struct notice n = { NULL, req, object, (uint64_t)off, whence, fuse_req_is_uring(req), entered_op() };

	(void)fi;
	if (!f->notifier_runs)
		answer(f, req, object, (uint64_t)off, whence);
	else if (!queue(f, &n))
		reply_result(req, -ENOMEM);
}

void note_starved(struct fs *f, uint64_t object)
{
	struct notice n = { .object = object };

	if (!f->notifier_runs)
		return;
	pthread_mutex_lock(&f->notify_lock);
	bool noted = map_put(&f->starved, object, (void *)1) == 0;

	pthread_mutex_unlock(&f->notify_lock);
	if (noted)
		(void)queue(f, &n); /* without memory it stays as it would be without us */
}

bool is_starved(struct fs *f, uint64_t object)
{
	if (!f->notifier_runs)
		return false;
	pthread_mutex_lock(&f->notify_lock);
	bool noted = map_get(&f->starved, object);

	pthread_mutex_unlock(&f->notify_lock);
	if (!noted || !volume_has_room(f->volume))
		return noted;
	pthread_mutex_lock(&f->notify_lock);
	map_remove(&f->starved, object);
	pthread_mutex_unlock(&f->notify_lock);
	return false;
}
