/*-------------------------------------------------------------------------
 *
 * databases.h
 *		Databases and their keepers, in shared memory; for databases.c and
 *		databases_launch.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_DATABASES_H
#define DOCREP_SCHEDULER_DATABASES_H

#include "scheduler/slots.h"

/* Databases that can have news at a time; the others are found by looking at all. */
#define PLACES			64
/* Keepers that run at a time. */
#define KEEPERS			2
/* A keeper that was asked for and did not come in this time (ms) is asked for again. */
#define KEEPER_TIMEOUT	30000
/* One that failed is started again after this time (ms), */
#define KEEPER_RETRY	5000
/* ... or, when the postmaster had no room for it, */
#define REGISTER_RETRY	1000
/* ... or when the database takes no connections. */
#define CLOSED_RETRY	10000

/* Protected by JOBS_LOCK. */
typedef struct Place
{
	Oid			database;		/* InvalidOid: free */
	bool		news;
	bool		starting;		/* a process was asked for at "asked" */
	bool		closed;			/* it takes no connections: not_before is when to look again */
	int			pid;
	TimestampTz asked;
	TimestampTz not_before;		/* no keeper until then */
	TimestampTz wanted_until;	/* a statement wants the database for itself until then */
	TimestampTz again;			/* there will be news then; 0: no */
	bool		wants_slot;		/* tasks wait for a free slot */
	bool		slot_came;		/* ... and there is one now */
} Place;

typedef struct Databases
{
	bool		look_at_all;	/* news may be in any database after "seen" */
	Oid			seen;
	bool		slots_wanted;	/* by any of the places */
	bool		crowded;		/* databases wait for a keeper */
	Place		places[PLACES];
} Databases;

/* ---------- databases.c ---------- */

/* In shared memory. */
extern Databases *docrep_databases;

/* The database's place, or a free one made its own; NULL: all are taken. */
extern Place *docrep_database_place(Oid database, bool make);

/* The place is not needed any more if nothing is to be remembered. */
extern void docrep_database_release_place(Place *place);

#endif							/* DOCREP_SCHEDULER_DATABASES_H */
