/*-------------------------------------------------------------------------
 *
 * utility_hook.c
 *		Statements that want a database, or the extension, for themselves.
 *
 * A worker is connected to its database and would make these fail or wait:
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, CREATE DATABASE
 * with it as the template, DROP EXTENSION docrep.  So the workers are sent
 * away first.  Jobs are not cancelled: when the transaction is over they start
 * again, and either go on or find that their database or extension is gone.
 * And who has to know of other statements is told: of roles that are dropped,
 * of databases that are made.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "scheduler/homes.h"
#include "scheduler/housekeeping.h"
#include "scheduler/slots.h"
#include "scheduler/tasks.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

static ProcessUtility_hook_type next_utility = NULL;
static object_access_hook_type previous_object_access = NULL;

/* What is to be done when the transaction is over: */
static bool dropping_extension = false; /* it drops the extension, and has sent its workers away */
static bool dropped_role = false;
static List *wanted = NIL;		/* databases that it wanted for itself; in TopTransactionContext */
static List *created = NIL;		/* databases that it made; likewise */

/* The value of a DefElem of that name as text, or NULL. */
static char *
option_value(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

/* The name of the database that a statement wants for itself, or NULL. */
static const char *
wanted_database(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			if (option_value(((AlterDatabaseStmt *) statement)->options, "tablespace"))
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		case T_CreatedbStmt:
			{
				const char *template = option_value(((CreatedbStmt *) statement)->options,
													"template");

				return template ? template : "template1";
			}
		default:
			return NULL;
	}
}

/* Has the current user CREATEDB? */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

/* May the current user do that to the database?  Else nobody is sent away. */
static bool
may_want_database(Node *statement, Oid database)
{
	HeapTuple	tuple;
	bool		is_template;

	if (docrep_owns_database(database))
		return true;
	if (!IsA(statement, CreatedbStmt) || !may_create_databases())
		return false;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return false;
	is_template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return is_template;
}

/* Does it drop this extension, by a user who may? */
static bool
drops_extension(Node *statement)
{
	DropStmt   *drop = (DropStmt *) statement;
	ListCell   *lc;

	if (!IsA(statement, DropStmt) || drop->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, drop->objects)
	{
		if (strcmp(strVal(lfirst(lc)), "docrep") == 0)
		{
			Oid			extension = get_extension_oid("docrep", true);

			return OidIsValid(extension) && docrep_owns_extension(extension);
		}
	}
	return false;
}

/* The extension is about to be dropped: no worker in this database, please. */
static void
expect_extension_drop(void)
{
	dropping_extension = true;
	docrep_jobs_send_away(MyDatabaseId, true);
}

/* Remember a database until the transaction ends. */
static void
remember(List **list, Oid database)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	*list = list_append_unique_oid(*list, database);
	MemoryContextSwitchTo(old);
}

/*
 * The transaction is over, or, being prepared, no longer ours.  Only at its very
 * end, without its locks and with everybody's caches told of it: until then whoever
 * comes would wait, and may be refused after that, or see what is no more.
 * A worker that comes back to where the extension was dropped looks whether it is
 * there, so nothing has to be known here.
 */
static void
transaction_ended(ResourceReleasePhase phase, bool committed, bool top_level, void *arg)
{
	ListCell   *lc;

	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !top_level)
		return;
	if (dropping_extension)
		docrep_jobs_call_back(MyDatabaseId);
	foreach(lc, wanted)
		docrep_jobs_call_back(lfirst_oid(lc));
	if (committed)
	{
		/* what was copied with its database is held by its keeper */
		foreach(lc, created)
			docrep_database_tell(lfirst_oid(lc));
		if (dropped_role)
			docrep_role_dropped();
	}
	dropping_extension = dropped_role = false;
	wanted = created = NIL;
}

/* Send workers away before such a statement, to come back after it. */
static void
utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
		ProcessUtilityContext context, ParamListInfo params,
		QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *statement = pstmt->utilityStmt;
	const char *name = wanted_database(statement);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	/* a one-shot's caller is connected too, and ending its job would not help */
	if (OidIsValid(database) && may_want_database(statement, database))
	{
		remember(&wanted, database);
		docrep_jobs_send_away(database, false);
	}
	else if (drops_extension(statement))
		expect_extension_drop();
	next_utility(pstmt, query, read_only_tree, context, params, environment, dest, completion);
}

/*
 * The extension may go by DROP SCHEMA or DROP OWNED ... CASCADE as well.  A
 * second call after the above finds nobody left.
 */
static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == ExtensionRelationId &&
		object_id == get_extension_oid("docrep", true))
		expect_extension_drop();
	else if (access == OAT_DROP && class_id == AuthIdRelationId)
		dropped_role = true;
	else if (access == OAT_POST_CREATE && class_id == DatabaseRelationId)
		remember(&created, object_id);
}

/* Put the hooks in, in front of those that are there. */
void
docrep_scheduler_install_hooks(void)
{
	next_utility = ProcessUtility_hook ? ProcessUtility_hook : standard_ProcessUtility;
	ProcessUtility_hook = utility;
	previous_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterResourceReleaseCallback(transaction_ended, NULL);
	docrep_statement_install_hook();
	docrep_tasks_install_hook();
	docrep_housekeeping_install_hooks();
}
