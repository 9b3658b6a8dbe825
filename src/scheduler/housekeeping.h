/*-------------------------------------------------------------------------
 *
 * housekeeping.h
 *		What is done with document tables in the background: README.md,
 *		"Housekeeping".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_HOUSEKEEPING_H
#define DOCREP_SCHEDULER_HOUSEKEEPING_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "replicator/replication.h"

/* docrep.housekeeping: does what this session sets start any? */
extern bool docrep_housekeeping;

/* docrep.housekeeping_interval, in s */
extern int	docrep_housekeeping_interval;

/* docrep.housekeeping_timeout, in s: of a step; 0: none */
extern int	docrep_housekeeping_timeout;

/* For docrep.c: what sets a policy for conflicts asks for them to be resolved again. */
extern void docrep_housekeeping_install_hooks(void);

/*
 * For a keeper, in a transaction with a snapshot: mark what is due as about to be
 * done, as far as it is of one owner's tables.  Returns that owner, for whom
 * docrep_housekeeping_submit is called after the commit; InvalidOid: nothing is
 * due, or somebody is at it already.  *next: when to look again, 0: not at all.
 */
extern Oid	docrep_keeper_claim_housekeeping(TimestampTz *next);

/* Put a job for one owner's tables into the queue, unless there is one; false: no slot is free for it. */
extern bool docrep_housekeeping_submit(Oid owner, Oid extension);

/* Is there such a job in this database? */
extern bool docrep_housekeeping_is_under_way(void);

/*
 * Do what a keeper has marked, step by step, as the owner, outside of a
 * transaction; returns when nothing is left or others wait for the process.
 */
extern char *docrep_housekeeping_run(const ReplicationHooks *hooks);

#endif							/* DOCREP_SCHEDULER_HOUSEKEEPING_H */
