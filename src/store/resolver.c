/*-------------------------------------------------------------------------
 *
 * resolver.c
 *		Asking a table's resolver, a function of the user's.
 *
 * It runs in the middle of whoever stores a conflict, be it a replication of a
 * superuser's.  So it runs as index functions do: as the table's owner, in an operation
 * that cannot change the role or leave anything behind to be run later, and in a
 * subtransaction, so that its errors harm nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/origins.h"
#include "store/resolver.h"
#include "store/rev_type.h"
#include "store/table_settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* columns of the type docrep.version */
#define NATTS_VERSION	5

static Oid
version_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("version"),
						   ObjectIdGetDatum(get_namespace_oid("docrep", false)));
}

/* ---------- as the table's owner ---------- */

typedef struct AsOwner
{
	Oid			saved_user;
	int			saved_context;
	int			guc_level;
} AsOwner;

static void
become_owner(DocTable *table, AsOwner *as)
{
	GetUserIdAndSecContext(&as->saved_user, &as->saved_context);
	as->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(table->rel->rd_rel->relowner,
						   as->saved_context | SECURITY_RESTRICTED_OPERATION);
}

static void
become_caller(const AsOwner *as)
{
	AtEOXact_GUC(false, as->guc_level);
	SetUserIdAndSecContext(as->saved_user, as->saved_context);
}

/* ---------- what is a resolver ---------- */

/* As the table's owner: refuse what is none, or may not be called. */
static void
check_function(Oid oid)
{
	Oid		   *types;
	int			nargs;
	AclResult	acl;

	(void) get_func_signature(oid, &types, &nargs);
	if (nargs != 3 || types[0] != REGCLASSOID || types[1] != TEXTOID ||
		types[2] != get_array_type(version_type()) || get_func_rettype(oid) != JSONBOID ||
		get_func_prokind(oid) != PROKIND_FUNCTION || get_func_retset(oid))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("%s is no resolver", format_procedure(oid)),
				 errdetail("A resolver is a function (tbl regclass, id text, versions docrep.version[]) RETURNS jsonb.")));
	acl = docrep_may_execute(oid);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, get_func_name(oid));
}

void
docrep_resolver_check(DocTable *table, Oid resolver)
{
	AsOwner		as;

	become_owner(table, &as);
	check_function(resolver);
	become_caller(&as);
}

/* ---------- calling it ---------- */

/* A version as the function gets it. */
static Datum
version_datum(DocTable *table, const DocVersion *version, TupleDesc desc)
{
	Datum		values[NATTS_VERSION];
	bool		nulls[NATTS_VERSION] = {false};
	const pg_uuid_t *origin = version->leaf.origin;

	values[0] = docrep_rev_datum(&version->rev);
	values[1] = version->leaf.doc ? JsonbPGetDatum(version->leaf.doc) :
		JsonbPGetDatum(docrep_json_parse("{}"));
	values[2] = BoolGetDatum(false);
	values[3] = TimestampTzGetDatum(version->leaf.modified);
	values[4] = UUIDPGetDatum(origin ? origin : docrep_table_node(table));
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

static Datum
versions_array(DocTable *table, const DocVersion *versions, int n)
{
	Oid			type = version_type();
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);
	Datum	   *datums = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
		datums[i] = version_datum(table, &versions[i], desc);
	return PointerGetDatum(construct_array(datums, n, type, -1, false, TYPALIGN_DOUBLE));
}

/* What the function returned, or NULL.  As the table's owner. */
static Jsonb *
call_function(DocTable *table, const char *signature, const char *id, Datum versions)
{
	LOCAL_FCINFO(fcinfo, 3);
	FmgrInfo	finfo;
	Oid			oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
														   CStringGetDatum(signature)));
	Datum		result;

	check_function(oid);
	fmgr_info(oid, &finfo);
	InitFunctionCallInfoData(*fcinfo, &finfo, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(table->info.relid);
	fcinfo->args[1].value = CStringGetTextDatum(id);
	fcinfo->args[2].value = versions;
	for (int i = 0; i < 3; i++)
		fcinfo->args[i].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(result);
}

/* The same, as the caller; if it is raised, the subtransaction's end makes us that one again. */
static Jsonb *
call_as_owner(DocTable *table, const char *signature, const char *id, Datum versions)
{
	AsOwner		as;
	Jsonb	   *result;

	become_owner(table, &as);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	result = call_function(table, signature, id, versions);
	PopActiveSnapshot();
	become_caller(&as);
	return result;
}

/* The answer, in the current context. */
static Jsonb *
copy_answer(const Jsonb *answer)
{
	Jsonb	   *copy = palloc(VARSIZE(answer));

	memcpy(copy, answer, VARSIZE(answer));
	return copy;
}

/* Take the answer apart: a body, or {"_deleted": true}. */
static void
read_answer(Jsonb *answer, const char *id, Jsonb **body, bool *deleted)
{
	DocWrite	write;

	if (!JB_ROOT_IS_OBJECT(answer) || JB_ROOT_IS_SCALAR(answer))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the resolver returned no object for document \"%s\"", id)));
	memset(&write, 0, sizeof(write));
	docrep_document_parse(answer, true, &write);
	if (write.id || write.path.n > 0 || write.has_atts)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the resolver returned members that begin with \"_\" for document \"%s\"", id),
				 errdetail("The only one that it may return is _deleted.")));
	*deleted = write.deleted;
	*body = write.body;
}

/* What the function did not cause, or what ends more than this call. */
static bool
must_be_raised(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* serialization, deadlock */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* insufficient resources */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* cancel, shutdown */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system error */
			return true;
		default:
			return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

ResolverAnswer
docrep_resolver_ask(DocTable *table, const char *id, const DocVersion *versions, int n,
					Jsonb **body, bool *deleted, ErrorData **error)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext call_cxt;
	volatile ResolverAnswer result = RESOLVER_DECLINED;
	char	   *signature;
	Datum		array;

	*body = NULL;
	*deleted = false;
	*error = NULL;
	/* of its own: a function in SQL leaves its plan there, and a batch may have many conflicts */
	call_cxt = AllocSetContextCreate(cxt, "docrep resolver", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(call_cxt);
	signature = docrep_settings_read(&table->info.uuid)->resolver;
	if (signature == NULL)
	{
		MemoryContextSwitchTo(cxt);
		MemoryContextDelete(call_cxt);
		return RESOLVER_DECLINED;
	}
	array = versions_array(table, versions, n);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(call_cxt);
	PG_TRY();
	{
		Jsonb	   *answer = call_as_owner(table, signature, id, array);

		if (answer)
		{
			MemoryContextSwitchTo(cxt);
			read_answer(copy_answer(answer), id, body, deleted);
			result = RESOLVER_ANSWERED;
		}
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(cxt);
		CurrentResourceOwner = owner;
		if (must_be_raised((*error)->sqlerrcode))
			ReThrowError(*error);
		result = RESOLVER_FAILED;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	MemoryContextDelete(call_cxt);
	CurrentResourceOwner = owner;
	return result;
}
