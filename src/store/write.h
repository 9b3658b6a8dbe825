/*-------------------------------------------------------------------------
 *
 * write.h
 *		Writing documents in batches: edits, and revisions as they are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_WRITE_H
#define DOCREP_STORE_WRITE_H

#include "store/attachment.h"
#include "store/state.h"

typedef struct DocWrite
{
	/* in */
	const char *id;				/* validated by docrep_document_parse or the caller */
	Jsonb	   *body;			/* an object without members that begin with "_"; NULL: {} */
	bool		deleted;
	RevPath		path;			/* as they are: the revision and its ancestors, newest
								 * first (n >= 1). edits: n = 0, or the _rev that was given */
	TimestampTz modified;		/* 0: now */
	const pg_uuid_t *origin;	/* which node first wrote the revision; NULL: this database */
	DocAtts		atts;			/* of the revision.  Missing stub: sqlstate DR412; a
								 * digest that does not fit the content: DR400 */
	bool		keep_atts;		/* an edit that does not speak of attachments (plain
								 * UPDATE) keeps its parent's; atts counts for nothing */
	bool		own_atts;		/* atts are as a row of this table has them: their files
								 * are not looked at */
	bool		has_atts;		/* set by docrep_document_parse: the document has a member
								 * _attachments */

	bool		closing;		/* an edit: ends a losing leaf beside another edit */

	/* out */
	bool		of_marker;		/* an edit that was refused as its body is made of a marker */
	Rev			rev;			/* the revision now stored (bytes allocated) */
	int			sqlstate;		/* 0: stored, or there already */
	char	   *reason;			/* with sqlstate */
	bool		known;			/* nothing was written: the revision was there */
	int			unresolved;		/* of docrep_write_again: versions that are in conflict still */
	bool		refused;		/* by a validator; sqlstate and reason say why */
} DocWrite;

/*
 * Store revisions as they are (new_edits = false).  Several revisions of one
 * document may be in one batch.  Needs INSERT, UPDATE and DELETE on the table
 * as each is used.
 *
 * isolate: what a constraint, policy or trigger refuses gets its sqlstate and
 * reason in its DocWrite while the others are stored; serialization failures,
 * deadlocks, cancel and the like are raised.  Otherwise everything is raised.
 */
extern void docrep_write_revisions(DocTable *table, DocWrite *writes, int n, bool isolate);

/* The same for what the table has had already: to make one document of its row and its tombstone. */
extern void docrep_write_merged(DocTable *table, DocWrite *writes, int n);

/*
 * Make edits (new_edits = true).  A stale or missing _rev on an existing
 * document always gets sqlstate DR409 in its DocWrite.  isolate as above.
 */
extern void docrep_write_edits(DocTable *table, DocWrite *writes, int n, bool isolate);

/*
 * Apply the table's conflict policy to what is stored of these documents (only their
 * ids are given), as if it had come in now.  Those that could not be written have their sqlstate.
 */
extern void docrep_write_again(DocTable *table, DocWrite *writes, int n);

/*
 * Is this an error of one document, to be noted while the batch goes on?  Data,
 * constraints, permissions, what users' functions raise, and our own classes are;
 * what concerns the server or the transaction as a whole is not.
 */
extern bool docrep_is_row_error(int sqlstate);

/* A function that writes documents of this table begins to read its arguments. */
extern void docrep_write_begin(DocTable *table);

/*
 * What a floor above has to say of what comes to be written by docrep_write_revisions
 * and docrep_write_edits, before anything is done; it may change bodies, or raise.  NULL: nothing.
 * docrep_write_begin() calls it without writes.
 */
typedef void (*DocWriteHook) (DocTable *table, DocWrite *writes, int n, bool edits);
extern DocWriteHook docrep_write_hook;

/*
 * Forget leaves of a document, and all of it with the last one; no tombstone
 * stays and nothing replicates.  purged[i] tells which were leaves.  Returns
 * their number.  Needs DELETE.
 */
extern int	docrep_write_purge(DocTable *table, const char *id, const Rev *revs, int nrevs,
							   bool *purged);

#endif							/* DOCREP_STORE_WRITE_H */
