/* Backing directories, by path. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <coffer/daemon.h>
#include <coffer/descriptor.h>
#include <coffer/util.h>

int backing_open(const char *path, int *ret_fd, char *ret_path)
{
	int fd = -1, r;

	if (!realpath(path, ret_path) || (fd = open(ret_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		r = -errno;
		log_error("%s: %s", path, strerror(-r));
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int backing_has_volume(int backing_fd)
{
	struct stat st;

	if (fstatat(backing_fd, DESCRIPTOR_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : -ENOENT;
}
