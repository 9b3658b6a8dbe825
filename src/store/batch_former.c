/*-------------------------------------------------------------------------
 *
 * batch_former.c
 *		Replication: former winners that a delayed reader is to get, merged with the feed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/age.h"
#include "store/batch_internal.h"
#include "store/seqs.h"
#include "utils/memutils.h"

/* The order of ids in FormerRows. */
static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Does the filter let the next version through? */
static bool
is_let_through(const FormerRows *former)
{
	const KeptFeedRow *row = &former->next;
	const DocFeedFilter *filter = former->filter;
	Snapshot	snapshot = docrep_feed_snapshot(former->feed);
	KeptVersion version = {0};
	DocFeedLeaf leaf = {0};
	DocState	state;

	if (!filter->id_passes(filter->arg, row->id))
		return false;
	if (!docrep_state_read(former->table, snapshot, row->id,
						   filter->state_flags & DOCSTATE_TRUNK, &state))
		return false;
	if ((filter->state_flags & (DOCSTATE_BODY | DOCSTATE_ATTS)) != 0 &&
		!docrep_revision_find(former->table, snapshot, row->id, &row->rev, &version))
		return false;
	leaf.id = row->id;
	leaf.tree = docrep_revision_tree(former->table, snapshot, row->id, state.tree, &row->rev,
									 row->deleted, (filter->state_flags & DOCSTATE_TRUNK) != 0,
									 &leaf.node);
	leaf.body = version.doc;
	leaf.atts = version.atts;
	return filter->passes(filter->arg, &leaf);
}

/* Is the next one of a document that was asked for, and passes? */
static bool
next_passes(const FormerRows *former)
{
	MemoryContext old;
	bool		passes;

	if (former->ids != NULL &&
		bsearch(&former->next.id, former->ids, former->nids, sizeof(char *), compare_ids) == NULL)
		return false;
	/* what the table keeps back because of its body is not fetched */
	if (former->rule != NULL &&
		docrep_keep_back_reason(former->rule, former->next.id, &former->next.rev,
								former->next.deleted, NULL) != NULL)
		return false;
	if (former->filter == NULL)
		return true;
	old = MemoryContextSwitchTo(former->cxt);
	passes = is_let_through(former);
	MemoryContextSwitchTo(old);
	MemoryContextReset(former->cxt);
	return passes;
}

/* Step to the next of them that passes. */
static void
step(FormerRows *former)
{
	while (former->kept != NULL)
	{
		if (!docrep_kept_feed_next(former->kept, &former->next))
			docrep_former_end(former);
		else if (next_passes(former))
			break;
	}
}

void
docrep_former_begin(FormerRows *former, DocTable *table, DocFeed *feed,
					const DocrepChangesRequest *request, const DocFeedFilter *filter,
					const KeepBack *rule, int64 since, TimestampTz now)
{
	memset(former, 0, sizeof(*former));
	if (request->min_age <= 0)
		return;
	former->table = table;
	former->feed = feed;
	former->filter = filter;
	former->rule = rule;
	former->cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep former versions",
										ALLOCSET_DEFAULT_SIZES);
	former->kept = docrep_kept_feed_open(table, docrep_feed_snapshot(feed), since,
										 docrep_age_limit(request->min_age, now));
	if (former->kept != NULL && request->doc_ids != NULL)
	{
		former->nids = request->ndoc_ids;
		former->ids = palloc(Max(former->nids, 1) * sizeof(char *));
		memcpy(former->ids, request->doc_ids, former->nids * sizeof(char *));
		qsort(former->ids, former->nids, sizeof(char *), compare_ids);
	}
	step(former);
}

/* The next one as a change; its body will be fetched. */
static void
add_next(const FormerRows *former, const char *epoch, DocrepChanges *out)
{
	DocrepChange *change = docrep_changes_add(out);

	change->seq = docrep_seq_text(former->next.seq, epoch);
	change->id = former->next.id;
	change->deleted = former->next.deleted;
	change->modified = former->next.modified;
	change->nrevs = 1;
	change->revs = palloc(sizeof(Rev));
	change->revs[0] = former->next.rev;
	out->bytes += 64;
}

FormerResult
docrep_former_give(FormerRows *former, int64 before, int max_rows, const char *epoch,
				   int64 *scanned, DocrepChanges *out)
{
	while (former->kept != NULL && former->next.seq < before)
	{
		if (former->next.young)
			return FORMER_YOUNG;
		if (out->n >= max_rows)
			return FORMER_FULL;
		add_next(former, epoch, out);
		*scanned = former->next.seq;
		step(former);
	}
	return FORMER_GIVEN;
}

void
docrep_former_end(FormerRows *former)
{
	if (former->kept != NULL)
		docrep_kept_feed_close(former->kept);
	former->kept = NULL;
}
