/* Single requests, for what libnfs has no function. */
#include "nfs.h"

#include <poll.h>

#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>

void call_done(struct call *call, int status, void *data)
{
	if (status != RPC_STATUS_SUCCESS)
		die(call->client, "%s: %s", call->what, data ? (char *)data : "no answer");
	call->done = true;
}

void call_wait(struct call *call, struct rpc_context *rpc)
{
	while (!call->done) {
		struct pollfd poller = { .fd = rpc_get_fd(rpc), .events = (short)rpc_which_events(rpc) };

		if (poll(&poller, 1, 1000) < 0 || rpc_service(rpc, poller.revents) < 0)
			die(call->client, "%s: %s", call->what, rpc_get_error(rpc));
	}
	call->done = false;
}

static void connected(struct rpc_context *rpc, int status, void *data, void *arg)
{
	(void)rpc;
	call_done(arg, status, data);
}

struct rpc_context *call_connect(struct call *call, int program, int version)
{
	struct rpc_context *rpc = rpc_init_context();

	call->what = "connect";
	if (!rpc || rpc_connect_program_async(rpc, SERVER, program, version, connected, call) != 0)
		die(call->client, "cannot connect");
	call_wait(call, rpc);
	return rpc;
}
