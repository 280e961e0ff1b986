/* The audit trail of a volume: what was done with its keys, who asked, and what came of it, as JSON lines in a keyed chain.
 *
 * The lines are in STATE_DIR/audit/VOLUME-NAME/, NAME for the backing directory's path. The last ones are kept in the backing
 * directory, too (AUDIT_HEAD_NAME): so lines that are cut off are missed. Format, order of writes and what each crash leaves:
 * src/key/FORMAT.md. Functions return 0 or -errno, logged once. Thread-safe but for opening and closing; several processes may
 * record to one trail. Nothing is kept in memory between two calls but keys and names.
 */
#ifndef COFFER_AUDIT_H
#define COFFER_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <coffer/crypto.h>

#define AUDIT_HEAD_NAME "coffer.audit"
enum { AUDIT_KEEP = 64 /* files of a trail, by default */ };

struct audit;
struct audit_place {
	const char *state_dir;
	int backing_fd; /* stays the caller's, and open */
	const uint8_t *volume_id;
	bool read_only; /* nothing is written to the backing directory */
	bool accept;    /* the administrator takes a trail that does not go with its head as it is */
	unsigned keep;  /* files of about 1 MiB; the oldest is removed when there are more; 0: never */
};
/* Writes nothing yet. `structure` (of keys_structure) NULL: only for audit_read, which then checks nothing. */
int audit_open(const struct kdf *structure, const struct audit_place *p, struct audit **ret);
void audit_close(struct audit *a); /* NULL is fine */

struct audit_requester {
	uid_t uid;
	pid_t pid;
};
/* Texts may hold anything: they cannot break a line, and are cut to 1023 bytes. NULL, and 0 for the version: there is none. */
struct audit_event {
	const char *event;            /* e.g. "scope-unlocked"; those of the trail itself begin with "trail-" */
	const char *scope;            /* its name; NULL: the volume as a whole */
	const char *key_source, *key; /* URI; what the provider calls the key */
	uint32_t key_version;
	const struct audit_requester *requester; /* NULL: the daemon itself */
	int outcome;                             /* 0 or -errno */
	const char *detail;
};
/* Appends the events in one go and makes them durable: three syncs or so, together. A NULL `a` records nothing.
 * After an error they may be in the trail or not, and the caller decides: what a person asked for fails, and is not done if it
 * can still be left; what the daemon does by itself, such as a revocation, goes on. */
int audit_record(struct audit *a, const struct audit_event *events, size_t count);

struct audit_result {
	uint64_t lines, first, last; /* authentic lines, numbers of the first and the last */
	uint64_t errors;
};
/* Walks the trail, oldest line first. Hands out findings, each a text that begins with "error: " or "note: ", and, where `lines`
 * says so, each line: a JSON object in one line of text; one that was altered as {"altered": true, "file", "line", "text"}. */
typedef void audit_text(void *arg, const char *text);
int audit_read(struct audit *a, bool lines, audit_text *call, void *arg, struct audit_result *ret);

#endif
