/*-------------------------------------------------------------------------
 *
 * replication_fields.h
 *		The fields of a replication document; for replication_fields.c and
 *		replication_document.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_REPLICATION_FIELDS_H
#define DOCREP_REPLICATOR_REPLICATION_FIELDS_H

#include "replicator/replication.h"

#define DEFAULT_CHECKPOINT_INTERVAL	30000
#define DEFAULT_WORKER_BATCH_SIZE	500
#define DEFAULT_CONNECTION_TIMEOUT	30000
#define DEFAULT_HTTP_CONNECTIONS	20
#define DEFAULT_RETRIES_PER_REQUEST	10
#define DEFAULT_WORKER_PROCESSES	4
#define CYCLES_REQUEST_TIMEOUT		500 /* with retry: "cycles" */
#define MAX_WORKER_BATCH_SIZE		100000

/* ---------- replication_fields.c ---------- */

/* Check every field's type, and that it is one. */
extern void docrep_replication_read_fields(Replication *replication, JsonbContainer *root);

#endif							/* DOCREP_REPLICATOR_REPLICATION_FIELDS_H */
