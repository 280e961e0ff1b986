/* Scopes that are locked and unlocked while a volume is open: what operations say, and what the keeper makes of what key sources
 * say. The source is a fake one, "fake:", whose key always is there and whose owner's mind is `fake`. */
#include "volume_fixture.h"

#include <fcntl.h>

#include "../../src/volume/keeper.h"

static struct {
	atomic_bool hangs; /* "fake:hangs" does not answer */
	atomic_uint hanging;
	enum key_state state;
	int error; /* of open, wrap and unwrap */
	uint32_t version;
	unsigned unwraps, opens;
	bool wraps_garbage;
} fake;

struct key_source {
	struct secret *key;
	bool hangs;
};

static int fake_open(const char *uri, const char *state_dir, struct key_source **ret)
{
	struct key_source *s;

	(void)state_dir;
	fake.opens++;
	if (fake.error)
		return fake.error;
	s = calloc(1, sizeof(*s));
	s->key = secret_new(KEY_SIZE);
	memset(secret_data(s->key), 0x5a, KEY_SIZE);
	s->hangs = !strcmp(uri, "fake:hangs");
	*ret = s;
	return 0;
}

static int fake_describe(struct key_source *s, struct key_info *ret)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	atomic_fetch_add(&fake.hanging, 1);
	while (s->hangs && atomic_load(&fake.hangs))
		nanosleep(&pause, NULL);
	atomic_fetch_sub(&fake.hanging, 1);
	*ret = (struct key_info){ .id = "fake", .version = fake.version, .state = fake.state };
	return 0;
}

static int fake_wrap(struct key_source *s, const struct secret *key, struct key_info *ret_used, struct wrapped_key *ret)
{
	int r = fake.error ? fake.error : key_wrap(s->key, key, ret);

	if (fake.wraps_garbage)
		ret->bytes[7] ^= 1;
	return r ? r : fake_describe(s, ret_used);
}

static int fake_unwrap(struct key_source *s, const char *id, uint32_t version, const struct wrapped_key *in,
		       struct secret **ret)
{
	(void)id;
	(void)version;
	fake.unwraps++;
	return fake.error ? fake.error : key_unwrap(s->key, in, ret);
}

static void fake_close(struct key_source *s)
{
	secret_free(s->key);
	free(s);
}

static const struct key_provider provider_fake = {
	.scheme = "fake",
	.open = fake_open,
	.describe = fake_describe,
	.wrap = fake_wrap,
	.unwrap = fake_unwrap,
	.close = fake_close,
};

const struct key_provider *__real_key_provider_for(const char *uri);
const struct key_provider *__wrap_key_provider_for(const char *uri);
const struct key_provider *__wrap_key_provider_for(const char *uri)
{
	return strncmp(uri, "fake:", 5) ? __real_key_provider_for(uri) : &provider_fake;
}

enum { TEAM = 1 };
static uint64_t dir, file, hard, link_to, sub, plain; /* in the scope; `plain` lies beside it */

/* As `scope assign` will do: an empty directory, whose header is sealed anew. */
static void assign(uint64_t number, uint32_t scope)
{
	struct object *o;
	struct change ch;
	struct meta *m;

	cr_assert_eq(change_begin(vol, &ch, BLOCK_SIZE, ROOM_NEW), 0);
	cr_assert_eq(change_pin(&ch, number, &o), 0);
	cr_assert_eq(change_object(&ch, o, &m), 0);
	m->scope = scope;
	m->dek_version = keys_current_version(vol->keys, scope);
	cr_assert_eq(change_commit(&ch), 0);
}

static void write_text(uint64_t object, const char *text)
{
	cr_assert_eq(volume_write(vol, object, 0, strlen(text), text, KILL_IDS), 0);
}

static void start(void)
{
	struct attr a;

	scratch_in_memory();
	fake.state = KEY_ACTIVE;
	fake.version = 1;
	fake.error = 0;
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	cr_assert_eq(volume_scope_create(vol, "team", "fake:", SUITE_XTS_GMAC, NULL), 0);
	plain = make(ROOT_OBJECT, "plain", S_IFREG | 0644);
	write_text(plain, "beside");
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	assign(dir, TEAM);
	file = make(dir, "file", S_IFREG | 0644);
	write_text(file, "secret");
	hard = make(dir, "hard", S_IFREG | 0644);
	link_to = make(dir, "link", S_IFLNK | 0777);
	sub = make(dir, "sub", S_IFDIR | 0755);
	cr_assert_eq(volume_link(vol, hard, ROOT_OBJECT, "hard", &a), 0);
	cr_assert_eq(volume_rename(vol, dir, "file", ROOT_OBJECT, "file", 0), 0);
	cr_assert_eq(volume_rename(vol, dir, "sub", ROOT_OBJECT, "sub", 0), 0);
}

static void end(void)
{
	close_volume();
	scratch_end();
}

TestSuite(volume_keys, .init = start, .fini = end, .timeout = 100);

static enum scope_state state(void)
{
	struct scope_view s;

	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	return s.state;
}

static bool is_open(void)
{
	struct scope_view s;

	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	return s.open;
}

static bool ignore_entry(void *arg, const struct dirent_view *e)
{
	(void)arg;
	(void)e;
	return true;
}

/* Every operation on an object, and what it is to say. */
static void expect_all(uint64_t object, int expected)
{
	struct stat st = { .st_mode = 0600 };
	char buf[BLOCK_SIZE];
	struct attr a;
	uint64_t at;

	cr_expect_eq(volume_getattr(vol, object, &a), expected);
	cr_expect_eq(volume_setattr(vol, object, &st, SET_MODE, &a), expected);
	cr_expect_eq(volume_setxattr(vol, object, "user.a", "b", 1, 0, false), expected);
	cr_expect_eq(volume_getxattr(vol, object, "user.a", buf, 1), expected ? expected : 1);
	cr_expect_eq(volume_listxattr(vol, object, true, buf, sizeof(buf)), expected ? expected : 7);
	cr_expect_eq(volume_removexattr(vol, object, "user.a"), expected);
	cr_expect_eq(volume_fsync(vol, object), expected);
	if (object == file) {
		cr_expect_eq(volume_read(vol, object, 0, 100, buf), expected ? expected : 6);
		cr_expect_eq(volume_write(vol, object, 0, 1, "s", KILL_IDS), expected);
		cr_expect_eq(volume_fallocate(vol, object, FALLOC_FL_KEEP_SIZE, 0, 1, KILL_IDS), expected);
		cr_expect_eq(volume_seek(vol, object, 0, SEEK_DATA, &at), expected);
		cr_expect_eq(volume_rename(vol, ROOT_OBJECT, "file", ROOT_OBJECT, "other", 0), expected);
		if (!expected)
			cr_expect_eq(volume_rename(vol, ROOT_OBJECT, "other", ROOT_OBJECT, "file", 0), 0);
		cr_expect_eq(volume_rename(vol, ROOT_OBJECT, "plain", ROOT_OBJECT, "file", RENAME_EXCHANGE), expected);
		cr_expect_eq(volume_rename(vol, ROOT_OBJECT, "plain", ROOT_OBJECT, "file", RENAME_EXCHANGE), expected);
		cr_expect_eq(volume_link(vol, object, ROOT_OBJECT, "more", &a), expected);
		if (!expected)
			cr_expect_eq(volume_unlink(vol, ROOT_OBJECT, "more"), 0);
	}
	if (object == link_to)
		cr_expect_eq(volume_readlink(vol, object, buf, sizeof(buf)), expected ? expected : 6);
	if (object == dir) {
		cr_expect_eq(volume_readdir(vol, object, 0, true, ignore_entry, NULL), expected);
		cr_expect_eq(volume_lookup(vol, object, "hard", &a), expected);
		cr_expect_eq(volume_make(vol, &me, object, "n", S_IFREG, 0, NULL, &a), expected);
		cr_expect_eq(volume_unlink(vol, object, "n"), expected);
		if (!expected)
			volume_forget(vol, a.st.st_ino, 1);
		cr_expect_eq(volume_tmpfile(vol, &me, object, 0600, &a), expected);
		if (!expected)
			volume_forget(vol, a.st.st_ino, 1);
		cr_expect_eq(volume_rename(vol, ROOT_OBJECT, "plain", object, "plain", 0), expected);
		cr_expect_eq(volume_rename(vol, object, "plain", ROOT_OBJECT, "plain", 0), expected);
	}
}

static void expect_scope(int expected)
{
	expect_all(file, expected);
	expect_all(dir, expected);
	expect_all(link_to, expected);
	expect_all(hard, expected);
}

static void expect_others_unharmed(void)
{
	char buf[BLOCK_SIZE];

	cr_assert_eq(volume_read(vol, plain, 0, 100, buf), 6);
	cr_assert_eq(lookup(ROOT_OBJECT, "plain"), plain);
	cr_assert_eq(volume_readdir(vol, ROOT_OBJECT, 0, true, ignore_entry, NULL), 0);
}

Test(volume_keys, locked_and_unlocked)
{
	expect_scope(0);
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(state(), STATE_LOCKED);
	cr_assert_not(is_open());
	expect_scope(-EACCES);
	expect_others_unharmed();
	poll_now(); /* what was locked by hand stays so */
	cr_assert_eq(state(), STATE_LOCKED);
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	expect_scope(0);
	expect_sound(0);
	cr_assert_eq(volume_key_lock(vol, 77), -ENOENT);
}

Test(volume_keys, the_root_directory_may_be_locked)
{
	struct attr a;

	cr_assert_eq(volume_key_lock(vol, 0), 0);
	cr_assert_eq(volume_getattr(vol, ROOT_OBJECT, &a), -EACCES);
	cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, "plain", &a), -EACCES);
	cr_assert_eq(volume_getattr(vol, plain, &a), -EACCES);
	cr_assert_eq(volume_getattr(vol, file, &a), 0); /* another scope's, that somebody had found before */
	cr_assert_eq(volume_key_unlock(vol, 0), 0);
	cr_assert_eq(volume_getattr(vol, ROOT_OBJECT, &a), 0);
}

struct seen {
	unsigned entries, with_attributes;
};

static bool count_entry(void *arg, const struct dirent_view *e)
{
	struct seen *s = arg;

	s->entries++;
	s->with_attributes += e->a != NULL;
	if (!strcmp(e->name, "file"))
		cr_assert(S_ISREG(e->type) && !e->a);
	return true;
}

Test(volume_keys, names_in_an_open_directory_are_listed_and_found)
{
	struct seen seen = { 0 };
	struct attr a;

	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(volume_readdir(vol, ROOT_OBJECT, 0, true, count_entry, &seen), 0);
	cr_assert_eq(seen.entries, 2 + 5);
	cr_assert_eq(seen.with_attributes, 1); /* plain */
	cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, "file", &a), 0);
	cr_assert(a.locked);
	cr_assert_eq(a.st.st_ino, file);
	cr_assert_eq(a.st.st_mode, S_IFREG);
	cr_assert_eq(a.st.st_nlink, 1);
	cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, "hard", &a), 0);
	cr_assert_eq(a.st.st_nlink, 2);
	cr_assert_eq(volume_lookup(vol, file, ".", &a), -EACCES); /* a handle is no name */
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, "file", &a), 0);
	cr_assert_not(a.locked);
}

Test(volume_keys, locked_objects_are_removed_by_their_only_name)
{
	struct attr a;

	cr_assert_eq(lookup(ROOT_OBJECT, "file"), file); /* somebody has it open */
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "hard"), -EACCES);
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "sub"), -EACCES);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "sub"), -EISDIR);
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "file"), -ENOTDIR);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "file"), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, "file"), 0);
	cr_assert(store_exists(vol->store, file));
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	cr_assert_eq(volume_getattr(vol, file, &a), 0);
	cr_assert_eq(a.st.st_nlink, 0);
	volume_forget(vol, file, 100);
	cr_assert_not(store_exists(vol->store, file));
	cr_assert_eq(volume_getattr(vol, file, &a), -ESTALE);
	expect_sound(0);
}

Test(volume_keys, removed_while_locked_and_closed)
{
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(volume_unlink(vol, ROOT_OBJECT, "file"), 0);
	cr_assert(store_exists(vol->store, file));
	volume_forget(vol, file, 100);
	cr_assert_not(store_exists(vol->store, file));
	reopen_volume();
	cr_assert_eq(lookup(ROOT_OBJECT, "file"), 0);
	expect_sound(0);
}

/* ---- what is still taken while a scope is flushed ---- */

static unsigned pages, names;
static int written, refused, listed;

static void drop(void *arg, const struct kernel_item *items, size_t count)
{
	struct stat st = { .st_mtim.tv_sec = 7, .st_ctim.tv_sec = 7 };
	char buf[BLOCK_SIZE];
	struct attr a;

	(void)arg;
	for (size_t i = 0; i < count; i++) {
		pages += !items[i].name;
		names += items[i].name != NULL;
		if (items[i].name)
			cr_assert(items[i].dir == dir || items[i].dir == ROOT_OBJECT);
	}
	if (written)
		return; /* the second time it is locked */
	written = volume_write(vol, file, 0, 6, "dirty!", WRITTEN_BACK) == 0 &&
		  volume_setattr(vol, file, &st, SET_MTIME | SET_CTIME, &a) == 0;
	refused = volume_read(vol, file, 0, 6, buf) == -EACCES && volume_getattr(vol, file, &a) == -EACCES &&
		  volume_write(vol, file, 0, 1, "x", KILL_IDS) == -EACCES;
	listed = volume_readdir(vol, dir, 0, false, ignore_entry, NULL) == -EACCES;
}

Test(volume_keys, what_the_kernel_holds_is_written_and_forgotten)
{
	struct kernel_cache kernel = { drop, NULL };
	char buf[BLOCK_SIZE];
	struct attr a;

	vol->keeper.flush = 10;
	vol->keeper.poll = 3600;
	cr_assert_eq(volume_keeper_start(vol, &kernel), 0);
	lookup(ROOT_OBJECT, "file"); /* there is a reference from when it was made */
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert(written);
	cr_assert(refused);
	cr_assert(listed);
	cr_assert_eq(pages, 2 * 5); /* dir, file, hard, link, sub: before their keys go, and after */
	cr_assert_eq(names, 6);     /* one each, and two of hard */
	cr_assert_eq(volume_write(vol, file, 0, 1, "x", WRITTEN_BACK), -EACCES);
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	cr_assert_eq(volume_read(vol, file, 0, 6, buf), 6);
	cr_assert_arr_eq(buf, "dirty!", 6);
	cr_assert_eq(volume_getattr(vol, file, &a), 0);
	cr_assert_eq(a.st.st_mtim.tv_sec, 7);
	volume_keeper_stop(vol);
}

static void drop_slowly(void *arg, const struct kernel_item *items, size_t count)
{
	(void)items;
	(void)count;
	if (*(int *)arg == 0)
		sleep(3);
	++*(int *)arg;
}

Test(volume_keys, flushing_has_an_end)
{
	int calls = 0;
	struct kernel_cache kernel = { drop_slowly, &calls };
	time_t began = time(NULL);

	vol->keeper.flush = 1;
	cr_assert_eq(volume_keeper_start(vol, &kernel), 0);
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert(logged("not all that was written"));
	cr_assert_leq(time(NULL) - began, 5);
	cr_assert_eq(calls, 2);
	expect_scope(-EACCES);
	volume_keeper_stop(vol);
}

/* ---- states ---- */

Test(volume_keys, revoked_and_restored)
{
	fake.state = KEY_REVOKED;
	poll_now();
	cr_assert_eq(state(), STATE_REVOKED);
	expect_scope(-EACCES);
	expect_others_unharmed();
	fake.error = -EACCES;
	poll_now();
	cr_assert_eq(state(), STATE_REVOKED);
	fake.state = KEY_ACTIVE;
	fake.error = 0;
	poll_now();
	cr_assert_eq(state(), STATE_ACTIVE);
	expect_scope(0);
}

Test(volume_keys, out_of_reach_is_served_for_some_time)
{
	struct scope_view s;

	vol->keeper.grace = 3600;
	fake.state = KEY_UNREACHABLE;
	poll_now();
	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	cr_assert_eq(s.state, STATE_UNREACHABLE);
	cr_assert(s.open);
	cr_assert_leq(s.until, time(NULL) + 3600);
	cr_assert_geq(s.until, time(NULL) + 3590);
	expect_scope(0);
	fake.state = KEY_ACTIVE;
	poll_now();
	cr_assert_eq(state(), STATE_ACTIVE);
	fake.state = KEY_UNREACHABLE;
	vol->keeper.grace = 1;
	poll_now();
	cr_assert(is_open());
	fake.error = -EHOSTUNREACH;
	sleep(2);
	poll_now();
	cr_assert_eq(state(), STATE_UNREACHABLE);
	expect_scope(-EACCES);
	poll_now();
	cr_assert_eq(state(), STATE_UNREACHABLE);
	fake.error = 0;
	fake.state = KEY_ACTIVE;
	poll_now();
	expect_scope(0);
}

Test(volume_keys, no_grace)
{
	vol->keeper.grace = 0;
	fake.state = KEY_UNREACHABLE;
	poll_now();
	cr_assert_eq(state(), STATE_UNREACHABLE);
	expect_scope(-EACCES);
}

Test(volume_keys, a_newer_key_is_taken)
{
	struct scope_view s;

	fake.version = 2;
	poll_now();
	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	cr_assert_eq(s.entry.kek_version, 2);
	expect_scope(0);
	reopen_volume();
	expect_scope(0);
}

Test(volume_keys, disabled_is_for_longer_than_a_mount)
{
	cr_assert_eq(volume_scope_enable(vol, TEAM, false), 0);
	expect_scope(-EACCES);
	poll_now();
	cr_assert_eq(volume_key_unlock(vol, TEAM), -EKEYREVOKED);
	reopen_volume();
	cr_assert_eq(state(), STATE_DISABLED);
	poll_now();
	expect_all(file, -EACCES);
	expect_others_unharmed();
	cr_assert_eq(volume_scope_enable(vol, TEAM, true), 0);
	expect_scope(0);
	reopen_volume();
	expect_scope(0);
}

/* ---- from one source to another ---- */

static const char *key_file_uri(void)
{
	static char uri[2 * PATH_MAX];
	uint8_t key[KEY_SIZE] = { 9, 9, 9 };

	put_file(in_scratch("team key"), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uri), "file://%s", in_scratch("team%%20key"));
	return uri;
}

Test(volume_keys, to_every_source_and_back)
{
	const char *const uris[] = { "platform:", key_file_uri(), "fake:", "platform:", "fake:", key_file_uri() };
	struct scope_view s;

	for (size_t i = 0; i < sizeof(uris) / sizeof(*uris); i++) {
		cr_assert_eq(volume_key_set(vol, TEAM, uris[i], NULL), 0);
		cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
		cr_assert_str_eq(s.entry.key_uri, uris[i]);
		expect_scope(0);
		reopen_volume(); /* the pin has followed */
		expect_scope(0);
	}
}

Test(volume_keys, the_old_key_is_asked_first)
{
	struct scope_view before, after;

	cr_assert_eq(volume_scope(vol, TEAM, &before), 0);
	fake.state = KEY_REVOKED;
	cr_assert_eq(volume_key_set(vol, TEAM, "platform:", NULL), -EACCES);
	fake.state = KEY_UNREACHABLE;
	cr_assert_eq(volume_key_set(vol, TEAM, "platform:", NULL), -EHOSTUNREACH);
	fake.state = KEY_ACTIVE;
	fake.error = -EACCES; /* it says so, and yet does not unwrap */
	cr_assert_eq(volume_key_set(vol, TEAM, "platform:", NULL), -EACCES);
	fake.error = 0;
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(volume_key_set(vol, TEAM, "platform:", NULL), -ENOKEY);
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	cr_assert_eq(volume_scope(vol, TEAM, &after), 0);
	cr_assert_eq(memcmp(&before.entry, &after.entry, sizeof(before.entry)), 0);
}

Test(volume_keys, a_source_that_cannot_open_what_it_wrapped_is_not_taken)
{
	cr_assert_eq(volume_key_set(vol, TEAM, "platform:", NULL), 0);
	fake.wraps_garbage = true;
	cr_assert_neq(volume_key_set(vol, TEAM, "fake:", NULL), 0);
	fake.wraps_garbage = false;
	expect_scope(0);
	reopen_volume();
	expect_scope(0);
}

Test(volume_keys, new_versions_of_the_platforms_keys)
{
	struct scope_view s;
	uint32_t before = vol->d->platform_version;

	cr_assert_eq(volume_key_set(vol, TEAM, "platform:", NULL), 0);
	cr_assert_eq(volume_key_rotate(vol, TEAM), 0);
	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	cr_assert_eq(s.entry.kek_version, 2);
	cr_assert_gt(vol->d->platform_version, before); /* the volume's own copy follows */
	reopen_volume();
	expect_scope(0);
	/* By age, without being asked for. */
	vol->keeper.rotate_days = 1;
	poll_now();
	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	cr_assert_eq(s.entry.kek_version, 2);
	vol->keeper.rotate_days = 0;
}

/* ---- scopes ---- */

Test(volume_keys, names_of_scopes)
{
	char longest[65] = "";

	memset(longest, 'a', 64);
	cr_assert_eq(volume_scope_create(vol, longest, "fake:", SUITE_XTS_GMAC, NULL), -EINVAL);
	longest[63] = 0;
	cr_assert_eq(volume_scope_create(vol, longest, "fake:", SUITE_XTS_GMAC, NULL), 0);
	cr_assert_eq(volume_scope_create(vol, "", "fake:", SUITE_XTS_GMAC, NULL), -EINVAL);
	cr_assert_eq(volume_scope_create(vol, "a b", "fake:", SUITE_XTS_GMAC, NULL), -EINVAL);
	cr_assert_eq(volume_scope_create(vol, "team", "fake:", SUITE_XTS_GMAC, NULL), -EEXIST);
	cr_assert_eq(volume_scope_create(vol, "default", "fake:", SUITE_XTS_GMAC, NULL), -EEXIST);
	cr_assert_eq(volume_scope_create(vol, "new", "nothing:", SUITE_XTS_GMAC, NULL), -EINVAL);
	cr_assert_eq(vol->d->scope_count, 3);
	reopen_volume();
	cr_assert_eq(vol->d->scope_count, 3);
}

Test(volume_keys, many_scopes_one_after_the_other)
{
	for (unsigned i = 0; i < 40; i++) {
		char name[32];

		snprintf(name, sizeof(name), "scope%u", i);
		cr_assert_eq(volume_scope_create(vol, name, "fake:", i % 2 ? SUITE_XTS_GCM : SUITE_XTS, NULL), 0);
	}
	expect_scope(0);
	cr_assert_eq(keys_access(vol->keys, 41, 1), SCOPE_OPEN);
	reopen_volume();
	cr_assert_eq(keys_access(vol->keys, 41, 1), SCOPE_OPEN);
	expect_scope(0);
}

/* ---- sources that hang ---- */

static int64_t took_ms(int (*call)(struct volume *v, uint32_t scope), uint32_t scope)
{
	int64_t began = clock_ms();

	cr_assert_eq(call(vol, scope), 0);
	return clock_ms() - began;
}

/* Those of 40 scopes; the 41st is asked all the same, and so is what an administrator wants of another scope. */
Test(volume_keys, sources_that_hang_hold_up_nobody_else)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	struct kernel_cache nobody = { 0 };
	int64_t began;

	for (unsigned i = 0; i < 40; i++) {
		char name[32];

		snprintf(name, sizeof(name), "scope%u", i);
		cr_assert_eq(volume_scope_create(vol, name, "fake:hangs", SUITE_XTS_GMAC, NULL), 0);
	}
	vol->keeper.poll = 1;
	atomic_store(&fake.hangs, true);
	cr_assert_eq(volume_keeper_start(vol, &nobody), 0);
	while (atomic_load(&fake.hanging) < 40)
		nanosleep(&pause, NULL);
	/* The one that answers has lost its key. */
	fake.state = KEY_REVOKED;
	for (began = clock_ms(); state() != STATE_REVOKED && clock_ms() < began + 20000;)
		nanosleep(&pause, NULL);
	cr_assert_leq(clock_ms() - began, 1500);
	expect_all(file, -EACCES);
	/* What is asked for is done, and even for a scope whose source hangs, where nothing is wanted of that. */
	cr_assert_leq(took_ms(volume_key_lock, 0), 500);
	cr_assert_leq(took_ms(volume_key_unlock, 0), 500);
	cr_assert_leq(took_ms(volume_key_lock, 2), 500);
	cr_assert_eq(keys_access(vol->keys, 2, 1), SCOPE_LOCKED);
	fake.state = KEY_ACTIVE;
	atomic_store(&fake.hangs, false);
	for (began = clock_ms(); state() != STATE_ACTIVE && clock_ms() < began + 20000;)
		nanosleep(&pause, NULL);
	expect_all(file, 0);
	volume_keeper_stop(vol);
	cr_assert_eq(keys_access(vol->keys, 2, 1), SCOPE_LOCKED); /* what was answered late changes nothing */
	cr_assert_eq(keys_access(vol->keys, 3, 1), SCOPE_OPEN);
}

/* ---- provided keys ---- */

static struct secret *some_key(uint8_t first)
{
	struct secret *s = secret_new(KEY_SIZE);

	memset(secret_data(s), first, KEY_SIZE);
	return s;
}

Test(volume_keys, provided)
{
	struct scope_view s;

	cr_assert_eq(volume_key_set(vol, TEAM, "provided:", NULL), -ENOKEY);
	cr_assert_eq(volume_key_set(vol, TEAM, "provided:", some_key(1)), 0);
	expect_scope(0);
	poll_now();
	cr_assert_eq(state(), STATE_ACTIVE);
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	cr_assert_eq(state(), STATE_UNPROVIDED);
	expect_scope(-EACCES);
	poll_now();
	cr_assert_eq(volume_key_unlock(vol, TEAM), -ENOKEY);
	cr_assert_eq(volume_key_provide(vol, TEAM, some_key(2), 0), -EBADMSG);
	expect_scope(-EACCES);
	cr_assert_eq(volume_key_provide(vol, TEAM, some_key(1), 0), 0);
	expect_scope(0);
	reopen_volume();
	cr_assert_eq(state(), STATE_UNPROVIDED);
	expect_all(file, -EACCES);
	cr_assert_eq(volume_key_provide(vol, TEAM, some_key(1), 1), 0);
	cr_assert_eq(volume_key_provide(vol, TEAM, some_key(2), 0), -EBADMSG); /* changes nothing */
	cr_assert_eq(volume_scope(vol, TEAM, &s), 0);
	cr_assert(s.until);
	expect_all(file, 0);
	sleep(2);
	poll_now();
	cr_assert_eq(state(), STATE_UNPROVIDED);
	expect_all(file, -EACCES);
	cr_assert_eq(volume_key_provide(vol, 0, some_key(1), 0), -EINVAL);
}

/* ---- recovery ---- */

static int reopen_by(const char *state_dir, const struct secret *recovery)
{
	struct secret *key = recovery ? secret_new(KEY_SIZE) : NULL;
	struct volume_options o = { .state_dir = in_scratch("%s", state_dir),
				    .sync_interval = 1000,
				    .recovery = recovery ? &key : NULL };
	int r;

	if (recovery)
		memcpy(secret_data(key), secret_bytes(recovery), KEY_SIZE);
	r = volume_open(backing, &o, &vol);
	secret_free(key);
	return r;
}

static struct secret *make_recovery(unsigned left_out)
{
	struct secret *key = secret_random(KEY_SIZE);
	uint8_t public[PUBLIC_KEY_SIZE];
	unsigned left = 77;

	cr_assert_eq(private_key_public(key, public), 0);
	cr_assert_eq(volume_key_recovery(vol, public, &left), 0);
	cr_assert_eq(left, left_out);
	return key;
}

/* The volume's own copy of its volume key, by which it opens when no scope does. */
static void expect_platform_copy(const char *state_dir)
{
	const struct key_provider *p = key_provider_for("platform:");
	struct key_source *s = NULL;
	struct secret *key = NULL;

	cr_assert_eq(p->open("platform:", in_scratch("%s", state_dir), &s), 0);
	cr_assert_eq(p->unwrap(s, NULL, vol->d->platform_version, &vol->d->platform_volume_key, &key), 0);
	p->close(s);
	secret_free(key);
}

Test(volume_keys, recovered_where_nothing_else_is_left)
{
	struct secret *first = make_recovery(0), *second;

	cr_assert_eq(volume_scope_create(vol, "later", "platform:", SUITE_XTS_GCM, NULL), 0); /* takes part by itself */
	second = make_recovery(0);
	close_volume();
	cr_assert_eq(unlink(in_scratch("key")), 0);
	fake.error = -EACCES;
	cr_assert_neq(reopen_by("new host", NULL), 0);
	cr_assert_neq(reopen_by("new host", first), 0); /* void */
	cr_assert(logged("not the recovery key"));
	cr_assert_eq(reopen_by("new host", second), 0);
	cr_assert_eq(state(), STATE_RECOVERED);
	cr_assert_eq(keys_access(vol->keys, 2, 1), SCOPE_OPEN);
	expect_scope(0);
	poll_now();
	expect_scope(0);
	for (uint32_t scope = 0; scope <= 2; scope++)
		cr_assert_eq(volume_key_set(vol, scope, "platform:", NULL), 0);
	cr_assert_eq(state(), STATE_ACTIVE);
	expect_platform_copy("new host");
	close_volume();
	cr_assert_eq(reopen_by("new host", NULL), 0);
	cr_assert_eq(keys_access(vol->keys, 2, 1), SCOPE_OPEN);
	expect_scope(0);
	secret_free(first);
	secret_free(second);
}

Test(volume_keys, a_locked_scope_joins_the_recovery_key_when_it_is_unlocked)
{
	struct secret *old = make_recovery(0), *key;

	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	key = make_recovery(1);
	cr_assert_eq(vol->d->scopes[1].deks[0].recovery.len, 0);
	cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
	poll_now(); /* which is woken for that */
	cr_assert_eq(vol->d->scopes[1].deks[0].recovery.len, SEALED_KEY_SIZE);
	secret_free(key);
	/* Or when it is mounted again, or leaves a key that was provided. */
	cr_assert_eq(volume_key_lock(vol, TEAM), 0);
	key = make_recovery(1);
	reopen_volume();
	poll_now();
	cr_assert_eq(vol->d->scopes[1].deks[0].recovery.len, SEALED_KEY_SIZE);
	cr_assert_eq(volume_key_set(vol, TEAM, "provided:", some_key(1)), 0);
	cr_assert_eq(vol->d->scopes[1].deks[0].recovery.len, 0);
	cr_assert_eq(volume_key_set(vol, TEAM, "fake:", NULL), 0);
	poll_now();
	cr_assert_eq(vol->d->scopes[1].deks[0].recovery.len, SEALED_KEY_SIZE);
	close_volume();
	fake.error = -EACCES;
	cr_assert_eq(reopen_by("state", key), 0);
	expect_scope(0);
	secret_free(old);
	secret_free(key);
}

Test(volume_keys, no_recovery_of_what_is_provided)
{
	struct secret *key = make_recovery(0);

	cr_assert_eq(volume_key_set(vol, TEAM, "provided:", some_key(1)), 0);
	cr_assert_eq(vol->d->scopes[1].deks[0].recovery.len, 0);
	close_volume();
	cr_assert_eq(reopen_by("state", key), 0);
	cr_assert_eq(state(), STATE_UNPROVIDED);
	secret_free(key);
}

/* ---- all at once ---- */

static atomic_bool enough;
static atomic_uint served, turned_away;

/* Whatever is under way when the scope is locked ends well or with EACCES, and nobody meets a freed key. */
static void *work_in_scope(void *arg)
{
	char buf[BLOCK_SIZE], name[32];
	unsigned n = 0;

	while (!atomic_load(&enough)) {
		struct attr a, made;
		int r[6];

		snprintf(name, sizeof(name), "%s%u", (const char *)arg, n++ % 50);
		r[0] = (int)volume_read(vol, file, 0, 6, buf);
		r[1] = volume_write(vol, file, 0, 6, "secret", n % 2 ? WRITTEN_BACK : KILL_IDS);
		r[2] = volume_make(vol, &me, dir, name, S_IFREG | 0600, 0, NULL, &made);
		r[3] = volume_readdir(vol, dir, 0, false, ignore_entry, NULL);
		r[4] = volume_unlink(vol, dir, name);
		r[5] = volume_getattr(vol, file, &a);
		for (unsigned i = 0; i < 6; i++) {
			if (r[i] >= 0 || r[i] == -EEXIST || r[i] == -ENOENT)
				atomic_fetch_add(&served, 1);
			else if (r[i] == -EACCES)
				atomic_fetch_add(&turned_away, 1);
			else
				cr_assert_fail("operation %u: %s", i, strerror(-r[i]));
		}
		if (r[2] == 0)
			volume_forget(vol, made.st.st_ino, 1);
		cr_assert_eq(volume_read(vol, plain, 0, 6, buf), 6);
	}
	return NULL;
}

Test(volume_keys, busy_while_it_is_locked_and_unlocked)
{
	pthread_t threads[3];
	char prefixes[3][2] = { "a", "b", "c" };

	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, work_in_scope, prefixes[i]), 0);
	for (unsigned i = 0; i < 100; i++) {
		struct timespec pause = { .tv_nsec = 2000000 };

		cr_assert_eq(volume_key_lock(vol, TEAM), 0);
		nanosleep(&pause, NULL);
		cr_assert_eq(volume_key_unlock(vol, TEAM), 0);
		nanosleep(&pause, NULL);
		if (i % 20 == 0)
			cr_assert_eq(volume_key_set(vol, TEAM, i % 40 ? "fake:" : "platform:", NULL), 0);
	}
	atomic_store(&enough, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	cr_assert_gt(served, 100);
	cr_assert_gt(turned_away, 100);
	expect_sound(0);
}
