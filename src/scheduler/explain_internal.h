/*-------------------------------------------------------------------------
 *
 * explain_internal.h
 *		docrep.explain(), step by step; for explain.c and explain_documents.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_EXPLAIN_INTERNAL_H
#define DOCREP_SCHEDULER_EXPLAIN_INTERNAL_H

#include "scheduler/explain.h"
#include "store/state.h"
#include "store/table.h"
#include "utils/tuplestore.h"

/* What a step says of the document. */
typedef enum Verdict
{
	PASSES,						/* not stopped here */
	DONE,						/* it has arrived */
	WAITS,						/* stopped here for now */
	STOPS,						/* stopped here until somebody does something */
	UNKNOWN						/* cannot be told from here */
} Verdict;

/* A side of the replication. */
typedef struct Side
{
	DocTable   *table;			/* NULL: not in this database, or not for this role */
	bool		found;			/* the document is stored there, and the role may see it */
	DocState	state;
	char		rev[REV_TEXT_SIZE]; /* its winner */
} Side;

typedef struct Explanation
{
	Tuplestorestate *rows;
	TupleDesc	desc;
	ExplainTask *task;
	const char *id;				/* of the document */
	Snapshot	snapshot;
	Side		source;
	Side		target;
	char	   *first[UNKNOWN + 1]; /* the first detail with each verdict */
} Explanation;

/* ---------- explain.c ---------- */

/* Add a row. */
extern void docrep_explain_add(Explanation *e, const char *step, Verdict verdict,
							   const char *format,...) pg_attribute_printf(4, 5);

/* ---------- explain_documents.c ---------- */

/* What the source's table keeps back from every replication. */
extern void docrep_explain_rule(Explanation *e);

/* doc_ids, filter, selector, paths, and design documents. */
extern void docrep_explain_filter(Explanation *e);

#endif							/* DOCREP_SCHEDULER_EXPLAIN_INTERNAL_H */
