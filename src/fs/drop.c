/* Has the kernel forget what it holds of objects whose scope is locked.
 *
 * Letting go of an inode's pages makes the kernel write those that wait, and wait for the answer; forgetting a name takes the lock of
 * its directory, which somebody may hold who waits for an answer. So this is never called by a thread that answers requests.
 */
#include "fs_internal.h"

void fs_drop(void *arg, const struct kernel_item *items, size_t count)
{
	struct fs *f = arg;

	/* What the kernel does not know is no failure. */
	for (size_t i = 0; i < count; i++) {
		const struct kernel_item *k = &items[i];

		if (k->name)
			(void)fuse_lowlevel_notify_inval_entry(f->session, k->dir, k->name, strlen(k->name));
		else
			(void)fuse_lowlevel_notify_inval_inode(f->session, k->object, 0, 0);
	}
}
