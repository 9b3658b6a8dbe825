/*-------------------------------------------------------------------------
 *
 * batch.h
 *		The four set-based operations of replication on a document table, and
 *		the batches that travel between peers.
 *
 * The local peer calls these directly; wire.c offers them to other servers as
 * SQL functions.  Revisions and texts in a batch live in the batch's memory
 * context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_BATCH_H
#define DOCREP_STORE_BATCH_H

#include "store/write.h"

/* One revision of one document on its way, with its ancestry and body. */
typedef struct DocrepDoc
{
	char	   *id;
	RevPath		path;			/* newest first; n >= 1 */
	bool		deleted;
	Jsonb	   *body;			/* or NULL: then ... */
	char	   *json;			/* ... the body as JSON text (not NUL-terminated); */
	int			jsonlen;		/* both NULL: {} */
	TimestampTz modified;		/* 0: not known */
	bool		has_origin;		/* it is known ... */
	pg_uuid_t	origin;			/* ... which node first wrote it (docrep.node, of any database) */
	DocAtts		atts;			/* contents: at hand (data), else to be read from the
								 * source's peer (open_att), unless at_target */
	bool		atts_at_target; /* every attachment that is not at hand is a stub or
								 * has its file in the target's table */

	/* what the source could not read as a document: kept as rejected, never written */
	bool		unreadable;		/* sqlstate and reason say why; json is what came */
	const char *raw_id;			/* its id as bytes when text cannot hold it (then id is
								 * what is left of it, for messages), or NULL */
	int			raw_idlen;

	bool		withheld;		/* not to be written by this replication: sqlstate and reason
								 * say why, and it is kept as rejected */

	/* after a write: */
	int			sqlstate;		/* 0: stored, or there already */
	char	   *reason;
	bool		known;			/* nothing had to be written */
} DocrepDoc;

typedef struct DocrepDocs
{
	MemoryContext cxt;
	int			n;
	int			cap;
	DocrepDoc  *docs;
	Size		bytes;			/* about the sum of the bodies */
} DocrepDocs;

/* One row of a changes feed. */
typedef struct DocrepChange
{
	char	   *seq;			/* the source's own text for it, opaque */
	char	   *id;
	int			nrevs;
	Rev		   *revs;			/* leaves, winner first; or the winner alone */
	bool	   *missing;		/* per revision, after a diff */
	bool		deleted;		/* of the winner */
	TimestampTz modified;		/* 0: not known */
	DocrepDoc  *docs;			/* nrevs of them when bodies came along, or NULL */
} DocrepChange;

typedef struct DocrepChanges
{
	MemoryContext cxt;
	int			n;
	int			cap;
	DocrepChange *rows;
	char	   *last_seq;		/* how far was scanned */
	int64		pending;		/* changes after last_seq, about; -1: not known */
	bool		at_end;			/* nothing more was there when this was read */
	Size		bytes;

	/* of a request with min_age, from a source that knows the times of its changes: */
	int64		young;			/* rows after last_seq that are too young, or follow one that is,
								 * about; 0: none */
	int64		due_in;			/* ms until the first of them is old enough */
	TimestampTz source_now;		/* what the source's clock said; 0: not told */
	int64		skew;			/* how far it is ahead of ours, in microseconds */
} DocrepChanges;

typedef struct DocrepChangesRequest
{
	const char *since;
	int			max_rows;
	Size		max_bytes;		/* stop after this much of bodies (at least one row) */
	bool		winners_only;	/* style=main_only */
	bool		with_docs;		/* send bodies along if that is cheap */
	const char *const *doc_ids; /* or NULL */
	int			ndoc_ids;
	const struct DocrepFilterSpec *filter;	/* which of them (filter/filter.h); or NULL */
	int64		min_age;		/* ms: end before the first row that is younger by the source's own
								 * clock; 0: none is */
} DocrepChangesRequest;

/* For whom a write is done: what rejected_docs shows. */
typedef struct DocrepWriteOrigin
{
	const char *replication_id;
	const char *source;			/* without credentials */
} DocrepWriteOrigin;

extern void docrep_docs_init(DocrepDocs *docs, MemoryContext cxt);
extern DocrepDoc *docrep_docs_add(DocrepDocs *docs);	/* zeroed */
extern void docrep_changes_init(DocrepChanges *changes, MemoryContext cxt);
extern DocrepChange *docrep_changes_add(DocrepChanges *changes);	/* zeroed */

/*
 * Read a batch of changes into out (initialised, empty).  Needs SELECT.  filter: what has
 * become of request->filter, or NULL; a batch that finds little may end early.
 */
struct DocFeedFilter;
extern void docrep_batch_changes(DocTable *table, const DocrepChangesRequest *request,
								 const struct DocFeedFilter *filter, DocrepChanges *out);

/* Set missing[] of every change: true for revisions that are not in the tree. */
extern void docrep_batch_diff(DocTable *table, DocrepChanges *changes);

/*
 * Fetch the missing revisions (missing[] true, or NULL: all) from row *row,
 * revision *rev on, until max_bytes of bodies; *row and *rev say where to go
 * on; false when all are done.  A revision that is no leaf any more is
 * answered with the leaves that descend from it if "latest", else with itself if the
 * table keeps it (revisions.h), else left out.
 */
extern bool docrep_batch_fetch(DocTable *table, const DocrepChanges *changes, bool latest,
							   int *row, int *rev, Size max_bytes, DocrepDocs *out);

/* A revision's attachments from their column, with the contents that are small. */
extern void docrep_doc_fill_atts(DocTable *table, Snapshot snapshot, Jsonb *column,
								 DocrepDoc *doc);

/* Size of a document with the contents that travel with it, for limits. */
extern Size docrep_doc_size(const DocrepDoc *doc);

/*
 * A document that has arrived as a write.  False, and sqlstate and reason
 * set: it cannot be stored in any table.
 */
extern bool docrep_doc_to_write(DocrepDoc *doc, DocWrite *write);

/*
 * Write revisions as they are.  Those refused have their sqlstate and reason
 * set and are kept in docrep.rejected.  If local_id is not NULL the local
 * document is written in the same transaction (doc as JSON text).
 */
extern void docrep_batch_write(DocTable *table, DocrepDocs *docs, const DocrepWriteOrigin *origin,
							   const char *local_id, const char *local_doc);

#endif							/* DOCREP_STORE_BATCH_H */
