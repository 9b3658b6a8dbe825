/*-------------------------------------------------------------------------
 *
 * local.c
 *		The peer that is a document table of this database.
 *
 * Requests are carried out when their answers are asked for, each in a
 * transaction of its own that finds the table again by its uuid: between two
 * of them anyone may alter, rename or drop it.  Only the contents of
 * attachments are brought to it before, when a write is sent.
 *
 * What it does as a source, and its local documents, are in local_source.c and
 * local_documents.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "peer/io.h"
#include "peer/local.h"
#include "peer/peers.h"
#include "pgstat.h"
#include "store/fence.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* ---------- transactions ---------- */

void
docrep_local_in_transaction(LocalPeer *peer, const char *activity, LocalWork work, void *arg)
{
	MemoryContext cxt = CurrentMemoryContext;

	/* what is on its way to the other peer may go on */
	docrep_io_pump();

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, activity);
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		work(peer, arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		pgstat_report_activity(STATE_IDLE, NULL);
		MemoryContextSwitchTo(cxt);
		ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
}

/* ---------- opening and closing ---------- */

static void
open_table(LocalPeer *peer, void *arg)
{
	bool		create = *(bool *) arg;
	DocTable   *table;
	char	   *uuid;

	docrep_serve_prepare();
	if (strchr(peer->spec, '.') != NULL)
		(void) docrep_serve_find(peer->spec, create, &peer->table);
	else
		peer->table = *DatumGetUUIDP(DirectFunctionCall1(uuid_in,
														 CStringGetDatum(peer->spec)));
	table = docrep_serve_open(&peer->table, AccessShareLock, 0);
	docrep_table_close(table, NoLock);

	uuid = DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&peer->table)));
	peer->base.uuid = MemoryContextStrdup(peer->base.cxt, uuid);
	peer->base.identity = MemoryContextStrdup(peer->base.cxt, psprintf("local:%s", uuid));
}

static void
local_open(DocrepPeer *base, bool create)
{
	docrep_local_in_transaction((LocalPeer *) base, "docrep: opening a table", open_table, &create);
}

static void
stop_watching(LocalPeer *peer)
{
	if (peer->watching)
		docrep_watch_end(&peer->watch);
	peer->watching = false;
}

/* Neither a watch nor a fence outlives the peer. */
static void
end_of_peer(LocalPeer *peer)
{
	stop_watching(peer);
	if (peer->fenced)
		docrep_fence_set(&peer->table, NULL, NULL);
	peer->fenced = false;
}

/* Runs when the peer's context is deleted. */
static void
end_of_peer_callback(void *arg)
{
	end_of_peer(arg);
}

static void
local_close(DocrepPeer *base)
{
	end_of_peer((LocalPeer *) base);
}

/* ---------- the target's side ---------- */

static void
local_send_diff(DocrepPeer *base, DocrepChanges *changes)
{
	LocalPeer  *peer = (LocalPeer *) base;

	docrep_request_push(&peer->requests, base->cxt, REQUEST_DIFF)->changes = changes;
}

static void
diff_changes(LocalPeer *peer, void *arg)
{
	LocalAnswer *answer = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	docrep_batch_diff(table, answer->changes);
	docrep_table_close(table, NoLock);
}

static void
local_recv_diff(DocrepPeer *base, DocrepChanges *changes)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalAnswer		answer = {.changes = changes};

	answer.request = docrep_request_head(&peer->requests, REQUEST_DIFF);
	docrep_local_in_transaction(peer, "docrep: comparing revisions", diff_changes, &answer);
	docrep_request_drop(answer.request);
}

static void
local_send_write(DocrepPeer *base, DocrepDocs *docs, DocrepPeer *source,
				 const DocrepWriteOrigin *origin, const char *local_id, const char *local_doc)
{
	LocalPeer  *peer = (LocalPeer *) base;
	DocrepRequest *request;

	docrep_upload_contents(base, &docrep_local_upload_ops, docs, source);
	request = docrep_request_push(&peer->requests, base->cxt, REQUEST_WRITE);
	request->docs = docs;
	request->origin = origin;
	request->local_id = local_id;
	request->local_doc = local_doc;
}

static void
write_docs(LocalPeer *peer, void *arg)
{
	LocalAnswer *answer = arg;
	DocrepRequest *request = answer->request;

	docrep_serve_write(&peer->table, answer->docs, request->origin,
					   request->local_id, request->local_doc);
}

static void
local_recv_write(DocrepPeer *base, DocrepDocs *docs)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalAnswer		answer = {.docs = docs};

	answer.request = docrep_request_head(&peer->requests, REQUEST_WRITE);
	docrep_local_in_transaction(peer, "docrep: writing documents", write_docs, &answer);
	docrep_request_drop(answer.request);
}

static void
flush_writes(LocalPeer *peer, void *arg)
{
	docrep_serve_flush();
}

static void
local_flush(DocrepPeer *base)
{
	docrep_local_in_transaction((LocalPeer *) base, "docrep: flushing", flush_writes, NULL);
}

static const DocrepPeerOps local_ops = {
	.kind = "local",
	.keeps_refused = true,
	.swaps = true,
	.tells_known = true,
	.tells_times = true,
	.open = local_open,
	.close = local_close,
	.get_local = docrep_local_get_local,
	.put_local = docrep_local_put_local,
	.swap_local = docrep_local_swap_local,
	.fence = docrep_local_fence,
	.filter_identity = docrep_local_filter_identity,
	.send_changes = docrep_local_send_changes,
	.recv_changes = docrep_local_recv_changes,
	.hold_versions = docrep_local_hold_versions,
	.send_fetch = docrep_local_send_fetch,
	.recv_fetch = docrep_local_recv_fetch,
	.open_att = docrep_local_open_att,
	.read_att = docrep_local_read_att,
	.close_att = docrep_local_close_att,
	.send_wait = docrep_local_send_wait,
	.recv_wait = docrep_local_recv_wait,
	.wait_place = docrep_local_wait_place,
	.send_diff = local_send_diff,
	.recv_diff = local_recv_diff,
	.send_write = local_send_write,
	.recv_write = local_recv_write,
	.flush = local_flush,
	.versions_have = docrep_local_versions_have,
	.versions_read = docrep_local_versions_read,
	.versions_write = docrep_local_versions_write,
};

DocrepPeer *
docrep_local_peer_make(const DocrepEndpoint *endpoint, MemoryContext cxt)
{
	LocalPeer  *peer = MemoryContextAllocZero(cxt, sizeof(LocalPeer));
	MemoryContextCallback *callback = MemoryContextAllocZero(cxt, sizeof(*callback));

	peer->base.ops = &local_ops;
	peer->base.atomic_checkpoint = true;
	peer->spec = MemoryContextStrdup(cxt, endpoint->spec);
	dlist_init(&peer->requests);
	callback->func = end_of_peer_callback;
	callback->arg = peer;
	MemoryContextRegisterResetCallback(cxt, callback);
	return &peer->base;
}
