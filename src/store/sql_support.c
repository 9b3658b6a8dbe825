/*-------------------------------------------------------------------------
 *
 * sql_support.c
 *		What the SQL functions of the store have in common.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/sql_support.h"
#include "utils/builtins.h"

/* Raise DR400: a parameter that must be given is NULL. */
static void
missing_argument(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("\"%s\" must not be NULL", name)));
}

/* The parameter tbl. */
Oid
docrep_arg_table(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		missing_argument("tbl");
	return PG_GETARG_OID(argno);
}

/* A parameter of type text that must be given. */
char *
docrep_arg_id(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		missing_argument(name);
	return text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* A parameter of type jsonb that must be given. */
Jsonb *
docrep_arg_jsonb(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		missing_argument(name);
	return PG_GETARG_JSONB_P(argno);
}

/* A parameter of type int that must be given. */
int32
docrep_arg_int32(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		missing_argument(name);
	return PG_GETARG_INT32(argno);
}

/* Start a set-returning function that fills a tuplestore, which is returned. */
Tuplestorestate *
docrep_srf_begin(FunctionCallInfo fcinfo, TupleDesc *tupdesc)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext old;
	Tuplestorestate *store;

	if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo) ||
		(rsinfo->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));

	old = MemoryContextSwitchTo(rsinfo->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	store = tuplestore_begin_heap((rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
								  false, work_mem);
	rsinfo->returnMode = SFRM_Materialize;
	rsinfo->setResult = store;
	rsinfo->setDesc = *tupdesc;
	MemoryContextSwitchTo(old);
	return store;
}

/* The array in value or in its member "docs". */
const JsonbContainer *
docrep_docs_array(const Jsonb *value, const char *name)
{
	RawValue	docs;

	if (JB_ROOT_IS_ARRAY(value) && !JB_ROOT_IS_SCALAR(value))
		return &value->root;
	if (JB_ROOT_IS_OBJECT(value) && docrep_raw_find(&value->root, "docs", &docs) &&
		docrep_raw_is_array(&docs))
		return (const JsonbContainer *) docs.data;
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("\"%s\" must be an array, or an object with an array \"docs\"", name)));
}
