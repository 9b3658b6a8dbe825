/*-------------------------------------------------------------------------
 *
 * seqs.c
 *		Update sequences, the horizon of the changes feed, and wake-ups.
 *
 * Shared memory has an entry for every document table that somebody has
 * written to or waited for since the server started.  It stays until the table
 * is dropped.  An entry's counter hands out numbers that were reserved, a
 * block at a time, from the table's sequence "seq_<uuid>" (INCREMENT BY
 * DOCREP_SEQ_BLOCK), so that what a reader saw never comes back after a crash.
 *
 * A transaction that writes registers in the entry the lowest number it may
 * take, before it takes one, and is removed in the commit or abort callback,
 * which runs after the transaction has left the array of running ones.  So a
 * snapshot taken after the horizon sees every change below it.
 *
 * Locks: directory_lock (LWLock) protects the hash table's structure; the
 * spinlock of an entry its counter and lists; the spinlock of the pool the
 * list of free slots.  Never two of them at once, except that an entry's is
 * never taken under directory_lock held exclusively.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "compat.h"
#include "docrep.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "store/epochs.h"
#include "store/seqs.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "access/table.h"

typedef struct SeqKey
{
	Oid			dbid;
	pg_uuid_t	uuid;
} SeqKey;

/* A registration or a waiter; slots of one kind are chained by index. */
typedef struct SeqSlot
{
	int64		low;			/* registration: lowest number it may take */
	int32		procno;			/* waiter: whose latch to set */
	int32		next;
} SeqSlot;

typedef struct SeqEntry
{
	SeqKey		key;			/* must be first */
	slock_t		mutex;
	int64		next;			/* the next number; 0: none taken since the start */
	int64		limit;			/* numbers below it are reserved */
	int64		base;			/* while next is 0: nobody can have taken a number from here on */
	int64		epoch_start;	/* the first number taken since the start */
	uint64		commits;		/* transactions that wrote, ended */
	XLogRecPtr	flush_lsn;		/* WAL that readers must find durable */
	int32		first_writer;
	int32		first_waiter;
	bool		epoch_known;	/* the current history is recorded */
	bool		dropped;		/* the table is gone; the last waiter removes this */
	pg_atomic_uint64 dead_epoch;
	pg_atomic_uint32 dead_used;
} SeqEntry;

typedef struct SeqShared
{
	LWLock	   *directory_lock;
	slock_t		pool_mutex;
	int32		first_free;
	SeqSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} SeqShared;

/* What this transaction has registered. */
typedef struct Registration
{
	pg_uuid_t	uuid;
	SeqEntry   *entry;
	int32		slot;
	uint64		dead_epoch;
	bool		recorded_epoch; /* it wrote the row in docrep.epochs */
} Registration;

/* What this process waits for. */
typedef struct Waiting
{
	pg_uuid_t	uuid;
	SeqEntry   *entry;
	int32		slot;
} Waiting;

static int	max_tables = 20000;
static int	max_writes = 8192;

static SeqShared *shared = NULL;
static HTAB *directory = NULL;

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

static Waiting *waitings = NULL;
static int	nwaitings = 0;
static int	waitings_cap = 0;

void
docrep_seqs_define_gucs(void)
{
	DefineCustomIntVariable("docrep.max_tables",
							"Document tables that may be in use at once, in all databases.",
							"Each takes about 150 bytes of shared memory.",
							&max_tables, 20000, 100, 10000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("docrep.max_open_writes",
							"Pairs of a transaction and a document table that it writes to or waits for, at once.",
							"Each takes 16 bytes of shared memory.",
							&max_writes, 8192, 128, 10000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static Size
shared_size(void)
{
	return add_size(offsetof(SeqShared, slots), mul_size(max_writes, sizeof(SeqSlot)));
}

void
docrep_seqs_request_shmem(void)
{
	RequestAddinShmemSpace(add_size(shared_size(),
									hash_estimate_size(max_tables, sizeof(SeqEntry))));
	RequestNamedLWLockTranche("docrep_seqs", 1);
}

void
docrep_seqs_startup_shmem(void)
{
	HASHCTL		ctl;
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("docrep seqs", shared_size(), &found);
	if (!found)
	{
		shared->directory_lock = &GetNamedLWLockTranche("docrep_seqs")->lock;
		SpinLockInit(&shared->pool_mutex);
		shared->first_free = 0;
		for (int i = 0; i < max_writes; i++)
			shared->slots[i].next = i + 1 < max_writes ? i + 1 : -1;
	}
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(SeqKey);
	ctl.entrysize = sizeof(SeqEntry);
	directory = ShmemInitHash("docrep tables", Min(1024, max_tables), max_tables, &ctl,
							  HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

/* ---------- slots ---------- */

static int32
slot_alloc(void)
{
	int32		slot;

	SpinLockAcquire(&shared->pool_mutex);
	slot = shared->first_free;
	if (slot >= 0)
		shared->first_free = shared->slots[slot].next;
	SpinLockRelease(&shared->pool_mutex);
	if (slot < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many transactions are writing to document tables"),
				 errhint("Increase docrep.max_open_writes (now %d).", max_writes)));
	return slot;
}

static void
slot_free(int32 slot)
{
	SpinLockAcquire(&shared->pool_mutex);
	shared->slots[slot].next = shared->first_free;
	shared->first_free = slot;
	SpinLockRelease(&shared->pool_mutex);
}

/* Take a slot out of a chain; the entry's spinlock is held. */
static void
slot_unlink(int32 *head, int32 slot)
{
	int32	   *link = head;

	while (*link >= 0 && *link != slot)
		link = &shared->slots[*link].next;
	if (*link == slot)
		*link = shared->slots[slot].next;
}

/* ---------- entries ---------- */

static void
make_key(const pg_uuid_t *uuid, SeqKey *key)
{
	memset(key, 0, sizeof(*key));
	key->dbid = MyDatabaseId;
	key->uuid = *uuid;
}

static SeqEntry *
find_entry(const DocTableInfo *table)
{
	SeqKey		key;
	SeqEntry   *entry;

	make_key(&table->uuid, &key);
	LWLockAcquire(shared->directory_lock, LW_SHARED);
	entry = hash_search(directory, &key, HASH_FIND, NULL);
	LWLockRelease(shared->directory_lock);
	return entry;
}

/* Does the table of tombstones have any page? */
static bool
dead_has_pages(const DocTableInfo *table)
{
	Relation	dead = table_open(table->dead_relid, AccessShareLock);
	bool		result = RelationGetNumberOfBlocks(dead) > 0;

	table_close(dead, AccessShareLock);
	return result;
}

/*
 * The end of the last block reserved, and in *lsn the WAL that has to be
 * durable for it to stay so.  Read before looking for an entry, or
 * making one: as long as none exists nobody can be writing, and whoever begins
 * will take numbers from here on.
 */
static int64
sequence_end(const DocTableInfo *table, XLogRecPtr *lsn)
{
	Relation	rel = table_open(table->seq_relid, AccessShareLock);
	Buffer		buf = ReadBuffer(rel, 0);
	Page		page;
	HeapTupleData tuple;
	Form_pg_sequence_data data;
	int64		result;
	ItemId		lp;

	LockBuffer(buf, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buf);
	lp = PageGetItemId(page, FirstOffsetNumber);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, lp);
	tuple.t_len = ItemIdGetLength(lp);
	data = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	result = data->last_value + (data->is_called ? DOCREP_SEQ_BLOCK : 0);
	*lsn = PageGetLSN(page);
	UnlockReleaseBuffer(buf);
	table_close(rel, AccessShareLock);
	return result;
}

static void
refuse_on_standby(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("the changes feed cannot be read on a standby"),
			 errdetail("A standby does not know which of the primary's transactions are still writing."),
			 errhint("Read it on the primary.")));
}

static SeqEntry *
find_or_make_entry(const DocTableInfo *table)
{
	SeqEntry   *entry = find_entry(table);
	SeqKey		key;
	bool		found;
	int64		base;
	XLogRecPtr	lsn;

	if (entry)
		return entry;

	/* what an entry knows would be out of date once the server is promoted */
	if (RecoveryInProgress())
		refuse_on_standby();
	base = sequence_end(table, &lsn);
	make_key(&table->uuid, &key);
	LWLockAcquire(shared->directory_lock, LW_EXCLUSIVE);
	entry = NULL;
	if (hash_get_num_entries(directory) < max_tables ||
		hash_search(directory, &key, HASH_FIND, NULL))
		entry = hash_search(directory, &key, HASH_ENTER_NULL, &found);
	if (entry && !found)
	{
		SpinLockInit(&entry->mutex);
		entry->next = entry->limit = entry->epoch_start = 0;
		entry->base = base;
		entry->commits = 0;
		entry->flush_lsn = InvalidXLogRecPtr;
		entry->first_writer = entry->first_waiter = -1;
		entry->epoch_known = false;
		entry->dropped = false;
		pg_atomic_init_u64(&entry->dead_epoch, 1);
		pg_atomic_init_u32(&entry->dead_used, 0);
	}
	LWLockRelease(shared->directory_lock);
	if (entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many document tables are in use"),
				 errhint("Increase docrep.max_tables (now %d).", max_tables)));
	return entry;
}

/* Reserve a block of numbers and put it into the entry. */
static void
reserve_block(const DocTableInfo *table, SeqEntry *entry)
{
	int64		start = nextval_internal(table->seq_relid, false);
	XLogRecPtr	lsn;

	/* the number may have been logged with one that another process has got */
	(void) sequence_end(table, &lsn);
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

/* ---------- writing ---------- */

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
	entry = find_or_make_entry(table);
	if (pg_atomic_read_u32(&entry->dead_used) == 0 && dead_has_pages(table))
		pg_atomic_write_u32(&entry->dead_used, 1);	/* from before the start, or restored */
	if (entry->next == 0)
		reserve_block(table, entry);
	slot = slot_alloc();

	reg = &registrations[nregistrations++];
	reg->uuid = table->uuid;
	reg->entry = entry;
	reg->slot = slot;
	reg->recorded_epoch = false;
	SpinLockAcquire(&entry->mutex);
	shared->slots[slot].low = entry->next;
	shared->slots[slot].next = entry->first_writer;
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
		refuse_on_standby();
	horizon = sequence_end(table, &lsn);
	entry = find_entry(table);
	if (entry == NULL)
		return horizon;
	own = find_registration(table);
	SpinLockAcquire(&entry->mutex);
	if (entry->next == 0)
		horizon = entry->base;	/* a first writer may be between its nextval and us */
	else
	{
		horizon = entry->next;
		for (int32 s = entry->first_writer; s >= 0; s = shared->slots[s].next)
		{
			if (shared->slots[s].low < horizon && !(own && own->slot == s))
				horizon = shared->slots[s].low;
		}
	}
	SpinLockRelease(&entry->mutex);
	return horizon;
}

int64
docrep_seq_next(const DocTableInfo *table)
{
	XLogRecPtr	lsn;
	int64		end = sequence_end(table, &lsn);
	SeqEntry   *entry = find_entry(table);

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
	SeqEntry   *entry = find_entry(table);
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

/*
 * Take the entry of a dropped table out of the directory, or leave that to the
 * last who waits for it.  Nobody else can be using it: the transaction that
 * drops the table still has it locked, or has ended.
 */
static void
remove_entry(const pg_uuid_t *uuid)
{
	SeqKey		key;
	SeqEntry   *entry;

	make_key(uuid, &key);
	LWLockAcquire(shared->directory_lock, LW_EXCLUSIVE);
	entry = hash_search(directory, &key, HASH_FIND, NULL);
	if (entry)
	{
		entry->dropped = true;
		if (entry->first_waiter < 0 && entry->first_writer < 0)
			hash_search(directory, &key, HASH_REMOVE, NULL);
	}
	LWLockRelease(shared->directory_lock);
}

void
docrep_seq_dropped(const pg_uuid_t *uuid)
{
	MemoryContext old;
	DroppedTable *d;

	if (shared == NULL)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	d = palloc(sizeof(DroppedTable));
	d->uuid = *uuid;
	d->subxact = GetCurrentSubTransactionId();
	dropped_tables = lappend(dropped_tables, d);
	MemoryContextSwitchTo(old);
}

/* ---------- waiting ---------- */

static int32
my_procno(void)
{
	return (int32) (MyProc - ProcGlobal->allProcs);
}

static Waiting *
find_waiting(const DocTableInfo *table)
{
	for (int i = 0; i < nwaitings; i++)
	{
		if (memcmp(&waitings[i].uuid, &table->uuid, sizeof(pg_uuid_t)) == 0)
			return &waitings[i];
	}
	return NULL;
}

static void
remove_waiting(Waiting *w)
{
	pg_uuid_t	uuid = w->uuid;
	bool		dropped;

	SpinLockAcquire(&w->entry->mutex);
	slot_unlink(&w->entry->first_waiter, w->slot);
	dropped = w->entry->dropped;
	SpinLockRelease(&w->entry->mutex);
	slot_free(w->slot);
	*w = waitings[--nwaitings];
	if (dropped)
		remove_entry(&uuid);
}

static void
forget_all_waitings(int code, Datum arg)
{
	while (nwaitings > 0)
		remove_waiting(&waitings[nwaitings - 1]);
}

void
docrep_wait_register(const DocTableInfo *table)
{
	static bool exit_registered = false;
	SeqEntry   *entry;
	int32		slot;

	docrep_require_preload();
	if (find_waiting(table))
		return;
	if (!exit_registered)
	{
		before_shmem_exit(forget_all_waitings, (Datum) 0);
		exit_registered = true;
	}
	if (nwaitings >= waitings_cap)
	{
		int			cap = Max(16, waitings_cap * 2);

		waitings = waitings ? repalloc(waitings, cap * sizeof(Waiting)) :
			MemoryContextAlloc(TopMemoryContext, cap * sizeof(Waiting));
		waitings_cap = cap;
	}
	entry = find_or_make_entry(table);
	slot = slot_alloc();
	shared->slots[slot].procno = my_procno();
	waitings[nwaitings].uuid = table->uuid;
	waitings[nwaitings].entry = entry;
	waitings[nwaitings++].slot = slot;
	SpinLockAcquire(&entry->mutex);
	shared->slots[slot].next = entry->first_waiter;
	entry->first_waiter = slot;
	SpinLockRelease(&entry->mutex);
}

void
docrep_wait_unregister(const DocTableInfo *table)
{
	Waiting    *w = find_waiting(table);

	if (w)
		remove_waiting(w);
}

uint64
docrep_wait_commits(const DocTableInfo *table)
{
	SeqKey		key;
	SeqEntry   *entry;
	uint64		result = 0;

	/* who waits holds no lock on the table, whose entry may be on its way out */
	make_key(&table->uuid, &key);
	LWLockAcquire(shared->directory_lock, LW_SHARED);
	entry = hash_search(directory, &key, HASH_FIND, NULL);
	if (entry)
	{
		SpinLockAcquire(&entry->mutex);
		result = entry->commits;
		SpinLockRelease(&entry->mutex);
	}
	LWLockRelease(shared->directory_lock);
	return result;
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

	SpinLockAcquire(&entry->mutex);
	slot_unlink(&entry->first_writer, reg->slot);
	entry->commits++;			/* an abort counts: it may have held the horizon back */
	if (committed)
	{
		entry->flush_lsn = Max(entry->flush_lsn, XactLastCommitEnd);
		if (reg->recorded_epoch)
			entry->epoch_known = true;
	}
	for (int32 s = entry->first_waiter; s >= 0; s = shared->slots[s].next)
		wake_list[nwake++] = shared->slots[s].procno;
	SpinLockRelease(&entry->mutex);
	slot_free(reg->slot);
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
					remove_entry(&((DroppedTable *) lfirst(lc))->uuid);
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
