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

#include "docrep.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
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
