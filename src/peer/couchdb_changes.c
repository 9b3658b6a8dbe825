/*-------------------------------------------------------------------------
 *
 * couchdb_changes.c
 *		The changes feed of a CouchDB, read as it arrives.
 *
 * One GET of _changes serves many batches: its rows are taken while a batch is
 * asked for, and in between the connection rests.  A wait is a stream or a long
 * poll (couchdb_wait.c), whose rows are the next batches; these feeds are not
 * waited for here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* When nothing is new, the database is looked at, but not more often than this (ms). */
#define LOOK_PAUSE			10000

static const char doing[] = "reading changes";

/* ---------- which changes ---------- */

/* Is the peer's feed of these already? */
static bool
same_kind(const CouchFeedKind *kind, const DocrepChangesRequest *request)
{
	if (kind == NULL || kind->winners_only != request->winners_only ||
		(kind->doc_ids != NULL) != (request->doc_ids != NULL) ||
		kind->ndoc_ids != (request->doc_ids ? request->ndoc_ids : 0) ||
		!docrep_couch_filter_same(kind, request->filter))
		return false;
	for (int i = 0; i < kind->ndoc_ids; i++)
	{
		if (strcmp(kind->doc_ids[i], request->doc_ids[i]) != 0)
			return false;
	}
	return true;
}

/* Remember what is asked for, for feeds that begin without a request.  True: it is as before. */
static bool
set_kind(CouchPeer *peer, const DocrepChangesRequest *request)
{
	CouchFeedKind *kind = peer->kind;
	MemoryContext cxt;
	MemoryContext caller;

	if (same_kind(kind, request))
	{
		kind->docs_wanted = request->with_docs;
		kind->batch = request->max_rows;
		return true;
	}
	cxt = AllocSetContextCreate(peer->base.cxt, "docrep feed kind", ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(cxt);
	kind = palloc0(sizeof(CouchFeedKind));
	kind->cxt = cxt;
	kind->winners_only = request->winners_only;
	kind->docs_wanted = request->with_docs;
	kind->batch = request->max_rows;
	if (request->doc_ids != NULL)
	{
		kind->ndoc_ids = request->ndoc_ids;
		kind->doc_ids = palloc(Max(request->ndoc_ids, 1) * sizeof(char *));
		for (int i = 0; i < request->ndoc_ids; i++)
			kind->doc_ids[i] = pstrdup(request->doc_ids[i]);
	}
	docrep_couch_filter_set(kind, request->filter);
	MemoryContextSwitchTo(caller);
	if (peer->kind != NULL)
		MemoryContextDelete(peer->kind->cxt);
	peer->kind = kind;
	return false;
}

/* ---------- changes ---------- */

/*
 * Has the source gone back behind a sequence of its own (restored from a backup,
 * or made anew by a server that does not tell)?  It would give nothing until it
 * gets there again.  GET /db tells if sequences are numbers.
 */
static bool
gone_back(const CouchPeer *peer, const char *since)
{
	return peer->update_seq >= 0 && strchr(since, '-') == NULL &&
		docrep_couch_seq_number(since) > peer->update_seq;
}

/*
 * The same from an answer that has nothing.  A cluster whose nodes differ a little
 * may say so now and then: it is believed once.
 */
static bool
answer_went_back(CouchPeer *peer, const char *since, const char *last_seq)
{
	int64		end = docrep_couch_seq_number(last_seq);

	if (end < 0 || end >= docrep_couch_seq_number(since))
		return false;
	if (strchr(last_seq, '-') != NULL)
	{
		if (peer->went_back)
			return false;
		peer->went_back = true;
	}
	return true;
}

static void
log_start_over(const CouchPeer *peer)
{
	ereport(LOG,
			(errmsg("%s has gone back behind what was read of it: its changes are read from the beginning",
					peer->base.display)));
}

void
docrep_couch_check_source(CouchPeer *peer, const char *since)
{
	if (!docrep_couch_check_same(peer))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("the server of %s was restarted", peer->base.display),
				 errhint("The replication goes on from its last checkpoint, if that is still there.")));
	if (gone_back(peer, since))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_UNAVAILABLE),
				 errmsg("%s has gone back behind what was read of it", peer->base.display),
				 errhint("The replication starts over.")));
}

/* The latest of the source's own sequences that a request knows of. */
static const char *
end_of(const DocrepChangesRequest *request)
{
	const CouchPass *pass = request->doc_ids ? docrep_couch_pass_parse(request->since) : NULL;

	return pass ? pass->through : request->since;
}

/* Have a feed under way that answers the request. */
static void
ensure_feed(CouchPeer *peer, const DocrepChangesRequest *request)
{
	CouchFeed  *feed = peer->feed;
	const char *since = request->since;

	if (set_kind(peer, request) && feed != NULL && strcmp(feed->given.data, since) == 0)
		return;
	if (!peer->is_source && gone_back(peer, end_of(request)))
	{
		log_start_over(peer);
		since = COUCH_SEQ_START;
	}
	peer->is_source = true;
	(void) docrep_couch_feed_begin(peer, since, COUCHFEED_BATCHES);
}

void
docrep_couch_send_changes(DocrepPeer *base, const DocrepChangesRequest *request)
{
	CouchPeer  *peer = (CouchPeer *) base;

	docrep_request_push(&peer->requests, base->cxt, REQUEST_CHANGES)->changes_request = request;
	ensure_feed(peer, request);
}

/* May the batch hold more rows? */
static bool
has_room(const CouchFeed *feed, const DocrepChanges *out)
{
	return out->n < feed->max_rows && out->bytes < feed->max_bytes;
}

/* The sequence that is given of a pass whose call is at "at". */
static void
set_pass_seq(CouchFeed *feed, const char *at, bool at_end)
{
	char	   *seq = at_end ? feed->pass->through : docrep_couch_pass_seq(feed, at);

	docrep_couch_set_seq(&feed->given, seq);
	if (!at_end)
		pfree(seq);
}

/* Where the batch ends, and whether the feed does, or there is no more of it for now. */
static void
finish_batch(CouchFeed *feed, DocrepChanges *out)
{
	const char *seq = docrep_couch_feed_position(feed, out);

	if (feed->mode != COUCHFEED_BATCHES && !feed->ended)
		out->at_end = has_room(feed, out);
	else
		out->at_end = feed->ended && (feed->limit == 0 || feed->rows < feed->limit);
	if (out->at_end && feed->ended && feed->last_seq != NULL)
		seq = feed->last_seq;
	docrep_couch_set_seq(&feed->given, seq);
	if (feed->pass != NULL)
		set_pass_seq(feed, seq, out->at_end);
	out->last_seq = MemoryContextStrdup(out->cxt, feed->given.data);
	out->pending = out->at_end ? 0 : -1;
	if (feed->ended && feed->pending >= 0 && feed->pass == NULL)
		out->pending = feed->pending;
	/* a pass's own place, where its call is made again from, is not its end */
	docrep_couch_set_seq(&feed->at, feed->pass == NULL ? out->last_seq : pstrdup(seq));
	resetStringInfo(&feed->dropped);
}

/* A document is too large to come along with its change. */
static void
do_without_docs(CouchFeed *feed)
{
	feed->with_docs = false;
	feed->peer->first_ratio = 0;
	docrep_couch_feed_call(feed);
}

/* Take the rows of a stream that are there already. */
static void
take_present(CouchFeed *feed, DocrepChanges *out)
{
	int			before;

	do
	{
		before = out->n;
		docrep_http_pump(feed->peer->http);
	}
	while (out->n > before && !feed->ended && docrep_couch_feed_wants_more(feed));
}

/*
 * Is there no more in a feed that waits?  The rest of a poll's rows follows the
 * first one at once.  What has become of its call is seen to by the next wait.
 */
static bool
is_all_for_now(const CouchFeed *feed, const DocrepChanges *out)
{
	if (feed->mode == COUCHFEED_POLL && out->n > 0)
		return feed->call == NULL || (feed->call->done && feed->bad == NULL);
	return feed->mode != COUCHFEED_BATCHES;
}

/* Hand out the row that a wait has seen. */
static void
take_peeked(CouchFeed *feed, DocrepChanges *out)
{
	if (docrep_couch_filter_drops(feed->peer->kind, &feed->peeked.rows[0]))
		docrep_couch_set_seq(&feed->dropped, feed->peeked.rows[0].seq);
	else
		docrep_couch_copy_rows(&feed->peeked, out);
	MemoryContextReset(feed->peek_cxt);
	docrep_changes_init(&feed->peeked, feed->peek_cxt);
	feed->news = false;
}

/* What the call has taught about changes. */
static void
note_ratio(CouchFeed *feed)
{
	if (feed->rows > 0)
		feed->peer->first_ratio = (double) feed->firsts / feed->rows;
}

/* A call has ended.  False: that was all.  Else it is the next one's turn. */
static bool
next_call(CouchFeed *feed)
{
	if (!docrep_couch_pass_next(feed))
		return false;
	note_ratio(feed);
	docrep_couch_feed_choose(feed);
	docrep_couch_feed_call(feed);
	return true;
}

/*
 * Fill the batch from the feed, until it is full or the answer is complete, or (of one that
 * waits) nothing more is there.
 */
static void
fill_batch(CouchFeed *feed, DocrepChanges *out)
{
	CouchPeer  *peer = feed->peer;

	if (feed->news)
		take_peeked(feed, out);
	feed->out = out;
	if (feed->mode == COUCHFEED_STREAM)
		take_present(feed, out);
	while ((!feed->ended || next_call(feed)) && docrep_couch_feed_wants_more(feed) &&
		   !is_all_for_now(feed, out))
	{
		if (feed->call == NULL)
		{
			if (GetCurrentTimestamp() >= feed->retry_at)
				docrep_couch_feed_call(feed);
			else
				(void) docrep_http_step(peer->http, feed->retry_at);
		}
		else if (feed->bad == NULL && !feed->too_large && !feed->call->done)
			(void) docrep_http_step(peer->http, 0);
		else
		{
			const char *seq = docrep_couch_feed_position(feed, out);

			if (seq != feed->at.data)
				docrep_couch_set_seq(&feed->at, seq);
			if (feed->too_large)
				do_without_docs(feed);
			else
				docrep_couch_feed_broke(feed, doing);
		}
	}
	feed->out = NULL;
	if (feed->refused != NULL)
		docrep_couch_filter_raise(peer, doing, feed->refused);
	if (feed->bad != NULL && feed->mode != COUCHFEED_STREAM)
		docrep_couch_malformed(peer, doing, feed->bad);
	/* what the connection does after a complete answer is of no interest */
}

/*
 * Nothing is new, which is also what a database says that was made anew: look.
 * True: everything is to be read again.
 */
static bool
must_start_over(CouchPeer *peer, const char *since, const DocrepChanges *out)
{
	if (out->n > 0 || !out->at_end)
		return false;
	if (answer_went_back(peer, since, out->last_seq))
		return true;
	if (!TimestampDifferenceExceeds(peer->asked_at, GetCurrentTimestamp(), LOOK_PAUSE))
		return false;
	(void) docrep_couch_check_same(peer);
	return gone_back(peer, out->last_seq);
}

/* All that the call was for has come: ask for what follows while this is worked on. */
static void
go_on(CouchPeer *peer, const DocrepChanges *out)
{
	CouchFeed  *feed = peer->feed;
	bool		all = feed->limit > 0 && feed->rows >= feed->limit;

	/* one that has ended is made again by the next wait, after a look at the database */
	if (feed->mode == COUCHFEED_STREAM)
		return;
	if (feed->ended || all)
		note_ratio(feed);
	if (!out->at_end && all)
		(void) docrep_couch_feed_begin(peer, out->last_seq, COUCHFEED_BATCHES);
	else if (feed->ended)
		docrep_couch_feed_drop(peer);
}

void
docrep_couch_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *head = docrep_request_head(&peer->requests, REQUEST_CHANGES);
	const DocrepChangesRequest *request = head->changes_request;
	const char *since = request->since;

	/* a feed that began somewhere else than it was asked to is right, too */
	if (peer->feed == NULL)
		(void) docrep_couch_feed_begin(peer, since, COUCHFEED_BATCHES);
	for (;;)
	{
		CouchFeed  *feed = peer->feed;

		feed->max_rows = request->max_rows;
		feed->max_bytes = request->max_bytes;
		fill_batch(feed, out);
		finish_batch(feed, out);
		if (must_start_over(peer, feed->pass ? feed->pass->since : feed->from.data, out))
		{
			log_start_over(peer);
			since = COUCH_SEQ_START;
			out->at_end = false;
		}
		/* what was not let through has moved the feed on, too */
		else if (out->n > 0 || out->at_end || strcmp(out->last_seq, since) != 0)
			break;
		/* all the rows that the call was for had been taken before it ended */
		else
			since = out->last_seq;
		(void) docrep_couch_feed_begin(peer, since, COUCHFEED_BATCHES);
	}
	go_on(peer, out);
	docrep_couch_fetch_unusable(peer, out);
	docrep_request_drop(head);
}
