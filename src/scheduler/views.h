/*-------------------------------------------------------------------------
 *
 * views.h
 *		What the functions under the views have in common.  Private to views.c,
 *		view_jobs.c, view_json.c and explain.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_VIEWS_H
#define DOCREP_SCHEDULER_VIEWS_H

#include "scheduler/jobs.h"

#define VIEW_COLUMNS	32

/* The columns of a row, put in from left to right. */
typedef struct ViewRow
{
	int			n;
	Datum		values[VIEW_COLUMNS];
	bool		nulls[VIEW_COLUMNS];
} ViewRow;

extern void docrep_view_put(ViewRow *row, Datum value, bool null);

/* Text; NULL and "" are null. */
extern void docrep_view_put_text(ViewRow *row, const char *text);

/* May the current role see everybody's jobs and tasks? */
extern bool docrep_view_sees_all(void);

/* Jobs of this database are seen by who has their role's privileges and by who may monitor. */
extern bool docrep_view_may_see(const JobView *job, Oid extension);

/* A job's state in CouchDB's words: pending, running, crashing, completed or failed. */
extern const char *docrep_view_state(const JobView *job);

/* docrep.node_name, or what stands for it; static or of the setting. */
extern const char *docrep_view_node(void);

#endif							/* DOCREP_SCHEDULER_VIEWS_H */
