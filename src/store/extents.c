/* What the backing file system says of the space that a file has (FIEMAP, Linux Documentation/filesystems/fiemap.rst). */
#include <linux/fs.h>
#undef BLOCK_SIZE /* the kernel's, of old */
#include <linux/fiemap.h>
#include <sys/ioctl.h>

#include <coffer/util.h>

#include "internal.h"

enum { EXTENTS = 64 };
#define NO_SPACE_YET (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_DATA_INLINE)

uint64_t home_allocated(struct home *h, uint64_t object, uint64_t page, uint64_t *ret_end)
{
	AUTO_FREE struct fiemap *m = calloc(1, sizeof(*m) + EXTENTS * sizeof(m->fm_extents[0]));
	uint64_t at = page * BLOCK_SIZE, run_end = at;
	struct home_file *f;
	bool more = true;

	*ret_end = 0;
	if (!m || home_get(h, object, false, &f) < 0)
		return 0;
	while (more) {
		*m = (struct fiemap){ .fm_start = at, .fm_length = FIEMAP_MAX_OFFSET - at, .fm_extent_count = EXTENTS };
		if (ioctl(f->fd, FS_IOC_FIEMAP, m) < 0 || !m->fm_mapped_extents)
			break;
		for (unsigned i = 0; i < m->fm_mapped_extents; i++) {
			const struct fiemap_extent *e = &m->fm_extents[i];

			at = e->fe_logical + e->fe_length;
			more = !(e->fe_flags & FIEMAP_EXTENT_LAST);
			if (e->fe_flags & NO_SPACE_YET)
				continue;
			*ret_end = at / BLOCK_SIZE;
			if (e->fe_logical <= run_end)
				run_end = at;
		}
	}
	home_put(h, f);
	return run_end / BLOCK_SIZE - page;
}
