/*-------------------------------------------------------------------------
 *
 * epochs.c
 *		Histories of a table's update sequence, and sequences as text.
 *
 * An epoch is named by 16 random hex digits.  A number seen in epoch E stands
 * for the same changes as long as it is below the start of the epoch that
 * followed E: from there on two servers may have handed out the number for
 * different changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/epochs.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define EPOCH_HEX_LEN 16

/* Is the latest epoch of the table the one of this server, database and timeline? */
static bool
epoch_is_current(const DocTableInfo *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, INT8OID, OIDOID};
	Datum		values[4];

	values[0] = UUIDPGetDatum(&table->uuid);
	values[1] = CStringGetTextDatum(psprintf(UINT64_FORMAT, GetSystemIdentifier()));
	values[2] = Int64GetDatum((int64) docrep_timeline());
	values[3] = ObjectIdGetDatum(MyDatabaseId);
	docrep_internal_execute(&plan,
							"SELECT 1 FROM (SELECT system, timeline, db FROM docrep.epochs"
							" WHERE tbl = $1 ORDER BY start_seq DESC LIMIT 1) e"
							" WHERE e.system = $2 AND e.timeline = $3 AND e.db = $4",
							4, types, values, NULL, false, 1);
	return SPI_processed > 0;
}

static void
epoch_insert(const DocTableInfo *table, int64 start_seq)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, INT8OID, TEXTOID, INT8OID, OIDOID};
	Datum		values[5];

	values[0] = UUIDPGetDatum(&table->uuid);
	values[1] = Int64GetDatum(start_seq);
	values[2] = CStringGetTextDatum(psprintf(UINT64_FORMAT, GetSystemIdentifier()));
	values[3] = Int64GetDatum((int64) docrep_timeline());
	values[4] = ObjectIdGetDatum(MyDatabaseId);

	/* two first writers after a start meet here; the second waits and finds the row */
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.epochs(tbl, start_seq, epoch, system, timeline, db)"
							" VALUES ($1, $2, left(replace(gen_random_uuid()::text, '-', ''), 16),"
							" $3, $4, $5)"
							" ON CONFLICT (tbl, start_seq) DO UPDATE SET epoch = EXCLUDED.epoch,"
							" system = EXCLUDED.system, timeline = EXCLUDED.timeline, db = EXCLUDED.db"
							" WHERE (epochs.system, epochs.timeline, epochs.db) IS DISTINCT FROM"
							" (EXCLUDED.system, EXCLUDED.timeline, EXCLUDED.db)",
							5, types, values, NULL, false, 0);
}

bool
docrep_epoch_ensure(const DocTableInfo *table, int64 start_seq)
{
	InternalSql sql;
	bool		current;

	docrep_internal_begin(&sql);
	current = epoch_is_current(table);
	if (!current)
		epoch_insert(table, start_seq);
	docrep_internal_end(&sql);
	return !current;
}

void
docrep_epoch_begin(const DocTableInfo *table, int64 start_seq)
{
	InternalSql sql;

	/* start_seq was just taken, so no row has it */
	docrep_internal_begin(&sql);
	epoch_insert(table, start_seq);
	docrep_internal_end(&sql);
}

char *
docrep_seq_suffix(const DocTableInfo *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	MemoryContext caller = CurrentMemoryContext;
	char	   *suffix = NULL;

	values[0] = UUIDPGetDatum(&table->uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT '-' || epoch FROM docrep.epochs WHERE tbl = $1"
							" ORDER BY start_seq DESC LIMIT 1",
							1, types, values, NULL, false, 1);
	if (SPI_processed > 0)
		suffix = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0],
														  SPI_tuptable->tupdesc, 1));
	docrep_internal_end(&sql);
	return suffix ? suffix : pstrdup("");
}

char *
docrep_seq_text(int64 seq, const char *suffix)
{
	return seq <= 0 ? pstrdup("0") : psprintf(INT64_FORMAT "%s", seq, suffix);
}

PG_FUNCTION_INFO_V1(docrep_reset_identity);

/*
 * docrep.reset_identity(tbl regclass): the numbers from here on are this
 * table's own.  Its counter moves on, so that the new epoch begins with a
 * number that nobody has seen.  Owner only.
 */
Datum
docrep_reset_identity(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);

	docrep_table_check_owner(table);
	docrep_epoch_begin(&table->info, docrep_seq_take(&table->info));
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}

static void
bad_seq(const char *text)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("malformed update sequence \"%s\"", text),
			 errhint("It is a number, or what a changes feed gave as seq or last_seq.")));
}

/* The first number of the epoch after the named one; 0: it is the latest; -1: unknown. */
static int64
epoch_end(const DocTableInfo *table, const char *epoch)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;
	int64		result = -1;
	bool		isnull;

	values[0] = UUIDPGetDatum(&table->uuid);
	values[1] = CStringGetTextDatum(epoch);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT coalesce((SELECT min(n.start_seq) FROM docrep.epochs n"
							" WHERE n.tbl = e.tbl AND n.start_seq > e.start_seq), 0)"
							" FROM docrep.epochs e WHERE e.tbl = $1 AND e.epoch = $2",
							2, types, values, NULL, false, 1);
	if (SPI_processed > 0)
		result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
											 1, &isnull));
	docrep_internal_end(&sql);
	return result;
}

int64
docrep_seq_parse(const DocTableInfo *table, const char *text)
{
	const char *p = text;
	int64		seq = 0;
	int64		end;

	if (*p < '0' || *p > '9')
		bad_seq(text);
	while (*p >= '0' && *p <= '9')
	{
		if (seq > (PG_INT64_MAX - 9) / 10)
			bad_seq(text);
		seq = seq * 10 + (*p++ - '0');
	}
	if (*p == '\0')
		return seq;
	if (*p++ != '-' || strlen(p) != EPOCH_HEX_LEN ||
		strspn(p, "0123456789abcdef") != EPOCH_HEX_LEN)
		bad_seq(text);
	end = epoch_end(table, p);
	if (end < 0)
		return 0;				/* numbers of a history that we do not share */
	if (end > 0 && seq >= end)
		return end - 1;			/* where the histories parted */
	return seq;
}
