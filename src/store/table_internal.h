/*-------------------------------------------------------------------------
 *
 * table_internal.h
 *		Document tables; for table*.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_TABLE_INTERNAL_H
#define DOCREP_STORE_TABLE_INTERNAL_H

#include "store/table.h"

/* ---------- table_info.c ---------- */

/* The companion of this kind ("dead", "leaf", ...), or InvalidOid. */
extern Oid	docrep_companion_relid(const char *kind, const pg_uuid_t *uuid);

/* ---------- table_columns.c ---------- */

/* The error about a column that is missing or has another type. */
extern void docrep_table_wrong_column(Relation rel, const char *name);

/* ---------- table_indexes.c ---------- */

/*
 * The unique index on nkeys columns that begin with this one, or an error that says what is
 * missing.
 */
extern Oid	docrep_table_index(Relation rel, AttrNumber attno, bool primary, int nkeys);

/* The primary key of a companion on nkeys columns that begin with two, as scans rely on. */
extern Oid	docrep_companion_index(Relation rel, int nkeys, AttrNumber first, AttrNumber second,
								   const char *columns);

/*
 * The unique index that lets equal contents be stored once: on sha256 of the rows
 * that have one.
 */
extern Oid	docrep_att_sha_index(Relation att);

/* The index by which documents in conflict are found; what it holds is looked at again. */
extern Oid	docrep_leaf_open_index(Relation leaf);

/* The index of kept versions on one of their two numbers. */
extern Oid	docrep_kept_index(Relation rel, AttrNumber attno);

#endif							/* DOCREP_STORE_TABLE_INTERNAL_H */
