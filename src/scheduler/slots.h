/*-------------------------------------------------------------------------
 *
 * slots.h
 *		The array of job slots in shared memory, and the queue of those that
 *		want a process.  Private to the files of this floor that say so in
 *		README.md.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_SLOTS_H
#define DOCREP_SCHEDULER_SLOTS_H

#include "scheduler/jobs.h"
#include "scheduler/pacing.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

/* Reasons of crashes that are kept; older events of a history lose theirs. */
#define JOB_REASONS		5

typedef struct HistoryEntry
{
	TimestampTz at;
	int16		kind;			/* JobEventKind */
	int16		reason;			/* its number in Job.reasons, from 1; 0: none, or not kept any more */
} HistoryEntry;

/*
 * What loops over all slots look at, so that they touch few cache lines.
 * Protected by JOBS_LOCK.
 */
typedef struct JobHead
{
	JobState	state;			/* as in the Job; set by docrep_slot_set_state */
	uint32		hash;			/* of (database, role, id) */
	int32		next;			/* in the queue: the slot behind this one, -1: none */
	bool		stopping;		/* stop is set */
	bool		garbage;		/* free, with texts to be released */
	bool		unreported;		/* a task's row does not say yet how the job is */
	bool		remote;			/* parked, and the watcher waits for its source */
	TimestampTz due;			/* crashing: when it is looked at again; parked: the same, 0: not by time */
} JobHead;

/* Protected by JOBS_LOCK unless said otherwise. */
typedef struct Job
{
	uint64		generation;		/* of the slot's use; moves when it is given out; 0: never used */
	JobState	state;
	JobStop		stop;
	TimestampTz stop_at;		/* with stop: when to send SIGTERM */

	JobKind		kind;
	char		id[JOB_ID_SIZE];
	Oid			database;
	Oid			role;
	Oid			extension;
	bool		continuous;
	TimestampTz started_on;
	char		source[JOB_ENDPOINT_SIZE];
	char		target[JOB_ENDPOINT_SIZE];
	dsa_pointer request;		/* with its NUL; kept after the slot became free
								 * until somebody can release it */
	dsa_pointer result;			/* likewise, or invalid */
	dsa_pointer task;			/* _id of the row that asked for it, or invalid */
	dsa_pointer place;			/* parked at a remote source: its DocrepWaitPlace */
	bool		has_task;
	int64		task_version;
	int64		delay;			/* as its request has it */

	bool		established;
	bool		held;			/* crashing, but not for a failure */
	bool		told;			/* its task's row was to say that it fails */
	int			waiters;		/* callers that wait for it */
	int			start_no;		/* a process with an older one ends itself */
	int			pid;
	TimestampTz process_asked;	/* when it was given a process */
	Pacing		pacing;
	JobError	error;

	/* the table that its source is, if in this cluster; set by its process */
	bool		source_local;
	Oid			source_database;
	pg_uuid_t	source_table;
	bool		watched;		/* a token for that table is parked in the store */

	uint64		nevents;		/* ever: a job that is parked has one each time it wakes */
	uint64		ncrashes;		/* ever */
	HistoryEntry events[JOB_HISTORY];	/* number i at i % JOB_HISTORY */
	char		reasons[JOB_REASONS][JOB_REASON_SIZE];

	ConditionVariable changed;	/* broadcast after changes of the above */

	LWLock		figures_lock;	/* of the rest */
	TimestampTz updated_on;
	ReplicationStats figures;	/* of all runs: those of the current one added to ... */
	ReplicationStats before;	/* ... what had come together when it began (counts only) */
} Job;

typedef struct JobsShared
{
	int			launcher_pid;	/* 0: none */
	int			watcher_pid;
	uint64		last_generation;
	int			used;			/* slots from here on have never been used */
	int			queue_first;	/* pending jobs, oldest first; -1: none */
	int			queue_last;
	int			queued;
	int			remote;			/* parked jobs with a remote source */
	bool		role_dropped;	/* the launcher has to look for jobs without a role */
} JobsShared;

extern JobsShared *docrep_jobs; /* NULL: no shared memory */
extern JobHead *docrep_job_heads;
extern Job *docrep_job_slots;
extern LWLockPadded *docrep_jobs_locks;

#define JOBS_LOCK			(&docrep_jobs_locks[0].lock)

/* This process's hold on the memory of requests and results. */
extern dsa_area *docrep_slots_area(void);

/* A copy of a text in that memory; outside of JOBS_LOCK, as it may fail or take a while. */
extern dsa_pointer docrep_slots_keep_text(const char *text);

/* With JOBS_LOCK held: the job that ref means, or NULL. */
extern Job *docrep_slot_of(JobRef ref);

/* With JOBS_LOCK held exclusively: a free slot, cleared, with a generation; or NULL. */
extern Job *docrep_slot_take(void);

/* With JOBS_LOCK held: how many slots are free. */
extern int	docrep_slots_free(void);

/* With JOBS_LOCK held exclusively: the job's key has changed. */
extern void docrep_slot_rehash(Job *job);

/* With JOBS_LOCK held: the hash of a key, for JobHead.hash. */
extern uint32 docrep_slot_hash(Oid database, Oid role, const char *id);

/* With JOBS_LOCK held exclusively. */
extern void docrep_slot_set_state(Job *job, JobState state);
extern void docrep_slot_set_stop(Job *job, JobStop stop);
extern void docrep_slot_event(Job *job, JobEventKind kind, const char *reason);

/* With JOBS_LOCK held exclusively: the row of the job's task has to be written. */
extern void docrep_slot_to_report(Job *job);

/* With JOBS_LOCK held exclusively: to the end of the queue; out of it. */
extern void docrep_queue_add(Job *job);
extern void docrep_queue_remove(Job *job);

/* With JOBS_LOCK held exclusively: wait for the source of a job with RavenDB's pacing. */
extern void docrep_slot_watch_source(Job *job);

/* With JOBS_LOCK held exclusively: no process any more and never again. */
extern void docrep_slot_finish(Job *job);

/*
 * With JOBS_LOCK held exclusively: the process is gone or never came.  Finishes
 * the job, puts it back into the queue or makes it crashing.  error: NULL or
 * what ended the run.
 */
extern void docrep_slot_process_gone(Job *job, const JobError *error);

/* With JOBS_LOCK held exclusively: try again at a time, for no failure of the job. */
extern void docrep_slot_hold(Job *job, TimestampTz until);

/* With JOBS_LOCK held exclusively: wake those who wait for the job. */
extern void docrep_slot_changed(Job *job);

/* Release memory of free slots; for the launcher. */
extern void docrep_slots_reclaim(void);

/* Wake a process of ours by pid, if it is there. */
extern void docrep_wake_process(int pid);

/* With JOBS_LOCK held: wake the launcher. */
extern void docrep_wake_launcher(void);

/* What pacing depends on, from the settings. */
extern PacingLimits docrep_pacing_limits(void);

static inline int
docrep_slot_index(const Job *job)
{
	return (int) (job - docrep_job_slots);
}

static inline JobHead *
docrep_slot_head(const Job *job)
{
	return &docrep_job_heads[docrep_slot_index(job)];
}

static inline JobRef
docrep_slot_ref(const Job *job)
{
	JobRef		ref;

	ref.index = docrep_slot_index(job);
	ref.generation = job->generation;
	return ref;
}

/*
 * Describe a process of ours to the postmaster (bgworker.c): its entry point in
 * docrep.so, and what it is called in pg_stat_activity.  It is not started again.
 */
extern void docrep_describe_process(BackgroundWorker *worker, const char *function, const char *name);

/*
 * What the role or the database may have set for sessions is not for a process of
 * ours: no time-outs but one for locks, writes allowed, names found where we expect
 * them.
 */
extern void docrep_pin_settings(const char *application_name, const char *search_path);

/*
 * Say in the log that something waits for a background worker, at most once a
 * minute; *said, 0 at first, is when it was said last.
 */
extern void docrep_report_shortage(TimestampTz *said, const char *message, const char *hint);

/* ---------- parked.c ---------- */

/* With JOBS_LOCK held exclusively: a parked job leaves that state, whatever comes next. */
extern void docrep_slot_unwatch(Job *job);

/* With JOBS_LOCK held exclusively: a parked job has something to do, into the queue. */
extern void docrep_slot_unpark(Job *job);

/* For the launcher: sources in this cluster that have committed something. */
extern void docrep_parked_take_woken(void);

/* ---------- databases.c, databases_launch.c ---------- */

extern Size docrep_databases_size(void);
extern void docrep_databases_startup_shmem(void);

/* With JOBS_LOCK held exclusively: the keeper of a database has something to do. */
extern void docrep_database_has_news(Oid database);

/* With JOBS_LOCK held exclusively: keepers whose tasks wait for a slot look again. */
extern void docrep_database_slot_freed(void);

/* docrep_database_has_news for who does not hold it; does not fail. */
extern void docrep_database_tell(Oid database);

/*
 * For the launcher: start keepers where they are wanted.  Returns ms until it
 * should be called again, -1: when something changes.
 */
extern long docrep_databases_look_after(void);

/* With JOBS_LOCK held exclusively: no keeper in the database for now; true: there still is one. */
extern bool docrep_database_dismiss_keeper(Oid database);
extern void docrep_database_call_back(Oid database);

/* With JOBS_LOCK held: until when a statement wants the database for itself; 0: none does. */
extern TimestampTz docrep_database_wanted_until(Oid database);

/* settings of the scheduler (slots_area.c) */
extern int	docrep_park_after;
extern int	docrep_worker_linger;
extern int	docrep_scheduler_interval;
extern int	docrep_max_churn;

#endif							/* DOCREP_SCHEDULER_SLOTS_H */
