/*-------------------------------------------------------------------------
 *
 * replication.h
 *		A replication: its description, its identity, one run of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_REPLICATION_H
#define DOCREP_REPLICATOR_REPLICATION_H

#include "filter/filter.h"
#include "peer/peer.h"

/*
 * A replication document, read and checked.  Allocated in the context that
 * was current when it was parsed.
 */
typedef struct Replication
{
	DocrepEndpoint *source;
	DocrepEndpoint *target;
	bool		create_target;
	bool		continuous;
	bool		cancel;
	bool		winning_revs_only;
	bool		use_checkpoints;
	int			checkpoint_interval;	/* ms */
	char	   *since_seq;		/* or NULL */
	char	  **doc_ids;		/* sorted, unique; or NULL */
	int			ndoc_ids;
	DocrepFilterSpec filter;	/* what else chooses documents */
	char	   *filter_identity;	/* for the id; a run adds the code of functions.  NULL: no filter */
	int			worker_batch_size;
	DocrepPeerOptions peer_options; /* of both peers, but for the proxy: */
	char	   *source_proxy;	/* URL, may hold a password; or NULL */
	char	   *target_proxy;
	Oid			role;			/* whom it runs as: the caller, or whom user_ctx names */
	char	   *user_name;		/* user_ctx.name, or NULL */
	char	  **user_roles;		/* user_ctx.roles */
	int			nuser_roles;
	bool		roles_given;	/* the document says user_ctx.roles; else they come from the role */
	bool		user_is_admin;	/* design documents may be written to a local target */
	bool		retry_cycles;	/* retry: "cycles" */
	bool		disabled;		/* it shall not run now */
	char	   *held_since;		/* ... by docrep.hold(), since then (as it was written); or NULL */
	char	   *task;			/* _id of the row of docrep.replicator it belongs to, or NULL */
	char	   *mentor;			/* docrep.node_name of the server that shall run it, or NULL */
	int64		delay;			/* ms: nothing younger is applied at the target; 0: none */
	bool		identifying;	/* the run is asking for what its id depends on */
	char	   *cancel_id;		/* with cancel: a replication id given instead of endpoints */
	char	   *node_uuid;		/* of the database that the replication belongs to */
	char	   *id;				/* base replication id, 32 hex digits */
	char	   *full_id;		/* with "+continuous", "+create_target" */
	Jsonb	   *document;		/* as given */
} Replication;

/*
 * Read a replication document: unknown or ill-typed fields, missing source or
 * target, exclusive fields together: DR400 naming the field.  Fields that a
 * an endpoint cannot honour (a JavaScript filter of a table) are refused with 0A000.  In the caller's session: names are
 * resolved in its search_path, rights are its own.
 *
 * With "cancel" and one of "replication_id", "id" and "_local_id" in place of
 * the endpoints, cancel_id is set and source, target, id and full_id are NULL.
 *
 * Endpoints are read as the role that user_ctx names, whose rights will count.
 */
extern Replication *docrep_replication_parse(Jsonb *document);

/*
 * The same for a document of docrep.replicator.  They differ in whom it is for
 * when user_ctx does not say: replicate() takes the caller's own context, a task
 * of an administrator has no name and no roles (user_ctx.c).
 */
extern Replication *docrep_replication_parse_task(Jsonb *document);

extern void docrep_replicator_define_gucs(void);	/* docrep.max_delayed_changes */

/*
 * Fill id and full_id from what defines the replication; node_uuid and the
 * endpoints are set.  docrep_replication_parse has done it; the run does it
 * again when opening an endpoint showed its lasting identity (a local table
 * that was only a name before it was created).
 */
extern void docrep_replication_identify(Replication *replication);

/*
 * Flat form for handing a parsed replication to a worker, and back.  JSON
 * text, one line; it holds credentials.
 */
extern char *docrep_replication_serialize(const Replication *replication);
extern Replication *docrep_replication_deserialize(const char *text);

/* An endpoint as a member of such a form, and back (NULL: none of that name). */
struct StringInfoData;
extern void docrep_flat_put_endpoint(struct StringInfoData *out, const char *name,
									 const DocrepEndpoint *endpoint);
extern DocrepEndpoint *docrep_flat_get_endpoint(JsonbContainer *flat, const char *name);

/* CouchDB's sequences grow with its number of shards: some 250 characters for 8. */
#define STATS_SEQ_SIZE		512

/* Live figures of a run, as active_tasks shows them. */
typedef struct ReplicationStats
{
	int64		docs_read;
	int64		docs_written;
	int64		doc_write_failures;
	int64		missing_revisions_found;
	int64		revisions_checked;
	int64		bulk_get_attempts;
	int64		bulk_get_docs;
	int64		changes_pending;	/* -1: not known */
	/* batches are smaller because a side cannot keep up: no time to give it more to do */
	bool		source_saturated;
	bool		target_saturated;
	/* what is held back because it is younger than the delay (ms; 0: there is none) */
	int64		delay;
	int64		delayed;		/* changes, about */
	TimestampTz delayed_until;	/* when the first of them is due, by our clock; 0: none waits */
	int64		clock_skew;		/* how far the source's clock is ahead of ours, in microseconds */
	bool		tells_times;	/* the source knows when its changes were made ... */
	bool		former_versions;	/* ... and keeps what is replaced for as long as it is wanted */
	/* longer ones are cut, which only those who watch will see */
	char		source_seq[STATS_SEQ_SIZE]; /* how far the source has been read */
	char		through_seq[STATS_SEQ_SIZE];	/* ... is finished at the target */
	char		checkpointed_source_seq[STATS_SEQ_SIZE];
} ReplicationStats;

/* How a run talks to whoever runs it. */
typedef struct ReplicationHooks
{
	void	   *arg;

	/*
	 * After every batch, when the run falls idle (idle: caught up), and when changes come after
	 * that.  resumed: it has run before, and who watches sees what it came to then, so that the
	 * first changes are told of like those.  Else they are not: that a first run can write at all
	 * is known after its first batch.
	 */
	void		(*progress) (void *arg, const ReplicationStats *stats, bool idle);
	bool		resumed;
	/* true: finish the batch, write a checkpoint and return */
	bool		(*should_stop) (void *arg);

	/*
	 * Caught up and idle for so many ms: in how many shall the run end and
	 * leave the waiting to others?  0: now; -1: never.  NULL: never.
	 */
	long		(*park_in) (void *arg, long idle);
	/* the run is about to end in this way; changes can be waited for at place */
	void		(*park) (void *arg, const DocrepWaitPlace *place);

	/* the same, and there is nothing to do before that time; NULL: the run waits itself */
	void		(*park_until) (void *arg, TimestampTz until);

	/*
	 * The run is about to end, and returns NULL: it shall not go on now, which
	 * is no failure (another server has the lease).  To be tried again after ms.
	 */
	void		(*postpone) (void *arg, int ms, const char *reason);
} ReplicationHooks;

/*
 * Run: to the end of the source, or if continuous until should_stop.  Returns
 * what POST /_replicate returns, as JSON text in CurrentMemoryContext; NULL: it
 * was postponed.
 * Failures are raised; what was finished before them is kept and the next run
 * goes on from there.  Called outside of a transaction, in a background
 * worker.
 */
extern char *docrep_replication_run(Replication *replication, const ReplicationHooks *hooks);

#endif							/* DOCREP_REPLICATOR_REPLICATION_H */
