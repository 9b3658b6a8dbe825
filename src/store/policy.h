/*-------------------------------------------------------------------------
 *
 * policy.h
 *		What a document table does about conflicts by itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_POLICY_H
#define DOCREP_STORE_POLICY_H

#include "store/table.h"

/*
 * The steps of a policy, taken in this order; none: CouchDB's way, all versions are
 * kept.
 */
#define DOCREP_POLICY_IDENTICAL	0x01	/* versions that say the same are no conflict */
#define DOCREP_POLICY_FUNCTION	0x02	/* the table's resolver is asked */
#define DOCREP_POLICY_LATEST	0x04	/* the version that was written last */
#define DOCREP_POLICY_MARK		0x08	/* what is still in conflict shows as that */

/* automatic resolutions of one document in a row; see resolution_rounds.c */
#define DOCREP_MAX_ROUNDS		16

/*
 * The steps of a policy as the user gives it: a word, or a list of steps with commas.
 * -1, and *problem says why: it is none, or does not fit a table with (without) a resolver.
 */
extern int	docrep_policy_steps(const char *policy, bool has_resolver, const char **problem);

/*
 * What a floor above does when a table's policy has changed: have existing conflicts
 * resolved in the background (docrep.resolve_conflicts).  In the transaction that
 * changes it.  NULL: nothing.
 */
typedef void (*DocPolicyHook) (DocTable *table);
extern DocPolicyHook docrep_policy_hook;

#endif							/* DOCREP_STORE_POLICY_H */
