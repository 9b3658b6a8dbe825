/*-------------------------------------------------------------------------
 *
 * revisions_line.c
 *		Histories of former versions that are longer than those of trees.
 *
 * A tree is stemmed to the newest revisions, and a version that is kept may have
 * been followed by more than that.  What a version led to is kept with it, so that
 * the kept winners of a document, one after the other, are its history.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/change.h"
#include "store/companion.h"
#include "store/rev_type.h"
#include "store/revisions_internal.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/*
 * How long a path becomes, unless revs_limit is more.  The target has some older version of
 * the document, and a path that does not reach it would be a conflict there: a delayed reader
 * comes once in a while, and a loop makes thousands of revisions in a second.
 */
#define MAX_LINE			10000

/* ---------- writing ---------- */

RevPath
docrep_revisions_line(const RevTree *tree, const Rev *old)
{
	int32		winner = docrep_revtree_winner(tree);
	int32		from = docrep_revtree_find(tree, old);
	int32		n = 0;
	RevPath		line = {0};
	int32		node = winner;

	if (from < 0)
		return line;
	for (; node > from; node = tree->nodes[node].parent)
		n++;
	if (node != from || n == 0)
		return line;
	line.revs = palloc(n * sizeof(Rev));
	for (node = winner; node != from; node = tree->nodes[node].parent)
		line.revs[line.n++] = tree->nodes[node].rev;
	return line;
}

Datum
docrep_line_datum(const RevPath *line)
{
	RevTree    *tree = docrep_revtree_new(line->n);
	int32		node = -1;
	uint8	   *packed;
	size_t		len;

	for (int32 i = line->n - 1; i >= 0; i--)
		node = docrep_revtree_add(tree, node, &line->revs[i], false);
	docrep_revtree_pack_inline(tree, VARHDRSZ, &packed, &len);
	SET_VARSIZE(packed, len + VARHDRSZ);
	return PointerGetDatum(packed);
}

/* ---------- reading ---------- */

/* A path that grows. */
typedef struct Line
{
	RevPath		path;
	int32		limit;			/* how long it may become */
	MemoryContext cxt;			/* of its revisions */
} Line;

static const Rev *
oldest(const Line *line)
{
	return &line->path.revs[line->path.n - 1];
}

static void
append(Line *line, const Rev *rev)
{
	MemoryContext old = MemoryContextSwitchTo(line->cxt);

	if (line->path.n < line->limit)
		line->path.revs[line->path.n++] = docrep_rev_copy(rev);
	MemoryContextSwitchTo(old);
}

/* What the tree knows of the history of the path's oldest revision. */
static void
append_from_tree(Line *line, const RevTree *tree)
{
	int32		node = docrep_revtree_find(tree, oldest(line));

	if (node < 0)
		return;
	while ((node = tree->nodes[node].parent) >= 0)
		append(line, &tree->nodes[node].rev);
}

/* If the version in the slot led to the path's oldest revision, append what lies between, and it. */
static bool
append_version(Line *line, TupleTableSlot *slot, const Rev *rev)
{
	bool		isnull;
	Datum		led_to = slot_getattr(slot, Anum_kept_led_to, &isnull);
	const Rev  *last = oldest(line);
	bytea	   *packed;
	RevTree    *tree;
	int32		node;

	if (isnull)
		return false;
	packed = DatumGetByteaPP(led_to);
	tree = docrep_revtree_unpack((uint8 *) VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed));
	node = tree ? docrep_revtree_find(tree, last) : -1;
	if (node < 0 || tree->nodes[0].rev.gen != rev->gen + 1)
		return false;
	while ((node = tree->nodes[node].parent) >= 0)
		append(line, &tree->nodes[node].rev);
	append(line, rev);
	return true;
}

/*
 * Take the document's kept winners in, from the newest.  Those before the path's end are
 * passed; the first that lies behind it must have led there.
 */
static void
append_kept(Line *line, DocTable *table, Snapshot snapshot, const char *id, const RevTree *tree)
{
	MemoryContext scratch = AllocSetContextCreate(line->cxt, "docrep history", ALLOCSET_DEFAULT_SIZES);
	/* the walk goes on with the key that is made here */
	TupleTableSlot *slot = docrep_kept_first(table, snapshot, id, true);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	for (bool more = true;
		 slot && more && line->path.n < line->limit && oldest(line)->gen > 1;
		 slot = docrep_kept_next(table))
	{
		bool		isnull;
		Rev			rev;

		docrep_datum_rev(slot_getattr(slot, Anum_kept_rev, &isnull), &rev);
		if (rev.gen >= oldest(line)->gen ||
			DatumGetChar(slot_getattr(slot, Anum_kept_kind, &isnull)) != KEPT_WINNER)
			continue;
		more = append_version(line, slot, &rev);
		if (more)
			append_from_tree(line, tree);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

RevPath
docrep_revision_path(DocTable *table, Snapshot snapshot, const char *id, const RevTree *tree,
					 const Rev *rev)
{
	Line		line;

	line.cxt = CurrentMemoryContext;
	line.limit = Max(table->info.revs_limit, MAX_LINE);
	line.path.revs = palloc(Min(rev->gen, (uint32) line.limit) * sizeof(Rev));
	line.path.n = 0;
	append(&line, rev);
	append_from_tree(&line, tree);
	if (line.path.n < line.limit && oldest(&line)->gen > 1)
		append_kept(&line, table, snapshot, id, tree);
	return line.path;
}

RevTree *
docrep_revision_tree(DocTable *table, Snapshot snapshot, const char *id, RevTree *tree,
					 const Rev *rev, bool deleted, bool with_path, int32 *node)
{
	RevPath		path = {.n = 1, .revs = unconstify(Rev *, rev)};

	*node = docrep_revtree_find(tree, rev);
	if (*node >= 0)
		return tree;
	if (with_path)
		path = docrep_revision_path(table, snapshot, id, tree, rev);
	tree = docrep_revtree_new(path.n);
	(void) docrep_revtree_merge(tree, &path, deleted);
	*node = docrep_revtree_find(tree, rev);
	return tree;
}
