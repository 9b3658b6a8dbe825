/*-------------------------------------------------------------------------
 *
 * couchdb_fetch.c
 *		Fetching revisions from a CouchDB: _bulk_get, or open_revs a document.
 *
 * A fetch is cut into calls, of which several are under way.  Their answers are
 * taken, in any order, only while recv_fetch is called: what is not wanted yet
 * rests in the client's buffers, so memory does not grow with the batch.  Nor does
 * it with documents that are large: when those that have begun to arrive
 * are too much together, one goes on and the others rest.
 *
 * What _bulk_get does not give, or not in order, is asked for once more by
 * itself before it counts as gone or as refused: a checkpoint will pass over it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/couchdb_fetch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* After a _bulk_get was refused, documents are asked for singly for so long (ms). */
#define BULK_PAUSE			(5 * 60 * 1000)
/* Bytes of documents that have begun to arrive, of all calls. */
#define HELD_BYTES			(2 * 1024 * 1024)
/* What the source has announced and does not have (yet) is asked for again after this. */
#define MISSING_PAUSE		2000

static const char doing[] = "fetching documents";

/* ---------- taking what comes ---------- */

static bool
has_room(const CouchFetch *fetch)
{
	return fetch->out != NULL && fetch->out->bytes < fetch->max_bytes;
}

/* May this call go on, seeing what is held by all? */
static bool
may_take(FetchCall *fc)
{
	CouchFetcher *fetcher = docrep_couch_fetcher(fc->fetch->peer);

	if (!has_room(fc->fetch))
		return false;
	if (fetcher->greedy == NULL && fetcher->held > HELD_BYTES)
		fetcher->greedy = fc;
	return fetcher->greedy == NULL || fetcher->greedy == fc;
}

/* The want that an entry speaks of, or NULL.  Answers come in the order of the request, mostly. */
static CouchWant *
find_want(FetchCall *fc, const CouchEntry *entry)
{
	if (!fc->bulk)
		return fc->wants[0];
	for (int i = 0; entry->id.kind == CJ_STRING && i < fc->nwants; i++)
	{
		int			k = (fc->cursor + i) % fc->nwants;
		const char *id = fc->wants[k]->change->id;

		if (docrep_cj_equals(&entry->id, GetDatabaseEncoding() == PG_UTF8 ? id :
							 pg_server_to_any(id, strlen(id), PG_UTF8)))
		{
			fc->cursor = k;
			return fc->wants[k];
		}
	}
	return NULL;
}

/* What nobody asked for is left aside; so what is missing then is noticed. */
static void
take_entry(FetchCall *fc, const CouchEntry *entry)
{
	CouchFetch *fetch = fc->fetch;
	CouchWant  *want = find_want(fc, entry);
	int			doc;

	if (want == NULL)
		return;
	switch (entry->kind)
	{
		case COUCHENTRY_DOC:
			doc = docrep_couch_want_doc(want, entry, fc->bulk, fetch->out);
			if (doc >= 0)
				docrep_couch_small_add(&fetch->smalls, fetch->out, doc);
			break;
		case COUCHENTRY_MISSING:
			want->missing++;
			break;
		case COUCHENTRY_ERROR:
			if (fc->bulk)
				want->doubtful = true;
			else
				docrep_couch_want_error(want, entry, fetch->out);
			break;
	}
}

/* Take documents as they come, while they are wanted. */
Size
docrep_couch_consume_docs(DocrepHttpCall *call, const char *data, Size len)
{
	FetchCall  *fc = call->arg;
	MemoryContext caller;
	const char *p = data;
	size_t		left = len;

	if (fc->bad || fc->too_large)
		return len;
	if (!may_take(fc))
		return 0;
	caller = MemoryContextSwitchTo(fc->fetch->out->cxt);
	while (!fc->bad && !fc->too_large &&
		   (docrep_couch_answer_pending(fc->answer) || (left > 0 && has_room(fc->fetch))))
	{
		CouchEntry	entry;

		switch (docrep_couch_answer_next(fc->answer, call->type, &p, &left, &entry))
		{
			case COUCHANSWER_MORE:
				break;
			case COUCHANSWER_ENTRY:
				take_entry(fc, &entry);
				break;
			case COUCHANSWER_BAD:
				fc->bad = true;
				break;
			case COUCHANSWER_TOO_LARGE:
				fc->too_large = true;
				break;
		}
	}
	docrep_couch_note_held(fc, docrep_couch_answer_held(fc->answer));
	MemoryContextSwitchTo(caller);
	return len - left;
}

/* The attempt is repeated.  Wants know what they have got. */
void
docrep_couch_begin_again(DocrepHttpCall *call)
{
	FetchCall  *fc = call->arg;

	docrep_couch_answer_reset(fc->answer);
	docrep_couch_note_held(fc, 0);
	fc->bad = false;
	for (int i = 0; i < fc->nwants; i++)
		docrep_couch_want_reset(fc->wants[i]);
}

/* ---------- the ends of calls ---------- */

/*
 * Ask for what did not come by itself.  What the source has announced and does
 * not give is asked for once more, later: it may be behind itself.
 */
static void
ask_singly(CouchFetch *fetch, const CouchWant *want, bool again)
{
	MemoryContext caller = MemoryContextSwitchTo(fetch->cxt);
	CouchWant  *rest = docrep_couch_want_rest(want);

	if (rest->n > 0)
	{
		rest->repeated = again;
		if (again)
			rest->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), MISSING_PAUSE);
		dlist_push_tail(&fetch->singly, &rest->link);
	}
	MemoryContextSwitchTo(caller);
}

/* A complete answer of _bulk_get. */
static void
end_bulk(FetchCall *fc)
{
	for (int i = 0; i < fc->nwants; i++)
	{
		if (!docrep_couch_want_met(fc->wants[i]))
			ask_singly(fc->fetch, fc->wants[i], false);
	}
}

/*
 * An answer about one document: what did not come then has gone.  Without "latest" that is
 * nothing strange: it has been replaced, and the source has been compacted since.
 */
static void
end_single(FetchCall *fc)
{
	if (!docrep_couch_want_met(fc->wants[0]) && !fc->wants[0]->repeated && fc->fetch->latest)
		ask_singly(fc->fetch, fc->wants[0], true);
}

/* A document that is too long. */
static void
end_too_large(FetchCall *fc)
{
	CouchFetch *fetch = fc->fetch;

	if (fc->bulk)
		end_bulk(fc);
	else if (fc->wants[0]->n > 1)
		docrep_couch_split_want(fetch, fc->wants[0]);
	else
		docrep_couch_want_refuse(fc->wants[0], ERRCODE_DOCREP_TOO_LARGE,
								 psprintf("the document is longer than docrep.max_document_size (%d kB)",
										  docrep_max_document_size), fetch->out);
}

/*
 * _bulk_get was refused, or brings the server down: documents are asked for by
 * themselves, for a while.
 */
static void
end_refused_bulk(FetchCall *fc)
{
	CouchFetcher *fetcher = docrep_couch_fetcher(fc->fetch->peer);
	int			status = fc->call->failed != 0 ? 0 : fc->call->status;

	switch (status)
	{
		case 404:
		case 405:
		case 501:
			fetcher->no_bulk_until = DT_NOEND;
			break;
		case 0:
		case 400:
		case 413:
		case 414:
		case 415:
		case 500:
			fetcher->no_bulk_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BULK_PAUSE);
			break;
		default:
			docrep_http_raise(fc->call, doing);
	}
	end_bulk(fc);
}

/* A document was refused by a status. */
static void
end_refused_single(FetchCall *fc)
{
	CouchWant  *want = fc->wants[0];
	int			status = fc->call->failed != 0 ? 0 : fc->call->status;

	switch (status)
	{
		case 404:
			end_single(fc);
			break;
		case 414:
			if (want->n > 1)
			{
				docrep_couch_split_want(fc->fetch, want);
				break;
			}
			/* FALLTHROUGH */
		case 400:
			docrep_couch_want_refuse(want, ERRCODE_DOCREP_BAD_REQUEST,
									 psprintf("the source does not give it: status %d", status),
									 fc->fetch->out);
			break;
		case 403:
			docrep_couch_want_refuse(want, ERRCODE_DOCREP_FORBIDDEN,
									 "the source does not give it: status 403", fc->fetch->out);
			break;
		default:
			docrep_http_raise(fc->call, doing);
	}
}

/* A call is done, or will bring nothing more. */
static void
end_call(FetchCall *fc)
{
	CouchPeer  *peer = fc->fetch->peer;
	DocrepHttpCall *call = fc->call;

	if (fc->too_large)
		end_too_large(fc);
	else if (fc->bad)
		docrep_couch_malformed(peer, doing, docrep_couch_answer_problem(fc->answer));
	else if (call->failed != 0 || call->status / 100 != 2)
	{
		if (fc->bulk)
			end_refused_bulk(fc);
		else
			end_refused_single(fc);
	}
	else if (!docrep_couch_answer_ended(fc->answer))
		docrep_couch_malformed(peer, doing, "it ends too early");
	else if (fc->bulk)
		end_bulk(fc);
	else
		end_single(fc);
	docrep_couch_drop_call(fc);
}

/* End what is done; true: something was. */
static bool
end_calls(CouchFetch *fetch)
{
	dlist_mutable_iter iter;
	bool		some = false;

	dlist_foreach_modify(iter, &fetch->calls)
	{
		FetchCall  *fc = dlist_container(FetchCall, link, iter.cur);

		if (fc->call->done || fc->bad || fc->too_large)
		{
			end_call(fc);
			some = true;
		}
	}
	return some;
}

/* When the next want that must wait may be asked for; 0: none waits. */
static TimestampTz
next_due(CouchFetch *fetch)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &fetch->singly)
	{
		const CouchWant *want = dlist_container(CouchWant, link, iter.cur);

		if (want->due > now && (due == 0 || want->due < due))
			due = want->due;
	}
	return due;
}

/* ---------- operations ---------- */

void
docrep_couch_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest)
{
	CouchPeer  *peer = (CouchPeer *) base;
	MemoryContext cxt = AllocSetContextCreate(base->cxt, "docrep fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	CouchFetch *fetch = palloc0(sizeof(CouchFetch));

	fetch->cxt = cxt;
	fetch->peer = peer;
	fetch->latest = latest;
	dlist_init(&fetch->together);
	dlist_init(&fetch->singly);
	dlist_init(&fetch->calls);
	dlist_init(&fetch->smalls.waiting);
	dlist_init(&fetch->smalls.running);
	fetch->smalls.peer = peer;
	fetch->smalls.cxt = cxt;
	for (int row = 0; row < changes->n; row++)
	{
		CouchWant  *want = docrep_couch_want(&changes->rows[row]);

		if (want != NULL)
			dlist_push_tail(&fetch->together, &want->link);
	}
	dlist_push_tail(&docrep_couch_fetcher(peer)->fetches, &fetch->link);
	docrep_request_push(&peer->requests, base->cxt, REQUEST_FETCH)->changes = changes;
	docrep_couch_start_calls(peer);
	MemoryContextSwitchTo(caller);
}

static bool
is_done(CouchFetch *fetch)
{
	return fetch->ncalls == 0 && dlist_is_empty(&fetch->together) &&
		dlist_is_empty(&fetch->singly);
}

bool
docrep_couch_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *head = docrep_request_head(&peer->requests, REQUEST_FETCH);
	CouchFetch *fetch = dlist_head_element(CouchFetch, link, &docrep_couch_fetcher(peer)->fetches);

	fetch->out = out;
	fetch->max_bytes = out->bytes + max_bytes;
	for (;;)
	{
		docrep_couch_small_advance(&fetch->smalls, out);
		if (end_calls(fetch))
			continue;
		docrep_couch_start_calls(peer);
		if (!docrep_couch_small_pending(&fetch->smalls) && (is_done(fetch) || !has_room(fetch)))
			break;
		(void) docrep_http_step(peer->http, next_due(fetch));
	}
	fetch->out = NULL;
	if (!is_done(fetch))
		return true;
	dlist_delete(&fetch->link);
	MemoryContextDelete(fetch->cxt);
	docrep_request_drop(head);
	return false;
}
