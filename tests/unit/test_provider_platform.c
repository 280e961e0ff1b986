#include "key_fixture.h"

#include <time.h>

#include <dirent.h>
#include <fnmatch.h>
#include <sys/wait.h>

#include "../../src/key/provider.h"

TestSuite(provider_platform, .init = scratch_start, .fini = scratch_end);

static const struct key_provider *provider(void)
{
	const struct key_provider *p = key_provider_for("platform:");

	cr_assert(p);
	return p;
}

static struct key_source *open_key(const char *uri)
{
	struct key_source *s = NULL;

	cr_assert_eq(provider()->open(uri, in_scratch("state"), &s), 0);
	return s;
}

static int try_open(const char *uri)
{
	struct key_source *s = NULL;
	int r = provider()->open(uri, in_scratch("state"), &s);

	cr_assert_eq(r == 0, s != NULL);
	provider()->close(s);
	return r;
}

static void wrap(struct key_source *s, const struct secret *key, struct wrapped_key *ret)
{
	struct key_info used, info;

	cr_assert_eq(provider()->wrap(s, key, &used, ret), 0);
	cr_assert_eq(used.version, 1);
	cr_assert_eq(ret->len, WRAPPED_KEY_SIZE);
	cr_assert_eq(provider()->describe(s, &info), 0);
	cr_assert_str_eq(used.id, info.id);
}

static void make_ring(void)
{
	struct secret *key = secret_random(KEY_SIZE);
	struct key_source *s = open_key("platform:");
	struct wrapped_key wrapped;

	wrap(s, key, &wrapped);
	provider()->close(s);
	secret_free(key);
}

/* Calls `visit` with the path of each file of the ring that matches. */
static int each_file(const char *pattern, void (*visit)(const char *path))
{
	DIR *dir = opendir(in_scratch("state/keys"));
	struct dirent *e;
	char path[2 * PATH_MAX];
	int count = 0;

	cr_assert(dir);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.' || fnmatch(pattern, e->d_name, 0))
			continue;
		count++;
		snprintf(path, sizeof(path), "%s/state/keys/%s", scratch, e->d_name);
		if (visit)
			visit(path);
	}
	closedir(dir);
	return count;
}

Test(provider_platform, nothing_is_made_before_the_first_wrap)
{
	struct key_source *s = open_key("platform:");
	struct key_info info;
	struct secret *back = NULL;
	struct wrapped_key wrapped = { .len = WRAPPED_KEY_SIZE };

	cr_assert_eq(provider()->describe(s, &info), -ENOENT);
	cr_assert_eq(provider()->unwrap(s, NULL, 1, &wrapped, &back), -ENOENT);
	provider()->close(s);
	cr_assert_eq(access(in_scratch("state"), F_OK), -1);
}

static void check_private(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600, "%s", path);
}

static void check_key_size(const char *path)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_size, KEY_SIZE);
}

Test(provider_platform, made_on_first_use_and_private)
{
	struct stat st;

	umask(0);
	make_ring();
	cr_assert_eq(stat(in_scratch("state"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	cr_assert_eq(stat(in_scratch("state/keys"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	cr_assert_eq(each_file("*", check_private), 4);
	cr_assert_eq(each_file("*.1.key", check_key_size), 2);
	cr_assert(logged("keep a copy"));
	make_ring();
	cr_assert_not(logged("keep a copy"));
	cr_assert_eq(each_file("*", NULL), 4);
}

Test(provider_platform, opens_what_it_wrapped)
{
	struct secret *key = secret_random(KEY_SIZE), *back = NULL;
	struct key_source *s = open_key("platform:"), *infra;
	struct key_info info, again, other;
	struct wrapped_key wrapped;

	wrap(s, key, &wrapped);
	cr_assert_eq(provider()->describe(s, &info), 0);
	provider()->close(s);
	s = open_key("platform:");
	infra = open_key("platform:infrastructure");
	cr_assert_eq(provider()->describe(s, &again), 0);
	cr_assert_eq(provider()->describe(infra, &other), 0);
	cr_assert_str_eq(info.id, again.id);
	cr_assert_str_neq(info.id, other.id);
	cr_assert_eq(again.version, 1);
	cr_assert_eq(again.state, KEY_ACTIVE);
	cr_assert_eq(provider()->unwrap(infra, NULL, 1, &wrapped, &back), -EBADMSG);
	cr_assert_eq(provider()->unwrap(s, NULL, 2, &wrapped, &back), -ENOENT);
	cr_assert_null(back);
	cr_assert_eq(provider()->unwrap(s, NULL, 1, &wrapped, &back), 0);
	cr_assert(same_secret(key, back));
	provider()->close(s);
	provider()->close(infra);
	secret_free(key);
	secret_free(back);
}

Test(provider_platform, unknown_names)
{
	cr_assert_eq(try_open("platform:other"), -EINVAL);
	cr_assert_eq(try_open("platform"), -EINVAL);
	cr_assert_eq(try_open("platform:infrastructure2"), -EINVAL);
}

static void open_to_group(const char *path)
{
	cr_assert_eq(chmod(path, 0640), 0);
	/* The other key's file is of no matter to this one. */
	cr_assert_eq(try_open(strstr(path, "infra") ? "platform:infrastructure" : "platform:"), -EACCES, "%s", path);
	cr_assert(logged("0600"));
	cr_assert_eq(chmod(path, 0600), 0);
}

Test(provider_platform, refused_when_open_to_others)
{
	make_ring();
	for (unsigned bit = 0; bit < 6; bit++) {
		cr_assert_eq(chmod(in_scratch("state/keys"), 0700 | 1U << bit), 0);
		cr_assert_eq(try_open("platform:"), -EACCES);
		cr_assert(logged("chmod 0700"));
	}
	cr_assert_eq(chmod(in_scratch("state/keys"), 0700), 0);
	cr_assert_eq(try_open("platform:"), 0);
	cr_assert_eq(each_file("*.key", open_to_group), 2);
	if (!geteuid()) {
		cr_assert_eq(chown(in_scratch("state/keys"), 12345, 0), 0);
		cr_assert_eq(try_open("platform:"), -EACCES);
		cr_assert(logged("another user"));
	}
}

static void damage(const char *path)
{
	static uint8_t bytes[KEY_SIZE];
	const char *uri = strstr(path, "infra") ? "platform:infrastructure" : "platform:";
	uint8_t saved[KEY_SIZE];
	int fd = open(path, O_RDWR);

	cr_assert_eq(pread(fd, saved, KEY_SIZE, 0), KEY_SIZE);
	memcpy(bytes, saved, KEY_SIZE);
	bytes[9] ^= 4;
	cr_assert_eq(pwrite(fd, bytes, KEY_SIZE, 0), KEY_SIZE);
	cr_assert_eq(try_open(uri), -EINVAL);
	cr_assert(logged("restore the state directory"));
	cr_assert_eq(pwrite(fd, saved, KEY_SIZE, 0), KEY_SIZE);
	cr_assert_eq(try_open(uri), 0);
	cr_assert_eq(ftruncate(fd, KEY_SIZE - 1), 0);
	cr_assert_eq(try_open(uri), -EINVAL);
	cr_assert_eq(pwrite(fd, saved, KEY_SIZE, 0), KEY_SIZE);
	cr_assert_eq(ftruncate(fd, KEY_SIZE + 1), 0);
	cr_assert_eq(try_open(uri), -EINVAL);
	close(fd);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(try_open(uri), -EINVAL);
}

Test(provider_platform, damaged_keys_are_told_from_wrong_ones)
{
	make_ring();
	cr_assert_eq(each_file("*.key", damage), 2);
}

static void try_cut(const char *path)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	cr_assert_eq(read_file_at(AT_FDCWD, path, 1 << 16, &text, &len), 0);
	/* The last bytes end the text; libconfig needs none of them. */
	for (size_t cut = 0; cut < len - strlen(" );\n"); cut++) {
		put_file(path, text, cut, 0600);
		cr_assert_eq(try_open("platform:"), -EINVAL, "cut to %zu", cut);
	}
	put_file(path, text, len, 0600);
	cr_assert_eq(try_open("platform:"), 0);
}

Test(provider_platform, damaged_ring)
{
	make_ring();
	cr_assert_eq(each_file("ring", try_cut), 1);
}

static char kept[2][PATH_MAX];
static int kept_count;

static void keep(const char *path)
{
	strcpy(kept[kept_count++], path);
}

Test(provider_platform, a_new_ring_leaves_the_keys_of_a_lost_one)
{
	struct key_info before, after;
	struct key_source *s;

	make_ring();
	s = open_key("platform:");
	provider()->describe(s, &before);
	provider()->close(s);
	each_file("*.key", keep);
	cr_assert_eq(unlink(in_scratch("state/keys/ring")), 0);
	make_ring();
	s = open_key("platform:");
	provider()->describe(s, &after);
	provider()->close(s);
	cr_assert_str_neq(before.id, after.id);
	cr_assert_eq(each_file("*.key", NULL), 4);
	check_key_size(kept[0]);
	check_key_size(kept[1]);
}

Test(provider_platform, the_newest_version_wraps_and_all_unwrap)
{
	struct secret *key = secret_random(KEY_SIZE), *back = NULL, *second = NULL;
	struct key_source *s = open_key("platform:"), *other, *infra;
	struct key_info info;
	struct wrapped_key old, new;

	wrap(s, key, &old);
	cr_assert_eq(provider()->describe(s, &info), 0);
	cr_assert_eq(info.version, 1);
	cr_assert_leq(info.created, time(NULL));
	cr_assert_geq(info.created, time(NULL) - 60);
	other = open_key("platform:");
	infra = open_key("platform:infrastructure");
	cr_assert_eq(provider()->rotate(s), 0);
	cr_assert_eq(provider()->describe(other, &info), 0); /* another volume's notices */
	cr_assert_eq(info.version, 2);
	cr_assert_eq(provider()->describe(infra, &info), 0);
	cr_assert_eq(info.version, 1);
	cr_assert_eq(provider()->wrap(s, key, &info, &new), 0);
	cr_assert_eq(info.version, 2);
	provider()->close(s);
	s = open_key("platform:");
	cr_assert_eq(provider()->unwrap(s, info.id, 1, &old, &back), 0);
	cr_assert_eq(provider()->unwrap(s, info.id, 2, &new, &second), 0);
	cr_assert(same_secret(key, back) && same_secret(key, second));
	provider()->close(s);
	provider()->close(other);
	provider()->close(infra);
	secret_free(key);
	secret_free(back);
	secret_free(second);
}

/* What a crash between the key's file and the ring leaves is made anew. */
Test(provider_platform, a_version_that_did_not_get_into_the_ring)
{
	struct key_source *s = open_key("platform:");
	AUTO_FREE char *ring = NULL;
	struct secret *key = secret_random(KEY_SIZE);
	struct wrapped_key wrapped;
	struct key_info info;
	size_t len;

	wrap(s, key, &wrapped);
	cr_assert_eq(read_file_at(AT_FDCWD, in_scratch("state/keys/ring"), 1 << 16, &ring, &len), 0);
	cr_assert_eq(provider()->rotate(s), 0);
	put_file(in_scratch("state/keys/ring"), ring, len, 0600);
	provider()->close(s);
	s = open_key("platform:");
	cr_assert_eq(provider()->describe(s, &info), 0);
	cr_assert_eq(info.version, 1);
	cr_assert_eq(provider()->rotate(s), 0);
	cr_assert_eq(provider()->describe(s, &info), 0);
	cr_assert_eq(info.version, 2);
	provider()->close(s);
	secret_free(key);
}

/* Nobody said that it is not to be used any more. */
Test(provider_platform, a_ring_that_is_gone_is_out_of_reach)
{
	struct key_source *s = open_key("platform:");
	struct secret *key = secret_random(KEY_SIZE);
	struct wrapped_key wrapped;
	struct key_info info;

	wrap(s, key, &wrapped);
	cr_assert_eq(rename(in_scratch("state/keys"), in_scratch("state/away")), 0);
	cr_assert_eq(provider()->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_UNREACHABLE);
	cr_assert_eq(rename(in_scratch("state/away"), in_scratch("state/keys")), 0);
	cr_assert_eq(provider()->describe(s, &info), 0);
	cr_assert_eq(info.state, KEY_ACTIVE);
	provider()->close(s);
	secret_free(key);
}

/* A process that uses the ring at the same moment as others do, and puts the id of the ring it got into a file. It must not
 * fail by assertions, which Criterion expects of the test's own process only. */
static void be_one_of_many(int n, int start)
{
	struct secret *key = secret_random(KEY_SIZE);
	struct key_source *s = NULL;
	struct wrapped_key wrapped;
	struct key_info info;
	char go;

	if (provider()->open("platform:", in_scratch("state"), &s) || read(start, &go, 1) ||
	    provider()->wrap(s, key, &info, &wrapped))
		_exit(1);
	put_file(in_scratch("id%d", n), info.id, strlen(info.id), 0600);
	_exit(0);
}

Test(provider_platform, made_by_many_at_once_it_is_made_once)
{
	enum { MANY = 8 };
	AUTO_FREE char *first = NULL;
	int start[2];
	size_t len;

	cr_assert_eq(pipe(start), 0);
	for (int i = 0; i < MANY; i++) {
		if (!fork()) {
			close(start[1]);
			be_one_of_many(i, start[0]);
		}
	}
	close(start[0]);
	close(start[1]); /* go */
	for (int i = 0; i < MANY; i++) {
		int status = -1;

		cr_assert(wait(&status) > 0);
		cr_assert_eq(status, 0);
	}
	cr_assert_eq(each_file("*.key", NULL), 2);
	cr_assert_eq(read_file_at(AT_FDCWD, in_scratch("id0"), 256, &first, &len), 0);
	for (int i = 1; i < MANY; i++) {
		AUTO_FREE char *id = NULL;

		cr_assert_eq(read_file_at(AT_FDCWD, in_scratch("id%d", i), 256, &id, &len), 0);
		cr_assert_str_eq(id, first);
	}
}

Test(provider_platform, no_place_for_a_ring)
{
	struct secret *key = secret_random(KEY_SIZE);
	struct key_source *s = NULL;
	struct wrapped_key wrapped;
	struct key_info used;

	put_file(in_scratch("state"), "", 0, 0600);
	cr_assert_eq(provider()->open("platform:", in_scratch("state"), &s), -ENOTDIR);
	cr_assert_null(s);
	cr_assert_eq(unlink(in_scratch("state")), 0);
	s = open_key("platform:");
	put_file(in_scratch("state"), "", 0, 0600);
	cr_assert_lt(provider()->wrap(s, key, &used, &wrapped), 0);
	cr_assert(logged("--state-dir"));
	provider()->close(s);
	secret_free(key);
}
