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
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "filter/filter.h"
#include "miscadmin.h"
#include "peer/local.h"
#include "peer/peers.h"
#include "peer/io.h"
#include "peer/requests.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "store/fence.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
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

/* ---------- local documents ---------- */

typedef struct LocalDocument
{
	const char *id;
	const char *doc;			/* to be written */
	char	   *found;
	MemoryContext cxt;			/* of found */
} LocalDocument;

static void
get_local(LocalPeer *peer, void *arg)
{
	LocalDocument *local = arg;
	Jsonb	   *doc = docrep_serve_get_local(&peer->table, local->id);

	if (doc != NULL)
		local->found = MemoryContextStrdup(local->cxt,
										   JsonbToCString(NULL, &doc->root, VARSIZE(doc)));
}

static char *
local_get_local(DocrepPeer *base, const char *id)
{
	LocalDocument local = {.id = id, .cxt = CurrentMemoryContext};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: reading a local document", get_local, &local);
	return local.found;
}

static void
put_local(LocalPeer *peer, void *arg)
{
	LocalDocument *local = arg;
	Datum		doc = DirectFunctionCall1(jsonb_in, CStringGetDatum(local->doc));

	docrep_serve_put_local(&peer->table, local->id, DatumGetJsonbP(doc));
}

static void
local_put_local(DocrepPeer *base, const char *id, const char *doc)
{
	LocalDocument local = {.id = id, .doc = doc};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: writing a local document", put_local, &local);
}

typedef struct LocalSwap
{
	const char *id;
	const char *expected;		/* or NULL */
	const char *doc;
	bool		done;
} LocalSwap;

static Jsonb *
jsonb_of(const char *text)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

static void
swap_local(LocalPeer *peer, void *arg)
{
	LocalSwap  *swap = arg;

	swap->done = docrep_serve_swap_local(&peer->table, swap->id,
										 swap->expected ? jsonb_of(swap->expected) : NULL,
										 jsonb_of(swap->doc));
}

static bool
local_swap_local(DocrepPeer *base, const char *id, const char *expected, const char *doc)
{
	LocalSwap	swap = {.id = id, .expected = expected, .doc = doc};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: writing a local document",
								swap_local, &swap);
	return swap.done;
}

/* The fence is this process's: it ends when the peer is closed. */
static void
local_fence(DocrepPeer *base, const char *id, const char *token)
{
	LocalPeer  *peer = (LocalPeer *) base;

	peer->fenced = true;
	docrep_fence_set(&peer->table, id, token);
}

/* ---------- the source's side ---------- */

/* Where the answer to a request goes. */
typedef struct Answer
{
	DocrepRequest *request;
	DocrepChanges *changes;
	DocrepDocs *docs;
	Size		max_bytes;
	bool		flag;
} Answer;

/* What a filter is, and its identity in the caller's memory. */
typedef struct FilterQuestion
{
	const DocrepFilterSpec *filter;
	MemoryContext cxt;
	char	   *identity;
} FilterQuestion;

static void
identify_filter(LocalPeer *peer, void *arg)
{
	FilterQuestion *question = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	question->identity = MemoryContextStrdup(question->cxt,
											 docrep_filter_identity(question->filter, table));
	docrep_table_close(table, NoLock);
}

static char *
local_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter)
{
	FilterQuestion question = {filter, CurrentMemoryContext, NULL};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: looking at a filter",
								identify_filter, &question);
	return question.identity;
}

static void
local_send_changes(DocrepPeer *base, const DocrepChangesRequest *request)
{
	LocalPeer  *peer = (LocalPeer *) base;

	docrep_request_push(&peer->requests, base->cxt, REQUEST_CHANGES)->changes_request = request;
}

static void
read_changes(LocalPeer *peer, void *arg)
{
	Answer	   *answer = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);
	const DocrepChangesRequest *request = answer->request->changes_request;
	DocrepFilter *filter = docrep_filter_compile(request->filter, table);

	docrep_batch_changes(table, request, docrep_filter_for_feed(filter, !request->winners_only),
						 answer->changes);
	docrep_table_close(table, NoLock);
}

static void
local_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	LocalPeer  *peer = (LocalPeer *) base;
	Answer		answer = {.changes = out};

	answer.request = docrep_request_head(&peer->requests, REQUEST_CHANGES);
	docrep_local_in_transaction(peer, "docrep: reading changes", read_changes, &answer);
	docrep_request_drop(answer.request);
}

typedef struct VersionsHold
{
	const char *holder;
	Interval	keep;
	bool		held;
} VersionsHold;

static void
hold_versions(LocalPeer *peer, void *arg)
{
	VersionsHold *hold = arg;
	DocTable   *table;

	if (RecoveryInProgress())
		return;
	table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);
	hold->held = docrep_revisions_hold(table, hold->holder, &hold->keep);
	docrep_table_close(table, NoLock);
}

static bool
local_hold_versions(DocrepPeer *base, const char *holder, int64 ms)
{
	VersionsHold hold = {.holder = holder, .keep = {.time = ms * 1000}};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: holding versions", hold_versions,
								&hold);
	return hold.held;
}

static void
local_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest)
{
	LocalPeer  *peer = (LocalPeer *) base;
	DocrepRequest *request = docrep_request_push(&peer->requests, base->cxt, REQUEST_FETCH);

	request->changes = changes;
	request->latest = latest;
}

static void
fetch_docs(LocalPeer *peer, void *arg)
{
	Answer	   *answer = arg;
	DocrepRequest *request = answer->request;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	answer->flag = docrep_batch_fetch(table, request->changes, request->latest, &request->row,
									  &request->rev, answer->max_bytes, answer->docs);
	docrep_table_close(table, NoLock);
}

static bool
local_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out)
{
	LocalPeer  *peer = (LocalPeer *) base;
	Answer		answer = {.docs = out, .max_bytes = max_bytes};

	answer.request = docrep_request_head(&peer->requests, REQUEST_FETCH);
	docrep_local_in_transaction(peer, "docrep: fetching revisions", fetch_docs, &answer);
	if (!answer.flag)
		docrep_request_drop(answer.request);
	return answer.flag;
}

/* ---------- waiting ---------- */

static void
local_send_wait(DocrepPeer *base, const char *since, int timeout)
{
	LocalPeer  *peer = (LocalPeer *) base;
	DocrepRequest *request = docrep_request_push(&peer->requests, base->cxt, REQUEST_WAIT);

	request->since = MemoryContextStrdup(base->cxt, since);
	request->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
}

/* Look for changes after the seq, and first of all watch the table. */
static void
look_for_change(LocalPeer *peer, void *arg)
{
	Answer	   *answer = arg;

	if (!answer->request->begun)
	{
		docrep_watch_begin(&peer->watch, &peer->table, answer->request->since);
		peer->watching = true;
		answer->request->begun = true;
	}
	answer->flag = docrep_watch_changed(&peer->watch);
}

/*
 * Sleep until something is committed to the table.  False: the time is up, or
 * the latch was set for something that is not ours to know.
 */
static bool
sleep_until_commit(LocalPeer *peer, uint64 commits, TimestampTz deadline)
{
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		int			happened;

		if (docrep_watch_commits(&peer->watch) != commits)
			return true;
		if (left <= 0)
			return false;
		happened = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 left, PG_WAIT_EXTENSION);
		if (happened & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			return docrep_watch_commits(&peer->watch) != commits;
		}
	}
}

static bool
local_recv_wait(DocrepPeer *base)
{
	LocalPeer  *peer = (LocalPeer *) base;
	Answer		answer = {0};
	uint64		commits = 0;

	answer.request = docrep_request_head(&peer->requests, REQUEST_WAIT);
	do
	{
		if (answer.request->begun)
			commits = docrep_watch_commits(&peer->watch);
		docrep_local_in_transaction(peer, "docrep: waiting for changes", look_for_change, &answer);
	}
	while (!answer.flag && sleep_until_commit(peer, commits, answer.request->deadline));
	docrep_request_drop(answer.request);
	return answer.flag;
}

/* Is nothing after the seq, and at which count of commits was that so? */
typedef struct QuietLook
{
	const char *since;
	uint64		commits;
	bool		quiet;
} QuietLook;

static void
look_for_quiet(LocalPeer *peer, void *arg)
{
	QuietLook  *look = arg;

	docrep_watch_begin(&peer->watch, &peer->table, look->since);
	peer->watching = true;
	look->commits = docrep_watch_commits(&peer->watch);
	look->quiet = !docrep_watch_changed(&peer->watch);
}

static bool
local_wait_place(DocrepPeer *base, const char *since, DocrepWaitPlace *place)
{
	LocalPeer  *peer = (LocalPeer *) base;
	QuietLook	look = {.since = since};

	docrep_local_in_transaction(peer, "docrep: waiting for changes", look_for_quiet, &look);
	memset(place, 0, sizeof(*place));
	place->local = true;
	place->database = MyDatabaseId;
	place->table = peer->table;
	place->commits = look.commits;
	return look.quiet;
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
	Answer	   *answer = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	docrep_batch_diff(table, answer->changes);
	docrep_table_close(table, NoLock);
}

static void
local_recv_diff(DocrepPeer *base, DocrepChanges *changes)
{
	LocalPeer  *peer = (LocalPeer *) base;
	Answer		answer = {.changes = changes};

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
	Answer	   *answer = arg;
	DocrepRequest *request = answer->request;

	docrep_serve_write(&peer->table, answer->docs, request->origin,
					   request->local_id, request->local_doc);
}

static void
local_recv_write(DocrepPeer *base, DocrepDocs *docs)
{
	LocalPeer  *peer = (LocalPeer *) base;
	Answer		answer = {.docs = docs};

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
	.get_local = local_get_local,
	.put_local = local_put_local,
	.swap_local = local_swap_local,
	.fence = local_fence,
	.filter_identity = local_filter_identity,
	.send_changes = local_send_changes,
	.recv_changes = local_recv_changes,
	.hold_versions = local_hold_versions,
	.send_fetch = local_send_fetch,
	.recv_fetch = local_recv_fetch,
	.open_att = docrep_local_open_att,
	.read_att = docrep_local_read_att,
	.close_att = docrep_local_close_att,
	.send_wait = local_send_wait,
	.recv_wait = local_recv_wait,
	.wait_place = local_wait_place,
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
