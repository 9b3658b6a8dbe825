/*-------------------------------------------------------------------------
 *
 * couchdb_wait.c
 *		Waiting for changes of a CouchDB: a stream (feed=continuous), whose rows
 *		are the next batches; or long polls, one after the other.
 *
 * A stream or poll that nobody waits for any more, because the latch was set or
 * the time is up, stays under way and serves the next wait for the same.
 *
 * Either may break off because the server was restarted, and the database may be
 * another one then: it is looked at before the call is made again.
 *
 * Not every server has streams, and not everything in front of one lets them
 * through.  So the first one is a trial with quick heartbeats.  One that is
 * refused, that brings nothing or something else, or that ends at once again and
 * again is given up for long polls.  What was wrong was not the stream's fault if the
 * poll fails, too; then that is what is told.  A process that runs one replication
 * after the other remembers for an hour whom it has to poll.
 *
 * PouchDB's servers are polled: they never learn that somebody has left a stream,
 * and go on reading changes for him until they end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "peer/couchdb_source.h"
#include "peer/io.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A long poll that comes back with nothing is not asked again before this (ms). */
#define POLL_PAUSE			1000
/* So many streams in a row that end soon are enough; more if there was one that did not. */
#define SHORT_STREAMS		2
#define SHORT_STREAMS_LATER	3

/* Databases that are known to want polls, and for how long that is believed. */
#define POLLED				64
#define POLLED_FOR			(60 * 60 * 1000)

typedef struct Polled
{
	uint32		hash;			/* of the database's identity */
	TimestampTz since;			/* 0: unused */
} Polled;

static Polled polled[POLLED];	/* by hash: a later one takes the place of an earlier one */

static const char doing[] = "waiting for changes";

/* Where a database is remembered. */
static Polled *
polled_place(const CouchPeer *peer, uint32 *hash)
{
	const char *identity = peer->base.identity;

	*hash = hash_bytes((const unsigned char *) identity, (int) strlen(identity));
	return &polled[*hash % POLLED];
}

/* Was it found before that the database wants polls? */
static bool
is_polled(CouchPeer *peer)
{
	uint32		hash;
	Polled	   *place = polled_place(peer, &hash);

	return place->since != 0 && place->hash == hash &&
		!TimestampDifferenceExceeds(place->since, GetCurrentTimestamp(), POLLED_FOR);
}

/* Have a feed under way that waits for what comes after a sequence. */
static CouchFeed *
ensure_waiting(CouchPeer *peer, const char *since)
{
	CouchFeed  *feed = peer->feed;

	if (feed == NULL || feed->mode == COUCHFEED_BATCHES || strcmp(feed->at.data, since) != 0)
		feed = docrep_couch_feed_begin(peer, since,
									   peer->pouchdb || peer->no_streams || is_polled(peer) ?
									   COUCHFEED_POLL : COUCHFEED_STREAM);
	return feed;
}

void
docrep_couch_send_wait(DocrepPeer *base, const char *since, int timeout)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *request = docrep_request_push(&peer->requests, base->cxt, REQUEST_WAIT);

	request->since = MemoryContextStrdup(base->cxt, since);
	request->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	(void) ensure_waiting(peer, since);
}

/* Has the source got on without a row, as feeds of a few documents do? */
static bool
has_moved(const CouchFeed *feed)
{
	return feed->ended && feed->last_seq != NULL && strcmp(feed->last_seq, feed->at.data) != 0;
}

/* ---------- streams ---------- */

/*
 * A stream is over.  What says that the server, or something in front of it, does not
 * manage streams; NULL: nothing.
 */
static const char *
why_unfit(CouchFeed *feed)
{
	const DocrepHttpCall *call = feed->call;
	bool		success = call->headers_in && call->status / 100 == 2;

	if (feed->bad != NULL)
		return feed->bad;
	if (feed->trial && docrep_couch_feed_was_silent(feed))
		return "not even a heartbeat has come of it";
	if (call->headers_in && !success && !docrep_couch_feed_in_trouble(feed))
		return "it is refused";
	/* a server that is not there at all is none of the stream's affair */
	if (!call->headers_in)
		return NULL;
	if (!docrep_couch_feed_is_short(feed))
		feed->short_lived = 0;
	else if (++feed->short_lived >= (feed->trial ? SHORT_STREAMS : SHORT_STREAMS_LATER))
		return success ? "it ends at once" : "it is refused";
	return NULL;
}

/* Does the source say that its filter is what has failed? */
static bool
is_filters_fault(const CouchFeed *feed)
{
	return feed->refused != NULL && docrep_couch_filter_at_source(feed->peer->kind);
}

/* Do without streams from here on. */
static void
give_up_streams(CouchPeer *peer, const char *since, const char *why)
{
	uint32		hash;
	Polled	   *place;

	ereport(LOG,
			(errmsg("%s does not give its changes as a stream: it is polled", peer->base.display),
			 errdetail("The answer is not what a CouchDB gives: %s.", why)));
	peer->no_streams = true;
	place = polled_place(peer, &hash);
	place->hash = hash;
	place->since = GetCurrentTimestamp();
	(void) docrep_couch_feed_begin(peer, since, COUCHFEED_POLL);
}

/* A stream has shown that it is one.  It may go on with fewer heartbeats. */
static void
end_trial(CouchFeed *feed)
{
	feed->peer->streams = true;
	feed->trial = false;
	docrep_couch_feed_call(feed);
}

/* ---------- calls ---------- */

/*
 * See to a call that is over, or has answered all it was to.  Returns when the next one
 * may be made.  A poll that comes back with nothing, as some servers' do after a time
 * of their own, is asked again, but not at once if it was at once.
 */
static TimestampTz
after_call(CouchFeed *feed)
{
	if (feed->mode == COUCHFEED_POLL && feed->ended)
		return TimestampTzPlusMilliseconds(feed->begun, POLL_PAUSE);
	docrep_couch_feed_broke(feed, doing);
	return feed->retry_at;
}

/* See to the call of the feed that waits.  Returns when to come back at the latest. */
static TimestampTz
tend_call(CouchPeer *peer, const char *since, TimestampTz deadline)
{
	CouchFeed  *feed = peer->feed;
	TimestampTz next = feed->retry_at;

	if (feed->call != NULL)
	{
		const char *why;

		if (feed->bad == NULL && !feed->call->done && !feed->ended)
		{
			if (feed->trial && feed->alive)
				end_trial(feed);
			return deadline;
		}
		/* that a filter has failed is not the stream's fault */
		if (feed->mode == COUCHFEED_STREAM && !is_filters_fault(feed) && (why = why_unfit(feed)) != NULL)
		{
			give_up_streams(peer, since, why);
			return deadline;
		}
		next = after_call(feed);
	}
	if (GetCurrentTimestamp() < next)
		return Min(next, deadline);
	if (feed->call == NULL)
		docrep_couch_check_source(peer, since);
	docrep_couch_feed_call(feed);
	return deadline;
}

bool
docrep_couch_recv_wait(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *request = docrep_request_head(&peer->requests, REQUEST_WAIT);
	bool		over = false;
	bool		news;

	(void) ensure_waiting(peer, request->since);
	while (!(news = peer->feed->news || has_moved(peer->feed)) && !over)
	{
		TimestampTz wake = tend_call(peer, request->since, request->deadline);
		int			happened = docrep_http_step(peer->http, wake);

		over = happened == WL_LATCH_SET || GetCurrentTimestamp() >= request->deadline;
	}
	docrep_request_drop(request);
	return news;
}
