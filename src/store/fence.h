/*-------------------------------------------------------------------------
 *
 * fence.h
 *		A session's writes to a table count only as long as it holds a lease.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_FENCE_H
#define DOCREP_STORE_FENCE_H

#include "store/table.h"

/*
 * From here on docrep_serve_write and docrep_serve_put_local write to the
 * table only while its local document "id" has "token" as its member of that
 * name.  Another call replaces it; token NULL ends it.  Lasts for the session, not
 * for a transaction.
 */
extern void docrep_fence_set(const pg_uuid_t *uuid, const char *id, const char *token);

/*
 * Raises DR503 if the table is fenced and the token is another one by now.
 * Otherwise nobody takes the lease before this transaction ends.
 */
extern void docrep_fence_check(const DocTableInfo *table);

#endif							/* DOCREP_STORE_FENCE_H */
