/*-------------------------------------------------------------------------
 *
 * selector_plan.c
 *		docrep.find() in the FROM clause of a statement that is planned: what it
 *		runs becomes part of the statement's plan.
 *
 * So EXPLAIN shows which index serves the selector, a LIMIT around it reaches the
 * index, and nothing is collected before it is returned.  It is what the server
 * does by itself with functions in SQL of which it knows the text beforehand.  Calls
 * whose arguments are not known when planning are made as any function's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "filter/selector_find.h"

/* The parameters of docrep.find() and docrep.find_query(), and where find looks for names. */
#define FIND_NARGS			6
#define FIND_SEARCH_PATH	"pg_catalog, docrep, pg_temp"

static planner_hook_type prev_planner;

/*
 * Is it docrep.find(), and may the current role call it?
 */
static bool
is_find(const FuncExpr *call)
{
	char	   *name;
	char	   *schema;

	if (!call->funcretset || call->funcresulttype != JSONBOID)
		return false;
	name = get_func_name(call->funcid);
	if (name == NULL || strcmp(name, "find") != 0)
		return false;
	schema = get_namespace_name(get_func_namespace(call->funcid));
	return schema != NULL && strcmp(schema, "docrep") == 0 && docrep_may_execute(call->funcid) == ACLCHECK_OK;
}

/*
 * The text that a call runs.  NULL if it is not known yet, or nothing: an argument
 * is no constant, or table or selector is NULL.
 */
static char *
query_text(FuncExpr *given)
{
	/* names and defaults of arguments become arguments in their order */
	Node	   *node = eval_const_expressions(NULL, (Node *) copyObject(given));
	FuncExpr   *call = (FuncExpr *) node;
	LOCAL_FCINFO(fcinfo, FIND_NARGS);
	Datum		statement;

	if (!IsA(node, FuncExpr) || list_length(call->args) != FIND_NARGS)
		return NULL;
	InitFunctionCallInfoData(*fcinfo, NULL, FIND_NARGS, InvalidOid, NULL, NULL);
	for (int i = 0; i < FIND_NARGS; i++)
	{
		Const	   *arg = (Const *) list_nth(call->args, i);

		if (!IsA(arg, Const))
			return NULL;
		fcinfo->args[i].value = arg->constvalue;
		fcinfo->args[i].isnull = arg->constisnull;
	}
	statement = docrep_find_query(fcinfo);
	return fcinfo->isnull ? NULL : TextDatumGetCString(statement);
}

/*
 * The statement as the planner wants it.  Names mean what they mean to find,
 * whatever the search_path of the session.
 */
static Query *
analyze(const char *text)
{
	int			nest = NewGUCNestLevel();
	List	   *parsed;
	List	   *queries;

	(void) set_config_option("search_path", FIND_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	parsed = pg_parse_query(text);
	queries = docrep_analyze_and_rewrite(linitial_node(RawStmt, parsed), text);
	AtEOXact_GUC(true, nest);
	Assert(list_length(parsed) == 1 && list_length(queries) == 1);
	return linitial_node(Query, queries);
}

/*
 * If an entry of a range table is a call of docrep.find() whose statement is known, the
 * statement takes its place.  *by_role: set if the plan is good for the current role only.
 */
static void
inline_entry(RangeTblEntry *rte, bool *by_role)
{
	FuncExpr   *call;
	char	   *text;

	if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1)
		return;
	call = (FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr;
	if (call == NULL || !IsA(call, FuncExpr) || !is_find(call) || (text = query_text(call)) == NULL)
		return;
	rte->subquery = analyze(text);
	rte->rtekind = RTE_SUBQUERY;
	/* conditions of the caller are for documents that match, and may fail for others */
	rte->security_barrier = true;
	rte->functions = NIL;
	if (rte->subquery->hasRowSecurity)
		*by_role = true;
}

/*
 * All calls in a query and the queries in it.
 */
static bool
inline_calls(Node *node, void *by_role)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *cell;

		foreach(cell, query->rtable)
			inline_entry(lfirst_node(RangeTblEntry, cell), by_role);
		return query_tree_walker(query, inline_calls, by_role, 0);
	}
	return expression_tree_walker(node, inline_calls, by_role);
}

static PlannedStmt *
plan(Query *query, const char *query_string, int cursor_options, ParamListInfo params)
{
	bool		by_role = false;
	PlannedStmt *result;

	(void) inline_calls((Node *) query, &by_role);
	if (prev_planner)
		result = prev_planner(query, query_string, cursor_options, params);
	else
		result = standard_planner(query, query_string, cursor_options, params);
	if (by_role)
		result->dependsOnRole = true;
	return result;
}

void
docrep_find_install_hook(void)
{
	prev_planner = planner_hook;
	planner_hook = plan;
}
