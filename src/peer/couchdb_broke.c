/*-------------------------------------------------------------------------
 *
 * couchdb_broke.c
 *		What becomes of a CouchDB's changes feed whose call breaks off.
 *
 * It is made again after the last row that was taken.  As long as there are new rows
 * that is no failure.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "utils/timestamp.h"

/* A call that breaks off is made again after this (ms). */
#define RETRY_PAUSE			250
/* A long poll or a stream that has lived so long (ms) may break off without a row. */
#define POLL_LIFE			5000

bool
docrep_couch_feed_is_short(const CouchFeed *feed)
{
	return !TimestampDifferenceExceeds(feed->begun, GetCurrentTimestamp(), POLL_LIFE);
}

bool
docrep_couch_feed_was_silent(const CouchFeed *feed)
{
	return feed->call->failed != 0 && !feed->alive &&
		TimestampDifferenceExceeds(feed->begun, GetCurrentTimestamp(), feed->call->silence);
}

/*
 * Nothing has come of a poll, not even a heartbeat.  Perhaps something on the way holds
 * back answers until they are complete: then polls must end by themselves.  Whether there
 * is somebody at all is found out by looking at the database.
 */
static bool
may_be_held_back(const CouchFeed *feed)
{
	return feed->mode == COUCHFEED_POLL && !feed->peer->no_heartbeats &&
		docrep_couch_feed_was_silent(feed);
}

/*
 * Is another call worth while?  If this one has brought anything; or if it is a poll
 * or a stream, which may break off for many reasons: after it has lived for some time, or
 * not too often in a row.  Silence is none of them: nobody is there.
 */
static bool
worth_another(CouchFeed *feed)
{
	if (strcmp(feed->at.data, feed->from.data) != 0)
		return true;
	if (feed->mode == COUCHFEED_BATCHES)
		return false;
	/* how often a stream may end at once is for couchdb_wait.c to say */
	if (feed->mode == COUCHFEED_STREAM && feed->short_lived > 0)
		return true;
	if (may_be_held_back(feed))
	{
		feed->peer->no_heartbeats = true;
		return true;
	}
	if (!docrep_couch_feed_is_short(feed))
	{
		if (!feed->call->headers_in)
			return false;
		feed->failures = 0;
	}
	return feed->failures++ < Max(1, feed->peer->base.options.retries_per_request);
}

/*
 * The source does not know a sequence of its own any more, as when it was made
 * anew: all is read again.  What the target has is not fetched.
 */
static bool
start_over(CouchFeed *feed)
{
	DocrepHttpCall *call = feed->call;

	if (call->failed != 0 || call->status != 400 || strcmp(feed->at.data, COUCH_SEQ_START) == 0)
		return false;
	ereport(LOG,
			(errmsg("%s refuses the sequence of the last checkpoint: its changes are read from the beginning",
					feed->peer->base.display)));
	docrep_couch_set_seq(&feed->at, COUCH_SEQ_START);
	docrep_couch_set_seq(&feed->given, COUCH_SEQ_START);
	docrep_couch_pass_start_over(feed);
	return true;
}

bool
docrep_couch_feed_in_trouble(const CouchFeed *feed)
{
	int			status = feed->call->status;

	return status == 408 || status == 429 || status >= 500;
}

/* Is it a call that waits, and may do so again when the server's trouble is over? */
static bool
is_trouble(const CouchFeed *feed)
{
	return feed->mode != COUCHFEED_BATCHES && docrep_couch_feed_in_trouble(feed);
}

void
docrep_couch_feed_broke(CouchFeed *feed, const char *what)
{
	DocrepHttpCall *call = feed->call;

	(void) docrep_couch_feed_is_bad(feed);
	if (feed->refused != NULL)
		docrep_couch_filter_raise(feed->peer, what, feed->refused);
	if (feed->bad != NULL)
		docrep_couch_malformed(feed->peer, what, feed->bad);
	docrep_couch_filter_check_answer(feed->peer, call);
	if (call->failed == 0 && call->status / 100 != 2 && !start_over(feed) && !is_trouble(feed))
		docrep_http_raise(call, what);
	if (!worth_another(feed))
	{
		if (call->failed != 0 || call->status / 100 != 2)
			docrep_http_raise(call, what);
		docrep_couch_malformed(feed->peer, what, "it ends too early");
	}
	docrep_http_drop(call);
	feed->call = NULL;
	feed->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												 RETRY_PAUSE << Min(feed->failures + feed->short_lived, 6));
}
