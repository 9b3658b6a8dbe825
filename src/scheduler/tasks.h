/*-------------------------------------------------------------------------
 *
 * tasks.h
 *		Replication tasks: rows of docrep.replicator.
 *
 * A row is shown to users; what its writer's session made of it, credentials
 * included, is in docrep.task_state (tasks.sql), and its keeper makes a job of
 * that.  README.md of this directory tells the life of a task.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_TASKS_H
#define DOCREP_SCHEDULER_TASKS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* Values of docrep.task_state.state; NULL: live. */
#define TASK_COMPLETED	"completed"
#define TASK_FAILED		"failed"
#define TASK_ERROR		"error"
#define TASK_HELD		"held"

/* A task as it was written: what goes into docrep.task_state. */
typedef struct TaskDefinition
{
	char	   *id;
	Oid			owner;
	Oid			role;			/* whom it runs as */
	char	   *flat;			/* serialized Replication; NULL: not read (state says why) */
	Jsonb	   *secrets;		/* members with credentials as they were given, or NULL */
	char	   *replication_id;
	char	   *source;			/* display forms */
	char	   *target;
	char	   *proxy;
	bool		continuous;
	bool		disabled;
	bool		retry_cycles;
	char	   *held_since;		/* nothing is to be replicated, by docrep.hold(); NULL: it is not held */
	int64		delay;			/* ms */
	bool		keeps_looking;	/* while it is held, too: when changes are made has to be seen */
	const char *state;			/* NULL: live */
	const char *reason;
	Jsonb	   *stats;
} TaskDefinition;

/* Oid of docrep.replicator; raises if the extension is not there. */
extern Oid	docrep_replicator_relid(void);

/* --- task_define.c --- */

/*
 * Read a replication document as a task of "owner": DR400 and the like if it
 * cannot be one.  kept: secrets of an earlier version, or NULL.  *stored is
 * what may be shown of the document.
 */
extern TaskDefinition *docrep_task_define(const char *id, Oid owner, Jsonb *document,
										  Jsonb *kept, Jsonb **stored);

/* The same for a row that comes from a dump: it is not read, and does not run. */
extern TaskDefinition *docrep_task_define_restored(const char *id, Oid owner, Jsonb *document,
												   Jsonb **stored);

/*
 * A document that says that it is completed is a copy of one that has run, or
 * comes from a dump: the task is completed, and does not run.  False: it does not
 * say so, or is continuous, which is never completed.
 */
extern bool docrep_task_take_completed(TaskDefinition *task, Jsonb *document);

/* --- task_state.c: SPI on docrep's own tables, as the extension's owner --- */

/* The secrets of a task that belongs to owner; NULL: it has none. */
extern Jsonb *docrep_task_secrets(const char *id, Oid owner);

/* Is a later version of the task there than this one? */
extern bool docrep_task_noted_after(const char *id, int64 version);

/* Put a task's definition there; version: _seq of its row. */
extern void docrep_task_put(const TaskDefinition *task, int64 version);

/* It is gone. */
extern void docrep_task_remove(const char *id);

/* It was held, and cannot be read: failed, for that reason. */
extern void docrep_task_fail(const char *id, const char *reason);

/* --- task_trigger.c --- */

/* Keep what has no place in docrep.replicator out of the functions that write documents. */
extern void docrep_tasks_install_hook(void);

#endif							/* DOCREP_SCHEDULER_TASKS_H */
