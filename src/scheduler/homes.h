/*-------------------------------------------------------------------------
 *
 * homes.h
 *		Are the database and the role of a job still there?
 *
 * For processes that are connected to no database: shared catalogs only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_HOMES_H
#define DOCREP_SCHEDULER_HOMES_H

#include "postgres.h"

typedef enum HomeState
{
	HOME_GONE = 0,				/* database or role was dropped */
	HOME_CLOSED,				/* the database takes no connections */
	HOME_OPEN
} HomeState;

/* Looks in a transaction of its own; role InvalidOid: of no interest. */
extern HomeState docrep_home_state(Oid database, Oid role);

/* For the launcher: after a role was dropped, end the jobs that were its. */
extern void docrep_homes_look_after(void);

/* For the session that has dropped one, when its transaction has committed. */
extern void docrep_role_dropped(void);

#endif							/* DOCREP_SCHEDULER_HOMES_H */
