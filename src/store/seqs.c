/*-------------------------------------------------------------------------
 *
 * seqs.c
 *		Update sequences and the horizon of the changes feed.
 *
 * The counter of a table's entry (seq_entries.c) hands out numbers that were
 * reserved, a block at a time, from the table's sequence "seq_<uuid>" (INCREMENT
 * BY DOCREP_SEQ_BLOCK), so that what a reader saw never comes back after a crash.
 *
 * A transaction that writes registers in the entry the lowest number it may
 * take, before it takes one, and is removed in the commit or abort callback,
 * which runs after the transaction has left the array of running ones.  So a
 * snapshot taken after the horizon sees every change below it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "store/epochs.h"
#include "store/preload.h"
#include "store/seq_entries.h"
#include "store/seqs.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* What this transaction has registered. */
typedef struct Registration
{
	pg_uuid_t	uuid;
	SeqEntry   *entry;
	int32		slot;
	uint64		dead_epoch;
	bool		recorded_epoch; /* it wrote the row in docrep.epochs */
} Registration;

static Registration *registrations = NULL;
static int	nregistrations = 0;
static int	registrations_cap = 0;

/* A table that this transaction has dropped; the list is in its memory. */
typedef struct DroppedTable
{
	pg_uuid_t	uuid;
	SubTransactionId subxact;
} DroppedTable;

static List *dropped_tables = NIL;

/* Whose latch to set when a transaction ends; each process waits for a table once. */
static int32 *wake_list = NULL;

/* ---------- writing ---------- */

/* Does the table of tombstones have any page? */
static bool
dead_has_pages(const DocTableInfo *table)
{
	Relation	dead = table_open(table->dead_relid, AccessShareLock);
	bool		result = RelationGetNumberOfBlocks(dead) > 0;

	table_close(dead, AccessShareLock);
	return result;
}

/* Reserve a block of numbers and put it into the entry. */
static void
reserve_block(const DocTableInfo *table, SeqEntry *entry)
{
	int64		start = nextval_internal(table->seq_relid, false);
	XLogRecPtr	lsn;

	/* the number may have been logged with one that another process has got */
	(void) docrep_seq_reserved_end(table, &lsn);
	SpinLockAcquire(&entry->mutex);
	if (entry->next == 0)
	{
		entry->next = entry->epoch_start = start;
		entry->limit = start + DOCREP_SEQ_BLOCK;
	}
	else if (start >= entry->limit)
	{
		/* two processes may reserve at once: the later block wins, gaps are fine */
		if (start != entry->limit)
			entry->next = start;
		entry->limit = start + DOCREP_SEQ_BLOCK;
	}
	entry->flush_lsn = Max(entry->flush_lsn, lsn);
	SpinLockRelease(&entry->mutex);
}

static Registration *
find_registration(const DocTableInfo *table)
{
	for (int i = nregistrations - 1; i >= 0; i--)
	{
		if (memcmp(&registrations[i].uuid, &table->uuid, sizeof(pg_uuid_t)) == 0)
			return &registrations[i];
	}
	return NULL;
}

static Registration *
get_registration(const DocTableInfo *table)
{
	Registration *reg = find_registration(table);
	SeqEntry   *entry;
	int32		slot;

	if (reg)
		return reg;
	docrep_require_preload();
	if (wake_list == NULL)
		wake_list = MemoryContextAlloc(TopMemoryContext,
									   ProcGlobal->allProcCount * sizeof(int32));
	if (nregistrations >= registrations_cap)
	{
		int			cap = Max(16, registrations_cap * 2);

		registrations = registrations ?
			repalloc(registrations, cap * sizeof(Registration)) :
			MemoryContextAlloc(TopMemoryContext, cap * sizeof(Registration));
		registrations_cap = cap;
	}
	entry = docrep_seq_entry_make(table);
	if (pg_atomic_read_u32(&entry->dead_used) == 0 && dead_has_pages(table))
		pg_atomic_write_u32(&entry->dead_used, 1);	/* from before the start, or restored */
	if (entry->next == 0)
		reserve_block(table, entry);
	slot = docrep_slot_alloc();

	reg = &registrations[nregistrations++];
	reg->uuid = table->uuid;
	reg->entry = entry;
	reg->slot = slot;
	reg->recorded_epoch = false;
	SpinLockAcquire(&entry->mutex);
	docrep_seqs->slots[slot].low = entry->next;
	docrep_seqs->slots[slot].next = entry->first_writer;
	entry->first_writer = slot;
	SpinLockRelease(&entry->mutex);
	reg->dead_epoch = pg_atomic_read_u64(&entry->dead_epoch);
	pg_memory_barrier();

	if (!entry->epoch_known)
	{
		bool		recorded = docrep_epoch_ensure(table, entry->epoch_start);

		/* the array may have moved meanwhile */
		reg = find_registration(table);
		reg->recorded_epoch = recorded;
		if (!recorded)
			entry->epoch_known = true;
	}
	return reg;
}

void
docrep_seq_register(const DocTableInfo *table)
{
	(void) get_registration(table);
}

int64
docrep_seq_take(const DocTableInfo *table)
{
	SeqEntry   *entry = get_registration(table)->entry;

	for (;;)
	{
		int64		result = 0;

		SpinLockAcquire(&entry->mutex);
		if (entry->next < entry->limit)
			result = entry->next++;
		SpinLockRelease(&entry->mutex);
		if (result > 0)
			return result;

		/* without end, should somebody have set the sequence back */
		CHECK_FOR_INTERRUPTS();
		reserve_block(table, entry);
	}
}

/* ---------- reading ---------- */

int64
docrep_seq_horizon(const DocTableInfo *table)
{
	int64		horizon;
	SeqEntry   *entry;
	Registration *own;
	XLogRecPtr	lsn;

	docrep_require_preload();
	if (RecoveryInProgress())
		docrep_seq_refuse_standby();
	horizon = docrep_seq_reserved_end(table, &lsn);
	entry = docrep_seq_entry_find(table);
	if (entry == NULL)
		return horizon;
	own = find_registration(table);
	SpinLockAcquire(&entry->mutex);
	if (entry->next == 0)
		horizon = entry->base;	/* a first writer may be between its nextval and us */
	else
	{
		horizon = entry->next;
		for (int32 s = entry->first_writer; s >= 0; s = docrep_seqs->slots[s].next)
		{
			if (docrep_seqs->slots[s].low < horizon && !(own && own->slot == s))
				horizon = docrep_seqs->slots[s].low;
		}
	}
	SpinLockRelease(&entry->mutex);
	return horizon;
}

int64
docrep_seq_next(const DocTableInfo *table)
{
	XLogRecPtr	lsn;
	int64		end = docrep_seq_reserved_end(table, &lsn);
	SeqEntry   *entry = docrep_seq_entry_find(table);

	if (entry)
	{
		SpinLockAcquire(&entry->mutex);
		end = Max(end, entry->next);
		SpinLockRelease(&entry->mutex);
	}
	return end;
}

void
docrep_seq_flush(const DocTableInfo *table)
{
	SeqEntry   *entry = docrep_seq_entry_find(table);
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	if (entry)
	{
		SpinLockAcquire(&entry->mutex);
		lsn = entry->flush_lsn;
		SpinLockRelease(&entry->mutex);
	}
	if (!XLogRecPtrIsInvalid(lsn))
		XLogFlush(lsn);
}

/* ---------- tombstone epochs ---------- */

bool
docrep_dead_epoch_moved(const DocTableInfo *table)
{
	Registration *reg = get_registration(table);

	pg_memory_barrier();
	return pg_atomic_read_u64(&reg->entry->dead_epoch) != reg->dead_epoch;
}

void
docrep_dead_epoch_bump(const DocTableInfo *table)
{
	Registration *reg = get_registration(table);
	uint64		before = pg_atomic_fetch_add_u64(&reg->entry->dead_epoch, 1);

	/* our own announcement is no news to ourselves */
	if (before == reg->dead_epoch)
		reg->dead_epoch = before + 1;
}

bool
docrep_dead_maybe_used(const DocTableInfo *table)
{
	return pg_atomic_read_u32(&get_registration(table)->entry->dead_used) != 0;
}

void
docrep_dead_mark_used(const DocTableInfo *table)
{
	pg_atomic_write_u32(&get_registration(table)->entry->dead_used, 1);
	pg_memory_barrier();
}

/* ---------- dropped tables ---------- */

void
docrep_seq_dropped(const pg_uuid_t *uuid)
{
	MemoryContext old;
	DroppedTable *d;

	if (docrep_seqs == NULL)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	d = palloc(sizeof(DroppedTable));
	d->uuid = *uuid;
	d->subxact = GetCurrentSubTransactionId();
	dropped_tables = lappend(dropped_tables, d);
	MemoryContextSwitchTo(old);
}

/* ---------- the end of a transaction ---------- */

/*
 * Remove a registration and wake up who waits.  Must not fail.  Latches are
 * set outside of the spinlock; wake_list has room for every process.
 */
static void
release_registration(Registration *reg, bool committed)
{
	SeqEntry   *entry = reg->entry;
	int			nwake = 0;
	int32		parked;

	SpinLockAcquire(&entry->mutex);
	docrep_slot_unlink(&entry->first_writer, reg->slot);
	entry->commits++;			/* an abort counts: it may have held the horizon back */
	if (committed)
	{
		entry->flush_lsn = Max(entry->flush_lsn, XactLastCommitEnd);
		if (reg->recorded_epoch)
			entry->epoch_known = true;
	}
	for (int32 s = entry->first_waiter; s >= 0; s = docrep_seqs->slots[s].next)
		wake_list[nwake++] = docrep_seqs->slots[s].procno;
	parked = entry->first_parked;
	entry->first_parked = -1;
	SpinLockRelease(&entry->mutex);
	docrep_slot_free(reg->slot);
	docrep_slots_woken(parked);
	for (int i = 0; i < nwake; i++)
		SetLatch(&ProcGlobal->allProcs[wake_list[i]].procLatch);
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (nregistrations == 0 && dropped_tables == NIL)
		return;
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (nregistrations > 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has written to a document table"),
						 errdetail("The changes feed would have to wait for it."),
						 errhint("Commit it without two-phase commit.")));
			break;
		case XACT_EVENT_PREPARE:
			dropped_tables = NIL;	/* the entries stay until the next start */
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			for (int i = 0; i < nregistrations; i++)
				release_registration(&registrations[i], event == XACT_EVENT_COMMIT);
			nregistrations = 0;
			if (event == XACT_EVENT_COMMIT)
			{
				ListCell   *lc;

				foreach(lc, dropped_tables)
					docrep_seq_entry_remove(&((DroppedTable *) lfirst(lc))->uuid);
			}
			dropped_tables = NIL;
			break;
		default:
			break;
	}
}

/*
 * A row of docrep.epochs written in a subtransaction that is rolled back is
 * gone: somebody later writes it again, with the same first number.  So is a
 * DROP TABLE in it.
 */
static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	ListCell   *lc;

	foreach(lc, dropped_tables)
	{
		DroppedTable *d = lfirst(lc);

		if (d->subxact != mySubid)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			d->subxact = parentSubid;
		else if (event == SUBXACT_EVENT_ABORT_SUB)
			dropped_tables = foreach_delete_current(dropped_tables, lc);
	}
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = 0; i < nregistrations; i++)
		registrations[i].recorded_epoch = false;
}

void
docrep_seqs_register_callbacks(void)
{
	RegisterSubXactCallback(subxact_callback, NULL);
	RegisterXactCallback(xact_callback, NULL);
}
