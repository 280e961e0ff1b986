/* Reading directories, with and without attributes. */
#include <errno.h>

#include "fs_internal.h"

struct listing {
	fuse_req_t req;
	const struct fs *f;
	struct worker *w;
	size_t room, used;
	size_t count; /* objects in w->entries: each holds a reference */
};

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static bool emit_name(void *arg, const struct dirent_view *e)
{
	struct listing *l = arg;
	struct stat st = { .st_ino = e->object, .st_mode = e->type };
	size_t left = l->room - l->used;
	size_t need = fuse_add_direntry(l->req, l->w->reply + l->used, left, e->name, &st, (off_t)e->next_cookie);

	if (need > left)
		return false;
	l->used += need;
	return true;
}

static bool emit_entry(void *arg, const struct dirent_view *e)
{
	struct listing *l = arg;
	/* Node id 0: a name without attributes, which the kernel asks for when it wants them. */
	struct fuse_entry_param p = { .attr = { .st_ino = e->object, .st_mode = e->type } };
	bool refers = e->a && !is_dot(e->name);
	size_t left = l->room - l->used;
	size_t need;

	if (refers)
		fill_entry(l->f, &p, e->a);
	if (refers && l->count == ENTRIES_MAX)
		return false;
	need = fuse_add_direntry_plus(l->req, l->w->reply + l->used, left, e->name, &p, (off_t)e->next_cookie);
	if (need > left)
		return false;
	l->used += need;
	if (refers)
		l->w->entries[l->count++] = e->object;
	return true;
}

static void list(fuse_req_t req, uint64_t dir, size_t size, off_t cookie, bool want_attr)
{
	struct listing l = { .req = req };
	struct fs *f = enter(req, FS_READDIR, &l.w);
	int r;

	if (!f)
		return;
	l.f = f;
	l.room = size < REPLY_ROOM ? size : REPLY_ROOM;
	r = volume_readdir(f->volume, dir, (uint64_t)cookie, want_attr, want_attr ? emit_entry : emit_name, &l);
	/* What was found before an error is delivered first; the error comes again with the next request. */
	if (r < 0 && l.used == 0)
		reply_result(req, r);
	else if (reply_listing(req, l.w->reply, l.used) < 0)
		for (size_t i = 0; i < l.count; i++)
			volume_forget(f->volume, l.w->entries[i], 1);
}

void op_readdir(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, dir, size, cookie, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t dir, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, dir, size, cookie, true);
}
