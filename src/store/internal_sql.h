/*-------------------------------------------------------------------------
 *
 * internal_sql.h
 *		Running fixed statements on docrep's own tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_INTERNAL_SQL_H
#define DOCREP_STORE_INTERNAL_SQL_H

#include "postgres.h"

#include "executor/spi.h"

typedef struct InternalSql
{
	Oid			saved_user;
	int			saved_context;
	int			guc_level;
} InternalSql;

/*
 * Between begin and end SPI is connected, the current role is the
 * extension's owner and search_path is pg_catalog, pg_temp.  Only for statements whose
 * text is fixed here and which touch nothing but docrep's own tables: no user's
 * function, operator or trigger may run as that owner.  An error in between is
 * cleaned up by the (sub)transaction's abort.
 */
extern void docrep_internal_begin(InternalSql *sql);
extern void docrep_internal_end(InternalSql *sql);

/*
 * Execute a statement whose plan is kept in *plan from the first call on.
 * Returns SPI's result code; anything negative is raised.
 */
extern int	docrep_internal_execute(SPIPlanPtr *plan, const char *command, int nargs,
									Oid *types, Datum *values, const char *nulls,
									bool read_only, long count);

/* The owner of the extension. */
extern Oid	docrep_extension_owner(void);

#endif							/* DOCREP_STORE_INTERNAL_SQL_H */
