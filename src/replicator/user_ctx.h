/*-------------------------------------------------------------------------
 *
 * user_ctx.h
 *		For whom a replication is, and its delay.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_USER_CTX_H
#define DOCREP_REPLICATOR_USER_CTX_H

#include "replicator/replication.h"

/*
 * Set role, user_name, user_roles and user_is_admin by the document's user_ctx,
 * whose writer is the current role: DR403 for what that one may not give, DR404
 * for a role that does not exist, DR400 for wrong types.
 */
extern void docrep_user_ctx_read(Replication *replication, JsonbContainer *root, bool task);

/* May one role SET ROLE to another, or is it that one? */
extern bool docrep_role_may_become(Oid role, Oid other);

/* An interval's text in ms: DR400 if it is none, negative or without end. */
extern int64 docrep_delay_read(const char *text);

#endif							/* DOCREP_REPLICATOR_USER_CTX_H */
