/*-------------------------------------------------------------------------
 *
 * task_state.c
 *		Rows of docrep.task_state, as the trigger of docrep.replicator writes them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "scheduler/jobs.h"
#include "scheduler/tasks.h"
#include "store/internal_sql.h"
#include "store/preload.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Tell the keeper, when the transaction commits, to look at the task. */
static void
add_news(const char *id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	Datum		values[1];

	values[0] = CStringGetTextDatum(id);
	docrep_internal_execute(&plan, "INSERT INTO docrep.task_news VALUES ($1)", 1, types, values,
							NULL, false, 0);
	if (docrep_preloaded)
		docrep_tasks_changed();
}

Jsonb *
docrep_task_secrets(const char *id, Oid owner)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, OIDOID};
	Datum		values[2];
	MemoryContext caller = CurrentMemoryContext;
	InternalSql sql;
	Jsonb	   *result = NULL;

	values[0] = CStringGetTextDatum(id);
	values[1] = ObjectIdGetDatum(owner);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT secrets FROM docrep.task_state"
							" WHERE id = $1 AND owner = $2 AND secrets IS NOT NULL",
							2, types, values, NULL, false, 1);
	if (SPI_processed > 0)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(old);
	}
	docrep_internal_end(&sql);
	return result;
}

bool
docrep_task_noted_after(const char *id, int64 version)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, INT8OID};
	Datum		values[2];
	InternalSql sql;
	bool		result;

	values[0] = CStringGetTextDatum(id);
	values[1] = Int64GetDatum(version);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT FROM docrep.task_state WHERE id = $1 AND version > $2",
							2, types, values, NULL, false, 1);
	result = SPI_processed > 0;
	docrep_internal_end(&sql);
	return result;
}

static void
set_text(Datum *value, char *null, const char *text)
{
	if (text)
		*value = CStringGetTextDatum(text);
	*null = text ? ' ' : 'n';
}

static void
set_jsonb(Datum *value, char *null, Jsonb *jsonb)
{
	if (jsonb)
		*value = JsonbPGetDatum(jsonb);
	*null = jsonb ? ' ' : 'n';
}

void
docrep_task_put(const TaskDefinition *task, int64 version)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, OIDOID, OIDOID, OIDOID, INT8OID, TEXTOID, JSONBOID, TEXTOID,
		TEXTOID, TEXTOID, TEXTOID, BOOLOID, BOOLOID, BOOLOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
	JSONBOID, TEXTOID, INT8OID, BOOLOID};
	Datum		values[lengthof(types)] = {0};
	char		nulls[lengthof(types) + 1];
	InternalSql sql;

	memset(nulls, ' ', lengthof(types));
	nulls[lengthof(types)] = '\0';
	values[0] = CStringGetTextDatum(task->id);
	values[1] = ObjectIdGetDatum(task->owner);
	values[2] = ObjectIdGetDatum(task->role);
	values[3] = ObjectIdGetDatum(MyDatabaseId);
	values[4] = Int64GetDatum(version);
	set_text(&values[5], &nulls[5], task->flat);
	set_jsonb(&values[6], &nulls[6], task->secrets);
	set_text(&values[7], &nulls[7], task->replication_id);
	set_text(&values[8], &nulls[8], task->source);
	set_text(&values[9], &nulls[9], task->target);
	set_text(&values[10], &nulls[10], task->proxy);
	values[11] = BoolGetDatum(task->continuous);
	values[12] = BoolGetDatum(task->disabled);
	values[13] = BoolGetDatum(task->retry_cycles);
	set_text(&values[14], &nulls[14], task->state);
	set_text(&values[15], &nulls[15], task->reason);
	values[16] = TimestampTzGetDatum(GetCurrentTimestamp());
	set_jsonb(&values[17], &nulls[17], task->stats);
	set_text(&values[18], &nulls[18], task->held_since);
	values[19] = Int64GetDatum(task->delay);
	values[20] = BoolGetDatum(task->keeps_looking);

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.task_state (id, owner, role, database, version, flat,"
							" secrets, replication_id, source, target, proxy, continuous, disabled,"
							" retry_cycles, state, reason, start_time, last_updated, stats, held_since, delay,"
							" keeps_looking, error_count)"
							" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,"
							" $15, $16, $17, $17, $18, $19, $20, $21, 0)"
							" ON CONFLICT (id) DO UPDATE SET (owner, role, database, version, flat,"
							" secrets, replication_id, source, target, proxy, continuous, disabled,"
							" retry_cycles, state, reason, start_time, last_updated, stats, held_since,"
							" delay, keeps_looking, error_count, retry_at, shown) = ROW (excluded.owner, excluded.role, excluded.database,"
							" excluded.version, excluded.flat, excluded.secrets,"
							" excluded.replication_id, excluded.source, excluded.target,"
							" excluded.proxy, excluded.continuous, excluded.disabled,"
							" excluded.retry_cycles, excluded.state, excluded.reason,"
							" excluded.start_time, excluded.last_updated, excluded.stats, excluded.held_since,"
							" excluded.delay, excluded.keeps_looking, 0, NULL, NULL)",
							lengthof(types), types, values, nulls, false, 0);
	add_news(task->id);
	docrep_internal_end(&sql);
}

void
docrep_task_remove(const char *id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	InternalSql sql;

	values[0] = CStringGetTextDatum(id);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan, "DELETE FROM docrep.task_state WHERE id = $1", 1, types, values,
							NULL, false, 0);
	add_news(id);
	docrep_internal_end(&sql);
}

void
docrep_task_fail(const char *id, const char *reason)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;

	values[0] = CStringGetTextDatum(id);
	values[1] = CStringGetTextDatum(reason);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.task_state SET state = 'failed', reason = $2, shown = NULL,"
							" last_updated = clock_timestamp() WHERE id = $1 AND state = 'held'",
							2, types, values, NULL, false, 0);
	add_news(id);
	docrep_internal_end(&sql);
}
