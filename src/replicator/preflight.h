/*-------------------------------------------------------------------------
 *
 * preflight.h
 *		What preflight finds; for preflight.c and preflight_judge.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_PREFLIGHT_H
#define DOCREP_REPLICATOR_PREFLIGHT_H

#include "replicator/inspection.h"

typedef enum Kind
{
	KIND_DOCUMENTS,
	KIND_LEAVES,
	KIND_DELETED,
	KIND_TOMBSTONE_BODY,
	KIND_ATTACHMENTS,
	KIND_CONFLICT,
	KIND_DESIGN,
	KIND_NOT_STORABLE,
	KIND_NUL_IN_ID,
	KIND_ID_TOO_LONG,
	KIND_INVALID_ID,
	KIND_NUL,
	KIND_SURROGATE,
	KIND_UTF8,
	KIND_DUPLICATE,
	KIND_NUMBER,
	KIND_DEPTH,
	KIND_SPECIAL,
	KIND_LARGE_DOCUMENT,
	KIND_LARGE_ATTACHMENT
} Kind;

#define NKINDS		(KIND_LARGE_ATTACHMENT + 1)

typedef struct KindText
{
	const char *name;
	const char *meaning;
	bool		always;			/* has a row even if there are none */
} KindText;

typedef struct KindCount
{
	int64		n;
	int64		bytes;
	int			listed;
} KindCount;

/* A document of the batch that may turn out to be in conflict. */
typedef struct Branching
{
	char	   *id;
	int			live;
} Branching;

typedef struct Preflight
{
	MemoryContext cxt;
	MemoryContext scratch;		/* for one revision */
	const Inspection *inspection;
	const ReplicationHooks *hooks;
	DocrepPeer *peer;
	ReplicationStats stats;
	KindCount	counts[NKINDS];
	StringInfoData findings;

	Branching  *branching;		/* of the current batch, in the order of ids */
	int			nbranching;

	/* of the current revision */
	const DocrepDoc *doc;
	bool		found[NKINDS];	/* counted for it already */
	bool		explained;		/* it has been said why it would be rejected */
} Preflight;

/* ---------- preflight.c ---------- */

/* A row; id, rev: NULL if there are none, bytes and n: -1. */
extern void docrep_preflight_put_row(StringInfo out, Kind kind, const char *id, const Rev *rev,
									 const char *detail, int64 bytes, int64 n);

/* ---------- preflight_judge.c ---------- */

/* Count something of a document and list it, if not too many are. */
extern void docrep_preflight_add_finding(Preflight *p, Kind kind, const char *id,
										 const Rev *rev, const char *detail, int64 bytes);

/* Order of ids, for qsort and bsearch. */
extern int docrep_preflight_compare(const void *a, const void *b);

/* ReaderTakesDoc */
extern void docrep_preflight_judge(void *arg, const DocrepDoc *doc);

#endif							/* DOCREP_REPLICATOR_PREFLIGHT_H */
