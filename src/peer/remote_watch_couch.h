/*-------------------------------------------------------------------------
 *
 * remote_watch_couch.h
 *		CouchDB databases that are watched; for remote_watch_couch.c and
 *		remote_watch_clients.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_REMOTE_WATCH_COUCH_H
#define DOCREP_PEER_REMOTE_WATCH_COUCH_H

#include "peer/http_internal.h"
#include "peer/remote_watch_internal.h"

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

/* ---------- remote_watch_clients.c ---------- */

/* All of them: CouchClient. */
extern dlist_head docrep_watch_clients;

/* The client for a place, made if need be; *path gets the database's below the client's root. */
extern CouchClient *docrep_watch_find_client(WatchKey *key, const DocrepWaitPlace *place,
											 char **path);

#endif							/* DOCREP_PEER_REMOTE_WATCH_COUCH_H */
