/*-------------------------------------------------------------------------
 *
 * user_context.h
 *		Who asks, and whom the table belongs to, as functions of design documents
 *		are told: userCtx and secObj.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_USER_CONTEXT_H
#define DOCREP_FILTER_USER_CONTEXT_H

#include "postgres.h"

#include "store/table.h"
#include "utils/jsonb.h"

/* What CouchDB calls the role of administrators. */
#define DOCREP_ADMIN_ROLE	"_admin"

/*
 * {"db", "name", "roles"} of the current role, allocated.  roles: "_admin" for administrators
 * and the table's owner, and the roles that it is a member of; or what docrep_user_context_set_roles
 * has said.  In a transaction.
 */
extern Jsonb *docrep_user_context(DocTable *table);

/*
 * {"admins": {"names", "roles"}, "members": {"names", "roles"}} of a table, allocated: the owner
 * is its administrator, and who its members are is said by privileges, not here.
 */
extern Jsonb *docrep_security_object(DocTable *table);

/*
 * From now on in this process: the roles that a replication's user_ctx names, in place of those of
 * the role.  Copied.  NULL: it names none, and the role's own count again.
 */
extern void docrep_user_context_set_roles(char *const *roles, int n);

/*
 * Is the role an administrator: a superuser, or a member of one of
 * docrep.admin_roles?  In a transaction.
 */
extern bool docrep_role_is_admin(Oid role);

/*
 * The names of all roles that a role is a member of, directly or not, allocated.  In a
 * transaction.
 */
extern List *docrep_role_memberships(Oid role);

extern void docrep_user_context_define_gucs(void);	/* docrep.admin_roles */

#endif							/* DOCREP_FILTER_USER_CONTEXT_H */
