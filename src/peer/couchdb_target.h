/*-------------------------------------------------------------------------
 *
 * couchdb_target.h
 *		What the files of the CouchDB peer as a target share.
 *
 * couchdb_local.c		local documents, of either side
 * couchdb_create.c		making the database; flushing; is it still the same one?
 * couchdb_diff.c		_revs_diff
 * couchdb_write.c		the calls of writes: cut, queued, started, answered
 * couchdb_written.c	what an answer says of each document
 * couchdb_put.c		documents that travel alone, with their attachments
 * couchdb_stream.c		the same, of which the contents pass through
 * couchdb_content.c	contents of attachments, decoded where they must be
 * couchdb_body.c		JSON and multipart text
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCHDB_TARGET_H
#define DOCREP_PEER_COUCHDB_TARGET_H

#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "peer/couch_json.h"
#include "peer/couchdb.h"

/* A _bulk_docs call is cut at about this much JSON, as CouchDB's replicator does. */
#define COUCH_BULK_BYTES		(512 * 1024)
/* Revisions of one document stay in one call up to this much. */
#define COUCH_BULK_BYTES_MAX	(4 * COUCH_BULK_BYTES)
/* Bodies of calls under way: no new one is composed while they are more. */
#define COUCH_BODIES_BYTES		(4 * 1024 * 1024)
/* Contents that are fetched for a document are held in memory up to this much; more is streamed. */
#define COUCH_HELD_CONTENTS		(1024 * 1024)

/* One send_write that is not answered yet. */
typedef struct CouchWrite
{
	dlist_node	link;
	MemoryContext cxt;
	DocrepDocs *docs;
	int		   *order;			/* documents by number, as the calls take them */
	int			ncalls;			/* waiting or under way */
} CouchWrite;

/* One call of a write: documents order[first], ..., n of them. */
typedef struct CouchCall
{
	dlist_node	link;
	CouchWrite *write;
	MemoryContext cxt;			/* of this and of the call */
	int			first;
	int			n;
	bool		alone;			/* PUT; else _bulk_docs */
	char	   *content_type;
	StringInfoData body;		/* composed when the call's turn comes */
	DocrepHttpCall *http;		/* NULL: waiting for its turn */
	bool		repeated;		/* after a 412 */
} CouchCall;

/* One send_diff that is not answered yet. */
typedef struct CouchDiff
{
	dlist_node	link;
	MemoryContext cxt;
	DocrepChanges *changes;
	int		   *order;			/* rows by number, in the order of their ids */
	int			ncalls;
	struct CouchDiffCall *calls;
} CouchDiff;

/* A document that was written: as long as it is there this is the same database. */
typedef struct CouchCanary
{
	char	   *id;				/* NULL: none yet */
	char	   *rev;
} CouchCanary;

/* The target's part of a peer. */
typedef struct CouchTarget
{
	dlist_head	writes;			/* CouchWrite, oldest first */
	dlist_head	waiting;		/* CouchCall that have not begun */
	dlist_head	running;		/* CouchCall under way */
	int			nrunning;
	Size		bytes;			/* of their bodies */
	dlist_head	diffs;			/* CouchDiff, oldest first */
	bool		no_revs_diff;	/* the server has none */
	bool		no_commit;		/* no _ensure_full_commit */
	CouchCanary first;			/* of this session ... */
	CouchCanary recent;			/* ... and since the last flush */
	char	   *local_id;		/* the local document seen last ... */
	char	   *local_rev;		/* ... and its _rev; NULL: there is none */
} CouchTarget;

/* The part, made when it is first asked for. */
extern CouchTarget *docrep_couch_target(CouchPeer *peer);

/* ---------- operations, for the table of ops and for open ---------- */

extern char *docrep_couch_get_local(DocrepPeer *base, const char *id);
extern void docrep_couch_put_local(DocrepPeer *base, const char *id, const char *doc);
extern bool docrep_couch_swap_local(DocrepPeer *base, const char *id, const char *expected,
									const char *doc);
/* PUT /db with options.create_params; one that is there already is fine. */
extern void docrep_couch_create(CouchPeer *peer);
extern void docrep_couch_send_diff(DocrepPeer *base, DocrepChanges *changes);
extern void docrep_couch_recv_diff(DocrepPeer *base, DocrepChanges *changes);
extern void docrep_couch_send_write(DocrepPeer *base, DocrepDocs *docs, DocrepPeer *source,
									const DocrepWriteOrigin *origin, const char *local_id,
									const char *local_doc);
extern void docrep_couch_recv_write(DocrepPeer *base, DocrepDocs *docs);
extern void docrep_couch_flush(DocrepPeer *base);

/* ---------- couchdb_write.c ---------- */

/* Take in what has been answered and start what may be started. */
extern void docrep_couch_advance(CouchPeer *peer);

/* ---------- couchdb_written.c ---------- */

/* Note what a document failed with.  reason: in the server's encoding. */
extern void docrep_couch_doc_failed(DocrepDocs *docs, DocrepDoc *doc, int sqlstate,
									const char *reason);
/* Is this a status that concerns the document and not the peer? */
extern bool docrep_couch_refuses_doc(int status);
/* Note that a call with this document alone was refused with such a status. */
extern void docrep_couch_doc_refused(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc,
									 const DocrepHttpCall *call);
/*
 * Read the answer to a call that succeeded: an array of failures, or PUT's object.
 * The documents are those of order.  False: some failed and it does not say which.
 */
extern bool docrep_couch_read_written(CouchPeer *peer, DocrepDocs *docs, const int *order, int n,
									  const DocrepHttpCall *call);

/* How an attachment appears in a document's JSON. */
typedef enum CouchAttForm
{
	COUCHATT_DATA,				/* base64; it must be at hand and as it is to be stored */
	COUCHATT_FOLLOWS,			/* a part of its own */
	COUCHATT_STUB				/* the target has it */
} CouchAttForm;

/* ---------- couchdb_put.c ---------- */

/* How a document travels. */
typedef enum CouchRoute
{
	COUCHROUTE_NONE,			/* not at all: it has failed */
	COUCHROUTE_BULK,			/* with others in _bulk_docs */
	COUCHROUTE_ALONE,			/* by PUT; everything is at hand */
	COUCHROUTE_READ,			/* by PUT; a little must be read from the source first */
	COUCHROUTE_STREAM			/* by PUT; contents pass through */
} CouchRoute;

extern CouchRoute docrep_couch_route(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc);

/* "id?new_edits=false", allocated. */
extern char *docrep_couch_put_path(const DocrepDoc *doc);

/*
 * Compose the body of a PUT in memory; contents that are not at hand are read
 * from source.  *content_type is set.  False: the document has failed.
 */
extern bool docrep_couch_compose_put(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc,
									 DocrepPeer *source, StringInfo out, char **content_type);

/* How each attachment appears in multipart/related (stubs: those of earlier revisions so);
 * returns how many follow. */
extern int	docrep_couch_choose_forms(const CouchPeer *peer, const DocrepDoc *doc, bool stubs,
									  CouchAttForm *forms);

#define COUCH_BOUNDARY_SIZE		33
extern void docrep_couch_make_boundary(char *boundary);
extern char *docrep_couch_related_type(const char *boundary);	/* Content-Type */
/* The first part, with the headers before it; returns as docrep_couch_put_doc. */
extern const char *docrep_couch_put_json_part(StringInfo out, const CouchPeer *peer,
											  const DocrepDoc *doc,
											  const CouchAttForm *forms,
											  const char *boundary, int *sqlstate);

/* ---------- couchdb_stream.c ---------- */

/* Send a document with contents that pass through, and note what became of it. */
extern void docrep_couch_stream(CouchPeer *peer, DocrepDocs *docs, DocrepDoc *doc,
								DocrepPeer *source);

/* ---------- couchdb_content.c ---------- */

/* A content that is being read: from memory or from the source, decoded or not. */
typedef struct CouchContent CouchContent;

/* att is corrected if its content turns out not to be encoded: see peer.h. */
extern CouchContent *docrep_couch_content_open(DocrepPeer *source, const DocrepDoc *doc,
											   DocAtt *att, bool decode);
/* Up to size bytes; 0: the end. */
extern Size docrep_couch_content_read(CouchContent *content, char *buf, Size size);
/* NULL, or why the content is not what its document says; then reading has ended. */
extern const char *docrep_couch_content_problem(const CouchContent *content);
extern void docrep_couch_content_close(CouchContent *content);
/* How many bytes there will be, by what the document says. */
extern int64 docrep_couch_content_length(const DocAtt *att, bool decode);

/* ---------- couchdb_body.c ---------- */

/* A JSON string of text in the server's encoding, with quotes. */
extern void docrep_couch_put_string(StringInfo out, const char *text);
/* About as long as the document will be as JSON, with the attachments at hand. */
extern Size docrep_couch_doc_size(const DocrepDoc *doc);
/*
 * The document as JSON.  forms has one per attachment (NULL: all data).  decoded: contents
 * are sent without their encoding.  Returns NULL, or why it cannot be put as JSON, with
 * a sqlstate; then out is as it was.
 */
extern const char *docrep_couch_put_doc(StringInfo out, const DocrepDoc *doc,
										const CouchAttForm *forms, bool decoded, int *sqlstate);
/* What is wrong with an attachment, with its name before it. */
extern const char *docrep_couch_att_reason(const DocAtt *att, const char *problem);
/* The revision's text, allocated. */
extern char *docrep_couch_rev_text(const Rev *rev);
/* What comes before an attachment's content in multipart/related. */
extern void docrep_couch_put_part_head(StringInfo out, const char *boundary, const DocAtt *att,
									   bool decoded, bool pouchdb);

#endif							/* DOCREP_PEER_COUCHDB_TARGET_H */
