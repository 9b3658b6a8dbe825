/*-------------------------------------------------------------------------
 *
 * resolver.h
 *		Asking a table's resolver, a function of the user's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_RESOLVER_H
#define DOCREP_STORE_RESOLVER_H

#include "store/state.h"

/* One of the versions that are in conflict. */
typedef struct DocVersion
{
	Rev			rev;
	LeafState	leaf;
	bool		merged;			/* says the same as the winner */
} DocVersion;

typedef enum ResolverAnswer
{
	RESOLVER_DECLINED,			/* it has no opinion */
	RESOLVER_ANSWERED,
	RESOLVER_FAILED
} ResolverAnswer;

/* Refuse (DR400, 42501) what is no resolver or what the table's owner may not call. */
extern void docrep_resolver_check(DocTable *table, Oid resolver);

/*
 * Ask the table's resolver about a document: versions in CouchDB's order, the winner
 * first.  ANSWERED: *body, or *deleted.  FAILED: *error says why, and whatever it did is
 * rolled back; a cancel, and what concerns the whole transaction, is raised.
 */
extern ResolverAnswer docrep_resolver_ask(DocTable *table, const char *id,
										  const DocVersion *versions, int n,
										  Jsonb **body, bool *deleted, ErrorData **error);

#endif							/* DOCREP_STORE_RESOLVER_H */
