/*-------------------------------------------------------------------------
 *
 * user_ctx.c
 *		For whom a replication is: user_ctx of replication documents.
 *
 * The role that a replication runs as is decided here, in the session of who
 * writes the document, and nowhere else; a worker is connected as that role and
 * never changes it.  The writer is the current role and not the session's: in a
 * SECURITY DEFINER function that is its owner, after SET ROLE the role that was
 * set.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "compat.h"
#include "filter/user_context.h"
#include "miscadmin.h"
#include "replicator/json_members.h"
#include "replicator/user_ctx.h"
#include "store/errcodes.h"
#include "utils/acl.h"
#include "utils/syscache.h"

/* ---------- roles ---------- */

/* Raise DR403: the writer may not do this. */
static void
forbidden(const char *message, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_FORBIDDEN),
			 errmsg("%s", message),
			 errdetail_internal("%s", detail)));
}

bool
docrep_role_may_become(Oid role, Oid other)
{
	return docrep_can_set_role(role, other);
}

/* Can a worker be connected as this role? */
static void
check_login(Oid role, const char *name)
{
	HeapTuple	tuple;
	bool		login = !DOCREP_WORKER_NEEDS_LOGIN;

	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	if (HeapTupleIsValid(tuple))
	{
		login = login || ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
		ReleaseSysCache(tuple);
	}
	if (!login)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("replication field \"user_ctx.name\" names role \"%s\", which is not permitted to log in",
						name),
				 errdetail("A replication runs in a background worker that is connected as that role.")));
}

/* The role that a document names. */
static Oid
named_role(const char *name, Oid writer)
{
	Oid			role = get_role_oid(name, true);

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("role \"%s\" of \"user_ctx.name\" does not exist", name)));
	if (role == writer)
		return role;
	if (!docrep_role_may_become(writer, role))
		forbidden("replication field \"user_ctx\" names another role",
				  psprintf("Role \"%s\" may not SET ROLE to \"%s\".",
						   GetUserNameFromId(writer, false), name));
	check_login(role, name);
	return role;
}

/* Add a role to those of the user; one that is there already is not. */
static void
add_role(Replication *replication, char *name, int *cap)
{
	for (int i = 0; i < replication->nuser_roles; i++)
		if (strcmp(replication->user_roles[i], name) == 0)
			return;
	if (replication->nuser_roles == *cap)
	{
		*cap *= 2;
		replication->user_roles = repalloc(replication->user_roles, *cap * sizeof(char *));
	}
	replication->user_roles[replication->nuser_roles++] = name;
}

/* All roles that a role is a member of, directly or not. */
static void
add_memberships(Replication *replication, Oid member, int *cap)
{
	ListCell   *cell;

	foreach(cell, docrep_role_memberships(member))
		add_role(replication, lfirst(cell), cap);
}

/*
 * The roles that a document gives.  An administrator gives what it wants, since
 * CouchDB's roles need not be ours; others only what they are members of.
 */
static void
read_roles(Replication *replication, JsonbContainer *roles, Oid writer, int *cap)
{
	bool		any = docrep_role_is_admin(writer) ||
		(replication->role != writer && docrep_role_is_admin(replication->role));

	for (uint32 i = 0; i < JsonContainerSize(roles); i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(roles, i);
		char	   *name;
		Oid			role;

		if (value->type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"user_ctx.roles\" must be an array of strings"),
					 errdetail("Element %d is %s.", (int) i, docrep_json_type_name(value))));
		name = docrep_json_text(value);
		role = get_role_oid(name, true);
		if (!any && strcmp(name, DOCREP_ADMIN_ROLE) == 0)
			forbidden("replication field \"user_ctx\" gives a role that its writer does not have",
					  psprintf("Role \"%s\" is neither a superuser nor a member of one of docrep.admin_roles.",
							   GetUserNameFromId(writer, false)));
		if (!any && (!OidIsValid(role) || !is_member_of_role(writer, role)))
			forbidden("replication field \"user_ctx\" gives a role that its writer does not have",
					  psprintf("Role \"%s\" is not a member of \"%s\".",
							   GetUserNameFromId(writer, false), name));
		if (strcmp(name, DOCREP_ADMIN_ROLE) == 0)
			replication->user_is_admin = true;
		add_role(replication, name, cap);
	}
}

/* ---------- user_ctx ---------- */

/* Nothing is said: the writer, in one way or another. */
static void
fill_in(Replication *replication, Oid writer, bool task, int *cap)
{
	bool		admin = docrep_role_is_admin(writer);

	if (!(task && admin))
		replication->user_name = GetUserNameFromId(writer, false);
	if (task)
		return;
	if (admin)
		add_role(replication, pstrdup(DOCREP_ADMIN_ROLE), cap);
	replication->user_is_admin = admin;
	add_memberships(replication, writer, cap);
}

void
docrep_user_ctx_read(Replication *replication, JsonbContainer *root, bool task)
{
	Oid			writer = GetUserId();
	int			cap = 8;
	JsonbContainer *ctx;
	JsonbValue	value;

	replication->role = writer;
	replication->user_roles = palloc(cap * sizeof(char *));
	if (!docrep_json_member(root, "user_ctx", &value))
	{
		fill_in(replication, writer, task, &cap);
		return;
	}
	ctx = value.val.binary.data;
	if (docrep_json_member(ctx, "name", &value) && value.type != jbvNull)
	{
		if (value.type != jbvString)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"user_ctx.name\" must be a string or null"),
					 errdetail("It is %s.", docrep_json_type_name(&value))));
		replication->user_name = docrep_json_text(&value);
		replication->role = named_role(replication->user_name, writer);
	}
	else if (!docrep_role_is_admin(writer))
		replication->user_name = GetUserNameFromId(writer, false);
	if (docrep_json_member(ctx, "roles", &value))
	{
		if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("replication field \"user_ctx.roles\" must be an array of strings"),
					 errdetail("It is %s.", docrep_json_type_name(&value))));
		replication->roles_given = true;
		read_roles(replication, value.val.binary.data, writer, &cap);
	}
}
