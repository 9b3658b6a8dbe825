/*-------------------------------------------------------------------------
 *
 * wire.c
 *		The SQL functions that a Postgres peer calls on the other server.
 *
 * They are open to every role, as each checks what the role may do with the
 * table it names.  Tables are named by uuid, so that renaming one disturbs no
 * replication.  Batches come and go as the messages of wire_format.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/fence.h"
#include "store/serve.h"
#include "store/wire_format.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

PG_FUNCTION_INFO_V1(docrep_peer_open);
PG_FUNCTION_INFO_V1(docrep_peer_diff);
PG_FUNCTION_INFO_V1(docrep_peer_fetch);
PG_FUNCTION_INFO_V1(docrep_peer_write);
PG_FUNCTION_INFO_V1(docrep_peer_flush);
PG_FUNCTION_INFO_V1(docrep_peer_get_local);
PG_FUNCTION_INFO_V1(docrep_peer_put_local);
PG_FUNCTION_INFO_V1(docrep_peer_swap_local);
PG_FUNCTION_INFO_V1(docrep_peer_fence);

/*
 * Writes are numbered by the client, 1 and up, and must succeed in that
 * order: a client sends the next before it knows what became of the last, and
 * the next may carry a checkpoint that counts on it.
 */
static int	last_write = 0;		/* the last that is committed */
static int	current_write = 0;	/* of this transaction, or 0 */

/* what peer_open has agreed on; a client that has not called it gets what all understand */
static int	client_protocol = DOCREP_WIRE_PROTOCOL_MIN;

/* Follow what becomes of a numbered write. */
static void
note_end_of_write(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && current_write != 0)
		last_write = current_write;
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		current_write = 0;
}

/* Let a numbered write pass if the one before it is committed. */
static void
check_write_number(int number)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(note_end_of_write, NULL);
		registered = true;
	}
	if (number != last_write + 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("write %d of a peer cannot follow write %d", number, last_write),
				 errdetail("A write between them failed or never came.")));
	current_write = number;
}

bool
docrep_wire_client_knows_origins(void)
{
	return client_protocol >= DOCREP_WIRE_ORIGINS;
}

/* Refuse a NULL where a value is needed. */
static void
require_args(FunctionCallInfo fcinfo, int n)
{
	for (int i = 0; i < n; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("argument %d of a peer's request is null", i + 1)));
}

static char *
text_or_null(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * peer_open(name text, create_missing bool, client_protocol int,
 *			 OUT protocol int, OUT tbl uuid)
 */
Datum
docrep_peer_open(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		create = PG_GETARG_BOOL(1);
	int			protocol = Min(PG_GETARG_INT32(2), DOCREP_WIRE_PROTOCOL);
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	if (protocol < DOCREP_WIRE_PROTOCOL_MIN)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("protocol %d of docrep's peers is not spoken here",
						PG_GETARG_INT32(2)),
				 errdetail("Versions %d to %d are.", DOCREP_WIRE_PROTOCOL_MIN,
						   DOCREP_WIRE_PROTOCOL),
				 errhint("Update docrep on the other server.")));
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	docrep_serve_prepare();
	(void) docrep_serve_find(name, create, uuid);
	last_write = 0;
	client_protocol = protocol;
	values[0] = Int32GetDatum(protocol);
	values[1] = UUIDPGetDatum(uuid);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  values, nulls)));
}

/* peer_diff(tbl uuid, revs bytea) returns bytea */
Datum
docrep_peer_diff(PG_FUNCTION_ARGS)
{
	bytea	   *revs = PG_GETARG_BYTEA_PP(1);
	DocrepChanges changes;
	DocTable   *table;

	docrep_changes_init(&changes, CurrentMemoryContext);
	docrep_wire_unpack_revs(VARDATA_ANY(revs), VARSIZE_ANY_EXHDR(revs), &changes);
	table = docrep_serve_open(PG_GETARG_UUID_P(0), AccessShareLock, ACL_SELECT);
	docrep_batch_diff(table, &changes);
	docrep_table_close(table, NoLock);
	PG_RETURN_BYTEA_P(docrep_wire_pack_missing(&changes));
}

/* A fetch under way, from frame to frame. */
typedef struct Fetch
{
	pg_uuid_t	uuid;
	DocrepChanges changes;
	bool		latest;
	int			row;
	int			rev;
	bool		more;
	MemoryContext frame;		/* emptied for each */
} Fetch;

static Fetch *
begin_fetch(FunctionCallInfo fcinfo, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Fetch	   *fetch = palloc0(sizeof(Fetch));
	bytea	   *revs = PG_GETARG_BYTEA_P_COPY(1);

	fetch->uuid = *PG_GETARG_UUID_P(0);
	docrep_changes_init(&fetch->changes, cxt);
	docrep_wire_unpack_revs(VARDATA_ANY(revs), VARSIZE_ANY_EXHDR(revs), &fetch->changes);
	fetch->latest = PG_GETARG_BOOL(2);
	fetch->more = true;
	fetch->frame = AllocSetContextCreate(cxt, "docrep fetch", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	return fetch;
}

/*
 * peer_fetch(tbl uuid, revs bytea, latest bool) returns setof bytea
 *
 * Called in a SELECT list it makes one frame after the other as the client
 * takes them, and holds no more than one.
 */
Datum
docrep_peer_fetch(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	Fetch	   *fetch;
	DocrepDocs	docs;
	DocTable   *table;
	MemoryContext caller = CurrentMemoryContext;
	bytea	   *result;

	if (SRF_IS_FIRSTCALL())
	{
		funcctx = SRF_FIRSTCALL_INIT();
		funcctx->user_fctx = begin_fetch(fcinfo, funcctx->multi_call_memory_ctx);
	}
	funcctx = SRF_PERCALL_SETUP();
	fetch = funcctx->user_fctx;

	MemoryContextReset(fetch->frame);
	MemoryContextSwitchTo(fetch->frame);
	docrep_docs_init(&docs, fetch->frame);
	table = docrep_serve_open(&fetch->uuid, AccessShareLock, ACL_SELECT);
	while (fetch->more && docs.n == 0)
		fetch->more = docrep_batch_fetch(table, &fetch->changes, fetch->latest, &fetch->row,
										 &fetch->rev, DOCREP_WIRE_FRAME, &docs);
	docrep_table_close(table, NoLock);
	MemoryContextSwitchTo(caller);
	if (docs.n == 0)
		SRF_RETURN_DONE(funcctx);
	result = docrep_wire_pack_docs(&docs, docrep_wire_client_knows_origins());
	SRF_RETURN_NEXT(funcctx, PointerGetDatum(result));
}

/*
 * peer_write(tbl uuid, docs bytea, number int, replication_id text, source text,
 *			  local_id text, local_doc text) returns bytea
 */
Datum
docrep_peer_write(PG_FUNCTION_ARGS)
{
	DocrepWriteOrigin origin;
	DocrepDocs	docs;
	bytea	   *packed;

	require_args(fcinfo, 2);
	if (!PG_ARGISNULL(5) && PG_ARGISNULL(6))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("argument %d of a peer's request is null", 7)));
	packed = PG_GETARG_BYTEA_PP(1);
	if (!PG_ARGISNULL(2))
		check_write_number(PG_GETARG_INT32(2));
	origin.replication_id = text_or_null(fcinfo, 3);
	origin.source = text_or_null(fcinfo, 4);
	docrep_docs_init(&docs, CurrentMemoryContext);
	docrep_wire_unpack_docs(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed), &docs);
	for (int i = 0; i < docs.n; i++)
		docs.docs[i].atts_at_target = true; /* the files it names are this table's */
	docrep_serve_write(PG_GETARG_UUID_P(0), &docs, &origin,
					   text_or_null(fcinfo, 5), text_or_null(fcinfo, 6));
	PG_RETURN_BYTEA_P(docrep_wire_pack_written(&docs));
}

/* peer_flush() returns void */
Datum
docrep_peer_flush(PG_FUNCTION_ARGS)
{
	docrep_serve_flush();
	PG_RETURN_VOID();
}

/* peer_get_local(tbl uuid, id text) returns jsonb */
Datum
docrep_peer_get_local(PG_FUNCTION_ARGS)
{
	Jsonb	   *doc = docrep_serve_get_local(PG_GETARG_UUID_P(0),
											 text_to_cstring(PG_GETARG_TEXT_PP(1)));

	if (doc == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(doc);
}

/* peer_put_local(tbl uuid, id text, doc jsonb) returns void */
Datum
docrep_peer_put_local(PG_FUNCTION_ARGS)
{
	docrep_serve_put_local(PG_GETARG_UUID_P(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
						   PG_GETARG_JSONB_P(2));
	PG_RETURN_VOID();
}

/* peer_swap_local(tbl uuid, id text, expected jsonb, doc jsonb) returns bool */
Datum
docrep_peer_swap_local(PG_FUNCTION_ARGS)
{
	require_args(fcinfo, 2);
	if (PG_ARGISNULL(3))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(docrep_serve_swap_local(PG_GETARG_UUID_P(0),
										   text_to_cstring(PG_GETARG_TEXT_PP(1)),
										   PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2),
										   PG_GETARG_JSONB_P(3)));
}

/* peer_fence(tbl uuid, id text, token text) returns void */
Datum
docrep_peer_fence(PG_FUNCTION_ARGS)
{
	docrep_fence_set(PG_GETARG_UUID_P(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
					 text_to_cstring(PG_GETARG_TEXT_PP(2)));
	PG_RETURN_VOID();
}
