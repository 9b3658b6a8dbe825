/*-------------------------------------------------------------------------
 *
 * origins.c
 *		Which node first wrote a revision: uuids, and names for some of them.
 *
 * A database has its uuid in docrep.node.  A CouchDB has none, and does not say
 * from where it has a revision, so that what arrives from there counts as written there;
 * it gets a uuid made of its URL without credentials, the same wherever it is
 * replicated from, and a row in docrep.origins that tells its name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "catalog/pg_type.h"
#include "store/internal_sql.h"
#include "store/node.h"
#include "store/origins.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

const pg_uuid_t *
docrep_table_node(DocTable *table)
{
	if (!table->node_known)
	{
		table->node = docrep_node_uuid_get();
		table->node_known = true;
	}
	return &table->node;
}

/* The uuid of a source that has none: version 8, made of its name. */
static pg_uuid_t
uuid_of_name(const char *name)
{
	XXH128_canonical_t digest;
	pg_uuid_t	uuid;

	XXH128_canonicalFromHash(&digest, XXH3_128bits(name, strlen(name)));
	memcpy(uuid.data, digest.digest, UUID_LEN);
	uuid.data[6] = (uuid.data[6] & 0x0f) | 0x80;
	uuid.data[8] = (uuid.data[8] & 0x3f) | 0x80;
	return uuid;
}

/* Note the name of a uuid, unless it is noted already. */
static void
note_name(const pg_uuid_t *uuid, const char *name)
{
	static SPIPlanPtr look = NULL;
	static SPIPlanPtr insert = NULL;
	Oid			types[] = {UUIDOID, TEXTOID};
	Datum		values[2];
	InternalSql sql;

	values[0] = UUIDPGetDatum(uuid);
	values[1] = CStringGetTextDatum(name);
	docrep_internal_begin(&sql);
	docrep_internal_execute(&look, "SELECT 1 FROM docrep.origins WHERE uuid = $1",
							1, types, values, NULL, false, 1);
	if (SPI_processed == 0)
		docrep_internal_execute(&insert,
								"INSERT INTO docrep.origins (uuid, name) VALUES ($1, $2)"
								" ON CONFLICT DO NOTHING",
								2, types, values, NULL, false, 0);
	docrep_internal_end(&sql);
}

void
docrep_origins_complete(DocrepDocs *docs, const char *source)
{
	pg_uuid_t	uuid;
	bool		noted = false;

	for (int i = 0; source && i < docs->n; i++)
	{
		DocrepDoc  *doc = &docs->docs[i];

		if (doc->has_origin)
			continue;
		if (!noted)
		{
			uuid = uuid_of_name(source);
			note_name(&uuid, source);
			noted = true;
		}
		doc->origin = uuid;
		doc->has_origin = true;
	}
}

void
docrep_origins_localize(DocTable *table, DocWrite *writes, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (writes[i].origin &&
			memcmp(writes[i].origin, docrep_table_node(table), sizeof(pg_uuid_t)) == 0)
			writes[i].origin = NULL;
	}
}

char *
docrep_origin_text(DocTable *table, const pg_uuid_t *origin)
{
	static SPIPlanPtr plan = NULL;
	MemoryContext cxt = CurrentMemoryContext;
	Oid			types[] = {UUIDOID};
	Datum		values[1];
	InternalSql sql;
	char	   *name = NULL;

	if (origin == NULL)
		origin = docrep_table_node(table);
	else
	{
		values[0] = UUIDPGetDatum(origin);
		docrep_internal_begin(&sql);
		docrep_internal_execute(&plan, "SELECT name FROM docrep.origins WHERE uuid = $1",
								1, types, values, NULL, true, 1);
		if (SPI_processed > 0)
			name = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0],
														 SPI_tuptable->tupdesc, 1));
		docrep_internal_end(&sql);
	}
	return name ? name : DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(origin)));
}
