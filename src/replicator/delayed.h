/*-------------------------------------------------------------------------
 *
 * delayed.h
 *		What others than the run itself want to know of what it holds back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_DELAYED_H
#define DOCREP_REPLICATOR_DELAYED_H

#include "replicator/replication.h"

/* docrep.max_delayed_changes: of a source that does not say when they were made */
extern int	docrep_max_delayed_changes;

/* {"delay_ms", "waiting", "until", "clock_skew_ms", "former_versions"}, of figures whose delay is not 0. */
extern void docrep_delayed_put(struct StringInfoData *out, const ReplicationStats *stats);

#endif							/* DOCREP_REPLICATOR_DELAYED_H */
