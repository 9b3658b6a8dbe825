/*-------------------------------------------------------------------------
 *
 * change_atts.h
 *		Attachments of the revisions that come in with a change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_CHANGE_ATTS_H
#define DOCREP_STORE_CHANGE_ATTS_H

#include "store/change.h"

/*
 * The attachments that an edit's revision, of generation gen, will have.  base
 * (NULL: none) is the leaf that it goes on from: stubs are its.  False: the
 * write has its sqlstate and reason.  Digests are known then; contents that
 * are at hand are not stored yet.
 */
extern bool docrep_change_edit_atts(DocTable *table, DocChange *change, DocWrite *write,
									const Rev *base, uint32 gen, DocAtts *out);

/* The same of a revision that is stored as it is: stubs are of any leaf that is there. */
extern bool docrep_change_merge_atts(DocTable *table, DocChange *change, DocWrite *write,
									 DocAtts *out);

/*
 * Store the contents at hand of all writes of these changes, in the order of
 * their digests, so that two batches do not wait for each other crosswise.
 */
extern void docrep_change_store_contents(DocTable *table, DocChange **changes, int n);

#endif							/* DOCREP_STORE_CHANGE_ATTS_H */
