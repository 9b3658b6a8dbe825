/*-------------------------------------------------------------------------
 *
 * content_have.c
 *		Which contents a document has already, asked before they are brought.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/content.h"
#include "store/open_doc.h"
#include "store/state.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A content that a leaf of the document has. */
typedef struct Had
{
	const char *digest;
	int64		length;			/* as stored */
	int64		file;
} Had;

typedef struct HadList
{
	Had		   *items;
	int			n;
	int			cap;
} HadList;

static int
compare_had(const void *a, const void *b)
{
	const Had  *ha = a;
	const Had  *hb = b;
	int			c = strcmp(ha->digest, hb->digest);

	if (c != 0)
		return c;
	return ha->length < hb->length ? -1 : ha->length > hb->length;
}

/* Add the contents that a leaf's column names. */
static void
add_column(HadList *list, Jsonb *column)
{
	DocAtts		atts;

	docrep_atts_from_column(column, &atts);
	if (list->n + atts.n > list->cap)
	{
		list->cap = Max(list->cap * 2, list->n + atts.n);
		list->items = list->items ?
			repalloc_huge(list->items, list->cap * sizeof(Had)) :
			palloc_extended(list->cap * sizeof(Had), MCXT_ALLOC_HUGE);
	}
	for (int i = 0; i < atts.n; i++)
	{
		Had		   *had = &list->items[list->n];

		if (atts.atts[i].digest == NULL)
			continue;
		had->digest = atts.atts[i].digest;
		had->length = atts.atts[i].encoded_length;
		had->file = atts.atts[i].file;
		list->n++;
	}
}

/* All contents of all leaves of a document that the role may see. */
static void
add_document(HadList *list, DocTable *table, const char *id)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	DocState	state;
	int32	   *leaves;
	int32		n = 0;
	bool		visible;

	docrep_visible_ids(table, &id, 1, &visible);
	if (visible && docrep_state_read(table, snapshot, id, DOCSTATE_ATTS, &state))
		n = docrep_revtree_leaves(state.tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		Jsonb	   *doc;
		Jsonb	   *column = state.atts;

		if (leaves[i] == state.winner ||
			docrep_leaf_read(table, snapshot, id, &state.tree->nodes[leaves[i]].rev,
							 &doc, &column, NULL))
			add_column(list, column);
	}
	UnregisterSnapshot(snapshot);
}

/*
 * The document is read once, however many contents are asked for: there may be
 * thousands of either.
 */
void
docrep_contents_of_doc(DocTable *table, const char *id, const DocAtt *wanted, int n, int64 *files)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep contents of a document",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	HadList		list = {0};

	add_document(&list, table, id);
	if (list.n > 0)
		qsort(list.items, list.n, sizeof(Had), compare_had);
	for (int i = 0; i < n; i++)
	{
		Had			key = {.digest = wanted[i].digest, .length = wanted[i].encoded_length};
		Had		   *had = list.n == 0 ? NULL :
			bsearch(&key, list.items, list.n, sizeof(Had), compare_had);

		files[i] = had ? had->file : 0;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
}
