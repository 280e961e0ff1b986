#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include <coffer/util.h>

#include "provider.h"
#include "text.h"

#define RING_DIR   "keys"
#define RING_FILE  "ring"
#define RING_LOCK  "lock"
#define RING_MAGIC "key ring"
#define RING_WHAT  "the platform's key ring"
enum {
	RING_FORMAT = 1,
	RING_TEXT_MAX = 1 << 16,
	NAME_SIZE = 32,
	FILE_NAME_SIZE = 96,
};

static void key_file_name(char out[static FILE_NAME_SIZE], const char *name, const char *id, uint32_t version)
{
	snprintf(out, FILE_NAME_SIZE, "%s-%s.%u.key", name, id, version);
}

void ring_free(struct ring *r)
{
	for (size_t i = 0; i < r->count; i++)
		secret_free(r->keys[i].key);
	memset(r, 0, sizeof(*r));
}

/* The ring's directory, opened, or -errno; logged but for -ENOENT. Whoever else could write there could plant keys. */
static int open_dir(const char *state_dir)
{
	AUTO_CLOSE int fd = -1;
	AUTO_CLOSE int parent = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int ret;

	if (parent >= 0)
		fd = openat(parent, RING_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		ret = -errno;
		if (ret != -ENOENT)
			log_error(
				"the platform's keys in %s/%s cannot be opened: %s; use a state directory of your own with --state-dir or COFFER_STATE_DIR",
				state_dir, RING_DIR, strerror(-ret));
		return ret;
	}
	if (st.st_mode & 077) {
		log_error(
			"%s/%s holds keys but is open to its group or to others; make sure nobody read or changed them, then: chmod 0700",
			state_dir, RING_DIR);
		return -EACCES;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		log_error("%s/%s holds keys but belongs to another user; use a state directory of your own", state_dir,
			  RING_DIR);
		return -EACCES;
	}
	ret = fd;
	fd = -1;
	return ret;
}

/* ---- loading ---- */

static int load_key(int dir, const char *id, const char *name, uint32_t version, int64_t created,
		    const char *fingerprint, struct ring *r)
{
	char file[FILE_NAME_SIZE], found[FINGERPRINT_SIZE];
	struct secret *key = secret_new(KEY_SIZE);
	size_t len = 0;
	int ret;

	if (!key)
		return -ENOMEM;
	key_file_name(file, name, id, version);
	ret = key_file_read(dir, file, file, key, &len);
	if (!ret && len == KEY_SIZE)
		ret = key_fingerprint(key, found);
	if (ret == -EFBIG || ret == -ENOENT || (!ret && (len != KEY_SIZE || strcmp(found, fingerprint)))) {
		log_error("the platform's key file %s is damaged or missing; restore the state directory from a copy",
			  file);
		ret = -EINVAL;
	}
	if (!ret) {
		r->keys[r->count].version = version;
		r->keys[r->count].created = created;
		r->keys[r->count++].key = key;
		key = NULL;
	}
	secret_free(key);
	return ret;
}

static int load_keys(int dir, struct text *t, const char *wanted, struct ring *r)
{
	config_setting_t *list = NULL;
	size_t count = 0;
	int ret = 0;

	text_get_list(t, text_root(t), "keys", 1, RING_VERSIONS_MAX, &list, &count);
	for (size_t i = 0; i < count && !t->error && !ret; i++) {
		config_setting_t *g = text_get_element(t, list, i);
		char name[NAME_SIZE] = "", fingerprint[FINGERPRINT_SIZE] = "";
		uint32_t version = 0;
		uint64_t created;

		text_get_string(t, g, "name", name, sizeof(name));
		text_get_u32(t, g, "version", 1, &version);
		text_get_number(t, g, "created", 0, TEXT_NUMBER_MAX, &created);
		text_get_string(t, g, "fingerprint", fingerprint, sizeof(fingerprint));
		text_finish(t, g);
		if (t->error || strcmp(name, wanted))
			continue;
		if (r->count && version <= r->keys[r->count - 1].version)
			text_refuse(t, g, "the versions of a key must ascend");
		else
			ret = load_key(dir, r->id, name, version, (int64_t)created, fingerprint, r);
	}
	text_finish(t, text_root(t));
	if (!t->error && !ret && !r->count)
		text_refuse(t, NULL, "a key is missing");
	return t->error ? t->error : ret;
}

/* Reads the ring's text into `t`, which is set up whatever is returned: 0, -ENOENT (not logged) or another error. */
static int read_ring(int dir, struct text *t, char ret_id[static RING_ID_DIGITS + 1])
{
	AUTO_FREE char *text = NULL;
	char magic[sizeof(RING_MAGIC)] = "";
	uint8_t id[RING_ID_DIGITS / 2];
	uint64_t format;
	size_t len = 0;
	int ret = read_file_at(dir, RING_FILE, RING_TEXT_MAX, &text, &len);

	if (ret) {
		text_start(t, RING_WHAT);
		if (ret != -ENOENT)
			log_error(RING_WHAT " cannot be read: %s", strerror(-ret));
		return ret;
	}
	text_parse(t, RING_WHAT, text, len);
	text_get_string(t, text_root(t), "coffer", magic, sizeof(magic));
	text_get_number(t, text_root(t), "format", RING_FORMAT, RING_FORMAT, &format);
	text_get_hex(t, text_root(t), "id", id, sizeof(id));
	if (strcmp(magic, RING_MAGIC))
		text_refuse(t, NULL, "this is not a key ring");
	if (!t->error)
		hex_encode(id, sizeof(id), ret_id);
	return t->error;
}

int ring_load(const char *state_dir, const char *name, struct ring *r)
{
	AUTO_CLOSE int dir = open_dir(state_dir);
	int ret;

	memset(r, 0, sizeof(*r));
	if (dir < 0)
		return dir;
	AUTO_TEXT t;
	ret = read_ring(dir, &t, r->id);
	if (!ret)
		ret = load_keys(dir, &t, name, r);
	if (ret)
		ring_free(r);
	return ret;
}

/* ---- making ---- */

static int make_key(int dir, struct text *t, config_setting_t *list, const char *name, const char *id, uint32_t version)
{
	char file[FILE_NAME_SIZE], fingerprint[FINGERPRINT_SIZE];
	struct secret *key = secret_random(KEY_SIZE);
	config_setting_t *g;
	int ret = key ? 0 : -ENOMEM;

	if (!ret)
		ret = key_fingerprint(key, fingerprint);
	if (ret)
		goto out;
	key_file_name(file, name, id, version);
	ret = replace_file_at(dir, file, 0600, secret_bytes(key), KEY_SIZE);
	if (ret)
		goto out;
	g = text_put_element(t, list);
	text_put_string(t, g, "name", name);
	text_put_number(t, g, "version", version);
	text_put_number(t, g, "created", (uint64_t)time(NULL));
	text_put_string(t, g, "fingerprint", fingerprint);
out:
	secret_free(key);
	return ret;
}

static int write_ring(int dir, struct text *t)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return -ENOMEM;
	text_write(t, out);
	if (fclose(out) && !t->error)
		t->error = -ENOMEM;
	return t->error ? t->error : replace_file_at(dir, RING_FILE, 0600, text, len);
}

/* Key files first: a ring names only keys that are there to stay. */
static int make_ring(int dir)
{
	AUTO_TEXT t;
	uint8_t id[RING_ID_DIGITS / 2];
	char digits[RING_ID_DIGITS + 1];
	config_setting_t *list;
	int ret;

	text_start(&t, RING_WHAT);
	ret = random_bytes(id, sizeof(id));
	if (ret)
		return ret;
	hex_encode(id, sizeof(id), digits);
	text_put_string(&t, text_root(&t), "coffer", RING_MAGIC);
	text_put_number(&t, text_root(&t), "format", RING_FORMAT);
	text_put_hex(&t, text_root(&t), "id", id, sizeof(id));
	list = text_put_list(&t, text_root(&t), "keys");
	ret = make_key(dir, &t, list, RING_PLATFORM, digits, 1);
	if (!ret)
		ret = make_key(dir, &t, list, RING_INFRASTRUCTURE, digits, 1);
	return ret ? ret : write_ring(dir, &t);
}

static int lock_dir(int dir)
{
	int lock = openat(dir, RING_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (lock < 0)
		return -errno;
	while (flock(lock, LOCK_EX)) {
		if (errno != EINTR) {
			int ret = -errno;

			close(lock);
			return ret;
		}
	}
	return lock;
}

static int create_in(const char *state_dir, int dir)
{
	AUTO_CLOSE int lock = lock_dir(dir); /* closing it unlocks */
	int ret;

	if (lock < 0)
		return lock;
	if (!faccessat(dir, RING_FILE, F_OK, AT_SYMLINK_NOFOLLOW))
		return 0; /* somebody else was faster */
	if (errno != ENOENT)
		return -errno;
	ret = make_ring(dir);
	/* The directories above are new too, perhaps; a volume must not outlive its keys in a power cut. */
	if (!ret && syncfs(dir))
		ret = -errno;
	if (!ret)
		log_notice(
			"made the platform's key ring in %s/%s; volumes made with it cannot be opened without it: keep a copy of it in a safe place",
			state_dir, RING_DIR);
	return ret;
}

int ring_create(const char *state_dir)
{
	AUTO_FREE char *path = NULL;
	AUTO_CLOSE int dir = -1;
	int ret;

	if (asprintf(&path, "%s/%s", state_dir, RING_DIR) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	ret = make_dirs(path, 0700);
	if (!ret) {
		dir = open_dir(state_dir);
		if (dir < 0)
			return dir;
		ret = create_in(state_dir, dir);
	}
	if (ret)
		log_error(
			"the platform's key ring cannot be made in %s: %s; use a state directory of your own with --state-dir or COFFER_STATE_DIR",
			path, strerror(-ret));
	return ret;
}

/* The newest version of a key in a ring's text; *ret_list is the list that it stands in. */
static uint32_t newest_version(struct text *t, const char *name, config_setting_t **ret_list)
{
	uint32_t newest = 0, version = 0;
	char found[NAME_SIZE] = "";
	size_t count = 0;

	text_get_list(t, text_root(t), "keys", 1, RING_VERSIONS_MAX, ret_list, &count);
	for (size_t i = 0; i < count && !t->error; i++) {
		config_setting_t *g = text_get_element(t, *ret_list, i);

		text_get_string(t, g, "name", found, sizeof(found));
		text_get_u32(t, g, "version", 1, &version);
		if (!strcmp(found, name) && version > newest)
			newest = version;
	}
	if (!t->error && count == RING_VERSIONS_MAX)
		t->error = -ENOSPC;
	return newest;
}

static int add_version_in(int dir, const char *name)
{
	AUTO_CLOSE int lock = lock_dir(dir);
	char id[RING_ID_DIGITS + 1];
	config_setting_t *list = NULL;
	uint32_t newest;
	int ret;

	if (lock < 0)
		return lock;
	AUTO_TEXT t;
	ret = read_ring(dir, &t, id);
	if (ret)
		return ret;
	newest = newest_version(&t, name, &list);
	if (t.error)
		return t.error;
	ret = make_key(dir, &t, list, name, id, newest + 1);
	return ret ? ret : write_ring(dir, &t);
}

int ring_add_version(const char *state_dir, const char *name)
{
	AUTO_CLOSE int dir = open_dir(state_dir);
	int ret = dir < 0 ? dir : add_version_in(dir, name);

	if (ret)
		log_error("the platform's key ring in %s/%s cannot get another version of its key: %s", state_dir,
			  RING_DIR, strerror(-ret));
	return ret;
}
