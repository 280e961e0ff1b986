/* What is mounted where, by /proc/self/mountinfo: asking the mount itself may hang or fail when its daemon is gone. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <coffer/daemon.h>
#include <coffer/util.h>
/* After ours: it brings the kernel's macro BLOCK_SIZE. */
#include <sys/mount.h>

/* The kernel writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = 0;
}

static int copy_field(char *out, size_t size, char *field)
{
	if (!field || strlen(field) >= size)
		return -EINVAL;
	strcpy(out, field);
	unescape(out);
	return 0;
}

/* ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS */
static int parse_line(char *line, struct mount_entry *ret)
{
	char *save, *field, *mountpoint = NULL;
	unsigned dev_major = 0, dev_minor = 0;
	int i = 0;

	for (field = strtok_r(line, " \n", &save); field; field = strtok_r(NULL, " \n", &save), i++) {
		if (i == 0)
			ret->id = strtoull(field, NULL, 10);
		else if (i == 2 && sscanf(field, "%u:%u", &dev_major, &dev_minor) == 2)
			ret->device = makedev(dev_major, dev_minor);
		else if (i == 4)
			mountpoint = field;
		else if (i > 5 && strcmp(field, "-") == 0)
			break;
	}
	if (copy_field(ret->mountpoint, sizeof(ret->mountpoint), mountpoint) < 0 ||
	    copy_field(ret->type, sizeof(ret->type), strtok_r(NULL, " \n", &save)) < 0 ||
	    copy_field(ret->source, sizeof(ret->source), strtok_r(NULL, " \n", &save)) < 0)
		return -EINVAL;
	return 0;
}

static bool is_at_or_above(const char *mountpoint, const char *path)
{
	size_t len = strlen(mountpoint);

	return strcmp(mountpoint, "/") == 0 ||
	       (strncmp(mountpoint, path, len) == 0 && (path[len] == 0 || path[len] == '/'));
}

/* The last of the longest mount points that fit: mounts on top of each other are listed in order. */
static int find(const char *path, bool exactly, struct mount_entry *ret)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	AUTO_FREE char *line = NULL;
	struct mount_entry e;
	size_t size = 0;
	int r = -ENOENT;

	if (!f)
		return -errno;
	ret->mountpoint[0] = 0;
	while (getline(&line, &size, f) > 0) {
		if (parse_line(line, &e) < 0)
			continue;
		if (exactly ? strcmp(e.mountpoint, path) != 0 : !is_at_or_above(e.mountpoint, path))
			continue;
		if (strlen(e.mountpoint) >= strlen(ret->mountpoint)) {
			*ret = e;
			r = 0;
		}
	}
	fclose(f);
	return r;
}

int mounts_at(const char *mountpoint, struct mount_entry *ret)
{
	return find(mountpoint, true, ret);
}

int mounts_above(const char *path, struct mount_entry *ret)
{
	return find(path, false, ret);
}

bool mount_is_coffer(const struct mount_entry *m)
{
	return strcmp(m->type, "fuse.coffer") == 0;
}

int mount_answers(const char *path)
{
	struct statx st;

	return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) < 0 ? -errno : 0;
}

int resolve_mountpoint(const char *path, char *ret)
{
	char copy[PATH_MAX], last[NAME_MAX + 1];
	size_t len = strlen(path);
	const char *slash;

	if (len == 0 || len >= PATH_MAX)
		return len ? -ENAMETOOLONG : -ENOENT;
	memcpy(copy, path, len + 1);
	while (len > 1 && copy[len - 1] == '/')
		copy[--len] = 0;
	slash = strrchr(copy, '/');
	snprintf(last, sizeof(last), "%s", slash ? slash + 1 : copy);
	/* A last component that is no plain name needs all of it resolved, a symbolic link too. */
	if (last[0] == 0 || strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || readlink(copy, ret, 1) >= 0)
		return realpath(copy, ret) ? 0 : -errno;
	if (!realpath(dirname(copy), ret))
		return -errno;
	len = strlen(ret);
	if (len + strlen(last) + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	snprintf(ret + len, PATH_MAX - len, "%s%s", len > 1 ? "/" : "", last);
	return 0;
}

static int run_fusermount(const char *mountpoint, bool lazy)
{
	char name[] = "fusermount3", quietly[] = "-uq", detached[] = "-uqz", end[] = "--";
	char *argv[] = { name, lazy ? detached : quietly, end, NULL, NULL };
	posix_spawn_file_actions_t quiet;
	AUTO_FREE char *path = strdup(mountpoint);
	int status, r;
	pid_t pid;

	if (!path || posix_spawn_file_actions_init(&quiet) != 0)
		return -ENOMEM;
	argv[3] = path;
	posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = -posix_spawnp(&pid, argv[0], &quiet, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&quiet);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

int unmount(const char *mountpoint, bool lazy)
{
	if (geteuid() != 0)
		return run_fusermount(mountpoint, lazy);
	return umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0 ? -errno : 0;
}
