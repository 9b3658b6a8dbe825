/*-------------------------------------------------------------------------
 *
 * verify_compare.c
 *		How two states of a document differ, and the rows that say so.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "replicator/json_members.h"
#include "replicator/verify.h"
#include "store/errcodes.h"
#include "store/rejected.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* A comparison under way. */
typedef struct Comparison
{
	Verify	   *v;
	DocPair    *pair;
	bool		report;			/* add rows */
	bool		changing;
	bool		differs;
} Comparison;

static const char *const side_names[] = {"source", "target"};

/* ---------- rows ---------- */

static void
put_rev(StringInfo out, const char *name, const Rev *rev)
{
	char		text[REV_TEXT_SIZE];

	docrep_rev_print(rev, text);
	if (name)
		docrep_json_put_text(out, name, text);
	else
		escape_json(out, text);
}

/* A new detail: an object that is still open. */
static StringInfo
new_detail(void)
{
	StringInfo	detail = makeStringInfo();

	appendStringInfoChar(detail, '{');
	return detail;
}

/* Put one side's detail into a row, closing it; NULL: SQL's NULL. */
static void
put_detail(Comparison *c, const char *name, StringInfo detail)
{
	docrep_json_put_name(&c->v->rows, name);
	if (detail == NULL)
		appendStringInfoString(&c->v->rows, "null");
	else
	{
		if (c->changing)
			docrep_json_put_bool(detail, "changing", true);
		appendStringInfo(&c->v->rows, "%s}", detail->data);
	}
}

/*
 * A difference was found: note it, and add a row if rows are wanted.  rev NULL:
 * none.
 */
static void
add_row(Comparison *c, const Rev *rev, const char *difference, StringInfo source, StringInfo target)
{
	StringInfo	rows = &c->v->rows;

	c->differs = true;
	if (!c->report || verify_is_full(c->v))
		return;
	if (c->v->nrows++ > 0)
		appendStringInfoChar(rows, ',');
	appendStringInfoChar(rows, '{');
	docrep_json_put_text(rows, "id", c->pair->id);
	if (rev)
		put_rev(rows, "rev", rev);
	docrep_json_put_text(rows, "difference", difference);
	put_detail(c, "source", source);
	put_detail(c, "target", target);
	appendStringInfoChar(rows, '}');
}

/* The same for a difference that is one side's: "name_at_source". */
static void
add_row_at(Comparison *c, const Rev *rev, const char *name, int side,
		   StringInfo here, StringInfo there)
{
	char	   *difference = psprintf("%s_at_%s", name, side_names[side]);

	if (side == SOURCE)
		add_row(c, rev, difference, here, there);
	else
		add_row(c, rev, difference, there, here);
}

/* ---------- what is known of a document ---------- */

/* The winner among the leaves of a side that has some. */
static const Leaf *
winner_of(const DocSide *side)
{
	const Leaf *best = &side->leaves[0];

	for (int i = 1; i < side->n; i++)
	{
		const Leaf *leaf = &side->leaves[i];

		if (leaf->deleted != best->deleted ? best->deleted :
			docrep_rev_cmp(&leaf->rev, &best->rev) > 0)
			best = leaf;
	}
	return best;
}

static Leaf *
find_leaf(DocSide *side, const Rev *rev)
{
	for (int i = 0; i < side->n; i++)
	{
		if (docrep_rev_eq(&side->leaves[i].rev, rev))
			return &side->leaves[i];
	}
	return NULL;
}

/* Is the revision an ancestor of the leaf? */
static bool
descends(const Leaf *leaf, const Rev *rev)
{
	uint32		steps;

	if (!leaf->here || leaf->rev.gen <= rev->gen)
		return false;
	steps = leaf->rev.gen - rev->gen;
	return steps < (uint32) leaf->path.n && docrep_rev_eq(&leaf->path.revs[steps], rev);
}

/* "leaves": those of the side that descend from ancestor, or all (NULL). */
static void
put_leaves(StringInfo out, const DocSide *side, const Rev *ancestor)
{
	const char *comma = "";

	docrep_json_put_name(out, "leaves");
	appendStringInfoChar(out, '[');
	for (int i = 0; i < side->n; i++)
	{
		if (ancestor && !descends(&side->leaves[i], ancestor))
			continue;
		appendStringInfoString(out, comma);
		put_rev(out, NULL, &side->leaves[i].rev);
		comma = ",";
	}
	appendStringInfoChar(out, ']');
}

/* What the side that has a leaf says of it. */
static StringInfo
leaf_detail(const DocSide *side, const Leaf *leaf)
{
	StringInfo	detail = new_detail();

	docrep_json_put_bool(detail, "deleted", leaf->deleted);
	docrep_json_put_bool(detail, "winner", leaf == winner_of(side));
	return detail;
}

/*
 * Why a side lacks a revision, if it has refused it and that is known here; else
 * NULL.
 */
static StringInfo
why_lacking(Comparison *c, int side, const Rev *rev)
{
	DocrepPeer *peer = c->v->peer[side];
	MemoryContext cxt = CurrentMemoryContext;
	StringInfo	detail = NULL;
	char		text[REV_TEXT_SIZE];
	char	   *error = NULL;
	char	   *reason = NULL;
	pg_uuid_t	table;

	if (!c->report || strcmp(peer->ops->kind, "local") != 0 ||
		(c->v->rejected_asked[side] && !c->v->rejected_any[side]))
		return NULL;
	docrep_rev_print(rev, text);
	table = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(peer->uuid)));
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!c->v->rejected_asked[side])
	{
		c->v->rejected_asked[side] = true;
		c->v->rejected_any[side] = docrep_rejected_any(&table);
	}
	if (c->v->rejected_any[side] &&
		docrep_rejected_find(&table, c->pair->id, text, cxt, &error, &reason))
	{
		MemoryContextSwitchTo(cxt);
		detail = new_detail();
		docrep_json_put_name(detail, "rejected");
		appendStringInfoChar(detail, '{');
		docrep_json_put_text(detail, "error", error);
		docrep_json_put_text(detail, "reason", reason);
		appendStringInfoChar(detail, '}');
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return detail;
}

/* ---------- what differs in a leaf that both have ---------- */

static void
compare_flags(Comparison *c, const Leaf *source, const Leaf *target)
{
	StringInfo	details[2] = {new_detail(), new_detail()};

	if (source->deleted == target->deleted)
		return;
	docrep_json_put_bool(details[SOURCE], "deleted", source->deleted);
	docrep_json_put_bool(details[TARGET], "deleted", target->deleted);
	add_row(c, &source->rev, "deleted", details[SOURCE], details[TARGET]);
}

/* "revisions": as many as a side remembers, and where the paths part. */
static StringInfo
path_detail(const RevPath *path, int at)
{
	StringInfo	detail = new_detail();

	docrep_json_put_int(detail, "revisions", path->n);
	if (at < path->n)
		put_rev(detail, "ancestor", &path->revs[at]);
	return detail;
}

static void
compare_paths(Comparison *c, const Leaf *source, const Leaf *target)
{
	InspectAncestry wanted = c->v->inspection->ancestry;
	int			n = Min(source->path.n, target->path.n);
	int			i = 1;

	if (wanted == INSPECT_ANCESTRY_NONE)
		return;
	while (i < n && docrep_rev_eq(&source->path.revs[i], &target->path.revs[i]))
		i++;
	if (i < n || (wanted == INSPECT_ANCESTRY_FULL && source->path.n != target->path.n))
		add_row(c, &source->rev, "ancestry", path_detail(&source->path, i),
				path_detail(&target->path, i));
}

static StringInfo
body_detail(const DocSide *side, const Leaf *leaf)
{
	StringInfo	detail = leaf_detail(side, leaf);

	if (leaf->problem)
		docrep_json_put_text(detail, "problem", leaf->problem);
	return detail;
}

static void
compare_bodies(Comparison *c, const Leaf *source, const Leaf *target)
{
	if (c->v->inspection->bodies && !digest_equal(source->body, target->body))
		add_row(c, &source->rev, "body", body_detail(&c->pair->side[SOURCE], source),
				body_detail(&c->pair->side[TARGET], target));
}

/* The digest of an attachment's content as a user gets it; read if it must be. */
static Digest
content_of(Comparison *c, int side, Leaf *leaf, int i)
{
	if (!leaf->digested[i])
	{
		DocrepDoc	doc;

		memset(&doc, 0, sizeof(doc));
		doc.id = unconstify(char *, c->pair->id);
		doc.path = leaf->path;
		doc.deleted = leaf->deleted;
		doc.atts = leaf->atts;
		leaf->contents[i] = docrep_digest_content(c->v, c->v->peer[side], &doc,
												  &leaf->atts.atts[i]);
		leaf->digested[i] = true;
	}
	return leaf->contents[i];
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/*
 * Are two attachments the same?  A digest is of the content as stored.  One side may
 * have compressed it, so different digests say something only if neither has.
 */
static bool
same_att(Comparison *c, Leaf *source, int i, Leaf *target, int j)
{
	const DocAtt *a = &source->atts.atts[i];
	const DocAtt *b = &target->atts.atts[j];

	if (!same_text(a->content_type, b->content_type) || a->length != b->length)
		return false;
	if (a->digest && b->digest && strcmp(a->digest, b->digest) == 0 &&
		same_text(a->encoding, b->encoding))
		return true;
	if (c->v->inspection->attachments == INSPECT_ATTS_DIGESTS)
		return same_text(a->digest, b->digest);
	if (a->digest && b->digest && a->encoding == NULL && b->encoding == NULL &&
		strncmp(a->digest, "md5-", 4) == 0 && strncmp(b->digest, "md5-", 4) == 0)
		return false;
	return digest_equal(content_of(c, SOURCE, source, i), content_of(c, TARGET, target, j));
}

static void
put_att(StringInfo out, const DocAtt *att)
{
	docrep_json_put_name(out, att->name);
	appendStringInfoChar(out, '{');
	docrep_json_put_text(out, "content_type", att->content_type);
	docrep_json_put_int(out, "length", att->length);
	docrep_json_put_text(out, "digest", att->digest);
	if (att->encoding)
		docrep_json_put_text(out, "encoding", att->encoding);
	appendStringInfoChar(out, '}');
}

/* Both lists are in the order of their names: walk them side by side. */
static void
compare_atts(Comparison *c, Leaf *source, Leaf *target)
{
	StringInfo	details[2] = {new_detail(), new_detail()};
	bool		differ = false;
	int			i = 0;
	int			j = 0;

	while (i < source->atts.n || j < target->atts.n)
	{
		int			order = i >= source->atts.n ? 1 : j >= target->atts.n ? -1 :
			strcmp(source->atts.atts[i].name, target->atts.atts[j].name);

		if (order != 0 || !same_att(c, source, i, target, j))
		{
			differ = true;
			if (order <= 0)
				put_att(details[SOURCE], &source->atts.atts[i]);
			if (order >= 0)
				put_att(details[TARGET], &target->atts.atts[j]);
		}
		i += order <= 0;
		j += order >= 0;
	}
	if (differ)
		add_row(c, &source->rev, "attachments", details[SOURCE], details[TARGET]);
}

static void
compare_leaf(Comparison *c, Leaf *source, Leaf *target)
{
	Leaf	   *leaves[2] = {source, target};

	for (int side = SOURCE; side <= TARGET; side++)
	{
		if (!leaves[side]->here && leaves[1 - side]->here)
			add_row_at(c, &source->rev, "unavailable", side, new_detail(), NULL);
	}
	if (!source->here || !target->here)
		return;
	compare_flags(c, source, target);
	compare_paths(c, source, target);
	compare_bodies(c, source, target);
	compare_atts(c, source, target);
}

/* ---------- leaves that only one side has ---------- */

/* The other side has nothing of the document. */
static void
compare_with_none(Comparison *c, int side)
{
	DocSide    *has = &c->pair->side[side];
	const Leaf *winner = winner_of(has);
	StringInfo	detail = new_detail();

	docrep_json_put_bool(detail, "deleted", winner->deleted);
	put_leaves(detail, has, NULL);
	add_row_at(c, &winner->rev, "document_missing", 1 - side,
			   why_lacking(c, 1 - side, &winner->rev), detail);
}

/* A leaf of one side that is none of the other's. */
static void
compare_single(Comparison *c, int side, const Leaf *leaf)
{
	DocSide    *other = &c->pair->side[1 - side];
	DocSide    *own = &c->pair->side[side];

	for (int i = 0; i < other->n; i++)
	{
		if (descends(&other->leaves[i], &leaf->rev))
		{
			StringInfo	details[2] = {new_detail(), new_detail()};

			put_leaves(details[1 - side], other, &leaf->rev);
			put_rev(details[side], "leaf", &leaf->rev);
			add_row(c, &leaf->rev, side == SOURCE ? "target_ahead" : "source_ahead",
					details[SOURCE], details[TARGET]);
			return;
		}
	}
	/* it is ahead of a leaf of the other side's, which has its own row */
	for (int i = 0; i < other->n; i++)
	{
		if (descends(leaf, &other->leaves[i].rev) && !find_leaf(own, &other->leaves[i].rev))
			return;
	}
	add_row_at(c, &leaf->rev, "leaf_missing", 1 - side, why_lacking(c, 1 - side, &leaf->rev),
			   leaf_detail(own, leaf));
}

bool
docrep_verify_compare(Verify *v, DocPair *pair, bool report, bool changing)
{
	Comparison	c = {v, pair, report, changing, false};
	MemoryContext cxt = AllocSetContextCreate(v->cxt, "docrep comparison", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	DocSide    *source = &pair->side[SOURCE];
	DocSide    *target = &pair->side[TARGET];

	if (source->n == 0 || target->n == 0)
	{
		if (source->n > 0)
			compare_with_none(&c, SOURCE);
		else if (target->n > 0)
			compare_with_none(&c, TARGET);
	}
	else
	{
		for (int i = 0; i < source->n; i++)
		{
			Leaf	   *leaf = find_leaf(target, &source->leaves[i].rev);

			if (leaf)
				compare_leaf(&c, &source->leaves[i], leaf);
			else
				compare_single(&c, SOURCE, &source->leaves[i]);
		}
		for (int i = 0; i < target->n; i++)
		{
			if (!find_leaf(source, &target->leaves[i].rev))
				compare_single(&c, TARGET, &target->leaves[i]);
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	return c.differs;
}

void
docrep_verify_report_unnamed(Verify *v, int side, const DocrepDoc *doc)
{
	DocPair		pair = {.id = doc->id ? doc->id : ""};
	Comparison	c = {.v = v, .pair = &pair, .report = true};
	StringInfo	detail = new_detail();

	docrep_json_put_text(detail, "problem", doc->reason ? doc->reason : "its id is no text");
	docrep_json_put_name(detail, "raw_id");
	appendStringInfoString(detail, "\"\\\\x");
	for (int i = 0; i < doc->raw_idlen; i++)
		appendStringInfo(detail, "%02x", (uint8) doc->raw_id[i]);
	appendStringInfoChar(detail, '"');
	add_row_at(&c, doc->path.n > 0 ? &doc->path.revs[0] : NULL, "unnameable", side, detail, NULL);
}
