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
 * Databases of one server share an HTTP client, when their credentials and options
 * are the same: its session or token, its resolved name, its connections.
 * With HTTP/1.1 a poll takes a connection; with HTTP/2 they share.  Polls are
 * started a few at a time, the first one alone, so that 1,000 of them do not
 * resolve the same name in 1,000 threads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef HAVE_SYS_EPOLL_H
#include <sys/epoll.h>
#else
#define EPOLLIN		1
#define EPOLLOUT	4
#define EPOLLERR	8
#define EPOLLHUP	16
#endif

#include "peer/couchdb_source.h"
#include "peer/http_internal.h"
#include "peer/remote_watch_internal.h"
#include "storage/latch.h"
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

/* more than any machine has: the limit is that of descriptors */
#define CONNECTIONS		100000
#define IDLE_CONNECTIONS 64

typedef struct CouchClient
{
	WatchSocket socket;			/* first */
	dlist_node	link;
	MemoryContext cxt;
	char	   *id;				/* server, credentials and options; holds a password */
	DocrepHttpEndpoint *endpoint;
	DocrepHttp *http;
	dlist_head	polls;			/* under way */
	dlist_head	waiting;		/* to be started */
	int			npolls;			/* of both */
	bool		proved;			/* it has answered, or taken too long to */
	TimestampTz first_at;		/* when the first poll began */
	TimestampTz start_at;		/* when the next may */
	TimestampTz look_at;
	TimestampTz unused_since;
} CouchClient;

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

static dlist_head clients = DLIST_STATIC_INIT(clients);

/* ---------- the event loop's side ---------- */

/* curl says what it waits for at a socket. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
	CouchClient *client = arg;
	uint32		events = 0;

	if (what == CURL_POLL_REMOVE)
	{
		docrep_watch_forget_socket(fd);
		return 0;
	}
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= EPOLLOUT;
	return docrep_watch_socket(fd, events, &client->socket) ? 0 : -1;
}

/* A socket is ready. */
static void
serve_client(WatchSocket *socket, int fd, uint32 events)
{
	CouchClient *client = (CouchClient *) socket;

	docrep_http_curl_act(client->http, fd,
						 (events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? WL_SOCKET_READABLE : 0) |
						 (events & EPOLLOUT ? WL_SOCKET_WRITEABLE : 0));
}

/* ---------- clients ---------- */

/* What two polls must have in common to share a client; holds a password. */
static char *
client_id(const DocrepHttpEndpoint *e, const DocrepWaitPlace *place)
{
	StringInfoData buf;
	const char *parts[6];

	parts[0] = e->server;
	parts[1] = e->root;
	parts[2] = e->user;
	parts[3] = e->password;
	parts[4] = e->iam_api_key;
	parts[5] = e->iam_url;
	initStringInfo(&buf);
	appendStringInfo(&buf, "%d", place->restricted);
	for (int i = 0; i < lengthof(parts); i++)
		appendStringInfo(&buf, " %d %s", parts[i] ? (int) strlen(parts[i]) : -1,
						 parts[i] ? parts[i] : "");
	for (int i = 0; i < e->nheaders; i++)
		appendStringInfo(&buf, " %zu %s %zu %s", strlen(e->headers[i].name), e->headers[i].name,
						 strlen(e->headers[i].value), e->headers[i].value);
	appendStringInfo(&buf, " %s", docrep_peer_options_text(&place->options));
	return buf.data;
}

/* Make an HTTP client for polls. */
static void
open_client(CouchClient *client, const DocrepWaitPlace *place)
{
	DocrepPeerOptions options = place->options;
	CURLM	   *multi;

	options.http_connections = CONNECTIONS;
	options.proxy = place->options.proxy ? pstrdup(place->options.proxy) : NULL;
	client->http = docrep_http_create(client->endpoint, &options, place->restricted, client->cxt);
	/* it is this file that waits for its sockets */
	docrep_io_unregister(&client->http->io);
	client->http->polls = true;
	multi = client->http->multi;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_MULTIPLEX);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) IDLE_CONNECTIONS);
}

/* The client for a place, made if need be; *path gets the database's below the client's root. */
static CouchClient *
find_client(WatchKey *key, const DocrepWaitPlace *place, char **path)
{
	MemoryContext cxt = AllocSetContextCreate(key->cxt, "docrep watched CouchDB",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	DocrepHttpEndpoint *endpoint = docrep_http_endpoint_parse(place->endpoint->spec);
	char	   *id = client_id(endpoint, place);
	CouchClient *client;
	dlist_iter	iter;

	*path = MemoryContextStrdup(key->cxt, endpoint->path + strlen(endpoint->root));
	dlist_foreach(iter, &clients)
	{
		client = dlist_container(CouchClient, link, iter.cur);
		if (strcmp(client->id, id) == 0)
		{
			MemoryContextSwitchTo(caller);
			MemoryContextDelete(cxt);
			return client;
		}
	}
	client = palloc0(sizeof(CouchClient));
	client->socket.ready = serve_client;
	client->cxt = cxt;
	client->id = id;
	client->endpoint = endpoint;
	dlist_init(&client->polls);
	dlist_init(&client->waiting);
	open_client(client, place);
	MemoryContextSwitchTo(caller);
	/* until here it went with the key */
	MemoryContextSetParent(cxt, docrep_watch_cxt);
	dlist_push_tail(&clients, &client->link);
	return client;
}

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
	poll->client = find_client(key, place, &database);
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

	dlist_foreach_modify(iter, &clients)
		tend_client(dlist_container(CouchClient, link, iter.cur), now, timeout);
}
