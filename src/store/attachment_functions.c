/*-------------------------------------------------------------------------
 *
 * attachment_functions.c
 *		SQL functions on single attachments: put, get, delete, uploads.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/open_doc.h"
#include "store/rev_type.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* ---------- uploads of this session ---------- */

typedef struct UploadEntry
{
	int64		number;			/* hash key */
	MemoryContext cxt;			/* what the upload is allocated in */
	DocUpload  *upload;
} UploadEntry;

static HTAB *uploads = NULL;

/* Begin an upload and keep it under a number. */
static int64
keep_upload(DocTable *table)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep session upload",
											  ALLOCSET_SMALL_SIZES);
	DocUpload  *upload = docrep_upload_begin(table, cxt);
	static int64 last = 0;
	UploadEntry *entry;

	if (uploads == NULL)
	{
		HASHCTL		ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(int64);
		ctl.entrysize = sizeof(UploadEntry);
		uploads = hash_create("docrep uploads", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	last++;
	entry = hash_search(uploads, &last, HASH_ENTER, NULL);
	entry->cxt = cxt;
	entry->upload = upload;
	MemoryContextSetParent(cxt, TopMemoryContext);
	return last;
}

static UploadEntry *
find_upload(int64 number)
{
	UploadEntry *entry = uploads ? hash_search(uploads, &number, HASH_FIND, NULL) : NULL;

	if (entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("upload " INT64_FORMAT " does not exist in this session", number),
				 errhint("An upload is begun with docrep.begin_attachment() and ends with docrep.put_attachment().")));
	return entry;
}

/* End an upload; whatever becomes of the transaction, its memory goes with it. */
static void
finish_upload(DocTable *table, int64 number, DocAtt *att)
{
	UploadEntry *entry = find_upload(number);
	DocUpload  *upload = entry->upload;

	MemoryContextSetParent(entry->cxt, CurTransactionContext);
	hash_search(uploads, &number, HASH_REMOVE, NULL);
	att->file = docrep_upload_finish(table, upload, NULL, NULL);
}

PG_FUNCTION_INFO_V1(docrep_begin_attachment);

/* docrep.begin_attachment(tbl): the number of an upload. */
Datum
docrep_begin_attachment(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	int64		number = keep_upload(table);

	docrep_table_close(table, NoLock);
	PG_RETURN_INT64(number);
}

PG_FUNCTION_INFO_V1(docrep_append_attachment);

/* docrep.append_attachment(tbl, upload, data) */
Datum
docrep_append_attachment(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	bytea	   *data;

	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE);
	PreventCommandIfReadOnly("docrep.append_attachment()");
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"upload\" and \"data\" must not be NULL")));
	data = PG_GETARG_BYTEA_PP(2);
	docrep_upload_append(table, find_upload(PG_GETARG_INT64(1))->upload,
						 VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}

/* ---------- arguments ---------- */

static void
raise_conflict(const char *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_CONFLICT),
			 errmsg("Document update conflict."),
			 errdetail("The revision given for document \"%s\" is not one of its current revisions, or none was given.",
					   id)));
}

static void
raise_missing(const char *id, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("document \"%s\" has no attachment \"%s\"", id, name)));
}

static char *
arg_name(FunctionCallInfo fcinfo, int argno)
{
	char	   *name = docrep_arg_id(fcinfo, argno, "name");
	const char *problem = docrep_att_name_problem(name, strlen(name));

	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad attachment name: %s", problem)));
	return name;
}

/* An optional revision; false: not given. */
static bool
arg_rev(FunctionCallInfo fcinfo, int argno, Rev *rev)
{
	text	   *given;

	if (PG_ARGISNULL(argno))
		return false;
	given = PG_GETARG_TEXT_PP(argno);
	*rev = docrep_rev_from_text(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given), "rev");
	return true;
}

/* ---------- writing ---------- */

/*
 * What an edit of the attachments alone begins with: the body and the
 * attachments, as stubs with room for one more, of the revision that is
 * given.  Bodies of revisions never change, so what is read here still holds
 * when the edit finds the revision to be current.
 */
static void
begin_edit(DocTable *table, FunctionCallInfo fcinfo, int rev_argno, DocWrite *write)
{
	OpenDoc		doc = {.table = table};
	const char *problem;
	Rev		   *rev = palloc(sizeof(Rev));
	int32	   *leaves;
	Jsonb	   *column;

	memset(write, 0, sizeof(*write));
	write->id = docrep_arg_id(fcinfo, 1, "id");
	problem = docrep_id_problem(write->id, strlen(write->id));
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad id: %s", problem)));
	write->atts.atts = palloc0(sizeof(DocAtt));
	if (!arg_rev(fcinfo, rev_argno, rev))
		return;
	write->path.n = 1;
	write->path.revs = rev;
	doc.id = write->id;
	doc.snapshot = RegisterSnapshot(GetLatestSnapshot());
	doc.found = docrep_state_read(table, doc.snapshot, doc.id, DOCSTATE_BODY, &doc.state);
	if (docrep_open_doc_leaves(&doc, rev, false, &leaves) == 0)
		raise_conflict(write->id);
	docrep_open_doc_leaf(&doc, leaves[0], &write->body, &column);
	UnregisterSnapshot(doc.snapshot);
	docrep_atts_from_column(column, &write->atts);
	write->atts.atts = write->atts.atts ?
		repalloc(write->atts.atts, (write->atts.n + 1) * sizeof(DocAtt)) :
		palloc0(sizeof(DocAtt));
	for (int i = 0; i < write->atts.n; i++)
	{
		write->atts.atts[i].file = 0;
		write->atts.atts[i].stub = true;
	}
}

/* Put an attachment into the list, in its place. */
static void
place_att(DocAtts *atts, const DocAtt *att)
{
	DocAtt	   *same = docrep_atts_find(atts, att->name);
	int			i = atts->n;

	if (same)
	{
		*same = *att;
		return;
	}
	for (; i > 0 && strcmp(atts->atts[i - 1].name, att->name) > 0; i--)
		atts->atts[i] = atts->atts[i - 1];
	atts->atts[i] = *att;
	atts->n++;
}

/* Make the edit: the new revision. */
static Datum
write_edit(DocTable *table, DocWrite *write)
{
	docrep_write_edits(table, write, 1, false);
	if (write->sqlstate == ERRCODE_DOCREP_CONFLICT)
		raise_conflict(write->id);
	if (write->sqlstate != 0)
		ereport(ERROR,
				(errcode(write->sqlstate),
				 errmsg("%s", write->reason)));
	return docrep_rev_datum(&write->rev);
}

/*
 * Lock the document before the content that goes with it, as batches and plain
 * DML do: two sessions that bring the same to the same document would else
 * wait for each other.
 */
static void
lock_document(DocTable *table, const char *id)
{
	if (docrep_lock_row(table, DOC_IN_REL, id) == NULL && docrep_dead_maybe_used(&table->info))
		(void) docrep_lock_row(table, DOC_IN_DEAD, id);
}

PG_FUNCTION_INFO_V1(docrep_put_attachment);

/* docrep.put_attachment(tbl, id, name, content_type, data, rev, upload): the new revision. */
Datum
docrep_put_attachment(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	DocAtt		att = {0};
	DocWrite	write;
	Datum		result;

	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	PreventCommandIfReadOnly("docrep.put_attachment()");
	att.name = arg_name(fcinfo, 2);
	att.content_type = PG_ARGISNULL(3) ? DOCREP_ATT_DEFAULT_TYPE : docrep_arg_id(fcinfo, 3, "content_type");
	if (PG_ARGISNULL(4) == PG_ARGISNULL(6))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("either \"data\" or \"upload\" must be given")));
	begin_edit(table, fcinfo, 5, &write);
	if (!PG_ARGISNULL(4))
	{
		bytea	   *data = PG_GETARG_BYTEA_PP(4);

		att.data = VARDATA_ANY(data);
		att.datalen = VARSIZE_ANY_EXHDR(data);
	}
	else
	{
		lock_document(table, write.id);
		finish_upload(table, PG_GETARG_INT64(6), &att);
	}
	place_att(&write.atts, &att);
	result = write_edit(table, &write);
	docrep_table_close(table, NoLock);
	PG_RETURN_DATUM(result);
}

PG_FUNCTION_INFO_V1(docrep_delete_attachment);

/* docrep.delete_attachment(tbl, id, name, rev): the new revision. */
Datum
docrep_delete_attachment(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
										  ACL_UPDATE);
	char	   *name = arg_name(fcinfo, 2);
	DocWrite	write;
	DocAtt	   *att;
	Datum		result;

	PreventCommandIfReadOnly("docrep.delete_attachment()");
	begin_edit(table, fcinfo, 3, &write);
	if (write.path.n == 0)
		raise_conflict(write.id);
	att = docrep_atts_find(&write.atts, name);
	if (att == NULL)
		raise_missing(write.id, name);
	write.atts.n--;
	memmove(att, att + 1, (write.atts.atts + write.atts.n - att) * sizeof(DocAtt));
	result = write_edit(table, &write);
	docrep_table_close(table, NoLock);
	PG_RETURN_DATUM(result);
}

/* ---------- reading ---------- */

/* The attachment asked for; DR404 if there is none. */
static DocAtt *
find_attachment(DocTable *table, FunctionCallInfo fcinfo, int rev_argno)
{
	char	   *id = docrep_arg_id(fcinfo, 1, "id");
	char	   *name = docrep_arg_id(fcinfo, 2, "name");
	OpenDoc		doc = {0};
	int32	   *leaves;
	Jsonb	   *body;
	Jsonb	   *column;
	DocAtts		atts;
	DocAtt	   *att;
	Rev			rev;
	KeptVersion version;
	bool		has_rev = arg_rev(fcinfo, rev_argno, &rev);

	docrep_open_doc(&doc, table, GetActiveSnapshot(), id, DOCSTATE_BODY);
	if (docrep_open_doc_leaves(&doc, has_rev ? &rev : NULL, false, &leaves) > 0 &&
		(has_rev || doc.state.live))
		docrep_open_doc_leaf(&doc, leaves[0], &body, &column);
	else if (has_rev && docrep_open_doc_kept(&doc, &rev, &version))
		column = version.atts;
	else
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg(has_rev ? "document \"%s\" does not have this revision" :
						"document \"%s\" does not exist", id)));
	docrep_atts_from_column(column, &atts);
	att = docrep_atts_find(&atts, name);
	if (att == NULL)
		raise_missing(id, name);
	return att;
}

PG_FUNCTION_INFO_V1(docrep_get_attachment);

/* docrep.get_attachment(tbl, id, name, rev): its content. */
Datum
docrep_get_attachment(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	bytea	   *result = docrep_content_get(table, find_attachment(table, fcinfo, 3));

	docrep_table_close(table, NoLock);
	PG_RETURN_BYTEA_P(result);
}

PG_FUNCTION_INFO_V1(docrep_get_attachment_part);

/* docrep.get_attachment_part(tbl, id, name, "offset", length, rev) */
Datum
docrep_get_attachment_part(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	int32		length = docrep_arg_int32(fcinfo, 4, "length");
	int64		offset = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
	bytea	   *result;

	if (length < 0 || offset < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"offset\" and \"length\" must not be negative")));
	result = docrep_content_get_part(table, find_attachment(table, fcinfo, 5), offset, length);
	docrep_table_close(table, NoLock);
	PG_RETURN_BYTEA_P(result);
}

PG_FUNCTION_INFO_V1(docrep_attachments);

/*
 * docrep.attachments(tbl, doc_id): a row an attachment.  By a query of the
 * role's own, so that its privileges and policies count.
 */
Datum
docrep_attachments(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = docrep_srf_begin(fcinfo, &desc);
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	Oid			types[] = {TEXTOID};
	Datum		values[1];
	char		nulls[1] = {PG_ARGISNULL(1) ? 'n' : ' '};
	char	   *query;

	values[0] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	query = psprintf("SELECT t._id, a.key, a.value OPERATOR(pg_catalog.->>) 'content_type',"
					 " (a.value OPERATOR(pg_catalog.->>) 'length')::pg_catalog.int8,"
					 " a.value OPERATOR(pg_catalog.->>) 'digest',"
					 " (a.value OPERATOR(pg_catalog.->>) 'revpos')::pg_catalog.int4"
					 " FROM ONLY %s t, pg_catalog.jsonb_each(t._attachments) a"
					 " WHERE t._attachments IS NOT NULL"
					 " AND ($1 IS NULL OR t._id OPERATOR(pg_catalog.=) $1 COLLATE pg_catalog.\"C\")"
					 " ORDER BY t._id, a.key COLLATE pg_catalog.\"C\"",
					 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table->rel)),
												RelationGetRelationName(table->rel)));
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(query, 1, types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list attachments");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		row[6];
		bool		isnull[6];

		for (int c = 0; c < 6; c++)
			row[c] = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, c + 1, &isnull[c]);
		tuplestore_putvalues(store, desc, row, isnull);
	}
	SPI_finish();
	docrep_table_close(table, NoLock);
	return (Datum) 0;
}
