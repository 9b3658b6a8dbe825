/*-------------------------------------------------------------------------
 *
 * fence.c
 *		See fence.h.
 *
 * A writer that was frozen, or whose request was under way for long, does not
 * know that its lease was taken by another server meanwhile.  The table knows:
 * the lease is a local document of it, and is looked at in the transaction that
 * writes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/errcodes.h"
#include "store/fence.h"
#include "store/internal_sql.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* The session's fence. */
static pg_uuid_t fenced;
static char *fence_id = NULL;
static char *fence_token = NULL;	/* NULL: there is none */

void
docrep_fence_set(const pg_uuid_t *uuid, const char *id, const char *token)
{
	char	   *new_id = token ? MemoryContextStrdup(TopMemoryContext, id) : NULL;
	char	   *new_token = token ? MemoryContextStrdup(TopMemoryContext, token) : NULL;

	if (fence_id)
		pfree(fence_id);
	if (fence_token)
		pfree(fence_token);
	fenced = *uuid;
	fence_id = new_id;
	fence_token = new_token;
}

/* Is the lease still ours?  Locks it, so that it stays so until the transaction ends. */
static bool
token_stands(const DocTableInfo *table)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID};
	Datum		values[3];
	InternalSql sql;
	bool		stands;

	values[0] = UUIDPGetDatum(&table->uuid);
	values[1] = CStringGetTextDatum(fence_id);
	values[2] = CStringGetTextDatum(fence_token);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT 1 FROM docrep.local_docs"
							" WHERE tbl = $1 AND id = $2 AND doc->>'token' = $3 FOR SHARE",
							3, types, values, NULL, false, 0);
	stands = SPI_processed > 0;
	docrep_internal_end(&sql);
	return stands;
}

void
docrep_fence_check(const DocTableInfo *table)
{
	if (fence_token == NULL || memcmp(&fenced, &table->uuid, sizeof(fenced)) != 0 ||
		token_stands(table))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_UNAVAILABLE),
			 errmsg("another server has taken this replication over"),
			 errdetail("What was to be written to the target is left to it.")));
}
