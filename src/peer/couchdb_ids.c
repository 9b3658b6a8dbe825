/*-------------------------------------------------------------------------
 *
 * couchdb_ids.c
 *		Feeds of more documents, by their ids, than a CouchDB looks up in one call.
 *
 * A CouchDB looks up as many ids as its changes_doc_ids_optimization_threshold says; given
 * more, it reads all of its changes and compares each of them with every id.  So a long
 * list is read in calls of as many ids as are looked up: a pass.
 *
 * All of a pass's calls begin at the same sequence.  Sequences are opaque: of the ends of
 * several calls none can be said to be the least, and none holds for the ids of another
 * call.  What holds for all of them is where the source was before the first call, and that
 * is where the feed is after the last one; what changed meanwhile may come twice.  Before
 * that, a sequence of ours says where the pass is:
 *
 *		["ids", where it began, where it ends, the first id of the call, where the call is]
 *
 * which is as good a checkpoint as any: the ids before that one have been seen up to
 * where the pass ends.  The ids are sorted and part of what the checkpoint is for, and a
 * number of them means the same next time.
 *
 * Where only a few changes have to be read one call with all ids is less work, and says
 * itself how far it has got.  That is also how waits are made: they begin at the end.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/couchdb_target.h"
#include "utils/memutils.h"

/* Ids that a call names: CouchDB's default since 3.4 (before, it knew no limit), that of 1.x ... */
#define IDS_A_CALL			1000
#define IDS_A_CALL_1		100
/* ... and for servers that look nothing up, but compare quickly. */
#define IDS_A_CALL_POUCHDB	10000
/* So many changes are rather compared with all ids. */
#define FEW_CHANGES			1000

static const char mark[] = "ids";

static int
ids_a_call(const CouchPeer *peer)
{
	if (peer->pouchdb)
		return IDS_A_CALL_POUCHDB;
	return strncmp(peer->version, "1.", 2) == 0 ? IDS_A_CALL_1 : IDS_A_CALL;
}

/* How many ids the call has that begins with number "first". */
static int
ids_of_call(const CouchFeed *feed, int first)
{
	return Min(ids_a_call(feed->peer), feed->peer->kind->ndoc_ids - first);
}

/* ---------- sequences ---------- */

/* The next element, a string, as text; NULL: it is none. */
static char *
next_text(CouchJsonWalk *walk)
{
	return docrep_cj_next(walk) && walk->value.kind == CJ_STRING ? docrep_couch_seq(&walk->value) : NULL;
}

CouchPass *
docrep_couch_pass_parse(const char *seq)
{
	CouchPass  *pass;
	CouchJson	array;
	CouchJsonWalk walk;
	int64		first;

	if (seq[0] != '[' || !docrep_cj_value(seq, strlen(seq), &array) || array.kind != CJ_ARRAY)
		return NULL;
	docrep_cj_walk(&walk, &array);
	if (!docrep_cj_next(&walk) || walk.value.kind != CJ_STRING ||
		!docrep_cj_equals(&walk.value, mark))
		return NULL;
	pass = palloc0(sizeof(CouchPass));
	if ((pass->since = next_text(&walk)) == NULL || (pass->through = next_text(&walk)) == NULL ||
		!docrep_cj_next(&walk) || walk.value.kind != CJ_NUMBER ||
		!docrep_cj_int64(&walk.value, &first) || first < 0 || first > INT_MAX ||
		(pass->at = next_text(&walk)) == NULL)
		return NULL;
	pass->first = (int) first;
	return pass;
}

char *
docrep_couch_pass_seq(const CouchFeed *feed, const char *at)
{
	const CouchPass *pass = feed->pass;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "[\"%s\",", mark);
	docrep_couch_put_string(&out, pass->since);
	appendStringInfoChar(&out, ',');
	docrep_couch_put_string(&out, pass->through);
	appendStringInfo(&out, ",%d,", pass->first);
	docrep_couch_put_string(&out, at);
	appendStringInfoChar(&out, ']');
	return out.data;
}

/* ---------- a pass ---------- */

bool
docrep_couch_pass_may_be(const CouchFeed *feed)
{
	const CouchFeedKind *kind = feed->peer->kind;

	return feed->mode == COUCHFEED_BATCHES && kind != NULL && kind->doc_ids != NULL &&
		kind->ndoc_ids > ids_a_call(feed->peer);
}

/* Is little enough to be read that it is compared with all ids? */
static bool
is_near(const CouchPeer *peer, const char *since)
{
	int64		begin = docrep_couch_seq_number(since);
	int64		end = docrep_couch_seq_number(peer->update_seq_text);

	return begin >= 0 && end >= begin && end - begin <= FEW_CHANGES;
}

void
docrep_couch_pass_begin(CouchFeed *feed)
{
	CouchPeer  *peer = feed->peer;
	CouchPass  *pass;

	(void) docrep_couch_check_same(peer);
	feed->undecided = false;
	if (peer->update_seq_text == NULL || is_near(peer, feed->at.data))
		return;
	pass = MemoryContextAllocZero(feed->cxt, sizeof(CouchPass));
	pass->since = MemoryContextStrdup(feed->cxt, feed->at.data);
	pass->through = MemoryContextStrdup(feed->cxt, peer->update_seq_text);
	feed->pass = pass;
}

void
docrep_couch_pass_resume(CouchFeed *feed, CouchPass *pass)
{
	/* a list that has become shorter is read again */
	if (pass->first >= feed->peer->kind->ndoc_ids)
	{
		docrep_couch_set_seq(&feed->at, pass->since);
		feed->undecided = docrep_couch_pass_may_be(feed);
		return;
	}
	feed->pass = pass;
	docrep_couch_set_seq(&feed->at, pass->at);
}

bool
docrep_couch_pass_next(CouchFeed *feed)
{
	CouchPass  *pass = feed->pass;

	if (pass == NULL || feed->bad != NULL ||
		pass->first + ids_of_call(feed, pass->first) >= feed->peer->kind->ndoc_ids)
		return false;
	pass->first += ids_of_call(feed, pass->first);
	docrep_couch_set_seq(&feed->at, pass->since);
	resetStringInfo(&feed->dropped);
	return true;
}

void
docrep_couch_pass_start_over(CouchFeed *feed)
{
	feed->pass = NULL;
	feed->undecided = docrep_couch_pass_may_be(feed);
}

void
docrep_couch_pass_ids(const CouchFeed *feed, int *first, int *n)
{
	*first = feed->pass ? feed->pass->first : 0;
	*n = feed->pass ? ids_of_call(feed, *first) : feed->peer->kind->ndoc_ids;
}
