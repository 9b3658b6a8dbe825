/*-------------------------------------------------------------------------
 *
 * verify.h
 *		What the parts of docrep.verify() share.
 *
 * verify.c opens the peers, reads both from end to end and decides which
 * documents to look at closely; verify_gather.c reads those from both sides;
 * verify_compare.c says how two states of a document differ; leaf_digest.c
 * takes digests of revisions and of attachments' contents.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_VERIFY_H
#define DOCREP_REPLICATOR_VERIFY_H

#include "replicator/inspection.h"
#include "replicator/reader.h"

/* 128 bits that are added up modulo 2^128: the order does not matter. */
typedef struct Digest
{
	uint64		low;
	uint64		high;
} Digest;

static inline void
digest_add(Digest *sum, Digest d)
{
	sum->low += d.low;
	sum->high += d.high + (sum->low < d.low ? 1 : 0);
}

static inline void
digest_subtract(Digest *sum, Digest d)
{
	uint64		borrow = sum->low < d.low ? 1 : 0;

	sum->low -= d.low;
	sum->high -= d.high + borrow;
}

static inline bool
digest_equal(Digest a, Digest b)
{
	return a.low == b.low && a.high == b.high;
}

/* The two sides of a comparison. */
#define SOURCE	0
#define TARGET	1

/* One leaf of a document as one side has it. */
typedef struct Leaf
{
	Rev			rev;
	bool		here;			/* it came; else the feed alone speaks of it */
	bool		deleted;
	RevPath		path;
	Digest		body;
	DocAtts		atts;			/* without their contents */
	Digest	   *contents;		/* per attachment: of its content as a user gets it ... */
	bool	   *digested;		/* ... where this is true */
	const char *problem;		/* why it is no document, or NULL */
} Leaf;

/* A document as one side has it. */
typedef struct DocSide
{
	int			n;
	int			cap;
	Leaf	   *leaves;
	Digest		digest;			/* of all of it */
} DocSide;

/* A document as both sides have it. */
typedef struct DocPair
{
	const char *id;
	DocSide		side[2];
} DocPair;

typedef struct Verify
{
	MemoryContext cxt;
	MemoryContext scratch;		/* for one revision; reset after it */
	const Inspection *inspection;
	const ReplicationHooks *hooks;
	DocrepPeer *peer[2];
	uint64		seed;			/* of all digests: other ones in every run */
	bool		stopped;
	ReplicationStats stats;

	Digest	   *buckets;		/* sums of the source's minus the target's, by id */

	/* does a side have revisions that it rejected, as far as we may know? */
	bool		rejected_asked[2];
	bool		rejected_any[2];

	/* the answer */
	StringInfoData rows;
	int			nrows;
} Verify;

/* ---------- leaf_digest.c ---------- */

/* Of a text. */
extern Digest docrep_digest_text(const Verify *v, const char *text, Size len);

/* Of a body.  What is no jsonb is taken as the text that came. */
extern Digest docrep_digest_body(Verify *v, const DocrepDoc *doc);

/*
 * Of a revision: its id, ancestry, whether it is deleted, body and what the
 * options want of its attachments.
 */
extern Digest docrep_digest_leaf(Verify *v, const DocrepDoc *doc);

/* Of a revision that is only named. */
extern Digest docrep_digest_rev(Verify *v, const char *id, const Rev *rev);

/* Of an attachment's content, decoded; reads it from the peer if it is not at hand. */
extern Digest docrep_digest_content(Verify *v, DocrepPeer *peer, const DocrepDoc *doc,
									const DocAtt *att);

/* ---------- verify_gather.c ---------- */

/* Documents that are looked at together. */
#define GATHER_MAX	100

/*
 * Read documents (sorted, at most GATHER_MAX) as both sides have them now;
 * allocated in cxt, an array in the order of ids.
 */
extern DocPair *docrep_verify_gather(Verify *v, const char *const *ids, int n, MemoryContext cxt);

/* ---------- verify_compare.c ---------- */

/*
 * Do the two sides differ?  With report, a row for each difference is added to
 * the answer; changing: say that the document does not stand still.
 */
extern bool docrep_verify_compare(Verify *v, DocPair *pair, bool report, bool changing);

/* A row about a document whose id text cannot hold. */
extern void docrep_verify_report_unnamed(Verify *v, int side, const DocrepDoc *doc);

/* May another row be added? */
static inline bool
verify_is_full(const Verify *v)
{
	return v->nrows >= v->inspection->max_differences;
}

#endif							/* DOCREP_REPLICATOR_VERIFY_H */
