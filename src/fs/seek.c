/* SEEK_DATA and SEEK_HOLE. The kernel asks without having written back what it holds: what it has not sent yet would seem to be
 * a hole, and a copy of a file that somebody is writing would be zeros. So with the write-back cache on it is first told to let
 * go of the file's pages, which makes it write those that wait, and returns when it has (syncfs would not wait). That is a
 * thread's of its own: each that answers requests is wanted for what the kernel writes then. */
#include <errno.h>

#include "fs_internal.h"

struct seek {
	struct seek *next;
	fuse_req_t req;
	uint64_t object, off;
	int whence;
	bool over_uring;
};

static void answer(struct fs *f, fuse_req_t req, uint64_t object, uint64_t off, int whence)
{
	uint64_t found = 0;
	int r = volume_seek(f->volume, object, off, whence, &found);

	reply_offset(req, r, found);
}

static void *run_seeker(void *arg)
{
	struct fs *f = arg;

	for (;;) {
		pthread_mutex_lock(&f->seek_lock);
		while (!f->seeks && !f->seek_stop)
			pthread_cond_wait(&f->seek_wake, &f->seek_lock);
		struct seek *list = f->seeks;
		bool stop = f->seek_stop;

		f->seeks = NULL;
		pthread_mutex_unlock(&f->seek_lock);
		if (!list && stop)
			return NULL;

		while (list) {
			struct seek *s = list;

			list = s->next;
			if (!stop) {
				/* An inode that it does not know has no pages. */
				(void)fuse_lowlevel_notify_inval_inode(f->session, s->object, 0, 0);
				answer(f, s->req, s->object, s->off, s->whence);
			} else if (!s->over_uring) { /* those of a ring went with it */
				reply_result(s->req, -EIO);
			}
			free(s);
		}
	}
}

int seeker_start(struct fs *f)
{
	int r;

	if (!f->writeback)
		return 0;
	pthread_mutex_init(&f->seek_lock, NULL);
	pthread_cond_init(&f->seek_wake, NULL);
	r = -pthread_create(&f->seeker, NULL, run_seeker, f);
	f->seeker_runs = r == 0;
	return r;
}

void seeker_stop(struct fs *f)
{
	if (!f->seeker_runs)
		return;
	pthread_mutex_lock(&f->seek_lock);
	f->seek_stop = true;
	pthread_cond_signal(&f->seek_wake);
	pthread_mutex_unlock(&f->seek_lock);
	pthread_join(f->seeker, NULL);
	f->seeker_runs = false;
	pthread_mutex_destroy(&f->seek_lock);
	pthread_cond_destroy(&f->seek_wake);
}

void op_lseek(fuse_req_t req, fuse_ino_t object, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *f = enter_plain(req);

	(void)fi;
	if (!f->seeker_runs) {
		answer(f, req, object, (uint64_t)off, whence);
		return;
	}
	struct seek *s = calloc(1, sizeof(*s));

	if (!s) {
		reply_result(req, -ENOMEM);
		return;
	}
	*s = (struct seek){ NULL, req, object, (uint64_t)off, whence, fuse_req_is_uring(req) };
	pthread_mutex_lock(&f->seek_lock);
	s->next = f->seeks;
	f->seeks = s;
	pthread_cond_signal(&f->seek_wake);
	pthread_mutex_unlock(&f->seek_lock);
}
