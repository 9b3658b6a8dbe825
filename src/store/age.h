/*-------------------------------------------------------------------------
 *
 * age.h
 *		When a change is old enough for a reader that wants none younger.
 *
 * Pure: no Postgres besides the types of port.h; times are microseconds of any epoch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_AGE_H
#define DOCREP_STORE_AGE_H

#include "revision/port.h"

/*
 * In how many microseconds will what was changed at "modified" be min_age (ms, not
 * negative) old, when it is "now" on the clock that gave it that time?  0: it is;
 * INT64_MAX: that is beyond all reckoning.  A time in the future waits for longer.
 */
extern int64 docrep_age_due_in(int64 modified, int64 min_age, int64 now);

/* The same in ms, rounded up: who comes back then does not come too early. */
extern int64 docrep_age_due_in_ms(int64 modified, int64 min_age, int64 now);

/* The time until which a change must have been made to be min_age old "now". */
extern int64 docrep_age_limit(int64 min_age, int64 now);

/*
 * How far another server's clock is ahead of ours (microseconds, negative: behind), as
 * far as can be told: it showed "theirs" at some moment between "sent" and "received"
 * of ours.  0 if the two may agree.
 */
extern int64 docrep_clock_skew(int64 theirs, int64 sent, int64 received);

#endif							/* DOCREP_STORE_AGE_H */
