/*-------------------------------------------------------------------------
 *
 * local_docs.c
 *		Local documents: per table, never replicated; ids without "_local/".
 *
 * A write never conflicts, as in CouchDB 3.5.  The rows are removed with the
 * table by an event trigger (table.sql).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/internal_sql.h"
#include "store/local_docs.h"
#include "utils/builtins.h"

static Datum
uuid_datum(const DocTableInfo *table)
{
	return UUIDPGetDatum(&table->uuid);
}

Jsonb *
docrep_local_get(const DocTableInfo *table, const char *id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *result = NULL;
	bool		isnull;

	values[0] = uuid_datum(table);
	values[1] = CStringGetTextDatum(id);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"SELECT doc || jsonb_build_object('_id', '_local/' || id, '_rev', '0-' || rev)"
							" FROM docrep.local_docs WHERE tbl = $1 AND id = $2",
							2, types, values, NULL, false, 1);
	if (SPI_processed > 0)
	{
		Datum		d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = DatumGetJsonbPCopy(d);
		MemoryContextSwitchTo(old);
	}
	docrep_internal_end(&sql);
	return result;
}

int
docrep_local_put(const DocTableInfo *table, const char *id, Jsonb *doc)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, JSONBOID};
	Datum		values[3];
	InternalSql sql;
	int			rev;
	bool		isnull;

	values[0] = uuid_datum(table);
	values[1] = CStringGetTextDatum(id);
	values[2] = JsonbPGetDatum(doc);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"INSERT INTO docrep.local_docs AS l (tbl, id, rev, doc)"
							" VALUES ($1, $2, 1, $3 - '{_id,_rev}'::text[])"
							" ON CONFLICT (tbl, id) DO UPDATE SET rev = l.rev + 1, doc = EXCLUDED.doc"
							" RETURNING rev",
							3, types, values, NULL, false, 0);
	rev = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	docrep_internal_end(&sql);
	return rev;
}

/*
 * Who holds a lock on the row is not waited for: a writer that stands fenced by
 * it (fence.c) may be frozen.
 */
bool
docrep_local_swap(const DocTableInfo *table, const char *id, Jsonb *expected, Jsonb *doc)
{
	static SPIPlanPtr insert_plan = NULL;
	static SPIPlanPtr update_plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID, JSONBOID, JSONBOID};
	Datum		values[4];
	InternalSql sql;
	bool		done;

	values[0] = uuid_datum(table);
	values[1] = CStringGetTextDatum(id);
	values[2] = JsonbPGetDatum(doc);
	values[3] = expected ? JsonbPGetDatum(expected) : (Datum) 0;
	docrep_internal_begin(&sql);
	if (expected == NULL)
		docrep_internal_execute(&insert_plan,
								"INSERT INTO docrep.local_docs (tbl, id, rev, doc)"
								" VALUES ($1, $2, 1, $3 - '{_id,_rev}'::text[])"
								" ON CONFLICT (tbl, id) DO NOTHING",
								3, types, values, NULL, false, 0);
	else
		docrep_internal_execute(&update_plan,
								"WITH mine AS (SELECT id FROM docrep.local_docs"
								" WHERE tbl = $1 AND id = $2 AND doc = $4 - '{_id,_rev}'::text[]"
								" FOR NO KEY UPDATE SKIP LOCKED)"
								" UPDATE docrep.local_docs l"
								" SET rev = l.rev + 1, doc = $3 - '{_id,_rev}'::text[]"
								" FROM mine WHERE l.tbl = $1 AND l.id = mine.id",
								4, types, values, NULL, false, 0);
	done = SPI_processed > 0;
	docrep_internal_end(&sql);
	return done;
}

bool
docrep_local_delete(const DocTableInfo *table, const char *id)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;
	bool		found;

	values[0] = uuid_datum(table);
	values[1] = CStringGetTextDatum(id);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&plan,
							"DELETE FROM docrep.local_docs WHERE tbl = $1 AND id = $2",
							2, types, values, NULL, false, 0);
	found = SPI_processed > 0;
	docrep_internal_end(&sql);
	return found;
}
