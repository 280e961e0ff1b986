/* Headers: every field there and back, the parts of var, and bytes that are not a header or make no sense. */
#include "volume_fixture.h"

static struct volume_keys *keys;
static enum suite suite_now;

static void start_suite(enum suite suite)
{
	struct descriptor *d;

	make_volume(suite);
	cr_assert_eq(descriptor_load(backing, &d), 0);
	keys_free(keys);
	cr_assert_eq(keys_unlock(d, in_scratch("state"), NULL, &keys), 0);
	descriptor_free(d);
	suite_now = suite;
}

static void start(void)
{
	scratch_in_memory();
	start_suite(SUITE_XTS_GMAC);
}

TestSuite(meta, .init = start, .fini = scratch_end, .timeout = 120);

static struct meta *new_meta(mode_t mode)
{
	struct meta *m = calloc(1, sizeof(*m) + VAR_MAX);

	m->mode = mode;
	m->dek_version = 1;
	return m;
}

static size_t encode(struct meta *m, uint64_t number, uint8_t *page)
{
	size_t used;
	int r = meta_encode(m, number, keys, page, &used);

	cr_assert_eq(r, 0, "encode: %s", strerror(-r));
	return used;
}

static int decode(const uint8_t *page, uint64_t number, struct meta **ret)
{
	return meta_decode(page, number, keys, ret);
}

static void expect_refused(const uint8_t *page, uint64_t number, const char *what, size_t at)
{
	struct meta *m;

	cr_assert_eq(decode(page, number, &m), -EIO, "%s %zu", what, at);
}

static void full_file(struct meta *m)
{
	uint8_t blob[XATTR_INLINE];
	char name[256] = { 0 };

	cr_assert_eq(meta_set_tag_count(m, HEADER_TAGS), 0);
	memset(meta_tags(m), 0x5a, HEADER_TAGS * sizeof(struct block_tag));
	memset(name, 'n', 250);
	for (unsigned i = 0; i < 4; i++, name[0]++)
		meta_name_add(m, 10 + i, name);
	random_bytes(blob, sizeof(blob));
	cr_assert_eq(meta_set_xattrs(m, blob, sizeof(blob)), 0);
}

Test(meta, every_field)
{
	uint8_t page[BLOCK_SIZE];
	struct meta *back;

	for (unsigned s = 0; s < SUITES; s++) {
		start_suite(suites[s]);
		struct meta *m = new_meta(S_IFREG | 06751);

		m->nlink = 3;
		m->uid = 0x11223344;
		m->gid = UINT32_MAX;
		m->flags = META_CAPABILITY | META_NAMES_PARTIAL;
		m->rdev = 0x123456789abcdef0;
		m->size = INT64_MAX;
		m->blocks = 1ull << 50;
		m->atime = (struct timespec){ -1, 999999999 };
		m->mtime = (struct timespec){ 1ll << 40, 1 };
		m->ctime = (struct timespec){ 5, 6 };
		m->btime = (struct timespec){ 7, 8 };
		m->seals = 77;
		m->tag_writes = 1ull << 40;
		m->height = LEVELS;
		random_bytes(m->root, sizeof(m->root));
		m->companion = 987654321;
		full_file(m);
		cr_assert_leq(encode(m, 42, page), BLOCK_SIZE);
		cr_assert_eq(m->seals, 78);
		cr_assert_eq(decode(page, 42, &back), 0);
		cr_assert_eq(back->scope, m->scope);
		cr_assert_eq(back->dek_version, 1);
		cr_assert_eq(back->nlink, 3);
		cr_assert_eq(back->mode, m->mode);
		cr_assert_eq(back->uid, m->uid);
		cr_assert_eq(back->gid, m->gid);
		cr_assert_eq(back->flags, m->flags);
		cr_assert_eq(back->rdev, m->rdev);
		cr_assert_eq(back->size, m->size);
		cr_assert_eq(back->blocks, m->blocks);
		cr_assert_arr_eq(&back->atime, &m->atime, sizeof(m->atime));
		cr_assert_arr_eq(&back->mtime, &m->mtime, sizeof(m->mtime));
		cr_assert_arr_eq(&back->ctime, &m->ctime, sizeof(m->ctime));
		cr_assert_arr_eq(&back->btime, &m->btime, sizeof(m->btime));
		cr_assert_eq(back->seals, m->seals);
		cr_assert_eq(back->tag_writes, m->tag_writes);
		cr_assert_eq(back->height, m->height);
		cr_assert_arr_eq(back->root, m->root, sizeof(m->root));
		cr_assert_eq(back->companion, m->companion);
		cr_assert_eq(meta_var_len(back), meta_var_len(m));
		cr_assert_arr_eq(back->var, m->var, meta_var_len(m));
		free(back);
		free(m);
	}
}

/* Two seals of the same header share nothing: nonces are fresh. */
Test(meta, sealed_anew)
{
	uint8_t a[BLOCK_SIZE], b[BLOCK_SIZE];
	struct meta *m = new_meta(S_IFREG);

	encode(m, 1, a);
	m->seals--;
	encode(m, 1, b);
	cr_assert_arr_eq(a, b, PROLOGUE_SIZE);
	cr_assert_neq(memcmp(a + PROLOGUE_SIZE, b + PROLOGUE_SIZE, NONCE_SIZE), 0);
	free(m);
}

Test(meta, length_tells_little)
{
	uint8_t page[BLOCK_SIZE];
	struct meta *m = new_meta(S_IFREG);
	size_t empty = encode(m, 1, page);

	meta_name_add(m, 1, "a");
	cr_assert_eq(encode(m, 1, page), empty);
	meta_name_add(m, 1, "a name of medium length");
	cr_assert_eq(encode(m, 1, page), empty);
	full_file(m);
	cr_assert_eq((encode(m, 1, page) - PROLOGUE_SIZE - RECORD_OVERHEAD) % BODY_STEP, 0);
	free(m);
}

Test(meta, empty_page)
{
	uint8_t page[BLOCK_SIZE] = { 0 };
	struct meta *m;

	cr_assert_eq(decode(page, 5, &m), -ENOENT);
	page[BLOCK_SIZE - 1] = 1; /* only the prologue is looked at */
	cr_assert_eq(decode(page, 5, &m), -ENOENT);
	page[PROLOGUE_SIZE - 1] = 1;
	expect_refused(page, 5, "junk", 0);
}

Test(meta, every_byte_is_authentic)
{
	uint8_t page[BLOCK_SIZE];
	struct meta *m, *back;

	for (unsigned s = 0; s < SUITES; s++) {
		start_suite(suites[s]);
		m = new_meta(S_IFREG | 0644);
		meta_name_add(m, 1, "name");
		size_t used = encode(m, 9, page);

		for (size_t at = 0; at < used; at++) {
			for (unsigned bit = 0; bit < 8; bit += 3) {
				page[at] ^= (uint8_t)(1u << bit);
				expect_refused(page, 9, "changed at", at);
				page[at] ^= (uint8_t)(1u << bit);
			}
		}
		cr_assert_eq(decode(page, 9, &back), 0);
		free(back);
		expect_refused(page, 10, "as another object", 0);
		free(m);
	}
}

/* Prologues that lead the decoder astray before anything was authenticated. */
Test(meta, hostile_prologue)
{
	static const uint32_t lengths[] = { 0,         1,     BODY_FIXED,   255,
					    257,       3839,  BODY_MAX + 1, BODY_MAX + BODY_STEP,
					    4096,      65536, INT32_MAX,    UINT32_MAX - 255,
					    UINT32_MAX };
	uint8_t good[BLOCK_SIZE], page[BLOCK_SIZE];
	struct meta *m = new_meta(S_IFREG | 0644);

	encode(m, 9, good);
	for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		memcpy(page, good, BLOCK_SIZE);
		put_le32(page + 36, lengths[i]);
		expect_refused(page, 9, "length", lengths[i]);
	}
	for (unsigned i = 0; i < 32; i++) {
		memcpy(page, good, BLOCK_SIZE);
		put_le32(page + 12, 1u << i);
		expect_refused(page, 9, "scope", i);
		memcpy(page, good, BLOCK_SIZE);
		put_le32(page + 16, get_le32(page + 16) ^ (1u << i));
		expect_refused(page, 9, "DEK version", i);
		memcpy(page, good, BLOCK_SIZE);
		put_le32(page + 20, 1u << i);
		expect_refused(page, 9, "key version", i);
	}
	for (unsigned suite = 0; suite < 8; suite++) {
		memcpy(page, good, BLOCK_SIZE);
		put_le16(page + 10, (uint16_t)suite);
		if (suite != suite_now)
			expect_refused(page, 9, "suite", suite);
	}
	free(m);
}

/* ---- authentic, and nonsense ---- */
/* Seals a body as it is. */
static void seal_body(const uint8_t *body, uint32_t len, uint64_t number, uint8_t *page)
{
	struct cryptor *c = keys_cryptor(keys, 0, 1);

	memset(page, 0, BLOCK_SIZE);
	memcpy(page, "COFFEROB", 8);
	put_le16(page + 8, FORMAT_VERSION);
	put_le16(page + 10, (uint16_t)cryptor_suite(c));
	put_le32(page + 16, 1);
	put_le64(page + 24, number);
	put_le32(page + 32, 1);
	put_le32(page + 36, len);
	cr_assert_eq(
		cryptor_seal_record(c, number, RECORD_HEADER, 0, page, PROLOGUE_SIZE, body, len, page + PROLOGUE_SIZE),
		0);
}

static void good_body(uint8_t *b)
{
	memset(b, 0, BODY_MAX);
	put_le32(b, S_IFREG | 0644);
}

Test(meta, authentic_nonsense)
{
	static const struct {
		unsigned at, size;
		uint64_t value;
	} wrong[] = {
		{ 0, 4, 0 },                  /* no type */
		{ 0, 4, S_IFREG | 0200000 },  /* bits beyond the mode's */
		{ 12, 4, 32 },                /* an unknown flag */
		{ 24, 8, UINT64_MAX },        /* size */
		{ 72, 4, 1000000000 },        /* nanoseconds */
		{ 84, 4, UINT32_MAX },        /* nanoseconds */
		{ 104, 4, LEVELS + 1 },       /* height */
		{ 116, 2, HEADER_TAGS + 1 },  /* tags */
		{ 116, 2, UINT16_MAX },       /* tags */
		{ 118, 2, NAMES_MAX + 1 },    /* names */
		{ 118, 2, 5 },                /* names cut short */
		{ 118, 2, 20 },               /* names of no length */
		{ 120, 2, XATTR_INLINE + 1 }, /* xattrs */
		{ 122, 2, TARGET_INLINE + 1 },
		{ 122, 2, 10 }, /* a target of another length than the size */
	};
	uint8_t body[BODY_MAX], page[BLOCK_SIZE];
	struct meta *m;

	good_body(body);
	seal_body(body, BODY_MAX, 7, page);
	cr_assert_eq(decode(page, 7, &m), 0);
	free(m);
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		good_body(body);
		for (unsigned j = 0; j < wrong[i].size; j++)
			body[wrong[i].at + j] = (uint8_t)(wrong[i].value >> 8 * j);
		seal_body(body, BODY_MAX, 7, page);
		expect_refused(page, 7, "case", i);
	}
	/* More than the body has. */
	good_body(body);
	put_le16(body + 116, 4);
	seal_body(body, BODY_STEP, 7, page);
	expect_refused(page, 7, "tags beyond the body", 0);
	good_body(body);
	put_le16(body + 120, BODY_STEP - BODY_FIXED + 1);
	seal_body(body, BODY_STEP, 7, page);
	expect_refused(page, 7, "xattrs beyond the body", 0);
	/* Names with what names may not have. */
	for (unsigned i = 0; i < 2; i++) {
		good_body(body);
		put_le16(body + 118, NAME_OVERHEAD + 3);
		body[BODY_FIXED + 8] = 3;
		memcpy(body + BODY_FIXED + NAME_OVERHEAD, i ? "a/b" : "a\0b", 3);
		seal_body(body, BODY_STEP, 7, page);
		expect_refused(page, 7, "name", i);
	}
}

Test(meta, random_authentic_bodies)
{
	uint8_t body[BODY_MAX], page[BLOCK_SIZE];
	unsigned taken = 0;
	struct meta *m;

	srand(5);
	for (unsigned i = 0; i < 20000; i++) {
		uint32_t len = BODY_STEP * (1 + (unsigned)rand() % (BODY_MAX / BODY_STEP));

		good_body(body);
		for (int j = rand() % 6; j >= 0; j--)
			body[rand() % 3 ? 72 + rand() % 60 : rand() % (int)len] = (uint8_t)rand();
		seal_body(body, len, 7, page);
		if (decode(page, 7, &m) < 0)
			continue;
		/* What is taken fits, and may be worked on. */
		struct meta *copy = meta_copy(m, VAR_MAX);

		meta_name_add(copy, 1, "some name");
		cr_assert_eq(meta_set_tag_count(copy, HEADER_TAGS), 0);
		cr_assert_leq(meta_var_len(copy), VAR_MAX);
		meta_name_remove(copy, 1, "some name");
		free(copy);
		free(m);
		taken++;
	}
	cr_assert_gt(taken, 100, "%u", taken);
}

/* ---- names ---- */
static unsigned count_names(const struct meta *m)
{
	size_t pos = 0, len;
	const char *name;
	uint64_t dir;
	unsigned n = 0;

	while (meta_name_next(m, &pos, &dir, &name, &len))
		n++;
	return n;
}

Test(meta, names)
{
	struct meta *m = new_meta(S_IFREG);
	char name[256];

	cr_assert_eq(meta_parent(m), 0);
	meta_name_add(m, 5, "one");
	meta_name_add(m, 6, "one");
	meta_name_add(m, 5, "two");
	cr_assert_eq(meta_parent(m), 5);
	m->nlink = 3;
	meta_name_remove(m, 5, "three");
	meta_name_remove(m, 7, "one");
	cr_assert_eq(count_names(m), 3);
	meta_name_remove(m, 5, "one");
	cr_assert_eq(meta_parent(m), 6);
	cr_assert_eq(count_names(m), 2);
	m->nlink = 2;

	/* More than fit: only counted, until enough are gone. */
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "name %u", i);
		meta_name_add(m, 9, name);
		m->nlink++;
	}
	cr_assert(m->flags & META_NAMES_PARTIAL);
	cr_assert_leq(m->names_len, NAMES_MAX);
	unsigned listed = count_names(m);

	cr_assert_lt(listed, 202);
	for (unsigned i = 200; i-- > 0;) {
		snprintf(name, sizeof(name), "name %u", i);
		m->nlink--;
		meta_name_remove(m, 9, name);
		cr_assert_eq(!(m->flags & META_NAMES_PARTIAL), m->nlink <= listed, "%u", i);
	}
	cr_assert_eq(count_names(m), 2);
	free(m);
}

/* The parts of var grow and shrink past each other. */
Test(meta, parts_keep_apart)
{
	uint8_t blob[XATTR_INLINE], target[TARGET_INLINE];
	struct meta *m = new_meta(S_IFLNK);
	size_t blob_len = 0, target_len = 0;

	srand(6);
	meta_name_add(m, 3, "link");
	for (unsigned i = 0; i < 20000; i++) {
		switch (rand() % 4) {
		case 0:
			blob_len = (size_t)rand() % (XATTR_INLINE + 1);
			random_bytes(blob, sizeof(blob));
			cr_assert_eq(meta_set_xattrs(m, blob, blob_len), 0);
			break;
		case 1:
			target_len = (size_t)rand() % (TARGET_INLINE + 1);
			random_bytes(target, sizeof(target));
			cr_assert_eq(meta_set_target(m, (char *)target, target_len), 0);
			break;
		case 2:
			meta_name_add(m, 4, "another name");
			break;
		default:
			meta_name_remove(m, 4, "another name");
		}
		cr_assert_leq(meta_var_len(m), VAR_MAX);
		cr_assert_eq(m->xattr_len, blob_len);
		cr_assert_arr_eq(meta_xattrs(m), blob, blob_len);
		cr_assert_arr_eq(meta_target(m), target, target_len);
		cr_assert_eq(meta_parent(m), 3);
	}
	cr_assert_eq(meta_set_xattrs(m, blob, XATTR_INLINE + 1), -E2BIG);
	cr_assert_eq(meta_set_target(m, (char *)target, TARGET_INLINE + 1), -E2BIG);
	cr_assert_eq(meta_set_tag_count(m, HEADER_TAGS + 1), -EINVAL);
	free(m);
}
