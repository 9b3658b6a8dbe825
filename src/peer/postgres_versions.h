/*-------------------------------------------------------------------------
 *
 * postgres_versions.h
 *		Former versions of a table of another Postgres server, and what
 *		postgres.c has for such calls.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_POSTGRES_VERSIONS_H
#define DOCREP_PEER_POSTGRES_VERSIONS_H

#include "peer/peer.h"
#include "peer/postgres_conn.h"

/* postgres_versions.c */
extern int	docrep_postgres_versions_have(DocrepPeer *base, const char *const *ids, int n,
										  DocrepChanges *have);
extern void docrep_postgres_versions_read(DocrepPeer *base, const DocrepChanges *have,
										  DocrepVersions *out);
extern void docrep_postgres_versions_write(DocrepPeer *base, DocrepVersions *versions,
										   DocrepPeer *source);

/*
 * postgres.c: begin the parameters with the table.  False: the other server does not
 * speak this protocol.
 */
extern bool docrep_postgres_begin_call(DocrepPeer *base, int protocol, DocrepPgParams *params);

/* Call a function that returns one value, and wait; the value in cxt, or NULL for SQL's. */
extern const char *docrep_postgres_call(DocrepPeer *base, const char *sql,
										DocrepPgParams *params, const char *doing,
										MemoryContext cxt, Size *len);

/* There is something to flush. */
extern void docrep_postgres_wrote(DocrepPeer *base);

#endif							/* DOCREP_PEER_POSTGRES_VERSIONS_H */
