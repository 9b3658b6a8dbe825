/*-------------------------------------------------------------------------
 *
 * keeper_tables.c
 *		A keeper's statements on docrep.task_state and docrep.task_news.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "scheduler/keeper.h"
#include "store/internal_sql.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Pause before a task of which no job could be made is tried again (s): doubles. */
#define RETRY_MIN		5
#define RETRY_MAX		300

/* Tasks whose requests are read at a time; they hold documents. */
#define REQUESTS_AT_A_TIME 200

/* A list of C strings as an array of text. */
static Datum
ids_array(List *ids)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(list_length(ids), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, ids)
		values[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A column of a result's row as text in the current context, or NULL. */
static char *
text_at(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static int64
int64_at(uint64 row, int column)
{
	bool		isnull;

	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

static Oid
oid_at(uint64 row, int column)
{
	bool		isnull;

	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));
}

static bool
bool_at(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

static Jsonb *
jsonb_at(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(value);
}

List *
docrep_keeper_take_ids(void)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext caller = CurrentMemoryContext;
	List	   *ids = NIL;
	InternalSql sql;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan, "DELETE FROM docrep.task_news RETURNING id", 0, NULL, NULL, NULL,
							false, 0);
	MemoryContextSwitchTo(caller);
	for (uint64 i = 0; i < SPI_processed; i++)
		ids = lappend(ids, text_at(i, 1));
	docrep_internal_end(&sql);
	return ids;
}

#define TASK_COLUMNS \
	"SELECT id, version, owner, role, state, reason, shown, replication_id, stats, disabled," \
	" coalesce(retry_at <= clock_timestamp(), true), source, target, held_since IS NOT NULL AND NOT keeps_looking" \
	" FROM docrep.task_state"

KeeperTask *
docrep_keeper_read(List *ids, int *n)
{
	static SPIPlanPtr some = NULL;
	static SPIPlanPtr all = NULL;
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];
	MemoryContext caller = CurrentMemoryContext;
	KeeperTask *tasks;
	InternalSql sql;

	values[0] = ids_array(ids);
	docrep_internal_begin(&sql);
	if (ids)
		docrep_internal_execute(&some, TASK_COLUMNS " WHERE id = ANY ($1) ORDER BY id", 1, types,
								values, NULL, false, 0);
	else
		docrep_internal_execute(&all, TASK_COLUMNS
								" WHERE state IS NULL OR state = 'error' OR shown IS NULL ORDER BY id",
								0, NULL, NULL, NULL, false, 0);
	MemoryContextSwitchTo(caller);
	*n = (int) SPI_processed;
	tasks = palloc_extended(sizeof(KeeperTask) * Max(*n, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < *n; i++)
	{
		tasks[i].id = text_at(i, 1);
		tasks[i].version = int64_at(i, 2);
		tasks[i].owner = oid_at(i, 3);
		tasks[i].role = oid_at(i, 4);
		tasks[i].state = text_at(i, 5);
		tasks[i].reason = text_at(i, 6);
		tasks[i].shown = text_at(i, 7);
		tasks[i].replication_id = text_at(i, 8);
		tasks[i].stats = jsonb_at(i, 9);
		tasks[i].disabled = bool_at(i, 10);
		tasks[i].due = bool_at(i, 11);
		tasks[i].source = text_at(i, 12);
		tasks[i].target = text_at(i, 13);
		tasks[i].held = bool_at(i, 14);
	}
	docrep_internal_end(&sql);
	return tasks;
}

/* Read the requests of some tasks and hand them on; rows that a session is writing are not there. */
static void
read_requests(List *ids, void (*submit) (const JobRequest *request, void *arg), void *arg)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTARRAYOID};
	Datum		values[1];
	MemoryContext caller = CurrentMemoryContext;
	JobRequest *requests;
	int			n;
	InternalSql sql;

	values[0] = ids_array(ids);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT id, version, role, flat, replication_id, source, target, continuous,"
							" retry_cycles, delay FROM docrep.task_state WHERE id = ANY ($1)"
							" AND flat IS NOT NULL AND NOT disabled AND (held_since IS NULL OR keeps_looking)"
							" AND (state IS NULL OR state = 'error') FOR SHARE SKIP LOCKED",
							1, types, values, NULL, false, 0);
	MemoryContextSwitchTo(caller);
	n = (int) SPI_processed;
	requests = palloc0(sizeof(JobRequest) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		requests[i].kind = JOB_REPLICATE;
		requests[i].task = text_at(i, 1);
		requests[i].task_version = int64_at(i, 2);
		requests[i].role = oid_at(i, 3);
		requests[i].request = text_at(i, 4);
		requests[i].id = text_at(i, 5);
		requests[i].source = text_at(i, 6);
		requests[i].target = text_at(i, 7);
		requests[i].continuous = bool_at(i, 8);
		requests[i].retry_cycles = bool_at(i, 9);
		requests[i].delay = int64_at(i, 10);
		requests[i].database = MyDatabaseId;
		requests[i].extension = get_extension_oid("docrep", false);
	}
	docrep_internal_end(&sql);
	for (int i = 0; i < n; i++)
		submit(&requests[i], arg);
}

void
docrep_keeper_read_requests(List *ids, void (*submit) (const JobRequest *request, void *arg), void *arg)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep requests",
											  ALLOCSET_DEFAULT_SIZES);

	for (int from = 0; from < list_length(ids); from += REQUESTS_AT_A_TIME)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		List	   *some = NIL;

		for (int i = from; i < Min(from + REQUESTS_AT_A_TIME, list_length(ids)); i++)
			some = lappend(some, list_nth(ids, i));
		read_requests(some, submit, arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(cxt);
	}
	MemoryContextDelete(cxt);
}

void
docrep_keeper_set_error(const char *id, int64 version, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, INT4OID, INT4OID};
	Datum		values[5];
	InternalSql sql;

	values[0] = CStringGetTextDatum(id);
	values[1] = Int64GetDatum(version);
	values[2] = CStringGetTextDatum(reason);
	values[3] = Int32GetDatum(RETRY_MIN);
	values[4] = Int32GetDatum(RETRY_MAX);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.task_state SET state = 'error', reason = $3,"
							" error_count = error_count + 1, last_updated = clock_timestamp(),"
							" retry_at = clock_timestamp()"
							" + least($5, $4 * 2 ^ least(error_count, 10)) * interval '1 second'"
							" WHERE id = $1 AND version = $2",
							5, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

void
docrep_keeper_clear_error(const char *id, int64 version)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[2];
	InternalSql sql;

	values[0] = CStringGetTextDatum(id);
	values[1] = Int64GetDatum(version);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.task_state SET state = NULL, reason = NULL, error_count = 0,"
							" retry_at = NULL, last_updated = clock_timestamp()"
							" WHERE id = $1 AND version = $2 AND state = 'error'",
							2, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

void
docrep_keeper_hold_strangers(void)
{
	static SPIPlanPtr copied = NULL;
	static SPIPlanPtr unchecked = NULL;
	Oid			types[] = {OIDOID};
	Datum		values[1];
	InternalSql sql;

	values[0] = ObjectIdGetDatum(MyDatabaseId);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&copied,
							"UPDATE docrep.task_state SET state = 'held', shown = NULL, retry_at = NULL,"
							" last_updated = clock_timestamp(), reason = 'this database is a copy of the"
							" one in which the task was written: not started before"
							" docrep.resume_tasks() is called, as it may run there'"
							" WHERE database <> $1 AND (state IS NULL OR state = 'error')",
							1, types, values, NULL, false, 0);

	/* a dump that was restored with triggers disabled: there is no state at all */
	docrep_internal_execute(&unchecked,
							"INSERT INTO docrep.task_state (id, owner, role, database, version, source,"
							" target, continuous, disabled, retry_cycles, held_since, delay, state,"
							" reason, error_count, start_time, last_updated)"
							" SELECT _id, owner::oid, owner::oid, $1, _seq,"
							" CASE jsonb_typeof(doc -> 'source') WHEN 'string' THEN doc ->> 'source'"
							" ELSE doc #>> '{source,url}' END,"
							" CASE jsonb_typeof(doc -> 'target') WHEN 'string' THEN doc ->> 'target'"
							" ELSE doc #>> '{target,url}' END,"
							" doc @> '{\"continuous\": true}', doc @> '{\"disabled\": true}', false,"
							" doc ->> 'held_since', 0, 'held', 'restored from a dump: not started before docrep.resume_tasks() is"
							" called, as it may run elsewhere', 0, clock_timestamp(), clock_timestamp()"
							" FROM docrep.replicator WHERE _id NOT LIKE '\\_design/%'"
							" AND NOT EXISTS (SELECT FROM docrep.task_state)",
							1, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

TimestampTz
docrep_keeper_next_retry(void)
{
	static SPIPlanPtr plan = NULL;
	TimestampTz result = 0;
	InternalSql sql;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT min(retry_at) FROM docrep.task_state WHERE state = 'error'",
							0, NULL, NULL, NULL, false, 0);
	if (SPI_processed > 0)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		result = isnull ? 0 : DatumGetTimestampTz(value);
	}
	docrep_internal_end(&sql);
	return result;
}
