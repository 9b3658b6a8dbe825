/*-------------------------------------------------------------------------
 *
 * jobs.h
 *		Replication jobs in shared memory: slots, their states and figures.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_JOBS_H
#define DOCREP_SCHEDULER_JOBS_H

#include "replicator/replication.h"

extern void docrep_scheduler_define_gucs(void);		/* docrep.paused, docrep.max_workers, ... */
extern void docrep_scheduler_request_shmem(void);
extern void docrep_scheduler_startup_shmem(void);
extern void docrep_scheduler_register_launcher(void);

/* entry points of the processes */
extern PGDLLEXPORT void docrep_launcher_main(Datum arg);
extern PGDLLEXPORT void docrep_worker_main(Datum arg);

#endif							/* DOCREP_SCHEDULER_JOBS_H */
