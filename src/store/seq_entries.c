/*-------------------------------------------------------------------------
 *
 * seq_entries.c
 *		What shared memory holds of document tables' numbers.
 *
 * There is an entry for every document table that somebody has written to or
 * waited for since the server started.  It stays until the table is dropped.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "store/seq_entries.h"
#include "store/seqs.h"
#include "utils/guc.h"
#include "utils/rel.h"

SeqShared  *docrep_seqs = NULL;
HTAB	   *docrep_seq_directory = NULL;

static int	max_tables = 20000;
static int	max_writes = 8192;
static int	max_parked = 0;

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
							"Each takes 24 bytes of shared memory.",
							&max_writes, 8192, 128, 10000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static Size
shared_size(void)
{
	return add_size(offsetof(SeqShared, slots),
					mul_size(add_size(max_writes, max_parked), sizeof(SeqSlot)));
}

void
docrep_seqs_request_shmem(int parked)
{
	max_parked = parked;
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
	docrep_seqs = ShmemInitStruct("docrep seqs", shared_size(), &found);
	if (!found)
	{
		docrep_seqs->directory_lock = &GetNamedLWLockTranche("docrep_seqs")->lock;
		SpinLockInit(&docrep_seqs->pool_mutex);
		docrep_seqs->first_free = 0;
		docrep_seqs->first_woken = -1;
		docrep_seqs->watcher = -1;
		for (int i = 0; i < max_writes + max_parked; i++)
			docrep_seqs->slots[i].next = i + 1 < max_writes + max_parked ? i + 1 : -1;
	}
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(SeqKey);
	ctl.entrysize = sizeof(SeqEntry);
	docrep_seq_directory = ShmemInitHash("docrep tables", Min(1024, max_tables), max_tables, &ctl,
										 HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
}

/* ---------- slots ---------- */

int32
docrep_slot_try_alloc(void)
{
	int32		slot;

	SpinLockAcquire(&docrep_seqs->pool_mutex);
	slot = docrep_seqs->first_free;
	if (slot >= 0)
		docrep_seqs->first_free = docrep_seqs->slots[slot].next;
	SpinLockRelease(&docrep_seqs->pool_mutex);
	return slot;
}

int32
docrep_slot_alloc(void)
{
	int32		slot = docrep_slot_try_alloc();

	if (slot < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many transactions are writing to document tables"),
				 errhint("Increase docrep.max_open_writes (now %d).", max_writes)));
	return slot;
}

void
docrep_slot_free(int32 slot)
{
	SpinLockAcquire(&docrep_seqs->pool_mutex);
	docrep_seqs->slots[slot].next = docrep_seqs->first_free;
	docrep_seqs->first_free = slot;
	SpinLockRelease(&docrep_seqs->pool_mutex);
}

/* Take a slot out of a chain; the entry's spinlock is held. */
void
docrep_slot_unlink(int32 *head, int32 slot)
{
	int32	   *link = head;

	while (*link >= 0 && *link != slot)
		link = &docrep_seqs->slots[*link].next;
	if (*link == slot)
		*link = docrep_seqs->slots[slot].next;
}

/* ---------- entries ---------- */

void
docrep_seq_key(const pg_uuid_t *uuid, SeqKey *key)
{
	memset(key, 0, sizeof(*key));
	key->dbid = MyDatabaseId;
	key->uuid = *uuid;
}

SeqEntry *
docrep_seq_entry_find(const DocTableInfo *table)
{
	SeqKey		key;
	SeqEntry   *entry;

	docrep_seq_key(&table->uuid, &key);
	LWLockAcquire(docrep_seqs->directory_lock, LW_SHARED);
	entry = hash_search(docrep_seq_directory, &key, HASH_FIND, NULL);
	LWLockRelease(docrep_seqs->directory_lock);
	return entry;
}

/*
 * The end of the last block reserved, and in *lsn the WAL that has to be
 * durable for it to stay so.  Read before looking for an entry, or
 * making one: as long as none exists nobody can be writing, and whoever begins
 * will take numbers from here on.
 */
int64
docrep_seq_reserved_end(const DocTableInfo *table, XLogRecPtr *lsn)
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

void
docrep_seq_refuse_standby(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("the changes feed cannot be read on a standby"),
			 errdetail("A standby does not know which of the primary's transactions are still writing."),
			 errhint("Read it on the primary.")));
}

SeqEntry *
docrep_seq_entry_make(const DocTableInfo *table)
{
	SeqEntry   *entry = docrep_seq_entry_find(table);
	SeqKey		key;
	bool		found;
	int64		base;
	XLogRecPtr	lsn;

	if (entry)
		return entry;

	/* what an entry knows would be out of date once the server is promoted */
	if (RecoveryInProgress())
		docrep_seq_refuse_standby();
	base = docrep_seq_reserved_end(table, &lsn);
	docrep_seq_key(&table->uuid, &key);
	LWLockAcquire(docrep_seqs->directory_lock, LW_EXCLUSIVE);
	entry = NULL;
	if (hash_get_num_entries(docrep_seq_directory) < max_tables ||
		hash_search(docrep_seq_directory, &key, HASH_FIND, NULL))
		entry = hash_search(docrep_seq_directory, &key, HASH_ENTER_NULL, &found);
	if (entry && !found)
	{
		SpinLockInit(&entry->mutex);
		entry->next = entry->limit = entry->epoch_start = 0;
		entry->base = base;
		entry->commits = 0;
		entry->flush_lsn = InvalidXLogRecPtr;
		entry->first_writer = entry->first_waiter = entry->first_parked = -1;
		entry->epoch_known = false;
		entry->dropped = false;
		pg_atomic_init_u64(&entry->dead_epoch, 1);
		pg_atomic_init_u32(&entry->dead_used, 0);
	}
	LWLockRelease(docrep_seqs->directory_lock);
	if (entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many document tables are in use"),
				 errhint("Increase docrep.max_tables (now %d).", max_tables)));
	return entry;
}

/* Set the latches of those who wait for a table.  directory_lock is held. */
static void
wake_waiters(SeqEntry *entry)
{
	int32		procnos[64];
	int			skip = 0;
	int			n;

	do
	{
		int			i = 0;

		n = 0;
		SpinLockAcquire(&entry->mutex);
		for (int32 s = entry->first_waiter; s >= 0 && n < lengthof(procnos);
			 s = docrep_seqs->slots[s].next)
			if (i++ >= skip)
				procnos[n++] = docrep_seqs->slots[s].procno;
		SpinLockRelease(&entry->mutex);
		for (int k = 0; k < n; k++)
			SetLatch(&ProcGlobal->allProcs[procnos[k]].procLatch);
		skip += n;
	} while (n == lengthof(procnos));
}

/*
 * Take the entry of a dropped table out of the docrep_seq_directory, or leave that to the
 * last who waits for it.  Nobody else can be using it: the transaction that
 * drops the table still has it locked, or has ended.
 */
void
docrep_seq_entry_remove(const pg_uuid_t *uuid)
{
	SeqKey		key;
	SeqEntry   *entry;
	int32		parked = -1;

	docrep_seq_key(uuid, &key);
	LWLockAcquire(docrep_seqs->directory_lock, LW_EXCLUSIVE);
	entry = hash_search(docrep_seq_directory, &key, HASH_FIND, NULL);
	if (entry)
	{
		entry->dropped = true;
		SpinLockAcquire(&entry->mutex);
		parked = entry->first_parked;
		entry->first_parked = -1;
		entry->commits++;
		SpinLockRelease(&entry->mutex);
		wake_waiters(entry);
		if (entry->first_waiter < 0 && entry->first_writer < 0)
			hash_search(docrep_seq_directory, &key, HASH_REMOVE, NULL);
	}
	LWLockRelease(docrep_seqs->directory_lock);
	docrep_slots_woken(parked);
}
