/*-------------------------------------------------------------------------
 *
 * state.h
 *		What is stored of one document: tree, winner, bodies.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_STATE_H
#define DOCREP_STORE_STATE_H

#include "compat.h"
#include "datatype/timestamp.h"
#include "revision/revtree.h"
#include "store/table.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

typedef struct DocState
{
	bool		live;			/* a row of the document table; else a tombstone */
	int64		seq;
	TimestampTz modified;
	RevTree    *tree;			/* never NULL */
	int32		winner;			/* index in tree->nodes */
	Jsonb	   *doc;			/* the winner's body; NULL: not asked for, or {} */
	Jsonb	   *atts;			/* its column _attachments; NULL: not asked for, or none */
	const pg_uuid_t *origin;	/* of the winner, when its body is asked for; NULL: this database */
	bool		marked;			/* the row shows a conflict; doc, if asked for, is the true one */
	bytea	   *trunk;			/* stored trunk, or NULL; detoasted when asked for */
	ItemPointerData tid;		/* in rel or dead */
} DocState;

#define DOCSTATE_BODY	0x01	/* fetch the winner's body and attachments */
#define DOCSTATE_ATTS	0x04	/* fetch the winner's attachments; with the body they come anyway */
#define DOCSTATE_TRUNK	0x02	/* load the trunk into the tree (all ancestors) */

/*
 * Look a document up as of the snapshot.  False: never seen here (or purged).
 * Everything in *state is allocated in CurrentMemoryContext.  Row security is
 * not looked at: see docrep_visible_ids.
 */
extern bool docrep_state_read(DocTable *table, Snapshot snapshot, const char *id,
							  int flags, DocState *state);

/*
 * Take a row apart that was found in the document table (in_dead false) or
 * among the tombstones.  Copies what it keeps.
 */
struct TupleTableSlot;
extern void docrep_state_from_slot(DocTable *table, bool in_dead, struct TupleTableSlot *slot,
								   int flags, DocState *state);

/*
 * A row that was taken apart with its body shows a conflict, perhaps: then doc becomes what
 * the winner says.  The snapshot is the one that the row was found with.
 */
extern void docrep_state_unmark(DocTable *table, Snapshot snapshot, const char *id,
								DocState *state);

/* The tree of a row: NULL datum stands for the single revision rev. */
extern RevTree *docrep_tree_from_datum(const Rev *rev, Datum tree, bool isnull);

/*
 * Body, column _attachments and modification time of a losing leaf; NULL body:
 * {}; NULL attachments: none.  False: not a stored leaf.  modified may be NULL.
 */
extern bool docrep_leaf_read(DocTable *table, Snapshot snapshot, const char *id,
							 const Rev *rev, Jsonb **doc, Jsonb **atts, TimestampTz *modified);

/* All of a losing leaf's row; false: not a stored leaf. */
typedef struct LeafState
{
	Jsonb	   *doc;			/* NULL: {} */
	Jsonb	   *atts;			/* NULL: none */
	bool		deleted;
	bool		merged;
	TimestampTz modified;
	const pg_uuid_t *origin;	/* NULL: this database */
} LeafState;

extern bool docrep_leaf_state(DocTable *table, Snapshot snapshot, const char *id,
							  const Rev *rev, LeafState *leaf);

/* A column of type uuid, copied; NULL for SQL's. */
extern const pg_uuid_t *docrep_uuid_copy(Datum value, bool isnull);

/*
 * The same of a node that is a losing leaf.  A deleted one that is not stored
 * has no body; a live one must be stored, and is not in a table that was
 * restored without its companions: an error.
 */
extern void docrep_leaf_body(DocTable *table, Snapshot snapshot, const char *id,
							 const RevNode *leaf, Jsonb **doc, Jsonb **atts,
							 TimestampTz *modified);

/* Raise: a live leaf has no row. */
DOCREP_NORETURN extern void docrep_leaf_missing(const char *id, const Rev *rev);

/*
 * Where row security applies to the role: which of these ids it may see
 * (visible[i]).  All of them otherwise.  A tombstone is not visible to a role
 * that is subject to row security.
 */
extern void docrep_visible_ids(DocTable *table, const char *const *ids, int n, bool *visible);

#endif							/* DOCREP_STORE_STATE_H */
