/*-------------------------------------------------------------------------
 *
 * port.h
 *		What the revision floor needs from its surroundings.
 *
 * The files of this floor are pure C: inside the server they allocate with
 * palloc in CurrentMemoryContext, in the unit and fuzz programs (which define
 * DOCREP_STANDALONE) with malloc.  Nothing here may know SQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REVISION_PORT_H
#define DOCREP_REVISION_PORT_H

#ifdef DOCREP_STANDALONE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t uint8;
typedef uint16_t uint16;
typedef uint32_t uint32;
typedef uint64_t uint64;
typedef int32_t int32;
typedef int64_t int64;

#define palloc(n) docrep_xmalloc(n)
#define repalloc(p, n) docrep_xrealloc(p, n)
#define pfree(p) free(p)
#define Min(x, y) ((x) < (y) ? (x) : (y))
#define Max(x, y) ((x) > (y) ? (x) : (y))

extern void *docrep_xmalloc(size_t n);
extern void *docrep_xrealloc(void *p, size_t n);
#else
#include "postgres.h"
#endif

#endif							/* DOCREP_REVISION_PORT_H */
