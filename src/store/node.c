/*-------------------------------------------------------------------------
 *
 * node.c
 *		The identity of this database among those it replicates with.
 *
 * The uuid is a part of every replication id, so it must be there, committed,
 * before the first replication starts and stay for good.  It is therefore made
 * by CREATE EXTENSION and not on first use: made in the transaction of the first
 * replicate() it would be lost with that transaction's abort, together with
 * the checkpoints named after it, and a second caller would wait for the first.
 *
 * A restored dump has two rows, the one that CREATE EXTENSION made and the one
 * that was dumped; the oldest is the identity.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "store/internal_sql.h"
#include "store/node.h"

PG_FUNCTION_INFO_V1(docrep_node_uuid);

pg_uuid_t
docrep_node_uuid_get(void)
{
	static SPIPlanPtr plan = NULL;
	InternalSql sql;
	pg_uuid_t	uuid;
	bool		isnull;

	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT uuid FROM docrep.node ORDER BY made_at, uuid LIMIT 1",
							0, NULL, NULL, NULL, false, 1);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database has no docrep identity"),
				 errdetail("Table docrep.node is empty."),
				 errhint("INSERT INTO docrep.node DEFAULT VALUES;")));
	uuid = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
										1, &isnull));
	docrep_internal_end(&sql);
	return uuid;
}

/* SQL: docrep.node_uuid() returns uuid. */
Datum
docrep_node_uuid(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *result = palloc(sizeof(pg_uuid_t));

	*result = docrep_node_uuid_get();
	PG_RETURN_UUID_P(result);
}
