/*-------------------------------------------------------------------------
 *
 * couchdb_fetch.h
 *		What the two files of fetching from a CouchDB share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCHDB_FETCH_H
#define DOCREP_PEER_COUCHDB_FETCH_H

#include "peer/couchdb_source.h"

/* One call. */
typedef struct FetchCall
{
	dlist_node	link;
	MemoryContext cxt;
	struct CouchFetch *fetch;
	DocrepHttpCall *call;
	CouchAnswer *answer;
	bool		bulk;
	CouchWant **wants;
	int			nwants;
	int			cursor;			/* of the last entry's want */
	Size		held;
	bool		bad;
	bool		too_large;
} FetchCall;

/* One send_fetch. */
typedef struct CouchFetch
{
	dlist_node	link;
	MemoryContext cxt;
	CouchPeer  *peer;
	bool		latest;
	dlist_head	together;		/* wants that are to be asked for with others ... */
	dlist_head	singly;			/* ... and by themselves */
	dlist_head	calls;
	int			ncalls;
	CouchSmalls smalls;
	DocrepDocs *out;			/* being filled, or NULL */
	Size		max_bytes;		/* until it has so many */
} CouchFetch;

/* A peer's fetches, oldest first. */
typedef struct CouchFetcher
{
	dlist_head	fetches;
	TimestampTz no_bulk_until;	/* _bulk_get is not tried before */
	int			ncalls;
	Size		held;
	FetchCall  *greedy;			/* goes on when too much is held, or NULL */
} CouchFetcher;

/* The peer's, made when it is first asked for. */
extern CouchFetcher *docrep_couch_fetcher(CouchPeer *peer);

/* ---------- couchdb_calls.c ---------- */

/* Start what may be started, of all fetches. */
extern void docrep_couch_start_calls(CouchPeer *peer);
/* A call is over, or not wanted. */
extern void docrep_couch_drop_call(FetchCall *fc);
/* Note what a call holds of a document that has begun to arrive. */
extern void docrep_couch_note_held(FetchCall *fc, Size held);
/* Put a want's halves in line instead of it. */
extern void docrep_couch_split_want(CouchFetch *fetch, const CouchWant *want);

/* ---------- couchdb_fetch.c ---------- */

/* A call's consume and again. */
extern Size docrep_couch_consume_docs(DocrepHttpCall *call, const char *data, Size len);
extern void docrep_couch_begin_again(DocrepHttpCall *call);

#endif							/* DOCREP_PEER_COUCHDB_FETCH_H */
