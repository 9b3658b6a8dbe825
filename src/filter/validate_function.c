/*-------------------------------------------------------------------------
 *
 * validate_function.c
 *		Validators that are SQL functions.
 *
 * A function (new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS text is
 * called for each document that is about to be written, as the role that writes, like a
 * table's triggers.  NULL: it may be written.  A text is the reason why not (DR403); what
 * the function raises keeps its SQLSTATE.  It may be called several times for one write:
 * it may read, but not write.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "filter/validate.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/errcodes.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#define NARGS	4
#define NOT_THERE	"It does not exist"

struct ValidatorFunction
{
	char	   *signature;		/* qualified */
	char	   *name;			/* the same without arguments, for messages */
	MemoryContext cxt;
	MemoryContext call_cxt;		/* what the function keeps between calls; NULL: not looked up yet */
	int			calls;			/* that are under way */
	uint64		looked_up;		/* value of "changes" when it was; 0: not yet */
	FmgrInfo	finfo;
	Oid			rettype;
};

/* How often functions or schemas have changed, as far as this session has heard. */
static uint64 changes = 1;

static void
function_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	changes++;
}

ValidatorFunction *
docrep_validator_function_make(const char *signature)
{
	static bool registered = false;
	ValidatorFunction *function = palloc0(sizeof(ValidatorFunction));

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, function_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, function_changed, (Datum) 0);
		registered = true;
	}
	function->signature = pstrdup(signature);
	function->name = pnstrdup(signature, strcspn(signature, "("));
	function->cxt = CurrentMemoryContext;
	return function;
}

const char *
docrep_validator_function_signature(const ValidatorFunction *function)
{
	return function->signature;
}

/* What a validator may return: a reason, whether the document may be written, or nothing. */
static bool
is_answer(Oid rettype)
{
	return rettype == TEXTOID || rettype == BOOLOID || rettype == VOIDOID;
}

/* NULL if it is a function as validators are, else what is wrong. */
static const char *
function_problem(Oid oid)
{
	HeapTuple	tuple;
	Form_pg_proc form;
	bool		fits;
	bool		strict;

	if (!OidIsValid(oid))
		return NOT_THERE;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(oid));
	if (!HeapTupleIsValid(tuple))
		return NOT_THERE;
	form = (Form_pg_proc) GETSTRUCT(tuple);
	fits = form->prokind == PROKIND_FUNCTION && !form->proretset &&
		is_answer(form->prorettype) && form->pronargs == NARGS;
	for (int i = 0; fits && i < NARGS; i++)
		fits = form->proargtypes.values[i] == JSONBOID;
	strict = form->proisstrict;
	ReleaseSysCache(tuple);
	if (fits && strict)
		return "It is STRICT, and would not be called for new documents, whose old_doc is NULL";
	return fits ? NULL : "It is not of the form (new_doc jsonb, old_doc jsonb, user_ctx jsonb, sec_obj jsonb) RETURNS text (or boolean, or void)";
}

/* The function of a signature as we keep them, or InvalidOid. */
static Oid
find_function(const char *signature)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		oid;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(signature);
	fcinfo->args[0].isnull = false;
	oid = to_regprocedure(fcinfo);
	return fcinfo->isnull ? InvalidOid : DatumGetObjectId(oid);
}

char *
docrep_validator_function_problem(ValidatorFunction *function)
{
	const char *problem = function_problem(find_function(function->signature));

	return problem ? pstrdup(problem) : NULL;
}

/* Look it up unless that has been done since anything changed. */
static void
look_up(ValidatorFunction *function, DocTable *table)
{
	const char *problem;
	uint64		now = changes;
	Oid			oid;

	if (function->looked_up == now)
		return;
	function->looked_up = 0;
	oid = find_function(function->signature);
	problem = function_problem(oid);
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the validation function %s of document table \"%s\" cannot be called",
						function->name, RelationGetRelationName(table->rel)),
				 errdetail("%s. Nothing is written that has not been validated.", problem),
				 errhint("Create it again, or call docrep.set_validator().")));
	/* a function in SQL leaves its plan there, and others may change often */
	if (function->call_cxt && function->calls == 0)
		MemoryContextReset(function->call_cxt);
	else
		function->call_cxt = AllocSetContextCreate(function->cxt, "docrep validation function",
												   ALLOCSET_SMALL_SIZES);
	fmgr_info_cxt(oid, &function->finfo, function->call_cxt);
	function->rettype = get_func_rettype(oid);
	function->looked_up = now;
}

/* ---------- calling it ---------- */

static void
call_context(void *arg)
{
	DocValidation *doc = arg;

	errcontext("validation of document \"%s\"", doc->id);
}

/* The reason to refuse a document that an answer is, or NULL. */
static char *
reason_of(const ValidatorFunction *function, Datum answer, bool isnull)
{
	if (function->rettype == TEXTOID)
		return isnull ? NULL : TextDatumGetCString(answer);
	if (function->rettype == VOIDOID || (!isnull && DatumGetBool(answer)))
		return NULL;
	return psprintf("%s returned %s", function->name, isnull ? "NULL" : "false");
}

/* Call it for one document: its reason to refuse it, or NULL. */
static char *
call(ValidatorFunction *function, ValidationRun *run, DocValidation *doc)
{
	LOCAL_FCINFO(fcinfo, NARGS);
	bool		read_only = XactReadOnly;
	ErrorContextCallback context;
	Datum		result = (Datum) 0;

	InitFunctionCallInfoData(*fcinfo, &function->finfo, NARGS, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(doc->new_doc);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = JsonbPGetDatum(doc->old_doc);
	fcinfo->args[1].isnull = doc->old_doc == NULL;
	fcinfo->args[2].value = JsonbPGetDatum(run->user_ctx);
	fcinfo->args[2].isnull = false;
	fcinfo->args[3].value = JsonbPGetDatum(run->sec_obj);
	fcinfo->args[3].isnull = false;
	context.callback = call_context;
	context.arg = doc;
	context.previous = error_context_stack;
	error_context_stack = &context;
	PG_TRY();
	{
		XactReadOnly = true;
		function->calls++;
		result = FunctionCallInvoke(fcinfo);
	}
	PG_CATCH();
	{
		function->calls--;
		function->looked_up = 0;	/* what a function in SQL keeps is in the middle of the call */
		XactReadOnly = read_only;
		PG_RE_THROW();
	}
	PG_END_TRY();
	function->calls--;
	XactReadOnly = read_only;
	error_context_stack = context.previous;
	return reason_of(function, result, fcinfo->isnull);
}

/* Ask about one document.  *calling tells whether what is raised is the function's. */
static void
ask_one(ValidatorFunction *function, ValidationRun *run, DocValidation *doc, volatile bool *calling)
{
	char	   *reason;

	if (doc->sqlstate != 0)
		return;
	CHECK_FOR_INTERRUPTS();
	/* each time: one of the documents may have come with a new function */
	look_up(function, run->table);
	*calling = true;
	reason = call(function, run, doc);
	*calling = false;
	if (reason)
		docrep_validate_refuse(run, doc, ERRCODE_DOCREP_FORBIDDEN, reason,
							   psprintf("The validation function %s", function->name));
}

/*
 * Ask about the documents from *at on in one subtransaction, as a function in SQL is planned
 * anew in each.  NULL: all have been asked.  Else *at is the document about which the
 * function raised this; as functions only read, the answers before it stand.
 */
static ErrorData *
ask_together(ValidatorFunction *function, ValidationRun *run, volatile int *at)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile edata = NULL;
	volatile bool calling = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		for (; *at < run->n; (*at)++)
			ask_one(function, run, &run->docs[*at], &calling);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		if (!calling || !docrep_is_row_error(edata->sqlerrcode))
			ReThrowError(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return edata;
}

void
docrep_validator_function_ask(ValidatorFunction *function, ValidationRun *run)
{
	volatile int at = 0;
	bool		calling;
	ErrorData  *edata;

	if (!run->isolate)
	{
		for (int i = 0; i < run->n; i++)
			ask_one(function, run, &run->docs[i], &calling);
		return;
	}
	/* what it raises about a document is its reason */
	while (at < run->n && (edata = ask_together(function, run, &at)) != NULL)
	{
		docrep_validate_refuse(run, &run->docs[at], edata->sqlerrcode,
							   edata->message ? edata->message : "refused",
							   psprintf("The validation function %s", function->name));
		at++;
	}
}

/* ---------- docrep.set_validator() ---------- */

/* The signature of a function that may be a validator, and that the caller may call. */
static char *
signature_of(Oid oid)
{
	const char *problem = function_problem(oid);
	AclResult	acl;

	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("function %s cannot validate documents", format_procedure(oid)),
				 errdetail("%s.", problem)));
	acl = docrep_may_execute(oid);
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, get_func_name(oid));
	InvokeFunctionExecuteHook(oid);
	return format_procedure_qualified(oid);
}

PG_FUNCTION_INFO_V1(docrep_set_validator);

/* docrep.set_validator(tbl regclass, validator regprocedure): owner only; NULL: none any more. */
Datum
docrep_set_validator(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	bool		none = PG_ARGISNULL(1);
	Datum		value = (Datum) 0;

	docrep_table_check_owner(table);
	if (!none)
		value = CStringGetTextDatum(signature_of(PG_GETARG_OID(1)));
	docrep_settings_write(&table->info.uuid, "validator", TEXTOID, value, none);
	CacheInvalidateRelcacheByRelid(table->info.relid);
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}
