/*-------------------------------------------------------------------------
 *
 * local.h
 *		What the files of the local peer share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_LOCAL_H
#define DOCREP_PEER_LOCAL_H

#include "lib/ilist.h"
#include "nodes/pg_list.h"
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

#endif							/* DOCREP_PEER_LOCAL_H */
