/*-------------------------------------------------------------------------
 *
 * replication_filter.h
 *		The fields of a replication document that choose documents.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_REPLICATION_FILTER_H
#define DOCREP_REPLICATOR_REPLICATION_FILTER_H

#include "replicator/replication.h"

/*
 * Take selector, filter, query_params, paths and prevent_deletions, whose types were
 * checked; filter "_doc_ids" into doc_ids.  Malformed, or together what excludes each
 * other: DR400.
 */
extern void docrep_replication_read_filter(Replication *replication, JsonbContainer *root);

/*
 * Can the source, whose endpoint was read, do it?  SQL function of a CouchDB: DR400;
 * JavaScript elsewhere: 0A000.  A function here is looked for, as the current role.
 */
extern void docrep_replication_check_filter(const Replication *replication);

#endif							/* DOCREP_REPLICATOR_REPLICATION_FILTER_H */
