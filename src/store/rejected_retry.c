/*-------------------------------------------------------------------------
 *
 * rejected_retry.c
 *		Replicated documents that the table refused: trying again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "store/change.h"
#include "store/internal_sql.h"
#include "store/origins.h"
#include "store/rejected.h"
#include "store/sql_support.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* rows that are tried again at a time */
#define RETRY_BATCH 500

/* of those that wait for a parent, this many are tried after a batch */
#define RETRY_WAITING 100

/* Where a pass over a table's rejected revisions has got: in order of the unique index. */
typedef struct RetryCursor
{
	pg_uuid_t	table;
	char		id_md5[33];
	char		rev_md5[33];
} RetryCursor;

typedef struct RetryRow
{
	char	   *ctid;
	char	   *error;
	DocrepDoc	doc;
} RetryRow;

/* A row of the query in read_rows; false: what is stored cannot be read. */
static bool
read_row(HeapTuple tuple, TupleDesc desc, RetryRow *row)
{
	bool		isnull;
	bytea	   *raw;
	Datum		d;

	memset(row, 0, sizeof(*row));
	row->ctid = SPI_getvalue(tuple, desc, 1);
	row->doc.id = SPI_getvalue(tuple, desc, 2);
	row->doc.deleted = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	raw = DatumGetByteaPCopy(SPI_getbinval(tuple, desc, 5, &isnull));
	row->doc.json = VARDATA(raw);
	row->doc.jsonlen = VARSIZE(raw) - VARHDRSZ;
	d = SPI_getbinval(tuple, desc, 6, &isnull);
	row->doc.modified = isnull ? 0 : DatumGetTimestampTz(d);
	row->error = SPI_getvalue(tuple, desc, 7);
	d = SPI_getbinval(tuple, desc, 11, &isnull);
	row->doc.has_origin = !isnull;
	if (!isnull)
		row->doc.origin = *DatumGetUUIDP(d);
	d = SPI_getbinval(tuple, desc, 10, &isnull);
	if (!isnull)
		docrep_atts_from_column(DatumGetJsonbPCopy(d), &row->doc.atts);
	for (int i = 0; i < row->doc.atts.n; i++)
	{
		DocAtt	   *att = &row->doc.atts.atts[i];

		att->stub = att->file == 0;
		/* what the column says of one that came without a type */
		if (att->stub && strcmp(att->content_type, DOCREP_ATT_DEFAULT_TYPE) == 0)
			att->content_type = NULL;
	}
	row->doc.atts_at_target = true;
	d = SPI_getbinval(tuple, desc, 3, &isnull);
	return docrep_rejected_path(DatumGetByteaPCopy(d), &row->doc.path) &&
		pg_verify_mbstr(PG_UTF8, row->doc.json, row->doc.jsonlen, true);
}

/*
 * Read the next of the table's rejected revisions, only_error or any: at most
 * max.  Returns how many are in rows; *read is how many there were.
 */
static int
read_rows(DocTable *table, const char *only_error, RetryCursor *cursor, int max,
		  RetryRow *rows, int *read)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[4];
	char		nulls[5] = "    ";
	InternalSql sql;
	MemoryContext caller = CurrentMemoryContext;
	int			n = 0;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = CStringGetTextDatum(only_error ? only_error : "");
	if (only_error == NULL)
		nulls[1] = 'n';
	values[2] = CStringGetTextDatum(cursor->id_md5);
	values[3] = CStringGetTextDatum(cursor->rev_md5);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT ctid::text, id, path, deleted, raw, modified, error, md5(raw_id), md5(rev),"
							" attachments, origin FROM docrep.rejected"
							" WHERE tbl = $1 AND ($2 IS NULL OR error = $2)"
							" AND id IS NOT NULL AND NOT unreadable AND (md5(raw_id), md5(rev)) > ($3, $4)"
							" ORDER BY tbl, md5(raw_id), md5(rev) FOR UPDATE SKIP LOCKED",
							4, types, values, nulls, false, max);
	*read = SPI_processed;
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (read_row(tuple, desc, &rows[n]))
			n++;
		strlcpy(cursor->id_md5, SPI_getvalue(tuple, desc, 8), sizeof(cursor->id_md5));
		strlcpy(cursor->rev_md5, SPI_getvalue(tuple, desc, 9), sizeof(cursor->rev_md5));
		MemoryContextSwitchTo(old);
	}
	docrep_internal_end(&sql);
	return n;
}

/* The revision is stored now, or refused for another reason than before. */
static void
note_outcome(const RetryRow *row, int sqlstate, const char *reason)
{
	static SPIPlanPtr forget = NULL;
	static SPIPlanPtr update = NULL;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];
	InternalSql sql;

	if (sqlstate != 0 && strcmp(unpack_sql_state(sqlstate), row->error) == 0)
		return;
	values[0] = CStringGetTextDatum(row->ctid);
	docrep_internal_begin(&sql);
	if (sqlstate == 0)
		docrep_internal_execute(&forget, "DELETE FROM docrep.rejected WHERE ctid = $1::tid",
								1, types, values, NULL, false, 0);
	else
	{
		values[1] = CStringGetTextDatum(unpack_sql_state(sqlstate));
		values[2] = CStringGetTextDatum(reason ? reason : "");
		docrep_internal_execute(&update, "UPDATE docrep.rejected SET error = $2, reason = $3,"
								" at = now() WHERE ctid = $1::tid",
								3, types, values, NULL, false, 0);
	}
	docrep_internal_end(&sql);
}

/*
 * Try the next rows again, at most max; returns how many were taken, *read how
 * many there were.
 */
static int
retry_batch(DocTable *table, const char *only_error, RetryCursor *cursor, int max, int *read)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep retry",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	RetryRow   *rows = palloc(max * sizeof(RetryRow));
	DocWrite   *writes = palloc0(max * sizeof(DocWrite));
	RetryRow  **targets = palloc(max * sizeof(RetryRow *));
	int			n = read_rows(table, only_error, cursor, max, rows, read);
	int			nwrites = 0;
	int			taken = 0;

	for (int i = 0; i < n; i++)
	{
		if (docrep_doc_to_write(&rows[i].doc, &writes[nwrites]))
			targets[nwrites++] = &rows[i];
		else
			note_outcome(&rows[i], rows[i].doc.sqlstate, rows[i].doc.reason);
	}
	docrep_origins_localize(table, writes, nwrites);
	docrep_write_revisions(table, writes, nwrites, true);
	for (int i = 0; i < nwrites; i++)
	{
		note_outcome(targets[i], writes[i].sqlstate, writes[i].reason);
		taken += writes[i].sqlstate == 0;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return taken;
}

/* Is any revision of the table waiting for its parent row? */
static bool
any_waiting(DocTable *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	bool		result;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT 1 FROM docrep.rejected WHERE tbl = $1 AND error = '23503' LIMIT 1",
							1, types, values, NULL, false, 1);
	result = SPI_processed > 0;
	docrep_internal_end(&sql);
	return result;
}

/*
 * Some may never find a parent, so only a few are tried after each batch, the
 * next ones after the next; but all of them as long as some are taken.
 */
void
docrep_rejected_retry(DocTable *table, const DocrepWriteOrigin *origin)
{
	static RetryCursor cursor;
	int			read;
	int			rounds = 0;

	if (!any_waiting(table))
		return;
	if (memcmp(&cursor.table, &table->info.uuid, sizeof(pg_uuid_t)) != 0)
	{
		memset(&cursor, 0, sizeof(cursor));
		cursor.table = table->info.uuid;
	}
	for (;;)
	{
		int			taken = retry_batch(table, "23503", &cursor, RETRY_WAITING, &read);
		bool		at_end = read < RETRY_WAITING;

		CHECK_FOR_INTERRUPTS();
		if (at_end)
			memset(&cursor.id_md5, 0, sizeof(cursor) - offsetof(RetryCursor, id_md5));
		if (taken == 0 && (!at_end || rounds > 0 || read > 0))
			break;
		if (taken == 0)
			rounds++;			/* the end was reached with nothing to try: once from the beginning */
	}
}

PG_FUNCTION_INFO_V1(docrep_retry_rejected);

/* docrep.retry_rejected(tbl regclass) returns bigint: how many were taken. */
Datum
docrep_retry_rejected(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
										  ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	int64		total = 0;
	int64		before;
	int			read;

	docrep_constraints_immediate();
	do
	{
		/* one may be the parent of another: as long as there is progress */
		RetryCursor cursor = {0};

		before = total;
		do
		{
			total += retry_batch(table, NULL, &cursor, RETRY_BATCH, &read);
			CHECK_FOR_INTERRUPTS();
		} while (read == RETRY_BATCH);
	} while (total > before);
	docrep_table_close(table, NoLock);
	PG_RETURN_INT64(total);
}

void
docrep_constraints_immediate(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = NIL;	/* all */
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
}
