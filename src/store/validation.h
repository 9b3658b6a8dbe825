/*-------------------------------------------------------------------------
 *
 * validation.h
 *		Asking validators about what comes to be written.
 *
 * Who they are is the business of a floor above, which registers itself here.
 * The store knows when they are asked: after conflicts have been found and
 * before anything is stored, with the document's row locked; and what they are
 * told: the new document and the one that it goes on from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_VALIDATION_H
#define DOCREP_STORE_VALIDATION_H

#include "store/change.h"
#include "utils/relcache.h"

/* A document that is about to be written, as validators see it. */
typedef struct DocValidation
{
	const char *id;
	Jsonb	   *new_doc;		/* with _id, _rev, _revisions, _deleted and _attachments */
	Jsonb	   *old_doc;		/* likewise, or NULL */

	/* out */
	int			sqlstate;		/* 0: it may be written */
	char	   *reason;			/* with sqlstate */
} DocValidation;

/* What the floor above registers. */
typedef struct DocValidators
{
	/* Are there validators of this document table, and are they to be asked? */
	bool		(*wanted) (Relation rel);

	/*
	 * Ask all of them.  isolate: what is refused gets its sqlstate and reason, in the
	 * current context; else the first refusal is raised.
	 */
	void		(*ask) (DocTable *table, DocValidation *docs, int n, bool isolate);

	/* A design document is written by an edit: raise DR400 if it could not validate. */
	void		(*check_design) (const char *id, Jsonb *body);
} DocValidators;

extern const DocValidators *docrep_validators;	/* NULL: there are none */

/* Must writes to this document table be validated?  Costs next to nothing if not. */
extern bool docrep_validated(Relation rel);

/*
 * Ask about all that a range of a batch is to write, of changes into which the
 * writes have been worked.  Returns how many are refused: their DocWrite has
 * sqlstate, reason (in cxt) and "refused".  Not isolate: raises the first.
 */
extern int	docrep_validate_changes(DocTable *table, DocChange *changes, int n, bool isolate,
									MemoryContext cxt);

/* Ask about the single edit that a change consists of (plain UPDATE and DELETE); raises. */
extern void docrep_validate_edit(DocTable *table, DocChange *change);

/*
 * Ask about a row that an INSERT brings; change: with its edit worked in, or NULL.
 * If there is a live row of the id nothing is asked: the INSERT will fail, do
 * nothing, or become an UPDATE, which is.  base: the _rev that was given, or NULL.
 */
extern void docrep_validate_insert(Relation rel, DocChange *change, DocWrite *write,
								   const Rev *base);

/*
 * The row of a batch's edit has arrived at the trigger, with the body that will be stored.
 * Where a user's trigger could change it, validators are only asked now; raises.
 */
extern void docrep_validate_arrived(DocTable *table, DocChange *change);

/* A design document of the table is being written: everybody looks for validators again. */
extern void docrep_validation_forget(Oid relid, const char *id);

/* A row of this id is being written. */
static inline void
docrep_validation_note(Oid relid, const char *id)
{
	if (id[0] == '_')
		docrep_validation_forget(relid, id);
}

#endif							/* DOCREP_STORE_VALIDATION_H */
