/* Directories against a model: names of all lengths, cookies that stay good while entries come and go, damaged blocks. */
#include "volume_fixture.h"

TestSuite(dir, .init = scratch_in_memory, .fini = scratch_end, .timeout = 250);

enum { NAMES = 400 };

struct model_entry {
	char name[VOLUME_NAME_MAX + 1];
	uint64_t object; /* 0: not there */
	bool seen;
};
static struct model_entry model[NAMES];
static uint64_t dir;

/* Of every length, many alike. */
static void name_entries(void)
{
	for (unsigned i = 0; i < NAMES; i++) {
		size_t len = i < VOLUME_NAME_MAX ? i + 1 : 1 + (size_t)rand() % VOLUME_NAME_MAX;
		char digits[16];

		memset(model[i].name, i % 2 ? 'a' : '\xff', len);
		model[i].name[len] = 0;
		snprintf(digits, sizeof(digits), "%u", i);
		if (len >= strlen(digits))
			memcpy(model[i].name + len - strlen(digits), digits, strlen(digits));
		else
			model[i].name[0] = (char)('A' + i);
		model[i].object = 0;
	}
}

static void expect_found(void)
{
	struct attr a;

	for (unsigned i = 0; i < NAMES; i++) {
		int r = volume_lookup(vol, dir, model[i].name, &a);

		cr_assert_eq(r, model[i].object ? 0 : -ENOENT, "%s: %d", model[i].name, r);
		if (r == 0)
			cr_assert_eq(a.st.st_ino, model[i].object);
	}
}

/* ---- listing ---- */
struct listing {
	unsigned left; /* entries to accept */
	uint64_t cookie, entries, unknown;
	bool dot, dotdot, refused;
};

static bool see(void *arg, const struct dirent_view *e)
{
	struct listing *l = arg;

	if (!l->left) {
		l->refused = true;
		return false;
	}
	l->left--;
	l->entries++;
	cr_assert_neq(e->next_cookie, l->cookie);
	l->cookie = e->next_cookie;
	if (!strcmp(e->name, ".") || !strcmp(e->name, "..")) {
		bool *seen = e->name[1] ? &l->dotdot : &l->dot;

		cr_assert_not(*seen);
		*seen = true;
		cr_assert_eq(e->object, e->name[1] ? ROOT_OBJECT : dir);
		cr_assert(S_ISDIR(e->type));
		return true;
	}
	for (unsigned i = 0; i < NAMES; i++)
		if (!strcmp(e->name, model[i].name)) {
			cr_assert_eq(e->object, model[i].object, "%s", e->name);
			cr_assert_not(model[i].seen, "%s twice", e->name);
			model[i].seen = true;
			cr_assert(S_ISREG(e->type));
			if (e->a)
				cr_assert_eq(e->a->st.st_ino, e->object);
			return true;
		}
	l->unknown++;
	return true;
}

static void expect_listing(unsigned step, bool attributes)
{
	struct listing l = { 0 };
	size_t count = 0;

	for (unsigned i = 0; i < NAMES; i++)
		model[i].seen = false;
	do {
		l.left = step;
		l.refused = false;
		cr_assert_eq(volume_readdir(vol, dir, l.cookie, attributes, see, &l), 0);
	} while (l.left == 0);
	for (unsigned i = 0; i < NAMES; i++) {
		cr_assert_eq(model[i].seen, model[i].object != 0, "%s", model[i].name);
		count += model[i].seen;
	}
	cr_assert(l.dot && l.dotdot);
	cr_assert_eq(l.entries, count + 2);
	cr_assert_eq(l.unknown, 0);
}

/* ---- random work ---- */
static void toggle(struct model_entry *e)
{
	struct attr a;

	if (e->object) {
		cr_assert_eq(volume_unlink(vol, dir, e->name), 0);
		cr_assert_eq(volume_unlink(vol, dir, e->name), -ENOENT);
		volume_forget(vol, e->object, 1);
		e->object = 0;
	} else {
		e->object = make(dir, e->name, S_IFREG | 0644);
		cr_assert_eq(volume_make(vol, &me, dir, e->name, S_IFREG, 0, NULL, &a), -EEXIST);
	}
}

static void rename_one(struct model_entry *from, struct model_entry *to)
{
	unsigned flags = (unsigned)rand() % 3;
	int r = volume_rename(vol, dir, from->name, dir, to->name, flags);
	uint64_t gone = 0;

	if (!from->object || (flags == RENAME_EXCHANGE && !to->object)) {
		cr_assert_eq(r, -ENOENT);
		return;
	}
	if (flags == RENAME_NOREPLACE && to->object) {
		cr_assert_eq(r, -EEXIST);
		return;
	}
	cr_assert_eq(r, 0, "rename: %s", strerror(-r));
	if (from == to)
		return;
	if (flags == RENAME_EXCHANGE) {
		uint64_t object = from->object;

		from->object = to->object;
		to->object = object;
		return;
	}
	gone = to->object;
	to->object = from->object;
	from->object = 0;
	if (gone)
		volume_forget(vol, gone, 1);
}

static void random_names(enum suite suite, unsigned steps)
{
	make_volume(suite);
	open_volume();
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	srand(suite);
	name_entries();
	for (unsigned step = 0; step < steps; step++) {
		if (rand() % 3)
			toggle(&model[rand() % NAMES]);
		else
			rename_one(&model[rand() % NAMES], &model[rand() % NAMES]);
		if (step % 500 == 0) {
			expect_found();
			expect_listing(1 + (unsigned)rand() % 100, rand() % 2);
		}
		if (step % 1500 == 1499) {
			reopen_volume();
			expect_found();
			expect_sound(0);
		}
	}
	expect_listing(1, false);
	expect_listing(1000, true);
	/* Emptied, it can be removed. */
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "dir"), -ENOTEMPTY);
	for (unsigned i = 0; i < NAMES; i++)
		if (model[i].object)
			toggle(&model[i]);
	expect_listing(3, false);
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "dir"), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, "dir"), 0);
	close_volume();
}

Test(dir, random_xts)
{
	random_names(SUITE_XTS, 3000);
}

Test(dir, random_gmac)
{
	random_names(SUITE_XTS_GMAC, 6000);
}

Test(dir, random_gcm)
{
	random_names(SUITE_XTS_GCM, 3000);
}

/* An entry that is there all the time is seen exactly once, whatever comes and goes while the directory is being read. */
Test(dir, cookies_stay_good)
{
	make_volume(SUITE_XTS_GMAC);
	open_volume();
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	srand(8);
	name_entries();
	for (unsigned i = 0; i < NAMES; i++)
		if (i % 3)
			toggle(&model[i]);
	for (unsigned round = 0; round < 30; round++) {
		struct listing l = { 0 };

		for (unsigned i = 0; i < NAMES; i++)
			model[i].seen = false;
		do {
			l.left = 1 + (unsigned)rand() % 30;
			cr_assert_eq(volume_readdir(vol, dir, l.cookie, round % 2, see, &l), 0);
			bool more = l.left == 0;

			for (unsigned i = 0; i < 20; i++) /* others come and go */
				toggle(&model[(unsigned)rand() % NAMES / 3 * 3]);
			for (unsigned i = 0; i < NAMES; i += 3)
				model[i].seen = false; /* those may be seen again */
			if (round % 10 == 9)
				reopen_volume();
			if (!more)
				break;
		} while (true);
		for (unsigned i = 0; i < NAMES; i++)
			if (i % 3)
				cr_assert(model[i].seen, "round %u: %s", round, model[i].name);
	}
	close_volume();
}

Test(dir, many_names)
{
	enum { MANY = 20000 };
	char name[64];

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	uint64_t first = make(dir, "0", S_IFREG | 0644);

	for (unsigned i = 1; i < MANY; i++) {
		snprintf(name, sizeof(name), "%u", i);
		cr_assert_eq(make(dir, name, S_IFREG | 0644), first + i);
	}
	reopen_volume();
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%u", i);
		cr_assert_eq(lookup(dir, name), first + i);
		snprintf(name, sizeof(name), "%u", MANY + i);
		cr_assert_eq(lookup(dir, name), 0);
	}
	uint64_t size = (uint64_t)attributes(dir).st_size;

	for (unsigned i = 0; i < MANY; i += 2) {
		snprintf(name, sizeof(name), "%u", i);
		cr_assert_eq(volume_unlink(vol, dir, name), 0);
	}
	for (unsigned i = 0; i < MANY; i += 2) { /* the room is found again, mostly */
		snprintf(name, sizeof(name), "x%u", i);
		make(dir, name, S_IFREG | 0644);
	}
	cr_assert_lt((uint64_t)attributes(dir).st_size, size * 2);
	expect_sound(MANY / 2); /* still referred to: nobody has forgotten them */
	close_volume();
	open_volume();
	expect_sound(0);
	close_volume();
}

Test(dir, names_that_may_not_be)
{
	char longest[VOLUME_NAME_MAX + 2];
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	memset(longest, 'x', sizeof(longest));
	longest[VOLUME_NAME_MAX + 1] = 0;
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, longest, S_IFREG, 0, NULL, &a), -ENAMETOOLONG);
	cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, longest, &a), -ENAMETOOLONG);
	cr_assert_eq(volume_rename(vol, ROOT_OBJECT, "a", ROOT_OBJECT, longest, 0), -ENAMETOOLONG);
	longest[VOLUME_NAME_MAX] = 0;
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, longest, S_IFREG, 0, NULL, &a), 0);
	cr_assert_eq(lookup(ROOT_OBJECT, longest), a.st.st_ino);
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, "", S_IFREG, 0, NULL, &a), -EINVAL);
	cr_assert_eq(volume_make(vol, &me, ROOT_OBJECT, "a/b", S_IFREG, 0, NULL, &a), -EINVAL);
	cr_assert_eq(volume_make(vol, &me, lookup(ROOT_OBJECT, longest), "a", S_IFREG, 0, NULL, &a), -ENOTDIR);
	close_volume();
}

/* ---- damage ---- */
static void damage(uint64_t object, uint64_t page)
{
	char path[PATH_MAX];
	uint8_t byte;

	if (page)
		snprintf(path, sizeof(path), "objects/%03lx/%03lx", (unsigned long)(object >> 12),
			 (unsigned long)(object & 0xfff));
	else
		snprintf(path, sizeof(path), "objects/%03lx/headers", (unsigned long)(object >> 12));
	int fd = openat(backing, path, O_RDWR);
	off_t at = (off_t)((page ? page : object & 0xfff) * BLOCK_SIZE + 77);

	cr_assert(fd >= 0);
	cr_assert_eq(pread_all(fd, &byte, 1, at, NULL), 0);
	byte ^= 0x10;
	cr_assert_eq(pwrite_all(fd, &byte, 1, at), 0);
	close(fd);
}

static void damaged_block(enum suite suite)
{
	char name[VOLUME_NAME_MAX + 1];
	struct attr a;
	unsigned good = 0, bad = 0;

	make_volume(suite);
	open_volume();
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	for (unsigned i = 0; i < 60; i++) { /* fifteen to a block */
		snprintf(name, sizeof(name), "%0255u", i);
		make(dir, name, S_IFREG | 0644);
	}
	cr_assert_eq(attributes(dir).st_size, 4 * BLOCK_SIZE);
	close_volume();
	damage(dir, geometry_page(1));
	open_volume();
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "%0255u", i);
		int r = volume_lookup(vol, dir, name, &a);

		cr_assert_eq(r, i / 15 == 1 ? -EIO : 0, "%u: %d", i, r);
		good += r == 0;
		bad += r == -EIO;
	}
	cr_assert(good == 45 && bad == 15);
	/* What may be in the damaged block is not said to be absent, nor made a second time. */
	cr_assert_eq(volume_lookup(vol, dir, "new", &a), -EIO);
	cr_assert_eq(volume_make(vol, &me, dir, "new", S_IFREG, 0, NULL, &a), -EIO);
	/* The others can be worked with. */
	snprintf(name, sizeof(name), "%0255u", 3);
	cr_assert_eq(volume_unlink(vol, dir, name), 0);
	cr_assert_eq(volume_rmdir(vol, ROOT_OBJECT, "dir"), -ENOTEMPTY);
	struct fsck_result f;

	cr_assert_eq(volume_fsck(vol, false, say_finding, NULL, &f), 0);
	cr_assert_gt(f.errors, 0);
	close_volume();
}

Test(dir, damaged_block)
{
	for (unsigned s = 0; s < SUITES; s++)
		damaged_block(suites[s]);
}

/* Of a directory and of a file in it; their neighbours in the file of headers are as they were. */
Test(dir, damaged_header)
{
	struct fsck_result f;
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	open_volume();
	dir = make(ROOT_OBJECT, "dir", S_IFDIR | 0755);
	make(dir, "in", S_IFREG | 0644);
	uint64_t other = make(ROOT_OBJECT, "other", S_IFDIR | 0755);
	uint64_t file = make(other, "file", S_IFREG | 0644);

	make(other, "last", S_IFREG | 0644);
	close_volume();
	damage(dir, 0);
	damage(file, 0);
	open_volume();
	cr_assert_eq(volume_lookup(vol, ROOT_OBJECT, "dir", &a), -EIO);
	cr_assert_eq(volume_lookup(vol, dir, "in", &a), -EIO);
	cr_assert_eq(volume_make(vol, &me, dir, "new", S_IFREG, 0, NULL, &a), -EIO);
	cr_assert_eq(volume_lookup(vol, other, "file", &a), -EIO);
	cr_assert_eq(volume_lookup(vol, other, "last", &a), 0);
	cr_assert_eq(volume_make(vol, &me, other, "new", S_IFREG, 0, NULL, &a), 0);
	cr_assert_eq(volume_fsck(vol, false, say_finding, NULL, &f), 0);
	cr_assert_eq(f.errors, 2);
	cr_assert_eq(f.orphans, 1); /* "in" */
	close_volume();
}

/* ---- authentic blocks that make no sense ---- */
static void put_block(uint64_t object, const uint8_t *block)
{
	struct change ch;
	struct object *o;
	struct meta *m;

	cr_assert_eq(object_get(vol, object, &o), 0);
	cr_assert_eq(change_begin(vol, &ch, data_payload(2), false), 0);
	cr_assert_eq(change_object(&ch, o, &m), 0);
	cr_assert_eq(data_write(&ch, o, 0, 1, block, false), 0);
	m->size = BLOCK_SIZE;
	cr_assert_eq(change_commit(&ch), 0);
	object_put(vol, o);
}

static void put_record(uint8_t *at, uint64_t object, unsigned len, unsigned name_len, const char *name)
{
	put_le64(at, object);
	put_le16(at + 8, (uint16_t)len);
	at[10] = (uint8_t)name_len;
	at[11] = 8; /* DT_REG */
	memcpy(at + 12, name, strlen(name));
}

Test(dir, nonsense_in_a_block)
{
	static const struct {
		unsigned len, name_len;
		const char *name;
	} wrong[] = {
		{ 0, 1, "a" },      { 12, 1, "a" },    { 15, 1, "a" },   { 18, 1, "a" },
		{ 4100, 1, "a" },   { 65535, 1, "a" }, { 4096, 0, "a" }, { 16, 255, "a" },
		{ 4096, 3, "a/b" }, { 4096, 2, "a" },  { 4084, 1, "a" }, /* the rest too short for a record */
	};
	uint8_t block[BLOCK_SIZE];
	struct attr a;

	make_volume(SUITE_XTS_GMAC);
	for (unsigned i = 0; i <= sizeof(wrong) / sizeof(*wrong); i++) {
		char name[16];

		open_volume();
		snprintf(name, sizeof(name), "dir%u", i);
		dir = make(ROOT_OBJECT, name, S_IFDIR | 0755);
		memset(block, 0, sizeof(block));
		if (i < sizeof(wrong) / sizeof(*wrong))
			put_record(block, dir, wrong[i].len, wrong[i].name_len, wrong[i].name);
		else
			put_record(block, dir, BLOCK_SIZE, 1, "a");
		put_block(dir, block);
		reopen_volume();
		int r = volume_lookup(vol, dir, "a", &a);

		cr_assert_eq(r, -EIO, "case %u: %d", i, r); /* of another kind, in the last case */
		r = volume_lookup(vol, dir, "b", &a);
		cr_assert_eq(r, i < sizeof(wrong) / sizeof(*wrong) ? -EIO : -ENOENT, "case %u: %d", i, r);
		close_volume();
	}
}
