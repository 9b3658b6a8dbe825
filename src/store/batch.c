/*-------------------------------------------------------------------------
 *
 * batch.c
 *		The four set-based operations of replication on a document table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "store/age.h"
#include "store/batch.h"
#include "store/change.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/feed.h"
#include "store/kept_feed.h"
#include "store/local_docs.h"
#include "store/not_replicated.h"
#include "store/origins.h"
#include "store/rejected.h"
#include "store/seqs.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/*
 * A filtered batch ends after this (ms), full or not, so that what was scanned in vain
 * makes it to a checkpoint and is not scanned again.
 */
#define FILTER_PATIENCE		1000
/* ... as does one that has met so many documents that are kept back. */
#define KEPT_BACK_A_BATCH	10000

/* Rows that are held back for their age are counted up to here, and estimated from here on. */
#define MAX_COUNTED_YOUNG	1000

/* ---------- containers ---------- */

void
docrep_docs_init(DocrepDocs *docs, MemoryContext cxt)
{
	memset(docs, 0, sizeof(*docs));
	docs->cxt = cxt;
}

DocrepDoc *
docrep_docs_add(DocrepDocs *docs)
{
	if (docs->n >= docs->cap)
	{
		int			cap = Max(64, docs->cap * 2);

		docs->docs = docs->docs ?
			repalloc_huge(docs->docs, cap * sizeof(DocrepDoc)) :
			MemoryContextAlloc(docs->cxt, cap * sizeof(DocrepDoc));
		docs->cap = cap;
	}
	memset(&docs->docs[docs->n], 0, sizeof(DocrepDoc));
	return &docs->docs[docs->n++];
}

void
docrep_changes_init(DocrepChanges *changes, MemoryContext cxt)
{
	memset(changes, 0, sizeof(*changes));
	changes->cxt = cxt;
	changes->pending = -1;
}

DocrepChange *
docrep_changes_add(DocrepChanges *changes)
{
	if (changes->n >= changes->cap)
	{
		int			cap = Max(64, changes->cap * 2);

		changes->rows = changes->rows ?
			repalloc_huge(changes->rows, cap * sizeof(DocrepChange)) :
			MemoryContextAlloc(changes->cxt, cap * sizeof(DocrepChange));
		changes->cap = cap;
	}
	memset(&changes->rows[changes->n], 0, sizeof(DocrepChange));
	return &changes->rows[changes->n++];
}

/* ---------- reading ---------- */

/* Size of a document with the contents that travel with it, for the byte limits. */
Size
docrep_doc_size(const DocrepDoc *doc)
{
	Size		size = doc->body ? VARSIZE(doc->body) : 64;

	for (int i = 0; i < doc->atts.n; i++)
		size += 64 + doc->atts.atts[i].datalen;
	return size;
}

/*
 * Bring an attachment's content along.  One that has not the length that the
 * revision says stays where it is: who reads it will be told.
 */
static void
load_content(DocTable *table, DocAtt *att)
{
	Size		len = (Size) att->encoded_length;
	char	   *data = palloc(len + 1);

	if (docrep_content_read(table, att->file, 0, data, len + 1) != len)
	{
		pfree(data);
		return;
	}
	att->data = data;
	att->datalen = len;
}

/* A leaf's attachments, with the contents that are small. */
void
docrep_doc_fill_atts(DocTable *table, Snapshot snapshot, Jsonb *column, DocrepDoc *doc)
{
	int64		inlined = 0;

	docrep_atts_from_column(column, &doc->atts);
	if (doc->atts.n == 0)
		return;
	PushActiveSnapshot(snapshot);
	for (int i = 0; i < doc->atts.n; i++)
	{
		DocAtt	   *att = &doc->atts.atts[i];

		if (att->encoded_length > DOCREP_ATT_INLINE ||
			inlined + att->encoded_length > DOCREP_ATT_INLINE_DOC)
			continue;
		load_content(table, att);
		inlined += att->datalen;
	}
	PopActiveSnapshot();
}

/*
 * One leaf of a document as it travels.  False: it is live but its body is not
 * here (the table was restored without its companions), so it cannot travel.
 */
static bool
fill_doc(DocTable *table, Snapshot snapshot, const char *id, DocState *state, int32 node,
		 DocrepDoc *doc)
{
	RevNode    *leaf = &state->tree->nodes[node];
	Jsonb	   *atts = NULL;
	const pg_uuid_t *origin = NULL;
	LeafState	stored;

	doc->id = unconstify(char *, id);
	doc->path = docrep_revtree_path(state->tree, node);
	doc->deleted = leaf->deleted;
	doc->modified = state->modified;
	if (node == state->winner)
	{
		doc->body = state->doc;
		atts = state->atts;
		origin = state->origin;
	}
	else if (docrep_leaf_state(table, snapshot, id, &leaf->rev, &stored))
	{
		doc->body = stored.doc;
		atts = stored.atts;
		doc->modified = stored.modified;
		origin = stored.origin;
	}
	else if (!leaf->deleted)
		return false;
	doc->has_origin = true;
	doc->origin = origin ? *origin : *docrep_table_node(table);
	docrep_doc_fill_atts(table, snapshot, atts, doc);
	return true;
}

/*
 * The nodes of a row that travel: its leaves that pass, or the winner.  Returns how
 * many there are.
 */
static int32
nodes_to_travel(const DocrepChangesRequest *request, DocFeedRow *row, int32 **nodes)
{
	int32		n;
	int32		kept = 0;

	if (request->winners_only)
	{
		*nodes = &row->state.winner;
		return 1;
	}
	n = docrep_revtree_leaves(row->state.tree, nodes);
	for (int32 i = 0; i < n; i++)
	{
		if (row->passes == NULL || row->passes[i])
			(*nodes)[kept++] = (*nodes)[i];
	}
	return kept;
}

/* A row of the feed into a change; with bodies if asked for. */
static void
fill_change(DocTable *table, const DocrepChangesRequest *request, DocFeed *feed,
			DocFeedRow *row, DocrepChanges *out)
{
	DocrepChange *change = docrep_changes_add(out);
	RevTree    *tree = row->state.tree;
	int32	   *leaves;
	int32		n = nodes_to_travel(request, row, &leaves);

	change->id = row->id;
	change->deleted = !row->state.live;
	change->modified = row->state.modified;
	change->nrevs = n;
	change->revs = palloc(n * sizeof(Rev));
	for (int i = 0; i < n; i++)
		change->revs[i] = tree->nodes[leaves[i]].rev;
	out->bytes += 64;
	if (!request->with_docs)
		return;
	change->docs = palloc0(n * sizeof(DocrepDoc));
	for (int i = 0; i < n; i++)
	{
		if (!fill_doc(table, docrep_feed_snapshot(feed), row->id, &row->state, leaves[i],
					  &change->docs[i]))
		{
			/* fetching will find what can be had */
			change->docs = NULL;
			return;
		}
		out->bytes += docrep_doc_size(&change->docs[i]);
	}
}

/* What a batch's reading is to end by. */
typedef struct BatchLimits
{
	const DocrepChangesRequest *request;
	bool		patience;		/* there is something that may pass over rows */
	TimestampTz begun;
	int			kept_back;		/* rows that do not travel, ... */
	Size		kept_bytes;		/* ... and about what of memory they took */
} BatchLimits;

/* Has enough been read? */
static bool
batch_is_full(const BatchLimits *limits, const DocrepChanges *out)
{
	return out->n >= limits->request->max_rows ||
		out->bytes + limits->kept_bytes >= limits->request->max_bytes ||
		limits->kept_back >= KEPT_BACK_A_BATCH ||
		(limits->patience &&
		 TimestampDifferenceExceeds(limits->begun, GetCurrentTimestamp(), FILTER_PATIENCE));
}

/* Does the table keep all of the row back?  Then it counts for the limits. */
static bool
is_kept_back(const KeepBack *rule, DocTable *table, DocFeed *feed, DocFeedRow *row,
			 BatchLimits *limits)
{
	if (rule == NULL ||
		docrep_keep_back_from_row(rule, table, feed, row, limits->request->winners_only))
		return false;
	limits->kept_back++;
	limits->kept_bytes += 64 + (row->state.doc ? VARSIZE(row->state.doc) : 0);
	return true;
}

/*
 * When was a row changed, so far as it travels?  Each leaf has a time of its own; one that
 * is not stored has the winner's.
 */
static TimestampTz
row_modified(DocTable *table, const DocrepChangesRequest *request, DocFeed *feed,
			 DocFeedRow *row)
{
	TimestampTz youngest = 0;
	int32	   *leaves;
	int32		n = nodes_to_travel(request, row, &leaves);

	for (int32 i = 0; i < n; i++)
	{
		TimestampTz modified = row->state.modified;
		LeafState	stored;

		if (leaves[i] != row->state.winner &&
			docrep_leaf_state(table, docrep_feed_snapshot(feed), row->id,
							  &row->state.tree->nodes[leaves[i]].rev, &stored))
			modified = stored.modified;
		if (i == 0 || modified > youngest)
			youngest = modified;
	}
	return youngest;
}

/*
 * The row that has just been read, and with it all that follow, must wait for so long (ms).
 * They are counted as far as that is cheap.
 */
static void
hold_back(DocFeed *feed, int64 due_in, DocrepChanges *out)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep young changes",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	DocFeedRow	row;

	out->due_in = due_in;
	for (out->young = 1; out->young < MAX_COUNTED_YOUNG && docrep_feed_next(feed, &row); out->young++)
		MemoryContextReset(cxt);
	if (out->young == MAX_COUNTED_YOUNG)
		out->young += docrep_feed_pending(feed);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}

/* Is the row too young?  Then it ends the batch. */
static bool
is_too_young(DocTable *table, const DocrepChangesRequest *request, DocFeed *feed,
			 DocFeedRow *row, DocrepChanges *out)
{
	int64		due_in;

	if (request->min_age <= 0)
		return false;
	due_in = docrep_age_due_in_ms(row_modified(table, request, feed, row), request->min_age,
								  out->source_now);
	if (due_in == 0)
		return false;
	hold_back(feed, due_in, out);
	return true;
}

/* Former winners that a reader with min_age is to get, merged with the feed. */
typedef struct FormerRows
{
	KeptFeed   *feed;			/* NULL: there are none (any more) */
	KeptFeedRow next;
	const char **ids;			/* doc_ids, sorted; or NULL */
	int			nids;
	const DocFeedFilter *filter;
	const KeepBack *rule;		/* or NULL */
	MemoryContext cxt;			/* what the filter looks at */
} FormerRows;

/* What became of former winners that were to be given. */
typedef enum FormerResult
{
	FORMER_GIVEN,
	FORMER_FULL,				/* the batch holds no more */
	FORMER_YOUNG				/* one is too young, and ends the batch */
} FormerResult;

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Does the filter let this version through? */
static bool
former_is_let_through(DocTable *table, DocFeed *feed, const FormerRows *former)
{
	const KeptFeedRow *row = &former->next;
	const DocFeedFilter *filter = former->filter;
	KeptVersion version = {0};
	DocFeedLeaf leaf = {0};
	DocState	state;

	if (!filter->id_passes(filter->arg, row->id))
		return false;
	if (!docrep_state_read(table, docrep_feed_snapshot(feed), row->id,
						   filter->state_flags & DOCSTATE_TRUNK, &state))
		return false;
	if ((filter->state_flags & (DOCSTATE_BODY | DOCSTATE_ATTS)) != 0 &&
		!docrep_revision_find(table, docrep_feed_snapshot(feed), row->id, &row->rev, &version))
		return false;
	leaf.id = row->id;
	leaf.tree = state.tree;
	leaf.node = docrep_revtree_find(state.tree, &row->rev);
	leaf.body = version.doc;
	leaf.atts = version.atts;
	return leaf.node >= 0 && filter->passes(filter->arg, &leaf);
}

/* Is it a document that was asked for, and passes? */
static bool
former_passes(DocTable *table, DocFeed *feed, const FormerRows *former)
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
	passes = former_is_let_through(table, feed, former);
	MemoryContextSwitchTo(old);
	MemoryContextReset(former->cxt);
	return passes;
}

/* Step to the next of them. */
static void
next_former(DocTable *table, DocFeed *feed, FormerRows *former)
{
	while (former->feed != NULL)
	{
		if (!docrep_kept_feed_next(former->feed, &former->next))
		{
			docrep_kept_feed_close(former->feed);
			former->feed = NULL;
		}
		else if (former_passes(table, feed, former))
			break;
	}
}

static void
begin_former(DocTable *table, const DocrepChangesRequest *request, const DocFeedFilter *filter,
			 const KeepBack *rule, DocFeed *feed, int64 since, TimestampTz now, FormerRows *former)
{
	memset(former, 0, sizeof(*former));
	if (request->min_age <= 0)
		return;
	former->filter = filter;
	former->rule = rule;
	former->cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep former versions",
										ALLOCSET_DEFAULT_SIZES);
	former->feed = docrep_kept_feed_open(table, docrep_feed_snapshot(feed), since,
										 docrep_age_limit(request->min_age, now));
	if (former->feed != NULL && request->doc_ids != NULL)
	{
		former->nids = request->ndoc_ids;
		former->ids = palloc(Max(former->nids, 1) * sizeof(char *));
		memcpy(former->ids, request->doc_ids, former->nids * sizeof(char *));
		qsort(former->ids, former->nids, sizeof(char *), compare_ids);
	}
	next_former(table, feed, former);
}

/* A former winner as a change; its body will be fetched. */
static void
add_former(const FormerRows *former, const char *epoch, DocrepChanges *out)
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

/* Give the former winners that come before a number of the feed.  *scanned moves with them. */
static FormerResult
give_former(DocTable *table, const DocrepChangesRequest *request, DocFeed *feed,
			FormerRows *former, int64 before, const char *epoch, int64 *scanned,
			DocrepChanges *out)
{
	while (former->feed != NULL && former->next.seq < before)
	{
		if (former->next.young)
		{
			hold_back(feed, docrep_age_due_in_ms(former->next.modified, request->min_age,
												 out->source_now), out);
			return FORMER_YOUNG;
		}
		if (out->n >= request->max_rows)
			return FORMER_FULL;
		add_former(former, epoch, out);
		*scanned = former->next.seq;
		next_former(table, feed, former);
	}
	return FORMER_GIVEN;
}

void
docrep_batch_changes(DocTable *table, const DocrepChangesRequest *request,
					 const DocFeedFilter *filter, DocrepChanges *out)
{
	MemoryContext old = MemoryContextSwitchTo(out->cxt);
	int64		since = docrep_seq_parse(&table->info, request->since);
	const KeepBack *rule = docrep_keep_back_rule(table);
	BatchLimits limits = {request, filter != NULL || rule != NULL, GetCurrentTimestamp(), 0, 0};
	int			flags = request->with_docs ? DOCSTATE_BODY | DOCSTATE_TRUNK : 0;
	int64		scanned = since;
	DocFeed    *feed;
	DocFeedRow	row;
	FormerRows	former;
	FormerResult given = FORMER_GIVEN;
	const char *epoch;

	if (rule && docrep_keep_back_wants_bodies(rule))
		flags |= DOCSTATE_BODY;
	feed = docrep_feed_open(table, since, false, request->doc_ids, request->ndoc_ids, flags);
	if (filter)
		docrep_feed_set_filter(feed, filter, FILTER_PATIENCE);
	epoch = docrep_seq_suffix(&table->info);
	out->at_end = true;
	out->source_now = limits.begun;
	begin_former(table, request, filter, rule, feed, since, limits.begun, &former);
	while (docrep_feed_next(feed, &row))
	{
		bool		kept_back = is_kept_back(rule, table, feed, &row, &limits);

		given = give_former(table, request, feed, &former, row.state.seq, epoch, &scanned, out);
		if (given != FORMER_GIVEN)
			break;
		/* what does not travel holds up nobody */
		if (!kept_back && is_too_young(table, request, feed, &row, out))
			break;
		scanned = row.state.seq;
		if (!kept_back)
		{
			fill_change(table, request, feed, &row, out);
			out->rows[out->n - 1].seq = docrep_seq_text(row.state.seq, epoch);
		}
		if (batch_is_full(&limits, out))
		{
			out->at_end = false;
			break;
		}
	}
	if (docrep_feed_paused(feed))
		out->at_end = false;
	/* those before the end of what was scanned, rows that did not pass included */
	if (given == FORMER_GIVEN && out->young == 0)
		given = give_former(table, request, feed, &former, docrep_feed_scanned(feed) + 1, epoch,
							&scanned, out);
	if (out->young > 0 || given == FORMER_FULL)
		out->at_end = false;
	else
		scanned = docrep_feed_scanned(feed);
	/* nothing was old enough: it stands where it stood, in the same words */
	if (out->young > 0 && scanned == since)
		out->last_seq = pstrdup(request->since);
	else
		out->last_seq = docrep_seq_text(scanned, epoch);
	out->pending = out->at_end ? 0 : out->young > 0 ? out->young : docrep_feed_pending(feed);
	if (former.feed != NULL)
		docrep_kept_feed_close(former.feed);
	docrep_feed_close(feed);
	MemoryContextSwitchTo(old);
}

/* Which revisions of one document are not in its tree? */
static void
diff_change(DocTable *table, DocrepChange *change)
{
	DocState	state;
	bool		exists = docrep_state_read(table, GetActiveSnapshot(), change->id, 0, &state);

	for (int i = 0; i < change->nrevs; i++)
	{
		change->missing[i] = !exists || docrep_revtree_find(state.tree, &change->revs[i]) < 0;
		if (change->missing[i] && exists &&
			docrep_revtree_maybe_in_trunk(state.tree, &change->revs[i]))
		{
			docrep_state_read(table, GetActiveSnapshot(), change->id, DOCSTATE_TRUNK, &state);
			change->missing[i] = docrep_revtree_find(state.tree, &change->revs[i]) < 0;
		}
	}
}

void
docrep_batch_diff(DocTable *table, DocrepChanges *changes)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep diff",
												  ALLOCSET_DEFAULT_SIZES);
	bool	   *visible = NULL;

	if (table->row_security)
	{
		const char **ids = palloc(Max(changes->n, 1) * sizeof(char *));

		visible = palloc(Max(changes->n, 1) * sizeof(bool));
		for (int i = 0; i < changes->n; i++)
			ids[i] = changes->rows[i].id;
		docrep_visible_ids(table, ids, changes->n, visible);
	}
	for (int i = 0; i < changes->n; i++)
	{
		DocrepChange *change = &changes->rows[i];
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		change->missing = MemoryContextAlloc(changes->cxt, Max(change->nrevs, 1) * sizeof(bool));
		if (visible && !visible[i])
		{
			memset(change->missing, true, change->nrevs * sizeof(bool));
			continue;
		}
		old = MemoryContextSwitchTo(scratch);
		diff_change(table, change);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
}

/* Does node descend from ancestor? */
static bool
descends(const RevTree *tree, int32 node, int32 ancestor)
{
	while (node > ancestor)
		node = tree->nodes[node].parent;
	return node == ancestor;
}

/* Add a leaf, unless it cannot travel or (rule, if not NULL) is kept back. */
static void
add_doc(DocTable *table, const KeepBack *rule, const char *id, DocState *state, int32 node,
		DocrepDocs *out)
{
	DocrepDoc  *doc = docrep_docs_add(out);

	if (fill_doc(table, GetActiveSnapshot(), id, state, node, doc) &&
		(rule == NULL || docrep_keep_back_reason(rule, id, &doc->path.revs[0], doc->deleted,
												 doc->body) == NULL))
		out->bytes += docrep_doc_size(doc);
	else
		out->n--;
}

/* A revision that has been replaced, if it is kept, unless rule keeps it back. */
static void
add_former_doc(DocTable *table, const KeepBack *rule, const char *id, DocState *state, int32 node, DocrepDocs *out)
{
	KeptVersion version;
	DocrepDoc  *doc;

	if (!docrep_revision_find(table, GetActiveSnapshot(), id, &state->tree->nodes[node].rev,
							  &version))
		return;
	if (rule != NULL &&
		docrep_keep_back_reason(rule, id, &version.rev, version.deleted, version.doc) != NULL)
		return;
	doc = docrep_docs_add(out);
	doc->id = unconstify(char *, id);
	doc->path = docrep_revtree_path(state->tree, node);
	doc->deleted = version.deleted;
	doc->modified = version.modified;
	doc->body = version.doc;
	doc->has_origin = true;
	doc->origin = version.has_origin ? version.origin : *docrep_table_node(table);
	docrep_doc_fill_atts(table, GetActiveSnapshot(), version.atts, doc);
	out->bytes += docrep_doc_size(doc);
}

/* One wanted revision: itself if it is a leaf, or the leaves that it has become. */
static void
fetch_rev(DocTable *table, const KeepBack *rule, const char *id, DocState *state, const Rev *rev,
		  bool latest, DocrepDocs *out)
{
	int32		node = docrep_revtree_find(state->tree, rev);
	int32	   *leaves;
	int32		n;

	if (node < 0)
		return;
	if (state->tree->nodes[node].nchildren == 0)
	{
		add_doc(table, rule, id, state, node, out);
		return;
	}
	if (!latest)
	{
		add_former_doc(table, rule, id, state, node, out);
		return;
	}
	n = docrep_revtree_leaves(state->tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		if (descends(state->tree, leaves[i], node))
			add_doc(table, rule, id, state, leaves[i], out);
	}
}

static bool
row_visible(DocTable *table, const char *id)
{
	bool		visible;

	if (!table->row_security)
		return true;
	docrep_visible_ids(table, &id, 1, &visible);
	return visible;
}

bool
docrep_batch_fetch(DocTable *table, const DocrepChanges *changes, bool latest,
				   int *row, int *rev, Size max_bytes, DocrepDocs *out)
{
	MemoryContext old = MemoryContextSwitchTo(out->cxt);
	const KeepBack *rule = docrep_keep_back_rule(table);

	for (; *row < changes->n; (*row)++, *rev = 0)
	{
		const DocrepChange *change = &changes->rows[*row];
		DocState	state;
		bool		read = false;
		bool		exists = false;

		CHECK_FOR_INTERRUPTS();
		for (; *rev < change->nrevs; (*rev)++)
		{
			if (change->missing && !change->missing[*rev])
				continue;
			if (out->bytes >= max_bytes)
			{
				MemoryContextSwitchTo(old);
				return true;
			}
			if (!read)
			{
				exists = row_visible(table, change->id) &&
					docrep_state_read(table, GetActiveSnapshot(), change->id,
									  DOCSTATE_BODY | DOCSTATE_TRUNK, &state);
				read = true;
			}
			if (exists)
				fetch_rev(table, rule, change->id, &state, &change->revs[*rev], latest, out);
		}
	}
	MemoryContextSwitchTo(old);
	return false;
}

/* ---------- writing ---------- */

/*
 * JSON text to jsonb.  On a failure the document's sqlstate and reason are
 * set.  Parsing has no effects but memory, so no subtransaction is needed to
 * recover from an error in it.
 */
static Jsonb *
parse_body(DocrepDoc *doc)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile result = NULL;
	char	   *text = pnstrdup(doc->json, doc->jsonlen);

	PG_TRY();
	{
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = psprintf("%s%s%s", edata->message, edata->detail ? ": " : "",
							   edata->detail ? edata->detail : "");
	}
	PG_END_TRY();
	pfree(text);
	return result;
}

/*
 * The attachments of a document for its write.  False, and sqlstate and
 * reason set: a name that may not be.
 */
static bool
atts_to_write(DocrepDoc *doc, DocWrite *write)
{
	for (int i = 0; i < doc->atts.n; i++)
	{
		const DocAtt *att = &doc->atts.atts[i];
		const char *problem = docrep_att_name_problem(att->name, strlen(att->name));

		if (problem)
		{
			doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
			doc->reason = psprintf("_attachments: %s", problem);
			return false;
		}
		if (att->data == NULL && !att->stub && !doc->atts_at_target)
			elog(ERROR, "attachment \"%s\" of document \"%s\" was not brought to the target",
				 att->name, doc->id);
	}
	write->atts = doc->atts;
	return true;
}

/* What may not be stored is refused here, before it meets the table. */
bool
docrep_doc_to_write(DocrepDoc *doc, DocWrite *write)
{
	const char *problem;

	memset(write, 0, sizeof(*write));
	if (doc->unreadable || doc->withheld)
		return false;
	problem = docrep_id_problem(doc->id, strlen(doc->id));
	if (problem)
	{
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = psprintf("_id: %s", problem);
		return false;
	}
	write->id = doc->id;
	write->path = doc->path;
	write->deleted = doc->deleted;
	write->modified = doc->modified;
	write->origin = doc->has_origin ? &doc->origin : NULL;
	write->body = doc->body;
	if (write->body == NULL && doc->json != NULL)
	{
		write->body = parse_body(doc);
		if (write->body == NULL)
			return false;
	}
	if (write->body && (!JB_ROOT_IS_OBJECT(write->body) || JB_ROOT_IS_SCALAR(write->body)))
	{
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = "the body is not an object";
		return false;
	}
	/* a peer that keeps to the protocol sends none of these in a body */
	if (doc->json != NULL && write->body && docrep_body_has_special(&write->body->root))
	{
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = "the body has a member that begins with \"_\"";
		return false;
	}
	return atts_to_write(doc, write);
}

/*
 * Contents were brought here, or found, before this transaction.  If
 * docrep.compact() has removed one since, as no revision named it yet, that is
 * no fault of the document: all of it is to be tried again.
 */
static void
check_contents(DocTable *table, const DocWrite *writes, int n)
{
	for (int i = 0; i < n; i++)
	{
		const DocWrite *write = &writes[i];

		for (int j = 0; write->sqlstate == ERRCODE_DOCREP_PRECONDITION_FAILED &&
			 j < write->atts.n; j++)
		{
			const DocAtt *att = &write->atts.atts[j];

			if (att->data == NULL && att->file != 0 &&
				!docrep_content_pin(table, att->file, NULL, NULL))
				ereport(ERROR,
						(errcode(ERRCODE_DOCREP_UNAVAILABLE),
						 errmsg("the content of attachment \"%s\" of document \"%s\" has been removed before the document was written",
								att->name, write->id),
						 errhint("The next attempt brings it again.")));
		}
	}
}

void
docrep_batch_write(DocTable *table, DocrepDocs *docs, const DocrepWriteOrigin *origin,
				   const char *local_id, const char *local_doc)
{
	DocWrite   *writes = palloc(Max(docs->n, 1) * sizeof(DocWrite));
	DocrepDoc **targets = palloc(Max(docs->n, 1) * sizeof(DocrepDoc *));
	int			n = 0;

	docrep_origins_complete(docs, origin ? origin->source : NULL);
	for (int i = 0; i < docs->n; i++)
	{
		if (!docs->docs[i].unreadable && !docs->docs[i].withheld)
			docs->docs[i].sqlstate = 0;
		if (docrep_doc_to_write(&docs->docs[i], &writes[n]))
			targets[n++] = &docs->docs[i];
	}
	docrep_origins_localize(table, writes, n);
	docrep_constraints_immediate();
	docrep_write_revisions(table, writes, n, true);
	check_contents(table, writes, n);
	for (int i = 0; i < n; i++)
	{
		targets[i]->sqlstate = writes[i].sqlstate;
		targets[i]->reason = writes[i].reason;
		targets[i]->known = writes[i].known;
	}
	docrep_rejected_keep(table, docs, origin);
	docrep_rejected_retry(table, origin);
	if (local_id)
	{
		Datum		doc = DirectFunctionCall1(jsonb_in, CStringGetDatum(local_doc));

		(void) docrep_local_put(&table->info, local_id, DatumGetJsonbP(doc));
	}
}
