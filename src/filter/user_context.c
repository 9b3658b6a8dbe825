/*-------------------------------------------------------------------------
 *
 * user_context.c
 *		Who asks, and whom the table belongs to, as functions of design documents
 *		are told: userCtx and secObj.
 *
 * Users are roles.  There is no _security: privileges say who may do what, and what
 * is said here has no influence on that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_auth_members.h"
#include "compat.h"
#include "filter/user_context.h"
#include "miscadmin.h"
#include "store/jsonb_raw.h"
#include "utils/acl.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

static char *admin_roles = NULL;	/* docrep.admin_roles */

/* What docrep_user_context_set_roles was given, or NULL. */
static MemoryContext given_cxt = NULL;
static char **given_roles = NULL;
static int	ngiven_roles = 0;

/* ---------- docrep.admin_roles ---------- */

/* Its names, allocated. */
static List *
admin_role_names(void)
{
	List	   *names;

	if (!SplitIdentifierString(pstrdup(admin_roles ? admin_roles : ""), ',', &names))
		return NIL;
	return names;
}

bool
docrep_role_is_admin(Oid role)
{
	List	   *names;
	ListCell   *cell;
	bool		result = false;

	if (superuser_arg(role))
		return true;
	names = admin_role_names();
	foreach(cell, names)
	{
		Oid			admins = get_role_oid(lfirst(cell), true);

		result = result || (OidIsValid(admins) && is_member_of_role(role, admins));
	}
	list_free(names);
	return result;
}

/* Is it a list of names? */
static bool
check_admin_roles(char **newval, void **extra, GucSource source)
{
	List	   *names;

	if (SplitIdentifierString(pstrdup(*newval), ',', &names))
		return true;
	GUC_check_errdetail("List syntax is invalid.");
	return false;
}

void
docrep_user_context_define_gucs(void)
{
	DefineCustomStringVariable("docrep.admin_roles",
							   "Roles whose members are administrators of replication.",
							   "A comma-separated list. Members may give a replication CouchDB's role "
							   "\"_admin\". Superusers always may.",
							   &admin_roles,
							   "",
							   PGC_SUSET, 0,
							   check_admin_roles, NULL, NULL);
}

/* ---------- roles ---------- */

List *
docrep_role_memberships(Oid role)
{
	List	   *roles = list_make1_oid(role);
	List	   *names = NIL;

	for (int i = 0; i < list_length(roles); i++)
	{
		CatCList   *list = SearchSysCacheList1(AUTHMEMMEMROLE,
											   ObjectIdGetDatum(list_nth_oid(roles, i)));

		for (int j = 0; j < list->n_members; j++)
		{
			Form_pg_auth_members of = (Form_pg_auth_members) GETSTRUCT(&list->members[j]->tuple);

			roles = list_append_unique_oid(roles, of->roleid);
		}
		ReleaseSysCacheList(list);
		if (i > 0)
		{
			char	   *name = GetUserNameFromId(list_nth_oid(roles, i), true);

			if (name)
				names = lappend(names, name);
		}
	}
	list_free(roles);
	return names;
}

void
docrep_user_context_set_roles(char *const *roles, int n)
{
	MemoryContext old;

	given_roles = NULL;
	ngiven_roles = 0;
	if (given_cxt)
		MemoryContextReset(given_cxt);
	if (roles == NULL)
		return;
	if (given_cxt == NULL)
		given_cxt = AllocSetContextCreate(TopMemoryContext, "docrep user context",
										  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(given_cxt);
	given_roles = palloc(Max(n, 1) * sizeof(char *));
	for (; ngiven_roles < n; ngiven_roles++)
		given_roles[ngiven_roles] = pstrdup(roles[ngiven_roles]);
	MemoryContextSwitchTo(old);
}

/* Add the roles of the current role. */
static void
add_roles(RawBuilder *roles, DocTable *table)
{
	ListCell   *cell;

	if (given_roles)
	{
		for (int i = 0; i < ngiven_roles; i++)
			docrep_raw_add_text(roles, NULL, given_roles[i]);
		return;
	}
	if (docrep_role_is_admin(GetUserId()) ||
		docrep_is_owner(table->info.relid))
		docrep_raw_add_text(roles, NULL, DOCREP_ADMIN_ROLE);
	foreach(cell, docrep_role_memberships(GetUserId()))
		docrep_raw_add_text(roles, NULL, lfirst(cell));
}

/* ---------- the objects ---------- */

Jsonb *
docrep_user_context(DocTable *table)
{
	RawBuilder	object;
	RawBuilder	roles;

	docrep_raw_init(&roles, false, 4);
	add_roles(&roles, table);
	docrep_raw_init(&object, true, 3);
	docrep_raw_add_text(&object, "db", RelationGetRelationName(table->rel));
	docrep_raw_add_text(&object, "name", GetUserNameFromId(GetUserId(), false));
	docrep_raw_add_built(&object, "roles", &roles);
	return docrep_raw_finish(&object);
}

/* Add {"names": [name, unless NULL], "roles": ["_admin" and names]} or, without both, empty lists. */
static void
add_group(RawBuilder *object, const char *key, const char *name, bool admins)
{
	RawBuilder	group;
	RawBuilder	names;
	RawBuilder	roles;
	ListCell   *cell;

	docrep_raw_init(&names, false, 1);
	if (name)
		docrep_raw_add_text(&names, NULL, name);
	docrep_raw_init(&roles, false, 4);
	if (admins)
	{
		docrep_raw_add_text(&roles, NULL, DOCREP_ADMIN_ROLE);
		foreach(cell, admin_role_names())
			docrep_raw_add_text(&roles, NULL, lfirst(cell));
	}
	docrep_raw_init(&group, true, 2);
	docrep_raw_add_built(&group, "names", &names);
	docrep_raw_add_built(&group, "roles", &roles);
	docrep_raw_add_built(object, key, &group);
}

Jsonb *
docrep_security_object(DocTable *table)
{
	RawBuilder	object;

	docrep_raw_init(&object, true, 2);
	add_group(&object, "admins", GetUserNameFromId(table->rel->rd_rel->relowner, true), true);
	add_group(&object, "members", NULL, false);
	return docrep_raw_finish(&object);
}
