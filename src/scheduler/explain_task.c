/*-------------------------------------------------------------------------
 *
 * explain_task.c
 *		docrep.explain(): which replication is meant, and how it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "scheduler/explain.h"
#include "scheduler/views.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "utils/acl.h"
#include "utils/builtins.h"

/* A column of the row that was found, allocated in cxt; NULL is NULL. */
static char *
column(int n, MemoryContext cxt)
{
	char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n);

	return value ? MemoryContextStrdup(cxt, value) : NULL;
}

/* Look into docrep.task_state; *owner and *version are filled.  NULL: not there. */
static ExplainTask *
find_row(const char *id, char **flat, Oid *owner, int64 *version)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(id)};
	MemoryContext cxt = CurrentMemoryContext;
	ExplainTask *found = NULL;
	InternalSql sql;
	bool		isnull;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT id, flat, split_part(replication_id, '+', 1), state, reason,"
							" retry_at, disabled, owner, version, held_since FROM docrep.task_state"
							" WHERE id = $1 OR replication_id = $1 OR split_part(replication_id, '+', 1) = $1"
							" ORDER BY id = $1 DESC, replication_id = $1 DESC, state NULLS FIRST, id",
							1, types, values, NULL, false, 1);
	if (SPI_processed > 0)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		found = MemoryContextAllocZero(cxt, sizeof(ExplainTask));
		found->task = column(1, cxt);
		*flat = column(2, cxt);
		found->checkpoint_id = column(3, cxt);
		found->state = column(4, cxt);
		found->reason = column(5, cxt);
		found->retry_at = column(6, cxt);
		found->disabled = DatumGetBool(SPI_getbinval(row, desc, 7, &isnull));
		found->held_since = column(10, cxt);
		*owner = DatumGetObjectId(SPI_getbinval(row, desc, 8, &isnull));
		*version = DatumGetInt64(SPI_getbinval(row, desc, 9, &isnull));
	}
	docrep_internal_end(&sql);
	return found;
}

/* Is the job's id this one, in full or without what comes after the plus sign? */
static bool
job_is(const JobView *job, const char *id)
{
	size_t		len = strlen(id);

	return strncmp(job->id, id, len) == 0 && (job->id[len] == '\0' || job->id[len] == '+');
}

/*
 * The job of a task (that version of it), or if task is NULL the one with that
 * id; among those that the current role may see.  NULL: none.
 */
static JobView *
find_job(const char *task, int64 version, const char *id)
{
	Oid			extension = get_extension_oid("docrep", false);
	JobView    *job = palloc(sizeof(JobView));
	int			index = 0;

	while (docrep_job_next(&index, true, job))
	{
		char	   *its_task;

		CHECK_FOR_INTERRUPTS();
		if (job->kind != JOB_REPLICATE || !docrep_view_may_see(job, extension))
			continue;
		if (task == NULL)
		{
			if (job_is(job, id))
				return job;
			continue;
		}
		if (!job->has_task || job->task_version != version)
			continue;
		its_task = docrep_job_task(job->ref);
		if (its_task && strcmp(its_task, task) == 0)
			return job;
	}
	pfree(job);
	return NULL;
}

/* The id without its suffixes. */
static char *
base_id(const char *id)
{
	return pnstrdup(id, strcspn(id, "+"));
}

ExplainTask *
docrep_explain_find(const char *id)
{
	char	   *flat = NULL;
	Oid			owner = InvalidOid;
	int64		version = 0;
	ExplainTask *found = find_row(id, &flat, &owner, &version);

	if (found && !has_privs_of_role(GetUserId(), owner) && !docrep_view_sees_all())
		found = NULL;
	if (found)
		found->job = found->state ? NULL : find_job(found->task, version, NULL);
	else
	{
		JobView    *job = find_job(NULL, 0, id);

		if (job == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_NOT_FOUND),
					 errmsg("no replication \"%s\"", id),
					 errdetail("There is no task of that id, and no task or running replication of that replication id.")));
		found = palloc0(sizeof(ExplainTask));
		found->job = job;
		flat = docrep_job_request(job->ref);
	}
	if (flat)
		found->replication = docrep_replication_deserialize(flat);
	if (found->job)
		found->checkpoint_id = base_id(found->job->id);
	else if (found->checkpoint_id == NULL && found->replication)
		found->checkpoint_id = found->replication->id;
	return found;
}
