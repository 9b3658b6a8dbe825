/*-------------------------------------------------------------------------
 *
 * keeper.h
 *		What a keeper knows while it looks at its database's tasks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_KEEPER_H
#define DOCREP_SCHEDULER_KEEPER_H

#include "scheduler/jobs.h"
#include "scheduler/tasks.h"

/* A job that a task has, as it was when it was looked at. */
typedef struct KeeperJob
{
	char	   *task;			/* _id of its row */
	JobRef		ref;
	JobState	state;
	JobStop		stop;
	int			start_no;
	int64		version;
	bool		reported;
	bool		failing;		/* its last run failed, and none has gone well since */
	char	   *id;				/* the replication's */
	char	   *error;			/* of an unreported one: what its last run failed with, or NULL */
	ReplicationStats *figures;	/* of a finished one */
} KeeperJob;

/* A task that is looked at. */
typedef struct KeeperTask
{
	char	   *id;
	int64		version;
	Oid			owner;
	Oid			role;
	char	   *state;			/* NULL: live */
	char	   *reason;
	char	   *shown;			/* what its row says, NULL: nothing yet */
	char	   *replication_id;
	char	   *source;
	char	   *target;
	Jsonb	   *stats;
	bool		disabled;
	bool		held;			/* by docrep.hold(), and has no job */
	bool		due;			/* it has no retry_at, or one that has come */
	bool		handled;		/* its job was asked for in this look */
} KeeperTask;

/* What is to be written into a task's row. */
typedef struct KeeperReport
{
	const char *id;
	int64		version;
	const char *replication_id; /* or NULL */
	const char *shown;			/* _replication_state */
	const char *reason;			/* or NULL */
	Jsonb	   *stats;			/* or NULL */
	const char *state;			/* for docrep.task_state */
	bool		has_job;		/* then: */
	JobRef		ref;
	JobState	job_state;
	int			start_no;
} KeeperReport;

/* --- keeper_tables.c: statements, in a transaction with a snapshot --- */

/* Ids of tasks that were written since the last call, sorted; gone with this transaction's commit. */
extern List *docrep_keeper_take_ids(void);

/*
 * Tasks in order of id: with ids those, else all that are not over or whose
 * rows do not say so.
 */
extern KeeperTask *docrep_keeper_read(List *ids, int *n);

/* Hand the requests for these tasks' jobs on, but for those that a session is just writing. */
extern void docrep_keeper_read_requests(List *ids,
										void (*submit) (const JobRequest *request, void *arg),
										void *arg);

/* No job could be made: try again later. */
extern void docrep_keeper_set_error(const char *id, int64 version, const char *reason);
/* A job was made where before none could be. */
extern void docrep_keeper_clear_error(const char *id, int64 version);

/* Hold tasks that came with a copy of a database, or without having been checked. */
extern void docrep_keeper_hold_strangers(void);

/* When the next task is to be tried again; 0: none. */
extern TimestampTz docrep_keeper_next_retry(void);

/* --- keeper_jobs.c --- */

/* The jobs that tasks of this database have, in order of the tasks' ids. */
extern KeeperJob **docrep_keeper_jobs(int *n);

/* One more of them, or NULL. */
extern KeeperJob *docrep_keeper_job(JobRef ref);

/* The job that this version of a task has, among those; NULL: none. */
extern KeeperJob *docrep_keeper_find_job(KeeperJob **jobs, int n, const char *task, int64 version);

/* What a job's task is to say of it; NULL: what it says already. */
extern KeeperReport *docrep_keeper_job_report(const KeeperTask *task, const KeeperJob *job);

/* --- keeper_report.c --- */

/*
 * Write reports into rows of docrep.replicator and docrep.task_state, in
 * transactions of its own.  Those whose rows somebody has locked are left:
 * returns their tasks' ids.
 */
extern List *docrep_keeper_write(List *reports);

/* One look at the tasks. */
typedef struct KeeperLook
{
	KeeperJob **jobs;
	int			njobs;
	KeeperTask *tasks;			/* in order of id */
	int			ntasks;
	bool		all;			/* tasks has all that may have jobs */
	List	   *reports;		/* KeeperReport */
	List	   *again;			/* ids of tasks that could not be done yet */
	int			slots;			/* free ones, for tasks that have waited for one */
	int			full;			/* tasks for which there was no slot */
	bool		told;			/* ... which the log says of all of them already */
} KeeperLook;

/* ---------- keeper_task.c ---------- */

/* A report that comes from no job. */
extern KeeperReport *docrep_keeper_add_report(KeeperLook *look, const KeeperTask *task,
											  const char *shown, const char *state,
											  const char *reason);

/*
 * Why nothing may run for a task any more, whatever it was when it was written;
 * NULL: it may.  Seen when a keeper begins, or the task is looked at anyway.
 */
extern const char *docrep_keeper_lost_right(const KeeperTask *task);

/* What the task's row is to say of its job, if it does not yet. */
extern void docrep_keeper_report_job(KeeperLook *look, const KeeperTask *task,
									 const KeeperJob *job);

/* No job can be made; that is said in the task's row, too. */
extern void docrep_keeper_cannot_submit(KeeperLook *look, const KeeperTask *task,
										const char *reason);

#endif							/* DOCREP_SCHEDULER_KEEPER_H */
