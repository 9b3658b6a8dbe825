/*-------------------------------------------------------------------------
 *
 * couch_scan.h
 *		Checks JSON as it arrives, and says where values begin and end.
 *
 * Pure C.  Which containers are open is kept in a bit each, outside of the
 * stack, so that depth costs next to nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCH_SCAN_H
#define DOCREP_PEER_COUCH_SCAN_H

#include "revision/port.h"

typedef enum CouchScanResult
{
	COUCHSCAN_MORE,				/* all was taken */
	COUCHSCAN_BEGIN,				/* a value or key begins here; its first byte is not taken */
	COUCHSCAN_FINISH,			/* the value or key ended just before */
	COUCHSCAN_BAD				/* here it stops being JSON */
} CouchScanResult;

typedef struct CouchScan
{
	int			state;
	int			digits;			/* of a \u escape; of a literal: how far */
	const char *literal;
	bool		announced;		/* BEGIN was returned for the value that comes */
	bool		key;			/* the string is a key */
	size_t		depth;			/* open containers */
	uint8	   *open;			/* a bit each: it is an object */
	size_t		size;			/* of open, in bytes */
	uint8		few[32];		/* for the usual depths */
} CouchScan;

extern void docrep_cj_scan_init(CouchScan *scan);
extern void docrep_cj_scan_free(CouchScan *scan);

/* Start over with another value; keeps its memory. */
extern void docrep_cj_scan_restart(CouchScan *scan);

/*
 * Go on from *p to end, and stop where a value or key begins or ends that lies in
 * at most "limit" containers (scan->depth tells in how many; scan->key whether it
 * is a key).  *p advances.
 */
extern CouchScanResult docrep_cj_scan(CouchScan *scan, const char **p, const char *end,
									   size_t limit);

/* Would the text be complete if it ended here?  (A number does not say so itself.) */
extern bool docrep_cj_scan_complete(const CouchScan *scan);

#endif							/* DOCREP_PEER_COUCH_SCAN_H */
