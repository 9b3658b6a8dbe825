/*-------------------------------------------------------------------------
 *
 * table_ddl.h
 *		Making document tables, and keeping companions with them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_TABLE_DDL_H
#define DOCREP_STORE_TABLE_DDL_H

#include "store/table.h"

/* The table that a companion depends on, or InvalidOid. */
extern Oid	docrep_companion_table(Oid companion);

/* Set the numbers of the table's columns; an error if one is missing or has another type. */
extern void docrep_table_check_columns(Relation rel, DocTableInfo *info);

/*
 * See that a table with a tracking trigger has its companions, that they
 * depend on it and have its owner.  Somebody who gives a trigger the uuid of
 * another table must not get at its companions.
 */
extern void docrep_companions_ensure(Relation rel, const pg_uuid_t *uuid);

/* Execute a statement; SPI is connected. */
extern void docrep_ddl_execute(const char *command);

#endif							/* DOCREP_STORE_TABLE_DDL_H */
