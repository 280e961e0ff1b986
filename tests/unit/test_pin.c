#include "key_fixture.h"

static int backing = -1;
static struct descriptor *d;

static void start(void)
{
	scratch_start();
	backing = open_dir_at(in_scratch("backing"));
	d = descriptor_new(SUITE_XTS_GMAC);
	cr_assert(d);
	random_bytes(d->volume_id, sizeof(d->volume_id));
	strcpy(d->scopes[0].key_uri, "platform:");
	strcpy(d->scopes[0].name, "default");
	d->sequence = 10;
}

static void end(void)
{
	descriptor_free(d);
	close(backing);
	scratch_end();
}

TestSuite(pin, .init = start, .fini = end);

static int check(void)
{
	return pin_check(in_scratch("state"), backing, d);
}

static void update(void)
{
	cr_assert_eq(pin_update(in_scratch("state"), backing, d), 0);
}

Test(pin, never_seen)
{
	cr_assert_eq(check(), 0);
	cr_assert_eq(access(in_scratch("state"), F_OK), -1); /* looking leaves nothing behind */
}

Test(pin, what_was_seen_is_accepted)
{
	struct stat st;

	update();
	cr_assert_eq(check(), 0);
	cr_assert_eq(stat(in_scratch("state/volumes"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	d->sequence = 11;
	cr_assert_eq(check(), 0);
	update();
	cr_assert_eq(check(), 0);
}

Test(pin, older_sequence)
{
	update();
	d->sequence = 9;
	cr_assert_eq(check(), -ESTALE);
	cr_assert(logged("-o accept"));
	update(); /* accepted */
	cr_assert_eq(check(), 0);
}

Test(pin, other_volume)
{
	update();
	d->volume_id[15] ^= 1;
	d->sequence = 100;
	cr_assert_eq(check(), -EKEYREJECTED);
	cr_assert(logged("-o accept"));
	update();
	cr_assert_eq(check(), 0);
}

Test(pin, other_key_source)
{
	update();
	strcpy(d->scopes[0].key_uri, "file:///tmp/planted");
	d->sequence = 100;
	cr_assert_eq(check(), -EKEYREJECTED);
	cr_assert(logged("file:///tmp/planted"));
	update();
	cr_assert_eq(check(), 0);
}

Test(pin, scopes_coming_and_going)
{
	update();
	d->scopes = realloc(d->scopes, 2 * sizeof(*d->scopes));
	cr_assert(d->scopes);
	d->scopes[1] = d->scopes[0];
	d->scopes[1].number = 5;
	d->scope_count = 2;
	cr_assert_eq(check(), -EKEYREJECTED);
	update();
	cr_assert_eq(check(), 0);
	d->scopes[1].number = 6;
	cr_assert_eq(check(), -EKEYREJECTED);
	d->scopes[1].number = 5;
	cr_assert_eq(check(), 0);
	d->scope_count = 1;
	cr_assert_eq(check(), -EKEYREJECTED);
}

Test(pin, goes_by_the_directory)
{
	int other = open_dir_at(in_scratch("backing/../other \"one\"\n")), same;

	update();
	d->sequence = 1;
	cr_assert_eq(pin_check(in_scratch("state"), other, d), 0); /* a replica beside its original */
	cr_assert_eq(pin_update(in_scratch("state"), other, d), 0);
	cr_assert_eq(pin_check(in_scratch("state"), other, d), 0);
	cr_assert_eq(symlink("backing", in_scratch("alias")), 0);
	same = open_dir_at(in_scratch("alias"));
	cr_assert_eq(pin_check(in_scratch("state"), same, d), -ESTALE);
	cr_assert_eq(pin_check(in_scratch("other state"), same, d), 0);
	close(other);
	close(same);
}

static int damage(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	AUTO_FREE char *text = NULL;
	size_t len;

	(void)st;
	(void)ftw;
	if (type != FTW_F)
		return 0;
	cr_assert_eq(read_file_at(AT_FDCWD, path, 1 << 16, &text, &len), 0);
	for (size_t cut = 0; cut < len - strlen(" );\n"); cut++) {
		put_file(path, text, cut, 0600);
		cr_assert_eq(check(), -EINVAL, "cut to %zu", cut);
	}
	cr_assert(logged("remove"));
	put_file(path, text, len, 0600);
	cr_assert_eq(check(), 0);
	return 0;
}

Test(pin, damaged_pins_are_not_forgotten_pins)
{
	update();
	cr_assert_eq(nftw(in_scratch("state"), damage, 16, FTW_PHYS), 0);
}

/* A change that was announced may have happened or not; it is forgotten with the next update. */
Test(pin, announced_changes)
{
	struct descriptor *next = descriptor_copy(d), *other = d;

	strcpy(next->scopes[0].key_uri, "file:///keys/new");
	next->sequence = 11;
	update();
	cr_assert_eq(pin_prepare(in_scratch("state"), backing, d, next), 0);
	cr_assert_eq(check(), 0);
	d = next;
	cr_assert_eq(check(), 0);
	strcpy(next->scopes[0].key_uri, "file:///keys/planted");
	cr_assert_eq(check(), -EKEYREJECTED);
	strcpy(next->scopes[0].key_uri, "file:///keys/new");
	d = other;
	update();
	d = next;
	cr_assert_eq(check(), -EKEYREJECTED);
	update();
	cr_assert_eq(check(), 0);
	d = other;
	cr_assert_eq(check(), -EKEYREJECTED);
	descriptor_free(next);
}
