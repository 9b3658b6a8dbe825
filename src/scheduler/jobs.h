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
/* Pause before a failed continuous job is started again (ms): doubles from min to max. */
#define JOB_BACKOFF_MIN		1000
#define JOB_BACKOFF_MAX		60000
/* A process that was asked for and did not come in this time (ms) will not come. */
#define JOB_START_TIMEOUT	60000

typedef enum JobState
{
	JOB_FREE = 0,				/* nobody's slot */
	JOB_STARTING,				/* its process is asked for, or opens the peers */
	JOB_RUNNING,				/* moves documents */
	JOB_IDLE,					/* continuous, caught up, waits for changes */
	JOB_CRASHING,				/* no process; started again at next_start */
	JOB_FINISHED				/* no process, never again; kept for its callers */
} JobState;

/* What a job does. */
typedef enum JobKind
{
	JOB_REPLICATE = 0,
	JOB_VERIFY,
	JOB_PREFLIGHT
} JobKind;

/* In order of strength: a stronger one replaces a weaker one. */
typedef enum JobStop
{
	JOB_STOP_NONE = 0,
	JOB_STOP_AWAY,				/* end the process, start another later */
	JOB_STOP_CANCELLED,			/* end the job */
	JOB_STOP_ORPHANED			/* ... as its database, role or extension is gone */
} JobStop;

/* An error on its way from a worker to a caller.  sqlstate 0: none. */
typedef struct JobError
{
	int			sqlstate;
	char		message[JOB_MESSAGE_SIZE];
	char		detail[JOB_MESSAGE_SIZE];
	char		hint[JOB_MESSAGE_SIZE];
} JobError;

/* Names one use of one slot, so that a stale one is noticed. */
typedef struct JobRef
{
	int			index;
	uint64		generation;
} JobRef;

/* What a new process needs to find its job; travels in bgw_extra. */
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
	char		error_message[JOB_MESSAGE_SIZE];
	ReplicationStats figures;
} JobView;

extern int	docrep_max_workers; /* docrep.max_workers: number of slots */
extern bool docrep_paused;		/* docrep.paused */

/* --- called by docrep.c --- */
extern void docrep_scheduler_define_gucs(void);
extern void docrep_scheduler_request_shmem(void);	/* from shmem_request_hook, or _PG_init before 15 */
extern void docrep_scheduler_startup_shmem(void);	/* from shmem_startup_hook */
extern void docrep_scheduler_register_launcher(void);
/* hide_statement.c: keep the running statement out of the server's log */
extern void docrep_statement_hidden(void);
extern void docrep_statement_shown(void);
extern void docrep_statement_install_hook(void);

extern void docrep_scheduler_install_hooks(void);	/* ProcessUtility and object access */

/* --- entry points of the processes --- */
extern PGDLLEXPORT void docrep_launcher_main(Datum arg);
extern PGDLLEXPORT void docrep_worker_main(Datum arg);

/* --- for sessions: jobs.c --- */

/*
 * Find the job of the request's (database, role, id), or make it, and count
 * the caller as one that waits for it.  *created: it is new, *start is filled
 * and the caller starts its process.  False, and nothing done: it is there but
 * ending; wait for *ref and try again.  No free slot: 53400.
 */
extern bool docrep_job_join(const JobRequest *request, JobRef *ref, bool *created,
							JobStart *start);

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

/* Copies of all jobs that are not finished; returns their number.  Allocated. */
extern int	docrep_jobs_list(JobView **views);

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

/* "running" and so on, "replication" and so on; static. */
extern const char *docrep_job_state_name(JobState state);
extern const char *docrep_job_kind_name(JobKind kind);

/* --- for SQL functions: call.c --- */

/*
 * What must hold before a job is asked for: raised if it does not.  For
 * messages: doing is what the user wants ("replicate"), function what was called.
 */
extern void docrep_job_check_caller(const char *doing, const char *function);

/*
 * Run a job, or take part in one that runs already.  Fills in whose it is.
 * Returns a one-shot's result, NULL for a continuous one, which only has to be
 * established; *id, if wanted, is what the job is called in the end.
 */
extern char *docrep_job_call(JobRequest *request, const char **id);

/* A tuplestore as the result of a set-returning function; *desc its rows' type (views.c). */
extern Tuplestorestate *docrep_begin_rows(FunctionCallInfo fcinfo, TupleDesc *desc);

/* --- processes of jobs: process.c --- */

/*
 * Register a job's process.  NULL: it cannot be done, and *problem says why.
 */
extern BackgroundWorkerHandle *docrep_process_register(const JobStart *start, const char *id,
													   JobError *problem);

/* The process of this start will not come: finish the job, or try again later. */
extern void docrep_process_missing(const JobStart *start, const JobError *problem);

/* For the launcher: a crashing job whose time has come is now starting; fills *start. */
extern bool docrep_process_take_start(JobRef ref, JobStart *start);

/* For the worker: become the job's process; false: not wanted any more. */
extern bool docrep_process_enter(const JobStart *start);

/* The serialized Replication or Inspection, allocated. */
extern char *docrep_process_request(JobRef ref);

/* The replication turned out to have another id than it was asked for under (see replicator). */
extern void docrep_process_identify(JobRef ref, const char *id);

/* Publish figures and state; healthy: the run got somewhere, forget earlier failures. */
extern void docrep_process_progress(JobRef ref, const ReplicationStats *figures,
									bool idle, bool healthy);

/* True: end the run. */
extern bool docrep_process_stop_asked(JobRef ref);

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

/* Raise it as the caller's own. */
DOCREP_NORETURN extern void docrep_job_error_raise(const JobError *error);

#endif							/* DOCREP_SCHEDULER_JOBS_H */
