/* Operations on extended attributes; POSIX ACLs come this way too. */
#include <errno.h>
#include <sys/stat.h>

#include "fs_internal.h"

void op_getxattr(fuse_req_t req, fuse_ino_t object, const char *name, size_t size)
{
	struct worker *w;
	struct fs *f = enter(req, FS_GETXATTR, &w);
	size_t room = size < REPLY_ROOM ? size : REPLY_ROOM;
	ssize_t r;

	if (!f)
		return;
	if (virtual_is_name(name))
		r = virtual_get(f->volume, object, name, w->reply, room);
	else
		r = volume_getxattr(f->volume, object, name, w->reply, room);
	reply_xattr(req, r, w->reply, size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t object, size_t size)
{
	struct worker *w;
	struct fs *f = enter(req, FS_LISTXATTR, &w);
	size_t room = size < REPLY_ROOM ? size : REPLY_ROOM;

	if (!f)
		return;
	bool trusted = volume_listxattr(f->volume, object, true, NULL, 0) ==
			       volume_listxattr(f->volume, object, false, NULL, 0) ||
		       is_administrator(req);

	reply_xattr(req, volume_listxattr(f->volume, object, trusted, w->reply, room), w->reply, size);
}

/* Whether setting an access ACL takes the set-group-id bit away: POSIX wants it when the caller is not in the file's group.
 * The kernel would tell (FUSE_SETXATTR_ACL_KILL_SGID), but libfuse does not pass that on. */
static bool acl_kills_sgid(fuse_req_t req, struct volume *v, uint64_t object, const char *name)
{
	struct attr a;

	return strcmp(name, "system.posix_acl_access") == 0 && volume_getattr(v, object, &a) == 0 &&
	       a.st.st_mode & S_ISGID && !is_in_group(req, a.st.st_gid);
}

static void run_setxattr(struct fs *f, fuse_req_t req, const struct change *c)
{
	int r;

	if (virtual_is_name(c->name))
		r = -EPERM;
	else
		r = volume_setxattr(f->volume, c->object, c->name, c->data, c->size, (int)c->flags,
				    acl_kills_sgid(req, f->volume, c->object, c->name));
	reply_result(req, r);
}

void op_setxattr(fuse_req_t req, fuse_ino_t object, const char *name, const char *value, size_t size, int flags)
{
	fs_change(req, FS_SETXATTR,
		  &(struct change){ run_setxattr, object, .name = name, .data = value, .size = size,
				    .flags = (unsigned)flags });
}

static void run_removexattr(struct fs *f, fuse_req_t req, const struct change *c)
{
	reply_result(req, virtual_is_name(c->name) ? -EPERM : volume_removexattr(f->volume, c->object, c->name));
}

void op_removexattr(fuse_req_t req, fuse_ino_t object, const char *name)
{
	fs_change(req, FS_REMOVEXATTR, &(struct change){ run_removexattr, object, .name = name });
}
