/*-------------------------------------------------------------------------
 *
 * couchdb_source.h
 *		What the files of the CouchDB peer as a source share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCHDB_SOURCE_H
#define DOCREP_PEER_COUCHDB_SOURCE_H

#include "peer/couch_json.h"
#include "peer/couchdb.h"

/* ---------- operations ---------- */

extern void docrep_couch_send_changes(DocrepPeer *base, const DocrepChangesRequest *request);
extern void docrep_couch_recv_changes(DocrepPeer *base, DocrepChanges *out);
extern void docrep_couch_send_wait(DocrepPeer *base, const char *since, int timeout);
extern bool docrep_couch_recv_wait(DocrepPeer *base);
extern void docrep_couch_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest);
extern bool docrep_couch_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out);
extern void docrep_couch_open_att(DocrepPeer *base, const DocrepDoc *doc, const DocAtt *att);
extern Size docrep_couch_read_att(DocrepPeer *base, char *buf, Size size);
extern void docrep_couch_close_att(DocrepPeer *base);

/* ---------- couchdb_rows.c ---------- */

/*
 * Add a row of the feed to a batch; "before" is the sequence of the row before
 * it, which counts for a row without one.  NULL, or (static) what is wrong with
 * the row.  with_docs: keep the document that comes with it, if its ancestry is
 * known without asking.
 */
extern const char *docrep_couch_add_row(const CouchJson *row, const char *before, bool with_docs,
										DocrepChanges *out);

/* Is its document a first revision, alone? */
extern bool docrep_couch_is_first(const DocrepChange *change);

/* A sequence as text, allocated; NULL: null or none. */
extern char *docrep_couch_seq_text(const CouchJson *seq);

/* ---------- couchdb_docs.c ---------- */

/*
 * Add a document, as GET gives it, to a batch.  What is no document is added as
 * unreadable: id and rev (or NULL) are what it was asked for by.
 */
extern DocrepDoc *docrep_couch_add_doc(DocrepDocs *out, const char *text, Size len,
									   const char *id, const Rev *rev);

/* Add what cannot be read at all: "raw" is what came of it, perhaps nothing. */
extern DocrepDoc *docrep_couch_add_unreadable(DocrepDocs *out, const char *raw, Size len,
											  const char *id, const Rev *rev, int sqlstate,
											  const char *reason);

/*
 * A raw string as text, allocated.  What text cannot hold is left out; then
 * *problem (static) says so and *raw, *rawlen are its bytes.
 */
extern char *docrep_couch_text(const CouchJson *string, const char **problem,
							   char **raw, int *rawlen);

/* The path of an attachment of a revision: "id/name?rev=...", allocated. */
extern char *docrep_couch_att_path(const DocrepDoc *doc, const DocAtt *att);

#endif							/* DOCREP_PEER_COUCHDB_SOURCE_H */
