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
 * The documents of a batch are asked about in one subtransaction: a function in SQL is
 * planned anew in each, which takes longer than calling it.  When a call fails, what those
 * before it did is gone with it, and they are made again; the failed one is not.  So what is
 * left in the end is what calls with a subtransaction each, in the same order, would leave.
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
#include "store/origins.h"
#include "store/resolver.h"
#include "store/rev_type.h"
#include "store/table_settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
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

/* The tables whose resolvers are at work, the innermost first. */
typedef struct AtWork
{
	Oid			relid;
	const struct AtWork *outer;
} AtWork;

static const AtWork *at_work = NULL;

/*
 * Call a resolver, but not in the middle of a call for the same table: one that makes a conflict
 * each time would go on until the stack ends, with all that it writes tried again at each level.
 */
static Datum
invoke_once(FunctionCallInfo fcinfo)
{
	AtWork		this = {DatumGetObjectId(fcinfo->args[0].value), at_work};
	Datum		result;

	for (const AtWork *w = at_work; w != NULL; w = w->outer)
	{
		if (w->relid == this.relid)
			ereport(ERROR,
					(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
					 errmsg("a resolver is not asked about a conflict that it makes itself")));
	}
	at_work = &this;
	PG_TRY();
	{
		result = FunctionCallInvoke(fcinfo);
	}
	PG_FINALLY();
	{
		at_work = this.outer;
	}
	PG_END_TRY();
	return result;
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
		DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	values[2] = BoolGetDatum(false);
	values[3] = TimestampTzGetDatum(version->leaf.modified);
	values[4] = UUIDPGetDatum(origin ? origin : docrep_table_node(table));
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* What the calls of one subtransaction share. */
typedef struct Caller
{
	DocTable   *table;
	FmgrInfo	finfo;
	Oid			version_type;
	TupleDesc	version_desc;
	MemoryContext result_cxt;	/* for answers */
	MemoryContext call_cxt;		/* for one call; below that of the subtransaction's */
} Caller;

static Datum
versions_array(Caller *caller, const ResolverAsk *ask)
{
	Datum	   *datums = palloc(ask->n * sizeof(Datum));

	for (int i = 0; i < ask->n; i++)
		datums[i] = version_datum(caller->table, &ask->versions[i], caller->version_desc);
	return PointerGetDatum(construct_array(datums, ask->n, caller->version_type, -1, false,
										   TYPALIGN_DOUBLE));
}

/* As the table's owner: look the function up, for calls from this subtransaction. */
static void
prepare_calls(Caller *caller, DocTable *table, const char *signature)
{
	Oid			oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
														   CStringGetDatum(signature)));

	check_function(oid);
	caller->table = table;
	fmgr_info(oid, &caller->finfo);
	caller->version_type = version_type();
	caller->version_desc = lookup_rowtype_tupdesc_copy(caller->version_type, -1);
	caller->call_cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep resolver call",
											 ALLOCSET_DEFAULT_SIZES);
}

/* What the function returned, or NULL.  As the table's owner. */
static Jsonb *
call_function(Caller *caller, const ResolverAsk *ask)
{
	LOCAL_FCINFO(fcinfo, 3);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, &caller->finfo, 3, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(caller->table->info.relid);
	fcinfo->args[1].value = CStringGetTextDatum(ask->id);
	fcinfo->args[2].value = versions_array(caller, ask);
	for (int i = 0; i < 3; i++)
		fcinfo->args[i].isnull = false;
	result = invoke_once(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(result);
}

/* Take the answer apart: a body, or {"_deleted": true}. */
static void
read_answer(Jsonb *answer, ResolverAsk *ask, MemoryContext result_cxt)
{
	const char *id = ask->id;
	DocWrite	write;
	MemoryContext old;

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
	ask->deleted = write.deleted;
	old = MemoryContextSwitchTo(result_cxt);
	if (write.body)
		ask->body = (Jsonb *) DatumGetPointer(datumCopy(JsonbPGetDatum(write.body), false, -1));
	MemoryContextSwitchTo(old);
	ask->answer = RESOLVER_ANSWERED;
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

/*
 * Ask about one document.  A call sees what those before it have done, and what it sets
 * ends with it.
 */
static void
ask_one(Caller *caller, ResolverAsk *ask)
{
	MemoryContext old = MemoryContextSwitchTo(caller->call_cxt);
	int			guc_level = NewGUCNestLevel();
	Jsonb	   *answer;

	CHECK_FOR_INTERRUPTS();
	ask->answer = RESOLVER_DECLINED;
	ask->body = NULL;
	ask->deleted = false;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	answer = call_function(caller, ask);
	if (answer)
		read_answer(answer, ask, caller->result_cxt);
	PopActiveSnapshot();
	AtEOXact_GUC(false, guc_level);
	MemoryContextSwitchTo(old);
	MemoryContextReset(caller->call_cxt);
}

/*
 * Ask about some documents in one subtransaction.  Returns NULL, or an error with which all
 * that they did is rolled back; *failed is then whose it is: n: the last call had
 * returned; -1: the function cannot be called.  What concerns more than a call is raised.
 */
static ErrorData *
ask_together(DocTable *table, const char *signature, ResolverAsk *asks, int n,
			 volatile int *failed)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext run_cxt = AllocSetContextCreate(cxt, "docrep resolver", ALLOCSET_DEFAULT_SIZES);
	ErrorData  *volatile error = NULL;

	*failed = -1;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(run_cxt);
	PG_TRY();
	{
		Caller		caller = {.result_cxt = cxt};
		AsOwner		as;

		become_owner(table, &as);
		CommandCounterIncrement();
		PushActiveSnapshot(GetTransactionSnapshot());
		prepare_calls(&caller, table, signature);
		PopActiveSnapshot();
		for (*failed = 0; *failed < n; (*failed)++)
			ask_one(&caller, &asks[*failed]);
		become_caller(&as);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	MemoryContextDelete(run_cxt);
	if (error && must_be_raised(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

static void
note_failure(ResolverAsk *ask, ErrorData *error)
{
	ask->answer = RESOLVER_FAILED;
	ask->body = NULL;
	ask->deleted = false;
	ask->error = error;
}

/*
 * Ask again about documents of which none has failed.  If now one does, as it can if the function
 * depends on what outlives a rollback, each is on its own.
 */
static void
ask_again(DocTable *table, const char *signature, ResolverAsk *asks, int n)
{
	volatile int failed;

	if (n == 0 || ask_together(table, signature, asks, n, &failed) == NULL)
		return;
	for (int i = 0; i < n; i++)
	{
		ErrorData  *error = ask_together(table, signature, &asks[i], 1, &failed);

		if (error)
			note_failure(&asks[i], error);
	}
}

void
docrep_resolver_ask(DocTable *table, ResolverAsk *asks, int n)
{
	char	   *signature;
	int			lo = 0;

	if (n == 0)
		return;
	signature = docrep_settings_read(&table->info.uuid)->resolver;
	/* what is kept of it must not be rolled back */
	(void) docrep_table_node(table);
	while (signature && lo < n)
	{
		volatile int at;
		int			failed;
		ErrorData  *error = ask_together(table, signature, asks + lo, n - lo, &at);

		if (error == NULL)
			break;
		if (at < 0)
		{
			for (; lo < n; lo++)
				note_failure(&asks[lo], error);
			break;
		}
		failed = lo + at;
		ask_again(table, signature, asks + lo, failed - lo);
		if (failed < n)
			note_failure(&asks[failed], error);
		lo = failed + 1;
	}
}
