/*-------------------------------------------------------------------------
 *
 * postgres_internal.h
 *		What the files of the peer that is a table of another Postgres server share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_POSTGRES_INTERNAL_H
#define DOCREP_PEER_POSTGRES_INTERNAL_H

#include "filter/filter.h"
#include "peer/peers.h"
#include "peer/postgres_att.h"
#include "peer/postgres_conn.h"
#include "peer/postgres_url.h"
#include "peer/requests.h"

typedef struct PostgresPeer
{
	DocrepPeer	base;
	DocrepPgUrl *url;
	char	   *spec;			/* ... as text, credentials and all */
	bool		restricted;		/* the role is no superuser */
	DocrepPgConn *c;
	DocrepPgAtts *atts;
	uint8		table[UUID_LEN];
	int			protocol;		/* that was agreed on */
	int			writes;			/* the number of the last write */
	bool		unflushed;		/* something was written without a number */
	dlist_head	requests;
} PostgresPeer;

/* ---------- postgres_requests.c ---------- */

/* Queue a request and send its statement. */
extern DocrepRequest *docrep_postgres_send(PostgresPeer *peer, DocrepRequestKind kind,
										   const char *sql, DocrepPgParams *params);

/* Take the answer of a wait that is no longer wanted. */
extern void docrep_postgres_discard_wait(PostgresPeer *peer, DocrepRequest *request);

/* The oldest request, which is of this kind; a wait before it is over. */
extern DocrepRequest *docrep_postgres_oldest(PostgresPeer *peer, DocrepRequestKind kind);

/*
 * The only row of an answer: *data and *len of its column, in memory of libpq's
 * until docrep_postgres_end_answer; false if it is NULL.
 */
extern bool docrep_postgres_value(PostgresPeer *peer, const char *doing, const char **data,
								  Size *len);

/* The same, as a copy in cxt; it must not be NULL. */
extern const char *docrep_postgres_copied_value(PostgresPeer *peer, const char *doing,
												MemoryContext cxt, Size *len);

/* The answer to a request has been read. */
extern void docrep_postgres_end_answer(PostgresPeer *peer, DocrepRequest *request,
									   const char *doing);

/* The rest are operations of peers: see peer.h. */

/* ---------- postgres_local.c ---------- */

extern char *docrep_postgres_get_local(DocrepPeer *base, const char *id);
extern void docrep_postgres_put_local(DocrepPeer *base, const char *id, const char *doc);
extern bool docrep_postgres_swap_local(DocrepPeer *base, const char *id, const char *expected,
									   const char *doc);
extern void docrep_postgres_fence(DocrepPeer *base, const char *id, const char *token);

/* ---------- postgres_source.c ---------- */

extern char *docrep_postgres_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter);
extern void docrep_postgres_send_changes(DocrepPeer *base, const DocrepChangesRequest *request);
extern void docrep_postgres_recv_changes(DocrepPeer *base, DocrepChanges *out);
extern bool docrep_postgres_hold_versions(DocrepPeer *base, const char *holder, int64 ms);
extern void docrep_postgres_send_fetch(DocrepPeer *base, const DocrepChanges *changes,
									   bool latest);
extern bool docrep_postgres_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out);

/* ---------- postgres_wait.c ---------- */

extern void docrep_postgres_send_wait(DocrepPeer *base, const char *since, int timeout);
extern bool docrep_postgres_recv_wait(DocrepPeer *base);
#ifdef DOCREP_CAN_WATCH
extern bool docrep_postgres_wait_place(DocrepPeer *base, const char *since,
									   DocrepWaitPlace *place);
#endif

/* ---------- postgres_target.c ---------- */

extern void docrep_postgres_send_diff(DocrepPeer *base, DocrepChanges *changes);
extern void docrep_postgres_recv_diff(DocrepPeer *base, DocrepChanges *changes);
extern void docrep_postgres_send_write(DocrepPeer *base, DocrepDocs *docs, DocrepPeer *source,
									   const DocrepWriteOrigin *origin, const char *local_id,
									   const char *local_doc);
extern void docrep_postgres_recv_write(DocrepPeer *base, DocrepDocs *docs);
extern void docrep_postgres_flush(DocrepPeer *base);

#endif							/* DOCREP_PEER_POSTGRES_INTERNAL_H */
