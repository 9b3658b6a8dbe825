/*-------------------------------------------------------------------------
 *
 * wire_wait.h
 *		Waiting for changes; for wire_wait.c and wire_wait_many.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_WIRE_WAIT_H
#define DOCREP_STORE_WIRE_WAIT_H

#include "store/serve.h"

/* the longest wait, in ms */
#define MAX_WAIT		(3600 * 1000)

/* how often tables are looked at for whose commits nobody wakes us, in ms */
#define POLL_INTERVAL	1000

/* ---------- wire_wait.c ---------- */

/* Raise unless a procedure may commit; "name" is its name. */
extern void docrep_wait_require_nonatomic(FunctionCallInfo fcinfo, const char *name);

/* Refuse a NULL where a value is needed. */
extern void docrep_wait_require_arg(FunctionCallInfo fcinfo, int i);

/* The only output of a procedure, as the row that CALL returns. */
extern Datum docrep_wait_result(FunctionCallInfo fcinfo, Datum value);

/*
 * Sleep until something may have happened or a time is there.  False: the
 * time has come, or the client has sent something more or gone away, which is
 * how it calls a wait off.
 */
extern bool docrep_wait_sleep(TimestampTz deadline, long at_most);

#endif							/* DOCREP_STORE_WIRE_WAIT_H */
