/*-------------------------------------------------------------------------
 *
 * couchdb_calls.c
 *		The calls that fetch revisions from a CouchDB: what they ask for, and
 *		how many are under way.
 *
 * Calls that rest keep their connections.  So what must go on while others rest
 * has connections of its own: half of http_connections are for contents, and
 * fetches behind the first one use half of the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_fetch.h"
#include "peer/couchdb_target.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Documents of one _bulk_get. */
#define BULK_ROWS			100
/* A _bulk_get that fails is repeated so often before documents are asked for singly. */
#define BULK_RETRIES		2
/* A URL that is longer than this is not sent: its revisions are split. */
#define MAX_URL				7000

CouchFetcher *
docrep_couch_fetcher(CouchPeer *peer)
{
	if (peer->fetcher == NULL)
	{
		peer->fetcher = MemoryContextAllocZero(peer->base.cxt, sizeof(CouchFetcher));
		dlist_init(&peer->fetcher->fetches);
		if (!peer->base.options.use_bulk_get)
			peer->fetcher->no_bulk_until = DT_NOEND;
	}
	return peer->fetcher;
}

static bool
may_use_bulk(const CouchFetcher *fetcher)
{
	return fetcher->no_bulk_until == 0 || GetCurrentTimestamp() >= fetcher->no_bulk_until;
}

void
docrep_couch_note_held(FetchCall *fc, Size held)
{
	CouchFetcher *fetcher = docrep_couch_fetcher(fc->fetch->peer);

	fetcher->held += held - fc->held;
	fc->held = held;
	if (held == 0 && fetcher->greedy == fc)
		fetcher->greedy = NULL;
}

/* ---------- calls ---------- */

/* A call for up to max wants, in a context of its own; it is not started. */
static FetchCall *
new_call(CouchFetch *fetch, bool bulk, int max)
{
	MemoryContext cxt = AllocSetContextCreate(fetch->cxt, "docrep fetch call",
											  ALLOCSET_DEFAULT_SIZES);
	FetchCall  *fc = MemoryContextAllocZero(cxt, sizeof(FetchCall));

	fc->cxt = cxt;
	fc->fetch = fetch;
	fc->bulk = bulk;
	fc->wants = MemoryContextAllocZero(cxt, max * sizeof(CouchWant *));
	dlist_push_tail(&fetch->calls, &fc->link);
	fetch->ncalls++;
	docrep_couch_fetcher(fetch->peer)->ncalls++;
	return fc;
}

void
docrep_couch_drop_call(FetchCall *fc)
{
	docrep_couch_note_held(fc, 0);
	dlist_delete(&fc->link);
	fc->fetch->ncalls--;
	docrep_couch_fetcher(fc->fetch->peer)->ncalls--;
	MemoryContextDelete(fc->cxt);
}

/* Start it; the current context is the call's. */
static void
start_call(FetchCall *fc, const char *method, const char *path, const StringInfo body)
{
	DocrepHttpCall *call = docrep_http_call(fc->fetch->peer->http, fc->cxt, method, path);

	fc->call = call;
	fc->answer = docrep_couch_answer_new(fc->bulk, COUCH_DOCUMENT_BYTES);
	call->consume = docrep_couch_consume_docs;
	call->again = docrep_couch_begin_again;
	call->arg = fc;
	if (body != NULL)
	{
		call->body = body->data;
		call->bodylen = body->len;
	}
	if (fc->bulk)
		call->retries = Min(BULK_RETRIES, fc->fetch->peer->base.options.retries_per_request);
	docrep_http_start(call);
}

/*
 * PouchDB's servers fall over latest=true when a revision is not there.  Without it
 * they give what was asked for, and what is newer is in the feed.
 */
static bool
ask_latest(const CouchFetch *fetch)
{
	return fetch->latest && !fetch->peer->pouchdb;
}

/* {"docs": [{"id", "rev"}]} */
static void
put_bulk_body(StringInfo out, const FetchCall *fc)
{
	bool		first = true;

	appendStringInfoString(out, "{\"docs\":[");
	for (int i = 0; i < fc->nwants; i++)
	{
		const CouchWant *want = fc->wants[i];

		for (int k = 0; k < want->n; k++)
		{
			appendStringInfoString(out, first ? "{\"id\":" : ",{\"id\":");
			docrep_couch_put_string(out, want->change->id);
			appendStringInfoString(out, ",\"rev\":");
			docrep_couch_put_string(out, docrep_couch_rev_text(want->revs[k]));
			appendStringInfoChar(out, '}');
			first = false;
		}
	}
	appendStringInfoString(out, "]}");
}

/* Ask for the next wants together. */
static void
start_bulk(CouchFetch *fetch)
{
	FetchCall  *fc = new_call(fetch, true, BULK_ROWS);
	MemoryContext caller = MemoryContextSwitchTo(fc->cxt);
	StringInfoData body;

	while (fc->nwants < BULK_ROWS && !dlist_is_empty(&fetch->together))
		fc->wants[fc->nwants++] = dlist_container(CouchWant, link,
												  dlist_pop_head_node(&fetch->together));
	initStringInfo(&body);
	put_bulk_body(&body, fc);
	start_call(fc, "POST", psprintf("_bulk_get?revs=true%s&attachments=false&att_encoding_info=true",
									ask_latest(fetch) ? "&latest=true" : ""), &body);
	MemoryContextSwitchTo(caller);
}

/* The path of open_revs. */
static char *
open_revs_path(const CouchFetch *fetch, const CouchWant *want)
{
	StringInfoData revs;

	initStringInfo(&revs);
	appendStringInfoChar(&revs, '[');
	for (int k = 0; k < want->n; k++)
	{
		if (k > 0)
			appendStringInfoChar(&revs, ',');
		docrep_couch_put_string(&revs, docrep_couch_rev_text(want->revs[k]));
	}
	appendStringInfoChar(&revs, ']');
	return psprintf("%s?revs=true%s&att_encoding_info=true&open_revs=%s",
					docrep_http_doc_path(want->change->id),
					ask_latest(fetch) ? "&latest=true" : "", docrep_http_escape(revs.data));
}

void
docrep_couch_split_want(CouchFetch *fetch, const CouchWant *want)
{
	MemoryContext caller = MemoryContextSwitchTo(fetch->cxt);
	int			half = want->n / 2;

	dlist_push_head(&fetch->singly, &docrep_couch_want_part(want, half, want->n - half)->link);
	dlist_push_head(&fetch->singly, &docrep_couch_want_part(want, 0, half)->link);
	MemoryContextSwitchTo(caller);
}

/* Ask for a document by itself, or for some of its revisions. */
static void
start_single(CouchFetch *fetch, CouchWant *want)
{
	FetchCall  *fc = new_call(fetch, false, 1);
	MemoryContext caller = MemoryContextSwitchTo(fc->cxt);
	char	   *path = open_revs_path(fetch, want);

	fc->wants[fc->nwants++] = want;
	if (strlen(path) > MAX_URL && want->n > 1)
	{
		MemoryContextSwitchTo(caller);
		docrep_couch_split_want(fetch, want);
		docrep_couch_drop_call(fc);
		return;
	}
	start_call(fc, "GET", path, NULL);
	MemoryContextSwitchTo(caller);
}

/* The first want that may be asked for by itself now, taken out of the line; or NULL. */
static CouchWant *
next_single(CouchFetch *fetch)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &fetch->singly)
	{
		CouchWant  *want = dlist_container(CouchWant, link, iter.cur);

		if (want->due > now)
			continue;
		dlist_delete(&want->link);
		return want;
	}
	return NULL;
}

/* Start calls of a fetch while it has fewer than "most" and all have fewer than "all". */
static void
start_some(CouchFetch *fetch, int most, int all)
{
	CouchFetcher *fetcher = docrep_couch_fetcher(fetch->peer);

	while (fetch->ncalls < most && fetcher->ncalls < all)
	{
		CouchWant  *want = next_single(fetch);

		if (want == NULL && dlist_is_empty(&fetch->together))
			break;
		if (want != NULL)
			start_single(fetch, want);
		else if (may_use_bulk(fetcher))
			start_bulk(fetch);
		else
			start_single(fetch, dlist_container(CouchWant, link,
												dlist_pop_head_node(&fetch->together)));
	}
}

/*
 * Start what may be started.  Younger fetches leave connections to the first one:
 * theirs may rest until it is done.
 */
void
docrep_couch_start_calls(CouchPeer *peer)
{
	CouchFetcher *fetcher = docrep_couch_fetcher(peer);
	int			connections = peer->base.options.http_connections;
	int			all = Max(1, connections - connections / 2);
	bool		first = true;
	int			younger = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &fetcher->fetches)
	{
		CouchFetch *fetch = dlist_container(CouchFetch, link, iter.cur);

		if (first)
			start_some(fetch, all, all);
		else
		{
			start_some(fetch, all / 2 - younger, all);
			younger += fetch->ncalls;
		}
		first = false;
	}
}

