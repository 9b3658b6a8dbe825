/*-------------------------------------------------------------------------
 *
 * node.h
 *		The identity of this database among those it replicates with.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_NODE_H
#define DOCREP_STORE_NODE_H

#include "postgres.h"

#include "utils/uuid.h"

/* This database's own uuid.  In a transaction; any role may ask. */
extern pg_uuid_t docrep_node_uuid_get(void);

#endif							/* DOCREP_STORE_NODE_H */
