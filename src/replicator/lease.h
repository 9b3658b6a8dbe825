/*-------------------------------------------------------------------------
 *
 * lease.h
 *		One of several servers that have the same task runs it: settings and
 *		shared memory of leases.  For a run's side see engine.h, for the rules
 *		README.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_LEASE_H
#define DOCREP_REPLICATOR_LEASE_H

#include "postgres.h"

extern char *docrep_node_name;	/* docrep.node_name; "": the uuid of the database's node */
extern int	docrep_lease_time;	/* docrep.lease_time, ms */

/* Memory for n leases that this server's tasks have to do with at a time. */
extern void docrep_lease_request_shmem(int n);
extern void docrep_lease_startup_shmem(int n);

/* Names a lease at a target, as a database of this server sees it. */
typedef struct LeaseKey
{
	uint64		hash[2];
} LeaseKey;

/*
 * What this server remembers of a lease from one run to the next.  Times are
 * docrep_lease_clock's.
 */
typedef struct LeaseMemory
{
	LeaseKey	key;
	uint64		seen;			/* hash of the document as it was seen last */
	int64		seen_since;		/* ... and has not changed since; 0: never seen */
	uint64		own;			/* hash of the token of our last run that had it, 0: none */
	bool		own_runs;		/* that run has not ended, as far as is known */
	uint64		claim;			/* hash of the token of our claim, 0: none */
	int64		claim_ripe;		/* when it may be confirmed */
	int64		used;			/* when this was stored */
} LeaseMemory;

/* Fill it from what is remembered; all zeroes but for the key: nothing. */
extern void docrep_lease_recall(const LeaseKey *key, LeaseMemory *memory);
extern void docrep_lease_remember(LeaseMemory *memory);

/* The run that had the lease is over.  Cannot fail. */
extern void docrep_lease_forget_run(const LeaseKey *key);

/* ms, of a clock that nobody sets and that goes on while the machine sleeps. */
extern int64 docrep_lease_clock(void);

#endif							/* DOCREP_REPLICATOR_LEASE_H */
