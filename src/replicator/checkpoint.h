/*-------------------------------------------------------------------------
 *
 * checkpoint.h
 *		Checkpoint documents, in CouchDB's format, and where two of them meet.
 *
 * All of it is text and memory: no peer, no catalog, no transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_CHECKPOINT_H
#define DOCREP_REPLICATOR_CHECKPOINT_H

#include "postgres.h"

#include "lib/stringinfo.h"

#define CHECKPOINT_MAX_HISTORY	50
#define REPLICATION_ID_VERSION	4
#define SESSION_ID_SIZE			33

/* One session (run) of a replication in a checkpoint's history. */
typedef struct CheckpointEntry
{
	const char *session_id;
	const char *start_time;		/* RFC 1123 */
	const char *end_time;
	const char *start_last_seq; /* sequences are the source's text, opaque */
	const char *end_last_seq;
	const char *recorded_seq;
	int64		missing_checked;
	int64		missing_found;
	int64		docs_read;
	int64		docs_written;
	int64		doc_write_failures;
	int64		bulk_get_docs;
	int64		bulk_get_attempts;
} CheckpointEntry;

typedef struct Checkpoint
{
	const char *session_id;
	const char *source_last_seq;
	const char *since_seq;		/* the since_seq that the session was given, or NULL */
	int			n;
	CheckpointEntry *entries;	/* newest first */
} Checkpoint;

/*
 * Read a checkpoint document; NULL if json is NULL or is no checkpoint that
 * this version understands (then there is none, and more is compared than had
 * to be).
 */
extern Checkpoint *docrep_checkpoint_parse(const char *json);

/*
 * Where the two sides last agreed: the source's sequence that the target has
 * everything up to, or NULL.  *history: the entries worth keeping, *nhistory
 * of them, newest first.
 */
extern const char *docrep_checkpoint_ancestor(const Checkpoint *source,
											  const Checkpoint *target,
											  const CheckpointEntry **history,
											  int *nhistory);

/* Members of our own that CouchDB does not look at. */
typedef struct CheckpointExtras
{
	const char *source;			/* for people, without credentials */
	const char *target;
	const char *source_uuid;	/* of the databases themselves, or NULL */
	const char *target_uuid;
	const char *since_seq;		/* or NULL */
} CheckpointExtras;

/*
 * Print as the document to store: a new top entry and up to max_history - 1
 * old ones below it.
 */
extern char *docrep_checkpoint_print(const CheckpointEntry *top,
									 const CheckpointExtras *extras,
									 const CheckpointEntry *old, int nold, int max_history);

/* Append the member "history" with up to max_history entries; top may be NULL. */
extern void docrep_checkpoint_put_history(StringInfo out, const CheckpointEntry *top,
										  const CheckpointEntry *old, int nold,
										  int max_history);

/* Append the members of an entry that count something. */
extern void docrep_checkpoint_put_counts(StringInfo out, const CheckpointEntry *entry);

/* A new session id: 32 random hex digits. */
extern void docrep_checkpoint_new_session(char *session_id);

/* The present time as RFC 1123 wants it, allocated. */
extern char *docrep_checkpoint_time_now(void);

#endif							/* DOCREP_REPLICATOR_CHECKPOINT_H */
