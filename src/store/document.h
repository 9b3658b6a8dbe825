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
 */
extern void docrep_document_parse(Jsonb *doc, bool new_edits, DocWrite *write);

/*
 * The 16 bytes of the revision that follows parent (NULL: a first one) with
 * this body (NULL: {}).  Equal for equal jsonb on any machine: numbers count
 * by value.
 */
extern void docrep_revision_hash(const Rev *parent, bool deleted, Jsonb *body, uint8 *hash);

/*
 * Put the pieces of a "_" member object to a body: result = body plus _id,
 * _rev, _deleted (if true) and, for a path of n > 0, _revisions.
 */
extern Jsonb *docrep_document_build(const char *id, const Rev *rev, bool deleted,
									Jsonb *body, const RevPath *revisions);

#endif							/* DOCREP_STORE_DOCUMENT_H */
