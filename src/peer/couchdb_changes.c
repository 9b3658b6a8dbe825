/*-------------------------------------------------------------------------
 *
 * couchdb_changes.c
 *		The changes feed of a CouchDB, read as it arrives.
 *
 * One GET of _changes serves many batches.  Its rows are cut into batches as they
 * arrive, some ahead of what is asked for; when those hold enough, the
 * connection rests.  The next GET goes out as soon as one has ended, so the server
 * works on it while its rows are being written.  A wait is a long poll, whose rows
 * are the next batch.  Sequences are opaque: a string is kept as
 * its text, anything else as its JSON.
 *
 * A feed can bring documents along, but not their ancestry.  A first revision
 * has none, so where most changes are such and most of them are missing at
 * the target (a first copy) documents are asked for with the feed, and
 * nothing is fetched: half the work for the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "peer/io.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Rows asked for with one call, in batches. */
#define BATCHES_A_CALL		10
/* Rows are taken ahead up to this much, and a batch ends at half of it. */
#define AHEAD_BYTES			(8 * 1024 * 1024)
/* The longest row: an id and its leaves, perhaps a document. */
#define ROW_BYTES			(16 * 1024 * 1024)
/* Documents come along when more than this share of changes were first revisions. */
#define DOCS_ABOVE			0.6
/* A waiting server sends a newline this often, in ms ... */
#define HEARTBEAT			10000
/* ... and is dead when it has been silent for so long. */
#define SILENCE				(3 * HEARTBEAT + 5000)
/* A long poll that comes back with nothing is not asked again before this (ms). */
#define POLL_PAUSE			1000

/* A batch of rows, in a context that the receiver takes over. */
typedef struct FeedBatch
{
	dlist_node	link;
	MemoryContext cxt;
	DocrepChanges changes;
} FeedBatch;

typedef struct CouchFeed
{
	MemoryContext cxt;
	CouchPeer  *peer;
	const DocrepChangesRequest *filter; /* doc_ids of this request, or NULL */
	StringInfoData at;			/* everything up to here has been handed out */
	StringInfoData read;		/* ... has come */
	dlist_head	batches;		/* FeedBatch, oldest first; the last one may grow */
	int			nbatches;
	Size		bytes;			/* of them all */
	int			batch_rows;
	bool		longpoll;
	bool		winners_only;
	bool		docs_wanted;	/* the receiver can use them */
	bool		with_docs;		/* they are asked for */
	bool		complete;		/* the server had no more */
	char	   *last_seq;		/* as it says then, or NULL */
	int64		pending;

	/* the call under way */
	DocrepHttpCall *call;		/* NULL: none */
	CouchSplit *split;
	int			limit;			/* rows asked for; 0: all */
	int			rows;			/* that have come of it */
	int			firsts;			/* ... first revisions among them */
	int			attempts;		/* calls in a row that failed without a row */
	TimestampTz begun;
	bool		ended;			/* its answer is complete */
	bool		too_large;		/* a row with its document is */
	const char *bad;			/* what is wrong with the answer, or NULL */
} CouchFeed;

/* ---------- batches ---------- */

/* May another row be taken? */
static bool
wants_more(const CouchFeed *feed)
{
	return feed->bytes < AHEAD_BYTES && feed->nbatches <= BATCHES_A_CALL;
}

static bool
is_full(const CouchFeed *feed, const FeedBatch *batch)
{
	return batch->changes.n >= feed->batch_rows || batch->changes.bytes >= AHEAD_BYTES / 2;
}

/* The batch that takes the next row. */
static FeedBatch *
growing_batch(CouchFeed *feed)
{
	FeedBatch  *batch = NULL;
	MemoryContext cxt;

	if (feed->nbatches > 0)
		batch = dlist_tail_element(FeedBatch, link, &feed->batches);
	if (batch != NULL && !is_full(feed, batch))
		return batch;
	cxt = AllocSetContextCreate(feed->cxt, "docrep changes", ALLOCSET_DEFAULT_SIZES);
	batch = MemoryContextAllocZero(cxt, sizeof(FeedBatch));
	batch->cxt = cxt;
	docrep_changes_init(&batch->changes, cxt);
	dlist_push_tail(&feed->batches, &batch->link);
	feed->nbatches++;
	return batch;
}

/* Put a row into a batch. */
static void
take_row(CouchFeed *feed, const CouchJson *row)
{
	FeedBatch  *batch = growing_batch(feed);
	Size		before = batch->changes.bytes;
	const DocrepChange *change;

	feed->rows++;
	feed->attempts = 0;
	feed->bad = docrep_couch_add_row(row, feed->read.data, feed->with_docs, &batch->changes);
	feed->bytes += batch->changes.bytes - before;
	if (feed->bad != NULL)
		return;
	change = &batch->changes.rows[batch->changes.n - 1];
	if (docrep_couch_is_first(change))
		feed->firsts++;
	resetStringInfo(&feed->read);
	appendStringInfoString(&feed->read, change->seq);
}

/* Hand the oldest batch out, if there is one, with its memory. */
static void
hand_out(CouchFeed *feed, DocrepChanges *out)
{
	FeedBatch  *batch;

	if (feed->nbatches == 0)
		return;
	batch = dlist_container(FeedBatch, link, dlist_pop_head_node(&feed->batches));
	feed->nbatches--;
	feed->bytes -= batch->changes.bytes;
	MemoryContextSetParent(batch->cxt, out->cxt);
	for (int i = 0; i < batch->changes.n; i++)
		*docrep_changes_add(out) = batch->changes.rows[i];
	out->bytes += batch->changes.bytes;
}

/* ---------- a call ---------- */

/* Take rows as they come; what is not wanted yet stays with the client. */
static Size
consume_rows(DocrepHttpCall *call, const char *data, Size len)
{
	CouchFeed  *feed = call->arg;
	const char *p = data;
	size_t		left = len;

	while (wants_more(feed) && !feed->bad && !feed->too_large && !feed->ended)
	{
		CouchJson	row;

		switch (docrep_cj_split(feed->split, &p, &left, &row))
		{
			case COUCHSPLIT_MORE:
				return len - left;
			case COUCHSPLIT_ELEMENT:
				take_row(feed, &row);
				break;
			case COUCHSPLIT_END:
				feed->ended = true;
				break;
			case COUCHSPLIT_BAD:
				feed->bad = docrep_cj_split_problem(feed->split);
				break;
			case COUCHSPLIT_TOO_LARGE:
				if (feed->with_docs)
					feed->too_large = true;
				else
					feed->bad = "a change is too large";
				break;
		}
	}
	/* what follows the end is of no interest */
	return feed->ended || feed->bad || feed->too_large ? len : len - left;
}

/* The path of the call that goes on where the feed is. */
static char *
feed_path(const CouchFeed *feed)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfo(&path, "_changes?feed=%s&style=%s&since=%s",
					 feed->longpoll ? "longpoll" : "normal",
					 feed->winners_only ? "main_only" : "all_docs",
					 docrep_http_escape(feed->read.data));
	if (feed->longpoll)
		appendStringInfo(&path, "&heartbeat=%d", HEARTBEAT);
	if (feed->limit > 0)
		appendStringInfo(&path, "&limit=%d", feed->limit);
	if (feed->with_docs)
		appendStringInfoString(&path, "&include_docs=true");
	if (feed->filter != NULL)
		appendStringInfoString(&path, "&filter=_doc_ids");
	return path.data;
}

/* The body of a filtered feed: {"doc_ids": [...]}. */
static void
put_doc_ids(StringInfo out, const DocrepChangesRequest *request)
{
	appendStringInfoString(out, "{\"doc_ids\":[");
	for (int i = 0; i < request->ndoc_ids; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		docrep_couch_put_string(out, request->doc_ids[i]);
	}
	appendStringInfoString(out, "]}");
}

static void
drop_call(CouchFeed *feed)
{
	docrep_http_drop(feed->call);
	feed->call = NULL;
}

/* Ask for what comes after what has been read. */
static void
start_call(CouchFeed *feed)
{
	MemoryContext caller = MemoryContextSwitchTo(feed->cxt);
	char	   *path = feed_path(feed);

	feed->call = docrep_http_call(feed->peer->http, feed->cxt, feed->filter ? "POST" : "GET", path);
	pfree(path);
	if (feed->filter)
	{
		StringInfoData body;

		MemoryContextSwitchTo(GetMemoryChunkContext(feed->call));
		initStringInfo(&body);
		put_doc_ids(&body, feed->filter);
		feed->call->body = body.data;
		feed->call->bodylen = body.len;
		MemoryContextSwitchTo(feed->cxt);
	}
	if (feed->split == NULL)
		feed->split = docrep_cj_split_new("results", false, ROW_BYTES);
	else
		docrep_cj_split_reset(feed->split);
	feed->call->consume = consume_rows;
	feed->call->arg = feed;
	if (feed->longpoll)
		feed->call->silence = SILENCE;
	feed->rows = feed->firsts = 0;
	feed->ended = feed->too_large = false;
	feed->begun = GetCurrentTimestamp();
	docrep_http_start(feed->call);
	MemoryContextSwitchTo(caller);
}

static void
drop_feed(CouchPeer *peer)
{
	CouchFeed  *feed = peer->feed;

	peer->feed = NULL;
	if (feed != NULL)
		MemoryContextDelete(feed->cxt);
}

/* A feed that begins at a sequence; no call is under way. */
static CouchFeed *
new_feed(CouchPeer *peer, const char *since)
{
	MemoryContext cxt = AllocSetContextCreate(peer->base.cxt, "docrep feed",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	CouchFeed  *feed = palloc0(sizeof(CouchFeed));

	feed->cxt = cxt;
	feed->peer = peer;
	feed->pending = -1;
	feed->batch_rows = Max(peer->base.options.worker_batch_size, 1);
	dlist_init(&feed->batches);
	initStringInfo(&feed->at);
	appendStringInfoString(&feed->at, since);
	initStringInfo(&feed->read);
	appendStringInfoString(&feed->read, since);
	MemoryContextSwitchTo(caller);
	drop_feed(peer);
	peer->feed = feed;
	return feed;
}

/* How much the next call asks for.  The first one finds out what changes are like. */
static void
choose_call(CouchFeed *feed)
{
	double		ratio = feed->peer->first_ratio;

	feed->with_docs = feed->docs_wanted && ratio > DOCS_ABOVE;
	if (feed->filter == NULL && !feed->longpoll)
		feed->limit = Min(feed->batch_rows, INT_MAX / BATCHES_A_CALL) *
			(feed->docs_wanted && ratio < 0 ? 1 : BATCHES_A_CALL);
}

/* Note how the answer ends, and what it was like. */
static void
read_end(CouchFeed *feed)
{
	MemoryContext caller = MemoryContextSwitchTo(feed->cxt);
	CouchJson	rest = docrep_cj_split_rest(feed->split);
	CouchJson	value = docrep_cj_get(&rest, "last_seq");
	int64		pending;

	feed->last_seq = docrep_couch_seq_text(&value);
	value = docrep_cj_get(&rest, "pending");
	feed->pending = -1;
	if (value.kind == CJ_NUMBER && docrep_cj_int64(&value, &pending))
		feed->pending = pending;
	if (feed->rows > 0)
		feed->peer->first_ratio = (double) feed->firsts / feed->rows;
	MemoryContextSwitchTo(caller);
}

/* The answer is whole: the feed is complete, or goes on with another call. */
static void
answer_ended(CouchFeed *feed)
{
	bool		more = feed->limit > 0 && feed->rows >= feed->limit;

	read_end(feed);
	drop_call(feed);
	if (!more)
	{
		feed->complete = true;
		return;
	}
	choose_call(feed);
	start_call(feed);
}

/* The answer has broken off: another call goes on from the last row. */
static void
answer_broken(CouchFeed *feed, const char *doing)
{
	/* the client repeats what has brought nothing yet; this is for the rest */
	if (feed->rows == 0 || feed->attempts++ >= feed->peer->base.options.retries_per_request)
		docrep_http_raise(feed->call, doing);
	drop_call(feed);
	start_call(feed);
}

/* Look what has become of the call. */
static void
look_at_call(CouchFeed *feed, const char *doing)
{
	DocrepHttpCall *call = feed->call;

	if (call == NULL)
		return;
	if (feed->bad != NULL)
		docrep_couch_malformed(feed->peer, doing, feed->bad);
	if (feed->too_large)
	{
		/* a document is too large to come along with its change */
		drop_call(feed);
		feed->with_docs = false;
		feed->peer->first_ratio = 0;
		start_call(feed);
	}
	else if (!call->done)
		return;
	else if (call->failed != 0)
		answer_broken(feed, doing);
	else if (call->status / 100 != 2)
		docrep_http_raise(call, doing);
	else if (!feed->ended)
		docrep_couch_malformed(feed->peer, doing, "it ends too early");
	else
		answer_ended(feed);
}

/* ---------- changes ---------- */

/* May the feed that is there answer this request? */
static bool
fits(const CouchFeed *feed, const DocrepChangesRequest *request)
{
	return feed != NULL && strcmp(feed->at.data, request->since) == 0 &&
		feed->winners_only == request->winners_only &&
		(request->doc_ids == NULL) == (feed->filter == NULL) &&
		(request->doc_ids == NULL || feed->filter == request);
}

/* Have a feed under way that answers the request. */
static void
ensure_feed(CouchPeer *peer, const DocrepChangesRequest *request)
{
	CouchFeed  *feed = peer->feed;

	if (fits(feed, request))
	{
		feed->docs_wanted = request->with_docs;
		return;
	}
	feed = new_feed(peer, request->since);
	feed->winners_only = request->winners_only;
	feed->batch_rows = Max(request->max_rows, 1);
	feed->docs_wanted = request->with_docs;
	if (request->doc_ids != NULL)
		feed->filter = request;
	choose_call(feed);
	start_call(feed);
}

void
docrep_couch_send_changes(DocrepPeer *base, const DocrepChangesRequest *request)
{
	CouchPeer  *peer = (CouchPeer *) base;
	bool		first = dlist_is_empty(&peer->requests);

	docrep_request_push(&peer->requests, base->cxt, REQUEST_CHANGES)->changes_request = request;
	if (first)
		ensure_feed(peer, request);
}

/* Is there a whole batch, or all that there will be? */
static bool
has_batch(const CouchFeed *feed)
{
	if (feed->complete)
		return true;
	if (feed->nbatches == 0)
		return false;
	return feed->nbatches > 1 ||
		is_full(feed, dlist_container(FeedBatch, link, feed->batches.head.next));
}

/* Say where the batch ends, and whether the feed does. */
static void
finish_batch(CouchFeed *feed, DocrepChanges *out)
{
	const char *seq = out->n > 0 ? out->rows[out->n - 1].seq : feed->at.data;

	out->at_end = feed->complete && feed->nbatches == 0;
	if (out->at_end && feed->last_seq != NULL)
		seq = feed->last_seq;
	out->last_seq = MemoryContextStrdup(out->cxt, seq);
	out->pending = -1;
	if (out->at_end)
		out->pending = Max(feed->pending, 0);
	resetStringInfo(&feed->at);
	appendStringInfoString(&feed->at, out->last_seq);
}

void
docrep_couch_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *head = docrep_request_head(&peer->requests, REQUEST_CHANGES);
	CouchFeed  *feed;

	ensure_feed(peer, head->changes_request);
	feed = peer->feed;
	/* have the next call go out before this batch is worked on */
	docrep_http_pump(peer->http);
	look_at_call(feed, "reading changes");
	while (!has_batch(feed))
	{
		(void) docrep_http_step(peer->http, 0);
		look_at_call(feed, "reading changes");
	}
	hand_out(feed, out);
	finish_batch(feed, out);
	docrep_request_drop(head);
	if (out->at_end)
		drop_feed(peer);
}

/* ---------- waiting ---------- */

/* Have a long poll under way for what comes after a sequence. */
static CouchFeed *
ensure_poll(CouchPeer *peer, const char *since)
{
	CouchFeed  *feed = peer->feed;

	if (feed == NULL || !feed->longpoll || strcmp(feed->at.data, since) != 0)
	{
		feed = new_feed(peer, since);
		feed->longpoll = true;
		start_call(feed);
	}
	return feed;
}

void
docrep_couch_send_wait(DocrepPeer *base, const char *since, int timeout)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *request = docrep_request_push(&peer->requests, base->cxt, REQUEST_WAIT);

	request->since = MemoryContextStrdup(base->cxt, since);
	request->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	(void) ensure_poll(peer, since);
}

/*
 * A long poll has come back with nothing: servers do that after a time of
 * their own.  Ask again, but not at once if it was at once: returns when.
 */
static TimestampTz
poll_again(CouchFeed *feed)
{
	TimestampTz earliest = TimestampTzPlusMilliseconds(feed->begun, POLL_PAUSE);

	if (GetCurrentTimestamp() < earliest)
		return earliest;
	feed->complete = false;
	start_call(feed);
	return 0;
}

bool
docrep_couch_recv_wait(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *request = docrep_request_head(&peer->requests, REQUEST_WAIT);
	CouchFeed  *feed = ensure_poll(peer, request->since);
	TimestampTz deadline = request->deadline;

	while (feed->nbatches == 0)
	{
		TimestampTz wake = feed->complete ? poll_again(feed) : 0;
		int			happened;

		if (wake != 0)
			happened = docrep_io_wait(Min(wake, deadline));
		else
			happened = docrep_http_step(peer->http, deadline);
		look_at_call(feed, "waiting for changes");
		if (happened == WL_LATCH_SET || GetCurrentTimestamp() >= deadline)
			break;
	}
	docrep_request_drop(request);
	return feed->nbatches > 0;
}
