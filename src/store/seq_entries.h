/*-------------------------------------------------------------------------
 *
 * seq_entries.h
 *		What shared memory holds of document tables' numbers.
 *
 * For seqs.c (numbers and the horizon) and seq_waits.c (wake-ups) only.
 *
 * Locks: directory_lock (LWLock) protects the hash table's structure; the
 * spinlock of an entry its counter and lists; the spinlock of the pool the
 * list of free slots.  A spinlock may be taken under directory_lock, never one
 * under another, and nothing is called under one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_SEQ_ENTRIES_H
#define DOCREP_STORE_SEQ_ENTRIES_H

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "store/table.h"
#include "utils/hsearch.h"

typedef struct SeqKey
{
	Oid			dbid;
	pg_uuid_t	uuid;
} SeqKey;

/* A registration or a waiter; slots of one kind are chained by index. */
typedef struct SeqSlot
{
	int64		low;			/* registration: lowest number it may take */
	int32		procno;			/* waiter: whose latch to set; parked: the token */
	uint32		stamp;			/* parked: of the token */
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
	int32		first_parked;
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
	int32		first_woken;	/* parked tokens that were woken; under pool_mutex */
	int32		watcher;		/* procno of who takes them; -1: nobody */
	SeqSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} SeqShared;

extern SeqShared *docrep_seqs;
extern HTAB *docrep_seq_directory;	/* SeqEntry by SeqKey */

/* Slots for registrations and waiters; 53400, or -1 of the second, when there is none left. */
extern int32 docrep_slot_alloc(void);
extern int32 docrep_slot_try_alloc(void);
extern void docrep_slot_free(int32 slot);

/* The tokens of these slots, chained, were woken: for docrep_wait_woken. */
extern void docrep_slots_woken(int32 first);

/* Take a slot out of a chain; the entry's spinlock is held. */
extern void docrep_slot_unlink(int32 *head, int32 slot);

/* The key of a table of this database. */
extern void docrep_seq_key(const pg_uuid_t *uuid, SeqKey *key);

/* The entry, or NULL; made if need be (53400 when there is no room, 25006 on a standby). */
extern SeqEntry *docrep_seq_entry_find(const DocTableInfo *table);
extern SeqEntry *docrep_seq_entry_make(const DocTableInfo *table);

/* The table is gone: remove its entry, or leave that to the last who waits for it. */
extern void docrep_seq_entry_remove(const pg_uuid_t *uuid);

/*
 * The end of the last block of numbers reserved, and in *lsn the WAL that has
 * to be durable for it to stay so.
 */
extern int64 docrep_seq_reserved_end(const DocTableInfo *table, XLogRecPtr *lsn);

/* Raises 25006. */
extern void docrep_seq_refuse_standby(void);

#endif							/* DOCREP_STORE_SEQ_ENTRIES_H */
