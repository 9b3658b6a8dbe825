/*-------------------------------------------------------------------------
 *
 * revert.h
 *		What the two files of docrep.revert() share: which documents may have
 *		to be reverted (revert_find.c), and what becomes of them (revert.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_REVERT_H
#define DOCREP_STORE_REVERT_H

#include "store/revisions.h"

typedef struct RevertScan RevertScan;

/* Begin a walk over all documents, in order of id, as of now. */
extern RevertScan *docrep_revert_scan(DocTable *table, TimestampTz at);

/*
 * The next document that may be another than it was, allocated; NULL: no more.
 * Those that are as they were are counted in *unchanged.
 */
extern char *docrep_revert_next(RevertScan *scan, int64 *unchanged);
extern void docrep_revert_scan_end(RevertScan *scan);

#endif							/* DOCREP_STORE_REVERT_H */
