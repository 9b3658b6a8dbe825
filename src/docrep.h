/*-------------------------------------------------------------------------
 *
 * docrep.h
 *		Settings that belong to the module as a whole.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_H
#define DOCREP_H

#include "postgres.h"

/* set by _PG_init when the library came in through shared_preload_libraries */
extern bool docrep_preloaded;

#endif							/* DOCREP_H */
