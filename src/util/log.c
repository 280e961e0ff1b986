/* The log: one line an event, one write(2) a line, so that lines of several threads never mix. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <syslog.h>

#include "coffer/util.h"

enum { LINE_MAX_BYTES = 1024 }; /* longer lines are cut */

static atomic_bool to_syslog;
static _Thread_local bool muted;
static _Thread_local void (*tap)(void *arg, const char *line);
static _Thread_local void *tap_arg;
static atomic_int max_level = LOG_LEVEL_INFO;

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

void log_line(enum log_level level, const char *fmt, ...)
{
	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	size_t head = 0;
	size_t len;
	va_list args;

	if ((int)level > max_level || (muted && level <= LOG_LEVEL_ERROR))
		return;
	if (!to_syslog)
		head = (size_t)snprintf(line, sizeof(line), "coffer: %s: ", level_name(level));
	va_start(args, fmt);
	errno = saved_errno; /* for %m */
	if (vsnprintf(line + head, sizeof(line) - head - 1, fmt, args) < 0)
		line[head] = '\0';
	va_end(args);
	mask_control_characters(line + head);
	if (tap)
		tap(tap_arg, line + head);
	if (to_syslog) {
		syslog((int)level, "%s", line);
	} else {
		len = strlen(line);
		line[len] = '\n';
		(void)!write(STDERR_FILENO, line, len + 1); /* nowhere to tell */
	}
	errno = saved_errno;
}
