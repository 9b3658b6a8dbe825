/*-------------------------------------------------------------------------
 *
 * transfer.h
 *		The stations of a batch; for transfer.c and transfer_changes.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_TRANSFER_H
#define DOCREP_REPLICATOR_TRANSFER_H

#include "replicator/engine.h"

/*
 * The peers' functions allocate in the batch and may leave any context behind
 * (a commit does), so every call is between these two.
 */
#define CALL_IN(context, call) \
	do { \
		MemoryContextSwitchTo(context); \
		call; \
		MemoryContextSwitchTo(run->scratch); \
	} while (0)

/* ---------- transfer_changes.c ---------- */

/* A new portion of the batch; it becomes the ready one when it is filled. */
extern Portion *docrep_transfer_new_portion(Batch *batch);

/*
 * Make a portion ready, or throw it away if it is empty.  The last one ends
 * the batch when there is nothing to write.
 */
extern void docrep_transfer_offer_portion(Batch *batch, Portion *portion, bool last);

/* What a document holds in memory, about. */
extern Size docrep_transfer_doc_bytes(const DocrepDoc *doc);

/* Put the change's documents that are missing (all, if not diffed) into the portion. */
extern void docrep_transfer_take_docs(Portion *portion, const DocrepChange *change);

/* Are design documents left out, as CouchDB leaves them out without _admin? */
extern bool docrep_transfer_withholds_designs(const Run *run);

/*
 * Have the target keep the portion's design documents as rejected instead of
 * storing them.
 */
extern void docrep_transfer_withhold_designs(Portion *portion);

#endif							/* DOCREP_REPLICATOR_TRANSFER_H */
