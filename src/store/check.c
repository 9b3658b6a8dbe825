/*-------------------------------------------------------------------------
 *
 * check.c
 *		docrep.check(tbl): is what is stored of a document table consistent?
 *
 * Reads the table and its companions once, as of one snapshot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/content.h"
#include "store/rev_type.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "store/state.h"
#include "store/table_ddl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

typedef struct Check
{
	DocTable   *table;
	Snapshot	snapshot;
	Tuplestorestate *store;
	TupleDesc	desc;
	int64		horizon;
	MemoryContext row_cxt;
} Check;

static void
report(Check *check, const char *id, const char *problem)
{
	Datum		values[2];
	bool		nulls[2] = {id == NULL, false};

	if (id)
		values[0] = CStringGetTextDatum(id);
	values[1] = CStringGetTextDatum(problem);
	tuplestore_putvalues(check->store, check->desc, values, nulls);
}

/* ---------- the table's definition ---------- */

static void
check_trigger(Check *check, const char *name)
{
	TriggerDesc *desc = check->table->rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *t = &desc->triggers[i];

		if (strcmp(t->tgname, name) != 0)
			continue;
		if (t->tgenabled != TRIGGER_FIRES_ALWAYS)
			report(check, NULL,
				   psprintf("trigger \"%s\" is %s: ALTER TABLE ... ENABLE ALWAYS TRIGGER", name,
							t->tgenabled == TRIGGER_DISABLED ? "disabled, and changes go unrecorded" :
							"not enabled ALWAYS"));
		return;
	}
	report(check, NULL, psprintf("trigger \"%s\" is missing", name));
}

static void
check_later_triggers(Check *check)
{
	TriggerDesc *desc = check->table->rel->trigdesc;
	bool		ours = false;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		Trigger    *t = &desc->triggers[i];

		if (strcmp(t->tgname, DOCREP_TRACK_TRIGGER) == 0)
			ours = true;
		else if (ours && TRIGGER_FOR_ROW(t->tgtype) && TRIGGER_FOR_BEFORE(t->tgtype))
			report(check, NULL,
				   psprintf("trigger \"%s\" fires after docrep's own: give it a name that sorts before",
							t->tgname));
	}
}

static void
check_companion(Check *check, Oid companion)
{
	if (docrep_companion_table(companion) != check->table->info.relid)
		report(check, NULL,
			   psprintf("companion \"%s\" does not depend on the table: it would stay after DROP TABLE",
						get_rel_name(companion)));
}

static void
check_definition(Check *check)
{
	const DocTableInfo *info = &check->table->info;

	check_trigger(check, DOCREP_TRACK_TRIGGER);
	check_trigger(check, "~docrep_settle_insert");
	check_trigger(check, "~docrep_settle_rename");
	check_trigger(check, "~docrep_settle_delete");
	check_trigger(check, "~docrep_refuse_truncate");
	check_later_triggers(check);
	check_companion(check, info->dead_relid);
	check_companion(check, info->leaf_relid);
	check_companion(check, info->att_relid);
	check_companion(check, info->rev_relid);
	check_companion(check, info->seq_relid);
}

/* ---------- rows ---------- */

/* Every live losing leaf has a body somewhere. */
static void
check_leaves(Check *check, const char *id, DocState *state)
{
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(state->tree, &leaves);

	for (int i = 1; i < n; i++)
	{
		RevNode    *node = &state->tree->nodes[leaves[i]];
		char		text[REV_TEXT_SIZE];

		if (node->deleted ||
			docrep_leaf_find(check->table, check->snapshot, id, &node->rev) != NULL)
			continue;
		docrep_rev_print(&node->rev, text);
		report(check, id, psprintf("the body of conflicting revision %s is missing", text));
	}
}

/* Is the body that of a row which shows a conflict of this winner with others? */
static bool
is_marker(Jsonb *doc, const Rev *winner)
{
	JsonbValue	space;
	JsonbValue *value;
	char		text[REV_TEXT_SIZE];
	size_t		len;

	if (!JB_ROOT_IS_OBJECT(doc) || JB_ROOT_COUNT(doc) != 1)
		return false;
	value = getKeyJsonValueFromContainer(&doc->root, "Conflicts", strlen("Conflicts"), &space);
	if (value == NULL || value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data))
		return false;
	value = getIthJsonbValueFromContainer(value->val.binary.data, 0);
	len = docrep_rev_print(winner, text);
	return value && value->type == jbvString && value->val.string.len == (int) len &&
		memcmp(value->val.string.val, text, len) == 0;
}

/* A row shows its conflict if, and only if, the winner's body is among those of the losing leaves. */
static void
check_mark(Check *check, const char *id, TupleTableSlot *slot, const DocState *state)
{
	const Rev  *winner = &state->tree->nodes[state->winner].rev;
	bool		isnull;
	Datum		d;
	bool		marker;
	bool		kept;

	if (!state->live || docrep_revtree_live_leaves(state->tree) < 2)
		return;
	d = slot_getattr(slot, check->table->info.a_doc, &isnull);
	marker = !isnull && is_marker(DatumGetJsonbP(d), winner);
	kept = docrep_leaf_find(check->table, check->snapshot, id, winner) != NULL;
	if (marker && !kept)
		report(check, id, "the row shows a conflict, and the winner's body is missing");
	else if (kept && !marker)
		report(check, id, "the row does not show the conflict, but the winner's body is kept as if it did");
}

static void
check_state(Check *check, const char *id, const Rev *row_rev, DocState *state)
{
	const char *problem = docrep_revtree_check(state->tree);
	RevNode    *winner;

	if (problem)
	{
		report(check, id, psprintf("malformed tree: %s", problem));
		return;
	}
	winner = &state->tree->nodes[state->winner];
	if (!docrep_rev_eq(row_rev, &winner->rev))
		report(check, id, "_rev is not the winner of the tree");
	if (winner->deleted == state->live)
		report(check, id, state->live ? "the winner is deleted, but the document is live" :
			   "the winner is not deleted, but the document is among the tombstones");
	if (state->seq <= 0 || state->seq >= check->horizon)
		report(check, id, psprintf("_seq " INT64_FORMAT " was never handed out", state->seq));
	check_leaves(check, id, state);
}

/* Every attachment of a revision has its content. */
static void
check_atts(Check *check, const char *id, Datum column, bool isnull)
{
	DocAtts		atts;

	if (isnull)
		return;
	docrep_atts_from_column(DatumGetJsonbP(column), &atts);
	for (int i = 0; i < atts.n; i++)
	{
		TupleTableSlot *slot = docrep_att_first(check->table, check->snapshot,
												atts.atts[i].file, 0, false);

		if (slot == NULL || docrep_att_slot_part(slot) != 0 ||
			slot_attisnull(slot, Anum_att_sha256))
			report(check, id, psprintf("the content of attachment \"%s\" is missing",
									   atts.atts[i].name));
	}
}

/* Why the bookkeeping of a row cannot be read at all, or NULL. */
static const char *
unreadable(Check *check, bool in_dead, TupleTableSlot *slot)
{
	const DocTableInfo *info = &check->table->info;
	RevTree    *tree;
	bytea	   *packed;
	bool		isnull;
	Datum		d;

	(void) slot_getattr(slot, in_dead ? Anum_dead_rev : info->a_rev, &isnull);
	if (isnull)
		return "_rev is missing: the row was written while docrep's triggers were disabled";
	d = slot_getattr(slot, in_dead ? Anum_dead_tree : info->a_tree, &isnull);
	if (isnull)
		return NULL;
	packed = DatumGetByteaPP(d);
	tree = docrep_revtree_unpack((uint8 *) VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	if (tree == NULL || tree->n == 0)
		return "the revision tree is malformed";
	if (tree->trunk_loaded)
		return NULL;
	d = slot_getattr(slot, in_dead ? Anum_dead_trunk : info->a_trunk, &isnull);
	if (isnull)
		return "the older part of the revision tree is missing";
	packed = DatumGetByteaPP(d);
	return docrep_revtree_load_trunk(tree, (uint8 *) VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed)) ?
		NULL : "the older part of the revision tree is malformed";
}

static void
check_row(Check *check, bool in_dead, TupleTableSlot *slot)
{
	const DocTableInfo *info = &check->table->info;
	bool		isnull;
	char	   *id = TextDatumGetCString(slot_getattr(slot, in_dead ? Anum_dead_id : info->a_id,
													  &isnull));
	const char *wrong = unreadable(check, in_dead, slot);
	DocState	state;
	Rev			rev;

	if (wrong)
	{
		report(check, id, wrong);
		return;
	}
	docrep_datum_rev(slot_getattr(slot, in_dead ? Anum_dead_rev : info->a_rev, &isnull), &rev);
	docrep_state_from_slot(check->table, in_dead, slot, DOCSTATE_TRUNK | DOCSTATE_ATTS, &state);
	check_state(check, id, &rev, &state);
	check_mark(check, id, slot, &state);
	check_atts(check, id, JsonbPGetDatum(state.atts), state.atts == NULL);
	if (in_dead && docrep_find_row(check->table, DOC_IN_REL, check->snapshot, id) != NULL)
		report(check, id, "the document is live and among the tombstones at once");
}

/* Does the row of a winner hold the body of a document that shows as a conflict? */
static bool
is_mark(TupleTableSlot *slot, const DocState *state)
{
	bool		isnull;

	return DatumGetBool(slot_getattr(slot, Anum_leaf_merged, &isnull)) && state->live &&
		docrep_revtree_live_leaves(state->tree) > 1;
}

/* A row of a losing leaf belongs to a document in whose tree it is a losing leaf. */
static void
check_leaf_row(Check *check, TupleTableSlot *slot)
{
	bool		isnull;
	char	   *id = TextDatumGetCString(slot_getattr(slot, Anum_leaf_id, &isnull));
	Datum		d = slot_getattr(slot, Anum_leaf_rev, &isnull);
	TupleTableSlot *row = docrep_find_row(check->table, DOC_IN_REL, check->snapshot, id);
	bool		in_dead = row == NULL;
	DocState	state;
	Rev			rev;
	int32		node = -1;

	docrep_datum_rev(PointerGetDatum(DatumGetByteaPCopy(d)), &rev);
	if (in_dead)
		row = docrep_find_row(check->table, DOC_IN_DEAD, check->snapshot, id);
	if (row)
	{
		if (unreadable(check, in_dead, row))
			return;				/* that is reported already */
		docrep_state_from_slot(check->table, in_dead, row, 0, &state);
		node = docrep_revtree_find(state.tree, &rev);
	}
	if (node < 0 || state.tree->nodes[node].nchildren > 0 ||
		(node == state.winner && !is_mark(slot, &state)))
	{
		char		text[REV_TEXT_SIZE];

		docrep_rev_print(&rev, text);
		report(check, id, psprintf("a body is kept for revision %s, which is no losing leaf", text));
	}
	d = slot_getattr(slot, Anum_leaf_attachments, &isnull);
	check_atts(check, id, d, isnull);
}

/* A kept version belongs to a document that is here, and its attachments have their contents. */
static void
check_kept_row(Check *check, TupleTableSlot *slot)
{
	bool		isnull;
	char	   *id = TextDatumGetCString(slot_getattr(slot, Anum_kept_id, &isnull));
	Datum		d;

	if (docrep_find_row(check->table, DOC_IN_REL, check->snapshot, id) == NULL &&
		docrep_find_row(check->table, DOC_IN_DEAD, check->snapshot, id) == NULL)
		report(check, id, "a former version is kept of a document that is not here");
	d = slot_getattr(slot, Anum_kept_attachments, &isnull);
	check_atts(check, id, d, isnull);
}

typedef void (*RowCheck) (Check *check, TupleTableSlot *slot);

static void
check_live_row(Check *check, TupleTableSlot *slot)
{
	check_row(check, false, slot);
}

static void
check_dead_row(Check *check, TupleTableSlot *slot)
{
	check_row(check, true, slot);
}

static void
check_relation(Check *check, Relation rel, RowCheck row_check)
{
	TableScanDesc scan = table_beginscan(rel, check->snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(check->row_cxt);

		CHECK_FOR_INTERRUPTS();
		row_check(check, slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(check->row_cxt);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
}

PG_FUNCTION_INFO_V1(docrep_check);

/*
 * docrep.check(tbl regclass) returns table (id text, problem text): no row if
 * all is well.  Owner only.
 */
Datum
docrep_check(PG_FUNCTION_ARGS)
{
	Check		check;

	check.store = docrep_srf_begin(fcinfo, &check.desc);
	check.table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock, 0);
	docrep_table_check_owner(check.table);
	check.row_cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep check",
										  ALLOCSET_DEFAULT_SIZES);
	check.snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* after the snapshot: what it shows was taken before */
	check.horizon = PG_INT64_MAX;
	if (!RecoveryInProgress())
		check.horizon = docrep_seq_next(&check.table->info);
	check_definition(&check);
	check_relation(&check, check.table->rel, check_live_row);
	check_relation(&check, docrep_dead_rel(check.table), check_dead_row);
	check_relation(&check, docrep_leaf_rel(check.table), check_leaf_row);
	check_relation(&check, docrep_kept_rel(check.table), check_kept_row);
	UnregisterSnapshot(check.snapshot);
	docrep_table_close(check.table, AccessShareLock);
	return (Datum) 0;
}
