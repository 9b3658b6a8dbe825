/*-------------------------------------------------------------------------
 *
 * filter_function.c
 *		Filters that are SQL functions.
 *
 * A function (doc jsonb, req jsonb) RETURNS boolean is called for every revision, as the
 * role that reads the feed.  It is called any number of times for the same revision,
 * at times of the replication's choosing: it may read, but not write.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "filter/filter.h"
#include "filter/filter_function.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/jsonb_raw.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

struct FilterFunction
{
	char	   *name;			/* qualified and quoted */
	Oid			oid;
	FmgrInfo	finfo;
	Datum		req;
};

/* ---------- finding it ---------- */

/* The parts of "schema.function"; DR400 if it is not that. */
static List *
split_name(const char *name)
{
	List	   *parts = NIL;
	List	   *result = NIL;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) || list_length(parts) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("malformed filter \"%s\"", name),
				 errdetail("A filter is \"schema.function\", \"designdoc/name\", or a built-in one.")));
	foreach(lc, parts)
		result = lappend(result, makeString(pstrdup(lfirst(lc))));
	return result;
}

/* Look it up; DR404 if it is not there. */
static Oid
find_function(const char *name)
{
	Oid			argtypes[2] = {JSONBOID, JSONBOID};
	Oid			oid = LookupFuncName(split_name(name), 2, argtypes, true);

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("the filter function %s(doc jsonb, req jsonb) does not exist", name)));
	return oid;
}

/* Is it a function as filters are, and may the role call it? */
static void
check_function(Oid oid, const char *name)
{
	AclResult	acl;

	if (get_func_prokind(oid) != PROKIND_FUNCTION || get_func_retset(oid) ||
		get_func_rettype(oid) != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the filter function %s must return boolean", name)));
	acl = docrep_may_execute(oid);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, name);
	InvokeFunctionExecuteHook(oid);
}

/* What the function gets as req. */
static Jsonb *
make_req(const char *query_params)
{
	RawBuilder	req;
	Jsonb	   *query = docrep_json_parse(query_params ? query_params : "{}");

	docrep_raw_init(&req, true, 1);
	docrep_raw_add_jsonb(&req, "query", query);
	return docrep_raw_finish(&req);
}

FilterFunction *
docrep_filter_function_find(const char *name, const char *query_params)
{
	FilterFunction *function = palloc0(sizeof(FilterFunction));

	function->oid = find_function(name);
	function->name = quote_qualified_identifier(get_namespace_name(get_func_namespace(function->oid)),
												get_func_name(function->oid));
	check_function(function->oid, function->name);
	fmgr_info_cxt(function->oid, &function->finfo, CurrentMemoryContext);
	function->req = JsonbPGetDatum(make_req(query_params));
	return function;
}

/* ---------- calling it ---------- */

/* An error of the function's: say of which document.  That somebody wants us to stop is none. */
static void
rethrow(const FilterFunction *function, const char *id, MemoryContext cxt)
{
	ErrorData  *error;

	MemoryContextSwitchTo(cxt);
	error = CopyErrorData();
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
		PG_RE_THROW();
	FlushErrorState();
	error->message = psprintf("filter %s failed for document \"%s\": %s", function->name, id,
							  error->message);
	ReThrowError(error);
}

bool
docrep_filter_function_call(FilterFunction *function, const DocFeedLeaf *leaf)
{
	LOCAL_FCINFO(fcinfo, 2);
	MemoryContext cxt = CurrentMemoryContext;
	bool		read_only = XactReadOnly;
	Datum		result = (Datum) 0;

	InitFunctionCallInfoData(*fcinfo, &function->finfo, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(docrep_filter_document(leaf));
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = function->req;
	fcinfo->args[1].isnull = false;
	PG_TRY();
	{
		XactReadOnly = true;
		result = FunctionCallInvoke(fcinfo);
		XactReadOnly = read_only;
	}
	PG_CATCH();
	{
		XactReadOnly = read_only;
		rethrow(function, leaf->id, cxt);
	}
	PG_END_TRY();
	if (fcinfo->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("filter %s returned NULL for document \"%s\"", function->name, leaf->id),
				 errhint("A filter must return true or false for every document, tombstones included.")));
	return DatumGetBool(result);
}

/* ---------- what it is ---------- */

/* Append a text so that no two lists of texts give the same bytes. */
static void
add_part(StringInfo parts, const char *text)
{
	appendStringInfo(parts, "%zu:%s;", strlen(text), text);
}

/* The settings that a function runs with. */
static char *
config_text(Datum config)
{
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(TEXTARRAYOID, &output, &varlena);
	return OidOutputFunctionCall(output, config);
}

/* A column of pg_proc as text; "" for NULL. */
static char *
proc_text(HeapTuple tuple, AttrNumber attno)
{
	bool		isnull;
	Datum		value = SysCacheGetAttr(PROCOID, tuple, attno, &isnull);

	if (isnull)
		return "";
	if (attno == Anum_pg_proc_proconfig)
		return config_text(value);
	return TextDatumGetCString(value);
}

/*
 * What decides what the function does, but not what it calls.  A body in SQL's own
 * syntax has no source text: it is written out again.
 */
static void
add_code(StringInfo parts, Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", oid);
	add_part(parts, get_language_name(((Form_pg_proc) GETSTRUCT(tuple))->prolang, false));
	add_part(parts, proc_text(tuple, Anum_pg_proc_prosrc));
	add_part(parts, proc_text(tuple, Anum_pg_proc_probin));
	add_part(parts, proc_text(tuple, Anum_pg_proc_proconfig));
	(void) SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &isnull);
	if (!isnull)
		add_part(parts, TextDatumGetCString(DirectFunctionCall1(pg_get_function_sqlbody,
																ObjectIdGetDatum(oid))));
	ReleaseSysCache(tuple);
}

char *
docrep_filter_function_identity(const FilterFunction *function)
{
	StringInfoData parts;
	StringInfoData result;
	XXH128_canonical_t digest;

	initStringInfo(&parts);
	add_code(&parts, function->oid);
	XXH128_canonicalFromHash(&digest, XXH3_128bits(parts.data, parts.len));
	initStringInfo(&result);
	appendStringInfo(&result, "%s ", function->name);
	for (size_t i = 0; i < sizeof(digest.digest); i++)
		appendStringInfo(&result, "%02x", digest.digest[i]);
	pfree(parts.data);
	return result.data;
}
