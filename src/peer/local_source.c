/*-------------------------------------------------------------------------
 *
 * local_source.c
 *		A table of this database as a source: changes, documents, and waiting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "peer/local.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

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

char *
docrep_local_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter)
{
	FilterQuestion question = {filter, CurrentMemoryContext, NULL};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: looking at a filter",
								identify_filter, &question);
	return question.identity;
}

void
docrep_local_send_changes(DocrepPeer *base, const DocrepChangesRequest *request)
{
	LocalPeer  *peer = (LocalPeer *) base;

	docrep_request_push(&peer->requests, base->cxt, REQUEST_CHANGES)->changes_request = request;
}

static void
read_changes(LocalPeer *peer, void *arg)
{
	LocalAnswer *answer = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);
	const DocrepChangesRequest *request = answer->request->changes_request;
	DocrepFilter *filter = docrep_filter_compile(request->filter, table);

	docrep_batch_changes(table, request, docrep_filter_for_feed(filter, !request->winners_only),
						 answer->changes);
	docrep_table_close(table, NoLock);
}

void
docrep_local_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalAnswer		answer = {.changes = out};

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

bool
docrep_local_hold_versions(DocrepPeer *base, const char *holder, int64 ms)
{
	VersionsHold hold = {.holder = holder, .keep = {.time = ms * 1000}};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: holding versions", hold_versions,
								&hold);
	return hold.held;
}

void
docrep_local_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest)
{
	LocalPeer  *peer = (LocalPeer *) base;
	DocrepRequest *request = docrep_request_push(&peer->requests, base->cxt, REQUEST_FETCH);

	request->changes = changes;
	request->latest = latest;
}

static void
fetch_docs(LocalPeer *peer, void *arg)
{
	LocalAnswer *answer = arg;
	DocrepRequest *request = answer->request;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	answer->flag = docrep_batch_fetch(table, request->changes, request->latest, &request->row,
									  &request->rev, answer->max_bytes, answer->docs);
	docrep_table_close(table, NoLock);
}

bool
docrep_local_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalAnswer		answer = {.docs = out, .max_bytes = max_bytes};

	answer.request = docrep_request_head(&peer->requests, REQUEST_FETCH);
	docrep_local_in_transaction(peer, "docrep: fetching revisions", fetch_docs, &answer);
	if (!answer.flag)
		docrep_request_drop(answer.request);
	return answer.flag;
}

/* ---------- waiting ---------- */

void
docrep_local_send_wait(DocrepPeer *base, const char *since, int timeout)
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
	LocalAnswer *answer = arg;

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

bool
docrep_local_recv_wait(DocrepPeer *base)
{
	LocalPeer  *peer = (LocalPeer *) base;
	LocalAnswer		answer = {0};
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

bool
docrep_local_wait_place(DocrepPeer *base, const char *since, DocrepWaitPlace *place)
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
