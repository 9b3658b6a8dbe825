/*-------------------------------------------------------------------------
 *
 * remote_watch.h
 *		Waiting for changes of many sources in other servers at once, in the
 *		place of replications that have no process meanwhile.
 *
 * For a process that does nothing else and is connected to no database: the
 * module's variables are its state.  It raises the process's limit of open files.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_REMOTE_WATCH_H
#define DOCREP_PEER_REMOTE_WATCH_H

#include "peer/peer.h"

/* Once, before anything else. */
extern void docrep_remote_watch_start(void);

/*
 * Wait for changes at a place, which may be freed after; a key that is there is
 * waited for anew.  Cannot fail: a wait that cannot begin is news of the next
 * step.
 */
extern void docrep_remote_watch_add(uint64 key, const DocrepWaitPlace *place);

/* Wait for it no longer; no-op if it is not there. */
extern void docrep_remote_watch_remove(uint64 key);

/*
 * Wait until there is news, the latch is set (it is reset, and *woken becomes
 * true), or at most timeout ms (-1: any time).  Fills in at most max keys whose source may have changed,
 * or whose wait failed, and which are not waited for any more; returns how many.
 * Does not handle interrupts.
 */
extern int	docrep_remote_watch_step(long timeout, bool *woken, uint64 *keys, int max);

/* How many keys are waited for. */
extern int	docrep_remote_watch_count(void);

#endif							/* DOCREP_PEER_REMOTE_WATCH_H */
