/* Reading an audit trail: every line, and whatever is wrong with them, their order and their end. */
#include "audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <coffer/util.h>

struct walk {
	struct audit *a;
	bool lines;
	audit_text *call;
	void *arg;
	struct audit_result *ret;
	/* The state that is read; the trail may go on meanwhile. */
	int dir;
	struct audit_files files;
	struct audit_head head;
	struct audit_tail tail;
	enum audit_relation relation;
	struct audit_position last; /* the last authentic line */
	uint64_t altered;           /* lines since then that are not */
	/* How the trail begins. */
	uint64_t missing_before; /* lines that should stand before the first authentic one */
	uint64_t trimmed;        /* lines before this one were removed by rotation */
};

static void say(struct walk *w, bool error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct walk *w, bool error, const char *fmt, ...)
{
	char text[512];
	size_t len = (size_t)snprintf(text, sizeof(text), "%s: ", error ? "error" : "note");
	va_list args;

	va_start(args, fmt);
	vsnprintf(text + len, sizeof(text) - len, fmt, args);
	va_end(args);
	w->ret->errors += error;
	w->call(w->arg, text);
}

/* "line 3" or "lines 3 to 5", with what became of them. */
static void say_range(struct walk *w, bool error, uint64_t first, uint64_t last, const char *are, const char *is)
{
	if (first == last)
		say(w, error, "line %" PRIu64 " %s", first, is);
	else
		say(w, error, "lines %" PRIu64 " to %" PRIu64 " %s", first, last, are);
}

static void say_missing(struct walk *w, uint64_t first, uint64_t last, const char *where)
{
	char are[64], is[64];

	snprintf(are, sizeof(are), "are missing%s", where);
	snprintf(is, sizeof(is), "is missing%s", where);
	say_range(w, true, first, last, are, is);
}

static void hand_out(struct walk *w, const char *text, size_t len)
{
	AUTO_FREE char *line = w->lines ? strndup(text, len) : NULL;

	if (line)
		w->call(w->arg, line);
}

static void altered_line(struct walk *w, const char *file, uint64_t number, const char *text, size_t len)
{
	json_t *o, *value = json_stringn(text, len);
	AUTO_FREE char *line = NULL;

	say(w, true, "%s, line %" PRIu64 " of the file: was altered or cut off", file, number);
	w->altered++;
	o = json_pack("{s:b, s:s, s:I, s:o}", "altered", true, "file", file, "line", (json_int_t)number, "text",
		      value ? value : json_string("(not UTF-8)"));
	line = w->lines ? json_dumps(o, JSON_COMPACT) : NULL;
	if (line)
		w->call(w->arg, line);
	json_decref(o);
}

/* ---- the order of the lines ---- */

/* A line of the trail itself, which says that it does not follow on the last one that was here, and why. */
static void check_new_start(struct walk *w, const struct audit_line *l, uint64_t here)
{
	const char *event = json_string_value(json_object_get(l->json, "event"));
	const char *detail = json_string_value(json_object_get(l->json, "detail"));
	bool begun = strcmp(event, "trail-begun") == 0;
	bool accepted = json_is_true(json_object_get(l->json, "accepted"));

	if (begun && l->at.number == 1)
		return;
	if (begun)
		say(w, false, "line %" PRIu64 ": the trail goes on here: %s", l->at.number, detail);
	else
		say(w, !accepted, "before line %" PRIu64 " was written, %s%s", l->at.number, detail,
		    accepted ? "; the mount option accept took it so" : "");
	if (here + 1 < l->at.number)
		say_range(w, false, here + 1, l->at.number - 1, begun ? "were written elsewhere" : "are lost",
			  begun ? "was written elsewhere" : "is lost");
}

static void check_order(struct walk *w, const struct audit_line *l)
{
	const json_t *start = json_object_get(l->json, "here");
	uint64_t before = start ? (uint64_t)json_integer_value(start) : l->at.number - 1; /* it follows on this line */
	uint64_t trimmed = (uint64_t)json_integer_value(json_object_get(l->json, "from"));

	if (trimmed > w->trimmed)
		w->trimmed = trimmed;
	if (start)
		check_new_start(w, l, before);
	if (w->ret->lines == 0)
		w->missing_before = before > w->altered ? before - w->altered : 0;
	else if (l->at.number <= w->last.number)
		say(w, true, "line %" PRIu64 " stands after line %" PRIu64 ": out of order, or repeated", l->at.number,
		    w->last.number);
	else if (before > w->last.number + w->altered)
		say_missing(w, w->last.number + 1, before, w->altered ? " or altered" : "");
	else if (before < w->last.number)
		say(w, true, "line %" PRIu64 " says that line %" PRIu64 " was the last when it was written",
		    l->at.number, before);
	else if (!start && w->altered == 0 && memcmp(l->previous, w->last.mac, MAC_SIZE) != 0)
		say(w, true, "line %" PRIu64 " followed on another line %" PRIu64 " than the one that is here",
		    l->at.number, before);
}

/* Without keys. */
static void read_unchecked(struct walk *w, const char *file, uint64_t number, const char *text, size_t len)
{
	json_t *o = json_loadb(text, len, 0, NULL);

	if (json_is_object(o))
		hand_out(w, text, len);
	else
		altered_line(w, file, number, text, len);
	json_decref(o);
}

static int read_line(struct walk *w, const char *file, uint64_t first, uint64_t number, const char *text, size_t len)
{
	struct audit_line l;
	int r;

	if (!w->a->line_key) {
		read_unchecked(w, file, number, text, len);
		return 0;
	}
	r = audit_line_parse(w->a, text, len, &l);
	if (r == -EBADMSG) {
		altered_line(w, file, number, text, len);
		return 0;
	}
	if (r < 0)
		return r;
	if (number == 1 && l.at.number != first)
		say(w, true, "%s begins with line %" PRIu64 ": the file was renamed, or its beginning is missing", file,
		    l.at.number);
	check_order(w, &l);
	hand_out(w, text, len);
	if (w->ret->lines++ == 0)
		w->ret->first = l.at.number;
	w->last = l.at;
	w->ret->last = l.at.number;
	w->altered = 0;
	audit_line_end(&l);
	return 0;
}

static int read_lines(struct walk *w, const char *file, uint64_t first, const char *text, size_t len)
{
	const char *end = text + len, *feed;
	int r = 0;

	for (uint64_t number = 1; r == 0 && text < end; number++) {
		feed = memchr(text, '\n', (size_t)(end - text));
		if (feed) {
			r = read_line(w, file, first, number, text, (size_t)(feed - text));
		} else {
			feed = end;
			altered_line(w, file, number, text, (size_t)(end - text));
		}
		text = feed + 1;
	}
	return r;
}

/* At most `max` bytes of it. */
static int read_file(struct walk *w, uint64_t first, size_t max)
{
	AUTO_FREE char *text = NULL;
	char name[AUDIT_FILE_NAME];
	size_t len = 0;
	int r;

	audit_file_name(first, name);
	r = read_file_at(w->dir, name, AUDIT_READ_MAX, &text, &len);
	if (r == 0)
		return read_lines(w, name, first, text, len < max ? len : max);
	if (r == -EFBIG) {
		say(w, true, "%s is larger than any file of a trail", name);
		return 0;
	}
	log_error("%s/%s cannot be read: %s", w->a->dir, name,
		  r == -ENOENT ? "it was removed meanwhile; try again" : strerror(-r));
	return r == -ENOENT ? -EAGAIN : r;
}

/* ---- both ends ---- */

static void check_beginning(struct walk *w)
{
	if (w->trimmed >= w->ret->first && w->ret->first > 1)
		say(w, false, "the lines before line %" PRIu64 " were removed, as the setting audit_keep says",
		    w->ret->first);
	else if (w->ret->lines && w->missing_before)
		say_missing(w, 1, w->missing_before, " at the beginning");
}

static void check_end(struct walk *w)
{
	const struct audit_head *h = &w->head;
	const struct audit_position *last = &w->tail.last;

	switch (w->relation) {
	case AUDIT_AGREE:
		break;
	case AUDIT_NEW:
		say(w, true, "there is no audit trail of this volume, neither here nor in its backing directory");
		break;
	case AUDIT_UNFINISHED:
		say_range(w, false, last->number + 1, h->last.number,
			  "stand in the backing directory only: the process that wrote them was stopped",
			  "stands in the backing directory only: the process that wrote it was stopped");
		break;
	case AUDIT_HEADLESS:
		say(w, false,
		    "the lines after line %" PRIu64
		    " were written without write access to the backing directory; if some were cut off from their end, it does not show",
		    h->last.number);
		break;
	case AUDIT_ELSEWHERE:
		say(w, false,
		    "the lines up to line %" PRIu64 " were last written on another host, or for another directory",
		    h->last.number);
		break;
	case AUDIT_LINES_MISSING:
		say_missing(w, last->number + 1, h->last.number, " at the end");
		break;
	case AUDIT_HEAD_MISSING:
		say(w, true, "%s in the backing directory is missing or was changed: lines may be missing at the end",
		    AUDIT_HEAD_NAME);
		break;
	case AUDIT_HEAD_OLDER:
		say(w, true,
		    "%s in the backing directory is older than the lines: it ends with line %" PRIu64
		    ", they with line %" PRIu64,
		    AUDIT_HEAD_NAME, h->last.number, last->number);
		break;
	}
}

static int walk(struct walk *w)
{
	bool checked = w->a->line_key != NULL, unfinished = w->relation == AUDIT_UNFINISHED;
	size_t end = w->tail.valid;
	int r = 0;

	if (!unfinished || !audit_rest_is_unfinished(w->a, &w->head, &w->tail))
		end += w->tail.rest_len;
	for (size_t i = 0; r == 0 && i < w->files.count; i++)
		r = read_file(w, w->files.first[i], checked && i + 1 == w->files.count ? end : SIZE_MAX);
	if (r == 0 && unfinished) {
		const char *missing = audit_head_after(w->a, &w->head, &w->tail.last);

		r = read_lines(w, AUDIT_HEAD_NAME, w->tail.last.number + 1, missing,
			       (size_t)(w->head.lines.text + w->head.lines.len - missing));
	}
	if (r == 0 && checked) {
		check_beginning(w);
		check_end(w);
	}
	return r;
}

/* Nobody waits for the trail while lines are handed out, which may take as long as whoever takes them likes. */
static int load(struct walk *w)
{
	LOCK_SCOPE(&w->a->lock);
	AUTO_CLOSE int lock = -1;
	int r = audit_lock(w->a, false, &w->dir, &lock);

	if (r == 0)
		r = audit_files_list(w->dir, &w->files);
	if (r == -ENOENT)
		r = 0; /* no line was ever written here */
	if (r < 0) {
		log_error("the audit trail in %s cannot be read: %s", w->a->dir, strerror(-r));
		return r;
	}
	if (!w->a->line_key)
		return 0;
	r = audit_head_load(w->a, &w->head);
	if (r == 0)
		r = audit_tail_find(w->a, w->dir, &w->files, &w->tail);
	if (r == 0)
		w->relation = audit_relate(w->a, &w->head, &w->tail);
	return r;
}

int audit_read(struct audit *a, bool lines, audit_text *call, void *arg, struct audit_result *ret)
{
	struct walk w = { .a = a, .lines = lines, .call = call, .arg = arg, .ret = ret, .dir = -1 };
	int r;

	*ret = (struct audit_result){ 0 };
	r = load(&w);
	if (r == 0)
		r = walk(&w);
	audit_files_end(&w.files);
	audit_head_end(&w.head);
	audit_tail_end(&w.tail);
	if (w.dir >= 0)
		close(w.dir);
	return r;
}
