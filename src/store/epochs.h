/*-------------------------------------------------------------------------
 *
 * epochs.h
 *		Histories of a table's update sequence.
 *
 * docrep.epochs has a row for every stretch of numbers that one server handed
 * out on one timeline.  A number taken together with the epoch it was seen in
 * tells whether a checkpoint still means the same changes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_EPOCHS_H
#define DOCREP_STORE_EPOCHS_H

#include "store/table.h"

/*
 * See that the latest epoch of the table is this server's, database's and
 * timeline's; otherwise write a new one that begins with start_seq, in the
 * current transaction, and return true: it is not known before that commits.
 */
extern bool docrep_epoch_ensure(const DocTableInfo *table, int64 start_seq);

/* Begin a new epoch whatever the latest one says (docrep.reset_identity). */
extern void docrep_epoch_begin(const DocTableInfo *table, int64 start_seq);

#endif							/* DOCREP_STORE_EPOCHS_H */
