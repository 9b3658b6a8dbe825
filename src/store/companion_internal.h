/*-------------------------------------------------------------------------
 *
 * companion_internal.h
 *		What companion.c and companion_att.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_COMPANION_INTERNAL_H
#define DOCREP_STORE_COMPANION_INTERNAL_H

#include "store/companion.h"

/* An index scan that is started over for every look-up. */
typedef struct IdScan
{
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} IdScan;

/* What it takes to insert into a relation and its indexes. */
typedef struct Writer
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
} Writer;

typedef struct Companions
{
	MemoryContext cxt;
	Relation	dead;
	Relation	leaf;
	Relation	att;
	Relation	kept;
	IdScan		rel_scan;
	IdScan		dead_scan;
	IdScan		leaf_scan;
	IdScan		kept_scan;		/* former versions by id */
	ScanDirection kept_direction;
	IdScan		att_scan;		/* contents by (file, part) */
	IdScan		sha_scan;		/* headers by sha256 */
	RegProcedure rev_equality;	/* of the leaves' index, once it was needed */
	Writer		writers[5];		/* dead, leaf, att, kept, the table itself */
	int			nwriters;
} Companions;

/* The table's companions, none of them open at first. */
extern Companions *docrep_companions_get(DocTable *table);

/* The scan, made if it is not there: of rel by an index, with nkeys keys. */
extern IdScan *docrep_companion_scan(DocTable *table, IdScan *s, Relation rel, Oid index_oid,
									 int nkeys);

/* The condition on an index's first column, the id. */
extern void docrep_companion_id_key(ScanKey key, Datum id);

/* The scan's next row into its slot; false: no more. */
extern bool docrep_companion_next(DocTable *table, IdScan *s);

/* What it takes to insert into rel, which is the table or a companion. */
extern Writer *docrep_companion_writer(DocTable *table, Relation rel);

/*
 * Insert what is in the writer's slot, unless the unique index "arbiter" has
 * an equal row.  Whatever is returned, table_tuple_complete_speculative and
 * SpeculativeInsertionLockRelease must follow.
 */
extern bool docrep_companion_speculate(Writer *w, Oid arbiter, uint32 *token);

#endif							/* DOCREP_STORE_COMPANION_INTERNAL_H */
