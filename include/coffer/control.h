/* The control socket of a daemon, from both sides.
 *
 * It is STATE_DIR/run/DIGEST.sock, with DIGEST the first 32 hex digits of the SHA-256 of the backing directory's absolute
 * path: a replica may be mounted beside its original. A second name of it, mount-MAJOR-MINOR.sock, goes by the device of the mount,
 * whatever that shows as its source; as both are links to one socket, what a killed daemon left never leads to another. Root and the daemon's user may use it; whom it refuses
 * is recorded in the audit trail. A request is one line, a JSON
 * object with "verb" and the verb's arguments; the answer is any number of lines {"line": TEXT} and at last one
 * {"result": 0 or a negative errno, ...}; lines are findings, and why something went wrong. A request with "secret": true is followed
 * by the KEY_SIZE bytes of a key, once the line CONTROL_READY has come. The verb "wait" answers one line at once, and the result of closing the volume when
 * the daemon ends.
 */
#ifndef COFFER_CONTROL_H
#define COFFER_CONTROL_H

#include <jansson.h>
#include <stdbool.h>

#include <coffer/fs.h>
#include <coffer/volume.h>

#define CONTROL_READY "ready for the key"
enum { FREEZE_MAX = 24 * 60 * 60 /* seconds */ };

/* ---- the daemon's side ---- */
struct control;        /* a listening socket and the threads that answer */
struct control_facts { /* what verbs may look at; all of it outlives the control */
	struct volume *volume;
	struct fs *fs;
	struct audit *audit;
	const char *backing, *mountpoint, *state_dir;
	dev_t device; /* of the mount */
	bool writeback;
	int64_t mounted_at; /* seconds since 1970 */
};
/* Listens; -EADDRINUSE: a daemon answers there. */
int control_start(const char *state_dir, const char *backing, struct control **ret);
/* Begins to answer: starts a thread. `f` is copied. */
int control_serve(struct control *c, const struct control_facts *f);
/* Takes the socket away and waits for the verbs under way, but for "wait": nothing uses the volume afterwards. */
void control_stop(struct control *c);
/* Tells everybody who waits how closing the volume went, and frees. NULL is fine. */
void control_free(struct control *c, int result);

/* ---- the other side ---- */
/* -ENOENT or -ECONNREFUSED: no daemon serves that backing directory; -EACCES: one of another user does. */
int control_connect(const char *state_dir, const char *backing, int *ret_fd);
int control_connect_mount(const char *state_dir, dev_t device, int *ret_fd); /* likewise, by the mount */
typedef bool control_line(void *arg, const char *line);                      /* false: enough */
/* Sends a request (a reference is consumed). */
int control_send(int fd, json_t *request);
/* Waits for the answer, handing each line to `line` (may be NULL). *ret_answer (may be NULL) is the caller's to json_decref
 * and NULL on failure. Returns the answer's result; -ECONNRESET: the daemon went away without one;
 * -ECANCELED: `line` had enough. */
int control_receive(int fd, control_line *line, void *arg, json_t **ret_answer);

/* {"volume_id", "format", ..., "scopes": [...]}: what a descriptor says, for status. NULL: no memory. */
json_t *describe_descriptor(const struct descriptor *d);

#endif
