/*-------------------------------------------------------------------------
 *
 * remote_watch_couch.c
 *		Waiting for changes of CouchDB databases: long polls.
 *
 * A poll asks for one row.  When a row begins to come, or the answer ends in any
 * way but "nothing new", its key has news: the job's own run reads the feed,
 * finds out whether it is still the same database, and fails if there is
 * something to fail about.
 *
 * Polls are started a few at a time, the first one of a client alone, so that
 * 1,000 of them do not resolve the same name in 1,000 threads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/remote_watch_couch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a server that waits sends a newline this often, in ms, or more often if the timeout is short */
#define HEARTBEAT		10000
#define SHORTEST_BEAT	1000

/* polls that one round starts, and the pause between rounds, in ms */
#define BURST			16
#define BURST_PAUSE		10

/* the others wait for so long (ms) for the first poll of a server to be answered */
#define FIRST_PAUSE		250

/* a poll that ends with nothing is not made again before this, in ms */
#define POLL_PAUSE		1000

/* how often it is looked which polls are silent, in ms */
#define LOOK_INTERVAL	1000

/* the longest answer without a row, blanks not counted */
#define EMPTY_ANSWER	(16 * 1024)

typedef struct CouchPoll
{
	WatchKey   *key;
	CouchClient *client;
	dlist_node	link;			/* in one of the client's lists */
	DocrepHttpCall *call;		/* NULL: in the list of those to be started */
	TimestampTz start_at;		/* not before; 0: any time */
	TimestampTz begun;
	const char *since;
	char	   *path;
	int			heartbeat;
	char	   *text;			/* what came, without blanks */
	int			len;
	int			size;
} CouchPoll;

/* ---------- polls ---------- */

/* Take bytes of an answer, without blanks; what is too long is cut. */
static Size
consume(DocrepHttpCall *call, const char *data, Size len)
{
	CouchPoll  *poll = call->arg;

	for (Size i = 0; i < len && poll->len < EMPTY_ANSWER; i++)
	{
		if (data[i] == '\n' || data[i] == '\r' || data[i] == ' ' || data[i] == '\t')
			continue;
		if (poll->len == poll->size)
		{
			poll->size = Max(32, poll->size * 2);
			poll->text = poll->text ? repalloc(poll->text, poll->size) :
				MemoryContextAlloc(poll->key->cxt, poll->size);
		}
		poll->text[poll->len++] = data[i];
	}
	return len;
}

/* Has a row begun?  Servers that put the rows first show it at once. */
static bool
row_begun(const CouchPoll *poll)
{
	static const char head[] = "{\"results\":[";
	const int	n = sizeof(head) - 1;

	return poll->len >= EMPTY_ANSWER ||
		(poll->len > n && memcmp(poll->text, head, n) == 0 && poll->text[n] != ']');
}

/* Does a complete answer say that there is nothing new? */
static bool
is_empty(const CouchPoll *poll)
{
	CouchJson	answer;
	CouchJson	member;
	CouchJsonWalk walk;
	char	   *seq;
	bool		same;

	if (poll->call->failed != 0 || poll->call->status / 100 != 2 ||
		!docrep_cj_value(poll->text ? poll->text : "", poll->len, &answer) ||
		answer.kind != CJ_OBJECT)
		return false;
	member = docrep_cj_get(&answer, "results");
	if (member.kind != CJ_ARRAY)
		return false;
	docrep_cj_walk(&walk, &member);
	if (docrep_cj_next(&walk))
		return false;
	member = docrep_cj_get(&answer, "last_seq");
	seq = docrep_couch_seq(&member);
	same = seq != NULL && strcmp(seq, poll->since) == 0;
	if (seq != NULL)
		pfree(seq);
	return same;
}

/* Have a poll started when its turn comes. */
static void
queue_poll(CouchPoll *poll, TimestampTz start_at)
{
	CouchClient *client = poll->client;

	if (poll->call != NULL)
	{
		dlist_delete(&poll->link);
		docrep_http_drop(poll->call);
		poll->call = NULL;
	}
	poll->start_at = start_at;
	dlist_push_tail(&client->waiting, &poll->link);
}

/* Start one. */
static void
start_poll(CouchPoll *poll, TimestampTz now)
{
	CouchClient *client = poll->client;
	DocrepHttpCall *call = docrep_http_call(client->http, poll->key->cxt, "GET", poll->path);

	call->arg = poll;
	call->consume = consume;
	call->silence = 3 * poll->heartbeat + Min(poll->heartbeat, 5000);
	call->retries = 0;
	dlist_delete(&poll->link);
	dlist_push_tail(&client->polls, &poll->link);
	poll->call = call;
	poll->begun = now;
	poll->len = 0;
	docrep_http_start(call);
}

/* Something has happened to a poll. */
static void
look_at_poll(DocrepHttpCall *call)
{
	CouchPoll  *poll = call->arg;

	if (call->headers_in)
		poll->client->proved = true;
	/* "done" and empty ones are started again by tend_poll, as this must not drop calls */
	if (row_begun(poll) || (call->done && !is_empty(poll)))
		docrep_watch_news(poll->key);
}

/* The key is not waited for any more. */
static void
release_poll(WatchKey *key)
{
	CouchPoll  *poll = key->waiter;
	CouchClient *client = poll->client;

	if (client == NULL)
		return;
	dlist_delete(&poll->link);
	if (--client->npolls == 0)
		client->unused_since = GetCurrentTimestamp();
	docrep_http_drop(poll->call);
}

/* The path of a poll's call. */
static char *
poll_path(const CouchPoll *poll, const char *database)
{
	return psprintf("%s/_changes?feed=longpoll&style=main_only&limit=1&heartbeat=%d&since=%s",
					database, poll->heartbeat, docrep_http_escape(poll->since));
}

void
docrep_watch_couch_add(WatchKey *key, const DocrepWaitPlace *place)
{
	MemoryContext caller = MemoryContextSwitchTo(key->cxt);
	CouchPoll  *poll = palloc0(sizeof(CouchPoll));
	int			timeout = place->options.connection_timeout;
	char	   *database;

	poll->key = key;
	poll->since = place->since;
	poll->heartbeat = timeout <= 0 ? HEARTBEAT :
		Max(Min(timeout / 3, HEARTBEAT), SHORTEST_BEAT);
	poll->client = docrep_watch_find_client(key, place, &database);
	poll->path = poll_path(poll, database);
	poll->client->npolls++;
	poll->client->unused_since = 0;
	queue_poll(poll, 0);
	key->waiter = poll;
	key->release = release_poll;
	MemoryContextSwitchTo(caller);
}

/* ---------- time ---------- */

/* All polls of a client have news. */
static void
give_up(CouchClient *client)
{
	dlist_iter	iter;

	dlist_foreach(iter, &client->polls)
		docrep_watch_news(dlist_container(CouchPoll, link, iter.cur)->key);
	dlist_foreach(iter, &client->waiting)
		docrep_watch_news(dlist_container(CouchPoll, link, iter.cur)->key);
}

/* Have polls that ended with nothing made again. */
static void
take_empty(CouchClient *client)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &client->polls)
	{
		CouchPoll  *poll = dlist_container(CouchPoll, link, iter.cur);

		if (poll->call->done && poll->key->state == WATCH_WAITING)
			queue_poll(poll, TimestampTzPlusMilliseconds(poll->begun, POLL_PAUSE));
	}
}

/* Start polls, a few at a time. */
static void
start_polls(CouchClient *client, TimestampTz now, long *timeout)
{
	dlist_mutable_iter iter;
	int			left = client->proved ? BURST : 1;
	bool		more = false;

	if (dlist_is_empty(&client->waiting))
		return;
	if (!client->proved && client->first_at != 0)
	{
		if (!TimestampDifferenceExceeds(client->first_at, now, FIRST_PAUSE))
		{
			docrep_watch_until(timeout, TimestampTzPlusMilliseconds(client->first_at,
																	FIRST_PAUSE + 1), now);
			return;
		}
		client->proved = true;
		left = BURST;
	}
	if (client->start_at > now)
	{
		docrep_watch_until(timeout, client->start_at, now);
		return;
	}
	dlist_foreach_modify(iter, &client->waiting)
	{
		CouchPoll  *poll = dlist_container(CouchPoll, link, iter.cur);

		if (poll->key->state != WATCH_WAITING)
			continue;
		if (poll->start_at > now)
		{
			docrep_watch_until(timeout, poll->start_at, now);
			continue;
		}
		if (left-- <= 0)
		{
			more = true;
			break;
		}
		if (!docrep_watch_has_descriptor())
		{
			docrep_watch_late(poll->key);
			continue;
		}
		if (client->first_at == 0)
			client->first_at = now;
		start_poll(poll, now);
	}
	client->start_at = TimestampTzPlusMilliseconds(now, BURST_PAUSE);
	if (more)
		docrep_watch_until(timeout, client->start_at, now);
}

/* Let curl and the client work on what is due. */
static void
work(CouchClient *client, TimestampTz now, long *timeout)
{
	DocrepHttp *http = client->http;

	if (client->look_at <= now)
	{
		client->look_at = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
		http->io.ready(&http->io, PGINVALID_SOCKET, 0);
		docrep_http_deliver(http, look_at_poll);
		take_empty(client);
	}
	else if (http->curl_due != 0 && http->curl_due <= now)
	{
		http->curl_due = 0;
		docrep_http_curl_act(http, CURL_SOCKET_TIMEOUT, 0);
	}
	start_polls(client, now, timeout);
	docrep_http_deliver(http, look_at_poll);
}

/* See to a client; one without polls goes after a while. */
static void
tend_client(CouchClient *client, TimestampTz now, long *timeout)
{
	MemoryContext caller = CurrentMemoryContext;

	if (client->unused_since != 0)
	{
		if (TimestampDifferenceExceeds(client->unused_since, now, WATCH_LINGER))
		{
			dlist_delete(&client->link);
			MemoryContextDelete(client->cxt);
			return;
		}
	}
	PG_TRY();
	{
		work(client, now, timeout);
	}
	PG_CATCH();
	{
		/* as a redirect to a host that is not allowed: each job will see by itself */
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		give_up(client);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (client->npolls > 0)
		docrep_watch_until(timeout, client->look_at, now);
	docrep_watch_until(timeout, client->http->curl_due, now);
}

void
docrep_watch_couch_tend(TimestampTz now, long *timeout)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &docrep_watch_clients)
		tend_client(dlist_container(CouchClient, link, iter.cur), now, timeout);
}
