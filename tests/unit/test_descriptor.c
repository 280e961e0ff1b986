#include "descriptor_fixture.h"

TestSuite(descriptor, .init = scratch_start, .fini = scratch_end);

Test(descriptor, what_is_stored_is_loaded)
{
	struct descriptor *d = sample(), *e = NULL;
	struct secret *key = mac_key(1), *other = mac_key(2);
	int fd = open_dir_at(scratch);
	struct stat st;

	cr_assert_eq(descriptor_store(d, fd, key), 0);
	cr_assert_eq(d->sequence, 42);
	cr_assert_eq(descriptor_check(d, key), 0);
	cr_assert_eq(descriptor_load(fd, &e), 0);
	cr_assert_eq(descriptor_check(e, key), 0);
	cr_assert_eq(descriptor_check(e, other), -EBADMSG);
	cr_assert_eq(e->format, FORMAT_VERSION);
	cr_assert_eq(e->features, 0);
	cr_assert_arr_eq(e->volume_id, d->volume_id, sizeof(d->volume_id));
	cr_assert_eq(e->created, 1700000000);
	cr_assert_eq(e->sequence, 42);
	cr_assert_eq(e->next_object, 1ULL << 40);
	cr_assert_eq(e->clean, false);
	cr_assert_eq(e->epoch, 7);
	cr_assert_arr_eq(e->epoch_salt, d->epoch_salt, sizeof(d->epoch_salt));
	cr_assert_eq(e->platform_version, 3);
	cr_assert_arr_eq(&e->platform_volume_key, &d->platform_volume_key, sizeof(d->platform_volume_key));
	cr_assert_eq(e->scope_count, 2);
	cr_assert_arr_eq(e->scopes, d->scopes, 2 * sizeof(*d->scopes));
	cr_assert_eq(fstatat(fd, DESCRIPTOR_NAME, &st, 0), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	descriptor_free(d);
	descriptor_free(e);
	secret_free(key);
	secret_free(other);
	close(fd);
}

Test(descriptor, scopes_are_found_by_number)
{
	struct descriptor *d = sample();

	cr_assert_eq(descriptor_scope(d, 0), &d->scopes[0]);
	cr_assert_eq(descriptor_scope(d, UINT32_MAX), &d->scopes[1]);
	cr_assert_null(descriptor_scope(d, 1));
	cr_assert_null(descriptor_scope(d, UINT32_MAX - 1));
	descriptor_free(d);
}

Test(descriptor, none_there)
{
	struct descriptor *d = NULL;
	int fd = open_dir_at(scratch);

	cr_assert_eq(descriptor_load(fd, &d), -ENOENT);
	cr_assert_null(d);
	cr_assert(logged("coffer create"));
	close(fd);
}

Test(descriptor, failed_store_changes_nothing)
{
	struct descriptor *d = sample(), *e = NULL;
	struct secret *key = mac_key(1);
	int fd = open_dir_at(scratch), gone = open_dir_at(in_scratch("gone"));

	cr_assert_eq(descriptor_store(d, fd, key), 0);
	cr_assert_eq(rmdir(in_scratch("gone")), 0);
	cr_assert_lt(descriptor_store(d, gone, key), 0);
	cr_assert_eq(d->sequence, 42);
	d->next_object = UINT64_MAX;
	cr_assert_lt(descriptor_store(d, fd, key), 0); /* would not be readable again */
	cr_assert_eq(d->sequence, 42);
	cr_assert_eq(descriptor_check(d, key), 0);
	cr_assert_eq(descriptor_load(fd, &e), 0);
	cr_assert_eq(e->sequence, 42);
	descriptor_free(d);
	descriptor_free(e);
	secret_free(key);
	close(fd);
	close(gone);
}

Test(descriptor, too_many_scopes_to_describe)
{
	struct descriptor *d = sample();
	struct secret *key = mac_key(1);
	int fd = open_dir_at(scratch);

	d->scopes = realloc(d->scopes, SCOPES_MAX * sizeof(*d->scopes));
	cr_assert(d->scopes);
	for (uint32_t i = 1; i < SCOPES_MAX; i++) {
		if (i > 1)
			d->scopes[i] = d->scopes[1];
		d->scopes[i].number = i;
	}
	d->scope_count = SCOPES_MAX;
	cr_assert_eq(descriptor_store(d, fd, key), -EFBIG);
	cr_assert_eq(faccessat(fd, DESCRIPTOR_NAME, F_OK, 0), -1);
	descriptor_free(d);
	secret_free(key);
	close(fd);
}

Test(descriptor, over_long_text)
{
	struct secret *key = mac_key(1);
	struct descriptor *d = sample(), *e = NULL;
	int fd = open_dir_at(scratch);
	AUTO_FREE char *filler = malloc(DESCRIPTOR_MAX + 1);

	cr_assert(filler);
	memset(filler, '\n', DESCRIPTOR_MAX + 1);
	cr_assert_eq(descriptor_store(d, fd, key), 0);
	/* Exactly as long as may be: blank lines before the MAC's line are no error. */
	memcpy(filler + DESCRIPTOR_MAX - d->text_len, d->text, d->text_len);
	put_file(in_scratch(DESCRIPTOR_NAME), filler, DESCRIPTOR_MAX, 0600);
	cr_assert_eq(descriptor_load(fd, &e), 0);
	descriptor_free(e);
	e = NULL;
	memmove(filler + 1, filler, DESCRIPTOR_MAX);
	put_file(in_scratch(DESCRIPTOR_NAME), filler, DESCRIPTOR_MAX + 1, 0600);
	cr_assert_eq(descriptor_load(fd, &e), -EINVAL);
	cr_assert_null(e);
	descriptor_free(d);
	secret_free(key);
	close(fd);
}

Test(descriptor, the_longest_one_is_accepted)
{
	struct descriptor *d = sample(), *e = NULL;
	struct secret *key = mac_key(1);
	int fd = open_dir_at(scratch);
	size_t one;

	d->scopes = realloc(d->scopes, SCOPES_MAX * sizeof(*d->scopes));
	cr_assert(d->scopes);
	for (uint32_t i = 2; i < SCOPES_MAX; i++)
		d->scopes[i] = d->scopes[1];
	for (uint32_t i = 1; i < SCOPES_MAX; i++)
		d->scopes[i].number = i;
	/* As many scopes with all their versions of keys as fit; the numbers of the later ones have three digits more. */
	d->scope_count = 1;
	cr_assert_eq(descriptor_store(d, fd, key), 0);
	one = d->text_len;
	d->scope_count = 2;
	cr_assert_eq(descriptor_store(d, fd, key), 0);
	d->scope_count = 1 + (DESCRIPTOR_MAX - one) / (d->text_len - one + 3);
	cr_assert_eq(descriptor_store(d, fd, key), 0);
	cr_assert_gt(d->text_len, DESCRIPTOR_MAX - 8192);
	cr_assert_eq(descriptor_load(fd, &e), 0);
	cr_assert_eq(e->scope_count, d->scope_count);
	cr_assert_eq(descriptor_check(e, key), 0);
	/* And as many scopes as there may be. */
	for (uint32_t i = 1; i < SCOPES_MAX; i++)
		d->scopes[i].dek_count = 1;
	d->scope_count = SCOPES_MAX;
	cr_assert_eq(descriptor_store(d, fd, key), 0);
	descriptor_free(e);
	cr_assert_eq(descriptor_load(fd, &e), 0);
	cr_assert_eq(e->scope_count, SCOPES_MAX);
	descriptor_free(d);
	descriptor_free(e);
	secret_free(key);
	close(fd);
}
