/*-------------------------------------------------------------------------
 *
 * couchdb_feed.c
 *		The calls of a CouchDB's changes feed: what they ask for, and taking their
 *		rows.
 *
 * A feed can bring documents along, but not their ancestry.  A first revision
 * has none, so where most changes are such and most of them are missing at
 * the target (a first copy) documents are asked for with the feed, and
 * nothing is fetched: half the work for the server.
 *
 * PouchDB's servers answer only when they have everything: they are asked for one
 * batch at a time, and for the next one before this one is written.
 *
 * A stream (feed=continuous) has a row on each line and no end.  What it says
 * instead of a row when it ends after all is where it has got to.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* The longest error that ends rows. */
#define TROUBLE_BYTES		(64 * 1024)
/* The longest row: an id and its leaves, perhaps a document. */
#define ROW_BYTES			(16 * 1024 * 1024)
/* A server that waits sends a newline this often, in ms ... */
#define HEARTBEAT			10000
/* ... and is dead when it has been silent for so long. */
#define SILENCE				(3 * HEARTBEAT + 5000)
/* The same of a stream that is to show whether heartbeats get through at once. */
#define TRIAL_HEARTBEAT		1000
#define TRIAL_SILENCE		5000
/* Where they do not get through a poll ends after this (ms). */
#define POLL_TIMEOUT		20000
/* One that looks for a few documents in a long feed may be silent for so long. */
#define FILTER_SILENCE		(5 * 60 * 1000)
/* Rows asked for with one call, in batches. */
#define BATCHES_A_CALL		10
/* Documents come along when more than this share of changes were first revisions. */
#define DOCS_ABOVE			0.6

/* ---------- a call ---------- */

const char *
docrep_couch_feed_position(const CouchFeed *feed, const DocrepChanges *out)
{
	if (feed->dropped.len > 0)
		return feed->dropped.data;
	/* the last row of a batch may be of another call of the pass */
	if (out->n == 0 || (feed->pass != NULL && feed->rows == 0))
		return feed->at.data;
	return out->rows[out->n - 1].seq;
}

bool
docrep_couch_feed_wants_more(const CouchFeed *feed)
{
	if (feed->out == NULL)
		return !feed->news && feed->mode != COUCHFEED_BATCHES;
	return feed->out->n < feed->max_rows && feed->out->bytes < feed->max_bytes;
}

/* The last row of the batch: keep it unless it is not wanted. */
static void
keep_or_drop(CouchFeed *feed)
{
	DocrepChange *change = &feed->out->rows[feed->out->n - 1];

	if (docrep_couch_is_first(change))
		feed->firsts++;
	resetStringInfo(&feed->dropped);
	if (docrep_couch_filter_drops(feed->peer->kind, change))
	{
		docrep_couch_set_seq(&feed->dropped, change->seq);
		feed->out->n--;
	}
}

/* A row has come. */
static void
take_row(CouchFeed *feed, const CouchJson *row)
{
	const char *before = feed->at.data;

	feed->refused = docrep_couch_filter_row_error(row);
	if (feed->refused != NULL)
	{
		feed->bad = "it breaks off with an error";
		return;
	}
	if (feed->out != NULL)
		before = docrep_couch_feed_position(feed, feed->out);
	/* from here on it is not for the client to go on after a failure */
	feed->call->again = NULL;
	feed->rows++;
	if (feed->limit > 0 && feed->rows > feed->limit)
		feed->bad = "it has more rows than were asked for";
	else if (feed->out != NULL)
	{
		feed->bad = docrep_couch_add_row(row, before, feed->with_docs, feed->out);
		if (feed->bad == NULL)
			keep_or_drop(feed);
	}
	else
	{
		feed->bad = docrep_couch_add_row(row, before, false, &feed->peeked);
		feed->news = true;
	}
}

/* How the answer ends. */
static void
take_end(CouchFeed *feed)
{
	CouchJson	rest = docrep_cj_split_rest(feed->split);
	CouchJson	value = docrep_cj_get(&rest, "last_seq");
	int64		pending;

	feed->ended = true;
	if (docrep_cj_get(&rest, "results").kind != CJ_ARRAY)
	{
		feed->refused = docrep_couch_filter_row_error(&rest);
		feed->bad = "it has no array \"results\"";
		return;
	}
	feed->last_seq = docrep_couch_seq(&value);
	value = docrep_cj_get(&rest, "pending");
	if (value.kind == CJ_NUMBER && docrep_cj_int64(&value, &pending))
		feed->pending = pending;
}

/* A line of a stream has come: a row, or how it ends. */
static void
take_line(CouchFeed *feed, const CouchJson *line)
{
	CouchJson	last_seq = docrep_cj_get(line, "last_seq");

	if (line->kind != CJ_OBJECT)
		feed->bad = "a line of it is no object";
	else if (docrep_cj_get(line, "id").kind != CJ_NONE ||
			 docrep_cj_get(line, "error").kind == CJ_STRING)
		take_row(feed, line);
	else if (last_seq.kind == CJ_NONE || docrep_cj_get(line, "results").kind != CJ_NONE)
		feed->bad = "a line of it is no change";
	else
	{
		feed->last_seq = docrep_couch_seq(&last_seq);
		feed->ended = true;
	}
}

/*
 * Behind the rows, where no other can begin, a CouchDB puts the error that has ended them.
 * It may come in pieces.
 */
static void
take_trouble(CouchFeed *feed, const char *data, Size len)
{
	CouchJson	object;

	if (len > TROUBLE_BYTES - feed->trouble.len)
		feed->bad = docrep_cj_split_problem(feed->split);
	if (feed->bad != NULL)
		return;
	appendBinaryStringInfo(&feed->trouble, data, (int) len);
	if (!docrep_cj_value(feed->trouble.data, feed->trouble.len, &object))
		return;
	feed->bad = docrep_cj_split_problem(feed->split);
	feed->refused = docrep_couch_filter_row_error(&object);
}

bool
docrep_couch_feed_is_bad(CouchFeed *feed)
{
	if (feed->bad == NULL && feed->trouble.len > 0 && feed->call != NULL && feed->call->done)
		feed->bad = docrep_cj_split_problem(feed->split);
	return feed->bad != NULL;
}

/* Take rows as they come; what is not wanted yet stays with the client. */
static Size
consume_rows(DocrepHttpCall *call, const char *data, Size len)
{
	CouchFeed  *feed = call->arg;
	MemoryContext caller = MemoryContextSwitchTo(feed->cxt);
	const char *p = data;
	size_t		left = len;
	bool		more = true;

	feed->alive = true;
	if (feed->trouble.len > 0)
	{
		take_trouble(feed, data, len);
		left = 0;
		more = false;
	}
	/* before the first row there may be nothing but blanks for long: take them */
	while (more && docrep_couch_feed_wants_more(feed) && !feed->bad && !feed->too_large && !feed->ended)
	{
		CouchJson	row;

		switch (docrep_cj_split(feed->split, &p, &left, &row))
		{
			case COUCHSPLIT_MORE:
				more = false;
				break;
			case COUCHSPLIT_ELEMENT:
				if (feed->mode == COUCHFEED_STREAM)
					take_line(feed, &row);
				else
					take_row(feed, &row);
				break;
			case COUCHSPLIT_END:
				take_end(feed);
				break;
			case COUCHSPLIT_BAD:
				if (left > 0 && *p == '{')
					take_trouble(feed, p, left);
				else
					feed->bad = docrep_cj_split_problem(feed->split);
				left = 0;
				more = false;
				break;
			case COUCHSPLIT_TOO_LARGE:
				if (feed->with_docs)
					feed->too_large = true;
				else
					feed->bad = "a change is too large";
				break;
		}
	}
	MemoryContextSwitchTo(caller);
	/* what follows the end is of no interest */
	return feed->ended || feed->bad || feed->too_large ? len : len - left;
}

/* An answer has broken off before its first row, and is asked for again by the client. */
static void
forget_beginning(DocrepHttpCall *call)
{
	CouchFeed  *feed = call->arg;

	docrep_cj_split_reset(feed->split);
}

/* The path of the call that goes on where the feed is, allocated. */
static char *
feed_path(const CouchFeed *feed)
{
	static const char *const names[] = {
		[COUCHFEED_BATCHES] = "normal",
		[COUCHFEED_POLL] = "longpoll",
		[COUCHFEED_STREAM] = "continuous",
	};
	const CouchFeedKind *kind = feed->peer->kind;
	char	   *since = docrep_http_escape(feed->at.data);
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfo(&path, "_changes?feed=%s&style=%s&since=%s", names[feed->mode],
					 kind && kind->winners_only ? "main_only" : "all_docs", since);
	pfree(since);
	if (feed->mode == COUCHFEED_POLL && feed->peer->no_heartbeats)
		appendStringInfo(&path, "&timeout=%d", POLL_TIMEOUT);
	else if (feed->mode != COUCHFEED_BATCHES)
		appendStringInfo(&path, "&heartbeat=%d", feed->trial ? TRIAL_HEARTBEAT : HEARTBEAT);
	if (feed->limit > 0)
		appendStringInfo(&path, "&limit=%d", feed->limit);
	if (feed->with_docs)
		appendStringInfoString(&path, "&include_docs=true");
	docrep_couch_filter_path(&path, kind, feed->peer->pouchdb);
	return path.data;
}

void
docrep_couch_feed_call(CouchFeed *feed)
{
	const CouchFeedKind *kind = feed->peer->kind;
	bool		filtered = docrep_couch_filter_at_source(kind);
	bool		has_body = docrep_couch_filter_has_body(kind);
	MemoryContext caller;
	char	   *path;

	docrep_http_drop(feed->call);
	feed->call = NULL;
	caller = MemoryContextSwitchTo(feed->cxt);
	if (feed->undecided)
		docrep_couch_pass_begin(feed);
	/* one that waits may make calls for ever: nothing is left behind */
	path = feed_path(feed);
	feed->call = docrep_http_call(feed->peer->http, feed->cxt, has_body ? "POST" : "GET", path);
	pfree(path);
	/* a filter that throws will do so again */
	feed->call->final_500 = filtered;
	if (has_body)
	{
		int			first;
		int			n;

		docrep_couch_pass_ids(feed, &first, &n);
		resetStringInfo(&feed->body);
		docrep_couch_filter_body(&feed->body, kind, first, n);
		feed->call->body = feed->body.data;
		feed->call->bodylen = feed->body.len;
	}
	if (feed->split == NULL)
		feed->split = feed->mode == COUCHFEED_STREAM ?
			docrep_cj_split_new(NULL, true, ROW_BYTES) :
			docrep_cj_split_new("results", false, ROW_BYTES);
	else
		docrep_cj_split_reset(feed->split);
	feed->call->consume = consume_rows;
	feed->call->again = forget_beginning;
	feed->call->arg = feed;
	if (feed->mode != COUCHFEED_BATCHES)
	{
		feed->call->silence = feed->trial ? TRIAL_SILENCE : SILENCE;
		/* before it is made again the database must be looked at */
		feed->call->retries = 0;
	}
	else if (filtered)
		feed->call->silence = Max(FILTER_SILENCE, feed->peer->base.options.connection_timeout);
	docrep_couch_set_seq(&feed->from, feed->at.data);
	feed->rows = feed->firsts = 0;
	resetStringInfo(&feed->trouble);
	feed->ended = feed->too_large = feed->alive = false;
	if (feed->last_seq != NULL)
		pfree(feed->last_seq);
	feed->last_seq = NULL;
	feed->begun = GetCurrentTimestamp();
	docrep_http_start(feed->call);
	MemoryContextSwitchTo(caller);
}

void
docrep_couch_feed_drop(CouchPeer *peer)
{
	CouchFeed  *feed = peer->feed;

	peer->feed = NULL;
	if (feed != NULL)
		MemoryContextDelete(feed->cxt);
}

/*
 * The first call finds out what changes are like.  Some servers do not count the rows of a
 * feed of a few documents.
 */
void
docrep_couch_feed_choose(CouchFeed *feed)
{
	const CouchFeedKind *kind = feed->peer->kind;
	double		ratio = feed->peer->first_ratio;
	bool		one = feed->peer->pouchdb || ratio < 0;

	if (kind == NULL || feed->mode == COUCHFEED_STREAM)
		return;
	feed->with_docs = kind->docs_wanted && feed->mode == COUCHFEED_BATCHES && ratio > DOCS_ABOVE;
	if (kind->doc_ids == NULL)
		feed->limit = Min(kind->batch, INT_MAX / BATCHES_A_CALL) * (one ? 1 : BATCHES_A_CALL);
}

/* Go on with a pass, if that is what a sequence says, or have it decided whether there is to be one. */
static void
begin_pass(CouchFeed *feed, const char *since)
{
	const CouchFeedKind *kind = feed->peer->kind;
	CouchPass  *pass = kind && kind->doc_ids ? docrep_couch_pass_parse(since) : NULL;

	if (pass == NULL)
		feed->undecided = docrep_couch_pass_may_be(feed);
	else if (feed->mode == COUCHFEED_BATCHES)
		docrep_couch_pass_resume(feed, pass);
	else
		docrep_couch_set_seq(&feed->at, pass->since);
}

CouchFeed *
docrep_couch_feed_begin(CouchPeer *peer, const char *since, CouchFeedMode mode)
{
	MemoryContext cxt = AllocSetContextCreate(peer->base.cxt, "docrep feed",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	CouchFeed  *feed = palloc0(sizeof(CouchFeed));

	docrep_couch_feed_drop(peer);
	feed->cxt = cxt;
	feed->peer = peer;
	feed->mode = mode;
	feed->trial = mode == COUCHFEED_STREAM && !peer->streams;
	docrep_couch_feed_choose(feed);
	feed->pending = -1;
	initStringInfo(&feed->at);
	initStringInfo(&feed->from);
	initStringInfo(&feed->given);
	initStringInfo(&feed->dropped);
	initStringInfo(&feed->trouble);
	initStringInfo(&feed->body);
	appendStringInfoString(&feed->at, since);
	appendStringInfoString(&feed->given, since);
	feed->peek_cxt = AllocSetContextCreate(cxt, "docrep feed row", ALLOCSET_SMALL_SIZES);
	docrep_changes_init(&feed->peeked, feed->peek_cxt);
	peer->feed = feed;
	begin_pass(feed, since);
	MemoryContextSwitchTo(caller);
	/* to decide it the source is asked, which is not for a request to wait for */
	if (!feed->undecided)
		docrep_couch_feed_call(feed);
	return feed;
}
