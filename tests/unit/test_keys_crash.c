/* Changes of keys, killed after and before each durable step: what is there afterwards is the old state or the new, it opens without
 * being accepted anew, and needs nothing of the other. */
#include "volume_fixture.h"

/* How many files are still replaced before the process dies; -1: it lives. Odd numbers let the last one be replaced first. */
static int lives = -1;
static unsigned replaced;

int __real_replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len);
int __wrap_replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len);
int __wrap_replace_file_at(int dirfd, const char *name, mode_t mode, const void *data, size_t len)
{
	int r;

	if (lives == 0)
		raise(SIGKILL);
	r = __real_replace_file_at(dirfd, name, mode, data, len);
	replaced++;
	if (lives == 1)
		raise(SIGKILL);
	lives -= lives > 0 ? 2 : 0;
	return r;
}

TestSuite(keys_crash, .init = scratch_in_memory, .fini = scratch_end, .timeout = 200);

static const char *key_file(const char *name)
{
	static char uris[4][2 * PATH_MAX];
	static unsigned next;
	char *uri = uris[next++ % 4];
	uint8_t key[KEY_SIZE] = { (uint8_t)name[0], 7 };

	put_file(in_scratch("%s", name), key, sizeof(key), 0600);
	snprintf(uri, sizeof(uris[0]), "file://%s", in_scratch("%s", name));
	return uri;
}

static struct scope_view scope(uint32_t number)
{
	struct scope_view s;

	cr_assert_eq(volume_scope(vol, number, &s), 0);
	return s;
}

static void expect_content(void)
{
	char buf[BLOCK_SIZE];
	uint64_t f = lookup(ROOT_OBJECT, "f");

	cr_assert(f);
	cr_assert_eq(volume_read(vol, f, 0, 100, buf), 7);
	cr_assert_arr_eq(buf, "content", 7);
}

static void make_one(enum suite suite, const char *uri)
{
	uint64_t f;

	make_volume(suite);
	open_volume();
	f = make(ROOT_OBJECT, "f", S_IFREG | 0644);
	cr_assert_eq(volume_write(vol, f, 0, 7, "content", KILL_IDS), 0);
	cr_assert_eq(volume_key_set(vol, 0, uri, NULL), 0);
	close_volume();
}

struct killed {
	int (*change)(void *arg);
	void *arg;
	int lives;
};

static void change_until_killed(void *arg)
{
	struct killed *k = arg;

	lives = k->lives;
	(void)k->change(k->arg);
	lives = -1;
	/* It got through: its work is to be found, and this process goes the same way. */
	put_file(in_scratch("through"), "", 0, 0600);
}

/* Runs the change, killed at every step in turn; `check` looks at each outcome (the volume is open) and brings the old state back. It
 * says whether it found the new one. */
static void at_every_step(int (*change)(void *arg), bool (*check)(void *arg), void *arg, unsigned steps)
{
	unsigned old = 0, new = 0;
	bool found = false;

	for (int n = 0; access(in_scratch("through"), F_OK); n++) {
		struct killed k = { change, arg, n };

		cr_assert_lt(n, 100);
		work_and_die(change_until_killed, &k);
		open_volume(); /* the pin accepts it */
		expect_content();
		found = check(arg);
		*(found ? &new : &old) += 1;
		close_volume();
	}
	cr_assert(found); /* the last one got through */
	cr_assert_geq(old, 1);
	cr_assert_geq(new, 2);
	cr_assert_geq(old + new, steps);
	cr_assert_eq(unlink(in_scratch("through")), 0);
}

/* ---- another key source ---- */

struct move {
	const char *from, *to;
};

static int move(void *arg)
{
	const struct move *m = arg;

	return volume_key_set(vol, 0, m->to, NULL);
}

/* Takes a key away, sees whether the volume opens without, and puts it back. */
static void open_without(const char *uri)
{
	char path[PATH_MAX], hidden[PATH_MAX + 8];

	if (!strcmp(uri, "platform:"))
		return;
	snprintf(path, sizeof(path), "%s", uri + strlen("file://"));
	snprintf(hidden, sizeof(hidden), "%s.hidden", path);
	cr_assert_eq(rename(path, hidden), 0);
	reopen_volume();
	expect_content();
	cr_assert_eq(rename(hidden, path), 0);
}

static bool moved(void *arg)
{
	const struct move *m = arg;
	struct scope_view s = scope(0);
	bool new = !strcmp(s.entry.key_uri, m->to);

	cr_assert(new || !strcmp(s.entry.key_uri, m->from));
	open_without(new ? m->from : m->to);
	if (new)
		cr_assert_eq(volume_key_set(vol, 0, m->from, NULL), 0);
	return new;
}

Test(keys_crash, another_source)
{
	const char *a = key_file("a"), *b = key_file("b");
	struct move moves[] = { { "platform:", a }, { a, "platform:" }, { a, b } };

	for (unsigned s = 0; s < SUITES; s++) {
		for (size_t i = 0; i < sizeof(moves) / sizeof(*moves); i++) {
			make_one(suites[s], moves[i].from);
			at_every_step(move, moved, &moves[i], 6);
		}
	}
}

/* ---- new versions ---- */

static int rotate(void *arg)
{
	(void)arg;
	return volume_key_rotate(vol, 0);
}

static bool is_newer(uint32_t *before, uint32_t now_there)
{
	bool new = now_there > *before;

	cr_assert_geq(now_there, *before);
	*before = now_there;
	return new;
}

static bool rotated(void *arg)
{
	return is_newer(arg, scope(0).entry.kek_version);
}

Test(keys_crash, new_version)
{
	uint32_t version = 1;

	make_one(SUITE_XTS_GMAC, "platform:");
	at_every_step(rotate, rotated, &version, 6);
}

static int rotate_infrastructure(void *arg)
{
	(void)arg;
	return volume_key_rotate_infrastructure(vol);
}

static bool rotated_infrastructure(void *arg)
{
	return is_newer(arg, scope(0).entry.infra_kek_version);
}

Test(keys_crash, new_infrastructure_version)
{
	uint32_t version = 1;

	make_one(SUITE_XTS_GCM, key_file("a"));
	at_every_step(rotate_infrastructure, rotated_infrastructure, &version, 6);
}

/* ---- scopes ---- */

static int create(void *arg)
{
	char name[32];

	snprintf(name, sizeof(name), "scope%zu", *(size_t *)arg);
	return volume_scope_create(vol, name, "platform:", SUITE_XTS_GCM, NULL);
}

static bool created(void *arg)
{
	size_t *count = arg, before = *count;

	*count = vol->d->scope_count;
	cr_assert(*count == before || *count == before + 1);
	for (uint32_t i = 0; i < *count; i++)
		cr_assert(scope(i).open);
	return *count > before;
}

Test(keys_crash, new_scope)
{
	size_t count = 1;

	make_one(SUITE_XTS_GMAC, "platform:");
	at_every_step(create, created, &count, 6);
}

static int recover(void *arg)
{
	AUTO_SECRET struct secret *key = secret_random(KEY_SIZE);
	uint8_t public[PUBLIC_KEY_SIZE];
	unsigned left;

	(void)arg;
	cr_assert_eq(private_key_public(key, public), 0);
	return volume_key_recovery(vol, public, &left);
}

static bool recovery_changed(void *arg)
{
	bool new = memcmp(arg, vol->d->recovery.public, PUBLIC_KEY_SIZE) != 0;

	memcpy(arg, vol->d->recovery.public, PUBLIC_KEY_SIZE);
	return new;
}

Test(keys_crash, new_recovery_key)
{
	uint8_t public[PUBLIC_KEY_SIZE] = { 0 };

	make_one(SUITE_XTS_GMAC, "platform:");
	at_every_step(recover, recovery_changed, public, 4);
}
