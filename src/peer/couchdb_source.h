/*-------------------------------------------------------------------------
 *
 * couchdb_source.h
 *		What the files of the CouchDB peer as a source share.
 *
 * couchdb_changes.c	batches of changes; is it still the same source?
 * couchdb_feed.c		the changes feed, as it arrives
 * couchdb_broke.c		when its call breaks off
 * couchdb_rows.c		its rows
 * couchdb_filter.c	which rows: what the source is asked, and what is seen to here
 * couchdb_ids.c		many documents by their ids
 * couchdb_wait.c		waiting: streams and long polls
 * couchdb_park.c		where others can wait
 * couchdb_fetch.c		_bulk_get and open_revs: taking what comes
 * couchdb_calls.c		the calls themselves
 * couchdb_wants.c		what they are for, and what has come of it
 * couchdb_answer.c		what they answer, taken apart
 * couchdb_docs.c		documents
 * couchdb_stubs.c		what documents say of their attachments
 * couchdb_small.c		contents that come along
 * couchdb_att.c		contents that are read by themselves, or are missing
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCHDB_SOURCE_H
#define DOCREP_PEER_COUCHDB_SOURCE_H

#include "peer/couch_json.h"
#include "peer/couchdb.h"

/* docrep.max_document_size in kB: a document whose JSON is longer is not read. */
extern int	docrep_max_document_size;

#define COUCH_DOCUMENT_BYTES	((Size) docrep_max_document_size * 1024)

/* ---------- operations ---------- */

extern void docrep_couch_send_changes(DocrepPeer *base, const DocrepChangesRequest *request);
extern void docrep_couch_recv_changes(DocrepPeer *base, DocrepChanges *out);
extern void docrep_couch_send_wait(DocrepPeer *base, const char *since, int timeout);
extern bool docrep_couch_recv_wait(DocrepPeer *base);
extern bool docrep_couch_wait_place(DocrepPeer *base, const char *since, DocrepWaitPlace *place);
extern void docrep_couch_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest);
extern bool docrep_couch_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out);
extern bool docrep_couch_open_att(DocrepPeer *base, const DocrepDoc *doc, DocAtt *att);
extern Size docrep_couch_read_att(DocrepPeer *base, char *buf, Size size);
extern void docrep_couch_close_att(DocrepPeer *base);

/* ---------- couchdb_feed.c ---------- */

/* Where feeds begin. */
#define COUCH_SEQ_START		"0"

/* Which changes a peer's feeds are of: what the last request said. */
typedef struct CouchFeedKind
{
	MemoryContext cxt;
	bool		winners_only;
	bool		docs_wanted;	/* the receiver can use documents */
	int			batch;			/* rows of one batch */
	char	  **doc_ids;		/* or NULL */
	int			ndoc_ids;
	const struct DocrepFilterSpec *filter;	/* or NULL */
	char	   *filter_text;	/* its flat form */
	struct DocrepFilter *ours;	/* what of it the source knows nothing of, or NULL */
} CouchFeedKind;

/* What a feed's calls are. */
typedef enum CouchFeedMode
{
	COUCHFEED_BATCHES,			/* feed=normal: what there is */
	COUCHFEED_POLL,				/* feed=longpoll: the next rows, when there are any */
	COUCHFEED_STREAM			/* feed=continuous: rows as they come */
} CouchFeedMode;

/* A long list of ids that is read in several calls: couchdb_ids.c. */
typedef struct CouchPass
{
	char	   *since;			/* where every call begins */
	char	   *through;		/* where the source was before the first one */
	int			first;			/* of the call: number of its first id */
	char	   *at;				/* of one that is taken up again: where its call was */
} CouchPass;

/* A feed: calls of _changes that go on where the last one broke off. */
typedef struct CouchFeed
{
	MemoryContext cxt;
	MemoryContext peek_cxt;		/* of the row in peeked */
	CouchPeer  *peer;
	DocrepHttpCall *call;		/* NULL: broken off, to be made again at retry_at */
	TimestampTz retry_at;
	int			failures;		/* polls, or streams, in a row that broke off soon */
	int			short_lived;	/* streams in a row that had begun and ended soon */
	CouchSplit *split;
	StringInfoData body;		/* of the calls, if they are filtered */
	StringInfoData at;			/* everything up to here has been handed out */
	StringInfoData from;		/* where the call began */
	StringInfoData given;		/* the sequence that was handed out last: "at", or a pass's */
	CouchPass  *pass;			/* or NULL */
	bool		undecided;		/* whether it is to be one; there is no call yet */
	CouchFeedMode mode;
	bool		trial;			/* a stream that is to show that it is one */
	bool		alive;			/* a byte of it has come */
	int			limit;			/* rows asked for; 0: all */
	int			rows;			/* rows that came of this call */
	int			firsts;			/* ... first revisions among them */
	bool		with_docs;		/* documents come along */
	bool		too_large;		/* ... and one is too large for that */
	TimestampTz begun;			/* the call */
	DocrepChanges *out;			/* being filled, or NULL: take no more rows */
	int			max_rows;
	Size		max_bytes;
	bool		news;			/* a row has come that was not handed out */
	DocrepChanges peeked;		/* ... this one */
	bool		ended;			/* the answer is complete */
	char	   *last_seq;		/* as it says then, or NULL */
	int64		pending;
	const char *bad;			/* what is wrong with the answer, or NULL */
	StringInfoData trouble;		/* what comes where no row can be: perhaps why it ends */
	char	   *refused;		/* ... which says itself what is wrong */
	StringInfoData dropped;		/* the seq of a row that was not let through, after those
								 * that were; or empty */
} CouchFeed;

/* A feed that begins after a sequence, instead of the peer's last one; its call is under way. */
extern CouchFeed *docrep_couch_feed_begin(CouchPeer *peer, const char *since,
										  CouchFeedMode mode);
/* Make the call of a feed that has none, or whose call is over. */
extern void docrep_couch_feed_call(CouchFeed *feed);
/* End the peer's feed, if there is one. */
extern void docrep_couch_feed_drop(CouchPeer *peer);
/* Is anything wrong with what came of the call? */
extern bool docrep_couch_feed_is_bad(CouchFeed *feed);
/* May another row be taken? */
extern bool docrep_couch_feed_wants_more(const CouchFeed *feed);
/* Everything up to here has been taken by the call: given, or not let through. */
extern const char *docrep_couch_feed_position(const CouchFeed *feed, const DocrepChanges *out);
/* How much the calls from here on ask for. */
extern void docrep_couch_feed_choose(CouchFeed *feed);

/* ---------- couchdb_broke.c ---------- */

/* The call is over without a complete answer: to be made again at retry_at, or raise. */
extern void docrep_couch_feed_broke(CouchFeed *feed, const char *doing);
/* Has the call lived for less than a few seconds? */
extern bool docrep_couch_feed_is_short(const CouchFeed *feed);
/* Does its answer say that the server is in trouble for now? */
extern bool docrep_couch_feed_in_trouble(const CouchFeed *feed);
/* Did nothing at all come of a call that was ended for its silence? */
extern bool docrep_couch_feed_was_silent(const CouchFeed *feed);

/* ---------- couchdb_changes.c ---------- */

/*
 * GET /db: is it still the database whose changes were read up to "since"?  DR503 if
 * not, or if its server is another process and would not know.
 */
extern void docrep_couch_check_source(CouchPeer *peer, const char *since);

/* ---------- couchdb_ids.c ---------- */

/* A sequence of a pass, allocated; NULL: it is another. */
extern CouchPass *docrep_couch_pass_parse(const char *seq);
/* ... and back, of one whose call is at "at", allocated. */
extern char *docrep_couch_pass_seq(const CouchFeed *feed, const char *at);

/* Are there more ids than a call may have? */
extern bool docrep_couch_pass_may_be(const CouchFeed *feed);
/* Look at the source, and let the feed be a pass if that is less work. */
extern void docrep_couch_pass_begin(CouchFeed *feed);
/* Go on with one. */
extern void docrep_couch_pass_resume(CouchFeed *feed, CouchPass *pass);
/* A call has ended: false, if that was the last one.  Else the next one is to be made. */
extern bool docrep_couch_pass_next(CouchFeed *feed);
/* The source does not know where it began. */
extern void docrep_couch_pass_start_over(CouchFeed *feed);
/* The ids that the call is to name. */
extern void docrep_couch_pass_ids(const CouchFeed *feed, int *first, int *n);

/* ---------- couchdb_filter.c ---------- */

extern char *docrep_couch_filter_identity(DocrepPeer *base, const struct DocrepFilterSpec *filter);

/* Is a kind of feed one with this filter?  Give a new kind, in its own context, one. */
extern bool docrep_couch_filter_same(const CouchFeedKind *kind,
									 const struct DocrepFilterSpec *filter);
extern void docrep_couch_filter_set(CouchFeedKind *kind, const struct DocrepFilterSpec *filter);

/* Is a row that the source gives not wanted? */
extern bool docrep_couch_filter_drops(const CouchFeedKind *kind, const DocrepChange *change);

/* Does the source filter?  Then what goes into the path, and perhaps the body (of ids: n of
 * them), of a call. */
extern bool docrep_couch_filter_at_source(const CouchFeedKind *kind);
extern bool docrep_couch_filter_has_body(const CouchFeedKind *kind);
extern void docrep_couch_filter_path(StringInfo path, const CouchFeedKind *kind, bool pouchdb);
extern void docrep_couch_filter_body(StringInfo out, const CouchFeedKind *kind, int first, int n);

/* An error that comes in place of a row, or NULL. */
extern char *docrep_couch_filter_row_error(const CouchJson *row);
/* Raise it: the filter's, if there is one, else the source's. */
DOCREP_NORETURN extern void docrep_couch_filter_raise(const CouchPeer *peer, const char *doing, const char *said);
/* Raise if a refusal is because of the filter: it is not there, or has thrown. */
extern void docrep_couch_filter_check_answer(const CouchPeer *peer, const DocrepHttpCall *call);

/* ---------- couchdb_rows.c ---------- */

/* A sequence as text, allocated; NULL: null, none, or no text. */
extern char *docrep_couch_seq(const CouchJson *seq);
/* The number that a sequence is, or begins with ("20-g1AAAA"); -1: none. */
extern int64 docrep_couch_seq_number(const char *seq);
/* Replace a sequence. */
extern void docrep_couch_set_seq(StringInfo seq, const char *value);

/*
 * Add a row, which comes after "at", to a batch; NULL, or what is wrong with it.
 * with_docs: keep its document, if its ancestry is known without asking.
 */
extern const char *docrep_couch_add_row(const CouchJson *row, const char *at, bool with_docs,
										DocrepChanges *out);

/* Is its document a first revision, alone? */
extern bool docrep_couch_is_first(const DocrepChange *change);

/* Add copies of rows to a batch. */
extern void docrep_couch_copy_rows(const DocrepChanges *from, DocrepChanges *out);

/*
 * Documents whose ids text cannot hold come along with their rows, to be kept as
 * they are: fetch them.
 */
extern void docrep_couch_fetch_unusable(CouchPeer *peer, DocrepChanges *changes);

/* ---------- couchdb_answer.c ---------- */

typedef enum CouchEntryKind
{
	COUCHENTRY_DOC,
	COUCHENTRY_MISSING,			/* the source does not have that revision */
	COUCHENTRY_ERROR			/* it has, perhaps, but does not give it */
} CouchEntryKind;

/* One thing that is said of a revision.  Slices live until the next call. */
typedef struct CouchEntry
{
	CouchEntryKind kind;
	CouchJson	id;				/* raw strings; kind CJ_NONE: not said */
	CouchJson	rev;			/* if there is no document */
	CouchJson	doc;			/* the object */
	CouchJson	error;
	CouchJson	reason;
} CouchEntry;

typedef enum CouchAnswerResult
{
	COUCHANSWER_MORE,			/* all was taken: feed more */
	COUCHANSWER_ENTRY,			/* call again with what is left */
	COUCHANSWER_BAD,			/* docrep_couch_answer_problem */
	COUCHANSWER_TOO_LARGE		/* a document is longer than max */
} CouchAnswerResult;

typedef struct CouchAnswer CouchAnswer;

/* Lives in the current context. */
extern CouchAnswer *docrep_couch_answer_new(bool bulk, Size max);
/* The answer comes again from its beginning. */
extern void docrep_couch_answer_reset(CouchAnswer *answer);
/* type: the Content-Type. */
extern CouchAnswerResult docrep_couch_answer_next(CouchAnswer *answer, const char *type,
												  const char **data, size_t *len,
												  CouchEntry *entry);
/* Bytes held of a document that has begun. */
extern Size docrep_couch_answer_held(const CouchAnswer *answer);
/* Is there more in what was fed?  Then call next again, whatever is left. */
extern bool docrep_couch_answer_pending(const CouchAnswer *answer);
/* Is it complete? */
extern bool docrep_couch_answer_ended(const CouchAnswer *answer);
extern const char *docrep_couch_answer_problem(const CouchAnswer *answer);

/* ---------- couchdb_wants.c ---------- */

/* A row's revisions, or some of them, that are asked for with one call. */
typedef struct CouchWant
{
	dlist_node	link;
	const DocrepChange *change;
	int			n;
	const Rev **revs;
	bool	   *got;			/* they came */
	int			others;			/* newer ones came instead of some */
	int			missing;		/* the source says it does not have them */
	bool		doubtful;		/* what came of it was an error, or no document */
	bool		repeated;
	TimestampTz due;			/* not to be asked before; 0: now */
} CouchWant;

/* What is missing of a row, or NULL: nothing. */
extern CouchWant *docrep_couch_want(const DocrepChange *change);
/* Those revisions of a want that did not come; or n of them from "first" on, whatever they are. */
extern CouchWant *docrep_couch_want_rest(const CouchWant *want);
extern CouchWant *docrep_couch_want_part(const CouchWant *want, int first, int n);
/* Has all come, or something newer instead? */
extern bool docrep_couch_want_met(const CouchWant *want);
/*
 * Add the document of an entry to the batch, unless it came before.  strict: what
 * cannot be read is not added but makes the want doubtful.  Returns its index, or -1.
 */
extern int	docrep_couch_want_doc(CouchWant *want, const CouchEntry *entry, bool strict,
								  DocrepDocs *out);
/* The source refuses to give a revision: added as one that cannot be read. */
extern void docrep_couch_want_error(CouchWant *want, const CouchEntry *entry, DocrepDocs *out);
/* The same of all that did not come. */
extern void docrep_couch_want_refuse(CouchWant *want, int sqlstate, const char *reason,
									 DocrepDocs *out);
/* Forget what an earlier attempt said, but not what it brought. */
extern void docrep_couch_want_reset(CouchWant *want);

/* ---------- couchdb_docs.c ---------- */

/*
 * Add a document, as GET gives it, to a batch.  What is no document is added as
 * unreadable: id and rev (or NULL) are what it was asked for by.
 */
extern DocrepDoc *docrep_couch_add_doc(DocrepDocs *out, const char *text, Size len,
									   const char *id, const Rev *rev);

/* Add what cannot be read at all: "raw" is what came of it, perhaps nothing. */
extern DocrepDoc *docrep_couch_add_unreadable(DocrepDocs *out, const char *raw, Size len,
											  const char *id, const Rev *rev, int sqlstate,
											  const char *reason);

/*
 * A raw string as text in the server's encoding, allocated.  If that cannot hold it
 * *problem (static) says so, the result is what is left of it, and *raw, *rawlen
 * are its bytes.
 */
extern char *docrep_couch_text(const CouchJson *string, const char **problem,
							   char **raw, int *rawlen);

/*
 * UTF-8 in the server's encoding: text itself, or allocated with a new *len.  NULL: it is
 * no UTF-8, or cannot be converted.
 */
extern char *docrep_couch_to_server(const char *text, Size *len);

/* ---------- couchdb_stubs.c ---------- */

/* The member _attachments; NULL, or what is wrong with it. */
extern const char *docrep_couch_read_stubs(const CouchJson *member, DocAtts *atts);

/* A member that is a string as text; NULL: it is missing or cannot be text. */
extern char *docrep_couch_text_member(const CouchJson *object, const char *name);

/* The path of an attachment of a revision: "id/name?rev=...", allocated. */
extern char *docrep_couch_att_path(const DocrepDoc *doc, const DocAtt *att);

/* ---------- couchdb_att.c ---------- */

/*
 * The source answers 404 for a content of a revision.  Returns if it still gives the
 * revision itself, so that the attachment is missing for good; raises DR503 if the
 * document has moved on, of which the feed will tell.
 */
extern void docrep_couch_content_missing(CouchPeer *peer, const char *id, const Rev *rev);

/* What is said of such a document. */
#define COUCH_CONTENT_MISSING	"the source does not have its content"

/* ---------- couchdb_small.c ---------- */

/* Contents on their way into the documents of a batch. */
typedef struct CouchSmalls
{
	CouchPeer  *peer;
	MemoryContext cxt;
	dlist_head	waiting;
	dlist_head	running;
	int			nrunning;
} CouchSmalls;

/* Have the contents fetched that come along with document number "index". */
extern void docrep_couch_small_add(CouchSmalls *smalls, DocrepDocs *out, int index);
/* Take what has come, and start what may be started. */
extern void docrep_couch_small_advance(CouchSmalls *smalls, DocrepDocs *out);
extern bool docrep_couch_small_pending(CouchSmalls *smalls);

#endif							/* DOCREP_PEER_COUCHDB_SOURCE_H */
