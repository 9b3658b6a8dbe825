/*-------------------------------------------------------------------------
 *
 * local_docs.h
 *		Local documents: per table, never replicated; ids without "_local/".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_LOCAL_DOCS_H
#define DOCREP_STORE_LOCAL_DOCS_H

#include "store/table.h"
#include "utils/jsonb.h"

/* The body with _id ("_local/...") and _rev ("0-N"), or NULL.  Checks no privilege. */
extern Jsonb *docrep_local_get(const DocTableInfo *table, const char *id);

/* Write; never conflicts.  Returns N of the new revision 0-N.  Checks no privilege. */
extern int	docrep_local_put(const DocTableInfo *table, const char *id, Jsonb *doc);

/*
 * Write if the document is "expected" (_id and _rev do not count; NULL: there is
 * none), and is not being written by somebody else.  False: it was not, and
 * nothing is done.  Checks no privilege.
 */
extern bool docrep_local_swap(const DocTableInfo *table, const char *id, Jsonb *expected,
							  Jsonb *doc);

/* False: there was none. */
extern bool docrep_local_delete(const DocTableInfo *table, const char *id);

#endif							/* DOCREP_STORE_LOCAL_DOCS_H */
