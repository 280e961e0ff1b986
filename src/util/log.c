/* The log: one line an event, one write(2) a line, so that lines of several threads never mix. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>

#include "coffer/util.h"

enum {
	LINE_MAX_BYTES = 1024, /* longer lines are cut */
	KINDS = 64,            /* of lines that are told apart */
};

static atomic_bool to_syslog;
static _Thread_local bool muted;
static _Thread_local void (*tap)(void *arg, const char *line);
static _Thread_local void *tap_arg;
static atomic_int max_level = LOG_LEVEL_INFO;

/* What came of one kind of lines since `since`. */
struct kind {
	const char *fmt; /* NULL: no kind yet */
	enum log_level level;
	int64_t since; /* milliseconds */
	unsigned count;
	char last[LINE_MAX_BYTES]; /* that was left out */
};
static atomic_bool limited;
static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kind kinds[KINDS]; /* limit_lock */

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_NOTICE:
		return "notice";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "unknown";
}

void log_to_syslog(bool on)
{
	/* Without LOG_NDELAY nothing is connected here, and syslog(3) drops lines silently where nobody listens. */
	if (on)
		openlog("coffer", LOG_PID, LOG_DAEMON);
	else if (to_syslog)
		closelog();
	to_syslog = on;
}

void log_set_level(enum log_level max)
{
	max_level = max;
}

void log_tap(void (*call)(void *arg, const char *line), void *arg)
{
	tap = call;
	tap_arg = arg;
}

void log_mute(bool on)
{
	muted = on;
}

/* File names reach the log: no name may forge a second line or drive the terminal. */
static void mask_control_characters(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

static void put_line(enum log_level level, const char *line, const char *tail)
{
	char whole[LINE_MAX_BYTES + 128];
	int len;

	if (to_syslog) {
		syslog((int)level, "%s%s", line, tail);
		return;
	}
	len = snprintf(whole, sizeof(whole), "coffer: %s: %s%s\n", level_name(level), line, tail);
	(void)!write(STDERR_FILENO, whole, (size_t)len); /* nowhere to tell */
}

/* limit_lock is held. */
static void say_left_out(struct kind *k)
{
	char head[64];

	if (k->fmt && k->count > LOG_BURST) {
		snprintf(head, sizeof(head), "%u lines were left out, the last: ", k->count - LOG_BURST);
		memmove(k->last + strlen(head), k->last, sizeof(k->last) - strlen(head));
		memcpy(k->last, head, strlen(head));
		k->last[sizeof(k->last) - 1] = 0;
		put_line(k->level, k->last, "");
	}
	k->fmt = NULL;
}

/* Whether a line of this kind may be said. The last that may has a tail that tells of it. */
static bool admit(enum log_level level, const char *fmt, const char *line, const char **ret_tail)
{
	LOCK_SCOPE(&limit_lock);
	int64_t now = clock_ms();
	struct kind *found = NULL, *unused = NULL;

	for (struct kind *k = kinds; k < kinds + KINDS; k++) {
		if (k->fmt && now - k->since >= LOG_WINDOW)
			say_left_out(k);
		if (k->fmt == fmt)
			found = k;
		else if (!k->fmt)
			unused = k;
	}
	if (!found) {
		found = unused;
		if (!found) /* of too many kinds at once for much of one */
			return true;
		*found = (struct kind){ .fmt = fmt, .level = level, .since = now };
	}
	if (++found->count <= LOG_BURST) {
		*ret_tail = found->count == LOG_BURST ? " (more lines like this are left out for some seconds)" : "";
		return true;
	}
	strcpy(found->last, line);
	return false;
}

void log_cut_short(bool on)
{
	LOCK_SCOPE(&limit_lock);
	limited = on;
	for (struct kind *k = kinds; !on && k < kinds + KINDS; k++)
		say_left_out(k);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	const char *tail = "";
	va_list args;

	if (muted && level <= LOG_LEVEL_ERROR)
		return;
	va_start(args, fmt);
	if (vsnprintf(line, sizeof(line), fmt, args) < 0)
		line[0] = 0;
	va_end(args);
	mask_control_characters(line);
	if (tap)
		tap(tap_arg, line);
	if ((int)level <= max_level && (!limited || admit(level, fmt, line, &tail)))
		put_line(level, line, tail);
	errno = saved_errno;
}
