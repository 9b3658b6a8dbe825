/*-------------------------------------------------------------------------
 *
 * housekeeping_steps.c
 *		The steps of housekeeping, each of a bounded size: what is done as the owner
 *		of the tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "scheduler/housekeeping_internal.h"
#include "scheduler/pool.h"
#include "store/internal_sql.h"
#include "store/table.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

/* What a step does at most: documents whose conflicts are resolved, ... */
#define CONFLICTS_A_STEP	100
/* ... some at a time, as long as that takes no longer (ms) */
#define CONFLICTS_AT_A_TIME	10
#define CONFLICTS_TIME		10000
/* ... revisions or tombstones that are removed. */
#define ROWS_A_STEP			1000

/* A query of one row, with the table as its first argument; its first two columns as text. */
static void
query(const char *command, const HousekeepingTask *task, int max, const char *second, char **first,
	  char **other)
{
	Oid			types[] = {REGCLASSOID, INT4OID, TEXTOID};
	Datum		values[3];

	values[0] = ObjectIdGetDatum(task->relid);
	values[1] = Int32GetDatum(max);
	values[2] = second ? CStringGetTextDatum(second) : (Datum) 0;
	if (SPI_execute_with_args(command, 3, types, values, second ? NULL : "  n", false, 1) < 0 ||
		SPI_tuptable == NULL || SPI_processed != 1)
		elog(ERROR, "unexpected answer to \"%s\"", command);
	*first = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (other)
		*other = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
}

/* A count as SQL gives it. */
static int64
count_of(const char *text)
{
	return text ? DatumGetInt64(DirectFunctionCall1(int8in, CStringGetDatum(text))) : 0;
}

/*
 * Resolve some conflicts again.  After a step that took too long one at a time, so that only
 * the document whose resolver hangs stays behind.
 */
static void
resolve_conflicts(const HousekeepingTask *task, HousekeepingProgress *progress)
{
	TimestampTz begun = GetCurrentTimestamp();
	char	   *n;

	if (task->fresh)
	{
		query("SELECT docrep.conflict_count($1)", task, 0, NULL, &n, NULL);
		progress->total = count_of(n);
	}
	progress->position = task->position;
	do
	{
		query("SELECT r.examined, r.last FROM docrep.resolve_conflicts($1, $2, $3) r", task,
			  task->timed_out ? 1 : CONFLICTS_AT_A_TIME, progress->position, &n,
			  &progress->position);
		progress->done += count_of(n);
		progress->finished = progress->position == NULL;
	} while (!progress->finished && !task->timed_out && progress->done < CONFLICTS_A_STEP &&
			 !TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), CONFLICTS_TIME));
}

/* Is there to be no former version of the table any more?  Some may be passed over once. */
static bool
revisions_are_over(const HousekeepingTask *task)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	bool		over;

	if (docrep_settings_read(&task->tbl)->revisions_keep >= 0)
		return false;
	values[0] = UUIDPGetDatum(&task->tbl);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT FROM docrep.version_holds WHERE tbl = $1 UNION ALL"
							" SELECT FROM docrep.revision_cleaning WHERE tbl = $1",
							1, types, values, NULL, false, 1);
	over = SPI_processed == 0;
	docrep_internal_end(&sql);
	return over;
}

/* Remove some of the kept revisions. */
static void
clean_revisions(const HousekeepingTask *task, HousekeepingProgress *progress)
{
	char	   *n;

	query("SELECT docrep.clean_revisions($1, $2)", task, ROWS_A_STEP, NULL, &n, NULL);
	progress->done = count_of(n);
	progress->finished = progress->done < ROWS_A_STEP;
	progress->over = progress->finished && revisions_are_over(task);
}

/*
 * Remove some tombstones.  Who holds them is asked in every step: a task that
 * comes meanwhile counts from its first moment on.
 */
static void
clean_tombstones(const HousekeepingTask *task, HousekeepingProgress *progress)
{
	Interval   *age = docrep_settings_read(&task->tbl)->tombstone_max_age;
	char	   *text;
	char	   *n;

	progress->finished = true;
	if (age == NULL)
		return;					/* not wanted any more, as of just now */
	text = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(age)));
	query(psprintf("SELECT r.removed, r.passed"
				   " FROM (SELECT pg_catalog.min(h.passed) AS up_to FROM docrep.tombstone_holders h"
				   "   WHERE h.tbl = $1 AND h.counts) AS h,"
				   " LATERAL docrep.remove_tombstones($1, h.up_to,"
				   "   pg_catalog.now() - %s::interval, $3::bigint, $2) r",
				   quote_literal_cstr(text)),
		  task, ROWS_A_STEP, task->position, &n, &progress->position);
	progress->done = count_of(n);
	progress->finished = progress->position == NULL;
}

void
docrep_housekeeping_begin_limit(void)
{
	if (docrep_housekeeping_timeout > 0)
		enable_timeout_after(STATEMENT_TIMEOUT, docrep_housekeeping_timeout * 1000);
}

void
docrep_housekeeping_end_limit(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

void
docrep_housekeeping_step(const HousekeepingTask *task, HousekeepingProgress *progress)
{
	MemoryContext caller = CurrentMemoryContext;

	progress->total = -1;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (strcmp(task->kind, "conflicts") == 0)
		resolve_conflicts(task, progress);
	else if (strcmp(task->kind, "revisions") == 0)
		clean_revisions(task, progress);
	else
		clean_tombstones(task, progress);
	if (progress->position)
		progress->position = MemoryContextStrdup(caller, progress->position);
	SPI_finish();
}
