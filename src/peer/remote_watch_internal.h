/*-------------------------------------------------------------------------
 *
 * remote_watch_internal.h
 *		What the files of the watch share.
 *
 * remote_watch.c		keys, their news, the event loop
 * remote_watch_pg.c	Postgres sources: who shares a connection
 * remote_watch_conn.c	... a connection and its calls
 * remote_watch_connect.c	... how it is made
 * remote_watch_names.c	names of hosts, resolved in threads
 * remote_watch_couch.c	CouchDB sources: their polls
 * remote_watch_clients.c	... the HTTP clients that they share
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_REMOTE_WATCH_INTERNAL_H
#define DOCREP_PEER_REMOTE_WATCH_INTERNAL_H

#include "compat.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "peer/remote_watch.h"

/* A connection that nobody needs is kept for so long (ms): who has news is soon back. */
#define WATCH_LINGER	30000

/* A source that was there and went away has so long (ms) to come back before its keys have news. */
#define WATCH_PATIENCE	5000

typedef enum WatchState
{
	WATCH_IDLE = 0,				/* not waited for; remembered for its pace */
	WATCH_DEFERRED,				/* to begin at start_at */
	WATCH_WAITING,				/* one of the files below has it */
	WATCH_LATE,					/* no means to wait for it: it has news by and by */
	WATCH_NEWS					/* to be handed out */
} WatchState;

typedef struct WatchKey
{
	uint64		key;			/* hash key */
	WatchState	state;
	dlist_node	link;			/* in the list of its state, if that has one */
	TimestampTz start_at;
	TimestampTz told;			/* when it was last handed out */
	DocrepWaitPlace *place;		/* until it waits */
	MemoryContext cxt;			/* of all below; NULL while idle */
	void		(*release) (struct WatchKey *key);	/* of WATCH_WAITING: let go of it */
	void	   *waiter;			/* whose it is: PgWaiter, CouchPoll */
} WatchKey;

/* Whose socket it is; "ready" gets EPOLLIN and so on. */
typedef struct WatchSocket
{
	void		(*ready) (struct WatchSocket *socket, int fd, uint32 events);
} WatchSocket;

/* ---------- remote_watch.c: what the others call; none of it raises ---------- */

/* The source may have changed, or the wait failed.  The waiter is released later. */
extern void docrep_watch_news(WatchKey *key);

/* There are no means to wait for it just now. */
extern void docrep_watch_late(WatchKey *key);

/* Say in the log, not more often than now and then, why keys are late. */
extern void docrep_watch_complain(const char *what, const char *hint);

/* What is waited for at a descriptor (EPOLLIN, EPOLLOUT; 0: it is kept, but nothing). */
extern bool docrep_watch_socket(int fd, uint32 events, WatchSocket *socket);

/* It is closed, or is no more of interest. */
extern void docrep_watch_forget_socket(int fd);

/* May another connection be made?  With a line in the log if not. */
extern bool docrep_watch_has_descriptor(void);

/* Lower *timeout (ms, -1: none) to what is left until a time (0: never). */
extern void docrep_watch_until(long *timeout, TimestampTz at, TimestampTz now);

/* wait_place.c: all options as one text, the same for equal ones; holds a proxy's password. */
extern char *docrep_peer_options_text(const DocrepPeerOptions *options);

/* Memory that lives as long as the process, below the watch's. */
extern MemoryContext docrep_watch_cxt;

/* ---------- the kinds of sources ---------- */

/* Begin to wait; may raise.  The place lives as long as the key's context. */
extern void docrep_watch_pg_add(WatchKey *key, const DocrepWaitPlace *place);
extern void docrep_watch_couch_add(WatchKey *key, const DocrepWaitPlace *place);

/* Do what is due; lowers *timeout to when there is more. */
extern void docrep_watch_pg_tend(TimestampTz now, long *timeout);
extern void docrep_watch_couch_tend(TimestampTz now, long *timeout);

/* ---------- remote_watch_names.c ---------- */

typedef struct WatchLookup WatchLookup;

/*
 * Resolve the hosts of a list ("a,b") with their ports; "done" is called by the
 * event loop.  NULL: no thread can be made.
 */
extern WatchLookup *docrep_watch_lookup(const char *hosts, const char *ports,
										void (*done) (WatchLookup *lookup, void *arg), void *arg);
extern void docrep_watch_lookup_drop(WatchLookup *lookup);

/*
 * What came of it, for libpq: three lists of the same length, with an element
 * for each address, in the current context.  False: no host could be resolved.
 */
extern bool docrep_watch_lookup_result(const WatchLookup *lookup, char **hosts, char **addresses,
									   char **ports);

#endif							/* DOCREP_PEER_REMOTE_WATCH_INTERNAL_H */
