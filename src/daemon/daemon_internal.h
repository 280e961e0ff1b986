/* What the files of src/daemon share. */
#ifndef COFFER_DAEMON_INTERNAL_H
#define COFFER_DAEMON_INTERNAL_H

#include <sys/socket.h>
#include <sys/un.h>

#include <coffer/control.h>
#include <coffer/daemon.h>
#include <coffer/util.h>

/* ---- the helper: a process without keys that may still mount and unmount when the daemon no longer may ---- */
struct helper {
	int fd;               /* -1: none */
	pthread_mutex_t lock; /* one question at a time */
};
/* Forks; call while there is one thread. The helper ends with the daemon; if that died, it detaches the dead mount. */
int helper_start(struct helper *h, const char *mountpoint, const struct fs_options *o);
int helper_mount(struct helper *h, int *ret_fd);
/* Tells that the mount works: the helper adjusts its read-ahead, and logs to syslog from now on if `background`. */
int helper_ready(struct helper *h, bool background);
/* `lazy`: has the kernel begin to write what it holds, and detaches the mount although it is in use. */
int helper_unmount(struct helper *h, bool lazy);
void helper_end(struct helper *h); /* orderly: nothing is detached */

/* From here on messages go to syslog, and nobody waits for the end of this process's output. */
void leave_terminal(void);

/* Makes the process list tell it from the daemon. */
void process_title_set(const char *title);

/* ---- confinement ---- */
/* For good, for this thread and those it starts: no new privileges, files only below the given directories and the key
 * files, system calls only those that serving needs. What the kernel cannot do is left out and logged. */
int confine(const char *backing, const char *state_dir, const struct descriptor *d);

/* ---- control: verbs ---- */
struct connection {
	int fd;
	json_t *request;
	const struct control_facts *facts;
};
/* Returns what is merged into the answer beside "result" (NULL: nothing more), and sets *ret_result. */
typedef json_t *control_verb(struct connection *c, int *ret_result);
control_verb *control_find_verb(const char *name); /* NULL: none */
int control_write(int fd, const json_t *message);  /* one line */
int control_socket_dir(const char *state_dir, bool make, int *ret_fd);
int control_address(int dir_fd, const char *backing, struct sockaddr_un *ret);

#endif
