/*-------------------------------------------------------------------------
 *
 * peer.h
 *		One interface to every kind of endpoint.
 *
 * The replicator knows only this file.  To add a kind of peer, write one file
 * that fills a DocrepPeerOps and let endpoint.c choose it.
 *
 * Rules for implementations:
 * - Called outside of any transaction, in a background worker.  A peer that
 *   needs a transaction starts and commits its own; none is open while
 *   waiting for the network.
 * - send_* starts a request and returns without waiting for its answer (a
 *   local peer may do the work in recv_*); recv_* waits for it.  Answers come
 *   in the order of the requests of one peer.  Several requests may be under
 *   way.  What send_* is given stays valid until its recv_* returns.
 * - Every wait is one WaitEventSet or WaitLatchOrSocket with the process
 *   latch, handles interrupts (CHECK_FOR_INTERRUPTS, ConfigReloadPending is the
 *   worker's) and keeps to the peer's timeouts.
 * - Failures are raised with the SQLSTATEs of store/errcodes.h.  After one, the
 *   peer can only be closed.  No message holds credentials.
 * - Results are allocated in the context of the batch that is filled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_PEER_H
#define DOCREP_PEER_PEER_H

#include "store/batch.h"
#include "store/revisions_peer.h"
#include "utils/uuid.h"

typedef struct DocrepPeer DocrepPeer;

typedef struct DocrepPeerOptions
{
	int			connection_timeout; /* ms, default 30000 */
	int			request_timeout;	/* ms, 0: none */
	int			http_connections;
	int			retries_per_request;
	int			worker_batch_size;
	bool		use_bulk_get;	/* of CouchDB's: default true */
	const char *proxy;			/* URL for HTTP, may hold credentials; or NULL */
	const char *create_params;	/* create_target_params as JSON text, or NULL */
	int			worker_processes;	/* a CouchDB target is written to with one call more
								 * at a time, within http_connections; 0: just these */
	const char *socket_options; /* "[{keepalive, true}]" (socket_options.h), checked; or NULL */
	int			given;			/* DOCREP_GIVEN_*: what was asked for and is no default */

	/* of a foreign server; only superusers name files there */
	const char *ssl_ca_file;	/* or NULL: docrep.ssl_ca_file's */
	const char *ssl_cert_file;	/* or NULL */
	const char *ssl_key_file;	/* or NULL */
	const char *ssl_verify;		/* "full", "ca", "off"; or NULL: nothing was said */
	bool		restricted;		/* its owner is no superuser: what holds for such roles holds
								 * for all who use it */
	const char *display;		/* what messages call the endpoint; or NULL: as itself says */
} DocrepPeerOptions;

/* What a foreign server's options do not change: docrep_peer_option_given */
#define DOCREP_GIVEN_CONNECTION_TIMEOUT		0x01
#define DOCREP_GIVEN_REQUEST_TIMEOUT		0x02
#define DOCREP_GIVEN_HTTP_CONNECTIONS		0x04
#define DOCREP_GIVEN_RETRIES_PER_REQUEST	0x08

typedef struct DocrepWaitPlace DocrepWaitPlace;

typedef struct DocrepPeerOps
{
	const char *kind;			/* "local", "postgres", "couchdb" */
	bool		keeps_refused;	/* what cannot be written is kept at the target, in
								 * docrep.rejected_docs */
	bool		swaps;			/* swap_local is one step: of two that expect the same at the same
								 * time only one succeeds */
	bool		tells_known;	/* a write says which revisions were there already (known);
								 * a target that does not is asked before every write */
	bool		tells_times;	/* a source that keeps to min_age of requests for changes */

	/*
	 * Connect, find the database or table.  Missing: if create, make it; else
	 * DR404.  Unreachable: DR503.  Fills peer->identity.
	 */
	void		(*open) (DocrepPeer *peer, bool create);
	void		(*close) (DocrepPeer *peer);	/* must not fail, also after an error */

	/* Local documents (ids without "_local/"), as JSON text; NULL: none.  Synchronous;
	 * no other request may be under way. */
	char	   *(*get_local) (DocrepPeer *peer, const char *id);
	void		(*put_local) (DocrepPeer *peer, const char *id, const char *doc);

	/*
	 * Write if the document is "expected", as get_local or the last swap_local
	 * had it (_id and _rev do not count; NULL: there is none).  False: it was not,
	 * or somebody is at it.  See "swaps".
	 */
	bool		(*swap_local) (DocrepPeer *peer, const char *id, const char *expected,
							   const char *doc);

	/*
	 * Have the target refuse (DR503) what this peer writes as soon as its local
	 * document "id" has another "token"; until close.  NULL: the kind cannot.
	 */
	void		(*fence) (DocrepPeer *peer, const char *id, const char *token);

	/*
	 * The source's side.  filter_identity: see that it can give what passes a filter that
	 * is not empty, and tell what identifies that, code of functions included.  Else
	 * DR400, DR404, 0A000.  Synchronous; no other request may be under way.
	 */
	char	   *(*filter_identity) (DocrepPeer *peer, const struct DocrepFilterSpec *filter);
	void		(*send_changes) (DocrepPeer *peer, const DocrepChangesRequest *request);
	void		(*recv_changes) (DocrepPeer *peer, DocrepChanges *out);

	/*
	 * Have the source keep what is replaced for so many ms at least, so that fetches
	 * without "latest" find it; the holder is a name of the caller's.  To be repeated
	 * every hour.  False: that is not possible, or not for so long; NULL: the kind cannot.
	 * Synchronous; no other request may be under way.
	 */
	bool		(*hold_versions) (DocrepPeer *peer, const char *holder, int64 ms);

	/* latest: what has descendants by now is answered with them; else nothing younger comes */
	void		(*send_fetch) (DocrepPeer *peer, const DocrepChanges *changes, bool latest);

	/* Fills out with up to about max_bytes; true: call again for more. */
	bool		(*recv_fetch) (DocrepPeer *peer, Size max_bytes, DocrepDocs *out);

	/*
	 * Read the content of an attachment of a document that recv_fetch or
	 * recv_changes gave: as stored (encoded), in order, one at a time.  Other
	 * requests may be under way.  read_att returns 0 at the end.  False, or DR404:
	 * the document has it, the source does not; then the document cannot be written.  A content whose length is not what the document said is
	 * raised as DR503 (broken in transit).  What comes decoded although the document
	 * says that it is encoded has its att corrected: no encoding, no digest.
	 */
	bool		(*open_att) (DocrepPeer *peer, const DocrepDoc *doc, DocAtt *att);
	Size		(*read_att) (DocrepPeer *peer, char *buf, Size size);
	void		(*close_att) (DocrepPeer *peer);	/* cannot fail; early is fine */

	/*
	 * Wait until something after "since" may be there; recv_wait returns true
	 * then, false after timeout ms.  Ended early by cancel_wait, which may be
	 * called at any time between the two and after which recv_wait is not called.
	 */
	void		(*send_wait) (DocrepPeer *peer, const char *since, int timeout);
	bool		(*recv_wait) (DocrepPeer *peer);

	/*
	 * Where another process can wait for changes after "since", so that this one
	 * need not be there meanwhile.  False: there are some already.  No request
	 * is under way; the peer is closed next.  NULL: only this process can wait.
	 */
	bool		(*wait_place) (DocrepPeer *peer, const char *since, DocrepWaitPlace *place);

	/* The target's side */
	void		(*send_diff) (DocrepPeer *peer, DocrepChanges *changes);
	void		(*recv_diff) (DocrepPeer *peer, DocrepChanges *changes);

	/*
	 * Write; with local_id the local document too, in one transaction if
	 * peer->atomic_checkpoint.  Contents of attachments that are not at hand are
	 * read from "source" (its open_att) before send_write returns, unless the
	 * target has them.
	 */
	void		(*send_write) (DocrepPeer *peer, DocrepDocs *docs, DocrepPeer *source,
							   const DocrepWriteOrigin *origin,
							   const char *local_id, const char *local_doc);
	void		(*recv_write) (DocrepPeer *peer, DocrepDocs *docs);

	/* Make what was written durable before a checkpoint says so. */
	void		(*flush) (DocrepPeer *peer);

	/*
	 * Former versions (store/revisions_peer.h).  Synchronous; no other request may be
	 * under way.  NULL: the kind has none.  have, at the target: which there are of these documents, and
	 * how many it keeps of one; -1: none.  read, at the source: those that are not among them, some at a
	 * time.  write, at the target: contents of attachments are read from "source".
	 */
	int			(*versions_have) (DocrepPeer *peer, const char *const *ids, int n,
								  DocrepChanges *have);
	void		(*versions_read) (DocrepPeer *peer, const DocrepChanges *have,
								  DocrepVersions *out);
	void		(*versions_write) (DocrepPeer *peer, DocrepVersions *versions,
								   DocrepPeer *source);
} DocrepPeerOps;

struct DocrepPeer
{
	const DocrepPeerOps *ops;
	MemoryContext cxt;			/* everything of the peer; deleting it releases
								 * its connections too (reset callback) */
	DocrepPeerOptions options;
	const char *display;		/* for people: no credentials */
	const char *identity;		/* for the replication id: kind, place and name,
								 * without password; the table's uuid for a local one */
	uint64		throttled;		/* how often the other side has asked for less (429, 503) */
	const char *uuid;			/* the database's own identity, after open, or NULL */
	struct DocrepServerUse *server; /* how a foreign server led to it (server.h), or NULL */
	bool		atomic_checkpoint;	/* send_write commits documents and checkpoint together */
};

/*
 * An endpoint as a replication document gives it, checked but not opened.
 * The struct is flat text so that it can travel through shared memory.
 */
typedef struct DocrepEndpoint
{
	char	   *kind;			/* "local", "postgres", "couchdb", "server" */
	char	   *spec;			/* what docrep_open_peer needs: for local the
								 * uuid of the table or, if it is to be created, its
								 * qualified name; for server "name:database"; else the URL or
								 * the object form, credentials included */
	char	   *display;		/* without credentials */
	char	   *identity;		/* for the replication id */
} DocrepEndpoint;

/*
 * Where changes of a source can be waited for when its peer is closed.  The
 * texts are in the context that was current when it was filled.
 */
struct DocrepWaitPlace
{
	bool		local;			/* a document table of this cluster: */
	Oid			database;
	pg_uuid_t	table;			/* of one in another Postgres server, too */
	uint64		commits;		/* docrep_wait_commits before nothing was found to be there */

	DocrepEndpoint *endpoint;	/* else: as it was opened, credentials and all */
	DocrepPeerOptions options;
	char	   *since;
	bool		restricted;		/* the role is no superuser: what it may not connect to is
								 * looked at again */
};

/* Flat form, for shared memory; JSON text that holds credentials.  Remote places only. */
extern char *docrep_wait_place_serialize(const DocrepWaitPlace *place);
extern DocrepWaitPlace *docrep_wait_place_deserialize(const char *text);

/*
 * Read an endpoint (text, or the object form as JSON text) with the caller's
 * search_path and role: malformed DR400; a local table that does not exist
 * according to "missing"; a role that may not use it DR403.  What concerns the
 * role (experiment 2: libpq URLs) is checked here and again at open.
 */
typedef enum DocrepMissing
{
	DOCREP_MISSING_ERROR,		/* the table must be there */
	DOCREP_MISSING_CREATE,		/* it will be created */
	DOCREP_MISSING_NAME			/* only its name is wanted */
} DocrepMissing;

extern DocrepEndpoint *docrep_endpoint_parse(const char *text, DocrepMissing missing);

/*
 * Is it reached by libpq, by HTTP?  Neither: a local table, or a foreign server that is
 * not there.  In a transaction, as a role that may use it.
 */
extern bool docrep_endpoint_is_postgres(const DocrepEndpoint *endpoint);
extern bool docrep_endpoint_is_http(const DocrepEndpoint *endpoint);

/* Make an unopened peer in a new context under parent.  Not of kind "server". */
extern DocrepPeer *docrep_peer_make(const DocrepEndpoint *endpoint,
									const DocrepPeerOptions *options, MemoryContext parent);

/*
 * Make a peer of any kind and open it (create: DocrepPeerOps.open); *slot, if it
 * is not NULL, is set to it before anything can fail half way.  A foreign server's
 * options and credentials are looked up now, as the role of this process, and its URLs
 * are tried in order: the next one if one is down (DR503, DR500).
 */
extern DocrepPeer *docrep_open_peer(const DocrepEndpoint *endpoint,
									const DocrepPeerOptions *options, bool create,
									MemoryContext parent, DocrepPeer **slot);

/*
 * A peer that was opened at a later URL of its server: in how many ms, at most
 * max, shall it be asked whether an earlier one answers again?  -1: never, as it
 * is at the first one.
 */
extern long docrep_peer_probe_in(const DocrepPeer *peer, long max);

/* Ask; true: open it anew.  No request is under way. */
extern bool docrep_peer_probe(DocrepPeer *peer);

/* DOCREP_GIVEN_* of the option of that name; 0: it has none. */
extern int	docrep_peer_option_given(const char *name);

extern void docrep_peer_define_gucs(void);	/* docrep.allowed_hosts */

/* Is a text the URL of a proxy, as far as can be told without asking it? */
extern bool docrep_proxy_is_url(const char *url);

#endif							/* DOCREP_PEER_PEER_H */
