/*-------------------------------------------------------------------------
 *
 * seq_waits.c
 *		Who waits for commits to document tables.
 *
 * A transaction that has written to a table sets the latches of those who are
 * registered here when it ends (seqs.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "store/preload.h"
#include "store/seq_entries.h"
#include "store/seqs.h"
#include "utils/memutils.h"

/* What this process waits for. */
typedef struct Waiting
{
	pg_uuid_t	uuid;
	SeqEntry   *entry;
	int32		slot;
} Waiting;

static Waiting *waitings = NULL;
static int	nwaitings = 0;
static int	waitings_cap = 0;

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
	docrep_slot_unlink(&w->entry->first_waiter, w->slot);
	dropped = w->entry->dropped;
	SpinLockRelease(&w->entry->mutex);
	docrep_slot_free(w->slot);
	*w = waitings[--nwaitings];
	if (dropped)
		docrep_seq_entry_remove(&uuid);
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
	entry = docrep_seq_entry_make(table);
	slot = docrep_slot_alloc();
	docrep_seqs->slots[slot].procno = my_procno();
	waitings[nwaitings].uuid = table->uuid;
	waitings[nwaitings].entry = entry;
	waitings[nwaitings++].slot = slot;
	SpinLockAcquire(&entry->mutex);
	docrep_seqs->slots[slot].next = entry->first_waiter;
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
	docrep_seq_key(&table->uuid, &key);
	LWLockAcquire(docrep_seqs->directory_lock, LW_SHARED);
	entry = hash_search(docrep_seq_directory, &key, HASH_FIND, NULL);
	if (entry)
	{
		SpinLockAcquire(&entry->mutex);
		result = entry->commits;
		SpinLockRelease(&entry->mutex);
	}
	LWLockRelease(docrep_seqs->directory_lock);
	return result;
}

/* ---------- parking ---------- */

/* The entry of a table of any database, with directory_lock held; NULL: none. */
static SeqEntry *
find_entry(Oid database, const pg_uuid_t *uuid)
{
	SeqKey		key;

	docrep_seq_key(uuid, &key);
	key.dbid = database;
	return hash_search(docrep_seq_directory, &key, HASH_FIND, NULL);
}

bool
docrep_wait_park(Oid database, const pg_uuid_t *uuid, uint64 commits, int32 token, uint32 stamp)
{
	int32		slot = docrep_slot_try_alloc();	/* whoever parks must not fail */
	SeqEntry   *entry;
	bool		parked = false;

	if (slot < 0)
		return false;
	docrep_seqs->slots[slot].procno = token;
	docrep_seqs->slots[slot].stamp = stamp;
	LWLockAcquire(docrep_seqs->directory_lock, LW_SHARED);
	entry = find_entry(database, uuid);
	if (entry && !entry->dropped)
	{
		SpinLockAcquire(&entry->mutex);
		if (entry->commits == commits || commits == PG_UINT64_MAX)
		{
			docrep_seqs->slots[slot].next = entry->first_parked;
			entry->first_parked = slot;
			parked = true;
		}
		SpinLockRelease(&entry->mutex);
	}
	LWLockRelease(docrep_seqs->directory_lock);
	if (!parked)
		docrep_slot_free(slot);
	return parked;
}

void
docrep_wait_unpark(Oid database, const pg_uuid_t *uuid, int32 token, uint32 stamp)
{
	SeqEntry   *entry;
	int32		found = -1;

	LWLockAcquire(docrep_seqs->directory_lock, LW_SHARED);
	entry = find_entry(database, uuid);
	if (entry)
	{
		SpinLockAcquire(&entry->mutex);
		for (int32 *link = &entry->first_parked; *link >= 0; link = &docrep_seqs->slots[*link].next)
		{
			SeqSlot    *slot = &docrep_seqs->slots[*link];

			if (slot->procno != token || slot->stamp != stamp)
				continue;
			found = *link;
			*link = slot->next;
			break;
		}
		SpinLockRelease(&entry->mutex);
	}
	LWLockRelease(docrep_seqs->directory_lock);
	if (found >= 0)
		docrep_slot_free(found);
}

void
docrep_slots_woken(int32 first)
{
	int32		last = first;
	int32		watcher;

	if (first < 0)
		return;
	while (docrep_seqs->slots[last].next >= 0)
		last = docrep_seqs->slots[last].next;
	SpinLockAcquire(&docrep_seqs->pool_mutex);
	docrep_seqs->slots[last].next = docrep_seqs->first_woken;
	docrep_seqs->first_woken = first;
	watcher = docrep_seqs->watcher;
	SpinLockRelease(&docrep_seqs->pool_mutex);
	if (watcher >= 0)
		SetLatch(&ProcGlobal->allProcs[watcher].procLatch);
}

static void
stop_watching(int code, Datum arg)
{
	SpinLockAcquire(&docrep_seqs->pool_mutex);
	docrep_seqs->watcher = -1;
	SpinLockRelease(&docrep_seqs->pool_mutex);
}

void
docrep_wait_watch_woken(void)
{
	before_shmem_exit(stop_watching, (Datum) 0);
	SpinLockAcquire(&docrep_seqs->pool_mutex);
	docrep_seqs->watcher = my_procno();
	SpinLockRelease(&docrep_seqs->pool_mutex);
}

int
docrep_wait_woken(int32 *tokens, uint32 *stamps, int max)
{
	int			n = 0;

	SpinLockAcquire(&docrep_seqs->pool_mutex);
	while (n < max && docrep_seqs->first_woken >= 0)
	{
		int32		slot = docrep_seqs->first_woken;

		docrep_seqs->first_woken = docrep_seqs->slots[slot].next;
		tokens[n] = docrep_seqs->slots[slot].procno;
		stamps[n++] = docrep_seqs->slots[slot].stamp;
		docrep_seqs->slots[slot].next = docrep_seqs->first_free;
		docrep_seqs->first_free = slot;
	}
	SpinLockRelease(&docrep_seqs->pool_mutex);
	return n;
}
