/*-------------------------------------------------------------------------
 *
 * resolve.c
 *		SQL functions that end conflicts: resolve, resolve_conflicts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "compat.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/rev_type.h"
#include "store/seqs.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* ---------- resolve ---------- */

/* A document in conflict, its row locked. */
typedef struct Conflict
{
	DocTable   *table;
	const char *id;
	DocState	state;
	int32	   *leaves;			/* live ones, the winner first */
	int			n;
} Conflict;

static void
not_found(const char *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_NOT_FOUND),
			 errmsg("document \"%s\" does not exist", id)));
}

/* Lock the document's row and take it apart; DR404 if it is not there for the role. */
static void
lock_conflict(Conflict *c)
{
	TupleTableSlot *slot;
	bool		visible;
	int			n;

	docrep_visible_ids(c->table, &c->id, 1, &visible);
	slot = visible ? docrep_lock_row(c->table, DOC_IN_REL, c->id) : NULL;
	if (slot == NULL)
		not_found(c->id);
	docrep_state_from_slot(c->table, false, slot, DOCSTATE_BODY, &c->state);
	n = docrep_revtree_leaves(c->state.tree, &c->leaves);
	for (c->n = 0; c->n < n && !c->state.tree->nodes[c->leaves[c->n]].deleted;)
		c->n++;
}

static Rev *
leaf_rev(Conflict *c, int i)
{
	return &c->state.tree->nodes[c->leaves[i]].rev;
}

static void
no_such_version(const Rev *rev, const char *id)
{
	char		text[REV_TEXT_SIZE];

	docrep_rev_print(rev, text);
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_CONFLICT),
			 errmsg("%s is no live version of document \"%s\"", text, id),
			 errhint("Somebody else has resolved the conflict, or edited this version: look at docrep.conflicts again.")));
}

/* The version that is to be kept, as the edit that makes it the document; false: it is already. */
static bool
edit_to_keep(Conflict *c, const Rev *keep, DocWrite *write)
{
	int			i = 0;
	LeafState	leaf;

	while (i < c->n && !docrep_rev_eq(leaf_rev(c, i), keep))
		i++;
	if (i == c->n)
		no_such_version(keep, c->id);
	if (i == 0)
		return false;
	if (!docrep_leaf_state(c->table, GetLatestSnapshot(), c->id, keep, &leaf))
		docrep_leaf_missing(c->id, keep);
	write->body = leaf.doc;
	docrep_atts_from_column(leaf.atts, &write->atts);
	write->own_atts = true;
	return true;
}

/* The merged body, as the edit that stores it. */
static void
edit_to_store(Conflict *c, Jsonb *doc, DocWrite *write)
{
	docrep_document_parse(doc, true, write);
	if (write->id && strcmp(write->id, c->id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("the document to store is \"%s\", not \"%s\"", write->id, c->id)));
	if (write->path.n > 0 && !docrep_rev_eq(&write->path.revs[0], leaf_rev(c, 0)))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_CONFLICT),
				 errmsg("Document update conflict."),
				 errdetail("The _rev given for document \"%s\" is not its current revision.", c->id)));
}

/*
 * Make the edit on top of the winner, if any, and close all other versions.  Returns the
 * edit's revision, or the winner's.
 */
static Datum
write_resolution(Conflict *c, DocWrite *edit)
{
	DocWrite   *writes = palloc0((c->n + 1) * sizeof(DocWrite));
	int			n = 0;

	if (edit)
	{
		writes[n] = *edit;
		writes[n].id = c->id;
		writes[n].path.n = 1;
		writes[n++].path.revs = leaf_rev(c, 0);
	}
	for (int i = 1; i < c->n; i++)
	{
		writes[n].id = c->id;
		writes[n].deleted = true;
		writes[n].closing = true;
		writes[n].path.n = 1;
		writes[n++].path.revs = leaf_rev(c, i);
	}
	docrep_write_edits(c->table, writes, n, false);
	for (int i = 0; i < n; i++)
	{
		if (writes[i].sqlstate != 0)
			ereport(ERROR,
					(errcode(writes[i].sqlstate),
					 errmsg("%s", writes[i].reason)));
	}
	return docrep_rev_datum(edit ? &writes[0].rev : leaf_rev(c, 0));
}

/* Without a conflict there is nothing to resolve: somebody may have done that. */
static void
check_in_conflict(Conflict *c)
{
	if (c->n < 2)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_CONFLICT),
				 errmsg("document \"%s\" is not in conflict", c->id),
				 errhint("docrep.put(), docrep.delete() and plain statements edit a document that has no conflict.")));
}

PG_FUNCTION_INFO_V1(docrep_resolve);

/* docrep.resolve(tbl, id, keep, doc, delete) returns docrep.rev */
Datum
docrep_resolve(PG_FUNCTION_ARGS)
{
	Conflict	c = {0};
	DocWrite	edit;
	bool		delete = docrep_arg_bool(fcinfo, 4);
	bool		has_edit = true;
	Datum		result;

	if ((PG_ARGISNULL(2) ? 0 : 1) + (PG_ARGISNULL(3) ? 0 : 1) + (delete ? 1 : 0) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("docrep.resolve() needs one of keep, doc and delete")));
	c.table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
								ACL_SELECT | (delete ? ACL_DELETE : ACL_UPDATE));
	c.id = docrep_arg_id(fcinfo, 1, "id");
	PreventCommandIfReadOnly("docrep.resolve()");
	docrep_seq_register(&c.table->info);
	lock_conflict(&c);
	memset(&edit, 0, sizeof(edit));
	if (!PG_ARGISNULL(2))
	{
		Rev			keep;

		docrep_datum_rev(PG_GETARG_DATUM(2), &keep);
		has_edit = edit_to_keep(&c, &keep, &edit);
	}
	else
	{
		check_in_conflict(&c);
		if (delete)
			edit.deleted = true;
		else
			edit_to_store(&c, PG_GETARG_JSONB_P(3), &edit);
	}
	if (c.n > 1)
		result = write_resolution(&c, has_edit ? &edit : NULL);
	else
		result = docrep_rev_datum(leaf_rev(&c, 0));
	docrep_table_close(c.table, NoLock);
	PG_RETURN_DATUM(result);
}

/* ---------- resolve_conflicts ---------- */

/* Does a row of a losing leaf belong to a document that has more than one live version? */
static bool
is_live_leaf(TupleTableSlot *slot)
{
	bool		isnull;

	return !DatumGetBool(slot_getattr(slot, Anum_leaf_deleted, &isnull));
}

/*
 * The ids after "after" (NULL: from the first) of documents that may be in conflict, merged
 * ones, too; at most max.  Returns how many there are.
 */
static int
find_ids(DocTable *table, const char *after, int max, const char **ids)
{
	Relation	leaf = docrep_leaf_rel(table);
	Relation	index = index_open(table->info.leaf_pk_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = docrep_index_beginscan(leaf, index, snapshot, after ? 1 : 0);
	ScanKeyData key;
	int			n = 0;

	if (after)
		ScanKeyEntryInitialize(&key, 0, 1, BTGreaterStrategyNumber, InvalidOid, C_COLLATION_OID,
							   F_TEXT_GT, CStringGetTextDatum(after));
	index_rescan(scan, after ? &key : NULL, after ? 1 : 0, NULL, 0);
	while (n < max && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		char	   *id;

		CHECK_FOR_INTERRUPTS();
		if (!is_live_leaf(slot))
			continue;
		id = TextDatumGetCString(slot_getattr(slot, Anum_leaf_id, &isnull));
		if (n > 0 && strcmp(id, ids[n - 1]) == 0)
			continue;
		ids[n++] = id;
	}
	index_endscan(scan);
	index_close(index, NoLock);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	return n;
}

PG_FUNCTION_INFO_V1(docrep_resolve_conflicts);

/* docrep.resolve_conflicts(tbl, max_docs, after, OUT last, OUT examined, OUT resolved, OUT unresolved) */
Datum
docrep_resolve_conflicts(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, 0);
	int			max = docrep_arg_int32(fcinfo, 1, "max_docs");
	char	   *after = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	const char **ids;
	DocWrite   *writes;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {false};
	int			n;
	int			unresolved = 0;

	docrep_table_check_owner(table);
	if (max < 1 || max > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("max_docs must be 1 to 100000, not %d", max)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	ids = palloc(max * sizeof(char *));
	n = find_ids(table, after, max, ids);
	writes = palloc0(Max(n, 1) * sizeof(DocWrite));
	for (int i = 0; i < n; i++)
		writes[i].id = ids[i];
	docrep_write_again(table, writes, n);
	for (int i = 0; i < n; i++)
		unresolved += writes[i].sqlstate != 0 || writes[i].unresolved > 1 ? 1 : 0;
	nulls[0] = n < max;
	if (!nulls[0])
		values[0] = CStringGetTextDatum(ids[n - 1]);
	values[1] = Int32GetDatum(n);
	values[2] = Int32GetDatum(n - unresolved);
	values[3] = Int32GetDatum(unresolved);
	docrep_table_close(table, NoLock);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
