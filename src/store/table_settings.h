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

#include "datatype/timestamp.h"
#include "store/table.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* CouchDB's default */
#define DOCREP_DEFAULT_REVS_LIMIT 1000

/* A row of docrep.table_settings; texts and intervals are NULL where the column is. */
typedef struct TableSettings
{
	int			revs_limit;
	char	   *conflict_policy;	/* as the user gave it */
	char	   *resolver;		/* signature of a function, qualified */
	char	   *validator;		/* likewise */
	int			revisions_keep; /* -1: off */
	Interval   *revisions_max_age;
	bool		revisions_keep_deleted;
	TimestampTz revisions_since;	/* 0: never */
	Interval   *tombstone_max_age;
	Jsonb	   *not_replicated;
} TableSettings;

/* The settings of a table, or the defaults, in the current context.  Needs a transaction. */
extern TableSettings *docrep_settings_read(const pg_uuid_t *uuid);

/*
 * Set one column of the table's row, which is made if there is none; isnull: to NULL.
 * Checks nothing.  The caller invalidates the relation, so that all sessions read it again.
 */
extern void docrep_settings_write(const pg_uuid_t *uuid, const char *column, Oid type,
								  Datum value, bool isnull);

/*
 * Wait for who is writing to the table, and keep others from it until the transaction ends: they
 * write by the settings that were.  The caller has only weaker locks than any writer.
 */
extern void docrep_settings_lock(DocTable *table);

/*
 * What a floor above does when that has to wait: what it does with the table in the background
 * is to let go of it, for a resolver that hangs may be what is to be replaced.  NULL: nothing.
 */
typedef void (*DocSettingsLockHook) (DocTable *table);
extern DocSettingsLockHook docrep_settings_lock_hook;

/* revs_limit alone, checked: DR400 */
extern void docrep_write_revs_limit(const pg_uuid_t *uuid, int limit);

#endif							/* DOCREP_STORE_TABLE_SETTINGS_H */
