/*-------------------------------------------------------------------------
 *
 * rev_type.c
 *		The SQL type docrep.rev: input, output, order, hash.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "store/errcodes.h"
#include "store/rev_type.h"

PG_FUNCTION_INFO_V1(docrep_rev_in);
PG_FUNCTION_INFO_V1(docrep_rev_out);
PG_FUNCTION_INFO_V1(docrep_rev_recv);
PG_FUNCTION_INFO_V1(docrep_rev_send);
PG_FUNCTION_INFO_V1(docrep_rev_lt);
PG_FUNCTION_INFO_V1(docrep_rev_le);
PG_FUNCTION_INFO_V1(docrep_rev_eq_op);
PG_FUNCTION_INFO_V1(docrep_rev_ne);
PG_FUNCTION_INFO_V1(docrep_rev_ge);
PG_FUNCTION_INFO_V1(docrep_rev_gt);
PG_FUNCTION_INFO_V1(docrep_rev_cmp_op);
PG_FUNCTION_INFO_V1(docrep_rev_hash);
PG_FUNCTION_INFO_V1(docrep_rev_hash_extended);
PG_FUNCTION_INFO_V1(docrep_rev_generation);
PG_FUNCTION_INFO_V1(docrep_rev_hash_part);

/*
 * Raise an error: a stored value is not what we wrote.
 */
void
docrep_report_corrupt(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("a stored %s is malformed", what)));
}

/*
 * Take apart argument n of a function.
 */
static inline void
get_arg_rev(FunctionCallInfo fcinfo, int n, Rev *rev)
{
	docrep_datum_rev(PG_GETARG_DATUM(n), rev);
}

/*
 * Text to revision.
 */
Datum
docrep_rev_in(PG_FUNCTION_ARGS)
{
	const char *text = PG_GETARG_CSTRING(0);
	size_t		len = strlen(text);
	uint8	   *buf = palloc(len + 1);
	const char *wrong;
	Rev			rev;

	wrong = docrep_rev_parse(text, len, buf, &rev);
	if (wrong != NULL)
		docrep_soft_ereport(fcinfo,
							(errcode(ERRCODE_DOCREP_BAD_REQUEST),
							 errmsg("invalid revision \"%s\": %s", text, wrong)));
	return docrep_rev_datum(&rev);
}

/*
 * Revision to text.
 */
Datum
docrep_rev_out(PG_FUNCTION_ARGS)
{
	char	   *text = palloc(REV_TEXT_SIZE);
	Rev			rev;

	get_arg_rev(fcinfo, 0, &rev);
	docrep_rev_print(&rev, text);
	PG_RETURN_CSTRING(text);
}

/*
 * Binary to revision: the payload itself, checked.
 */
Datum
docrep_rev_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			len = buf->len - buf->cursor;
	const char *bytes = pq_getmsgbytes(buf, len);
	Rev			rev;

	if (!docrep_rev_unpack((const uint8 *) bytes, (size_t) len, &rev))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid binary form of a revision")));
	if (!rev.hex)
		pg_verifymbstr((const char *) rev.bytes, rev.len, false);
	return docrep_rev_datum(&rev);
}

/*
 * Revision to binary.
 */
Datum
docrep_rev_send(PG_FUNCTION_ARGS)
{
	struct varlena *value = PG_GETARG_VARLENA_PP(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/*
 * Compare the two arguments of an operator.  Index code wants no detoasted
 * copies left behind.
 */
static int
compare_args(FunctionCallInfo fcinfo)
{
	struct varlena *x = PG_GETARG_VARLENA_PP(0);
	struct varlena *y = PG_GETARG_VARLENA_PP(1);
	Rev			a;
	Rev			b;
	int			result;

	docrep_datum_rev(PointerGetDatum(x), &a);
	docrep_datum_rev(PointerGetDatum(y), &b);
	result = docrep_rev_cmp(&a, &b);
	PG_FREE_IF_COPY(x, 0);
	PG_FREE_IF_COPY(y, 1);
	return result;
}

Datum
docrep_rev_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_args(fcinfo) < 0);
}

Datum
docrep_rev_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_args(fcinfo) <= 0);
}

Datum
docrep_rev_eq_op(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_args(fcinfo) == 0);
}

Datum
docrep_rev_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_args(fcinfo) != 0);
}

Datum
docrep_rev_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_args(fcinfo) >= 0);
}

Datum
docrep_rev_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(compare_args(fcinfo) > 0);
}

Datum
docrep_rev_cmp_op(PG_FUNCTION_ARGS)
{
	int			result = compare_args(fcinfo);

	/* sorting negates it: never the smallest integer */
	PG_RETURN_INT32(result < 0 ? -1 : (result > 0 ? 1 : 0));
}

/*
 * What equality looks at and nothing else: generation and bytes, not how they
 * are printed.
 */
Datum
docrep_rev_hash(PG_FUNCTION_ARGS)
{
	Rev			rev;

	get_arg_rev(fcinfo, 0, &rev);
	return UInt32GetDatum(hash_combine(murmurhash32(rev.gen),
									   hash_bytes(rev.bytes, rev.len)));
}

Datum
docrep_rev_hash_extended(PG_FUNCTION_ARGS)
{
	uint64		seed = DatumGetUInt64(PG_GETARG_DATUM(1));
	Rev			rev;

	get_arg_rev(fcinfo, 0, &rev);
	return UInt64GetDatum(hash_combine64(hash_bytes_uint32_extended(rev.gen, seed),
										 hash_bytes_extended(rev.bytes, rev.len, seed)));
}

/*
 * N of "N-string".
 */
Datum
docrep_rev_generation(PG_FUNCTION_ARGS)
{
	Rev			rev;

	get_arg_rev(fcinfo, 0, &rev);
	PG_RETURN_INT32((int32) rev.gen);
}

/*
 * The string of "N-string".
 */
Datum
docrep_rev_hash_part(PG_FUNCTION_ARGS)
{
	char		text[REV_TEXT_SIZE];
	size_t		len;
	Rev			rev;

	get_arg_rev(fcinfo, 0, &rev);
	len = docrep_rev_print_id(&rev, text);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text, (int) len));
}
