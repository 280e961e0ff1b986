/* What a client of NFSv4 does when its server was started again: it makes itself known, claims the files that it had open, and sends
 * what was not committed once more. */
#include "nfs.h"

#include <stdlib.h>
#include <string.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs4.h>

enum { BOTH = OPEN4_SHARE_ACCESS_BOTH, BYTES = 1000 };

struct state {
	struct call call;
	nfsstat4 status;
	clientid4 id;
	verifier4 confirm;
	char handle[NFS4_FHSIZE];
	unsigned handle_length;
	stateid4 open;
	bool unconfirmed;
	verifier4 written, committed;
};

/* Keeps what each operation of a compound answered. */
static void answered(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct state *s = arg;
	COMPOUND4res *result = data;

	(void)rpc;
	call_done(&s->call, status, data);
	s->status = result->status;
	if (result->status != NFS4_OK)
		return;
	for (unsigned i = 0; i < result->resarray.resarray_len; i++) {
		nfs_resop4 *op = &result->resarray.resarray_val[i];

		switch (op->resop) {
		case OP_SETCLIENTID: {
			SETCLIENTID4resok *ok = &op->nfs_resop4_u.opsetclientid.SETCLIENTID4res_u.resok4;

			s->id = ok->clientid;
			memcpy(s->confirm, ok->setclientid_confirm, sizeof(s->confirm));
			break;
		}
		case OP_GETFH: {
			nfs_fh4 *handle = &op->nfs_resop4_u.opgetfh.GETFH4res_u.resok4.object;

			s->handle_length = handle->nfs_fh4_len;
			memcpy(s->handle, handle->nfs_fh4_val, handle->nfs_fh4_len);
			break;
		}
		case OP_OPEN:
			s->open = op->nfs_resop4_u.opopen.OPEN4res_u.resok4.stateid;
			s->unconfirmed = op->nfs_resop4_u.opopen.OPEN4res_u.resok4.rflags & OPEN4_RESULT_CONFIRM;
			break;
		case OP_OPEN_CONFIRM:
			s->open = op->nfs_resop4_u.opopen_confirm.OPEN_CONFIRM4res_u.resok4.open_stateid;
			break;
		case OP_WRITE:
			memcpy(s->written, op->nfs_resop4_u.opwrite.WRITE4res_u.resok4.writeverf, sizeof(s->written));
			break;
		case OP_COMMIT:
			memcpy(s->committed, op->nfs_resop4_u.opcommit.COMMIT4res_u.resok4.writeverf,
			       sizeof(s->committed));
			break;
		default:
			break;
		}
	}
}

static nfsstat4 ask(struct state *s, const char *what, nfs_argop4 *ops, unsigned count)
{
	COMPOUND4args args = { .argarray = { count, ops } };
	struct rpc_context *rpc = call_connect(&s->call, NFS4_PROGRAM, NFS_V4);

	s->call.what = what;
	if (rpc_nfs4_compound_async(rpc, answered, &args, s) != 0)
		die(s->call.client, "cannot ask for %s", what);
	call_wait(&s->call, rpc);
	rpc_destroy_context(rpc);
	return s->status;
}

static void must(struct state *s, const char *what, nfs_argop4 *ops, unsigned count)
{
	nfsstat4 status = ask(s, what, ops, count);

	if (status != NFS4_OK)
		die(s->call.client, "%s: status %d", what, (int)status);
}

static nfs_argop4 putfh(struct state *s)
{
	nfs_argop4 op = { .argop = OP_PUTFH };

	op.nfs_argop4_u.opputfh.object = (nfs_fh4){ s->handle_length, s->handle };
	return op;
}

static void introduce(struct state *s)
{
	static char name[] = "coffer's test", network[] = "tcp", nowhere[] = "0.0.0.0.0.0";
	nfs_argop4 op = { .argop = OP_SETCLIENTID };
	SETCLIENTID4args *args = &op.nfs_argop4_u.opsetclientid;

	args->client.id.id_len = sizeof(name) - 1;
	args->client.id.id_val = name;
	args->callback.cb_location = (clientaddr4){ network, nowhere };
	must(s, "SETCLIENTID", &op, 1);

	op = (nfs_argop4){ .argop = OP_SETCLIENTID_CONFIRM };
	op.nfs_argop4_u.opsetclientid_confirm.clientid = s->id;
	memcpy(op.nfs_argop4_u.opsetclientid_confirm.setclientid_confirm, s->confirm, sizeof(s->confirm));
	must(s, "SETCLIENTID_CONFIRM", &op, 1);
}

static void open_file(struct state *s, const char *what, nfs_argop4 *ops, unsigned count)
{
	static char owner[] = "owner";
	OPEN4args *args = &ops[count - 2].nfs_argop4_u.opopen;

	ops[count - 2].argop = OP_OPEN;
	args->seqid = 1;
	args->share_access = BOTH;
	args->owner.clientid = s->id;
	args->owner.owner.owner_len = sizeof(owner) - 1;
	args->owner.owner.owner_val = owner;
	ops[count - 1].argop = OP_GETFH;
	must(s, what, ops, count);
	if (!s->unconfirmed)
		return;
	nfs_argop4 confirm[2] = { putfh(s), { .argop = OP_OPEN_CONFIRM } };

	confirm[1].nfs_argop4_u.opopen_confirm.open_stateid = s->open;
	confirm[1].nfs_argop4_u.opopen_confirm.seqid = 2;
	must(s, "OPEN_CONFIRM", confirm, 2);
}

static void open_new(struct state *s, const char *name)
{
	nfs_argop4 ops[4] = { { .argop = OP_PUTROOTFH }, { .argop = OP_LOOKUP } };
	char *export = (char *)(uintptr_t)s->call.client->export + 1, *file = (char *)(uintptr_t)name;

	ops[1].nfs_argop4_u.oplookup.objname = (component4){ (unsigned)strlen(export), export };
	ops[2].nfs_argop4_u.opopen.openhow.opentype = OPEN4_CREATE;
	ops[2].nfs_argop4_u.opopen.claim.open_claim4_u.file = (component4){ (unsigned)strlen(file), file };
	open_file(s, "OPEN", ops, 4);
}

static void open_again(struct state *s)
{
	nfs_argop4 ops[3] = { putfh(s) };

	ops[1].nfs_argop4_u.opopen.openhow.opentype = OPEN4_NOCREATE;
	ops[1].nfs_argop4_u.opopen.claim.claim = CLAIM_PREVIOUS;
	open_file(s, "OPEN, to claim", ops, 3);
}

static nfs_argop4 write_op(struct state *s, char *data)
{
	nfs_argop4 op = { .argop = OP_WRITE };

	op.nfs_argop4_u.opwrite.stateid = s->open;
	op.nfs_argop4_u.opwrite.stable = UNSTABLE4;
	op.nfs_argop4_u.opwrite.data.data_len = BYTES;
	op.nfs_argop4_u.opwrite.data.data_val = data;
	return op;
}

void reclaim(struct client *c, const char *name)
{
	struct state s = { .call.client = c };
	char data[BYTES];
	verifier4 before;

	memset(data, 'r', sizeof(data));
	introduce(&s);
	open_new(&s, name);
	nfs_argop4 first[2] = { putfh(&s), write_op(&s, data) };

	must(&s, "WRITE", first, 2);
	memcpy(before, s.written, sizeof(before));
	upset(c);
	if (ask(&s, "WRITE with what the old server gave", first, 2) == NFS4_OK)
		die(c, "a server that was restarted knows what was open");
	introduce(&s);
	open_again(&s);
	nfs_argop4 again[3] = { putfh(&s), write_op(&s, data), { .argop = OP_COMMIT } };

	must(&s, "WRITE and COMMIT", again, 3);
	if (!memcmp(before, s.written, sizeof(before)) || memcmp(s.written, s.committed, sizeof(s.written)) != 0)
		die(c, "the server does not say that what was not committed is to be sent again");
	nfs_argop4 close[2] = { putfh(&s), { .argop = OP_CLOSE } };

	close[1].nfs_argop4_u.opclose.open_stateid = s.open;
	close[1].nfs_argop4_u.opclose.seqid = s.unconfirmed ? 3 : 2;
	must(&s, "CLOSE", close, 2);
}
