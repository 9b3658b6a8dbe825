/*-------------------------------------------------------------------------
 *
 * reader.h
 *		Reading a peer's documents from end to end, as a stream of batches.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_READER_H
#define DOCREP_REPLICATOR_READER_H

#include "peer/peer.h"

/* What is done with a revision.  It lives until the call returns. */
typedef void (*ReaderTakesDoc) (void *arg, const DocrepDoc *doc);

typedef struct ReaderBatch
{
	MemoryContext cxt;
	DocrepChangesRequest request;
	DocrepChanges changes;
	DocrepChanges to_fetch;		/* rows that did not bring their bodies */
	bool		fetching;
} ReaderBatch;

typedef struct Reader
{
	DocrepPeer *peer;
	MemoryContext cxt;
	int			max_rows;
	bool		with_docs;		/* all leaves' bodies are wanted */
	bool		ahead;			/* ask for the next batch before this one is done with:
								 * not if the peer is asked other things in between */
	const char *const *doc_ids; /* only these, or NULL */
	int			ndoc_ids;

	ReaderBatch *asked;			/* on its way */
	ReaderBatch *batch;			/* the current one: its changes may be looked at */
	StringInfoData since;
	int64		pending;		/* changes after since; -1: not known */
	bool		at_end;
} Reader;

/* Begin at the start of the feed.  Contexts are made under cxt. */
extern void docrep_reader_begin(Reader *reader, DocrepPeer *peer, MemoryContext cxt,
								int max_rows, bool with_docs, bool ahead);

/* Ask for the next batch if there is one and it has not been asked for. */
extern void docrep_reader_ask(Reader *reader);

/*
 * Receive the next batch, and ask for what it did not bring.  False: that was
 * all; the last batch is gone.
 */
extern bool docrep_reader_next(Reader *reader);

/*
 * Hand over every revision of the current batch, in portions of a few MB.  A
 * document that changed since the feed was read comes as it is now.
 */
extern void docrep_reader_docs(Reader *reader, ReaderTakesDoc take, void *arg);

/* Free the batches; nothing is under way. */
extern void docrep_reader_end(Reader *reader);

#endif							/* DOCREP_REPLICATOR_READER_H */
