/*-------------------------------------------------------------------------
 *
 * conflicts.c
 *		Which documents are in conflict: what the views docrep.conflicts and
 *		docrep.tables are made of.
 *
 * A document is in conflict if it has more than one live leaf that is not merged
 * with the winner.  Then its winner is live, and every other live leaf has a row in
 * the companion of losing leaves, in which a partial index finds just these: one
 * conflict among millions of documents costs one look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/json_text.h"
#include "store/origins.h"
#include "store/rev_type.h"
#include "store/sql_support.h"
#include "store/state.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A walk over the documents in conflict, in order of id. */
typedef struct ConflictScan
{
	DocTable   *table;
	Snapshot	snapshot;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	text	   *last_id;		/* of the document before, or NULL */
	char	   *last_origin;	/* as text, of the version before, or NULL */
	bool		last_own;		/* it was this database ... */
	pg_uuid_t	last_uuid;		/* ... or else this one */
} ConflictScan;

static void
begin_scan(ConflictScan *s, DocTable *table)
{
	Relation	leaf = docrep_leaf_rel(table);

	s->table = table;
	s->snapshot = GetActiveSnapshot();
	s->index = index_open(table->info.leaf_open_oid, AccessShareLock);
	s->slot = table_slot_create(leaf, NULL);
	s->scan = docrep_index_beginscan(leaf, s->index, s->snapshot, 0);
	s->last_id = NULL;
	s->last_origin = NULL;
	index_rescan(s->scan, NULL, 0, NULL, 0);
}

static void
end_scan(ConflictScan *s)
{
	index_endscan(s->scan);
	index_close(s->index, NoLock);
	ExecDropSingleTupleTableSlot(s->slot);
}

static bool
same_id(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* The id of the next document in conflict that the role may see, or NULL; allocated. */
static char *
next_document(ConflictScan *s)
{
	while (index_getnext_slot(s->scan, ForwardScanDirection, s->slot))
	{
		bool		isnull;
		text	   *id;
		const char *cstring;
		bool		visible;

		CHECK_FOR_INTERRUPTS();
		/* what the index was made for, if its owner has made it again */
		if (DatumGetBool(slot_getattr(s->slot, Anum_leaf_deleted, &isnull)) ||
			DatumGetBool(slot_getattr(s->slot, Anum_leaf_merged, &isnull)))
			continue;
		id = DatumGetTextPP(slot_getattr(s->slot, Anum_leaf_id, &isnull));
		if (s->last_id && same_id(id, s->last_id))
			continue;
		if (s->last_id)
			pfree(s->last_id);
		s->last_id = DatumGetTextPCopy(PointerGetDatum(id));
		cstring = text_to_cstring(s->last_id);
		docrep_visible_ids(s->table, &cstring, 1, &visible);
		if (visible)
			return unconstify(char *, cstring);
	}
	return NULL;
}

/* An origin as text; most versions have the one of the version before. */
static const char *
origin_text(ConflictScan *s, const pg_uuid_t *origin)
{
	MemoryContext old;

	if (s->last_origin && s->last_own == (origin == NULL) &&
		(origin == NULL || memcmp(origin, &s->last_uuid, sizeof(pg_uuid_t)) == 0))
		return s->last_origin;
	old = MemoryContextSwitchTo(GetMemoryChunkContext(s->table));
	s->last_origin = docrep_origin_text(s->table, origin);
	MemoryContextSwitchTo(old);
	s->last_own = origin == NULL;
	if (origin)
		s->last_uuid = *origin;
	return s->last_origin;
}

/* A row for a live leaf. */
static void
put_leaf(ConflictScan *s, const char *id, const Rev *rev, bool is_winner, const LeafState *leaf,
		 Tuplestorestate *store, TupleDesc desc)
{
	Datum		values[7];
	bool		nulls[7] = {false};

	values[0] = CStringGetTextDatum(id);
	values[1] = docrep_rev_datum(rev);
	values[2] = BoolGetDatum(is_winner);
	values[3] = BoolGetDatum(false);
	values[4] = leaf->doc ? JsonbPGetDatum(leaf->doc) :
		JsonbPGetDatum(docrep_json_parse("{}"));
	values[5] = TimestampTzGetDatum(leaf->modified);
	values[6] = CStringGetTextDatum(origin_text(s, leaf->origin));
	tuplestore_putvalues(store, desc, values, nulls);
}

/* A row for every live leaf of a document that is not merged, the winner first. */
static void
put_document(ConflictScan *s, const char *id, Tuplestorestate *store, TupleDesc desc)
{
	DocState	state;
	int32	   *leaves;
	int32		n;

	if (!docrep_state_read(s->table, s->snapshot, id, DOCSTATE_BODY, &state))
		return;
	n = docrep_revtree_leaves(state.tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		const RevNode *node = &state.tree->nodes[leaves[i]];
		LeafState	leaf = {.doc = state.doc, .modified = state.modified, .origin = state.origin};
		bool		is_winner = leaves[i] == state.winner;

		if (node->deleted)
			continue;
		if (!is_winner && !docrep_leaf_state(s->table, s->snapshot, id, &node->rev, &leaf))
			docrep_leaf_missing(id, &node->rev);
		if (!leaf.merged)
			put_leaf(s, id, &node->rev, is_winner, &leaf, store, desc);
	}
}

PG_FUNCTION_INFO_V1(docrep_conflicts);

/* docrep.conflicts(tbl): the live leaves of the documents in conflict. */
Datum
docrep_conflicts(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Tuplestorestate *store = docrep_srf_begin(fcinfo, &desc);
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep conflict",
												  ALLOCSET_DEFAULT_SIZES);
	ConflictScan scan;
	char	   *id;

	begin_scan(&scan, table);
	while ((id = next_document(&scan)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(row_cxt);

		put_document(&scan, id, store, desc);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_cxt);
		pfree(id);
	}
	end_scan(&scan);
	docrep_table_close(table, NoLock);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(docrep_conflict_count);

/* docrep.conflict_count(tbl): how many documents are in conflict. */
Datum
docrep_conflict_count(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	ConflictScan scan;
	int64		n = 0;
	char	   *id;

	begin_scan(&scan, table);
	while ((id = next_document(&scan)) != NULL)
	{
		pfree(id);
		n++;
	}
	end_scan(&scan);
	docrep_table_close(table, NoLock);
	PG_RETURN_INT64(n);
}
