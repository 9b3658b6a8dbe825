/*-------------------------------------------------------------------------
 *
 * seen_marks.h
 *		docrep.delay_marks: which changes of a source were seen when.
 *
 * For delayed replications from sources that do not say when a change was made.  A mark
 * holds ids and revisions, never bodies.  Each call is a transaction of its own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_SEEN_MARKS_H
#define DOCREP_REPLICATOR_SEEN_MARKS_H

#include "datatype/timestamp.h"
#include "store/batch.h"

/* What is known of a replication's marks. */
typedef struct SeenMarks
{
	const char *id;				/* of the replication */
	int64		newest;			/* number of the newest mark, 0: none */
	int64		taken;			/* those up to this number have been taken */
	int64		waiting;		/* changes in those that have not */
	TimestampTz next_seen;		/* when what comes next was seen; 0: nothing does */
} SeenMarks;

/*
 * Find the marks of a replication that goes on from "start" (NULL: from where the marks
 * begin).  Those that it is past are removed; if they do not continue there, all are.
 * *since is where they begin and *through how far the source has been seen, in the
 * current context; NULL: there are none.
 */
extern void docrep_seen_open(SeenMarks *marks, const char *id, const char *start, char **since,
							 char **through);

/* Changes after "since" of the source have been seen now (changes->last_seq is their end). */
extern void docrep_seen_add(SeenMarks *marks, const char *since, DocrepChanges *changes,
							int64 delay);

/* Take the next mark: fills changes (initialised, empty); returns its number. */
extern int64 docrep_seen_take(SeenMarks *marks, DocrepChanges *changes);

/* Remove those up to this number, which are at the target. */
extern void docrep_seen_forget(SeenMarks *marks, int64 through);

/* A replication without a delay has no use for marks. */
extern void docrep_seen_clear(const char *id);

#endif							/* DOCREP_REPLICATOR_SEEN_MARKS_H */
