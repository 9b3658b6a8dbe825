/*-------------------------------------------------------------------------
 *
 * track_internal.h
 *		The triggers of a document table; for track*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_TRACK_INTERNAL_H
#define DOCREP_STORE_TRACK_INTERNAL_H

#include "commands/trigger.h"
#include "store/change.h"

/* The columns of a new row that the trigger sets, by number in the table. */
typedef struct NewColumns
{
	Datum	   *values;
	bool	   *nulls;
	bool	   *replaces;
} NewColumns;

/* ---------- track_row.c ---------- */

/* A value for a column of the new row. */
extern void docrep_track_set(NewColumns *cols, AttrNumber attno, Datum value, bool isnull);

/* Nothing set yet, of a row of that many columns. */
extern void docrep_track_columns(NewColumns *cols, int natts);

/*
 * A change's bookkeeping into the new row.  A trunk that stays is that of the
 * old row (NULL: none), whatever the new one brings.
 */
extern void docrep_track_bookkeeping(const DocTableInfo *info, NewColumns *cols,
									 DocChange *change, TupleTableSlot *old);

/* A statement writes a column that is not for it to write: raise that. */
extern void docrep_track_forged(Relation rel, const char *column);

/* The _rev given is not the current one: raise that. */
extern void docrep_track_conflict(const char *id);

/*
 * Read id and doc of a new row.  Members that begin with "_" are taken out of
 * the body: *doc_changed.  write->path is the _rev given in the body.
 */
extern void docrep_track_read(const DocTableInfo *info, TupleTableSlot *slot, DocWrite *write,
							  bool *id_changed, bool *doc_changed);

/* The edit that a row makes; what is wrong with its attachments is raised. */
extern void docrep_track_edit(DocTable *table, DocChange *change, DocWrite *write);

/* A user's trigger has given a batch's row another _id: raise that. */
extern void docrep_track_id_changed(const char *new_id);

/* A user's trigger has written the row since the batch looked at it: do it over. */
extern void docrep_track_check_old(DocChange *change, HeapTuple old);

/* A batch's row; the table is only described when a body has to be looked at again. */
extern void docrep_track_arrive(Relation rel, const DocTableInfo *info, DocChange *change,
								TupleTableSlot *slot);

/* The _id of a stored row. */
extern char *docrep_track_id(const DocTableInfo *info, TupleTableSlot *slot);

/* ---------- track_insert.c ---------- */

/*
 * A document of an id that may have a tombstone, which it then goes on from.
 * The tombstone is locked here although the row may yet be thrown away: who
 * merges into the tombstone takes the same locks in the same order.
 */
extern void docrep_track_over_tombstone(Relation rel, const DocTableInfo *info, DocWrite *write,
										const Rev *given, NewColumns *cols);

/*
 * An UPDATE that brings no attachments, right after the INSERT of ON CONFLICT that does,
 * would lose them without a word.
 */
extern void docrep_track_check_brought(const DocTableInfo *info, const char *id);

/* The row as an INSERT is to store it. */
extern HeapTuple docrep_track_insert(TriggerData *td, const DocTableInfo *info);

/* ---------- track_update.c ---------- */

/* The row as an UPDATE is to store it. */
extern HeapTuple docrep_track_update(TriggerData *td, const DocTableInfo *info);

#endif							/* DOCREP_STORE_TRACK_INTERNAL_H */
