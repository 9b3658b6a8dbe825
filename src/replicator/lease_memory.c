/*-------------------------------------------------------------------------
 *
 * lease_memory.c
 *		What a server remembers of leases while no process of it deals with
 *		them: since when a document at a target has not changed, above all.
 *
 * It is in shared memory, and gone with a restart; then watching begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "replicator/lease.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define TRANCHE		"docrep_leases"

static HTAB *memories = NULL;
static LWLock *lock = NULL;

void
docrep_lease_request_shmem(int n)
{
	RequestAddinShmemSpace(hash_estimate_size(n, sizeof(LeaseMemory)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

void
docrep_lease_startup_shmem(int n)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(LeaseKey);
	ctl.entrysize = sizeof(LeaseMemory);
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memories = ShmemInitHash("docrep leases", Min(64, n), n, &ctl, HASH_ELEM | HASH_BLOBS);
	LWLockRelease(AddinShmemInitLock);
	lock = &GetNamedLWLockTranche(TRANCHE)->lock;
}

int64
docrep_lease_clock(void)
{
	struct timespec ts;

#ifdef CLOCK_BOOTTIME
	if (clock_gettime(CLOCK_BOOTTIME, &ts) != 0)
#endif
		(void) clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void
docrep_lease_recall(const LeaseKey *key, LeaseMemory *memory)
{
	LeaseMemory *found;

	memset(memory, 0, sizeof(*memory));
	memory->key = *key;
	LWLockAcquire(lock, LW_SHARED);
	found = hash_search(memories, key, HASH_FIND, NULL);
	if (found)
		*memory = *found;
	LWLockRelease(lock);
}

/* Make room: the one that was not used for longest goes.  The lock is held. */
static void
remove_oldest(void)
{
	HASH_SEQ_STATUS scan;
	LeaseMemory *memory;
	LeaseMemory oldest = {.used = PG_INT64_MAX};

	hash_seq_init(&scan, memories);
	while ((memory = hash_seq_search(&scan)) != NULL)
	{
		if (memory->used < oldest.used)
			oldest = *memory;
	}
	(void) hash_search(memories, &oldest.key, HASH_REMOVE, NULL);
}

void
docrep_lease_remember(LeaseMemory *memory)
{
	LeaseMemory *place;

	memory->used = docrep_lease_clock();
	LWLockAcquire(lock, LW_EXCLUSIVE);
	place = hash_search(memories, &memory->key, HASH_ENTER_NULL, NULL);
	if (place == NULL)
	{
		remove_oldest();
		place = hash_search(memories, &memory->key, HASH_ENTER_NULL, NULL);
	}
	if (place)
		*place = *memory;
	LWLockRelease(lock);
}

void
docrep_lease_forget_run(const LeaseKey *key)
{
	LeaseMemory *memory;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	memory = hash_search(memories, key, HASH_FIND, NULL);
	if (memory)
		memory->own_runs = false;
	LWLockRelease(lock);
}
