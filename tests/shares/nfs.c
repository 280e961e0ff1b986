/*
 * nfs VERSION EXPORT [--hook CMD [--meanwhile]] COMMAND ARGUMENT...
 *
 * Does one thing as a client of the NFS server on this host. In its middle bash does CMD, which restarts the server; with --meanwhile
 * the client does not wait for it. What is wrong ends the program with status 1.
 *
 *   put DIR REMOTE       copies a local tree (directories, files, symbolic links) to the server
 *   get REMOTE DIR       copies it back
 *   append REMOTE COUNT  appends COUNT lines of 100 bytes to a file, through one open file where the version lets it
 *   names REMOTE         renames and removes in a new directory
 *   stale REMOTE         holds a file open over what makes it another server's, of version 3
 *   reclaim NAME         holds a file open, of version 4, over a restart of the server, which it takes back
 *   special REMOTE       makes special files and links in a new directory, files in all ways that there are, and some as another user
 *   list REMOTE COUNT    lists a directory that holds the names 0..COUNT-1
 */
#include "nfs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nfsc/libnfs.h>

static struct client client;
static pid_t hook_pid;

void die(struct client *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("NFSv%d: ", c->version);
	vprintf(format, args);
	printf("\n");
	va_end(args);
	exit(1);
}

/* Of a call of libnfs, which has a message for what went wrong. */
#define OK(call)                                                                                \
	do {                                                                                    \
		int result_ = (call);                                                           \
		if (result_ < 0)                                                                \
			die(&client, "%s: %s (%d)", #call, nfs_get_error(client.nfs), result_); \
	} while (0)
/* The same, of what makes a name. What a server did without answering before it ended, the client asks of it again. */
#define OK_MADE(call)                                                \
	do {                                                         \
		int made_ = (call);                                  \
		OK(client.meanwhile &&made_ == -EEXIST ? 0 : made_); \
	} while (0)
#define CHECK(condition)                                                           \
	do {                                                                       \
		if (!(condition))                                                  \
			die(&client, "line %d: not so: %s", __LINE__, #condition); \
	} while (0)

void client_connect(struct client *c)
{
	c->nfs = nfs_init_context();
	CHECK(c->nfs);
	OK(nfs_set_version(c->nfs, c->version));
	nfs_set_uid(c->nfs, 0);
	nfs_set_gid(c->nfs, 0);
	nfs_set_dircache(c->nfs, 0);
	OK(nfs_mount(c->nfs, SERVER, c->export));
}

static void wait_for_hook(void)
{
	int status;

	CHECK(waitpid(hook_pid, &status, 0) == hook_pid && status == 0);
	hook_pid = 0;
}

void upset(struct client *c)
{
	if (!c->hook)
		return;
	fflush(stdout);
	hook_pid = fork();
	CHECK(hook_pid >= 0);
	if (hook_pid == 0) {
		execlp("bash", "bash", "-euc", c->hook, NULL);
		_exit(127);
	}
	if (c->meanwhile)
		return;
	wait_for_hook();
	if (c->version == 4) {
		nfs_destroy_context(c->nfs);
		client_connect(c);
	}
}

/* A new file; libnfs 4.0 opens it for reading only, of version 4. */
static struct nfsfh *make_file(const char *path, int mode)
{
	struct nfsfh *file;

	if (client.version == 4)
		OK(nfs_open2(client.nfs, path, O_CREAT | O_WRONLY, mode, &file));
	else
		OK(nfs_create(client.nfs, path, client.meanwhile ? O_WRONLY : O_WRONLY | O_EXCL, mode, &file));
	return file;
}

/* Writes all; a server may take less at once. */
static void write_all(struct nfsfh *file, uint64_t at, const char *data, size_t length)
{
	const size_t most = client.version == 4 ? 3072 : 256 * 1024; /* more libnfs 4.0 does not send, of version 4 */

	for (size_t done = 0; done < length;) {
		size_t part = length - done < most ? length - done : most;
		int n = nfs_pwrite(client.nfs, file, at + done, part, data + done);

		OK(n);
		CHECK(n > 0);
		done += (size_t)n;
	}
}

static void join(char path[static PATH_MAX], const char *dir, const char *name)
{
	CHECK(snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX);
}

/* ---- put, get ---- */

static char local_root[PATH_MAX], remote_root[PATH_MAX];
static int files, files_done;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)path;
	(void)st;
	(void)where;
	files += type == FTW_F;
	return 0;
}

static void put_contents(const char *from, const char *to, const struct stat *st)
{
	struct nfsfh *file = make_file(to, (int)st->st_mode & 0777);
	char *data = malloc((size_t)st->st_size + 1);
	int fd = open(from, O_RDONLY);

	CHECK(data && fd >= 0 && read(fd, data, (size_t)st->st_size + 1) == st->st_size);
	close(fd);
	write_all(file, 0, data, (size_t)st->st_size);
	free(data);
	OK(nfs_fsync(client.nfs, file));
	OK(nfs_close(client.nfs, file));
	if (++files_done == files / 2)
		upset(&client);
}

static int put_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	char to[2 * PATH_MAX], target[PATH_MAX];

	(void)where;
	snprintf(to, sizeof(to), "%s%s", remote_root, path + strlen(local_root));
	if (type == FTW_D) {
		OK_MADE(nfs_mkdir2(client.nfs, to, (int)st->st_mode & 0777));
	} else if (type == FTW_SL) {
		ssize_t length = readlink(path, target, sizeof(target) - 1);

		CHECK(length > 0);
		target[length] = 0;
		OK_MADE(nfs_symlink(client.nfs, target, to));
	} else {
		CHECK(type == FTW_F);
		put_contents(path, to, st);
	}
	return 0;
}

static void put(const char *local, const char *remote)
{
	snprintf(local_root, sizeof(local_root), "%s", local);
	snprintf(remote_root, sizeof(remote_root), "%s", remote);
	CHECK(nftw(local, count_file, 20, FTW_PHYS) == 0 && files > 2);
	CHECK(nftw(local, put_one, 20, FTW_PHYS) == 0);
	printf("%d files put\n", files_done);
}

static void get_contents(const char *from, const char *to, const struct nfs_stat_64 *st)
{
	char *data = malloc(st->nfs_size + 1);
	struct nfsfh *file;
	int fd = open(to, O_CREAT | O_EXCL | O_WRONLY, st->nfs_mode & 0777);

	CHECK(data && fd >= 0);
	OK(nfs_open(client.nfs, from, O_RDONLY, &file));
	for (uint64_t done = 0; done < st->nfs_size;) {
		int n = nfs_pread(client.nfs, file, done, st->nfs_size - done, data + done);

		OK(n);
		CHECK(n > 0);
		done += (uint64_t)n;
	}
	OK(nfs_close(client.nfs, file));
	CHECK(write(fd, data, st->nfs_size) == (ssize_t)st->nfs_size && close(fd) == 0);
	free(data);
	if (++files_done == 20)
		upset(&client);
}

static void get(const char *remote, const char *local)
{
	char names[512][NAME_MAX + 1], from[PATH_MAX], to[PATH_MAX], target[PATH_MAX];
	struct nfsdirent *entry;
	struct nfsdir *dir;
	int count = 0;

	/* Read to its end before what is in it: an upset ends what was open. */
	OK(nfs_opendir(client.nfs, remote, &dir));
	while ((entry = nfs_readdir(client.nfs, dir))) {
		CHECK(count < 512);
		if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
			snprintf(names[count++], sizeof(names[0]), "%s", entry->name);
	}
	nfs_closedir(client.nfs, dir);
	CHECK(mkdir(local, 0755) == 0);
	for (int i = 0; i < count; i++) {
		struct nfs_stat_64 st;

		join(from, remote, names[i]);
		join(to, local, names[i]);
		OK(nfs_lstat64(client.nfs, from, &st));
		if (S_ISDIR(st.nfs_mode)) {
			get(from, to);
		} else if (S_ISLNK(st.nfs_mode)) {
			OK(nfs_readlink(client.nfs, from, target, sizeof(target)));
			CHECK(st.nfs_size < sizeof(target));
			target[st.nfs_size] = 0; /* libnfs 4.0 does not end it where it should, of version 4 */
			CHECK(symlink(target, to) == 0);
		} else {
			CHECK(S_ISREG(st.nfs_mode));
			get_contents(from, to, &st);
		}
	}
}

/* ---- append ---- */

static void append(const char *remote, const char *count_text)
{
	int count = atoi(count_text);
	struct nfsfh *file = make_file(remote, 0644);
	struct nfs_stat_64 st;
	char line[101];

	for (int i = 0; i < count; i++) {
		snprintf(line, sizeof(line), "%099d\n", i);
		OK(nfs_stat64(client.nfs, remote, &st));
		CHECK(st.nfs_size == (uint64_t)i * 100);
		write_all(file, st.nfs_size, line, 100);
		/* What is not committed a client sends again when the server was restarted; libnfs does not. */
		OK(nfs_fsync(client.nfs, file));
		if (i == count / 2) {
			upset(&client);
			if (client.version == 4)
				OK(nfs_open(client.nfs, remote, O_WRONLY, &file));
		}
	}
	OK(nfs_close(client.nfs, file));
}

/* ---- names ---- */

static const char *in(const char *remote, const char *name)
{
	static char paths[4][PATH_MAX];
	static int next;

	join(paths[next % 4], remote, name);
	return paths[next++ % 4];
}

static void put_text(const char *path, const char *text)
{
	struct nfsfh *file = make_file(path, 0640);

	write_all(file, 0, text, strlen(text));
	OK(nfs_fsync(client.nfs, file));
	OK(nfs_close(client.nfs, file));
}

static bool has_text(const char *path, const char *text)
{
	char found[100];
	struct nfsfh *file;
	int n;

	OK(nfs_open(client.nfs, path, O_RDONLY, &file));
	n = nfs_pread(client.nfs, file, 0, sizeof(found), found);
	OK(nfs_close(client.nfs, file));
	return n == (int)strlen(text) && memcmp(found, text, (size_t)n) == 0;
}

static void names(const char *remote)
{
	struct nfsfh *held = NULL, *gone = NULL;
	struct nfs_stat_64 st, after;

	OK(nfs_mkdir(client.nfs, remote));
	OK(nfs_mkdir(client.nfs, in(remote, "d")));
	for (int i = 0; i < 6; i++) {
		char name[8] = { 'd', '/', (char)('a' + i), 0 };

		put_text(in(remote, name), name);
	}
	OK(nfs_stat64(client.nfs, in(remote, "d/a"), &st));
	if (client.version == 3) { /* handles are all that an open file is there */
		OK(nfs_open(client.nfs, in(remote, "d/a"), O_RDWR, &held));
		OK(nfs_open(client.nfs, in(remote, "d/c"), O_RDWR, &gone));
	}
	OK(nfs_rename(client.nfs, in(remote, "d/a"), in(remote, "moved")));
	OK(nfs_rename(client.nfs, in(remote, "d"), in(remote, "e")));
	OK(nfs_unlink(client.nfs, in(remote, "e/c")));
	upset(&client);
	CHECK(has_text(in(remote, "moved"), "d/a") && has_text(in(remote, "e/b"), "d/b"));
	OK(nfs_stat64(client.nfs, in(remote, "moved"), &after));
	CHECK(st.nfs_ino == after.nfs_ino && nfs_stat64(client.nfs, in(remote, "d"), &after) == -ENOENT);
	if (held) {
		write_all(held, 3, "+", 1);
		CHECK(has_text(in(remote, "moved"), "d/a+"));
		CHECK(nfs_fstat64(client.nfs, gone, &after) == -ESTALE);
	}
	put_text(in(remote, "e/c"), "another");
	CHECK(!gone || nfs_fstat64(client.nfs, gone, &after) == -ESTALE);
	OK(nfs_rename(client.nfs, in(remote, "e/d"), in(remote, "e/b")));
	CHECK(has_text(in(remote, "e/b"), "d/d") && nfs_rmdir(client.nfs, in(remote, "e")) < 0);
	for (const char *name = "bcef"; *name; name++) {
		char path[8] = { 'e', '/', *name, 0 };

		OK(nfs_unlink(client.nfs, in(remote, path)));
	}
	OK(nfs_rmdir(client.nfs, in(remote, "e")));
	OK(nfs_unlink(client.nfs, in(remote, "moved")));
	OK(nfs_rmdir(client.nfs, remote));
}

static void stale(const char *remote)
{
	struct nfsfh *held = make_file(remote, 0644);
	struct nfs_stat_64 st;

	OK(nfs_fstat64(client.nfs, held, &st));
	upset(&client);
	CHECK(nfs_fstat64(client.nfs, held, &st) == -ESTALE);
}

/* ---- special ---- */

static void as_user(int id)
{
	nfs_set_uid(client.nfs, id);
	nfs_set_gid(client.nfs, id);
}

/* Another user's file is theirs, and root's is not. */
static void another_user(const char *remote)
{
	enum { USER = 20001 };
	struct nfs_stat_64 st;
	struct nfsfh *file;

	put_text(in(remote, "root's"), "text");
	OK(nfs_chmod(client.nfs, in(remote, "root's"), 0600));
	OK(nfs_mkdir2(client.nfs, in(remote, "theirs"), 0777));
	as_user(USER);
	put_text(in(remote, "theirs/file"), "theirs");
	OK(nfs_stat64(client.nfs, in(remote, "theirs/file"), &st));
	CHECK(st.nfs_uid == USER && st.nfs_gid == USER && has_text(in(remote, "theirs/file"), "theirs"));
	CHECK(nfs_open(client.nfs, in(remote, "root's"), O_RDONLY, &file) == -EACCES);
	CHECK(nfs_unlink(client.nfs, in(remote, "root's")) == -EACCES);
	as_user(0);
}

static void special(const char *remote)
{
	const struct {
		const char *name;
		mode_t mode;
		dev_t device;
	} nodes[] = {
		{ "fifo", S_IFIFO | 0640, 0 },
		{ "socket", S_IFSOCK | 0600, 0 },
		{ "char", S_IFCHR | 0660, makedev(1, 3) },
		{ "block", S_IFBLK | 0600, makedev(7, 200) },
	};
	struct nfs_stat_64 st;
	struct nfsfh *file;

	OK(nfs_mkdir(client.nfs, remote));
	for (int i = 0; i < 4 && client.version == 3; i++) { /* libnfs 4.0 sends nothing of the kind of version 4 */
		OK(nfs_mknod(client.nfs, in(remote, nodes[i].name), (int)nodes[i].mode, (int)nodes[i].device));
		OK(nfs_lstat64(client.nfs, in(remote, nodes[i].name), &st));
		CHECK(st.nfs_mode == nodes[i].mode && (i < 2 || st.nfs_rdev == nodes[i].device));
	}
	put_text(in(remote, "file"), "text");
	CHECK(nfs_create(client.nfs, in(remote, "file"), O_RDWR | O_EXCL, 0600, &file) < 0);
	OK(nfs_create(client.nfs, in(remote, "exclusive"), O_RDWR | O_EXCL, 0604, &file));
	OK(nfs_close(client.nfs, file));
	OK(nfs_link(client.nfs, in(remote, "file"), in(remote, "link")));
	OK(nfs_stat64(client.nfs, in(remote, "link"), &st));
	CHECK(st.nfs_nlink == 2 && has_text(in(remote, "link"), "text"));
	OK(nfs_truncate(client.nfs, in(remote, "link"), UINT64_C(1) << 33));
	OK(nfs_stat64(client.nfs, in(remote, "file"), &st));
	CHECK(st.nfs_size == UINT64_C(1) << 33);
	another_user(remote);
	upset(&client);
	OK(nfs_stat64(client.nfs, in(remote, "file"), &st));
	CHECK(st.nfs_size == UINT64_C(1) << 33 && st.nfs_nlink == 2);
}

int main(int argc, char **argv)
{
	int at = 3;

	if (argc < 5)
		return 2;
	client = (struct client){ .version = atoi(argv[1]), .export = argv[2] };
	if (!strcmp(argv[at], "--hook") && argc > at + 2) {
		client.hook = argv[at + 1];
		at += 2;
	}
	if (!strcmp(argv[at], "--meanwhile")) {
		client.meanwhile = true;
		at++;
	}
	const char *command = argv[at], *one = at + 1 < argc ? argv[at + 1] : "",
		   *two = at + 2 < argc ? argv[at + 2] : "";

	client_connect(&client);
	if (!strcmp(command, "put"))
		put(one, two);
	else if (!strcmp(command, "get"))
		get(one, two);
	else if (!strcmp(command, "append"))
		append(one, two);
	else if (!strcmp(command, "names"))
		names(one);
	else if (!strcmp(command, "stale"))
		stale(one);
	else if (!strcmp(command, "reclaim"))
		reclaim(&client, one);
	else if (!strcmp(command, "special"))
		special(one);
	else if (!strcmp(command, "list"))
		list_numbers(&client, one, (unsigned)atoi(two));
	else
		return 2;
	if (hook_pid)
		wait_for_hook();
	nfs_destroy_context(client.nfs);
	return 0;
}
