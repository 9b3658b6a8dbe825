/*-------------------------------------------------------------------------
 *
 * seqs.h
 *		Update sequences, the horizon of the changes feed, and wake-ups.
 *
 * Shared memory holds for every document table in use a counter, the
 * registrations of transactions that have taken, or may take, numbers from it,
 * and who waits for commits to it.  See README.md of this floor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_SEQS_H
#define DOCREP_STORE_SEQS_H

#include "store/table.h"

/* numbers reserved at a time; INCREMENT BY of the sequences, so it is for ever */
#define DOCREP_SEQ_BLOCK	128

/* where the numbers of a new table begin */
#define DOCREP_FIRST_SEQ	1

extern void docrep_seqs_define_gucs(void);
/* from shmem_request_hook, or _PG_init before 15; parked: how many may be parked at once */
extern void docrep_seqs_request_shmem(int parked);
extern void docrep_seqs_startup_shmem(void);	/* from shmem_startup_hook */
extern void docrep_seqs_register_callbacks(void);

/*
 * Register this transaction as a writer of the table, so that the horizon
 * stays below whatever it may take.  Done by docrep_seq_take too; call it
 * before probing for a document that may have to be written.
 */
extern void docrep_seq_register(const DocTableInfo *table);

/*
 * Take the table's next number in this transaction.  Needs shared memory
 * (55000 with a hint otherwise).
 */
extern int64 docrep_seq_take(const DocTableInfo *table);

/*
 * The horizon: every change with a seq below it is committed or will never
 * be, except this transaction's own.  Take it first and a snapshot after.
 * Refused on a standby.
 */
extern int64 docrep_seq_horizon(const DocTableInfo *table);

/* A number that is higher than any taken so far; not a horizon. */
extern int64 docrep_seq_next(const DocTableInfo *table);

/* Flush WAL so far that nothing below the horizon can come back with another meaning. */
extern void docrep_seq_flush(const DocTableInfo *table);

/*
 * Wake-ups.  After docrep_wait_register the process latch is set whenever a
 * transaction that wrote to the table ends (an abort counts, it may have held
 * the horizon back).  docrep_wait_commits returns a count that moves with every
 * such end; compare it before sleeping.
 */
extern void docrep_wait_register(const DocTableInfo *table);
extern void docrep_wait_unregister(const DocTableInfo *table);
extern uint64 docrep_wait_commits(const DocTableInfo *table);

/*
 * Parking: somebody without a process wants to know of the next end of a
 * transaction that writes to a table.  token and stamp are the caller's own.
 * docrep_wait_park returns false, and does nothing, if the count of such ends
 * is not "commits" any more, or the table is not known in shared memory.  A
 * token that is woken is no longer parked: docrep_wait_woken hands those out,
 * to the one process that docrep_wait_watch_woken made the watcher, whose
 * latch is set.
 */
extern bool docrep_wait_park(Oid database, const pg_uuid_t *uuid, uint64 commits,
							 int32 token, uint32 stamp);
extern void docrep_wait_unpark(Oid database, const pg_uuid_t *uuid, int32 token, uint32 stamp);
extern void docrep_wait_watch_woken(void);
extern int	docrep_wait_woken(int32 *tokens, uint32 *stamps, int max);

/* The table is being dropped in this transaction: its entry goes at commit. */
extern void docrep_seq_dropped(const pg_uuid_t *uuid);

/*
 * Tombstone epochs: see "two tables, one id" in README.md.  All four want the
 * transaction registered.  "moved": another transaction has announced
 * tombstones since this one registered.  "maybe_used": the table of tombstones
 * may hold rows.
 */
extern bool docrep_dead_epoch_moved(const DocTableInfo *table);
extern void docrep_dead_epoch_bump(const DocTableInfo *table);
extern bool docrep_dead_maybe_used(const DocTableInfo *table);
extern void docrep_dead_mark_used(const DocTableInfo *table);

/*
 * A sequence as peers see it: "N-hex", the hex naming the history (epoch) of
 * the numbers, so that a promoted standby, a restored dump or a clone that
 * hands out a number twice is noticed.  "0" is the beginning.  The suffix (""
 * or "-hex") once, then each number.
 */
extern char *docrep_seq_suffix(const DocTableInfo *table);
extern char *docrep_seq_text(int64 seq, const char *suffix);

/*
 * Read such a text (or a plain number): the number to go on from.  A number
 * of an epoch that later diverged rewinds to where they parted; an unknown
 * epoch to 0.  Malformed: DR400.
 */
extern int64 docrep_seq_parse(const DocTableInfo *table, const char *text);

#endif							/* DOCREP_STORE_SEQS_H */
