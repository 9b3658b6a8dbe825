/*-------------------------------------------------------------------------
 *
 * jobs.h
 *		Replication jobs: what the module, sessions, the launcher and workers
 *		do with them.
 *
 * A job lives in a slot of shared memory (slots.h).  README.md of this
 * directory tells its life, who may write which field, and the order of locks.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_JOBS_H
#define DOCREP_SCHEDULER_JOBS_H

#include "postgres.h"

#include "compat.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "postmaster/bgworker.h"
#include "replicator/replication.h"
#include "utils/tuplestore.h"

/* "32 hex digits", "+continuous", "+create_target", and room for what is to come */
#define JOB_ID_SIZE			128
/* what views show of an endpoint; longer ones are cut */
#define JOB_ENDPOINT_SIZE	512
#define JOB_MESSAGE_SIZE	1024

/* A worker that is asked to stop may finish its batch in this time (ms). */
#define JOB_GRACE			1000
/* The same where a DDL statement waits for it. */
#define JOB_GRACE_DDL		400
/* After such a statement no worker is started for so long (ms), unless it says that it is done. */
#define JOB_HOLD_OFF		5000
/* A worker that is to give way to others has so long at least (ms): what is cut off is to be done again. */
#define JOB_GRACE_TURN		10000
/* What a process may take to come and begin, before its turn is counted (ms). */
#define JOB_START_TIME		10000
/* Pause before a failed job is started again (ms): doubles from this to docrep.max_retry_interval. */
#define JOB_BACKOFF_MIN		1000
/* A run that stood for longer than this (s) was a healthy one; CouchDB's figure. */
#define JOB_HEALTH_THRESHOLD	120
/* A process that was asked for and did not come in this time (ms) will not come. */
#define JOB_START_TIMEOUT	60000

typedef enum JobState
{
	JOB_FREE = 0,				/* nobody's slot */
	JOB_PENDING,				/* in the queue for a process */
	JOB_STARTING,				/* has a process, which comes or opens the peers */
	JOB_RUNNING,				/* moves documents */
	JOB_IDLE,					/* continuous, caught up, its process waits for changes */
	JOB_PARKED,					/* continuous, caught up, no process: others wait for changes */
	JOB_CRASHING,				/* no process; in the queue again at next_start */
	JOB_FINISHED				/* no process, never again; kept for its callers, or until its
								 * task's table says so */
} JobState;

/* What happened to a job, for its history (CouchDB's words). */
typedef enum JobEventKind
{
	JOB_ADDED = 0,
	JOB_STARTED,
	JOB_STOPPED,				/* by the scheduler: to give way, or for a statement */
	JOB_CRASHED
} JobEventKind;

#define JOB_HISTORY			20	/* newest events that are kept */
#define JOB_REASON_SIZE		160

typedef struct JobEvent
{
	JobEventKind kind;
	TimestampTz at;
	char		reason[JOB_REASON_SIZE];	/* of JOB_CRASHED */
} JobEvent;

/* What a job does. */
typedef enum JobKind
{
	JOB_REPLICATE = 0,
	JOB_VERIFY,
	JOB_PREFLIGHT,
	JOB_HOUSEKEEPING			/* made by a keeper, and nobody waits for it (housekeeping.h) */
} JobKind;

/* In order of strength: a stronger one replaces a weaker one. */
typedef enum JobStop
{
	JOB_STOP_NONE = 0,
	JOB_STOP_TURN,				/* let others have the process: back into the queue */
	JOB_STOP_AWAY,				/* end the process, start another later */
	JOB_STOP_CANCELLED,			/* end the job */
	JOB_STOP_ORPHANED			/* ... as its database, role or extension is gone */
} JobStop;

/* An error on its way from a worker to a caller.  sqlstate 0: none. */
typedef struct JobError
{
	int			sqlstate;
	bool		unidentified;	/* the replication's id could not be made, as its filter is
								 * missing: what CouchDB calls "error" and not "crashing" */
	char		message[JOB_MESSAGE_SIZE];
	char		detail[JOB_MESSAGE_SIZE / 2];
	char		hint[JOB_MESSAGE_SIZE / 4];
} JobError;

/* Names one use of one slot, so that a stale one is noticed. */
typedef struct JobRef
{
	int			index;
	uint64		generation;
} JobRef;

/* What a process needs to find its job. */
typedef struct JobStart
{
	JobRef		ref;
	int			start_no;
	Oid			database;
	Oid			role;
} JobStart;

/* A job that is asked for. */
typedef struct JobRequest
{
	JobKind		kind;
	const char *id;				/* full replication id, or another text of its own */
	Oid			database;
	Oid			role;
	Oid			extension;		/* of docrep in that database */
	bool		continuous;
	const char *source;			/* for people */
	const char *target;
	const char *request;		/* serialized Replication or Inspection */

	/* of jobs that a row of docrep.replicator asks for: */
	const char *task;			/* its _id; NULL: asked for by replicate() and the like */
	int64		task_version;	/* names this definition of it; 0 without task */
	bool		retry_cycles;	/* RavenDB's pacing after failures (pacing.h) */
	int64		delay;			/* of the replication, ms: no job has two */
} JobRequest;

/* A copy of a job, for views and callers. */
typedef struct JobView
{
	JobRef		ref;
	JobKind		kind;
	JobState	state;
	JobStop		stop;
	char		id[JOB_ID_SIZE];
	Oid			database;
	Oid			role;
	Oid			extension;
	bool		continuous;
	bool		established;	/* a run has once opened both peers */
	bool		held;			/* crashing, but for no failure: sent away, or postponed */
	bool		has_task;		/* a row of docrep.replicator asked for it: docrep_job_task */
	int64		task_version;
	bool		reported;		/* the task's row says how it is (docrep_job_reported) */
	int			start_no;
	int			pid;			/* of its process, 0: none */
	int			failures;		/* runs that failed in a row */
	TimestampTz process_asked;
	TimestampTz next_start;
	TimestampTz started_on;
	TimestampTz updated_on;
	char		source[JOB_ENDPOINT_SIZE];
	char		target[JOB_ENDPOINT_SIZE];
	int			error_sqlstate; /* of the last run that failed, 0: none */
	bool		unidentified;	/* ... and JobError.unidentified */
	char		error_message[JOB_MESSAGE_SIZE];
	ReplicationStats figures;
} JobView;

extern int	docrep_max_jobs;	/* docrep.max_jobs: number of slots */
extern int	docrep_max_workers; /* docrep.max_workers: processes at a time */
extern bool docrep_paused;		/* docrep.paused */

/* --- called by docrep.c --- */
extern void docrep_scheduler_define_gucs(void);
extern void docrep_scheduler_request_shmem(void);	/* from shmem_request_hook, or _PG_init before 15 */
extern void docrep_scheduler_startup_shmem(void);	/* from shmem_startup_hook */
extern void docrep_scheduler_register_launcher(void);
/* hide_statement.c: keep the running statement out of the server's log */
extern void docrep_statement_hidden(void);
extern void docrep_statement_install_hook(void);

extern void docrep_scheduler_install_hooks(void);	/* ProcessUtility and object access */

/* --- entry points of the processes --- */
extern PGDLLEXPORT void docrep_launcher_main(Datum arg);
extern PGDLLEXPORT void docrep_worker_main(Datum arg);
extern PGDLLEXPORT void docrep_keeper_main(Datum arg);
extern PGDLLEXPORT void docrep_watcher_main(Datum arg);

/* --- for sessions: jobs.c --- */

/*
 * The caller waits no longer.  If it was the last one and the job cannot go on
 * without (a one-shot, or not yet established), the job is stopped.  Does not
 * fail: for cleanup and exit callbacks.
 */
extern void docrep_job_leave(JobRef ref);

/*
 * Ask a job to stop.  Its process has grace ms to finish its batch before it
 * is sent SIGTERM (docrep_jobs_press).  Does not fail.
 */
extern void docrep_job_stop(JobRef ref, JobStop stop, int grace);

/* Send the SIGTERMs that are due; returns ms until the next one, -1: none. */
extern long docrep_jobs_press(void);

/* A copy of the job; false: the slot has another use by now. */
extern bool docrep_job_look(JobRef ref, JobView *view);

/*
 * A copy of the first job at or after slot *index that is not finished (or,
 * with finished, also of finished ones); *index moves past it.  False: no more.
 * For loops over all jobs, of which there may be 10,000: a copy has 6 kB.
 */
extern bool docrep_job_next(int *index, bool finished, JobView *view);

/* The _id of the row that asked for the job, allocated; NULL: none, or stale. */
extern char *docrep_job_task(JobRef ref);

/* The job's newest events, newest first, at most JOB_HISTORY; returns how many. */
extern int	docrep_job_history(JobRef ref, JobEvent *events);

/*
 * The job's serialized request, allocated; NULL: the slot has another use by
 * now.  It holds credentials: for those who may stop the job.
 */
extern char *docrep_job_request(JobRef ref);

/* What a finished job returned, as JSON text, allocated; NULL: nothing. */
extern char *docrep_job_result(JobRef ref);

/* The error of the job's last failed run; sqlstate 0: none. */
extern void docrep_job_error(JobRef ref, JobError *error);

/*
 * Waiting for a job to change: prepare, look, sleep; in the end end_wait.
 * Prepare returns false for a stale reference.  Sleep returns after a change,
 * after any other wake-up of the process, or after timeout ms; it handles
 * interrupts.
 */
extern bool docrep_job_prepare_wait(JobRef ref);
extern void docrep_job_sleep(long timeout);
extern void docrep_job_end_wait(void);

/*
 * Make the processes of a database go away for a statement that wants the
 * database or the extension for itself, and wait until they are gone
 * (bounded).  Continuous jobs come back later; one-shots, if one_shots, end.
 */
extern void docrep_jobs_send_away(Oid database, bool one_shots);

/* The statement is over: what was sent away may start at once. */
extern void docrep_jobs_call_back(Oid database);

/* --- for keepers, which make jobs of tasks --- */

typedef enum JobSubmit
{
	JOB_SUBMITTED,				/* it is in the queue, or was there already for this task and version */
	JOB_SUBMIT_ENDING,			/* one of that id is ending: try again when woken */
	JOB_SUBMIT_DUPLICATE,		/* another task has it: *ref says which */
	JOB_SUBMIT_FULL				/* no slot: docrep.max_jobs */
} JobSubmit;

/*
 * Put a task's job into the queue; nobody waits for it.  A job of that id that
 * replicate() has asked for becomes the task's.
 */
extern JobSubmit docrep_job_submit(const JobRequest *request, JobRef *ref);

/*
 * The task's row says how the job is: if it is finished and nobody else waits,
 * its slot is free.  changes: as docrep_job_look gave them with the state that
 * was written; when the job has moved on since, it stays unreported.
 */
extern void docrep_job_reported(JobRef ref, JobState state, int start_no);

/* There are no rows any more that could say what became of tasks: the database or extension is gone. */
extern void docrep_jobs_forget_reports(Oid database);

/*
 * In a transaction that writes tasks: when it commits, the keeper of this
 * database looks at them.  Once a transaction is enough.
 */
extern void docrep_tasks_changed(void);

/* For a keeper, of its database: has anything changed since the last call (tasks, or jobs to report)? */
extern bool docrep_keeper_take_news(void);

/* The keeper of this database begins; false: there is one.  Leaves by itself at exit. */
extern bool docrep_keeper_enter(Oid database);

/* For a keeper: do other databases wait for theirs? */
extern bool docrep_keeper_others_wait(void);

/* For a keeper, of its database: tasks wait for a slot; they are news when one is free. */
extern void docrep_keeper_wants_slot(void);

/* How many slots are free?  *came: there is one for those that were said to wait. */
extern int	docrep_keeper_take_slots(bool *came);

/* For a keeper that ends: there will be something to do again at that time. */
extern void docrep_keeper_again(TimestampTz at);

/* "running" and so on, "replication" and so on; static. */
extern const char *docrep_job_state_name(JobState state);
extern const char *docrep_job_kind_name(JobKind kind);

/* --- for SQL functions: call.c --- */

/*
 * What must hold before a job is asked for: raised if it does not.  For
 * messages: doing is what the user wants ("replicate"), function what was called.
 */
extern void docrep_job_check_caller(const char *doing, const char *function);

/* A role without LOGIN cannot have a worker of its own (before 17): 28000. */
extern void docrep_job_check_role(Oid role);

/*
 * Run a job, or take part in one that runs already.  Fills in whose it is.
 * Returns a one-shot's result, NULL for a continuous one, which only has to be
 * established; *id, if wanted, is what the job is called in the end.
 */
extern char *docrep_job_call(JobRequest *request, const char **id);

/* --- processes of jobs: process.c; their pool: pool.h --- */

/* For the worker: become the job's process; false: not wanted any more. */
extern bool docrep_process_enter(const JobStart *start);

/*
 * The worker's process is there, but not connected yet: should it end now, the
 * job has failed.  False: not wanted any more.
 */
extern bool docrep_process_expect(const JobStart *start);

/* What the job's source is, so that its commits can be noticed when the job has crashed. */
extern void docrep_process_source(JobRef ref, const DocrepEndpoint *source);

/* The serialized Replication or Inspection, allocated. */
extern char *docrep_process_request(JobRef ref);

/* The replication turned out to have another id than it was asked for under (see replicator). */
extern void docrep_process_identify(JobRef ref, const char *id);

/* Publish figures and state; healthy: the run got somewhere, forget earlier failures. */
extern void docrep_process_progress(JobRef ref, const ReplicationStats *figures,
									bool idle, bool healthy);

/* True: end the run. */
extern bool docrep_process_stop_asked(JobRef ref);

/* Are there jobs that have no process? */
extern bool docrep_process_others_wait(void);

/*
 * In how many ms shall a caught-up run that has been idle for so many leave its
 * process to others?  0: now; -1: never.
 */
extern long docrep_process_park_in(JobRef ref, long idle);

/*
 * The run ended caught up, and changes of its source can be waited for at
 * "place" (peer.h); remote: the flat form of a remote one.  The job is parked, or back in the queue if something has
 * happened there already.
 */
extern void docrep_process_park(const JobStart *start, const DocrepWaitPlace *place,
								const char *remote);

/* The run has nothing to do before that time: the job is parked, and then back in the queue. */
extern void docrep_process_park_until(const JobStart *start, TimestampTz until);

/* Not a failure, but not now either: back in the queue after ms. */
extern void docrep_process_postpone(const JobStart *start, int ms, const char *reason);

/* --- parked jobs: parked.c --- */

/* Something may have happened at the source of a parked job: into the queue. */
extern void docrep_job_unpark(JobRef ref);

/*
 * For the watcher: the next parked job at or after slot *index whose source is
 * not in this cluster; *place its serialized DocrepWaitPlace, allocated.  A job
 * keeps its start_no while it is parked.
 */
extern bool docrep_parked_next(int *index, JobRef *ref, int *start_no, Oid *role, char **place);

/* Is the job still parked as it was? */
extern bool docrep_parked_still(JobRef ref, int start_no);

/* The watcher begins, and is woken when remote jobs are parked; it leaves at exit. */
extern bool docrep_watcher_enter(void);

/* Keep what a one-shot returned for its callers. */
extern void docrep_process_set_result(JobRef ref, const char *result);

/*
 * The process leaves its job, with an error (sqlstate not 0) or without one.
 * Does not fail: for exit callbacks.  No-op if it has left already.
 */
extern void docrep_process_leave(const JobStart *start, const JobError *error, bool orphaned);

/* --- errors.c --- */

/* Fill an error; texts are cut, and stripped of what looks like credentials. */
extern void docrep_job_error_set(JobError *error, int sqlstate, const char *message,
								 const char *detail, const char *hint);
extern void docrep_job_error_copy(JobError *error, const ErrorData *edata);

/* Copy a text, cut to the buffer's size at a character's border: views show it.  Does not fail. */
extern void docrep_job_text_copy(char *buffer, Size size, const char *text);

/* Raise it as the caller's own. */
DOCREP_NORETURN extern void docrep_job_error_raise(const JobError *error);

#endif							/* DOCREP_SCHEDULER_JOBS_H */
