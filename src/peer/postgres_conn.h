/*-------------------------------------------------------------------------
 *
 * postgres_conn.h
 *		A libpq connection that never blocks: connecting, sending in pipeline
 *		mode, waiting for answers, and turning failures into errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_POSTGRES_CONN_H
#define DOCREP_PEER_POSTGRES_CONN_H

#include "compat.h"
#include "datatype/timestamp.h"
#include "libpq-fe.h"
#include "peer/io.h"
#include "peer/postgres_url.h"

typedef struct DocrepPgConn
{
	DocrepIo	io;				/* first: what waits has only this */
	PGconn	   *conn;			/* NULL: not connected */
	PGresult   *result;			/* the one being read; cleared with the connection */
	bool		has_fd;			/* a descriptor is reserved at fd.c */
	bool		unsent;			/* libpq holds bytes that the socket did not take */
	const char *display;
	const char *password;		/* never to be shown; or NULL */
	pgsocket	fd;				/* the socket that was waited for last */
	uint32		wanted;			/* what is waited for at the socket, beside sending */
	uint32		happened;		/* of that, since the wait began */
	MemoryContextCallback on_delete;
} DocrepPgConn;

/*
 * The ways to authenticate that ordinary roles may be asked for, as libpq's
 * require_auth; a libpq that has it (16) refuses a server that wants another.
 */
#define DOCREP_PG_REQUIRED_AUTH "password,md5,scram-sha-256"

/* The parameters of a statement, in binary. */
#define PG_PARAMS	10

typedef struct DocrepPgParams
{
	int			n;
	Oid			types[PG_PARAMS];
	const char *values[PG_PARAMS];
	int			lengths[PG_PARAMS];
	int			formats[PG_PARAMS];
	char		scratch[PG_PARAMS][8];
} DocrepPgParams;

/* What to do about an answer that does not come. */
typedef enum DocrepPgWaitResult
{
	PGWAIT_RESULT,				/* there is one */
	PGWAIT_TIMEOUT,
	PGWAIT_LATCH				/* the latch was set (only if it was asked for) */
} DocrepPgWaitResult;

/* A connection to be, in cxt, whose deletion closes it. */
extern DocrepPgConn *docrep_pgconn_create(MemoryContext cxt);

/*
 * The parameters to connect with: the URL's, ours where the URL has none, and
 * those that the URL cannot change.  Allocated, with room for four more.
 */
extern void docrep_pgconn_parameters(const DocrepPgUrl *url, bool restricted,
									 const char ***keywords, const char ***values);

/*
 * Connect within timeout ms.  restricted: for a role that is no superuser.
 * DR503, DR401, DR403, DR404.
 */
extern void docrep_pgconn_connect(DocrepPgConn *c, const DocrepPgUrl *url, bool restricted,
								  int timeout);

/* Close, without waiting.  Cannot fail. */
extern void docrep_pgconn_close(DocrepPgConn *c);

/*
 * Send a statement and the end of its transaction.  Returns without its answer; if
 * "push", when nothing else keeps the other side busy, not before most of it is sent.
 */
extern void docrep_pgconn_send(DocrepPgConn *c, const char *sql, const DocrepPgParams *params,
							   bool push);

/* Bytes without a meaning: they end a wait on the other side. */
extern void docrep_pgconn_poke(DocrepPgConn *c);

/*
 * Wait for the next result of the oldest statement: c->result, NULL at its
 * end.  deadline 0: none.
 */
extern DocrepPgWaitResult docrep_pgconn_wait(DocrepPgConn *c, TimestampTz deadline,
											 bool return_on_latch);

/*
 * The next result, which must be of this status, else what went wrong is
 * raised; DR503 after timeout ms (0: none).  "doing" is for messages, as in
 * "reading changes".
 */
extern PGresult *docrep_pgconn_expect(DocrepPgConn *c, ExecStatusType status, int timeout,
									  const char *doing);

/* The end of a statement and of its transaction. */
extern void docrep_pgconn_finish(DocrepPgConn *c, int timeout, const char *doing);

/* Raise what a result, or the connection (NULL), says. */
DOCREP_NORETURN extern void docrep_pgconn_raise(DocrepPgConn *c, const PGresult *result,
								const char *doing);

/* Parameters.  What pointers point to must live until the statement is sent. */
extern void docrep_pgparam_uuid(DocrepPgParams *params, const uint8 *uuid);
extern void docrep_pgparam_int(DocrepPgParams *params, int32 value);
extern void docrep_pgparam_bigint(DocrepPgParams *params, int64 value);
extern void docrep_pgparam_bool(DocrepPgParams *params, bool value);
extern void docrep_pgparam_text(DocrepPgParams *params, const char *value); /* or NULL */
extern void docrep_pgparam_bytea(DocrepPgParams *params, const bytea *value);	/* or NULL */
extern void docrep_pgparam_bytes(DocrepPgParams *params, const char *data, Size len);	/* bytea */
extern void docrep_pgparam_json(DocrepPgParams *params, const char *value); /* as jsonb */

#endif							/* DOCREP_PEER_POSTGRES_CONN_H */
