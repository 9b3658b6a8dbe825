/*-------------------------------------------------------------------------
 *
 * serve.h
 *		What a peer may ask of a document table, given by its uuid.
 *
 * The local peer calls these, and the SQL functions of wire.c, which a
 * Postgres peer calls on the other server: the same request does the same
 * and needs the same privileges either way.  All need a transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_SERVE_H
#define DOCREP_STORE_SERVE_H

#include "store/batch.h"

/*
 * Prepare the session to serve a replication: no timeouts that strike while
 * it is idle or busy, READ COMMITTED.  Lasts if the transaction commits.
 */
extern void docrep_serve_prepare(void);

/*
 * Find a table by the name an endpoint gives, in the session's search_path.
 * Missing: made if "create", else DR404.
 */
extern Oid	docrep_serve_find(const char *name, bool create, pg_uuid_t *uuid);

/*
 * Open a table by uuid.  Gone: DR404.  Privileges as docrep_table_open.
 */
extern DocTable *docrep_serve_open(const pg_uuid_t *uuid, LOCKMODE lockmode, AclMode needed);

/*
 * docrep_batch_write, tried again when it loses a deadlock or waits too long
 * for a lock, and then without its locks in between.  Does not wait for the
 * disk: that is docrep_serve_flush, once for many.
 */
extern void docrep_serve_write(const pg_uuid_t *uuid, DocrepDocs *docs,
							   const DocrepWriteOrigin *origin,
							   const char *local_id, const char *local_doc);

/* The same for former versions: docrep_versions_write. */
struct DocrepVersions;
extern void docrep_serve_versions_write(const pg_uuid_t *uuid, struct DocrepVersions *versions);

/*
 * Contents of attachments.  Reading needs SELECT, and the number of the file,
 * which is shown with the revision; asking which of those wanted a document of
 * the table has (their files, else 0) needs SELECT and that the role may see the document;
 * storing needs INSERT.
 */
extern Size docrep_serve_content_read(const pg_uuid_t *uuid, int64 file, int64 offset,
									  char *buf, Size len);
extern void docrep_serve_contents_have(const pg_uuid_t *uuid, const char *id,
									   const DocAtt *wanted, int n, int64 *files);

/* The first piece (*upload NULL) begins an upload in cxt. */
extern void docrep_serve_content_append(const pg_uuid_t *uuid, DocUpload **upload,
										MemoryContext cxt, const char *data, Size len);
extern int64 docrep_serve_content_finish(const pg_uuid_t *uuid, DocUpload *upload,
										 uint8 *md5, int64 *length);

/* Let this transaction's commit wait until what was written before it is durable. */
extern void docrep_serve_flush(void);

/*
 * Local documents.  Reading needs SELECT.  Writing needs INSERT; but what
 * looks like the checkpoint of a replication needs SELECT only, so that who
 * may read a table may also replicate from it.
 */
extern Jsonb *docrep_serve_get_local(const pg_uuid_t *uuid, const char *id);
extern void docrep_serve_put_local(const pg_uuid_t *uuid, const char *id, Jsonb *doc);

/* Write if the document is "expected" (NULL: none); else false.  Needs INSERT. */
extern bool docrep_serve_swap_local(const pg_uuid_t *uuid, const char *id, Jsonb *expected,
									Jsonb *doc);

/* Waiting for changes after a seq. */
typedef struct DocrepWatch
{
	DocTableInfo info;
	int64		since;
} DocrepWatch;

/* Begin: needs SELECT.  From here on commits to the table set the process latch. */
extern void docrep_watch_begin(DocrepWatch *watch, const pg_uuid_t *uuid, const char *since);

/* May something after the seq be there?  The table is gone: DR404. */
extern bool docrep_watch_changed(const DocrepWatch *watch);

/* A count that moves with every commit to the table.  Needs no transaction. */
extern uint64 docrep_watch_commits(const DocrepWatch *watch);

/* Commits set the latch no longer.  Needs no transaction, cannot fail. */
extern void docrep_watch_end(const DocrepWatch *watch);

#endif							/* DOCREP_STORE_SERVE_H */
