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
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "store/change.h"
#include "store/errcodes.h"
#include "store/internal_sql.h"
#include "store/origins.h"
#include "store/rejected.h"
#include "store/sql_support.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* rows that are tried again at a time */
#define RETRY_BATCH 500

/* of those that wait for a parent, this many are tried after a batch */
#define RETRY_WAITING 100

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

/* What is kept as raw: what came, or the body as JSON text. */
static void
body_bytes(const DocrepDoc *doc, const char **data, int *len)
{
	if (doc->unreadable && doc->json == NULL)
	{
		*data = "";
		*len = 0;
	}
	else if (doc->json)
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

/*
 * The attachments as a column, so that trying again loses none: contents that
 * came along are stored for it.  NULL: none.  A stub whose revision was not
 * there has no file, and may find one later.
 */
static Jsonb *
keep_atts(DocTable *table, const DocrepDoc *doc)
{
	DocAtts		atts = doc->atts;

	if (atts.n == 0 || doc->unreadable)
		return NULL;
	atts.atts = palloc(atts.n * sizeof(DocAtt));
	memcpy(atts.atts, doc->atts.atts, atts.n * sizeof(DocAtt));
	for (int i = 0; i < atts.n; i++)
	{
		DocAtt	   *att = &atts.atts[i];

		if (att->data != NULL)
			att->file = docrep_content_store(table, att->data, att->datalen, NULL);
		else if (att->file != 0)
			(void) docrep_content_pin(table, att->file, NULL, NULL);
		att->stub = att->file == 0;
	}
	return docrep_atts_to_column(&atts);
}

/* A bytea of len bytes. */
static Datum
bytes_datum(const char *data, Size len)
{
	return PointerGetDatum(cstring_to_text_with_len(data, (int) len));
}

static void
keep_one(DocTable *table, const DocrepDoc *doc, const DocrepWriteOrigin *origin, Jsonb *atts)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, BYTEAOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	BYTEAOID, BYTEAOID, BOOLOID, TIMESTAMPTZOID, JSONBOID, BOOLOID, UUIDOID};
	Datum		values[15];
	char		nulls[16] = "               ";
	char		rev[REV_TEXT_SIZE];
	const char *raw;
	int			rawlen;

	docrep_rev_print(&doc->path.revs[0], rev);
	body_bytes(doc, &raw, &rawlen);
	values[0] = UUIDPGetDatum(&table->info.uuid);
	values[1] = doc->raw_id ? bytes_datum(doc->raw_id, doc->raw_idlen) :
		bytes_datum(doc->id, strlen(doc->id));
	values[2] = CStringGetTextDatum(rev);
	values[3] = CStringGetTextDatum(doc->id);
	if (doc->raw_id)
		nulls[3] = 'n';
	values[4] = CStringGetTextDatum(origin && origin->replication_id ? origin->replication_id : "");
	values[5] = CStringGetTextDatum(origin && origin->source ? origin->source : "");
	for (int i = 4; i < 6; i++)
	{
		if (VARSIZE_ANY_EXHDR(DatumGetPointer(values[i])) == 0)
			nulls[i] = 'n';
	}
	values[6] = CStringGetTextDatum(unpack_sql_state(doc->sqlstate));
	values[7] = CStringGetTextDatum(doc->reason ? doc->reason : "");
	values[8] = bytes_datum(raw, rawlen);
	values[9] = PointerGetDatum(pack_path(&doc->path));
	values[10] = BoolGetDatum(doc->deleted);
	values[11] = TimestampTzGetDatum(doc->modified);
	if (doc->modified == 0)
		nulls[11] = 'n';
	values[12] = JsonbPGetDatum(atts);
	if (atts == NULL)
		nulls[12] = 'n';
	values[13] = BoolGetDatum(doc->unreadable);
	values[14] = UUIDPGetDatum(&doc->origin);
	if (!doc->has_origin)
		nulls[14] = 'n';
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.rejected AS r (tbl, raw_id, rev, id, replication_id, source,"
							" error, reason, raw, path, deleted, modified, attachments, unreadable, origin)"
							" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
							" ON CONFLICT (tbl, md5(raw_id), md5(rev)) DO UPDATE SET error = EXCLUDED.error,"
							" reason = EXCLUDED.reason, at = EXCLUDED.at,"
							" replication_id = coalesce(EXCLUDED.replication_id, r.replication_id),"
							" source = coalesce(EXCLUDED.source, r.source),"
							" attachments = EXCLUDED.attachments",
							15, types, values, nulls, false, 0);
}

void
docrep_rejected_keep(DocTable *table, const DocrepDocs *docs, const DocrepWriteOrigin *origin)
{
	InternalSql sql;
	Jsonb	  **atts = NULL;

	for (int i = 0; i < docs->n; i++)
	{
		if (docs->docs[i].sqlstate == 0)
			continue;
		if (atts == NULL)
			atts = palloc(docs->n * sizeof(Jsonb *));
		atts[i] = keep_atts(table, &docs->docs[i]);
	}
	if (atts == NULL)
		return;
	docrep_internal_begin(&sql);
	for (int i = 0; i < docs->n; i++)
	{
		if (docs->docs[i].sqlstate != 0)
			keep_one(table, &docs->docs[i], origin, atts[i]);
	}
	docrep_internal_end(&sql);
}

void
docrep_rejected_attachments(DocTable *table, void (*function) (void *arg, Jsonb *column),
							void *arg)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;

	values[0] = UUIDPGetDatum(&table->info.uuid);
	docrep_internal_begin(&sql);
	/* read-only: with this snapshot, and not with one of the transaction's, which may be old */
	PushActiveSnapshot(GetLatestSnapshot());
	docrep_internal_execute(&plan,
							"SELECT attachments FROM docrep.rejected"
							" WHERE tbl = $1 AND attachments IS NOT NULL",
							1, types, values, NULL, true, 0);
	PopActiveSnapshot();
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		d = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		function(arg, DatumGetJsonbP(d));
	}
	docrep_internal_end(&sql);
}

/* ---------- trying again ---------- */

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
	return unpack_path(DatumGetByteaPCopy(d), &row->doc.path) &&
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
