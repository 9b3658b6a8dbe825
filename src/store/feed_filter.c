/*-------------------------------------------------------------------------
 *
 * feed_filter.c
 *		Asking the changes feed's filter about rows: one, or many at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/feed_internal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/*
 * How many rows are judged at a time: one at first, as the caller may want no more,
 * and twice as many each time as long as that is quick (ms), up to the most.  Bodies are
 * limited, too, beyond the first row's.
 */
#define MAX_CHUNK		512
#define QUICK_MS		50
#define SLOW_MS			250
#define MAX_BYTES		(1024 * 1024)

/* Leaves that are asked about together. */
typedef struct LeafList
{
	DocFeedLeaf *leaves;
	int			n;
	int			cap;
	Size		bytes;
} LeafList;

/* What a filter is shown of a leaf. */
static void
fill_leaf(DocFeed *feed, const DocFeedRow *row, int32 node, DocFeedLeaf *leaf)
{
	const DocState *state = &row->state;

	memset(leaf, 0, sizeof(*leaf));
	leaf->id = row->id;
	leaf->tree = state->tree;
	leaf->node = node;
	if (node == state->winner)
	{
		leaf->body = state->doc;
		leaf->atts = state->atts;
	}
	else if (feed->filter->state_flags & DOCSTATE_BODY)
		(void) docrep_leaf_read(feed->table, feed->snapshot, row->id,
								&state->tree->nodes[node].rev, &leaf->body, &leaf->atts, NULL);
}

/* The nodes that are asked about: the leaves, or the winner. */
static int32
nodes_to_test(DocFeed *feed, const DocFeedRow *row, int32 **nodes)
{
	if (feed->filter->all_leaves)
		return docrep_revtree_leaves(row->state.tree, nodes);
	*nodes = palloc(sizeof(int32));
	(*nodes)[0] = row->state.winner;
	return 1;
}

/*
 * What the answers about a row's nodes come to.  *passes is given up where it says
 * nothing.
 */
static bool
sum_up(DocFeed *feed, bool **passes, int32 n)
{
	bool		any = false;
	bool		all = true;

	for (int32 i = 0; i < n; i++)
	{
		any |= (*passes)[i];
		all &= (*passes)[i];
	}
	if (all || !feed->filter->all_leaves)
		*passes = NULL;
	return any;
}

bool
docrep_feed_test_row(DocFeed *feed, const DocFeedRow *row, bool **passes, int32 *n)
{
	int32	   *nodes;

	*n = nodes_to_test(feed, row, &nodes);
	*passes = palloc(*n * sizeof(bool));
	for (int32 i = 0; i < *n; i++)
	{
		DocFeedLeaf leaf;

		fill_leaf(feed, row, nodes[i], &leaf);
		(*passes)[i] = feed->filter->passes(feed->filter->arg, &leaf);
	}
	return sum_up(feed, passes, *n);
}

void
docrep_feed_give_passes(DocFeedRow *row, const bool *passes, int32 n)
{
	row->passes = NULL;
	if (passes)
		row->passes = memcpy(palloc(n * sizeof(bool)), passes, n * sizeof(bool));
}

/* ---------- many at once ---------- */

/* Read a row for the filter and add its leaves to the list; ahead->npasses says how many. */
static void
add_leaves(DocFeed *feed, FeedAhead *ahead, LeafList *list)
{
	DocFeedRow *row;
	int32	   *nodes;

	ahead->npasses = 0;
	if (!feed->filter->id_passes(feed->filter->arg, ahead->id))
		return;
	row = palloc(sizeof(DocFeedRow));
	docrep_feed_read_again(feed, ahead, docrep_feed_test_flags(feed), row);
	ahead->npasses = nodes_to_test(feed, row, &nodes);
	while (list->n + ahead->npasses > list->cap)
	{
		list->cap *= 2;
		list->leaves = repalloc(list->leaves, list->cap * sizeof(DocFeedLeaf));
	}
	for (int32 i = 0; i < ahead->npasses; i++)
	{
		DocFeedLeaf *leaf = &list->leaves[list->n++];

		fill_leaf(feed, row, nodes[i], leaf);
		list->bytes += (leaf->body ? VARSIZE(leaf->body) : 0) +
			(leaf->atts ? VARSIZE(leaf->atts) : 0);
	}
}

/* Take the answers about a row's leaves over. */
static void
take_answers(DocFeed *feed, FeedAhead *ahead, const DocFeedLeaf *leaves)
{
	ahead->sqlstate = 0;
	ahead->passes = palloc(Max(ahead->npasses, 1) * sizeof(bool));
	for (int32 i = 0; i < ahead->npasses; i++)
	{
		ahead->passes[i] = leaves[i].passes;
		if (leaves[i].sqlstate != 0 && ahead->sqlstate == 0)
		{
			ahead->sqlstate = leaves[i].sqlstate;
			ahead->reason = leaves[i].reason;
		}
	}
	ahead->pass = sum_up(feed, &ahead->passes, ahead->npasses);
}

/* So many rows took since then: how many are to be judged the next time? */
static void
set_chunk(DocFeed *feed, TimestampTz begun)
{
	TimestampTz now = GetCurrentTimestamp();

	if (TimestampDifferenceExceeds(begun, now, SLOW_MS))
		feed->chunk = Max(feed->chunk / 2, 1);
	else if (!TimestampDifferenceExceeds(begun, now, QUICK_MS))
		feed->chunk = Min(feed->chunk * 2, MAX_CHUNK);
}

/* One by one, for a filter that knows of no other way. */
static void
judge_one(DocFeed *feed, FeedAhead *ahead)
{
	DocFeedRow	row;

	ahead->sqlstate = 0;
	ahead->pass = feed->filter->id_passes(feed->filter->arg, ahead->id);
	if (!ahead->pass)
		return;
	docrep_feed_read_again(feed, ahead, docrep_feed_test_flags(feed), &row);
	ahead->pass = docrep_feed_test_row(feed, &row, &ahead->passes, &ahead->npasses);
}

/* Up to feed->chunk rows together. */
static void
judge_many(DocFeed *feed)
{
	TimestampTz begun = GetCurrentTimestamp();
	LeafList	list = {.cap = feed->chunk};
	int			last = feed->judged;
	int			leaf = 0;

	list.leaves = palloc(list.cap * sizeof(DocFeedLeaf));
	do
	{
		CHECK_FOR_INTERRUPTS();
		add_leaves(feed, &feed->rows[last++], &list);
	} while (last < feed->nrows && last - feed->judged < feed->chunk && list.bytes < MAX_BYTES);
	if (list.n > 0)
		feed->filter->passes_many(feed->filter->arg, list.leaves, list.n);
	for (; feed->judged < last; feed->judged++)
	{
		FeedAhead  *ahead = &feed->rows[feed->judged];

		take_answers(feed, ahead, &list.leaves[leaf]);
		leaf += ahead->npasses;
	}
	set_chunk(feed, begun);
}

void
docrep_feed_judge(DocFeed *feed)
{
	MemoryContext old;

	MemoryContextReset(feed->test_cxt);
	old = MemoryContextSwitchTo(feed->test_cxt);
	if (feed->filter->passes_many)
		judge_many(feed);
	else
	{
		judge_one(feed, &feed->rows[feed->judged]);
		feed->judged++;
	}
	MemoryContextSwitchTo(old);
}
