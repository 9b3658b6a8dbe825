/*-------------------------------------------------------------------------
 *
 * info.c
 *		SQL function info: a document table as CouchDB's GET /db gives it; and what
 *		views of all tables ask about each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* Version of the stored form: the version byte of packed revision trees. */
#define DISK_FORMAT_VERSION		1

PG_FUNCTION_INFO_V1(docrep_info);
PG_FUNCTION_INFO_V1(docrep_table_stays);

char *
docrep_table_display_name(Relation rel)
{
	if (RelationIsVisible(RelationGetRelid(rel)))
		return pstrdup(quote_identifier(RelationGetRelationName(rel)));
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/*
 * The number of live documents that the caller may see.  Through SQL, because
 * the planner picks the cheapest index and applies row security.
 */
static int64
count_live(Relation rel)
{
	char	   *command = psprintf("SELECT pg_catalog.count(*) FROM ONLY %s",
								   quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
															  RelationGetRelationName(rel)));
	bool		isnull;
	int64		count;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(command, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not count the rows of \"%s\"", RelationGetRelationName(rel));
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	return count;
}

/*
 * The number of tombstones.  A role that is subject to row security sees none
 * of them, so for it there are none.
 */
static int64
count_dead(DocTable *table)
{
	Relation	dead;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int64		count = 0;

	if (table->row_security)
		return 0;
	dead = docrep_dead_rel(table);
	slot = table_slot_create(dead, NULL);
	scan = table_beginscan(dead, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		count++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return count;
}

/* pg_total_relation_size or pg_table_size of the table and its companions. */
static int64
sum_sizes(const DocTableInfo *info, PGFunction size_of)
{
	const Oid	relids[] = {info->relid, info->dead_relid, info->leaf_relid};
	int64		sum = 0;

	for (size_t i = 0; i < lengthof(relids); i++)
		sum += DatumGetInt64(DirectFunctionCall1(size_of, ObjectIdGetDatum(relids[i])));
	return sum;
}

/*
 * sizes: file is what is on disk with indexes, active the part that holds
 * documents.  What the documents would take as JSON text is not known without
 * reading them all: external repeats active.
 */
static void
add_sizes(RawBuilder *object, const DocTableInfo *info)
{
	RawBuilder	sizes;
	int64		active = sum_sizes(info, pg_table_size);

	docrep_raw_init(&sizes, true, 3);
	docrep_raw_add_int64(&sizes, "file", sum_sizes(info, pg_total_relation_size));
	docrep_raw_add_int64(&sizes, "active", active);
	docrep_raw_add_int64(&sizes, "external", active);
	docrep_raw_add_built(object, "sizes", &sizes);
}

/* docrep.info(tbl) */
Datum
docrep_info(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	RawBuilder	object;
	RawBuilder	props;

	docrep_raw_init(&object, true, 12);
	docrep_raw_add_text(&object, "db_name", docrep_table_display_name(table->rel));
	docrep_raw_add_int64(&object, "doc_count", count_live(table->rel));
	docrep_raw_add_int64(&object, "doc_del_count", count_dead(table));
	/* a standby does not know what is still being written, and who only watches shall not fail */
	if (RecoveryInProgress())
		docrep_raw_add_null(&object, "update_seq");
	else
		docrep_raw_add_int64(&object, "update_seq", docrep_seq_horizon(&table->info) - 1);
	docrep_raw_add_int64(&object, "purge_seq", 0);
	docrep_raw_add_text(&object, "instance_start_time", "0");
	docrep_raw_add_text(&object, "uuid",
						DatumGetCString(DirectFunctionCall1(uuid_out,
															UUIDPGetDatum(&table->info.uuid))));
	add_sizes(&object, &table->info);
	docrep_raw_add_int64(&object, "disk_format_version", DISK_FORMAT_VERSION);
	docrep_raw_add_bool(&object, "compact_running", false);
	docrep_raw_init(&props, true, 0);
	docrep_raw_add_built(&object, "props", &props);
	docrep_table_close(table, NoLock);
	PG_RETURN_JSONB_P(docrep_raw_finish(&object));
}

/*
 * docrep.table_stays(tbl): does the caller have SELECT on it, and is it there?  A view
 * finds its tables by the catalogue of when the statement began, and one that was
 * dropped since shall not make it fail.
 */
Datum
docrep_table_stays(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	bool		missing = false;
	Relation	rel;

	/* first the privilege: nobody else shall take a lock on it */
	if (!OidIsValid(relid) ||
		pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT, &missing) != ACLCHECK_OK || missing)
		PG_RETURN_BOOL(false);
	rel = try_relation_open(relid, AccessShareLock);
	if (rel == NULL)
		PG_RETURN_BOOL(false);
	relation_close(rel, NoLock);
	PG_RETURN_BOOL(true);
}
