/*-------------------------------------------------------------------------
 *
 * open_doc.h
 *		A document opened for reading, and the revisions of it that one asks for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_OPEN_DOC_H
#define DOCREP_STORE_OPEN_DOC_H

#include "store/document.h"
#include "store/revisions.h"

typedef struct OpenDoc
{
	DocTable   *table;
	Snapshot	snapshot;
	const char *id;
	bool		found;			/* seen here, and visible for the caller */
	DocState	state;			/* if found */
} OpenDoc;

/* Open a document as of the snapshot; flags: DOCSTATE_*. */
extern void docrep_open_doc(OpenDoc *doc, DocTable *table, Snapshot snapshot,
							const char *id, int flags);

/*
 * The leaves that a request for "rev" (NULL: all) is answered with: the leaf
 * itself; with "latest" every leaf that descends from it.  Allocated in
 * *nodes, winner first; returns their number, 0 if there is none.
 */
extern int	docrep_open_doc_leaves(OpenDoc *doc, const Rev *rev, bool latest, int32 **nodes);

/* A leaf's body (NULL: {}) and column _attachments (NULL: none). */
extern void docrep_open_doc_leaf(OpenDoc *doc, int32 leaf, Jsonb **body, Jsonb **atts);

/* A leaf as JSON. */
extern Jsonb *docrep_open_doc_json(OpenDoc *doc, int32 leaf, const DocShow *show);

/*
 * A former version that is kept, of a table whose owner wants that.  False: none of
 * this revision.  As JSON: NULL if there is none.
 */
extern bool docrep_open_doc_kept(OpenDoc *doc, const Rev *rev, KeptVersion *version);
extern Jsonb *docrep_open_doc_kept_json(OpenDoc *doc, const Rev *rev, const DocShow *show);

/* What opening has to fetch to answer this. */
static inline int
docrep_open_flags(const DocShow *show, bool latest)
{
	return DOCSTATE_BODY |
		(show->revs || show->revs_info || show->has_since || latest ? DOCSTATE_TRUNK : 0);
}

#endif							/* DOCREP_STORE_OPEN_DOC_H */
