/*-------------------------------------------------------------------------
 *
 * upload.h
 *		Bringing the contents of attachments to a table, local or of another
 *		Postgres server, before the documents that have them are written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_UPLOAD_H
#define DOCREP_PEER_UPLOAD_H

#include "compat.h"
#include "peer/peer.h"

/* Contents are read and sent in pieces of this size. */
#define DOCREP_ATT_PIECE	(512 * 1024)

/*
 * What a target can do.  Contents are brought one after the other; a remote
 * target need not have answered for one when the next begins.
 */
typedef struct DocrepUploadOps
{
	/*
	 * Ask which contents a document has, of those with the digests and encoded_length
	 * of wanted; answers are taken one by one in the same order: the file, or 0.
	 */
	void		(*ask) (DocrepPeer *target, const DocrepDoc *doc, const DocAtt *wanted, int n);
	int64		(*answer) (DocrepPeer *target);

	/* The next piece; the first one after a finish begins a content. */
	void		(*append) (DocrepPeer *target, const char *data, Size len);

	/* Its end, after length bytes.  att->file is set now or in settle. */
	void		(*finish) (DocrepPeer *target, DocAtt *att, int64 length);

	/* Wait for what has not been answered. */
	void		(*settle) (DocrepPeer *target);
} DocrepUploadOps;

/*
 * Bring all contents of these documents' attachments that are neither at hand
 * nor stubs from the source's peer to the target, except those that the target
 * has in the same document.  Their file is then the target's, and
 * atts_at_target is set in every document.  Outside of a transaction.
 */
extern void docrep_upload_contents(DocrepPeer *target, const DocrepUploadOps *ops,
								   DocrepDocs *docs, DocrepPeer *source);

/* DR503: the target has stored another length than it was sent. */
extern void docrep_upload_check_length(DocrepPeer *target, const DocAtt *att,
									   int64 sent, int64 stored);

/* DR503: a content is not as long as its document says. */
DOCREP_NORETURN extern void docrep_att_wrong_length(DocrepPeer *peer, const DocrepDoc *doc,
													const DocAtt *att, int64 length,
													bool longer);

#endif							/* DOCREP_PEER_UPLOAD_H */
