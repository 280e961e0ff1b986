#include "key_fixture.h"

#include "../../src/key/descriptor.h"

TestSuite(descriptor, .init = scratch_start, .fini = scratch_end);

static struct secret *mac_key(uint8_t first)
{
	struct secret *s = secret_new(MAC_SIZE);

	cr_assert(s);
	secret_data(s)[0] = first;
	return s;
}

/* Two scopes of different suites, the second with every version of its DEK that there may be. */
static struct descriptor *sample(void)
{
	struct descriptor *d = descriptor_new(SUITE_XTS_GMAC);
	struct scope_entry *s;

	cr_assert(d);
	d->scopes = realloc(d->scopes, 2 * sizeof(*d->scopes));
	cr_assert(d->scopes);
	d->scope_count = 2;
	memset(&d->scopes[1], 0, sizeof(d->scopes[1]));
	random_bytes(d->volume_id, sizeof(d->volume_id));
	random_bytes(d->epoch_salt, sizeof(d->epoch_salt));
	random_bytes(d->platform_volume_key, sizeof(d->platform_volume_key));
	d->created = 1700000000;
	d->sequence = 41;
	d->next_object = 1ULL << 40;
	d->clean = false;
	d->settling = true;
	d->epoch = 7;
	d->platform_version = 3;
	for (int i = 0; i < 2; i++) {
		s = &d->scopes[i];
		s->number = i ? UINT32_MAX : 0;
		strcpy(s->name, i ? "secret \"projects\" \\ \xc3\xa9\n" : "default");
		strcpy(s->key_uri, i ? "file:///etc/keys/a key" : "platform:");
		strcpy(s->kek_id, i ? "0123456789abcdef" : "platform-00");
		s->kek_version = 1 + i;
		s->suite = i ? SUITE_XTS_GCM : SUITE_XTS_GMAC;
		s->created = 1700000000 + i;
		random_bytes(s->volume_key, sizeof(s->volume_key));
		s->dek_count = i ? DEKS_MAX : 1;
		for (size_t v = 0; v < s->dek_count; v++) {
			s->deks[v].version = 1 + 3 * v;
			random_bytes(s->deks[v].dek, sizeof(s->deks[v].dek));
			if (i)
				random_bytes(s->deks[v].infra, sizeof(s->deks[v].infra));
		}
	}
	strcpy(d->scopes[1].infra_kek_id, "infrastructure-00");
	d->scopes[1].infra_kek_version = 9;
	return d;
}

static int load_text(const char *text, size_t len)
{
	char *copy = malloc(len + 1);
	struct descriptor *d = NULL;
	int r;

	cr_assert(copy);
	memcpy(copy, text, len);
	copy[len] = '\0';
	r = descriptor_take(copy, len, &d);
	cr_assert_eq(r == 0, d != NULL);
	descriptor_free(d);
	return r;
}

/* The sample's text, with a last line; the MAC is not looked at when loading. */
static char *sample_text(size_t *ret_len)
{
	struct descriptor *d = sample();
	struct secret *key = mac_key(1);
	int fd = open_dir_at(scratch);
	char *text;

	cr_assert_eq(descriptor_store(d, fd, key), 0);
	text = d->text;
	*ret_len = d->text_len;
	d->text = NULL;
	descriptor_free(d);
	secret_free(key);
	close(fd);
	return text;
}

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
	cr_assert_eq(e->settling, true);
	cr_assert_eq(e->epoch, 7);
	cr_assert_arr_eq(e->epoch_salt, d->epoch_salt, sizeof(d->epoch_salt));
	cr_assert_eq(e->platform_version, 3);
	cr_assert_arr_eq(e->platform_volume_key, d->platform_volume_key, sizeof(d->platform_volume_key));
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

/* ---- damaged ones ---- */

Test(descriptor, cut_off_anywhere, .timeout = 120)
{
	size_t len;
	char *text = sample_text(&len);

	cr_assert_eq(load_text(text, len), 0);
	for (size_t cut = 0; cut < len; cut++)
		cr_assert_neq(load_text(text, cut), 0, "cut to %zu of %zu", cut, len);
	free(text);
}

Test(descriptor, any_changed_byte_is_noticed, .timeout = 300)
{
	static const uint8_t flips[] = { 0x01, 0x20, 0x80, 0xff };
	struct secret *key = mac_key(1);
	size_t len;
	char *text = sample_text(&len);

	for (size_t i = 0; i < len; i++) {
		for (size_t f = 0; f < sizeof(flips); f++) {
			struct descriptor *d = NULL;
			char *copy = malloc(len + 1);

			cr_assert(copy);
			memcpy(copy, text, len + 1);
			copy[i] = (char)(copy[i] ^ flips[f]);
			if (!descriptor_take(copy, len, &d))
				cr_assert_eq(descriptor_check(d, key), -EBADMSG, "byte %zu ^ %#x", i, flips[f]);
			descriptor_free(d);
		}
	}
	free(text);
	secret_free(key);
}

/* Loads the text with `with` in the place of the `cut` bytes at `at`. */
static int load_changed(const char *text, size_t len, size_t at, size_t cut, const char *with)
{
	size_t more = strlen(with);
	AUTO_FREE char *copy = malloc(len - cut + more + 1);

	cr_assert(copy);
	memcpy(copy, text, at);
	memcpy(copy + at, with, more);
	memcpy(copy + at + more, text + at + cut, len - at - cut);
	return load_text(copy, len - cut + more);
}

/* Calls `check` for every line NAME = VALUE; of one setting, with where the line and its value begin and end. The MAC's line
 * is not among them: it is no setting. */
typedef void check_line(const char *text, size_t len, size_t start, size_t value, size_t end);
static int each_setting(check_line *check)
{
	size_t len, start = 0;
	char *text = sample_text(&len);
	int count = 0;

	while (start < len) {
		size_t end = start + strcspn(text + start, "\n") + 1;
		const char *equals = memmem(text + start, end - start, " = ", 3);

		if (equals && text[end - 2] == ';' && !memmem(text + start, end - start, ")", 1) &&
		    strncmp(text + start, "mac", 3)) {
			check(text, len, start, (size_t)(equals + 3 - text), end);
			count++;
		}
		start = end;
	}
	free(text);
	return count;
}

static void refuse_without(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	(void)value;
	cr_assert_eq(load_changed(text, len, start, end - start, ""), -EINVAL, "without %.*s", (int)(end - start),
		     text + start);
}

static void refuse_twice(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	AUTO_FREE char *line = strndup(text + start, end - start);

	(void)value;
	cr_assert_eq(load_changed(text, len, end, 0, line), -EINVAL, "twice %s", line);
}

static void refuse_other_types(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	static const char *const others[] = { "1.5;\n",  "{ a = 1; };\n", "( );\n", "[ 1 ];\n",
					      "\"\";\n", "\"\\x00\";\n",  "-1;\n" };
	const char *type = text[value] == '"' ? "1;\n" : "\"1\";\n";

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		cr_assert_eq(load_changed(text, len, value, end - value, others[i]), -EINVAL, "%.*s%s",
			     (int)(value - start), text + start, others[i]);
	cr_assert_eq(load_changed(text, len, value, end - value, type), -EINVAL, "%.*s%s", (int)(value - start),
		     text + start, type);
}

static void refuse_too_large(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	AUTO_FREE char *string = NULL;

	if (text[value] == '"') {
		cr_assert(asprintf(&string, "\"%01100d\";\n", 0) > 0);
		cr_assert_eq(load_changed(text, len, value, end - value, string), -EINVAL, "%.*s", (int)(end - start),
			     text + start);
	} else if (text[value] != 't' && text[value] != 'f') {
		static const char *const large[] = { "9223372036854775807L;\n", "0xffffffffffffffffL;\n",
						     "99999999999999999999L;\n" };

		for (size_t i = 0; i < 3; i++)
			cr_assert_neq(load_changed(text, len, value, end - value, large[i]), 0, "%.*s%s",
				      (int)(value - start), text + start, large[i]);
	}
}

static void refuse_unknown_after(const char *text, size_t len, size_t start, size_t value, size_t end)
{
	(void)value;
	cr_assert_eq(load_changed(text, len, end, 0, "later_invention = 1;\n"), -EINVAL, "after %.*s",
		     (int)(end - start), text + start);
	cr_assert(logged("later_invention"));
}

/* 13 of the volume, 8 of the first scope and 2 of its DEK, 10 of the second and 3 of each of its DEKs. */
enum { SETTINGS = 13 + 8 + 2 + 10 + 3 * DEKS_MAX };

Test(descriptor, every_setting_is_needed)
{
	cr_assert_eq(each_setting(refuse_without), SETTINGS);
}

Test(descriptor, no_setting_comes_twice)
{
	cr_assert_eq(each_setting(refuse_twice), SETTINGS);
}

Test(descriptor, every_setting_has_its_type)
{
	cr_assert_eq(each_setting(refuse_other_types), SETTINGS);
}

Test(descriptor, every_setting_has_its_range)
{
	cr_assert_eq(each_setting(refuse_too_large), SETTINGS);
}

Test(descriptor, unknown_settings_are_refused_everywhere)
{
	cr_assert_eq(each_setting(refuse_unknown_after), SETTINGS);
}

/* Replaces the first occurrence of `what`. */
static int load_replaced(const char *what, const char *with)
{
	size_t len;
	AUTO_FREE char *text = sample_text(&len);
	const char *at = strstr(text, what);

	cr_assert(at, "%s", what);
	return load_changed(text, len, (size_t)(at - text), strlen(what), with);
}

Test(descriptor, other_formats_and_features)
{
	cr_assert_eq(load_replaced("format = 0;", "format = 1;"), -EPROTONOSUPPORT);
	cr_assert(logged("format version 1"));
	cr_assert_eq(load_replaced("features = 0;", "features = 4;"), -EPROTONOSUPPORT);
	cr_assert(logged("features 0x4"));
	/* A newer format may have settings that we have never heard of. */
	cr_assert_eq(load_replaced("format = 0;", "format = 1; later_invention = 1;"), -EPROTONOSUPPORT);
	cr_assert_eq(load_replaced("coffer volume", "other thing"), -EINVAL);
}

Test(descriptor, includes_and_control_characters)
{
	static const char nul[] = { 0, '\n' };
	size_t len;
	AUTO_FREE char *text = sample_text(&len);

	put_file(in_scratch("included"), "format = 0;\n", 12, 0600);
	cr_assert_eq(load_replaced("format = 0;", "\n@include \"included\"\n"), -EINVAL);
	cr_assert(logged("@include"));
	cr_assert_eq(load_replaced("format = 0;", "format = 0; # @include"), -EINVAL);
	cr_assert_eq(load_replaced("format = 0;", "format = 0;\r"), -EINVAL);
	cr_assert_eq(load_replaced("format = 0;", "format = 0; # harmless"), 0);
	memcpy(strstr(text, "\nformat"), nul, 1);
	cr_assert_eq(load_text(text, len), -EINVAL);
}

Test(descriptor, order_of_numbers)
{
	cr_assert_eq(load_replaced("number = 0;", "number = 1;"), -EINVAL);
	cr_assert_eq(load_replaced("number = 4294967295L;", "number = 0;"), -EINVAL);
	cr_assert_eq(load_replaced("number = 4294967295L;", "number = 1;"), 0);
	cr_assert_eq(load_replaced("version = 4;", "version = 1;"), -EINVAL);
	cr_assert_eq(load_replaced("AES-256-XTS+GMAC", "ROT13"), -EINVAL);
}

Test(descriptor, lists_have_bounds)
{
	char many[4096] = "deks = ( {version = 1; key = \"\";}";
	size_t len;
	AUTO_FREE char *text = sample_text(&len);
	const char *last = strstr(strstr(text, suite_name(SUITE_XTS_GCM)), "version = 46;"), *group;

	/* A seventeenth version of a key. */
	cr_assert(last);
	for (group = last; *group != '{'; group--)
		;
	snprintf(many, sizeof(many), "%.*s, ", (int)(strchr(group, '}') + 1 - group), group);
	memcpy(strstr(many, "46"), "45", 2);
	cr_assert_eq(load_changed(text, len, (size_t)(group - text), 0, many), -EINVAL);
	cr_assert(logged("too many"));
	cr_assert_eq(load_replaced("scopes = (", "scopes = ( 1, "), -EINVAL);
}

/* Cuts a list's elements away: from its first occurrence to where `end` begins. */
static int load_emptied(const char *list, const char *end)
{
	size_t len;
	AUTO_FREE char *text = sample_text(&len);
	const char *from = strstr(text, list), *to;

	cr_assert(from);
	from += strlen(list);
	to = strstr(from, end);
	cr_assert(to);
	return load_changed(text, len, (size_t)(from - text), (size_t)(to - from), "");
}

Test(descriptor, lists_are_not_empty)
{
	cr_assert_eq(load_emptied("deks = (", " );"), -EINVAL);
	cr_assert(logged("\"deks\" has too few"));
	cr_assert_eq(load_emptied("scopes = (", " );\nmac ="), -EINVAL);
	cr_assert(logged("\"scopes\" has too few"));
	cr_assert_eq(load_emptied("file:", "//"), 0); /* the cutting itself is well */
}

Test(descriptor, bounds_of_numbers)
{
	cr_assert_eq(load_replaced("platform_version = 3;", "platform_version = 4294967295L;"), 0);
	cr_assert_eq(load_replaced("platform_version = 3;", "platform_version = 4294967296L;"), -EINVAL);
	cr_assert_eq(load_replaced("platform_version = 3;", "platform_version = 0;"), -EINVAL);
	cr_assert_eq(load_replaced("sequence = 42;", "sequence = 9223372036854775806L;"), 0);
	cr_assert_eq(load_replaced("sequence = 42;", "sequence = 9223372036854775807L;"), -EINVAL);
	cr_assert_eq(load_replaced("sequence = 42;", "sequence = 0;"), -EINVAL);
	cr_assert_eq(load_replaced("number = 4294967295L;", "number = 4294967296L;"), -EINVAL);
}

Test(descriptor, the_mac_has_a_line_of_its_own)
{
	cr_assert_eq(load_replaced("\nmac = ", "mac = "), -EINVAL);
	cr_assert_eq(load_replaced("\nmac = ", "\n\nmac = "), 0);
	cr_assert_eq(load_replaced("\nmac = ", "\n mac = "), -EINVAL);
	cr_assert_eq(load_replaced("mac = ", "Mac = "), -EINVAL);
	cr_assert_eq(load_replaced("mac = \"", "mac = \"\"; mac = \""), -EINVAL);
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

Test(descriptor, deep_nesting_is_no_crash)
{
	enum { DEPTH = 1 << 19 };
	AUTO_FREE char *text = malloc(DEPTH + 256);
	int len;

	cr_assert(text);
	memset(text, '(', DEPTH);
	memcpy(text, "a = ", 4);
	len = DEPTH + sprintf(text + DEPTH, "\nmac = \"%064d\";\n", 0);
	cr_assert_eq(load_text(text, (size_t)len), -EINVAL);
}
