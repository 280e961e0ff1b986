/* The name of a process in the process list: it is where its arguments were. */
#include <stdio.h>
#include <sys/prctl.h>

#include "daemon_internal.h"

static char *start;
static size_t room;

void process_title_start(int argc, char **argv)
{
	if (argc < 1)
		return;
	start = argv[0];
	room = (size_t)(argv[argc - 1] - start) + strlen(argv[argc - 1]) + 1;
}

void process_title_set(const char *title)
{
	prctl(PR_SET_NAME, title);
	if (!start)
		return;
	memset(start, 0, room);
	snprintf(start, room, "%s", title);
}
