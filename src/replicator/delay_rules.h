/*-------------------------------------------------------------------------
 *
 * delay_rules.h
 *		How a delayed replication divides its time.
 *
 * Pure: no Postgres besides the types of port.h.  Delays and intervals are
 * milliseconds, points in time microseconds of any epoch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_DELAY_RULES_H
#define DOCREP_REPLICATOR_DELAY_RULES_H

#include "revision/port.h"

/* Changes that one mark holds at most. */
#define DELAY_MARK_CHANGES	1000

/*
 * How much later than it might something may be brought, so that what becomes old enough
 * shortly after it comes along: a 200th of the delay, 10 s at most.
 */
extern int64 docrep_delay_slack(int64 delay);

/*
 * How often a source that does not tell when its changes were made is looked at while
 * some of them wait: a tenth of the delay, at least 100 ms, at most a minute.
 */
extern int64 docrep_delay_look_interval(int64 delay);

/*
 * How long a source that tells times is left alone at most while something waits there:
 * nothing that is younger than the delay waits for longer than that, only what has a time
 * in the future, and that may be put right.  The delay, at least 15 s.
 */
extern int64 docrep_delay_ask_again(int64 delay);

/*
 * Changes that are seen "now" may be added to a mark that was begun at first_seen and
 * has n of them already: what it holds is then taken to have been seen now.  Within a
 * thousandth of the delay, or a second if that is more.
 */
extern bool docrep_delay_joins_mark(int64 first_seen, int n, int64 now, int more, int64 delay);

/* The earlier of two points in time, of which 0 means never. */
extern int64 docrep_delay_sooner(int64 a, int64 b);

/* A point in time so many ms after another; INT64_MAX where there is no such. */
extern int64 docrep_delay_after(int64 at, int64 ms);

#endif							/* DOCREP_REPLICATOR_DELAY_RULES_H */
