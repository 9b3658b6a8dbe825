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

/* Through the view, as the current role: it knows who may see what. */
#define FROM_REJECTED \
	" FROM docrep.rejected_docs r" \
	" JOIN docrep.document_tables t ON t.tbl OPERATOR(pg_catalog.=) r.tbl" \
	" WHERE t.uuid OPERATOR(pg_catalog.=) $1"

/* Execute a query whose plan is kept in *plan; returns the number of rows, 0 or 1. */
static int
find(SPIPlanPtr *plan, const char *query, int nargs, Datum *values)
{
	Oid			types[] = {UUIDOID, TEXTOID, TEXTOID};
	int			rc;

	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(query, nargs, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
		*plan = made;
	}
	rc = SPI_execute_plan(*plan, values, NULL, true, 1);
	if (rc < 0)
		elog(ERROR, "could not execute \"%s\": %s", query, SPI_result_code_string(rc));
	return (int) SPI_processed;
}

bool
docrep_rejected_any(const pg_uuid_t *table)
{
	static SPIPlanPtr plan = NULL;
	Datum		values[1];
	bool		found;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	values[0] = UUIDPGetDatum(table);
	found = find(&plan, "SELECT 1" FROM_REJECTED, 1, values) > 0;
	SPI_finish();
	return found;
}

bool
docrep_rejected_find(const pg_uuid_t *table, const char *id, const char *rev,
					 MemoryContext cxt, char **error, char **reason)
{
	static SPIPlanPtr plan = NULL;
	Datum		values[3];
	bool		found;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	values[0] = UUIDPGetDatum(table);
	values[1] = CStringGetTextDatum(id);
	values[2] = CStringGetTextDatum(rev);
	found = find(&plan, "SELECT r.error, r.reason" FROM_REJECTED
				 " AND r.id OPERATOR(pg_catalog.=) $2 AND r.rev OPERATOR(pg_catalog.=) $3",
				 3, values) > 0;
	if (found)
	{
		HeapTuple	row = SPI_tuptable->vals[0];

		*error = MemoryContextStrdup(cxt, SPI_getvalue(row, SPI_tuptable->tupdesc, 1));
		*reason = MemoryContextStrdup(cxt, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
	}
	SPI_finish();
	return found;
}
