/*-------------------------------------------------------------------------
 *
 * couchdb.h
 *		What the files of the CouchDB peer share.
 *
 * couchdb.c			opening, identity, the table of operations
 * couchdb_source.h		the source's side
 * couchdb_target.h		the target's side, and local documents of either
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCHDB_H
#define DOCREP_PEER_COUCHDB_H

#include "peer/http.h"
#include "peer/requests.h"

typedef struct CouchPeer
{
	DocrepPeer	base;
	DocrepHttpEndpoint *endpoint;
	DocrepHttp *http;			/* from open on */
	bool		restricted;		/* the role is no superuser */
	char	   *spec;			/* the endpoint as text, credentials and all */

	/* who is there, as GET / and GET /db said */
	char	   *vendor;			/* "The Apache Software Foundation", ..., or "" */
	char	   *version;		/* "3.5.0", or "" */
	bool		pouchdb;		/* pouchdb-server or express-pouchdb */
	char	   *instance_start_time;	/* NULL: says nothing ("0", or not given) */
	char	   *process_start;	/* of servers that give this as instance_start_time */
	int64		update_seq;		/* if it is a number; else -1 */
	char	   *update_seq_text;	/* as it is, or NULL */
	TimestampTz asked_at;		/* when the database was asked for these */

	/* the source's side: couchdb_source.h */
	dlist_head	requests;		/* changes, fetches and a wait, in order (requests.h) */
	bool		is_source;		/* changes were asked for */
	bool		went_back;		/* its opaque sequences did, once */
	bool		streams;		/* feed=continuous was seen to work ... */
	bool		no_streams;		/* ... or not to: see couchdb_wait.c */
	bool		no_heartbeats;	/* what keeps a poll alive does not get through */
	struct CouchFeed *feed;
	struct CouchFeedKind *kind;
	double		first_ratio;	/* share of first revisions among recent changes; -1: not known */
	struct CouchFetcher *fetcher;
	struct CouchAttReader *att;

	/* the target's side: couchdb_target.h */
	struct CouchTarget *target;
} CouchPeer;

/* ---------- couchdb.c ---------- */

/* Calls that the HTTP client may have under way beside http_connections. */
#define COUCH_MORE_CALLS	2

/*
 * GET /db: is it still the database that was opened?  Raises DR503 if it was
 * deleted, or deleted and created again.  To be asked before a checkpoint is written.
 * False: the server was restarted, and would not know.
 */
extern bool docrep_couch_check_same(CouchPeer *peer);

/* The answer has the wrong form: DR503, "what" is a clause ("it is no JSON"). */
DOCREP_NORETURN extern void docrep_couch_malformed(CouchPeer *peer, const char *doing, const char *what);

#endif							/* DOCREP_PEER_COUCHDB_H */
