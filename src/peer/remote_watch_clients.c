/*-------------------------------------------------------------------------
 *
 * remote_watch_clients.c
 *		The HTTP clients of CouchDB databases that are watched.
 *
 * Databases of one server share an HTTP client, when their credentials and options
 * are the same: its session or token, its resolved name, its connections.
 * With HTTP/1.1 a poll takes a connection; with HTTP/2 they share.
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
#include "peer/remote_watch_couch.h"
#include "storage/latch.h"
#include "utils/memutils.h"

/* more than any machine has: the limit is that of descriptors */
#define CONNECTIONS		100000
#define IDLE_CONNECTIONS 64

dlist_head docrep_watch_clients = DLIST_STATIC_INIT(docrep_watch_clients);

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

CouchClient *
docrep_watch_find_client(WatchKey *key, const DocrepWaitPlace *place, char **path)
{
	MemoryContext cxt = AllocSetContextCreate(key->cxt, "docrep watched CouchDB",
											  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(cxt);
	DocrepHttpEndpoint *endpoint = docrep_http_endpoint_parse(place->endpoint->spec);
	char	   *id = client_id(endpoint, place);
	CouchClient *client;
	dlist_iter	iter;

	*path = MemoryContextStrdup(key->cxt, endpoint->path + strlen(endpoint->root));
	dlist_foreach(iter, &docrep_watch_clients)
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
	dlist_push_tail(&docrep_watch_clients, &client->link);
	return client;
}
