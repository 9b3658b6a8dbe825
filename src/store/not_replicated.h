/*-------------------------------------------------------------------------
 *
 * not_replicated.h
 *		What a table keeps back from every replication that reads from it.
 *
 * The rule is the owner's and holds for peers only: docrep.changes() and all
 * that reads the table by itself shows everything.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_NOT_REPLICATED_H
#define DOCREP_STORE_NOT_REPLICATED_H

#include "store/feed.h"
#include "store/table.h"

typedef struct KeepBack KeepBack;

/* The table's rule, compiled in the current context; NULL: it has none. */
extern const KeepBack *docrep_keep_back_rule(DocTable *table);

/* Does it look at bodies? */
extern bool docrep_keep_back_wants_bodies(const KeepBack *rule);

/*
 * Why a revision does not travel, static; NULL: it does.  body: without special
 * members, NULL if there is none or if the rule does not look at it.
 */
extern const char *docrep_keep_back_reason(const KeepBack *rule, const char *id, const Rev *rev,
										   bool deleted, Jsonb *body);

/*
 * Take the leaves of a feed's row that do not travel out of row->passes; of a row of
 * winners only look at the winner.  True: something is left of it.
 */
extern bool docrep_keep_back_from_row(const KeepBack *rule, DocTable *table, DocFeed *feed,
									  DocFeedRow *row, bool winners_only);

/* Selectors live on the floor above, which sets this when the library is loaded. */
typedef struct KeepBackSelector
{
	void	   *(*compile) (Jsonb *selector);	/* DR400 */
	bool		(*matches) (void *compiled, const char *id, const Rev *rev, bool deleted,
							Jsonb *body);
} KeepBackSelector;

extern const KeepBackSelector *docrep_keep_back_selector;

#endif							/* DOCREP_STORE_NOT_REPLICATED_H */
