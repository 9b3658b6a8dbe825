/*-------------------------------------------------------------------------
 *
 * document.h
 *		Documents as JSON: taking apart what comes in, putting together what
 *		goes out, and the revision that an edit makes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_DOCUMENT_H
#define DOCREP_STORE_DOCUMENT_H

#include "store/jsonb_raw.h"
#include "store/write.h"

/*
 * NULL if id may be a document's id, else why not (static or allocated): not
 * empty, at most DOCREP_MAX_ID_LEN bytes, does not begin with "_" except
 * "_design/" followed by something.  ("_local/" is not for documents.)
 */
extern const char *docrep_id_problem(const char *id, int len);

/*
 * Take a document apart: id, body without "_" members, _deleted, _rev and
 * _revisions as a path.  new_edits as in bulk_docs: false wants an id and a
 * revision.  With new_edits and no _id, write->id is NULL.  Everything
 * malformed is raised as DR400 naming the member.
 *
 * write->body is doc itself if it has no "_" members, else a new value; never
 * NULL.
 */
extern void docrep_document_parse(Jsonb *doc, bool new_edits, DocWrite *write);

/* The same for a document that lies inside another jsonb value. */
extern void docrep_document_parse_value(const RawValue *doc, bool new_edits, DocWrite *write);

/* Does an object have members that begin with "_"? */
extern bool docrep_body_has_special(const JsonbContainer *object);

/* Do two bodies say the same?  NULL is {}. */
extern bool docrep_bodies_equal(Jsonb *a, Jsonb *b);

/*
 * The body of a local document: doc without _id and _rev, which are not looked
 * at, and what else is ignored in documents.  *deleted: it says _deleted.
 */
extern Jsonb *docrep_local_body(Jsonb *doc, bool *deleted);

/*
 * Parse the text of a revision, as it is given in "where" (named in the
 * message): DR400 if it is malformed.  Its bytes are allocated.
 */
extern Rev docrep_rev_from_text(const char *text, int len, const char *where);

/*
 * The 16 bytes of the revision that follows parent (NULL: a first one) with
 * this body (NULL: {}) and these attachments (NULL: none), whose digests are
 * known.  Equal for equal jsonb on any machine: numbers count by value.
 */
extern void docrep_revision_hash(const Rev *parent, bool deleted, Jsonb *body,
								 const DocAtts *atts, uint8 *hash);

/*
 * Put the pieces of a document together: body plus _id, _rev, _deleted (if
 * true), and what "tree" says of the other leaves and of the history of
 * node "node" (its trunk must be loaded for revs and revs_info).
 */
typedef struct DocShow
{
	bool		revs;			/* _revisions */
	bool		revs_info;		/* _revs_info */
	bool		conflicts;		/* _conflicts, if there are any */
	bool		deleted_conflicts;	/* _deleted_conflicts, likewise */
	bool		attachments;	/* attachments with their data, not as stubs */
	bool		has_since;		/* so only those that came after the newest ancestor among ... */
	const Rev  *since;			/* ... these */
	int			nsince;
	const struct KeptVersion *kept; /* former versions whose bodies are there, for revs_info */
	int			nkept;
	DocTable   *table;			/* where contents are read from, if they are asked for */
} DocShow;

extern Jsonb *docrep_document_show(const char *id, const RevTree *tree, int32 node,
								   Jsonb *body, Jsonb *atts, const DocShow *show);

/*
 * Add the member _attachments of a node, from its column (document_atts.c): as
 * stubs, or with their data as show asks; nothing if there are none.
 */
extern void docrep_document_add_atts(RawBuilder *builder, const RevTree *tree, int32 node,
									 Jsonb *atts, const DocShow *show);

#endif							/* DOCREP_STORE_DOCUMENT_H */
