/*-------------------------------------------------------------------------
 *
 * engine.h
 *		One run of a replication: what its parts share.
 *
 * run.c opens the peers and goes round; pipeline.c moves batches through
 * their states; transfer*.c have what happens to a batch at each of them;
 * session.c knows where to start and writes checkpoints.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_ENGINE_H
#define DOCREP_REPLICATOR_ENGINE_H

#include "replicator/checkpoint.h"
#include "replicator/replication.h"

/* Batches alive at a time: one being written, one on its way, one asked for. */
#define MAX_BATCHES			3
/* Bodies that one changes request may bring. */
#define CHANGES_BYTES		(8 * 1024 * 1024)
/* Bodies fetched, then written, at a time. */
#define PORTION_BYTES		(4 * 1024 * 1024)
/* No new batch is asked for while the living ones hold more than this. */
#define MAX_LIVE_BYTES		(16 * 1024 * 1024)
/* Refused documents that one run names in the server's log. */
#define MAX_REFUSED_LOGGED	20
/* Requests under way at one peer: changes or a diff per batch, a fetch or writes. */
#define QUEUE_SIZE			(4 * MAX_BATCHES)

typedef struct Batch Batch;

/* Documents that are written with one request. */
typedef struct Portion
{
	MemoryContext cxt;			/* holds the portion, too */
	DocrepDocs	docs;
	bool		last;			/* of its batch */
	char	   *checkpoint;		/* document that travels along, or NULL */
} Portion;

typedef enum BatchState
{
	BATCH_READING,				/* changes asked for */
	BATCH_DIFFING,				/* target asked what it misses */
	BATCH_MOVING				/* being fetched and written */
} BatchState;

/* A batch of changes on its way through.  Everything lives in its context. */
struct Batch
{
	MemoryContext cxt;
	Batch	   *next;			/* a younger one */
	BatchState	state;
	DocrepChangesRequest request;
	DocrepChanges changes;
	DocrepChanges to_fetch;		/* those of changes whose bodies must be fetched */
	bool		undiffed;		/* everything is written without asking */
	Portion    *ready;			/* to be written next, or NULL */
	bool		all_sent;		/* every write has been sent */
	int			open_writes;	/* sent and not answered */
	int64		checked;		/* revisions compared */
	int64		missing;		/* ... and found missing */
	Size		bytes;			/* of bodies held, about */
	int64		mark;			/* it is what this mark holds (delayed.c); 0: asked of the source */
};

typedef enum RequestKind
{
	REQUEST_CHANGES,
	REQUEST_DIFF,
	REQUEST_FETCH,
	REQUEST_WRITE
} RequestKind;

typedef struct Request
{
	RequestKind kind;
	Batch	   *batch;
	Portion    *portion;		/* of REQUEST_WRITE */
} Request;

/* Requests that a peer has not answered yet, oldest first. */
typedef struct RequestQueue
{
	Request		items[QUEUE_SIZE];
	int			head;
	int			n;
} RequestQueue;

typedef struct Lease Lease;
typedef struct Delayed Delayed;

/* How well a side keeps up: load.c. */
typedef struct LoadSide
{
	double		cut;			/* share of a full batch that is not asked for; 0: none */
	uint64		throttled;		/* peer->throttled, as it was last */
	double		cost;			/* usual wait for a write, ms a byte; 0: not known */
} LoadSide;

typedef struct Run
{
	MemoryContext cxt;
	MemoryContext scratch;		/* current between calls; reset at every step */
	Replication *replication;
	const ReplicationHooks *hooks;
	DocrepPeer *source;
	DocrepPeer *target;
	DocrepWriteOrigin origin;
	Lease	   *lease;			/* NULL: the replication needs none */
	Delayed    *delayed;		/* NULL: nothing is held back */

	RequestQueue at_source;
	RequestQueue at_target;
	Batch	   *oldest;
	Batch	   *newest;
	int			nbatches;
	bool		hold;			/* ask for no new batch */
	bool		at_end;			/* the newest batch reached the end of the feed */
	bool		unflushed;		/* the target may not have written everything to disk */
	LoadSide	source_load;
	LoadSide	target_load;
	double		missing_ratio;	/* share of missing revisions in recent batches */

	/* sequences, as the source writes them */
	StringInfoData start_seq;
	StringInfoData read_seq;	/* asked for next */
	StringInfoData through_seq; /* everything up to here is at the target */
	StringInfoData saved_seq;	/* ... and recorded on both sides */
	int64		pending_after_read; /* changes after read_seq; -1: not known */

	ReplicationStats stats;
	int			refused_logged; /* documents named in the log as refused */

	/* the session, for checkpoints */
	char		session_id[SESSION_ID_SIZE];
	char	   *start_time;
	const Checkpoint *found;	/* the target's checkpoint at the start, or NULL */
	const CheckpointEntry *old; /* earlier sessions */
	int			nold;
	bool		session_saved;	/* this session is known on both sides */
	TimestampTz last_saved;		/* ... since, or the start of the run */
	TimestampTz idle_since;		/* 0: not idle */
	bool		told_idle;		/* who watches takes the run for idle */
	TimestampTz filter_looked;	/* when the filter's code was looked at; 0: it has none */
	bool		again;			/* it ends so that another one opens the peers anew */
	bool		parking;		/* it is about to end, and others will wait for changes, ... */
	TimestampTz park_until;		/* ... or, if not 0, until then */
	struct VersionsDue *versions;	/* documents whose former versions are to come, or NULL */
	bool		no_versions;	/* one of the tables keeps none */
} Run;

/* pipeline.c */

/* Do one thing; false if nothing is under way and nothing may be asked for. */
extern bool docrep_pipeline_step(Run *run);
extern void docrep_pipeline_push(RequestQueue *queue, RequestKind kind, Batch *batch,
								 Portion *portion);
extern void docrep_pipeline_pop(RequestQueue *queue);

/* transfer_changes.c, transfer.c: each sends or receives one thing and moves the batch on */
extern void docrep_transfer_request_changes(Run *run);
extern void docrep_transfer_take_mark(Run *run);
/* What the next changes are asked for with; allocated in the current context. */
extern void docrep_transfer_fill_request(const Run *run, DocrepChangesRequest *request);
/* Changes after "since" were read: set their last_seq if they have none, and note how far that is. */
extern void docrep_transfer_note_changes(Run *run, const char *since, DocrepChanges *changes);
extern void docrep_transfer_recv_changes(Run *run, Batch *batch);
extern void docrep_transfer_recv_diff(Run *run, Batch *batch);
extern void docrep_transfer_recv_fetch(Run *run, Batch *batch);
extern void docrep_transfer_send_write(Run *run, Batch *batch);
extern void docrep_transfer_recv_write(Run *run, Batch *batch, Portion *portion);

/* versions.c */

/* These documents were written. */
extern void docrep_versions_note(Run *run, const DocrepDocs *docs);
/* Are there documents whose former versions may be missing; so many that it is time? */
extern bool docrep_versions_pending(const Run *run);
extern bool docrep_versions_many(const Run *run);
/* Bring them; nothing is under way. */
extern void docrep_versions_bring(Run *run);

/* load.c */

/* How much the next batch may bring, at least 1; full is what would be asked for. */
extern int	docrep_load_rows(const Run *run);
extern Size docrep_load_bytes(const Run *run, Size full);
/* Batches that may be alive at a time. */
extern int	docrep_load_batches(const Run *run);
/* A write of so much was answered; the answer was waited for so long. */
extern void docrep_load_note_write(Run *run, const Batch *batch, int docs, Size bytes,
								   double waited_ms);
/* The target has said what it misses. */
extern void docrep_load_note_diff(Run *run, const Batch *batch);
/* Changes were read, or bodies (docs). */
extern void docrep_load_note_read(Run *run, const Batch *batch, bool docs);

/* session.c */

/* Read the checkpoints and set where to start; the peers are open. */
extern void docrep_session_start(Run *run);
/* A checkpoint is wanted now. */
extern bool docrep_session_due(const Run *run);
/* Milliseconds until one will be, at most max. */
extern long docrep_session_due_in(const Run *run, long max);
/* Write it to both sides; nothing is under way. */
extern void docrep_session_save(Run *run);
/* Have the target write to disk what it was sent; nothing is under way. */
extern void docrep_session_flush(Run *run);
/* Has anything happened since the last one? */
extern bool docrep_session_unsaved(const Run *run);
/* The document for a write up to "seq", in the current context. */
extern char *docrep_session_travelling(Run *run, const char *seq);
/* What POST /_replicate returns, in the current context. */
extern char *docrep_session_result(Run *run);

/* lease.c: no-ops, or "no", for a replication without a mentor */

/*
 * Take the lease; the peers are open.  False: another server has it, and
 * hooks->postpone was called; the run ends.
 */
extern bool docrep_lease_begin(Run *run);
/* It is to be renewed now: let what is under way come in first. */
extern bool docrep_lease_due(const Run *run);
/* Milliseconds until it will be, at most max. */
extern long docrep_lease_due_in(const Run *run, long max);
/* Renew it; nothing is under way.  Afterwards look at docrep_lease_ending. */
extern void docrep_lease_renew(Run *run);
/* Before something is written: DR503 if the lease may be another's by now. */
extern void docrep_lease_check(const Run *run);
/* The run has to stop: the lease is lost, or asked for by the preferred server. */
extern bool docrep_lease_ending(const Run *run);
/* ... lost: nothing more may be written, no checkpoint either. */
extern bool docrep_lease_lost(const Run *run);
/*
 * Give the lease back; nothing is under way.  hooks->postpone is called if it was
 * asked for.
 */
extern void docrep_lease_release(Run *run);
/* The run is over, well or badly, and its peers are closed.  Cannot fail. */
extern void docrep_lease_end(Run *run);

/*
 * delayed.c: what is held back.  No-ops, or "no", for a replication without a delay.
 *
 * A source that knows when its changes were made (tells_times) gives none that is too
 * young.  Of others all changes are looked at when they come, and marked as seen; a batch
 * is then what a mark holds.
 */

/* After docrep_session_start. */
extern void docrep_delayed_start(Run *run);
/* Are batches those of marks?  ... is one old enough now? */
extern bool docrep_delayed_by_marks(const Run *run);
extern bool docrep_delayed_mark_due(const Run *run);
/* Fill a batch with what the next mark holds. */
extern void docrep_delayed_take_mark(Run *run, Batch *batch);
/* A mark's batch is at the target, though perhaps not on its disk. */
extern void docrep_delayed_finished(Run *run, const Batch *batch);
/* All that is finished is on disk, and recorded in a checkpoint if there are any. */
extern void docrep_delayed_saved(Run *run);
/* Is the source to be looked at now?  Then do so, with nothing under way. */
extern bool docrep_delayed_look_due(const Run *run);
extern void docrep_delayed_look(Run *run);
/* A batch was read: note what the source holds back. */
extern void docrep_delayed_note_read(Run *run, const DocrepChanges *changes);
/*
 * In how many ms, at most max, is there something to do because of what waits?  -1:
 * nothing waits.
 */
extern long docrep_delayed_due_in(const Run *run, long max);
/* When is that?  For who leaves the waiting to others. */
extern TimestampTz docrep_delayed_due_at(const Run *run);
/* Is the source to be told again that what is replaced is wanted?  Then do so, with nothing under way. */
extern bool docrep_delayed_hold_due(const Run *run);
extern void docrep_delayed_hold(Run *run);
/* The time has come, or may have: ask again. */
extern void docrep_delayed_wake(Run *run);
/* The member of the result that says what waits; nothing without a delay. */
extern void docrep_delayed_put_result(const Run *run, StringInfo out);

/* Replace a sequence. */
extern void docrep_seq_set(StringInfo seq, const char *value);

#endif							/* DOCREP_REPLICATOR_ENGINE_H */
