/*-------------------------------------------------------------------------
 *
 * couchdb_wait.c
 *		Waiting for changes of a CouchDB: a long poll, whose rows are the next
 *		batch.
 *
 * A poll that nobody waits for any more, because the latch was set or the time
 * is up, stays under way and serves the next wait for the same.
 *
 * A poll may break off because the server was restarted, and the database may be
 * another one then: it is looked at before the poll is made again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/io.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A long poll that comes back with nothing is not asked again before this (ms). */
#define POLL_PAUSE			1000

static const char doing[] = "waiting for changes";

/* Have a long poll under way for what comes after a sequence. */
static CouchFeed *
ensure_poll(CouchPeer *peer, const char *since)
{
	CouchFeed  *feed = peer->feed;

	if (feed == NULL || !feed->longpoll || strcmp(feed->at.data, since) != 0)
		feed = docrep_couch_feed_begin(peer, since, true);
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

/* Has the source got on without a row, as feeds of a few documents do? */
static bool
has_moved(const CouchFeed *feed)
{
	return feed->ended && feed->last_seq != NULL && strcmp(feed->last_seq, feed->at.data) != 0;
}

/*
 * See to the poll's call.  Returns when to come back at the latest.  One that comes
 * back with nothing, as some servers do after a time of their own, is asked again,
 * but not at once if it was at once.
 */
static TimestampTz
tend_poll(CouchFeed *feed, TimestampTz deadline)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = feed->retry_at;

	if (feed->call != NULL && !feed->ended)
	{
		if (feed->bad == NULL && !feed->call->done)
			return deadline;
		docrep_couch_feed_broke(feed, doing);
		next = feed->retry_at;
	}
	else if (feed->call != NULL)
		next = TimestampTzPlusMilliseconds(feed->begun, POLL_PAUSE);
	if (now < next)
		return Min(next, deadline);
	if (feed->call == NULL)
		docrep_couch_check_source(feed->peer, feed->at.data);
	docrep_couch_feed_call(feed);
	return deadline;
}

bool
docrep_couch_recv_wait(DocrepPeer *base)
{
	CouchPeer  *peer = (CouchPeer *) base;
	DocrepRequest *request = docrep_request_head(&peer->requests, REQUEST_WAIT);
	CouchFeed  *feed = ensure_poll(peer, request->since);
	bool		over = false;

	while (!feed->news && !has_moved(feed) && !over)
	{
		TimestampTz wake = tend_poll(feed, request->deadline);
		int			happened = docrep_http_step(peer->http, wake);

		over = happened == WL_LATCH_SET || GetCurrentTimestamp() >= request->deadline;
	}
	docrep_request_drop(request);
	return feed->news || has_moved(feed);
}
