/*-------------------------------------------------------------------------
 *
 * rejected_find.c
 *		Why a table lacks a revision: it was rejected.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "store/rejected.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

bool
docrep_rejected_find(const pg_uuid_t *table, const char *id, const char *rev,
					 MemoryContext cxt, char **error, char **reason)
{
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID};
	Datum		values[3];
	bool		found;
	int			rc;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	values[0] = UUIDPGetDatum(table);
	values[1] = CStringGetTextDatum(id);
	values[2] = CStringGetTextDatum(rev);
	/* through the view, as the current role: it knows who may see what */
	rc = SPI_execute_with_args("SELECT r.error, r.reason FROM docrep.rejected_docs r"
							   " JOIN docrep.document_tables t"
							   " ON t.tbl OPERATOR(pg_catalog.=) r.tbl"
							   " WHERE t.uuid OPERATOR(pg_catalog.=) $1"
							   " AND r.id OPERATOR(pg_catalog.=) $2"
							   " AND r.rev OPERATOR(pg_catalog.=) $3",
							   3, types, values, NULL, true, 1);
	if (rc < 0)
		elog(ERROR, "could not read docrep.rejected_docs: %s", SPI_result_code_string(rc));
	found = SPI_processed > 0;
	if (found)
	{
		HeapTuple	row = SPI_tuptable->vals[0];

		*error = MemoryContextStrdup(cxt, SPI_getvalue(row, SPI_tuptable->tupdesc, 1));
		*reason = MemoryContextStrdup(cxt, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
	}
	SPI_finish();
	return found;
}
