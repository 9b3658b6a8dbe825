/*-------------------------------------------------------------------------
 *
 * wire_content.c
 *		The SQL functions through which the contents of large attachments travel.
 *
 * A client uses a connection of its own for them.  Each piece is a statement
 * and a transaction, so that nothing is held while the network is slow, and
 * several may be on their way.  An upload belongs to the session; what it
 * leaves when the session ends in its middle is removed by docrep.compact().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "store/errcodes.h"
#include "store/serve.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

/* the most that one call returns, whatever is asked for */
#define MAX_PIECE		(4 * 1024 * 1024)

/* uploads under way in one session */
#define MAX_UPLOADS		16

PG_FUNCTION_INFO_V1(docrep_peer_att_read);
PG_FUNCTION_INFO_V1(docrep_peer_att_have);
PG_FUNCTION_INFO_V1(docrep_peer_att_append);
PG_FUNCTION_INFO_V1(docrep_peer_att_finish);

/* An upload under way. */
typedef struct SessionUpload
{
	dlist_node	link;
	MemoryContext cxt;			/* of this and the upload */
	int64		number;
	pg_uuid_t	table;
	DocUpload  *upload;			/* NULL: the first piece failed */
	int64		length;
} SessionUpload;

static dlist_head uploads = DLIST_STATIC_INIT(uploads);
static int	nuploads = 0;
static int64 last_number = 0;
static bool watching = false;	/* drop_spoiled is registered */

/* The upload of a number, for this table; NULL: there is none. */
static SessionUpload *
find_upload(int64 number, const pg_uuid_t *table)
{
	dlist_iter	iter;

	dlist_foreach(iter, &uploads)
	{
		SessionUpload *u = dlist_container(SessionUpload, link, iter.cur);

		if (u->number == number && memcmp(&u->table, table, sizeof(*table)) == 0)
			return u;
	}
	return NULL;
}

/* Forget an upload.  Cannot fail. */
static void
drop_upload(SessionUpload *u)
{
	if (u->upload != NULL)
		docrep_upload_abandon(u->upload);
	dlist_delete(&u->link);
	nuploads--;
	MemoryContextDelete(u->cxt);
}

/*
 * A transaction has been rolled back: uploads that it wrote to are of no use any
 * more, and their client may have forgotten them.  Those that were not touched may go on.
 */
static void
drop_spoiled(XactEvent event, void *arg)
{
	dlist_mutable_iter iter;

	if (event != XACT_EVENT_ABORT)
		return;
	dlist_foreach_modify(iter, &uploads)
	{
		SessionUpload *u = dlist_container(SessionUpload, link, iter.cur);

		if (u->upload == NULL || docrep_upload_is_spoiled(u->upload))
			drop_upload(u);
	}
}

/*
 * Begin an upload.  Numbers rise, and one is used up whatever becomes of it:
 * a piece that follows a failed first one finds no upload and does not pass
 * for a first one itself.
 */
static SessionUpload *
add_upload(int64 number, const pg_uuid_t *table)
{
	MemoryContext cxt;
	SessionUpload *u;

	if (number <= last_number)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("there is no upload " INT64_FORMAT " in this session", number),
				 errdetail("It has ended, or one of its pieces failed.")));
	last_number = number;
	if (!watching)
	{
		RegisterXactCallback(drop_spoiled, NULL);
		watching = true;
	}
	if (nuploads >= MAX_UPLOADS)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a peer has too many uploads under way"),
				 errdetail("It may have %d.", MAX_UPLOADS)));
	cxt = AllocSetContextCreate(TopMemoryContext, "docrep upload", ALLOCSET_DEFAULT_SIZES);
	u = MemoryContextAllocZero(cxt, sizeof(SessionUpload));
	u->cxt = cxt;
	u->number = number;
	u->table = *table;
	dlist_push_tail(&uploads, &u->link);
	nuploads++;
	return u;
}

/* The upload of a number, which begins if there is none. */
static SessionUpload *
obtain_upload(int64 number, const pg_uuid_t *table)
{
	SessionUpload *u = find_upload(number, table);

	return u != NULL ? u : add_upload(number, table);
}

/* peer_att_read(tbl uuid, file bigint, "offset" bigint, max int) returns bytea */
Datum
docrep_peer_att_read(PG_FUNCTION_ARGS)
{
	int64		offset = PG_GETARG_INT64(2);
	int32		max = PG_GETARG_INT32(3);
	bytea	   *piece;
	Size		n;

	if (offset < 0 || max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a peer asked for %d bytes of a content from byte " INT64_FORMAT " on",
						max, offset)));
	docrep_serve_prepare();
	max = Min(max, MAX_PIECE);
	piece = palloc(VARHDRSZ + max);
	n = docrep_serve_content_read(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), offset,
								  VARDATA(piece), max);
	SET_VARSIZE(piece, VARHDRSZ + n);
	PG_RETURN_BYTEA_P(piece);
}

/* The members of an array of n that has no NULL. */
static Datum *
array_members(ArrayType *array, Oid type, int *n)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Datum	   *members;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a peer asked for contents in another form than was agreed on")));
	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	deconstruct_array(array, type, typlen, typbyval, typalign, &members, NULL, n);
	return members;
}

/* peer_att_have(tbl uuid, id text, digests text[], lengths bigint[]) returns bigint[] */
Datum
docrep_peer_att_have(PG_FUNCTION_ARGS)
{
	int			n;
	int			nlengths;
	Datum	   *digests = array_members(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, &n);
	Datum	   *lengths = array_members(PG_GETARG_ARRAYTYPE_P(3), INT8OID, &nlengths);
	DocAtt	   *wanted = palloc0(Max(n, 1) * sizeof(DocAtt));
	int64	   *files = palloc(Max(n, 1) * sizeof(int64));
	Datum	   *result = palloc(Max(n, 1) * sizeof(Datum));

	if (n != nlengths)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("a peer asked for %d contents of %d lengths", n, nlengths)));
	for (int i = 0; i < n; i++)
	{
		wanted[i].digest = TextDatumGetCString(digests[i]);
		wanted[i].encoded_length = DatumGetInt64(lengths[i]);
	}
	docrep_serve_prepare();
	docrep_serve_contents_have(PG_GETARG_UUID_P(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
							   wanted, n, files);
	for (int i = 0; i < n; i++)
		result[i] = Int64GetDatum(files[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(result, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

/* peer_att_append(tbl uuid, upload bigint, data bytea) returns bigint */
Datum
docrep_peer_att_append(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *table = PG_GETARG_UUID_P(0);
	int64		number = PG_GETARG_INT64(1);
	bytea	   *data = PG_GETARG_BYTEA_PP(2);
	SessionUpload *volatile u;

	docrep_serve_prepare();
	u = obtain_upload(number, table);
	PG_TRY();
	{
		docrep_serve_content_append(table, &u->upload, u->cxt, VARDATA_ANY(data),
									VARSIZE_ANY_EXHDR(data));
	}
	PG_CATCH();
	{
		drop_upload(u);
		PG_RE_THROW();
	}
	PG_END_TRY();
	u->length += VARSIZE_ANY_EXHDR(data);
	PG_RETURN_INT64(u->length);
}

/* peer_att_finish(tbl uuid, upload bigint, OUT file bigint, OUT md5 bytea, OUT length bigint) */
Datum
docrep_peer_att_finish(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *table = PG_GETARG_UUID_P(0);
	int64		number = PG_GETARG_INT64(1);
	SessionUpload *volatile u = find_upload(number, table);
	bytea	   *md5 = palloc(VARHDRSZ + 16);
	int64		file = 0;
	int64		length = 0;
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (u == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("there is no upload " INT64_FORMAT " in this session", number),
				 errdetail("It has ended, or one of its pieces failed.")));
	PG_TRY();
	{
		file = docrep_serve_content_finish(table, u->upload, (uint8 *) VARDATA(md5), &length);
	}
	PG_FINALLY();
	{
		drop_upload(u);
	}
	PG_END_TRY();
	SET_VARSIZE(md5, VARHDRSZ + 16);
	values[0] = Int64GetDatum(file);
	values[1] = PointerGetDatum(md5);
	values[2] = Int64GetDatum(length);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  values, nulls)));
}
