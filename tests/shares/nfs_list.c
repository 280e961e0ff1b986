/* Listing a directory page by page: of version 3 with a file handle that is kept, as clients do, of version 4 by its path. */
#include "nfs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-mount.h>
#include <nfsc/libnfs-raw-nfs.h>
#include <nfsc/libnfs-raw-nfs4.h>

enum { PAGE = 4096 }; /* bytes of a reply, roughly */

struct handle {
	char bytes[NFS3_FHSIZE];
	unsigned length;
};

struct page {
	struct call call;
	unsigned char *seen; /* how often each name came */
	unsigned count, found;
	uint64_t place;
	char verifier[8];
	bool eof;
	struct handle handle; /* version 3's */
};

static void note(struct page *p, const char *name, unsigned length, uint64_t place)
{
	char text[16] = "";
	unsigned number;

	p->place = place;
	if (length <= 2 && !strncmp(name, "..", length))
		return;
	memcpy(text, name, length < sizeof(text) ? length : sizeof(text) - 1);
	number = (unsigned)strtoul(text, NULL, 10);
	if (number >= p->count || p->seen[number]++)
		die(p->call.client, "%s: %s came, which is not there or came before", p->call.what, text);
	p->found++;
}

static void keep_handle(struct page *p, const char *bytes, unsigned length)
{
	if (length > sizeof(p->handle.bytes))
		die(p->call.client, "a file handle of %u bytes", length);
	memcpy(p->handle.bytes, bytes, length);
	p->handle.length = length;
}

static void mounted(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct page *p = arg;
	mountres3 *result = data;

	(void)rpc;
	call_done(&p->call, status, data);
	if (result->fhs_status != MNT3_OK)
		die(p->call.client, "mount of the export: status %d", (int)result->fhs_status);
	keep_handle(p, result->mountres3_u.mountinfo.fhandle.fhandle3_val,
		    result->mountres3_u.mountinfo.fhandle.fhandle3_len);
}

static void looked_up(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct page *p = arg;
	LOOKUP3res *result = data;

	(void)rpc;
	call_done(&p->call, status, data);
	if (result->status != NFS3_OK)
		die(p->call.client, "lookup: %s", nfsstat3_to_str((int)result->status));
	keep_handle(p, result->LOOKUP3res_u.resok.object.data.data_val,
		    result->LOOKUP3res_u.resok.object.data.data_len);
}

static void listed3(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct page *p = arg;
	READDIR3res *result = data;

	(void)rpc;
	call_done(&p->call, status, data);
	if (result->status != NFS3_OK)
		die(p->call.client, "readdir from %llu: %s", (unsigned long long)p->place,
		    nfsstat3_to_str((int)result->status));
	READDIR3resok *ok = &result->READDIR3res_u.resok;

	memcpy(p->verifier, ok->cookieverf, sizeof(p->verifier));
	for (entry3 *e = ok->reply.entries; e; e = e->nextentry)
		note(p, e->name, (unsigned)strlen(e->name), e->cookie);
	p->eof = ok->reply.eof;
}

static void find_handle(struct page *p, const char *dir)
{
	struct rpc_context *rpc = call_connect(&p->call, MOUNT_PROGRAM, MOUNT_V3);

	if (rpc_mount3_mnt_async(rpc, mounted, (char *)(uintptr_t)p->call.client->export, p) != 0)
		die(p->call.client, "cannot ask for the export");
	call_wait(&p->call, rpc);
	rpc_destroy_context(rpc);

	rpc = call_connect(&p->call, NFS_PROGRAM, NFS_V3);
	struct handle root = p->handle;
	LOOKUP3args args = { .what = { .dir.data = { root.length, root.bytes }, .name = (char *)(uintptr_t)dir } };

	if (rpc_nfs3_lookup_async(rpc, looked_up, &args, p) != 0)
		die(p->call.client, "cannot look up %s", dir);
	call_wait(&p->call, rpc);
	rpc_destroy_context(rpc);
}

static void list_page3(struct page *p)
{
	struct rpc_context *rpc = call_connect(&p->call, NFS_PROGRAM, NFS_V3);
	READDIR3args args = { .dir.data = { p->handle.length, p->handle.bytes }, .cookie = p->place, .count = PAGE };

	memcpy(args.cookieverf, p->verifier, sizeof(p->verifier));
	p->call.what = "readdir";
	if (rpc_nfs3_readdir_async(rpc, listed3, &args, p) != 0)
		die(p->call.client, "cannot list");
	call_wait(&p->call, rpc);
	rpc_destroy_context(rpc);
}

static void listed4(struct rpc_context *rpc, int status, void *data, void *arg)
{
	struct page *p = arg;
	COMPOUND4res *result = data;

	(void)rpc;
	call_done(&p->call, status, data);
	if (result->status != NFS4_OK)
		die(p->call.client, "readdir from %llu: status %d", (unsigned long long)p->place, (int)result->status);
	READDIR4resok *ok = &result->resarray.resarray_val[result->resarray.resarray_len - 1]
				     .nfs_resop4_u.opreaddir.READDIR4res_u.resok4;

	memcpy(p->verifier, ok->cookieverf, sizeof(p->verifier));
	for (entry4 *e = ok->reply.entries; e; e = e->nextentry)
		note(p, e->name.utf8string_val, e->name.utf8string_len, e->cookie);
	p->eof = ok->reply.eof;
}

static void list_page4(struct page *p, const char *dir)
{
	char export[256], *at = export;
	nfs_argop4 ops[8] = { { .argop = OP_PUTROOTFH } };
	COMPOUND4args args = { .argarray = { 1, ops } };
	struct rpc_context *rpc = call_connect(&p->call, NFS4_PROGRAM, NFS_V4);

	snprintf(export, sizeof(export), "%s/%s", p->call.client->export, dir);
	for (char *part; (part = strsep(&at, "/")) && args.argarray.argarray_len < 7;) {
		if (!part[0])
			continue;
		nfs_argop4 *op = &ops[args.argarray.argarray_len++];

		op->argop = OP_LOOKUP;
		op->nfs_argop4_u.oplookup.objname = (component4){ (unsigned)strlen(part), part };
	}
	nfs_argop4 *op = &ops[args.argarray.argarray_len++];

	op->argop = OP_READDIR;
	op->nfs_argop4_u.opreaddir = (READDIR4args){ .cookie = p->place, .dircount = PAGE, .maxcount = PAGE };
	memcpy(op->nfs_argop4_u.opreaddir.cookieverf, p->verifier, sizeof(p->verifier));
	p->call.what = "readdir";
	if (rpc_nfs4_compound_async(rpc, listed4, &args, p) != 0)
		die(p->call.client, "cannot list");
	call_wait(&p->call, rpc);
	rpc_destroy_context(rpc);
}

void list_numbers(struct client *c, const char *dir, unsigned count)
{
	struct page p = { .call.client = c, .count = count, .seen = calloc(count, 1) };
	bool was_upset = false;
	unsigned pages = 0;

	if (!p.seen)
		die(c, "no memory");
	if (c->version == 3)
		find_handle(&p, dir);
	while (!p.eof) {
		if (c->version == 3)
			list_page3(&p);
		else
			list_page4(&p, dir);
		pages++;
		if (!was_upset && p.found >= count / 2) {
			was_upset = true;
			upset(c);
		}
	}
	if (p.found != count || pages < 10)
		die(c, "%u of %u names in %u pages", p.found, count, pages);
	printf("%u names in %u pages\n", p.found, pages);
	free(p.seen);
}
