/*-------------------------------------------------------------------------
 *
 * housekeeping_settings.c
 *		docrep.table_jobs: following the settings, starting and cancelling.
 *
 * The rows follow docrep.table_settings by a trigger, so that whoever sets
 * something, a restore included, needs to know nothing of what it entails.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "scheduler/housekeeping.h"
#include "scheduler/jobs.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/policy.h"
#include "store/preload.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/uuid.h"

bool		docrep_housekeeping = true;

PG_FUNCTION_INFO_V1(docrep_settings_noted);
PG_FUNCTION_INFO_V1(docrep_hold_noted);
PG_FUNCTION_INFO_V1(docrep_start_housekeeping);
PG_FUNCTION_INFO_V1(docrep_cancel_housekeeping);

/* Run a statement with the table's uuid and a kind (NULL: null). */
static uint64
execute_for(SPIPlanPtr *plan, const char *command, const pg_uuid_t *uuid, const char *kind)
{
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;
	uint64		n;

	values[0] = UUIDPGetDatum(uuid);
	values[1] = kind ? CStringGetTextDatum(kind) : (Datum) 0;
	docrep_internal_begin(&sql);
	docrep_internal_execute(plan, command, 2, types, values, kind ? NULL : " n", false, 0);
	n = SPI_processed;
	docrep_internal_end(&sql);
	return n;
}

/* What a job looks like that is to be done from the beginning, and soon. */
#define AFRESH \
	" version = table_jobs.version + 1, state = 'waiting', position = NULL, done = 0, total = NULL," \
	" started_at = NULL, finished_at = NULL, updated_at = clock_timestamp()," \
	" next_at = clock_timestamp(), failures = 0, sqlstate = NULL, error = NULL"

/* Stop what is of this kind (NULL: any); returns how many kinds that were. */
static uint64
cancel(const pg_uuid_t *uuid, const char *kind)
{
	static SPIPlanPtr plan = NULL;

	return execute_for(&plan,
					   "UPDATE docrep.table_jobs SET version = version + 1, state = 'cancelled',"
					   " next_at = NULL, updated_at = clock_timestamp()"
					   " WHERE tbl = $1 AND ($2 IS NULL OR kind = $2)"
					   " AND state NOT IN ('done', 'cancelled')", uuid, kind);
}

/* There is something of this kind to do with the table; made if it is new. */
static void
ask_for(const pg_uuid_t *uuid, const char *kind)
{
	static SPIPlanPtr plan = NULL;

	execute_for(&plan,
				"INSERT INTO docrep.table_jobs (tbl, kind, state, updated_at, next_at)"
				" VALUES ($1, $2, 'waiting', clock_timestamp(), clock_timestamp())"
				" ON CONFLICT (tbl, kind) DO UPDATE SET" AFRESH, uuid, kind);
	if (!docrep_housekeeping)
		(void) cancel(uuid, kind);
	else if (docrep_preloaded)
		docrep_tasks_changed();
}

/*
 * Somebody needs former versions for a while: they are to be looked after, but not yet.  What
 * the owner has cancelled stays so.  A step that is under way must not end it all now.
 */
static void
ask_for_held(const pg_uuid_t *uuid)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, INT4OID};
	Datum		values[2];
	InternalSql sql;

	values[0] = UUIDPGetDatum(uuid);
	values[1] = Int32GetDatum(docrep_housekeeping_interval);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.table_jobs (tbl, kind, state, updated_at, next_at)"
							" VALUES ($1, 'revisions', 'waiting', clock_timestamp(),"
							"   clock_timestamp() + $2 * interval '1 second')"
							" ON CONFLICT (tbl, kind) DO UPDATE SET"
							" version = table_jobs.version + 1,"
							" next_at = CASE WHEN table_jobs.state = 'cancelled' THEN NULL"
							"   ELSE LEAST(table_jobs.next_at, EXCLUDED.next_at) END",
							2, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
	if (docrep_preloaded)
		docrep_tasks_changed();
}

/* There is nothing of this kind to do any more; NULL: of no kind. */
static void
forget(const pg_uuid_t *uuid, const char *kind)
{
	static SPIPlanPtr plan = NULL;

	execute_for(&plan,
				"DELETE FROM docrep.table_jobs WHERE tbl = $1 AND ($2 IS NULL OR kind = $2)",
				uuid, kind);
}

/* ---------- the settings ---------- */

/* A column of a row as text; NULL if it is null, or there is no row. */
static char *
column_text(Relation rel, HeapTuple row, const char *name)
{
	int			column = SPI_fnumber(RelationGetDescr(rel), name);

	if (column <= 0)
		elog(ERROR, "docrep.table_settings has no column \"%s\"", name);
	return row ? SPI_getvalue(row, RelationGetDescr(rel), column) : NULL;
}

/* Does one of the columns (the last one is NULL) differ? */
static bool
differs(Relation rel, HeapTuple before, HeapTuple after, const char *const *columns)
{
	for (; *columns; columns++)
	{
		char	   *a = column_text(rel, before, *columns);
		char	   *b = column_text(rel, after, *columns);

		if ((a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0))
			return true;
	}
	return false;
}

/* A row was written: what has to be done now? */
static void
note_settings(const pg_uuid_t *uuid, Relation rel, HeapTuple before, HeapTuple after)
{
	static const char *const policy[] = {"conflict_policy", "resolver", NULL};
	static const char *const revisions[] = {"revisions_keep", "revisions_max_age",
	"revisions_keep_deleted", NULL};
	static const char *const tombstones[] = {"tombstone_max_age", NULL};

	/* a new row that says what is the case without one changes nothing */
	if (differs(rel, before, after, policy) &&
		(before || strcmp(column_text(rel, after, "conflict_policy"), "keep") != 0 ||
		 column_text(rel, after, "resolver") != NULL))
		ask_for(uuid, "conflicts");
	if (differs(rel, before, after, revisions))
	{
		/* switched off, it ends when nothing is left of them, and nobody else needs any */
		if (column_text(rel, after, "revisions_keep") ||
			(before && column_text(rel, before, "revisions_keep")))
			ask_for(uuid, "revisions");
	}
	if (differs(rel, before, after, tombstones))
	{
		if (column_text(rel, after, "tombstone_max_age"))
			ask_for(uuid, "tombstones");
		else
			forget(uuid, "tombstones");
	}
}

/* DocPolicyHook: somebody has set the policy, perhaps to what it was, as the resolver is another now. */
static void
policy_set(DocTable *table)
{
	ask_for(&table->info.uuid, "conflicts");
}

/*
 * DocSettingsLockHook: the owner waits for a lock.  The owner's housekeeping is asked to end after its
 * step, and soon told to; the keeper comes back to it.
 */
static void
lock_awaited(DocTable *table)
{
	JobView    *job;
	int			index = 0;

	if (!docrep_preloaded)
		return;
	job = palloc(sizeof(JobView));
	while (docrep_job_next(&index, false, job))
	{
		if (job->kind == JOB_HOUSEKEEPING && job->database == MyDatabaseId &&
			job->role == table->rel->rd_rel->relowner && job->pid != 0)
			docrep_job_stop(job->ref, JOB_STOP_CANCELLED, JOB_GRACE_DDL);
	}
	pfree(job);
}

void
docrep_housekeeping_install_hooks(void)
{
	docrep_policy_hook = policy_set;
	docrep_settings_lock_hook = lock_awaited;
}

/* Trigger of docrep.table_settings, AFTER ROW. */
Datum
docrep_settings_noted(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	HeapTuple	before;
	HeapTuple	after;
	char	   *tbl;
	pg_uuid_t  *uuid;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("docrep.settings_noted is a trigger of docrep.table_settings")));
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		before = data->tg_trigtuple;
		after = data->tg_newtuple;
	}
	else
	{
		before = TRIGGER_FIRED_BY_DELETE(data->tg_event) ? data->tg_trigtuple : NULL;
		after = before ? NULL : data->tg_trigtuple;
	}
	tbl = column_text(data->tg_relation, after ? after : before, "tbl");
	uuid = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(tbl)));
	if (after == NULL)
		forget(uuid, NULL);
	else
		note_settings(uuid, data->tg_relation, before, after);
	return PointerGetDatum(NULL);
}

/* Trigger of docrep.version_holds, AFTER INSERT ROW. */
Datum
docrep_hold_noted(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	char	   *tbl;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("docrep.hold_noted is a trigger of docrep.version_holds")));
	tbl = SPI_getvalue(data->tg_trigtuple, RelationGetDescr(data->tg_relation),
					   SPI_fnumber(RelationGetDescr(data->tg_relation), "tbl"));
	ask_for_held(DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(tbl))));
	return PointerGetDatum(NULL);
}

/* ---------- for users ---------- */

/* The uuid of the table in the first argument, which must be the caller's. */
static pg_uuid_t *
own_table(FunctionCallInfo fcinfo)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, 0);
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	docrep_table_check_owner(table);
	*uuid = table->info.uuid;
	docrep_table_close(table, NoLock);
	return uuid;
}

/* The kind in the second argument, or NULL for all. */
static char *
kind_argument(FunctionCallInfo fcinfo)
{
	char	   *kind = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	if (kind && strcmp(kind, "conflicts") != 0 && strcmp(kind, "revisions") != 0 &&
		strcmp(kind, "tombstones") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("there is no housekeeping of kind \"%s\"", kind),
				 errhint("There are \"conflicts\", \"revisions\" and \"tombstones\".")));
	return kind;
}

/* docrep.start_housekeeping(tbl, kind) returns int */
Datum
docrep_start_housekeeping(PG_FUNCTION_ARGS)
{
	static SPIPlanPtr plan = NULL;
	pg_uuid_t  *uuid = own_table(fcinfo);
	char	   *kind = kind_argument(fcinfo);
	uint64		n;

	docrep_require_preload();
	n = execute_for(&plan,
					"UPDATE docrep.table_jobs SET" AFRESH
					" WHERE tbl = $1 AND ($2 IS NULL OR kind = $2)", uuid, kind);
	if (n == 0 && kind)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("there is no housekeeping of kind \"%s\" for this table", kind),
				 errhint("It comes with the table's settings: see docrep.set_conflict_policy(), docrep.set_revisions() and docrep.set_tombstone_max_age().")));
	docrep_tasks_changed();
	PG_RETURN_INT32((int32) n);
}

/* docrep.cancel_housekeeping(tbl, kind) returns int */
Datum
docrep_cancel_housekeeping(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *uuid = own_table(fcinfo);

	PG_RETURN_INT32((int32) cancel(uuid, kind_argument(fcinfo)));
}
