/*-------------------------------------------------------------------------
 *
 * resolution_rounds.c
 *		Counting automatic resolutions, so that databases with different policies
 *		do not answer each other for ever; and what went wrong with them.
 *
 * A row of docrep.resolutions counts the resolutions of one document in a row.  It is
 * forgotten when somebody acts (an edit here, docrep.resolve, a change of the policy), when
 * another database has ended the conflict, and when the document is edited elsewhere
 * without one a while later, so that a busy document's conflicts of a year do not
 * add up.  Counts that have come to rest, and report no problem, go after a week: who
 * resolves conflicts removes some of them now and then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/table_settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* Old counts that one process removes at a time, and how often it looks for them (ms) */
#define OLD_AT_A_TIME	"1000"
#define OLD_INTERVAL	(10 * 60 * 1000)

/*
 * Remove some counts that nobody will go on with; nobody is waited for.  Not where a row
 * that somebody else has written since would be an error.
 */
static void
remove_old(void)
{
	static SPIPlanPtr plan = NULL;
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (IsolationUsesXactSnapshot())
		return;
	if (last != 0 && !TimestampDifferenceExceeds(last, now, OLD_INTERVAL))
		return;
	last = now;
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.resolutions WHERE ctid = ANY (ARRAY("
							" SELECT ctid FROM docrep.resolutions"
							" WHERE sqlstate IS NULL AND at < now() - interval '7 days'"
							" ORDER BY at LIMIT " OLD_AT_A_TIME " FOR UPDATE SKIP LOCKED))",
							0, NULL, NULL, NULL, false, 0);
}

/* The number of resolutions so far; *reported: it has been said that these are too many. */
static int
read_rounds(Datum *key, bool *reported)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	bool		isnull;
	int			rounds = 0;

	*reported = false;
	docrep_internal_execute(&plan,
							"SELECT rounds, coalesce(sqlstate = 'DR409', false) FROM docrep.resolutions"
							" WHERE tbl = $1 AND id = $2",
							2, types, key, NULL, false, 1);
	if (SPI_processed > 0)
	{
		HeapTuple	row = SPI_tuptable->vals[0];

		rounds = DatumGetInt32(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
		*reported = DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
	}
	return rounds;
}

/* Write the row; add: 1 counts a resolution.  sqlstate NULL: all is well. */
static void
write_row(DocTable *table, const char *id, int add, const char *sqlstate, const char *message)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[6];
	const char *nulls = sqlstate ? NULL : "    nn";

	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = CStringGetTextDatum(id);
	values[2] = Int32GetDatum(add);
	values[3] = CStringGetTextDatum(docrep_settings_read(&table->info.uuid)->conflict_policy);
	values[4] = CStringGetTextDatum(sqlstate ? sqlstate : "");
	values[5] = CStringGetTextDatum(message ? message : "");
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.resolutions AS r (tbl, id, rounds, policy, sqlstate, message)"
							" VALUES ($1, $2, $3, $4, $5, $6)"
							" ON CONFLICT (tbl, id) DO UPDATE SET rounds = r.rounds + EXCLUDED.rounds,"
							" policy = EXCLUDED.policy, sqlstate = EXCLUDED.sqlstate,"
							" message = EXCLUDED.message, at = EXCLUDED.at",
							6, types, values, nulls, false, 0);
}

bool
docrep_rounds_next(DocTable *table, const char *id)
{
	InternalSql sql;
	Datum		key[2];
	bool		reported;
	bool		may;

	key[0] = UUIDPGetDatum(&table->info.uuid);
	key[1] = CStringGetTextDatum(id);
	docrep_internal_begin(&sql);
	remove_old();
	may = read_rounds(key, &reported) < DOCREP_MAX_ROUNDS;
	if (may)
		write_row(table, id, 1, NULL, NULL);
	else if (!reported)
		write_row(table, id, 0, "DR409",
				  psprintf("the conflict was resolved %d times in a row and came back each time",
						   DOCREP_MAX_ROUNDS));
	docrep_internal_end(&sql);
	if (!may && !reported)
		ereport(WARNING,
				(errcode(ERRCODE_DOCREP_CONFLICT),
				 errmsg("a conflict of document \"%s\" in \"%s\" is no longer resolved automatically",
						id, RelationGetRelationName(table->rel)),
				 errdetail("It was resolved %d times in a row and came back each time.",
						   DOCREP_MAX_ROUNDS),
				 errhint("Databases that replicate with each other need the same conflict policy and resolver. docrep.resolve(...) ends the conflict.")));
	return may;
}

void
docrep_rounds_problem(DocTable *table, const char *id, const ErrorData *error)
{
	InternalSql sql;

	docrep_internal_begin(&sql);
	write_row(table, id, 0, unpack_sql_state(error->sqlerrcode),
			  error->message ? error->message : "");
	docrep_internal_end(&sql);
}

void
docrep_rounds_forget(DocTable *table, const char *id, bool only_old)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, BOOLOID};
	Datum		values[3];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = CStringGetTextDatum(id);
	values[2] = BoolGetDatum(only_old);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.resolutions WHERE tbl = $1 AND id = $2"
							" AND (NOT $3 OR at < now() - interval '10 minutes')",
							3, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

void
docrep_rounds_settle(DocTable *table, const char **ids, int n, TimestampTz before)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTARRAYOID, TIMESTAMPTZOID, INT4OID};
	Datum		values[4];
	Datum	   *texts = palloc(Max(n, 1) * sizeof(Datum));
	InternalSql sql;

	for (int i = 0; i < n; i++)
		texts[i] = CStringGetTextDatum(ids[i]);
	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = TimestampTzGetDatum(before);
	values[3] = Int32GetDatum(DOCREP_MAX_ROUNDS);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"UPDATE docrep.resolutions SET sqlstate = NULL, message = NULL"
							" WHERE tbl = $1 AND id = ANY ($2) AND sqlstate IS NOT NULL"
							" AND at < $3 AND rounds < $4",
							4, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

void
docrep_rounds_forget_all(DocTable *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan, "DELETE FROM docrep.resolutions WHERE tbl = $1",
							1, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}
