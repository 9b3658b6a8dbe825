/*-------------------------------------------------------------------------
 *
 * companion.h
 *		The companions of a document table, and direct access to rows.
 *
 * The functions here go below the executor: no privileges, no row security,
 * no triggers.  Companions have only docrep's own indexes; the document
 * table's row itself is changed this way only where no user's column is.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_COMPANION_H
#define DOCREP_STORE_COMPANION_H

#include "access/relscan.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "revision/rev.h"
#include "store/table.h"
#include "utils/snapshot.h"

/* the tracking trigger's name is how a document table is recognised */
#define DOCREP_TRACK_TRIGGER "~docrep_track"

/* columns of dead_<uuid> */
#define Anum_dead_id		1
#define Anum_dead_doc		2
#define Anum_dead_rev		3
#define Anum_dead_seq		4
#define Anum_dead_modified	5
#define Anum_dead_tree		6
#define Anum_dead_trunk		7
#define Anum_dead_attachments	8
#define Anum_dead_origin	9
#define Natts_dead			9

/*
 * Columns of leaf_<uuid>.  merged: a live leaf that counts for no conflict, as it says
 * the same as the winner.
 */
#define Anum_leaf_id		1
#define Anum_leaf_rev		2
#define Anum_leaf_doc		3
#define Anum_leaf_deleted	4
#define Anum_leaf_modified	5
#define Anum_leaf_attachments	6
#define Anum_leaf_origin	7
#define Anum_leaf_merged	8
#define Natts_leaf			8

/* columns of rev_<uuid>; see revisions.h */
#define Anum_kept_id		1
#define Anum_kept_seq		2	/* the version's last number as the winner */
#define Anum_kept_rev		3
#define Anum_kept_doc		4
#define Anum_kept_deleted	5
#define Anum_kept_modified	6
#define Anum_kept_replaced_at	7
#define Anum_kept_kept_seq	8	/* number of the change that wrote this row */
#define Anum_kept_kind		9
#define Anum_kept_origin	10
#define Anum_kept_attachments	11
#define Anum_kept_led_to	12	/* its descendants up to the winner that replaced it, if that is one */
#define Natts_kept			12

/*
 * Columns of att_<uuid>.  Part 0 of a file is its header, and holds the data
 * too if they fit into one part; only headers have sha256 (NULL: not complete
 * yet), length, md5 and at.
 */
#define Anum_att_file		1
#define Anum_att_part		2
#define Anum_att_sha256		3
#define Anum_att_length		4
#define Anum_att_md5		5
#define Anum_att_at			6
#define Anum_att_data		7
#define Natts_att			7

/* bytes of data in a part: a row of it fills a page */
#define DOCREP_ATT_PART		8000

/* "kind_<32 hex digits>", allocated. */
extern char *docrep_companion_name(const char *kind, const pg_uuid_t *uuid);

/* An open table whose relation the caller opened and will close. */
extern DocTable *docrep_table_attach(Relation rel);

/* The tables among the companions. */
typedef enum CompanionKind
{
	COMPANION_DEAD,				/* tombstones */
	COMPANION_LEAF,				/* losing leaves */
	COMPANION_ATT,				/* contents of attachments */
	COMPANION_KEPT				/* former versions */
} CompanionKind;

/* An error unless a companion has the columns it was made with. */
extern void docrep_companion_check(Relation rel, CompanionKind kind);

/* Open on demand. */
extern Relation docrep_dead_rel(DocTable *table);
extern Relation docrep_leaf_rel(DocTable *table);
extern Relation docrep_att_rel(DocTable *table);
extern Relation docrep_kept_rel(DocTable *table);
extern void docrep_companions_close(DocTable *table);

/* After the rollback of the subtransaction that opened them. */
extern void docrep_companions_forget(DocTable *table);

/* ---------- looking up by id ---------- */

typedef enum DocPlace
{
	DOC_IN_REL,					/* the document table */
	DOC_IN_DEAD					/* the tombstones */
} DocPlace;

/*
 * Find the row of an id as of a snapshot; the slot belongs to the table and
 * is good until the next look-up in the same place.  NULL: none.
 */
extern TupleTableSlot *docrep_find_row(DocTable *table, DocPlace place, Snapshot snapshot,
									   const char *id);

/*
 * Find the newest row of an id whatever its transaction's fate: waits for
 * transactions in progress that insert or delete it, locks what is there, and
 * returns it; NULL: none.
 */
extern TupleTableSlot *docrep_lock_row(DocTable *table, DocPlace place, const char *id);

/*
 * Is there a row of the id, or somebody just inserting or deleting one?  If
 * the latter *xwait (and *token, for a speculative insertion) say whom to
 * wait for.  Takes no lock.
 */
extern TupleTableSlot *docrep_probe_row(DocTable *table, DocPlace place, const char *id,
										TransactionId *xwait, uint32 *token);
extern void docrep_wait_for(TransactionId xwait, uint32 token);

/* ---------- changing rows ---------- */

extern void docrep_companion_insert(DocTable *table, Relation rel, Datum *values, bool *nulls);

/* The tuple at tid has been locked by docrep_lock_row. */
extern void docrep_row_update(DocTable *table, Relation rel, ItemPointer tid, HeapTuple newtuple);
extern void docrep_row_delete(DocTable *table, Relation rel, ItemPointer tid);

/*
 * Insert a row into dead_<uuid> for an id that so far is nowhere.  False, and
 * nothing inserted: another transaction has put the id into one of the two
 * tables meanwhile (it has ended when this returns): look again.
 */
extern bool docrep_dead_insert_new(DocTable *table, const char *id, Datum *values, bool *nulls);

/* Delete the row of a losing leaf; false: none. */
extern bool docrep_leaf_delete(DocTable *table, const char *id, const Rev *rev);

/* Find a losing leaf's row as of a snapshot, or NULL. */
extern TupleTableSlot *docrep_leaf_find(DocTable *table, Snapshot snapshot, const char *id,
										const Rev *rev);

/* ---------- former versions: companion_kept.c ---------- */

/*
 * The kept versions of a document as of a snapshot, oldest first (or newest, if
 * "backward"), and those that follow.  NULL: no more.  The slot belongs to the table.
 */
extern TupleTableSlot *docrep_kept_first(DocTable *table, Snapshot snapshot, const char *id,
										 bool backward);
extern TupleTableSlot *docrep_kept_next(DocTable *table);

/*
 * Delete a row, unless somebody else does (wait: wait for them first).
 * Who else deletes it wants the same, so that is no error.  Was it us?
 */
extern bool docrep_kept_delete(DocTable *table, ItemPointer tid, bool wait);

/* ---------- contents of attachments: companion_att.c ---------- */

/*
 * The first row of a file from this part on, as of a snapshot, and those that
 * follow; of any file from this one on if "any".  NULL: no more.  The slot
 * belongs to the table.
 */
extern TupleTableSlot *docrep_att_first(DocTable *table, Snapshot snapshot, int64 file,
										int32 part, bool any);
extern TupleTableSlot *docrep_att_next(DocTable *table);

/* The header of the complete file with these contents, or NULL. */
extern TupleTableSlot *docrep_att_by_sha(DocTable *table, Snapshot snapshot, const uint8 *sha256);

/*
 * Insert a header whose sha256 is set; false, and nothing inserted: there is
 * one of the same contents, or somebody is just inserting it.
 */
extern bool docrep_att_insert_header(DocTable *table, Datum *values, bool *nulls);

/* Insert rows that are materialized in slots of att_<uuid>. */
extern void docrep_att_insert_parts(DocTable *table, TupleTableSlot **slots, int n);

#endif							/* DOCREP_STORE_COMPANION_H */
