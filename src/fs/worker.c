/* What each thread that answers requests has: its reply buffer, and when it began. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#include "fs_internal.h"

static pthread_key_t worker_key;
static pthread_once_t worker_once = PTHREAD_ONCE_INIT;
static bool worker_key_made;
static _Thread_local struct worker *current;
static _Thread_local bool seen;
static _Thread_local struct entered under_way;

static void worker_free(void *arg)
{
	struct worker *w = arg;

	/* Plaintext passed through it. */
	wipe(w->reply, REPLY_ROOM);
	free(w->reply);
	free(w);
}

static void worker_make_key(void)
{
	worker_key_made = pthread_key_create(&worker_key, worker_free) == 0;
}

static struct worker *worker_new(void)
{
	struct worker *w = calloc(1, sizeof(*w));

	pthread_once(&worker_once, worker_make_key);
	if (!w || !worker_key_made)
		goto fail;
	w->reply = aligned_alloc(BLOCK_SIZE, REPLY_ROOM);
	if (!w->reply || pthread_setspecific(worker_key, w) != 0)
		goto fail;
	return w;

fail:
	if (w)
		free(w->reply);
	free(w);
	return NULL;
}

struct fs *enter_plain(fuse_req_t req, enum fs_op op)
{
	struct fs *f = fuse_req_userdata(req);

	under_way = (struct entered){ op, clock_ns() };

	if (!seen) {
		seen = true;
		/* libfuse ends its io_uring threads with pthread_cancel, in whatever they do. They stop by themselves when
		 * the session ends, and one that died in the volume layer would keep its locks. */
		if (fuse_req_is_uring(req)) {
			pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
			atomic_store_explicit(&f->uses_uring, true, memory_order_relaxed);
		}
	}
	return f;
}

struct fs *enter(fuse_req_t req, enum fs_op op, struct worker **ret_worker)
{
	struct fs *f = enter_plain(req, op);

	if (!current)
		current = worker_new();
	if (!current) {
		reply_result(req, -ENOMEM);
		return NULL;
	}
	*ret_worker = current;
	return f;
}

struct entered entered_op(void)
{
	return under_way;
}

void resume_op(struct entered e)
{
	under_way = e;
}

void leave(fuse_req_t req, bool failed, size_t bytes)
{
	struct fs *f = fuse_req_userdata(req);

	timing_add(&f->ops[under_way.op], clock_ns() - under_way.began, bytes, failed);
}

struct caller caller_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct caller){ .uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask };
}

bool is_in_group(fuse_req_t req, gid_t gid)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	gid_t groups[1024];
	int n;

	if (ctx->uid == 0 || ctx->gid == gid)
		return true;
	n = fuse_req_getgroups(req, sizeof(groups) / sizeof(groups[0]), groups);
	for (int i = 0; i < n && i < (int)(sizeof(groups) / sizeof(groups[0])); i++)
		if (groups[i] == gid)
			return true;
	return false;
}

bool is_administrator(fuse_req_t req)
{
	const uint64_t sys_admin = UINT64_C(1) << 21; /* CAP_SYS_ADMIN */
	AUTO_FREE char *text = NULL;
	char path[64];
	size_t len;

	/* Of the thread that asks; 0 where it is of another namespace, and not to be seen. */
	snprintf(path, sizeof(path), "/proc/%d/status", (int)fuse_req_ctx(req)->pid);
	if (read_file_at(AT_FDCWD, path, 65536, &text, &len) < 0)
		return false;
	const char *line = strstr(text, "\nCapEff:");

	return line && strtoull(line + strlen("\nCapEff:"), NULL, 16) & sys_admin;
}

enum kill_ids kill_ids_of(fuse_req_t req, struct volume *v, uint64_t object, bool kill)
{
	struct attr a;

	if (!kill)
		return KEEP_IDS;
	/* Rarely set, and a process's groups are slow to find out. */
	if (volume_getattr(v, object, &a) < 0 || (a.st.st_mode & (S_ISGID | S_IXGRP)) != S_ISGID)
		return KILL_IDS;
	return is_in_group(req, a.st.st_gid) ? KILL_IDS : KILL_ALL_IDS;
}
