/* An NFS client for tests, by libnfs. */
#ifndef COFFER_TEST_NFS_H
#define COFFER_TEST_NFS_H

#include <stdbool.h>
#include <stdint.h>

#define SERVER "127.0.0.1"

struct client {
	int version;
	const char *export; /* as clients of that version name it */
	const char *hook;   /* command that ends the server and starts it again; NULL: none */
	bool meanwhile;     /* the hook runs while the client goes on */
	struct nfs_context *nfs;
};

/* Reports what failed and ends the program. */
__attribute__((noreturn, format(printf, 2, 3))) void die(struct client *c, const char *format, ...);

void client_connect(struct client *c);
/* Calls the hook. A client of version 3 goes on as it is, one of version 4 begins anew: libnfs does not recover its state. */
void upset(struct client *c);

/* One request of nfsc/libnfs-raw.h at a time. */
struct call {
	struct client *client;
	const char *what; /* for what die() says */
	bool done;
};
struct rpc_context;
struct rpc_context *call_connect(struct call *call, int program, int version);
void call_done(struct call *call, int status, void *data);  /* first thing in a callback */
void call_wait(struct call *call, struct rpc_context *rpc); /* until its callback was called */

/* Lists a directory below the export by single requests, each with the place where the last one ended, with an upset in the
 * middle. Each name is to be one of the numbers 0..count-1, and to come exactly once. */
void list_numbers(struct client *c, const char *dir, unsigned count);

/* Of version 4: opens a new file and writes to it without a commit; after the upset it claims what it had open, as a client does, and
 * learns that it has to write again. */
void reclaim(struct client *c, const char *name);

#endif
