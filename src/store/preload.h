/*-------------------------------------------------------------------------
 *
 * preload.h
 *		Did the library come in through shared_preload_libraries?
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_PRELOAD_H
#define DOCREP_STORE_PRELOAD_H

#include "postgres.h"

/* Set once, by _PG_init. */
extern bool docrep_preloaded;

/* "docrep.create_table" and friends raise this when the library was not preloaded. */
extern void docrep_require_preload(void);

#endif							/* DOCREP_STORE_PRELOAD_H */
