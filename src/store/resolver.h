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

/* A question to the resolver about one document. */
typedef struct ResolverAsk
{
	/* in */
	const char *id;
	const DocVersion *versions; /* in CouchDB's order, the winner first */
	int			n;

	/* out */
	ResolverAnswer answer;
	Jsonb	   *body;			/* ANSWERED, and not deleted */
	bool		deleted;
	ErrorData  *error;			/* FAILED; several may have the same */
} ResolverAsk;

/*
 * Ask the table's resolver about documents, in this order; all else of asks is 0.  Whatever
 * a call that FAILED has done is rolled back, and what the others have done is done once.  A
 * function may be called more often than that: what it did is rolled back when a call
 * after it fails.  A cancel, and what concerns the whole transaction, is raised.
 */
extern void docrep_resolver_ask(DocTable *table, ResolverAsk *asks, int n);

#endif							/* DOCREP_STORE_RESOLVER_H */
