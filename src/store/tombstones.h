/*-------------------------------------------------------------------------
 *
 * tombstones.h
 *		How long tombstones are kept.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_TOMBSTONES_H
#define DOCREP_STORE_TOMBSTONES_H

extern void docrep_tombstones_define_gucs(void);	/* docrep.tombstone_hold_limit */

#endif							/* DOCREP_STORE_TOMBSTONES_H */
