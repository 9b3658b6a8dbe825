/*-------------------------------------------------------------------------
 *
 * explain.h
 *		docrep.explain(): what is known of the replication in question.
 *		Private to explain*.c.
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

/* What a filter says of a document. */
typedef struct ExplainFilter
{
	bool		found;			/* the replication's role sees the document */
	int			asked;			/* about so many revisions that would travel */
	int			passing;
	char	   *problem;		/* the filter has no answer, and why; or NULL */
} ExplainFilter;

/* May the current role have the filter called as the role that the replication runs as? */
extern bool docrep_explain_may_ask(const Replication *r);

/* Ask the filter of a replication about a document of a table, as that role. */
extern void docrep_explain_ask_filter(const Replication *r, Oid relid, const char *id,
									  ExplainFilter *answer);

#endif							/* DOCREP_SCHEDULER_EXPLAIN_H */
