/*-------------------------------------------------------------------------
 *
 * document_build.c
 *		Putting a document together as JSON that goes out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/document.h"
#include "store/revisions.h"

/* Add the body's members, _id, _rev and, if true, _deleted. */
static void
add_basics(RawBuilder *builder, const char *id, const Rev *rev, bool deleted, const Jsonb *body)
{
	if (body)
	{
		RawCursor	cursor;
		RawMember	member;

		docrep_raw_begin(&cursor, &body->root);
		docrep_raw_init(builder, true, cursor.n + 7);
		while (docrep_raw_next(&cursor, &member))
			docrep_raw_add_member(builder, &member);
	}
	else
		docrep_raw_init(builder, true, 7);
	docrep_raw_add_text(builder, "_id", id);
	docrep_raw_add_rev(builder, "_rev", rev);
	if (deleted)
		docrep_raw_add_bool(builder, "_deleted", true);
}

/* Add _revisions: {"start": N, "ids": [...]}. */
static void
add_revisions(RawBuilder *builder, const RevPath *path)
{
	RawBuilder	object;
	RawBuilder	ids;

	docrep_raw_init(&ids, false, path->n);
	for (int i = 0; i < path->n; i++)
	{
		char	   *text = palloc(2 * (Size) path->revs[i].len + 1);
		size_t		len = docrep_rev_print_id(&path->revs[i], text);

		docrep_raw_add_text_len(&ids, NULL, text, len);
	}
	docrep_raw_init(&object, true, 2);
	docrep_raw_add_int64(&object, "start", path->revs[0].gen);
	docrep_raw_add_built(&object, "ids", &ids);
	docrep_raw_add_built(builder, "_revisions", &object);
}

/*
 * The status of an ancestor: that of a former version that is kept, else it is as
 * after a compaction of CouchDB.
 */
static const char *
ancestor_status(const Rev *rev, const DocShow *show)
{
	for (int i = 0; i < show->nkept; i++)
	{
		if (docrep_rev_eq(rev, &show->kept[i].rev))
			return show->kept[i].deleted ? "deleted" : "available";
	}
	return "missing";
}

/* Add _revs_info: the path with a status each. */
static void
add_revs_info(RawBuilder *builder, const RevPath *path, bool leaf, bool deleted,
			  const DocShow *show)
{
	RawBuilder	list;

	docrep_raw_init(&list, false, path->n);
	for (int i = 0; i < path->n; i++)
	{
		RawBuilder	item;

		docrep_raw_init(&item, true, 2);
		docrep_raw_add_rev(&item, "rev", &path->revs[i]);
		docrep_raw_add_text(&item, "status",
							i > 0 || !leaf ? ancestor_status(&path->revs[i], show) :
							deleted ? "deleted" : "available");
		docrep_raw_add_built(&list, NULL, &item);
	}
	docrep_raw_add_built(builder, "_revs_info", &list);
}

/*
 * Add the leaves other than the winner, and the one that is shown, that are
 * deleted, or that are not, if there are any.
 */
static void
add_conflicts(RawBuilder *builder, const char *key, const RevTree *tree, int32 shown,
			  bool deleted)
{
	RawBuilder	list;
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(tree, &leaves);

	docrep_raw_init(&list, false, n);
	for (int32 i = 1; i < n; i++)
	{
		if (leaves[i] != shown && tree->nodes[leaves[i]].deleted == deleted)
			docrep_raw_add_rev(&list, NULL, &tree->nodes[leaves[i]].rev);
	}
	if (list.n > 0)
		docrep_raw_add_built(builder, key, &list);
}

/* The document as JSON, with what show asks for; see document.h. */
Jsonb *
docrep_document_show(const char *id, const RevTree *tree, int32 node, Jsonb *body,
					 Jsonb *atts, const DocShow *show)
{
	const RevNode *n = &tree->nodes[node];
	RawBuilder	builder;

	add_basics(&builder, id, &n->rev, n->deleted, body);
	if (atts)
		docrep_document_add_atts(&builder, tree, node, atts, show);
	if (show->revs || show->revs_info)
	{
		RevPath		path = docrep_revtree_path(tree, node);

		if (show->revs)
			add_revisions(&builder, &path);
		if (show->revs_info)
			add_revs_info(&builder, &path, n->nchildren == 0, n->deleted, show);
	}
	if (show->conflicts)
		add_conflicts(&builder, "_conflicts", tree, node, false);
	if (show->deleted_conflicts)
		add_conflicts(&builder, "_deleted_conflicts", tree, node, true);
	return docrep_raw_finish(&builder);
}
