/*-------------------------------------------------------------------------
 *
 * local.h
 *		What the files of the local peer share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_LOCAL_H
#define DOCREP_PEER_LOCAL_H

#include "filter/filter.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "peer/requests.h"
#include "peer/upload.h"
#include "store/serve.h"

/* A content that is being read, and one that is being stored. */
typedef struct LocalAtts
{
	const DocrepDoc *doc;		/* being read; NULL: none */
	const DocAtt *att;
	char	   *piece;			/* what was read last */
	Size		len;
	Size		used;
	int64		offset;			/* of what comes after it */
	bool		at_end;			/* nothing does */

	DocUpload  *upload;			/* being stored; NULL: none */
	MemoryContext upload_cxt;

	List	   *asks;			/* LocalAsk *: does the table have these? */
	bool		looked;			/* they have their answers */
	int			answered;		/* so many of the first of them have been taken */
} LocalAtts;

typedef struct LocalPeer
{
	DocrepPeer	base;
	char	   *spec;
	pg_uuid_t	table;			/* set by open */
	dlist_head	requests;
	bool		watching;
	bool		fenced;			/* by this peer: fence.h */
	DocrepWatch watch;
	LocalAtts	atts;
} LocalPeer;

/* The work of one transaction. */
typedef void (*LocalWork) (LocalPeer *peer, void *arg);

/*
 * Do some work in a transaction of its own, leaving the current context as it
 * was and, after a failure, no transaction behind.  "activity" is what
 * pg_stat_activity shows.
 */
extern void docrep_local_in_transaction(LocalPeer *peer, const char *activity,
										LocalWork work, void *arg);

/* Contents of attachments: local_att.c */
extern bool docrep_local_open_att(DocrepPeer *base, const DocrepDoc *doc, DocAtt *att);
extern Size docrep_local_read_att(DocrepPeer *base, char *buf, Size size);
extern void docrep_local_close_att(DocrepPeer *base);
extern const DocrepUploadOps docrep_local_upload_ops;

/* Former versions: local_versions.c */
extern int	docrep_local_versions_have(DocrepPeer *base, const char *const *ids, int n,
									   DocrepChanges *have);
extern void docrep_local_versions_read(DocrepPeer *base, const DocrepChanges *have,
									   DocrepVersions *out);
extern void docrep_local_versions_write(DocrepPeer *base, DocrepVersions *versions,
										DocrepPeer *source);

/* Where the answer to a request goes. */
typedef struct LocalAnswer
{
	DocrepRequest *request;
	DocrepChanges *changes;
	DocrepDocs *docs;
	Size		max_bytes;
	bool		flag;
} LocalAnswer;

/* ---------- local_documents.c ---------- */

/* A local document as text, in the current context, or NULL. */
extern char *docrep_local_get_local(DocrepPeer *base, const char *id);

/* Write a local document. */
extern void docrep_local_put_local(DocrepPeer *base, const char *id, const char *doc);

/* Write a local document if it is still the expected one (NULL: not there). */
extern bool docrep_local_swap_local(DocrepPeer *base, const char *id, const char *expected,
									const char *doc);

/* The fence is this process's: it ends when the peer is closed. */
extern void docrep_local_fence(DocrepPeer *base, const char *id, const char *token);

/* ---------- local_source.c ---------- */

/* What a filter is here, in the current context. */
extern char *docrep_local_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter);

/* Ask for changes. */
extern void docrep_local_send_changes(DocrepPeer *base, const DocrepChangesRequest *request);

/* The changes that were asked for. */
extern void docrep_local_recv_changes(DocrepPeer *base, DocrepChanges *out);

/* Keep former versions for so long (ms).  False: they cannot be held. */
extern bool docrep_local_hold_versions(DocrepPeer *base, const char *holder, int64 ms);

/* Ask for the documents that are missing. */
extern void docrep_local_send_fetch(DocrepPeer *base, const DocrepChanges *changes,
									bool latest);

/* Some of the documents that were asked for.  Returns whether there are more. */
extern bool docrep_local_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out);

/* Ask to wait for a change after the seq, for so long (ms). */
extern void docrep_local_send_wait(DocrepPeer *base, const char *since, int timeout);

/* Wait.  Returns whether there is a change. */
extern bool docrep_local_recv_wait(DocrepPeer *base);

/* Where to wait for a change after the seq.  False: there is one. */
extern bool docrep_local_wait_place(DocrepPeer *base, const char *since,
									DocrepWaitPlace *place);

#endif							/* DOCREP_PEER_LOCAL_H */
