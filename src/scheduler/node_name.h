/*-------------------------------------------------------------------------
 *
 * node_name.h
 *		docrep.node_name and docrep.lease_time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_NODE_NAME_H
#define DOCREP_SCHEDULER_NODE_NAME_H

extern void docrep_node_name_define_gucs(void);

#endif							/* DOCREP_SCHEDULER_NODE_NAME_H */
