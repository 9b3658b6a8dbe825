/*-------------------------------------------------------------------------
 *
 * rejected.c
 *		Replicated documents that the table refused: how they are kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "store/change.h"
#include "store/internal_sql.h"
#include "store/rejected.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* ---------- a path as bytes: count, then packed revisions with their lengths ---------- */

/* A path as a row of docrep.rejected has it. */
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

bool
docrep_rejected_path(bytea *data, RevPath *path)
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

/* Keep one of them, with its attachments. */
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
