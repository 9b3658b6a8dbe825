/*-------------------------------------------------------------------------
 *
 * explain.h
 *		docrep.explain(): what is known of the replication in question.
 *		Private to explain.c and explain_task.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_EXPLAIN_H
#define DOCREP_SCHEDULER_EXPLAIN_H

#include "replicator/replication.h"
#include "scheduler/jobs.h"

typedef struct ExplainTask
{
	char	   *task;			/* id of the task, or NULL */
	Replication *replication;	/* NULL: it could not be read */
	char	   *checkpoint_id;	/* under which its checkpoints lie, or NULL */
	char	   *state;			/* of the task's row: NULL: live, or no task */
	char	   *reason;			/* of that state, or NULL */
	char	   *retry_at;		/* as text, or NULL */
	bool		disabled;
	char	   *held_since;		/* by docrep.hold(), or NULL */
	JobView    *job;			/* NULL: none */
} ExplainTask;

/*
 * Find a task by its id, or a task or job by its replication id, in full or
 * without its suffixes.  None that the current role may see: DR404.
 */
extern ExplainTask *docrep_explain_find(const char *id);

#endif							/* DOCREP_SCHEDULER_EXPLAIN_H */
