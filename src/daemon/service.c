/* Telling the service manager how the daemon is, by systemd's protocol: datagrams of lines NAME=VALUE to $NOTIFY_SOCKET, and one
 * of them twice in $WATCHDOG_USEC while all is well. */
#include <errno.h>
#include <stdio.h>

#include "daemon_internal.h"

/* A path, or with '@' for the NUL a name outside of the file system. */
static int connect_manager(int fd, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t len = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || len >= sizeof(a.sun_path))
		return -EINVAL;
	memcpy(a.sun_path, name, len);
	if (name[0] == '@')
		a.sun_path[0] = 0;
	return connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0
		       ? -errno
		       : 0;
}

/* Milliseconds between two signs of life; 0: none are expected of this process. */
static unsigned watchdog_interval(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	unsigned long long n = usec ? strtoull(usec, NULL, 10) : 0;

	if (!n || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return n / 2000 < 1 ? 1 : n / 2000 > 3600 * 1000 ? 3600 * 1000 : (unsigned)(n / 2000);
}

void service_start(struct service *s)
{
	const char *name = getenv("NOTIFY_SOCKET");
	int r;

	if (!name || !name[0])
		return;
	s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	r = s->fd < 0 ? -errno : connect_manager(s->fd, name);
	if (r == 0) {
		s->watchdog_ms = watchdog_interval();
		return;
	}
	log_warning("NOTIFY_SOCKET=%s: %s; the service manager hears nothing", name, strerror(-r));
	service_end(s);
}

void service_tell(const struct service *s, const char *lines)
{
	if (s->fd >= 0 && send(s->fd, lines, strlen(lines), MSG_NOSIGNAL) < 0)
		log_warning("the service manager cannot be told %s: %s", lines, strerror(errno));
}

void service_end(struct service *s)
{
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct service){ .fd = -1 };
}
