/* Recording to an audit trail.
 *
 * The trail is read anew each time, since its lines are few and other processes may write to it. Order: the new lines into the
 * head (pending), then to the lines' file, synced, then the head once more (settled). Each step is durable before the next.
 */
#include "audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <coffer/key.h>
#include <coffer/util.h>

#define AUDIT_DIR  "audit"
#define LOCK_NAME  "lock"
#define MACHINE_ID "/etc/machine-id"

/* ---- opening ---- */

/* What tells this host and these directories from others. A host without an id goes by its name. */
static int find_place(struct audit *a, const char *state_dir, const char *backing)
{
	AUTO_FREE char *machine = NULL;
	AUTO_FREE char *text = NULL;
	uint8_t mac[MAC_SIZE];
	struct utsname host;
	size_t len;
	int r;

	uname(&host);
	snprintf(a->where, sizeof(a->where), "host %s, %s", host.nodename, backing);
	r = read_file_at(AT_FDCWD, MACHINE_ID, 128, &machine, &len);
	if (r == -ENOMEM)
		return r;
	if (asprintf(&text, "%s\n%s\n%s", r == 0 ? machine : host.nodename, state_dir, backing) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	r = hmac_sha256(a->line_key, text, strlen(text), mac);
	memcpy(a->place, mac, AUDIT_PLACE_SIZE);
	return r;
}

static int derive_keys(struct audit *a, const struct kdf *structure)
{
	struct secret *head_key = kdf_secret(structure, "coffer audit head", KEY_SIZE);

	a->line_key = kdf_secret(structure, "coffer audit lines", MAC_SIZE);
	a->head_key = head_key ? aead_new(head_key) : NULL;
	secret_free(head_key);
	return a->line_key && a->head_key ? 0 : -ENOMEM;
}

int audit_open(const struct kdf *structure, const struct audit_place *p, struct audit **ret)
{
	struct audit *a = calloc(1, sizeof(*a));
	char backing[PATH_MAX], id[2 * VOLUME_ID_SIZE + 1], name[BACKING_NAME_SIZE];
	int r = a ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	pthread_mutex_init(&a->lock, NULL);
	a->backing_fd = p->backing_fd;
	a->read_only = p->read_only;
	a->accept = p->accept;
	a->keep = p->keep;
	a->file_max = AUDIT_FILE_MAX;
	hex_encode(p->volume_id, VOLUME_ID_SIZE, id);
	r = backing_real_path(p->backing_fd, backing);
	if (r == 0)
		r = backing_name(backing, name);
	if (r == 0 && asprintf(&a->dir, "%s/" AUDIT_DIR "/%s-%.16s", p->state_dir, id, name) < 0) {
		a->dir = NULL;
		r = -ENOMEM;
	}
	if (r == 0 && structure)
		r = derive_keys(a, structure);
	if (r == 0 && structure)
		r = find_place(a, p->state_dir, backing);
	if (r < 0) {
		log_error("the audit trail cannot be opened: %s", strerror(-r));
		audit_close(a);
		return r;
	}
	*ret = a;
	return 0;
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	secret_free(a->line_key);
	aead_free(a->head_key);
	pthread_mutex_destroy(&a->lock);
	free(a->dir);
	free(a);
}

int audit_lock(const struct audit *a, bool make, int *ret_dir, int *ret_lock)
{
	AUTO_CLOSE int dir = -1, lock = -1;
	int r = make ? make_dirs(a->dir, 0700) : 0;

	if (r < 0)
		return r;
	dir = open(a->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	lock = openat(dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (lock < 0)
		return -errno;
	do
		r = flock(lock, LOCK_EX) < 0 ? -errno : 0;
	while (r == -EINTR);
	if (r < 0)
		return r;
	*ret_dir = dir;
	*ret_lock = lock;
	dir = lock = -1;
	return 0;
}

/* ---- how lines and head go together ---- */

static bool same_position(const struct audit_position *a, const struct audit_position *b)
{
	return a->number == b->number && memcmp(a->mac, b->mac, MAC_SIZE) == 0;
}

enum audit_relation audit_relate(const struct audit *a, const struct audit_head *h, const struct audit_tail *t)
{
	bool any = t->last.number > 0, here = memcmp(h->place, a->place, AUDIT_PLACE_SIZE) == 0;

	if (h->state == HEAD_NONE && !any)
		return AUDIT_NEW;
	if (h->state == HEAD_NONE && t->headless && t->head == 0)
		return AUDIT_HEADLESS;
	if (h->state == HEAD_NONE || h->state == HEAD_BAD)
		return AUDIT_HEAD_MISSING;
	if (any && same_position(&t->last, &h->last))
		return AUDIT_AGREE;
	if (h->state == HEAD_PENDING && (any || (here && h->before.number == 0)) && audit_head_after(a, h, &t->last))
		return AUDIT_UNFINISHED;
	if (any && t->headless && t->head == h->last.number)
		return AUDIT_HEADLESS;
	if (!here)
		return AUDIT_ELSEWHERE;
	return any && t->last.number >= h->last.number ? AUDIT_HEAD_OLDER : AUDIT_LINES_MISSING;
}

bool audit_rest_is_unfinished(const struct audit *a, const struct audit_head *h, const struct audit_tail *t)
{
	const char *missing = audit_head_after(a, h, &t->last);

	if (!missing || t->rest_len > (size_t)(h->lines.text + h->lines.len - missing))
		return false;
	for (size_t i = 0; i < t->rest_len; i++)
		if (t->rest[i] != missing[i] && t->rest[i] != 0)
			return false;
	return true;
}

/* ---- recording ---- */

struct recording {
	struct audit *a;
	int dir, lock;
	struct audit_files files;
	struct audit_tail tail;
	struct audit_head head;
	struct audit_position at; /* the line that the next one follows on */
	struct audit_batch batch;
	uint64_t first; /* number of the batch's first line */
	uint64_t file;  /* it goes there: 0: the file that ends the trail */
	uint64_t trim;  /* files that begin before this line are removed; 0: none */
	bool headless;
};

static void recording_end(struct recording *w)
{
	audit_files_end(&w->files);
	audit_tail_end(&w->tail);
	audit_head_end(&w->head);
	free(w->batch.text);
	if (w->lock >= 0)
		close(w->lock);
	if (w->dir >= 0)
		close(w->dir);
}

static int load(struct recording *w)
{
	int r = audit_files_list(w->dir, &w->files);

	if (r == 0)
		r = audit_tail_find(w->a, w->dir, &w->files, &w->tail);
	if (r == 0)
		r = audit_head_load(w->a, &w->head);
	return r;
}

/* One write, durable. What a stop left of an earlier one is overwritten; anything else that does not belong there stays, and is
 * ended by a line feed, so that it damages no line of ours. */
static int append(struct recording *w, uint64_t file, const char *text, size_t len)
{
	bool fresh = file != w->tail.file, foreign;
	AUTO_FREE char *line = NULL;
	char name[AUDIT_FILE_NAME];
	AUTO_CLOSE int fd = -1;
	size_t at;
	int r;

	foreign = !fresh && w->tail.rest_len && !audit_rest_is_unfinished(w->a, &w->head, &w->tail);
	at = fresh ? 0 : w->tail.valid + (foreign ? w->tail.rest_len : 0);
	if (foreign && w->tail.rest[w->tail.rest_len - 1] != '\n') {
		if (asprintf(&line, "\n%.*s", (int)len, text) < 0) {
			line = NULL;
			return -ENOMEM;
		}
		text = line;
		len++;
	}
	audit_file_name(file, name);
	fd = openat(w->dir, name, O_WRONLY | O_CREAT | (fresh ? O_EXCL : 0) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK,
		    0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)at) < 0)
		return -errno;
	r = pwrite_all(fd, text, len, (off_t)at);
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	/* The directories above may be new as well. */
	if (r == 0 && fresh && (w->files.count ? fsync(w->dir) : syncfs(w->dir)) < 0)
		r = -errno;
	return r;
}

/* The lines of the head that did not get into the file. */
static int finish_append(struct recording *w)
{
	const char *missing = audit_head_after(w->a, &w->head, &w->tail.last);
	size_t len = (size_t)(w->head.lines.text + w->head.lines.len - missing);
	uint64_t file = w->tail.file ? w->tail.file : w->tail.last.number + 1;
	int r = append(w, file, missing, len);

	if (r < 0)
		return r;
	audit_files_end(&w->files);
	audit_tail_end(&w->tail);
	r = audit_files_list(w->dir, &w->files);
	return r < 0 ? r : audit_tail_find(w->a, w->dir, &w->files, &w->tail);
}

static int add(struct recording *w, json_t *fields)
{
	if (w->headless)
		json_object_set_new(fields, "head", json_integer((json_int_t)w->head.last.number));
	return audit_line_add(w->a, &w->batch, &w->at, fields);
}

static int add_own(struct recording *w, const char *event, const char *detail, const char *key, uint64_t number)
{
	struct audit_event e = { .event = event, .detail = detail };
	json_t *fields = audit_fields(&e);

	json_object_set_new(fields, key, json_integer((json_int_t)number));
	if (strcmp(event, "trail-broken") == 0 && w->a->accept)
		json_object_set_new(fields, "accepted", json_true());
	return add(w, fields);
}

static int note_break(struct recording *w, enum audit_relation relation)
{
	static const char *const what[] = {
		[AUDIT_LINES_MISSING] = "lines were missing at the end",
		[AUDIT_HEAD_MISSING] = AUDIT_HEAD_NAME " in the backing directory was missing or changed",
		[AUDIT_HEAD_OLDER] = AUDIT_HEAD_NAME " in the backing directory was older than the lines",
	};

	log_warning("the audit trail in %s is broken: %s; see coffer audit verify", w->a->dir, what[relation]);
	return add_own(w, "trail-broken", what[relation], "here", w->tail.last.number);
}

/* Decides which line the next one follows on, and says so in the trail itself where that is not the last one that is here. */
static int find_position(struct recording *w)
{
	enum audit_relation relation = audit_relate(w->a, &w->head, &w->tail);
	const struct audit_position *last = &w->tail.last, *head = &w->head.last;
	int r;

	switch (relation) {
	case AUDIT_UNFINISHED:
		r = finish_append(w);
		w->at = *head;
		return r;
	case AUDIT_AGREE:
	case AUDIT_HEADLESS:
		w->at = *last;
		return 0;
	case AUDIT_NEW:
	case AUDIT_ELSEWHERE:
		w->at = last->number > head->number ? *last : *head;
		w->first = w->at.number + 1;
		return add_own(w, "trail-begun", w->a->where, "here", last->number);
	case AUDIT_LINES_MISSING:
		w->at = *head;
		break;
	case AUDIT_HEAD_MISSING:
	case AUDIT_HEAD_OLDER:
		w->at = *last;
		break;
	}
	w->first = w->at.number + 1;
	return note_break(w, relation);
}

/* Full files are followed by a new one; with it goes the oldest. */
static int rotate(struct recording *w)
{
	unsigned keep = w->a->keep;

	w->file = w->tail.file ? w->tail.file : w->first;
	if (w->tail.valid + w->tail.rest_len < w->a->file_max || w->first <= w->tail.file)
		return 0;
	w->file = w->first;
	if (keep == 0 || w->files.count < keep)
		return 0;
	w->trim = keep == 1 ? w->first : w->files.first[w->files.count - keep + 1];
	return add_own(w, "trail-trimmed", "older lines were removed, as the setting audit_keep says", "from", w->trim);
}

static int trim(struct recording *w)
{
	char name[AUDIT_FILE_NAME];

	for (size_t i = 0; i < w->files.count && w->files.first[i] < w->trim; i++) {
		audit_file_name(w->files.first[i], name);
		if (unlinkat(w->dir, name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

static int write_batch(struct recording *w)
{
	int r = w->headless ? 0 : audit_head_store(w->a, HEAD_PENDING, &w->batch);

	if (r == 0)
		r = append(w, w->file, w->batch.text, w->batch.len);
	if (r == 0 && !w->headless)
		r = audit_head_store(w->a, HEAD_SETTLED, &w->batch);
	return r == 0 && w->trim ? trim(w) : r;
}

static int record(struct audit *a, const struct audit_event *events, size_t count)
{
	struct recording w = { .a = a, .dir = -1, .lock = -1 };
	int r = audit_lock(a, true, &w.dir, &w.lock);

	w.headless = a->read_only || (faccessat(a->backing_fd, ".", W_OK, 0) < 0 && errno == EROFS);
	if (r == 0)
		r = load(&w);
	if (r == 0)
		r = find_position(&w);
	if (r == 0 && !w.first)
		w.first = w.at.number + 1;
	if (r == 0)
		r = rotate(&w);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = add(&w, audit_fields(&events[i]));
	if (r == 0)
		r = write_batch(&w);
	recording_end(&w);
	return r;
}

int audit_record(struct audit *a, const struct audit_event *events, size_t count)
{
	int r = 0;

	if (!a)
		return 0;
	LOCK_SCOPE(&a->lock);
	for (size_t i = 0; r == 0 && i < count; i += AUDIT_BATCH)
		r = record(a, events + i, count - i < AUDIT_BATCH ? count - i : AUDIT_BATCH);
	if (r < 0)
		log_error("the audit trail in %s cannot be written: %s", a->dir, strerror(-r));
	return r;
}
