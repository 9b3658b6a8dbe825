/*-------------------------------------------------------------------------
 *
 * couchdb_changes.c
 *		The changes feed of a CouchDB, read as it arrives.
 *
 * One GET of _changes serves many batches: its rows are taken while a batch is
 * asked for, and in between the connection rests.  A wait is a long poll,
 * whose rows are the next batch.  Sequences are opaque: a string is kept as
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

typedef struct CouchFeed
{
	MemoryContext cxt;
	CouchPeer  *peer;
	DocrepHttpCall *call;
	CouchSplit *split;
	StringInfoData at;			/* everything up to here has been handed out */
	bool		longpoll;
	bool		winners_only;
	bool		with_docs;
	int			firsts;			/* rows that were first revisions */
	int			limit;			/* rows asked for; 0: all */
	int			rows;			/* rows that came of this call */
	int			attempts;		/* calls in a row that failed without a row */
	TimestampTz begun;
	DocrepChanges *out;			/* being filled, or NULL: take no more rows */
	int			max_rows;
	Size		max_bytes;
	bool		news;			/* a row has come that was not handed out */
	DocrepChanges peeked;		/* ... this one */
	bool		ended;			/* the answer is complete */
	char	   *last_seq;		/* as it says then, or NULL */
	int64		pending;
	const char *bad;			/* what is wrong with the answer, or NULL */
	bool		too_large;		/* a row with its document is */
} CouchFeed;

/* ---------- rows ---------- */

/* A sequence as text, allocated; NULL: null or none. */
static char *
seq_text(const CouchJson *seq)
{
	const char *problem;
	char	   *raw;
	int			rawlen;
	char	   *text;

	if (seq->kind == CJ_NONE || seq->kind == CJ_NULL)
		return NULL;
	if (seq->kind != CJ_STRING)
		return pnstrdup(seq->text, seq->len);
	text = docrep_couch_text(seq, &problem, &raw, &rawlen);
	return problem ? NULL : text;
}

/* The revisions of a row; NULL, or what is wrong. */
static const char *
read_revs(const CouchJson *changes, DocrepChange *change)
{
	CouchJsonWalk walk;
	int			n = 0;

	if (changes->kind != CJ_ARRAY)
		return "a change has no array \"changes\"";
	docrep_cj_walk(&walk, changes);
	while (docrep_cj_next(&walk))
		n++;
	change->revs = palloc(Max(n, 1) * sizeof(Rev));
	docrep_cj_walk(&walk, changes);
	while (docrep_cj_next(&walk))
	{
		CouchJson	value = walk.value.kind == CJ_OBJECT ? docrep_cj_get(&walk.value, "rev") :
			walk.value;
		const char *problem = "a revision in a change is no string";
		char	   *raw;
		int			rawlen;
		char	   *text;

		if (value.kind != CJ_STRING)
			return problem;
		text = docrep_couch_text(&value, &problem, &raw, &rawlen);
		if (problem == NULL)
			problem = docrep_rev_parse(text, strlen(text), palloc(strlen(text) + 1),
									   &change->revs[change->nrevs]);
		if (problem != NULL)
			return "a change has a malformed revision";
		change->nrevs++;
	}
	return NULL;
}

/*
 * An id that text cannot hold: the row is all that can be kept of the document,
 * and it comes along as one that cannot be read.
 */
static void
keep_unusable_id(DocrepChange *change, const CouchJson *row, const char *raw, int rawlen,
				 const char *problem)
{
	change->docs = palloc0(Max(change->nrevs, 1) * sizeof(DocrepDoc));
	for (int i = 0; i < change->nrevs; i++)
	{
		DocrepDoc  *doc = &change->docs[i];

		doc->id = change->id;
		doc->raw_id = raw;
		doc->raw_idlen = rawlen;
		doc->unreadable = true;
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = psprintf("its _id: %s", problem);
		doc->path.n = 1;
		doc->path.revs = &change->revs[i];
		doc->json = pnstrdup(row->text, row->len);
		doc->jsonlen = (int) row->len;
	}
}

/* Is it the only leaf of a document, without ancestors? */
static bool
is_first(const DocrepChange *change)
{
	return change->nrevs == 1 && change->revs[0].gen == 1;
}

/* Keep the document that came along, if that is all there is to know of it. */
static void
keep_doc(DocrepChange *change, const CouchJson *row, DocrepChanges *out)
{
	CouchJson	json = docrep_cj_get(row, "doc");
	DocrepDocs	docs;
	DocrepDoc  *doc;

	if (!is_first(change) || json.kind != CJ_OBJECT)
		return;
	docrep_docs_init(&docs, out->cxt);
	docs.docs = palloc(sizeof(DocrepDoc));
	docs.cap = 1;
	doc = docrep_couch_add_doc(&docs, json.text, json.len, change->id, &change->revs[0]);
	if (doc->unreadable || doc->atts.n > 0 || doc->path.n != 1 ||
		!docrep_rev_eq(&doc->path.revs[0], &change->revs[0]))
		return;
	change->docs = doc;
	out->bytes += docs.bytes;
}

/* Add a row to a batch; NULL, or what is wrong with it. */
static const char *
add_row(CouchFeed *feed, const CouchJson *row, DocrepChanges *out)
{
	MemoryContext caller;
	DocrepChange *change;
	CouchJson	id;
	CouchJson	seq;
	CouchJson	revs;
	const char *problem;
	const char *id_problem;
	char	   *raw = NULL;
	int			rawlen = 0;

	if (row->kind != CJ_OBJECT)
		return "a change is no object";
	id = docrep_cj_get(row, "id");
	if (id.kind != CJ_STRING)
		return "a change has no id";
	caller = MemoryContextSwitchTo(out->cxt);
	change = docrep_changes_add(out);
	change->id = docrep_couch_text(&id, &id_problem, &raw, &rawlen);
	seq = docrep_cj_get(row, "seq");
	change->seq = seq_text(&seq);
	if (change->seq == NULL)
		change->seq = out->n > 1 ? out->rows[out->n - 2].seq : pstrdup(feed->at.data);
	revs = docrep_cj_get(row, "changes");
	problem = read_revs(&revs, change);
	change->deleted = docrep_cj_get(row, "deleted").kind == CJ_TRUE;
	if (problem == NULL && id_problem != NULL)
		keep_unusable_id(change, row, raw, rawlen, id_problem);
	else if (problem == NULL && feed->with_docs)
		keep_doc(change, row, out);
	if (problem == NULL && is_first(change))
		feed->firsts++;
	out->bytes += 64 + id.len + change->nrevs * 24;
	MemoryContextSwitchTo(caller);
	if (problem != NULL)
		out->n--;
	return problem;
}

/* ---------- a call ---------- */

/* May another row be taken? */
static bool
wants_more(const CouchFeed *feed)
{
	if (feed->out == NULL)
		return !feed->news && feed->longpoll;
	return feed->out->n < feed->max_rows && feed->out->bytes < feed->max_bytes;
}

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
				/* from here on it is for end_call to go on after a failure */
				call->again = NULL;
				feed->rows++;
				feed->attempts = 0;
				feed->bad = add_row(feed, &row, feed->out ? feed->out : &feed->peeked);
				if (feed->out == NULL)
					feed->news = true;
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
feed_path(const CouchFeed *feed, const DocrepChangesRequest *request)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfo(&path, "_changes?feed=%s&style=%s&since=%s",
					 feed->longpoll ? "longpoll" : "normal",
					 feed->winners_only ? "main_only" : "all_docs",
					 docrep_http_escape(feed->at.data));
	if (feed->longpoll)
		appendStringInfo(&path, "&heartbeat=%d", HEARTBEAT);
	if (feed->limit > 0)
		appendStringInfo(&path, "&limit=%d", feed->limit);
	if (feed->with_docs)
		appendStringInfoString(&path, "&include_docs=true");
	if (request != NULL && request->doc_ids != NULL)
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

/* An answer has broken off before its first row, and is asked for again. */
static void
forget_beginning(DocrepHttpCall *call)
{
	CouchFeed  *feed = call->arg;

	docrep_cj_split_reset(feed->split);
}

/* Ask for what comes after the feed's place. */
static void
start_call(CouchFeed *feed, const DocrepChangesRequest *request)
{
	MemoryContext caller = MemoryContextSwitchTo(feed->cxt);
	bool		filtered = request != NULL && request->doc_ids != NULL;

	feed->call = docrep_http_call(feed->peer->http, feed->cxt, filtered ? "POST" : "GET",
								  feed_path(feed, request));
	if (filtered)
	{
		StringInfoData body;

		initStringInfo(&body);
		put_doc_ids(&body, request);
		feed->call->body = body.data;
		feed->call->bodylen = body.len;
	}
	if (feed->split == NULL)
		feed->split = docrep_cj_split_new("results", false, ROW_BYTES);
	else
		docrep_cj_split_reset(feed->split);
	feed->call->consume = consume_rows;
	feed->call->again = forget_beginning;
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

/* A feed that begins at a sequence. */
static CouchFeed *
new_feed(CouchPeer *peer, const char *since, bool longpoll, bool winners_only, int limit)
{
	MemoryContext cxt = AllocSetContextCreate(peer->base.cxt, "docrep feed",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	CouchFeed  *feed = palloc0(sizeof(CouchFeed));

	drop_feed(peer);
	feed->cxt = cxt;
	feed->peer = peer;
	feed->longpoll = longpoll;
	feed->winners_only = winners_only;
	feed->limit = limit;
	feed->pending = -1;
	initStringInfo(&feed->at);
	appendStringInfoString(&feed->at, since);
	docrep_changes_init(&feed->peeked, cxt);
	peer->feed = feed;
	MemoryContextSwitchTo(caller);
	return feed;
}

/* Note how the answer ends, and what it was like. */
static void
read_end(CouchFeed *feed)
{
	MemoryContext caller = MemoryContextSwitchTo(feed->cxt);
	CouchJson	rest = docrep_cj_split_rest(feed->split);
	CouchJson	value = docrep_cj_get(&rest, "last_seq");
	int64		pending;

	/* of the array, the rest has the brackets */
	if (docrep_cj_get(&rest, "results").kind != CJ_ARRAY)
		docrep_couch_malformed(feed->peer, "reading changes", "its \"results\" are no array");
	feed->last_seq = seq_text(&value);
	value = docrep_cj_get(&rest, "pending");
	if (value.kind == CJ_NUMBER && docrep_cj_int64(&value, &pending))
		feed->pending = pending;
	if (feed->rows > 0)
		feed->peer->first_ratio = (double) feed->firsts / feed->rows;
	MemoryContextSwitchTo(caller);
}

/*
 * The call is done.  If its answer is whole, the feed has ended; else another
 * call goes on from the last row, unless too many have failed in a row.
 */
static void
end_call(CouchFeed *feed, const DocrepChangesRequest *request)
{
	DocrepHttpCall *call = feed->call;
	const char *doing = "reading changes";

	if (feed->bad != NULL)
		docrep_couch_malformed(feed->peer, doing, feed->bad);
	if (call->failed == 0 && call->status / 100 != 2)
		docrep_http_raise(call, doing);
	if (call->failed == 0 && !feed->ended)
		docrep_couch_malformed(feed->peer, doing, "it ends too early");
	if (call->failed != 0)
	{
		/* the client repeats what has brought nothing yet; this is for the rest */
		if (feed->rows == 0 || feed->attempts++ >= feed->peer->base.options.retries_per_request)
			docrep_http_raise(call, doing);
		docrep_http_drop(call);
		feed->call = NULL;
		start_call(feed, request);
		return;
	}
	read_end(feed);
}

/* A document is too large to come along with its change. */
static void
start_without_docs(CouchFeed *feed, const DocrepChangesRequest *request)
{
	docrep_http_drop(feed->call);
	feed->call = NULL;
	feed->with_docs = false;
	feed->peer->first_ratio = 0;
	start_call(feed, request);
}

/* ---------- changes ---------- */

/* May the feed that is there answer this request? */
static bool
fits(const CouchFeed *feed, const DocrepChangesRequest *request)
{
	return feed != NULL && strcmp(feed->at.data, request->since) == 0 &&
		feed->winners_only == request->winners_only && request->doc_ids == NULL &&
		!(feed->ended && feed->call == NULL);
}

/* Have a feed under way that answers the request. */
static void
ensure_feed(CouchPeer *peer, const DocrepChangesRequest *request)
{
	CouchFeed  *feed = peer->feed;
	bool		learning = request->with_docs && peer->first_ratio < 0;
	int			rows = request->max_rows * (learning ? 1 : BATCHES_A_CALL);

	if (fits(feed, request))
		return;
	feed = new_feed(peer, request->since, false, request->winners_only,
					request->doc_ids ? 0 : rows);
	feed->with_docs = request->with_docs && peer->first_ratio > DOCS_ABOVE;
	start_call(feed, request);
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

/* Hand out the row that ended a wait. */
static void
take_peeked(CouchFeed *feed, DocrepChanges *out)
{
	for (int i = 0; i < feed->peeked.n; i++)
	{
		const DocrepChange *from = &feed->peeked.rows[i];
		MemoryContext caller = MemoryContextSwitchTo(out->cxt);
		DocrepChange *to = docrep_changes_add(out);

		/* the feed's context goes with the feed; what is handed out must stay */
		*to = *from;
		to->seq = pstrdup(from->seq);
		to->id = pstrdup(from->id);
		to->revs = palloc(Max(from->nrevs, 1) * sizeof(Rev));
		for (int k = 0; k < from->nrevs; k++)
		{
			uint8	   *bytes = palloc(Max(from->revs[k].len, 1));

			memcpy(bytes, from->revs[k].bytes, from->revs[k].len);
			to->revs[k] = from->revs[k];
			to->revs[k].bytes = bytes;
		}
		if (from->docs != NULL)
		{
			char	   *raw = palloc(from->docs[0].raw_idlen + 1);
			CouchJson	row = {CJ_OBJECT, from->docs[0].json, from->docs[0].jsonlen};

			memcpy(raw, from->docs[0].raw_id, from->docs[0].raw_idlen);
			keep_unusable_id(to, &row, raw, from->docs[0].raw_idlen,
							 "text cannot hold it");
		}
		out->bytes += 64;
		MemoryContextSwitchTo(caller);
	}
	docrep_changes_init(&feed->peeked, feed->cxt);
	feed->news = false;
}

/* Where the batch ends, and whether the feed does. */
static void
finish_batch(CouchFeed *feed, DocrepChanges *out)
{
	const char *seq = out->n > 0 ? out->rows[out->n - 1].seq : feed->at.data;

	out->at_end = feed->ended && (feed->limit == 0 || feed->rows < feed->limit);
	if (out->at_end && feed->last_seq != NULL)
		seq = feed->last_seq;
	out->last_seq = MemoryContextStrdup(out->cxt, seq);
	out->pending = out->at_end ? 0 : -1;
	if (feed->ended && feed->pending >= 0)
		out->pending = feed->pending;
	resetStringInfo(&feed->at);
	appendStringInfoString(&feed->at, seq);
}

/* Fill the batch from the feed, until it is full or the answer is complete. */
static void
fill_batch(CouchFeed *feed, const DocrepChangesRequest *request, DocrepChanges *out)
{
	feed->max_rows = request->max_rows;
	feed->max_bytes = request->max_bytes;
	if (feed->news)
		take_peeked(feed, out);
	feed->out = out;
	while (!feed->ended && wants_more(feed))
	{
		if (feed->bad == NULL && !feed->too_large && !feed->call->done)
		{
			(void) docrep_http_step(feed->peer->http, 0);
			continue;
		}
		/* after a failure the next call goes on from the last row */
		if (out->n > 0)
		{
			resetStringInfo(&feed->at);
			appendStringInfoString(&feed->at, out->rows[out->n - 1].seq);
		}
		if (feed->too_large)
			start_without_docs(feed, request);
		else
			end_call(feed, request);
	}
	feed->out = NULL;
	if (feed->bad != NULL)
		docrep_couch_malformed(feed->peer, "reading changes", feed->bad);
	if (feed->ended)
	{
		docrep_http_finish(feed->call);
		if (feed->call->failed != 0)
			docrep_http_raise(feed->call, "reading changes");
		read_end(feed);
	}
}

void
docrep_couch_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *head = docrep_request_head(&peer->requests, REQUEST_CHANGES);
	const DocrepChangesRequest *request = head->changes_request;
	CouchFeed  *feed;

	for (;;)
	{
		ensure_feed(peer, request);
		feed = peer->feed;
		fill_batch(feed, request, out);
		finish_batch(feed, out);
		if (out->n > 0 || out->at_end)
			break;
		/* all the rows that the call was for had been taken before it ended */
		drop_feed(peer);
	}
	docrep_request_drop(head);
	if (feed->ended)
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
		feed = new_feed(peer, since, true, false, 0);
		start_call(feed, NULL);
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
 * their own.  Ask again, but not at once if it was at once.  False: not yet.
 */
static bool
poll_again(CouchPeer *peer, CouchFeed *feed, TimestampTz *wake)
{
	TimestampTz earliest = TimestampTzPlusMilliseconds(feed->begun, POLL_PAUSE);

	if (feed->call != NULL)
	{
		docrep_http_finish(feed->call);
		if (feed->call->failed != 0)
			docrep_http_raise(feed->call, "waiting for changes");
		docrep_http_drop(feed->call);
		feed->call = NULL;
	}
	if (GetCurrentTimestamp() < earliest)
	{
		*wake = earliest;
		return false;
	}
	start_call(feed, NULL);
	return true;
}

/* A call of a wait is over without an answer: again from the same place, or raise. */
static void
poll_failed(CouchFeed *feed)
{
	DocrepHttpCall *call = feed->call;

	if (feed->bad == NULL && (call->failed != 0 || call->status / 100 != 2))
		docrep_http_raise(call, "waiting for changes");
	docrep_couch_malformed(feed->peer, "waiting for changes",
						   feed->bad ? feed->bad : "it ends too early");
}

bool
docrep_couch_recv_wait(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *request = docrep_request_head(&peer->requests, REQUEST_WAIT);
	CouchFeed  *feed = ensure_poll(peer, request->since);
	TimestampTz deadline = request->deadline;

	while (!feed->news)
	{
		TimestampTz wake = deadline;
		int			happened;

		if (feed->ended && !poll_again(peer, feed, &wake))
			happened = docrep_io_wait(Min(wake, deadline));
		else
		{
			if (!feed->ended && (feed->bad != NULL || feed->call->done))
				poll_failed(feed);
			happened = docrep_http_step(peer->http, deadline);
		}
		if (!feed->news && (happened == WL_LATCH_SET || GetCurrentTimestamp() >= deadline))
			break;
	}
	docrep_request_drop(request);
	return feed->news;
}
