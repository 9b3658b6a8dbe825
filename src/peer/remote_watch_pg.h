/*-------------------------------------------------------------------------
 *
 * remote_watch_pg.h
 *		Waiting for tables of other Postgres servers: groups of waits that may
 *		share a connection, and connections.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_REMOTE_WATCH_PG_H
#define DOCREP_PEER_REMOTE_WATCH_PG_H

#include "libpq-fe.h"
#include "peer/postgres_url.h"
#include "peer/remote_watch_internal.h"
#include "utils/uuid.h"

/* Waits whose connections are made with the same parameters, by which they are found. */
typedef struct PgGroup
{
	dlist_node	link;
	MemoryContext cxt;
	char	   *id;				/* those parameters; holds a password */
	DocrepPgUrl *url;
	bool		restricted;		/* for a role that is no superuser */
	int			timeout;		/* silence that is death, in ms */
	bool		single;			/* the server cannot wait for many tables with one call */
	dlist_head	conns;
	int			nconns;
	TimestampTz unused_since;	/* there are none; 0: there are */
} PgGroup;

/* One key's wait. */
typedef struct PgWaiter
{
	WatchKey   *key;
	PgGroup    *group;
	struct PgWatchConn *conn;
	dlist_node	link;			/* in the connection's list */
	int64		number;			/* what the other side calls it */
	char	   *table;			/* uuid */
	char	   *since;
	bool		sent;			/* the other side has it */
} PgWaiter;

typedef enum PgConnState
{
	PGC_OFF,					/* to be opened at retry_at */
	PGC_RESOLVING,				/* a thread looks for addresses */
	PGC_CONNECTING,
	PGC_IDLE,					/* no call is under way */
	PGC_CALLING
} PgConnState;

typedef struct PgWatchConn
{
	WatchSocket socket;			/* first */
	PgGroup    *group;
	dlist_node	link;			/* in the group's list */
	MemoryContext cxt;
	dlist_head	waiters;
	int			nwaiters;
	TimestampTz unused_since;	/* no waiters; 0: some */

	PgConnState state;
	PGconn	   *conn;
	WatchLookup *lookup;
	int			fd;				/* that the event loop knows; -1: none */
	bool		unsent;			/* libpq holds bytes that the socket did not take */
	TimestampTz deadline;		/* of what the state waits for */
	TimestampTz retry_at;
	TimestampTz lost_at;		/* it stood, and stands no longer; 0: not so */
	bool		stood;			/* a call has been answered */
	bool		begun;			/* this connection has made a call */
	bool		dirty;			/* what is waited for is not what the call under way waits for */
	TimestampTz poke_at;		/* ... so the call is to be ended then */
	bool		closing;		/* what the other side said ends it */
	int64	   *gone;			/* numbers that the other side is to forget */
	int			ngone;
	int			max_gone;
} PgWatchConn;

/* ---------- remote_watch_conn.c ---------- */

extern PgWatchConn *docrep_watch_conn_create(PgGroup *group);
extern void docrep_watch_conn_free(PgWatchConn *c);	/* without waiters */

/* Have a waiter waited for; take it away. */
extern void docrep_watch_conn_add(PgWatchConn *c, PgWaiter *waiter);
extern void docrep_watch_conn_remove(PgWaiter *waiter);

/* Do what is due.  False: the server knows only the old call, and nothing was done about it. */
extern bool docrep_watch_conn_tend(PgWatchConn *c, TimestampTz now, long *timeout);

/* All keys of the connection have news, or are late. */
extern void docrep_watch_conn_give_up(PgWatchConn *c, bool are_late);

/*
 * The connection is of no use any more.  state: the SQLSTATE that the server
 * has given, or NULL.  Try again if it may be a restart, else let the keys know.
 */
extern void docrep_watch_conn_fail(PgWatchConn *c, const char *state);

/* ---------- remote_watch_connect.c ---------- */

/* Begin to open the connection; go on when its socket is ready. */
extern void docrep_watch_conn_open(PgWatchConn *c, TimestampTz now);
extern void docrep_watch_conn_go_on(PgWatchConn *c);

/* Tell the event loop what libpq waits for; the socket may be another one each time. */
extern void docrep_watch_conn_socket(PgWatchConn *c, uint32 events);

/* ---------- remote_watch_pg.c ---------- */

extern PgWaiter *docrep_watch_pg_waiter(int64 number);

#endif							/* DOCREP_PEER_REMOTE_WATCH_PG_H */
