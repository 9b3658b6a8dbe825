/*-------------------------------------------------------------------------
 *
 * companion_kept.c
 *		Rows of former versions, rev_<uuid>.
 *
 * Rows are inserted and deleted, never changed.  Who writes the versions of a
 * document has locked its row; a cleaning in the background locks nothing and
 * waits for nobody.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "store/companion.h"
#include "store/companion_internal.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

TupleTableSlot *
docrep_kept_first(DocTable *table, Snapshot snapshot, const char *id, bool backward)
{
	Companions *c = docrep_companions_get(table);
	IdScan	   *s = docrep_companion_scan(table, &c->kept_scan, docrep_kept_rel(table),
										  table->info.rev_pk_oid, 1);
	ScanKeyData key;

	docrep_companion_id_key(&key, CStringGetTextDatum(id));
	s->scan->xs_snapshot = snapshot;
	index_rescan(s->scan, &key, 1, NULL, 0);
	c->kept_direction = backward ? BackwardScanDirection : ForwardScanDirection;
	return docrep_kept_next(table);
}

TupleTableSlot *
docrep_kept_next(DocTable *table)
{
	Companions *c = docrep_companions_get(table);
	MemoryContext old = MemoryContextSwitchTo(c->cxt);
	bool		found = index_getnext_slot(c->kept_scan.scan, c->kept_direction,
										   c->kept_scan.slot);

	MemoryContextSwitchTo(old);
	return found ? c->kept_scan.slot : NULL;
}

bool
docrep_kept_delete(DocTable *table, ItemPointer tid, bool wait)
{
	TM_FailureData tmfd;
	TM_Result	result = table_tuple_delete(docrep_kept_rel(table), tid,
											GetCurrentCommandId(true), GetLatestSnapshot(),
											InvalidSnapshot, wait, &tmfd, false);

	return result == TM_Ok;
}
