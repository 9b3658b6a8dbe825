/*-------------------------------------------------------------------------
 *
 * put.c
 *		SQL functions that write documents: put, delete, bulk_docs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/rev_type.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(docrep_put);
PG_FUNCTION_INFO_V1(docrep_delete);
PG_FUNCTION_INFO_V1(docrep_bulk_docs);

/*
 * A new document id: 32 hex digits, of which the first 26 are random and stay
 * for a while, the others count up in random steps, so that ids that one session
 * makes lie beside each other in the index.  (CouchDB's "sequential" ids.)
 */
static char *
make_id(void)
{
	static uint8 prefix[13];
	static uint32 counter = 0;
	static int	made_by = 0;
	char	   *id = palloc(33);
	uint16		step;

	if (!pg_strong_random(&step, sizeof(step)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	counter += 1 + step % 4093;
	if (made_by != MyProcPid || counter > 0xFFFFFF)
	{
		if (!pg_strong_random(prefix, sizeof(prefix)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		counter = 1 + step % 4093;
		made_by = MyProcPid;
	}
	hex_encode((const char *) prefix, sizeof(prefix), id);
	snprintf(id + 26, 7, "%06x", counter);
	return id;
}

/* Raise what a write was refused with, if it was. */
static void
raise_refusal(const DocWrite *write)
{
	if (write->sqlstate == 0)
		return;
	ereport(ERROR,
			(errcode(write->sqlstate),
			 errmsg("%s", write->reason),
			 write->of_marker ?
			 errhint("docrep.conflicts(...) has the versions of document \"%s\"; docrep.get(...) with conflicts => true has the winner.",
					 write->id) :
			 write->sqlstate != ERRCODE_DOCREP_CONFLICT ? 0 :
			 write->path.n > 0 ?
			 errdetail("The _rev given for document \"%s\" is not one of its current revisions.",
					   write->id) :
			 errdetail("Document \"%s\" exists and no _rev was given.", write->id)));
}

/* docrep.put(tbl, doc): the new revision. */
Datum
docrep_put(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	DocWrite	write;

	/* which of them is needed shows when the document is looked up */
	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	docrep_write_begin(table);
	docrep_document_parse(docrep_arg_jsonb(fcinfo, 1, "doc"), true, &write);
	if (write.id == NULL)
		write.id = make_id();
	docrep_write_edits(table, &write, 1, false);
	raise_refusal(&write);
	docrep_table_close(table, NoLock);
	PG_RETURN_DATUM(docrep_rev_datum(&write.rev));
}

/*
 * DR404 unless the document exists for the caller and is not deleted: without
 * this check a deletion of what is not there would make a tombstone.
 */
static void
check_exists(DocTable *table, const char *id)
{
	DocState	state;
	bool		visible;

	docrep_visible_ids(table, &id, 1, &visible);
	if (!visible || !docrep_state_read(table, GetActiveSnapshot(), id, 0, &state))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("document \"%s\" does not exist", id)));
	if (!state.live)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("document \"%s\" is deleted", id)));
}

/* docrep.delete(tbl, id, rev): the tombstone's revision. */
Datum
docrep_delete(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
										  ACL_DELETE);
	DocWrite	write = {0};
	const char *problem;
	Rev			rev;

	write.id = docrep_arg_id(fcinfo, 1, "id");
	problem = docrep_id_problem(write.id, strlen(write.id));
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad id: %s", problem)));
	if (!PG_ARGISNULL(2))
	{
		text	   *given = PG_GETARG_TEXT_PP(2);

		rev = docrep_rev_from_text(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given), "rev");
		write.path.n = 1;
		write.path.revs = &rev;
	}
	write.deleted = true;
	check_exists(table, write.id);
	docrep_write_edits(table, &write, 1, false);
	raise_refusal(&write);
	docrep_table_close(table, NoLock);
	PG_RETURN_DATUM(docrep_rev_datum(&write.rev));
}

/* CouchDB's word for why a document was refused. */
static const char *
error_name(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_DOCREP_CONFLICT:
			return "conflict";
		case ERRCODE_DOCREP_BAD_REQUEST:
			return "bad_request";
		case ERRCODE_DOCREP_UNAUTHORIZED:
			return "unauthorized";
		case ERRCODE_DOCREP_NOT_FOUND:
			return "not_found";
		case ERRCODE_DOCREP_PRECONDITION_FAILED:
			return "missing_stub";
		case ERRCODE_DOCREP_TOO_LARGE:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			return "document_too_large";
		case ERRCODE_DOCREP_FORBIDDEN:
		case ERRCODE_INSUFFICIENT_PRIVILEGE:
		case ERRCODE_WITH_CHECK_OPTION_VIOLATION:
		case ERRCODE_RAISE_EXCEPTION:
			return "forbidden";
	}
	/* a constraint is this side's validation function */
	if (ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
		return "forbidden";
	return "unknown_error";
}

/* Says which document of a batch an error is about. */
static void
batch_context(void *arg)
{
	errcontext("document number %d of the batch", *(int *) arg);
}

/* Take all documents of the batch apart; any malformed one is raised. */
static DocWrite *
parse_batch(const JsonbContainer *array, bool new_edits, int *n)
{
	DocWrite   *writes;
	RawCursor	cursor;
	RawMember	item;
	ErrorContextCallback context;
	int			number = 0;

	docrep_raw_begin(&cursor, array);
	writes = palloc_extended(Max(cursor.n, 1) * sizeof(DocWrite), MCXT_ALLOC_HUGE);
	context.callback = batch_context;
	context.arg = &number;
	context.previous = error_context_stack;
	error_context_stack = &context;
	while (docrep_raw_next(&cursor, &item))
	{
		DocWrite   *write = &writes[number++];

		docrep_document_parse_value(&item.value, new_edits, write);
		if (write->id == NULL)
			write->id = make_id();
	}
	error_context_stack = context.previous;
	*n = number;
	return writes;
}

/* Put what became of each document into the result. */
static void
return_batch(Tuplestorestate *store, TupleDesc tupdesc, DocWrite *writes, int n,
			 bool failures_only)
{
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "bulk_docs result",
												  ALLOCSET_SMALL_SIZES);

	for (int i = 0; i < n; i++)
	{
		DocWrite   *write = &writes[i];
		bool		failed = write->sqlstate != 0;
		Datum		values[4] = {0};
		bool		nulls[4] = {false, false, true, true};
		MemoryContext old;

		if (failures_only && !failed)
			continue;
		old = MemoryContextSwitchTo(row_cxt);
		values[0] = CStringGetTextDatum(write->id);
		if (!failed)
			values[1] = docrep_rev_datum(&write->rev);
		else
		{
			/* as they are, the revision that was refused is known */
			if (failures_only)
				values[1] = docrep_rev_datum(&write->path.revs[0]);
			else
				nulls[1] = true;
			values[2] = CStringGetTextDatum(error_name(write->sqlstate));
			nulls[2] = false;
			values[3] = CStringGetTextDatum(write->reason ? write->reason : "");
			nulls[3] = false;
		}
		tuplestore_putvalues(store, tupdesc, values, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_cxt);
	}
	MemoryContextDelete(row_cxt);
}

/* docrep.bulk_docs(tbl, docs, new_edits): a row a document, or a failure. */
Datum
docrep_bulk_docs(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Tuplestorestate *store = docrep_srf_begin(fcinfo, &tupdesc);
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	Jsonb	   *docs = docrep_arg_jsonb(fcinfo, 1, "docs");
	bool		new_edits = PG_ARGISNULL(2) || PG_GETARG_BOOL(2);
	const JsonbContainer *array;
	RawValue	member;
	DocWrite   *writes;
	int			n;

	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	docrep_write_begin(table);
	array = docrep_docs_array(docs, "docs");

	/* the body of CouchDB's request may say it too */
	if (JB_ROOT_IS_OBJECT(docs) && docrep_raw_find(&docs->root, "new_edits", &member))
	{
		if (member.type != JENTRY_ISBOOL_TRUE && member.type != JENTRY_ISBOOL_FALSE)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("new_edits must be a boolean")));
		new_edits = new_edits && member.type == JENTRY_ISBOOL_TRUE;
	}

	writes = parse_batch(array, new_edits, &n);
	if (new_edits)
		docrep_write_edits(table, writes, n, true);
	else
		docrep_write_revisions(table, writes, n, true);
	return_batch(store, tupdesc, writes, n, !new_edits);
	docrep_table_close(table, NoLock);
	return (Datum) 0;
}
