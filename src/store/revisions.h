/*-------------------------------------------------------------------------
 *
 * revisions.h
 *		Former versions of documents: bodies of replaced winners, and of losing
 *		leaves that were resolved, in the companion rev_<uuid>.
 *
 * Kept if the table's owner wants revisions (docrep.set_revisions), or if
 * somebody holds versions for a while (a delayed replication).  Otherwise the
 * companion is empty and a write pays for one flag.
 *
 * Versions of one document are in the order of seq, of equal seq in that of the
 * generation: seq is the document's number while the version was the winner.
 * What a replication has brought of versions that never stood here has the seq
 * of the version that came after them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_REVISIONS_H
#define DOCREP_STORE_REVISIONS_H

#include "datatype/timestamp.h"
#include "revision/rev.h"
#include "store/state.h"
#include "store/table.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

struct DocChange;

/* What a version was, rev_<uuid>.kind. */
#define KEPT_WINNER			'w' /* the document's winner here, until replaced_at */
#define KEPT_CONFLICT		'c' /* a losing leaf, closed at replaced_at */
#define KEPT_PEER_WINNER	'W' /* the winner at a peer, never here */
#define KEPT_PEER_CONFLICT	'C' /* a losing leaf at a peer */

/* One version; what it points to is allocated in CurrentMemoryContext. */
typedef struct KeptVersion
{
	bool		current;		/* the stored row's, not a kept one */
	Rev			rev;
	Jsonb	   *doc;			/* NULL: {} (or not asked for) */
	Jsonb	   *atts;			/* column _attachments; NULL: none (or not asked for) */
	bool		deleted;
	TimestampTz modified;		/* when it was made, by the clock of where it was made */
	TimestampTz replaced_at;	/* when another took its place; current: DT_NOEND */
	int64		seq;
	char		kind;			/* KEPT_*; current: KEPT_WINNER */
	bool		has_origin;
	pg_uuid_t	origin;			/* node that made it, if not this one */
	RevPath		led_to;			/* when it is kept: the winner that replaced it, and what lies
								 * between; n 0: that is no descendant of it, or unknown.  Not read */
} KeptVersion;

/* ---------- writing: revisions.c ---------- */

/*
 * Keep what a change replaces; called for each change that is being written, if
 * table->info.keeps_versions, before the rows of losing leaves go.
 */
extern void docrep_revisions_keep(DocTable *table, struct DocChange *change);

/*
 * The same where the change of the winner is settled in an AFTER trigger: first the
 * winner as it was stored, and the losing leaves in change->leaf_deletes, whose rows are
 * still there (a list of KeptVersion); then, when all else is written, keep them.
 */
extern List *docrep_revisions_ended(DocTable *table, struct DocChange *change);
extern void docrep_revisions_keep_settled(DocTable *table, struct DocChange *change,
										  List *versions);

/*
 * From a tree's winner back to the child of "old"; nothing if it does not descend from
 * that.  What the revisions point to is the tree's.
 */
extern RevPath docrep_revisions_line(const RevTree *tree, const Rev *old);

/* Forget all kept versions of a document that is purged, or of what is not in its tree any more. */
extern void docrep_revisions_forget(DocTable *table, const char *id);
extern void docrep_revisions_forget_missing(DocTable *table, const char *id,
											const RevTree *tree);

/* ---------- reading: revisions_read.c ---------- */

/* A kept version of the document; false: not kept (any more). */
extern bool docrep_revision_find(DocTable *table, Snapshot snapshot, const char *id,
								 const Rev *rev, KeptVersion *version);

/* All kept versions of the document, oldest first; with their bodies if asked for.  Returns how many. */
extern int	docrep_revisions_of(DocTable *table, Snapshot snapshot, const char *id, bool bodies,
								KeptVersion **versions);

/*
 * The last version that had been made at a time, by the version's own time: of
 * the kept winners and the stored row the one with the greatest seq whose
 * "modified" is not after "at".  It may be a tombstone.  False: none is known
 * (all are younger, or there is no such document).  For a delayed reader: what
 * was replaced while docrep_revisions_hold was in force is still here.
 */
extern bool docrep_revision_as_of(DocTable *table, Snapshot snapshot, const char *id,
								  TimestampTz at, KeptVersion *version);

/* ---------- histories: revisions_line.c ---------- */

/*
 * The path of a revision, from the document's tree and, where that does not reach (the
 * revision has been stemmed away, or what it goes on from), from the kept winners that
 * led to it, as far as they go, but no more than some thousands of revisions.
 */
extern RevPath docrep_revision_path(DocTable *table, Snapshot snapshot, const char *id,
									const RevTree *tree, const Rev *rev);

/*
 * A tree that has a revision, and which node of it that is: the document's, or else
 * one of its path, or without that, of the revision alone.
 */
extern RevTree *docrep_revision_tree(DocTable *table, Snapshot snapshot, const char *id,
									 RevTree *tree, const Rev *rev, bool deleted,
									 bool with_path, int32 *node);

/* What a document was here at a time, by this server's clock. */
typedef enum ShownAt
{
	SHOWN_VERSION,				/* this version (perhaps a tombstone) */
	SHOWN_NOTHING,				/* it was not here yet */
	SHOWN_UNKNOWN				/* what is kept does not reach back so far */
} ShownAt;

/*
 * What the table showed of a document at a time: the first of the kept winners
 * that was replaced after it, else the stored row ("state", with its body).
 */
extern ShownAt docrep_revision_shown_at(DocTable *table, Snapshot snapshot, const char *id,
										const DocState *state, TimestampTz at,
										KeptVersion *version);

/* ---------- holds: revisions_hold.c ---------- */

/*
 * Let the table keep replaced winners for at least this long, whether or not
 * its owner wants revisions, on behalf of "holder" (any text that is the
 * caller's own, such as a replication id).  Needs SELECT.  To be called again
 * at every start and from time to time: a hold that was not renewed for "keep"
 * and a day counts no more.  Writes only if there is something to write.  What was
 * replaced before the first hold is not there.  False: not for so long, because of
 * docrep.max_version_hold, or not at all: too many hold, or row security applies to the role.
 */
extern bool docrep_revisions_hold(DocTable *table, const char *holder, const Interval *keep);

/* The hold ends; false: there was none. */
extern bool docrep_revisions_release(DocTable *table, const char *holder);

/* The longest hold in force in microseconds, 0: none; for docrep_table_info. */
extern int64 docrep_revisions_held(const pg_uuid_t *uuid);

/*
 * SQL for peers on other servers (revisions.sql):
 *		docrep.peer_hold_versions(tbl uuid, holder text, keep interval) returns void
 *			(keep NULL: release)
 */

extern void docrep_revisions_define_gucs(void);

/* ---------- cleaning: revisions_clean.c ---------- */

/*
 * SQL: docrep.clean_revisions(tbl regclass, max_rows int DEFAULT 10000) returns bigint
 * (owner): removes up to max_rows kept versions that are beyond the table's
 * bounds and held by nobody; returns how many.  Less than max_rows: there is no
 * more to do for now.
 */

#endif							/* DOCREP_STORE_REVISIONS_H */
