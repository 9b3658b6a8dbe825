/*-------------------------------------------------------------------------
 *
 * change.h
 *		What is to happen to one document: from its stored state and what
 *		comes in, to the rows that have to be written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_CHANGE_H
#define DOCREP_STORE_CHANGE_H

#include "access/htup.h"
#include "nodes/pg_list.h"
#include "store/resolver.h"
#include "store/write.h"

typedef enum ChangeAction
{
	CHANGE_NONE,				/* everything was known */
	CHANGE_INSERT,				/* a row into the document table */
	CHANGE_UPDATE,
	CHANGE_DELETE,
	CHANGE_DEAD					/* only the row among the tombstones changes */
} ChangeAction;

/* A losing leaf whose body has to be kept. */
typedef struct LeafRow
{
	Rev			rev;
	Jsonb	   *doc;			/* NULL: {} */
	Jsonb	   *atts;			/* NULL: none */
	bool		deleted;
	bool		merged;			/* says the same as the winner: no conflict */
	TimestampTz modified;
	const pg_uuid_t *origin;	/* NULL: this database */
} LeafRow;

typedef struct DocChange
{
	const char *id;

	/* what is stored */
	bool		exists;
	bool		was_live;
	ItemPointerData tid;
	HeapTuple	old_tuple;		/* a copy of the stored row */
	RevTree    *tree;			/* before, then after */
	Rev			old_winner;
	Rev		   *old_leaves;		/* live ones first */
	int			nold_leaves;
	int			nold_live;
	bool		old_marked;		/* its row shows the conflict, and the winner's body is among
								 * those of the losing leaves */
	TimestampTz old_modified;
	int64		old_seq;

	/* what comes in; not owned */
	DocWrite  **writes;
	int			nwrites;
	DocAtts    *write_atts;		/* of each write, with their digests; owned.  NULL: no
								 * write has any */
	TimestampTz now;			/* of writes that do not say when they were made; 0: not asked yet */
	bool		edit;			/* made by docrep_change_edit */
	bool		purge;			/* takes revisions away: nothing of them is kept */
	bool		keep_conflict;	/* an edit of a marked row that leaves doc as it is */
	bool		again;			/* nothing comes in: what is stored is looked at with the policy
								 * of today */
	int			nadded;			/* of the writes: added by docrep_change_resolve */

	/* what is in conflict: resolution.c */
	bool		looked_at;		/* by docrep_change_look: the rest of these is known */
	int			old_unmerged;	/* live leaves that were stored and not merged; 1: no conflict */
	bool		policy_due;		/* the policy is to resolve it, if it can */
	ResolverAsk *ask;			/* what the resolver was asked; NULL: nothing */
	DocVersion *versions;		/* live leaves, winner first, if the policy wanted to know */
	int			nversions;
	int			unresolved;		/* live leaves that are not merged */

	/* what is to be stored */
	ChangeAction action;
	bool		now_live;
	Rev			winner;
	RevPath		led_to;			/* from it back to the child of old_winner, if it descends from that
								 * and versions are kept */
	Jsonb	   *doc;			/* what the row shows: the winner's body; NULL: {} */
	bool		marked;			/* or, if it is in conflict and the policy says so, that */
	Jsonb	   *atts;			/* its attachments; NULL: none */
	TimestampTz modified;
	const pg_uuid_t *origin;	/* which node first wrote it; NULL: this database */
	int64		seq;
	Datum		rev_datum;
	Datum		tree_datum;
	bool		tree_null;
	bool		trunk_changed;	/* else the stored one stays */
	Datum		trunk_datum;
	bool		trunk_null;
	List	   *leaf_inserts;	/* LeafRow * */
	List	   *leaf_deletes;	/* Rev * */

	bool		seen;			/* our trigger has met the row */
} DocChange;

/*
 * Start a change of a document whose stored row (already locked, or known
 * not to exist: slot NULL) is given.  copy: the slot will be used for other
 * rows before the change is finished.
 */
struct TupleTableSlot;
extern void docrep_change_begin(DocTable *table, DocChange *change, const char *id,
								bool in_dead, struct TupleTableSlot *slot, bool copy);

/*
 * Merge one write as it is; sets write->known and write->rev.  False: it is
 * refused because of its attachments (write->sqlstate DR400 or DR412).
 */
extern bool docrep_change_merge(DocTable *table, DocChange *change, DocWrite *write);

/*
 * Make one edit; false and write->sqlstate DR409 if its _rev is missing or
 * not a leaf, DR400 or DR412 for its attachments.  Sets write->rev.
 */
extern bool docrep_change_edit(DocTable *table, DocChange *change, DocWrite *write);

/*
 * All writes are in: stem, choose the winner, take a sequence number, and
 * fill in the rest.  A change in which nothing was new gets CHANGE_NONE.
 */
extern void docrep_change_finish(DocTable *table, DocChange *change, bool anything_new);

/* Has, or had, the tree more than one leaf? */
extern bool docrep_change_has_branches(const DocChange *change);

/* The row of dead_<uuid> that the change asks for. */
extern void docrep_change_dead_values(DocTable *table, const DocChange *change,
									  Datum *values, bool *nulls);

/* Load the trunk into change->tree, if it is not there. */
extern void docrep_change_load_trunk(DocTable *table, DocChange *change);

/* The stored winner's body, which is in the row unless that shows a conflict. */
extern Jsonb *docrep_change_old_doc(DocTable *table, DocChange *change);

/* The attachments in the stored row, or NULL. */
extern Jsonb *docrep_change_old_atts(DocTable *table, DocChange *change);

/* What the row shows. */
extern Jsonb *docrep_change_row_doc(DocTable *table, DocChange *change);

/* A leaf, wherever it is now: just come in, in the stored row, or among the losing ones. */
extern void docrep_change_leaf(DocTable *table, DocChange *change, const Rev *rev,
							   LeafState *leaf);

/* Take a write in, with its attachments (n = 0: none), whose revision is in the tree. */
extern void docrep_change_add(DocChange *change, DocWrite *write, const DocAtts *atts);

/* Who first wrote the stored row's revision; NULL: this database. */
extern const pg_uuid_t *docrep_change_old_origin(DocTable *table, DocChange *change);

/* Write the change's losing leaves and, if the document is or was a tombstone, that row. */
extern void docrep_change_write_companions(DocTable *table, DocChange *change);

/*
 * The trigger has met the change's row, with this doc.  If a user's trigger
 * has changed it, an edit gets the revision that fits; a revision from
 * elsewhere is refused with DR403.
 */
extern void docrep_change_arrive(DocTable *table, DocChange *change, Datum doc);

/*
 * All leaves of a tree whose trunk is loaded as writes, to be merged
 * elsewhere; winner_doc is the body of the leaf "winner", winner_atts its
 * attachments.  The rows of losing leaves are read and deleted.
 */
extern DocWrite *docrep_gather_leaves(DocTable *table, const char *id, RevTree *tree,
									  const Rev *winner, Jsonb *winner_doc, Jsonb *winner_atts,
									  TimestampTz modified, const pg_uuid_t *origin, int *n);

/* Revision bytes copied into CurrentMemoryContext. */
extern Rev	docrep_rev_copy(const Rev *rev);

#endif							/* DOCREP_STORE_CHANGE_H */
