/*-------------------------------------------------------------------------
 *
 * revert_find.c
 *		Which documents are perhaps not what they were at a time.
 *
 * Live documents, tombstones and kept versions are read side by side in order
 * of id, each from its index, so that nothing has to be remembered.
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
#include "store/revert.h"
#include "store/revisions_internal.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A walk over one table in order of id. */
typedef struct Cursor
{
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	AttrNumber	a_id;
	char	   *id;				/* of the row at which it stands; NULL: at the end */
} Cursor;

struct RevertScan
{
	DocTable   *table;
	TimestampTz at;
	Snapshot	snapshot;
	Cursor		live;
	Cursor		dead;
	Cursor		kept;
};

/* Step to the next row. */
static void
step(Cursor *c)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (c->id)
		pfree(c->id);
	c->id = NULL;
	if (index_getnext_slot(c->scan, ForwardScanDirection, c->slot))
		c->id = TextDatumGetCString(slot_getattr(c->slot, c->a_id, &isnull));
}

static void
begin(Cursor *c, Relation rel, Oid index, AttrNumber a_id, Snapshot snapshot)
{
	c->index = index_open(index, AccessShareLock);
	c->slot = table_slot_create(rel, NULL);
	c->scan = docrep_index_beginscan(rel, c->index, snapshot, 0);
	c->a_id = a_id;
	index_rescan(c->scan, NULL, 0, NULL, 0);
	step(c);
}

static void
end(Cursor *c)
{
	index_endscan(c->scan);
	ExecDropSingleTupleTableSlot(c->slot);
	index_close(c->index, AccessShareLock);
}

RevertScan *
docrep_revert_scan(DocTable *table, TimestampTz at)
{
	const DocTableInfo *info = &table->info;
	RevertScan *s = palloc0(sizeof(RevertScan));

	s->table = table;
	s->at = at;
	s->snapshot = RegisterSnapshot(GetLatestSnapshot());
	begin(&s->live, table->rel, info->pk_oid, info->a_id, s->snapshot);
	begin(&s->dead, docrep_dead_rel(table), info->dead_pk_oid, Anum_dead_id, s->snapshot);
	begin(&s->kept, docrep_kept_rel(table), info->rev_pk_oid, Anum_kept_id, s->snapshot);
	return s;
}

void
docrep_revert_scan_end(RevertScan *s)
{
	end(&s->live);
	end(&s->dead);
	end(&s->kept);
	UnregisterSnapshot(s->snapshot);
	pfree(s);
}

static bool
stands_at(const Cursor *c, const char *id)
{
	return c->id && strcmp(c->id, id) == 0;
}

/* A time of the row at which the cursor stands. */
static TimestampTz
row_time(Cursor *c, AttrNumber attno)
{
	bool		isnull;
	Datum		d = slot_getattr(c->slot, attno, &isnull);

	return isnull ? DT_NOEND : DatumGetTimestampTz(d);
}

/* The lowest id at which a cursor stands, or NULL. */
static const char *
lowest(const RevertScan *s)
{
	const char *ids[] = {s->live.id, s->dead.id, s->kept.id};
	const char *result = NULL;

	for (int i = 0; i < lengthof(ids); i++)
	{
		if (ids[i] && (result == NULL || strcmp(ids[i], result) < 0))
			result = ids[i];
	}
	return result;
}

/* Pass a document in all three tables.  Has anything happened to it since? */
static bool
pass(RevertScan *s, const char *id, bool *is_document)
{
	bool		changed = false;

	*is_document = false;
	if (stands_at(&s->live, id))
	{
		*is_document = true;
		changed |= row_time(&s->live, s->table->info.a_modified) > s->at;
		step(&s->live);
	}
	if (stands_at(&s->dead, id))
	{
		*is_document = true;
		changed |= row_time(&s->dead, Anum_dead_modified) > s->at;
		step(&s->dead);
	}
	while (stands_at(&s->kept, id))
	{
		changed |= row_time(&s->kept, Anum_kept_replaced_at) > s->at;
		step(&s->kept);
	}
	return changed;
}

char *
docrep_revert_next(RevertScan *s, int64 *unchanged)
{
	const char *next;

	while ((next = lowest(s)) != NULL)
	{
		char	   *id = pstrdup(next);
		bool		is_document;
		bool		changed = pass(s, id, &is_document);

		if (changed && is_document)
			return id;
		if (is_document)
			(*unchanged)++;
		pfree(id);
	}
	return NULL;
}
