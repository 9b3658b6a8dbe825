/*-------------------------------------------------------------------------
 *
 * peer_changes.c
 *		The SQL functions by which another server reads a feed: as those of
 *		store/wire.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "filter/filter.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/errcodes.h"
#include "store/serve.h"
#include "store/wire_format.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* the most that one call returns, whatever is asked for */
#define MAX_ROWS	100000
#define MAX_BYTES	(64 * 1024 * 1024)

PG_FUNCTION_INFO_V1(docrep_peer_changes);
PG_FUNCTION_INFO_V1(docrep_peer_aged_changes);
PG_FUNCTION_INFO_V1(docrep_peer_filter);

/* What a batch is asked for with (arguments 1 to 7). */
static void
read_request(FunctionCallInfo fcinfo, DocrepChangesRequest *request)
{
	for (int i = 0; i < 6; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("argument %d of a peer's request is null", i + 1)));
	request->since = text_to_cstring(PG_GETARG_TEXT_PP(1));
	request->max_rows = Min(PG_GETARG_INT32(2), MAX_ROWS);
	request->max_bytes = (Size) Min(Max(PG_GETARG_INT64(3), 0), MAX_BYTES);
	request->winners_only = PG_GETARG_BOOL(4);
	request->with_docs = PG_GETARG_BOOL(5);
	if (request->max_rows < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a peer asked for %d changes", request->max_rows)));
	if (!PG_ARGISNULL(6))
	{
		bytea	   *ids = PG_GETARG_BYTEA_PP(6);

		request->doc_ids = docrep_wire_unpack_ids(VARDATA_ANY(ids), VARSIZE_ANY_EXHDR(ids),
												  &request->ndoc_ids);
	}
	if (!PG_ARGISNULL(7))
		request->filter = docrep_filter_spec_from_text(text_to_cstring(PG_GETARG_TEXT_PP(7)));
}

/* Read what was asked for. */
static void
read_changes(FunctionCallInfo fcinfo, const DocrepChangesRequest *request, DocrepChanges *out)
{
	DocTable   *table;
	DocrepFilter *filter;

	docrep_changes_init(out, CurrentMemoryContext);
	table = docrep_serve_open(PG_GETARG_UUID_P(0), AccessShareLock, ACL_SELECT);
	filter = docrep_filter_compile(request->filter, table);
	docrep_batch_changes(table, request, docrep_filter_for_feed(filter, !request->winners_only),
						 out);
	docrep_table_close(table, NoLock);
}

/*
 * peer_changes(tbl uuid, since text, max_rows int, max_bytes bigint, winners_only bool,
 *				with_docs bool, doc_ids bytea, filter text) returns bytea
 */
Datum
docrep_peer_changes(PG_FUNCTION_ARGS)
{
	DocrepChangesRequest request = {0};
	DocrepChanges changes;

	read_request(fcinfo, &request);
	read_changes(fcinfo, &request, &changes);
	PG_RETURN_BYTEA_P(docrep_wire_pack_changes(&changes, docrep_wire_client_knows_origins()));
}

/*
 * peer_aged_changes(the same, min_age bigint, OUT changes bytea, OUT young bigint,
 *					 OUT due_in bigint, OUT now timestamptz)
 */
Datum
docrep_peer_aged_changes(PG_FUNCTION_ARGS)
{
	DocrepChangesRequest request = {0};
	DocrepChanges changes;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	read_request(fcinfo, &request);
	request.min_age = PG_ARGISNULL(8) ? 0 : Max(PG_GETARG_INT64(8), 0);
	read_changes(fcinfo, &request, &changes);
	values[0] = PointerGetDatum(docrep_wire_pack_changes(&changes, docrep_wire_client_knows_origins()));
	values[1] = Int64GetDatum(changes.young);
	values[2] = Int64GetDatum(changes.due_in);
	values[3] = TimestampTzGetDatum(changes.source_now);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* peer_filter(tbl uuid, filter text) returns text */
Datum
docrep_peer_filter(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_serve_open(PG_GETARG_UUID_P(0), AccessShareLock, ACL_SELECT);
	char	   *filter = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *identity = docrep_filter_identity(docrep_filter_spec_from_text(filter), table);

	docrep_table_close(table, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(identity));
}
