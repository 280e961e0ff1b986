/* What the files of src/daemon share. */
#ifndef COFFER_DAEMON_INTERNAL_H
#define COFFER_DAEMON_INTERNAL_H

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <coffer/control.h>
#include <coffer/daemon.h>
#include <coffer/util.h>

/* ---- the helper: a process without keys that may still mount, unmount and open key files when the daemon no longer may ---- */
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
/* A key_file_opener; `arg` is the helper. Small regular files only: that is what keys are in. */
int helper_open_key(void *arg, const char *path);
void helper_end(struct helper *h); /* orderly: nothing is detached */

/* ---- opening.c ---- */
struct opening {
	const struct mount_request *request;
	const struct audit_requester *requester;
	const char *backing; /* absolute */
	int backing_fd;
	const char *mountpoint, *source; /* absolute; as the mount table is to show it */
};
/* Confines the process, and opens the volume; waits for a daemon that is about to end. Errors have been logged. EXIT_DONE without a
 * volume: another daemon has mounted it there, which will do. */
enum exit_code open_volume(const struct opening *p, struct volume **ret);

/* Until the kernel has nothing more to write, as far as one can see that from here; or until `ended` (NULL: nothing) is set. */
void wait_until_quiet(const struct fs *f, const atomic_bool *ended);

/* From here on messages go to syslog, and nobody waits for the end of this process's output. Not before the mount works: an automounter
 * knows by their process group who may touch the mount point while everybody else waits for the mount. */
void leave_terminal(void);

/* ---- the service manager that started a daemon in the foreground, if one did ---- */
struct service {
	int fd;               /* -1: none */
	unsigned watchdog_ms; /* between signs of life; 0: none are expected */
};
void service_start(struct service *s); /* before confine(): opens what is needed */
void service_tell(const struct service *s, const char *lines);
void service_end(struct service *s);

/* Makes the process list tell it from the daemon. */
void process_title_set(const char *title);

/* ---- confinement ---- */
/* For good, for this thread and those it starts: no new privileges, files only below the given directories, system calls only
 * those that serving needs; with settings for KMIP also what finding and asking key servers takes. Key files are opened by the
 * helper. What the kernel cannot do is left out and logged. */
int confine(const char *backing, const char *state_dir, const struct key_settings *keys);

/* ---- control: verbs ---- */
struct connection {
	int fd;
	json_t *request;
	struct audit_requester peer; /* who asks */
	const struct control_facts *facts;
};
/* Returns what is merged into the answer beside "result" (NULL: nothing more), and sets *ret_result. */
typedef json_t *control_answer(struct connection *c, int *ret_result);
struct control_verb {
	const char *name;
	control_answer *run;
	bool recorded; /* in the audit trail, by its name: that it was asked for, and what came of it */
};
const struct control_verb *control_find_verb(const char *name); /* NULL: none */
/* control_keys.c */
control_answer verb_scope_create, verb_scope_enable, verb_scope_disable, verb_scope_assign, verb_scope_purge,
	verb_reencrypt, verb_key_set, verb_key_rotate, verb_infrastructure_key_rotate, verb_key_lock, verb_key_unlock,
	verb_key_provide, verb_key_recovery;
control_answer verb_stats;                 /* control_stats.c */
json_t *describe_volume(struct volume *v); /* as describe_descriptor, with the states of scopes; NULL: no memory */
void control_send_line(void *arg, const char *line); /* `arg` is the connection */
int control_write(int fd, const json_t *message);    /* one line */
int control_socket_dir(const char *state_dir, bool make, int *ret_fd);
/* The two names of a socket, and the address of such a name. */
enum { SOCKET_NAME_SIZE = 64 };
int control_name(const char *backing, char out[static SOCKET_NAME_SIZE]);
void control_mount_name(dev_t device, char out[static SOCKET_NAME_SIZE]);
struct sockaddr_un control_address(int dir_fd, const char *name);

#endif
