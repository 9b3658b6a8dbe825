/*-------------------------------------------------------------------------
 *
 * rejected.c
 *		Replicated documents that the table refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "store/change.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/rejected.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* rows that are tried again at a time */
#define RETRY_BATCH 500

/* ---------- a path as bytes: count, then packed revisions with their lengths ---------- */

static bytea *
pack_path(const RevPath *path)
{
	StringInfoData buf;
	uint8		packed[REV_PACKED_SIZE];
	uint8		varint[5];

	initStringInfo(&buf);
	appendStringInfoSpaces(&buf, VARHDRSZ);
	for (int i = 0; i < path->n; i++)
	{
		size_t		len = docrep_rev_pack(&path->revs[i], packed);

		appendBinaryStringInfo(&buf, (char *) varint, docrep_varint_write(varint, len));
		appendBinaryStringInfo(&buf, (char *) packed, len);
	}
	SET_VARSIZE(buf.data, buf.len);
	return (bytea *) buf.data;
}

static bool
unpack_path(bytea *data, RevPath *path)
{
	const uint8 *p = (uint8 *) VARDATA_ANY(data);
	const uint8 *end = p + VARSIZE_ANY_EXHDR(data);
	int			cap = 16;

	path->n = 0;
	path->revs = palloc(cap * sizeof(Rev));
	while (p < end)
	{
		uint32		len;
		size_t		used = docrep_varint_read(p, end, &len);

		if (used == 0 || len > (size_t) (end - p) - used)
			return false;
		if (path->n >= cap)
			path->revs = repalloc(path->revs, (cap *= 2) * sizeof(Rev));
		if (!docrep_rev_unpack(p + used, len, &path->revs[path->n++]))
			return false;
		p += used + len;
	}
	return path->n > 0;
}

/* ---------- keeping ---------- */

static void
body_bytes(const DocrepDoc *doc, const char **data, int *len)
{
	if (doc->json)
	{
		*data = doc->json;
		*len = doc->jsonlen;
	}
	else if (doc->body)
	{
		*data = JsonbToCString(NULL, &doc->body->root, VARSIZE(doc->body));
		*len = strlen(*data);
	}
	else
	{
		*data = "{}";
		*len = 2;
	}
}

static void
keep_one(DocTable *table, const DocrepDoc *doc, const DocrepWriteOrigin *origin)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	BYTEAOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID};
	Datum		values[12];
	char		nulls[13] = "            ";
	char		rev[REV_TEXT_SIZE];
	const char *raw;
	int			rawlen;

	docrep_rev_print(&doc->path.revs[0], rev);
	body_bytes(doc, &raw, &rawlen);
	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = PointerGetDatum(cstring_to_text_with_len(doc->id, strlen(doc->id)));
	values[2] = CStringGetTextDatum(rev);
	values[3] = CStringGetTextDatum(doc->id);
	values[4] = CStringGetTextDatum(origin && origin->replication_id ? origin->replication_id : "");
	values[5] = CStringGetTextDatum(origin && origin->source ? origin->source : "");
	for (int i = 4; i < 6; i++)
	{
		if (VARSIZE_ANY_EXHDR(DatumGetPointer(values[i])) == 0)
			nulls[i] = 'n';
	}
	values[6] = CStringGetTextDatum(unpack_sql_state(doc->sqlstate));
	values[7] = CStringGetTextDatum(doc->reason ? doc->reason : "");
	values[8] = PointerGetDatum(cstring_to_text_with_len(raw, rawlen));
	values[9] = PointerGetDatum(pack_path(&doc->path));
	values[10] = BoolGetDatum(doc->deleted);
	values[11] = TimestampTzGetDatum(doc->modified);
	if (doc->modified == 0)
		nulls[11] = 'n';
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.rejected AS r (tbl, raw_id, rev, id, replication_id, source,"
							" error, reason, raw, path, deleted, modified)"
							" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
							" ON CONFLICT (tbl, md5(raw_id), md5(rev)) DO UPDATE SET error = EXCLUDED.error,"
							" reason = EXCLUDED.reason, at = EXCLUDED.at,"
							" replication_id = coalesce(EXCLUDED.replication_id, r.replication_id),"
							" source = coalesce(EXCLUDED.source, r.source)",
							12, types, values, nulls, false, 0);
}

void
docrep_rejected_keep(DocTable *table, const DocrepDocs *docs, const DocrepWriteOrigin *origin)
{
	InternalSql sql;
	bool		begun = false;

	for (int i = 0; i < docs->n; i++)
	{
		if (docs->docs[i].sqlstate == 0)
			continue;
		if (!begun)
			docrep_internal_begin(&sql);
		begun = true;
		keep_one(table, &docs->docs[i], origin);
	}
	if (begun)
		docrep_internal_end(&sql);
}

/* ---------- trying again ---------- */

typedef struct RetryRow
{
	char	   *ctid;
	DocrepDoc	doc;
} RetryRow;

/* Read some of the table's rejected revisions, only_error or any; returns their number. */
static int
read_rows(DocTable *table, const char *only_error, TimestampTz before, RetryRow *rows)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[3];
	char		nulls[4] = "   ";
	InternalSql sql;
	MemoryContext caller = CurrentMemoryContext;
	int			n = 0;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = CStringGetTextDatum(only_error ? only_error : "");
	if (only_error == NULL)
		nulls[1] = 'n';
	values[2] = TimestampTzGetDatum(before);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT ctid::text, id, path, deleted, convert_from(raw, 'UTF8'), modified"
							" FROM docrep.rejected WHERE tbl = $1 AND ($2 IS NULL OR error = $2)"
							" AND id IS NOT NULL AND at <= $3 LIMIT 500 FOR UPDATE SKIP LOCKED",
							3, types, values, nulls, false, RETRY_BATCH);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		RetryRow   *row = &rows[n++];
		bool		isnull;
		MemoryContext old = MemoryContextSwitchTo(caller);
		Datum		d;

		memset(row, 0, sizeof(*row));
		row->ctid = SPI_getvalue(tuple, desc, 1);
		row->doc.id = SPI_getvalue(tuple, desc, 2);
		row->doc.deleted = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		row->doc.json = SPI_getvalue(tuple, desc, 5);
		row->doc.jsonlen = strlen(row->doc.json);
		d = SPI_getbinval(tuple, desc, 6, &isnull);
		row->doc.modified = isnull ? 0 : DatumGetTimestampTz(d);
		d = SPI_getbinval(tuple, desc, 3, &isnull);
		if (!unpack_path(DatumGetByteaPCopy(d), &row->doc.path))
			n--;
		MemoryContextSwitchTo(old);
	}
	docrep_internal_end(&sql);
	return n;
}

static void
forget_row(const RetryRow *row)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	InternalSql sql;

	values[0] = CStringGetTextDatum(row->ctid);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan, "DELETE FROM docrep.rejected WHERE ctid = $1::tid",
							1, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

/* Try one batch again; returns how many were taken, *tried how many there were. */
static int
retry_batch(DocTable *table, const char *only_error, TimestampTz before, int *tried)
{
	RetryRow   *rows = palloc(RETRY_BATCH * sizeof(RetryRow));
	DocrepDocs	docs;
	DocWrite   *writes;
	int			taken = 0;
	int			n = read_rows(table, only_error, before, rows);

	*tried = n;
	docrep_docs_init(&docs, CurrentMemoryContext);
	writes = palloc0(Max(n, 1) * sizeof(DocWrite));
	for (int i = 0; i < n; i++)
	{
		*docrep_docs_add(&docs) = rows[i].doc;
		if (!docrep_doc_to_write(&docs.docs[i], &writes[i]))
		{
			/* it cannot be stored whatever the table says: leave it */
			n = i;
			break;
		}
	}
	docrep_write_revisions(table, writes, n, true);
	for (int i = 0; i < n; i++)
	{
		if (writes[i].sqlstate != 0)
			continue;
		forget_row(&rows[i]);
		taken++;
	}
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

void
docrep_rejected_retry(DocTable *table, const DocrepWriteOrigin *origin)
{
	int			tried;

	if (any_waiting(table))
		(void) retry_batch(table, "23503", GetCurrentTimestamp(), &tried);
}

PG_FUNCTION_INFO_V1(docrep_retry_rejected);

/* docrep.retry_rejected(tbl regclass) returns bigint: how many were taken. */
Datum
docrep_retry_rejected(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(PG_GETARG_OID(0), RowExclusiveLock,
										  ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	int64		total = 0;
	int			taken;
	int			tried;

	docrep_constraints_immediate();
	do
	{
		taken = retry_batch(table, NULL, GetCurrentTimestamp(), &tried);
		total += taken;
	} while (taken > 0 && tried == RETRY_BATCH);
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
