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

#endif							/* DOCREP_STORE_TABLE_DDL_H */
