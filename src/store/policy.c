/*-------------------------------------------------------------------------
 *
 * policy.c
 *		What a document table does about conflicts by itself: the setting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/resolver.h"
#include "store/sql_support.h"
#include "store/table_settings.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/varlena.h"

DocPolicyHook docrep_policy_hook = NULL;

/* The step of a name; 0: "keep"; -1: none. */
static int
step_of(const char *name)
{
	static const struct
	{
		const char *name;
		int			step;
	}			steps[] = {
		{"keep", 0},
		{"identical", DOCREP_POLICY_IDENTICAL},
		{"function", DOCREP_POLICY_FUNCTION},
		{"latest", DOCREP_POLICY_LATEST},
		{"mark", DOCREP_POLICY_MARK}
	};

	for (size_t i = 0; i < lengthof(steps); i++)
	{
		if (strcmp(steps[i].name, name) == 0)
			return steps[i].step;
	}
	return -1;
}

/* A policy that is one word: it brings the steps before it along. */
static int
steps_of_word(int step, bool has_resolver)
{
	if (step == 0)
		return 0;
	if (has_resolver && (step == DOCREP_POLICY_LATEST || step == DOCREP_POLICY_MARK))
		step |= DOCREP_POLICY_FUNCTION;
	return step | DOCREP_POLICY_IDENTICAL;
}

int
docrep_policy_steps(const char *policy, bool has_resolver, const char **problem)
{
	List	   *names;
	ListCell   *lc;
	int			steps = 0;
	bool		keep = false;

	*problem = NULL;
	if (!SplitIdentifierString(pstrdup(policy), ',', &names) || names == NIL)
		*problem = "It is no list of steps.";
	foreach(lc, *problem ? NIL : names)
	{
		int			step = step_of(lfirst(lc));

		if (step < 0)
			*problem = psprintf("There is no step \"%s\".", (char *) lfirst(lc));
		else if (step == 0 ? keep : (steps & step) != 0)
			*problem = psprintf("Step \"%s\" is there twice.", (char *) lfirst(lc));
		if (*problem)
			return -1;
		keep |= step == 0;
		steps |= step;
	}
	if (*problem)
		return -1;
	if (list_length(names) == 1)
		steps = steps_of_word(steps, has_resolver);
	if (keep && (steps & DOCREP_POLICY_MARK))
		*problem = "What is left of conflicts can be kept or marked, not both.";
	else if ((steps & DOCREP_POLICY_FUNCTION) && !has_resolver)
		*problem = "Step \"function\" needs a resolver.";
	else if (has_resolver && !(steps & DOCREP_POLICY_FUNCTION))
		*problem = "The resolver would never be called, as there is no step \"function\".";
	return *problem ? -1 : steps;
}

PG_FUNCTION_INFO_V1(docrep_set_conflict_policy);

/* docrep.set_conflict_policy(tbl regclass, policy text, resolver regprocedure): owner only */
Datum
docrep_set_conflict_policy(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, 0);
	char	   *policy = docrep_arg_id(fcinfo, 1, "policy");
	Oid			resolver = PG_ARGISNULL(2) ? InvalidOid : PG_GETARG_OID(2);
	char	   *signature = NULL;
	const char *problem;

	docrep_table_check_owner(table);
	if (docrep_policy_steps(policy, OidIsValid(resolver), &problem) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad conflict policy \"%s\"", policy),
				 errdetail_internal("%s", problem),
				 errhint("A policy is keep, identical, function, latest or mark, or several of these steps with commas, which are taken in the order identical, function, latest, then keep or mark.")));
	if (OidIsValid(resolver))
	{
		docrep_resolver_check(table, resolver);
		signature = format_procedure_qualified(resolver);
	}
	/*
	 * Who is writing now does so by the policy that was, and would leave conflicts that are
	 * looked for before they are committed: they are waited for.
	 */
	docrep_settings_lock(table);
	docrep_settings_write(&table->info.uuid, "conflict_policy", TEXTOID,
						  CStringGetTextDatum(policy), false);
	docrep_settings_write(&table->info.uuid, "resolver", TEXTOID,
						  signature ? CStringGetTextDatum(signature) : (Datum) 0,
						  signature == NULL);
	docrep_rounds_forget_all(table);
	CacheInvalidateRelcacheByRelid(table->info.relid);
	if (docrep_policy_hook)
		docrep_policy_hook(table);
	docrep_table_close(table, NoLock);
	PG_RETURN_VOID();
}
