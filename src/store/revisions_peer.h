/*-------------------------------------------------------------------------
 *
 * revisions_peer.h
 *		Former versions on their way from one table that keeps them to another.
 *
 * A target that was given a document gets the kept versions that it lacks, which it
 * may never have seen.  Nothing depends on it: what does not come now comes with the
 * document's next change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_REVISIONS_PEER_H
#define DOCREP_STORE_REVISIONS_PEER_H

#include "store/batch.h"
#include "store/revisions.h"

/* What a version has beside what every document has. */
typedef struct VersionFacts
{
	TimestampTz replaced_at;
	char		kind;			/* KEPT_*, as the source has it */
} VersionFacts;

typedef struct DocrepVersions
{
	DocrepDocs	docs;
	VersionFacts *facts;		/* one for each */
	int			cap;

	/* where to go on: a row of what was asked, and so many of its versions passed */
	int			row;
	int			passed;
	int			keep;			/* so many of each document are enough: what the target keeps */
	bool		kept;			/* the source keeps versions at all */
} DocrepVersions;

extern void docrep_versions_init(DocrepVersions *versions, MemoryContext cxt);

/*
 * The target: which versions of these documents are here, its stored revision first; what
 * is not here, or not shown to the role, is left out.  Returns how many it keeps of a
 * document, -1: none.  Needs SELECT.
 */
extern int	docrep_versions_have(DocTable *table, const char *const *ids, int n,
								 DocrepChanges *have);

/*
 * The source: of the newest out->keep of each document those that are not among these, newest
 * first, from out->row and out->passed on, until max_bytes; out->row is have->n when that was all.  Needs SELECT.
 */
extern void docrep_versions_read(DocTable *table, const DocrepChanges *have, Size max_bytes,
								 DocrepVersions *out);

/*
 * The target: keep what its bounds allow.  What it has, what is a leaf and what could be
 * none of the document's versions is passed over.  Needs INSERT.
 */
extern void docrep_versions_write(DocTable *table, DocrepVersions *versions);

/* What docrep_versions_have found, as a message, and back. */
extern bytea *docrep_versions_pack_have(int keep, const DocrepChanges *have);
extern int	docrep_versions_unpack_have(const char *data, Size len, DocrepChanges *have);

/* As one message: the facts, and the documents as wire_format.h has them. */
extern bytea *docrep_versions_pack(const DocrepVersions *versions);
extern void docrep_versions_unpack(const char *data, Size len, DocrepVersions *out);

#endif							/* DOCREP_STORE_REVISIONS_PEER_H */
