/*-------------------------------------------------------------------------
 *
 * node_name.c
 *		The settings of tasks that several servers have: who we are, and how
 *		long a lease lasts.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "replicator/lease.h"
#include "scheduler/node_name.h"
#include "utils/guc.h"

/* Called by docrep_scheduler_define_gucs. */
void
docrep_node_name_define_gucs(void)
{
	DefineCustomStringVariable("docrep.node_name",
							   "Name of this server among those that have the same replication tasks.",
							   "A task runs on the server that its \"mentor\" names, as long as "
							   "that is there. If empty, the uuid of the database's node is its name.",
							   &docrep_node_name, "",
							   PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("docrep.lease_time",
							"Time after which another server takes over a task whose server is silent.",
							"Counts for tasks with a \"mentor\". It has to be longer than a "
							"batch takes.",
							&docrep_lease_time, 15000, 1000, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}
