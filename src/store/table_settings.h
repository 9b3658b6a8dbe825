/*-------------------------------------------------------------------------
 *
 * table_settings.h
 *		Settings of a document table that are not in its definition.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_TABLE_SETTINGS_H
#define DOCREP_STORE_TABLE_SETTINGS_H

#include "postgres.h"

#include "utils/uuid.h"

/* CouchDB's default */
#define DOCREP_DEFAULT_REVS_LIMIT 1000

extern int	docrep_read_revs_limit(const pg_uuid_t *uuid);
extern void docrep_write_revs_limit(const pg_uuid_t *uuid, int limit);

#endif							/* DOCREP_STORE_TABLE_SETTINGS_H */
