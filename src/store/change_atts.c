/*-------------------------------------------------------------------------
 *
 * change_atts.c
 *		Attachments of the revisions that come in with a change: where their
 *		contents are, or why that cannot be said.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/change_atts.h"
#include "store/content.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* What the document's leaves have: where stubs are looked for. */
typedef struct Candidates
{
	bool		filled;
	DocAtts    *lists;
	int			n;
} Candidates;

/*
 * Refuse a write.  The reason lives as long as the table: a batch that is tried
 * again loses what was allocated on the way.
 */
static bool
refuse(DocTable *table, DocWrite *write, int sqlstate, const char *reason)
{
	write->sqlstate = sqlstate;
	write->reason = MemoryContextStrdup(GetMemoryChunkContext(table), reason);
	return false;
}

static bool
missing_stub(DocTable *table, DocWrite *write, const DocAtt *att)
{
	return refuse(table, write, ERRCODE_DOCREP_PRECONDITION_FAILED,
				  psprintf("Invalid attachment stub in %s for %s", write->id, att->name));
}

static bool
wrong_content(DocTable *table, DocWrite *write, const DocAtt *att, const char *what)
{
	return refuse(table, write, ERRCODE_DOCREP_BAD_REQUEST,
				  psprintf("attachment \"%s\": its content does not have the %s that was given",
						   att->name, what));
}

/* ---------- attachments of leaves ---------- */

/* The attachments of a losing leaf that is stored. */
static void
losing_leaf_atts(DocTable *table, DocChange *change, const Rev *rev, DocAtts *out)
{
	Jsonb	   *doc;
	Jsonb	   *column = NULL;

	CommandCounterIncrement();
	if (!docrep_leaf_read(table, GetLatestSnapshot(), change->id, rev, &doc, &column, NULL))
		column = NULL;
	docrep_atts_from_column(column, out);
}

/* Those of a leaf, wherever it is now: just come in, in the stored row, or losing. */
static void
leaf_atts(DocTable *table, DocChange *change, const Rev *rev, DocAtts *out)
{
	out->n = 0;
	for (int i = change->nwrites - 1; i >= 0; i--)
	{
		if (!docrep_rev_eq(&change->writes[i]->rev, rev))
			continue;
		if (change->write_atts)
			*out = change->write_atts[i];
		return;
	}
	if (!change->exists)
		return;
	if (docrep_rev_eq(&change->old_winner, rev))
		docrep_atts_from_column(docrep_change_old_atts(table, change), out);
	else
		losing_leaf_atts(table, change, rev, out);
}

/* All leaves' attachments, those that came in with this change first. */
static void
fill_candidates(DocTable *table, DocChange *change, Candidates *candidates)
{
	int			max = change->nwrites + change->nold_leaves;

	if (candidates->filled)
		return;
	candidates->filled = true;
	candidates->lists = palloc0(Max(max, 1) * sizeof(DocAtts));
	for (int i = 0; change->write_atts && i < change->nwrites; i++)
		candidates->lists[candidates->n++] = change->write_atts[i];
	for (int i = 0; i < change->nold_leaves; i++)
	{
		DocAtts    *list = &candidates->lists[candidates->n++];

		if (i == 0)
			docrep_atts_from_column(docrep_change_old_atts(table, change), list);
		else
			losing_leaf_atts(table, change, &change->old_leaves[i], list);
	}
}

/*
 * May the stub mean this attachment?  What it says must fit: a stub that means
 * another content than its parent has would else take over that one.
 */
static bool
stub_fits(const DocAtt *stub, const DocAtt *att)
{
	if (stub->revpos != 0 && stub->revpos != att->revpos)
		return false;
	return stub->digest == NULL || (att->digest && strcmp(stub->digest, att->digest) == 0);
}

static bool
same_digest(const DocAtt *a, const DocAtt *b)
{
	return a->digest && b->digest && strcmp(a->digest, b->digest) == 0;
}

/*
 * The attachment that a stub of a revision from elsewhere stands for: by its
 * digest, rather one of the same name; without a digest by name and revpos.
 */
static const DocAtt *
find_stub(const Candidates *candidates, const DocAtt *stub)
{
	for (int i = 0; i < candidates->n; i++)
	{
		const DocAtt *att = docrep_atts_find(&candidates->lists[i], stub->name);

		if (att && (stub->digest ? same_digest(stub, att) : stub_fits(stub, att)))
			return att;
	}
	for (int i = 0; stub->digest && i < candidates->n; i++)
	{
		const DocAtts *list = &candidates->lists[i];

		for (int j = 0; j < list->n; j++)
		{
			if (same_digest(stub, &list->atts[j]))
				return &list->atts[j];
		}
	}
	return NULL;
}

/* ---------- contents ---------- */

/* Does a digest that was given fit the MD5 of the content?  Others than MD5 nobody can check. */
static bool
digest_fits(const char *digest, const uint8 *md5)
{
	uint8		given[MD5_DIGEST_LENGTH];

	if (digest == NULL || !docrep_digest_is_md5(digest))
		return true;
	return docrep_md5_from_digest(digest, given) && memcmp(given, md5, sizeof(given)) == 0;
}

/* A content that is at hand: complete what is known of it, and compare. */
static bool
take_data(DocTable *table, DocWrite *write, DocAtt *att)
{
	uint8		md5[MD5_DIGEST_LENGTH];

	docrep_content_md5(att->data, att->datalen, md5);
	if (!digest_fits(att->digest, md5))
		return wrong_content(table, write, att, "digest");
	if (att->digest == NULL)
		att->digest = docrep_md5_digest(md5);
	att->encoded_length = att->datalen;
	if (att->encoding == NULL)
		att->length = att->datalen;
	att->file = 0;
	att->stub = false;
	return true;
}

/* A content that lies in the table: hold it fast, and compare. */
static bool
take_file(DocTable *table, DocWrite *write, DocAtt *att)
{
	uint8		md5[MD5_DIGEST_LENGTH];
	int64		length;

	if (!docrep_content_pin(table, att->file, &length, md5))
		return refuse(table, write, ERRCODE_DOCREP_PRECONDITION_FAILED,
					  psprintf("attachment \"%s\": its content is not there any more", att->name));
	if (!digest_fits(att->digest, md5))
		return wrong_content(table, write, att, "digest");
	if (att->encoded_length != 0 && att->encoded_length != length)
		return wrong_content(table, write, att, "length");
	if (att->digest == NULL)
		att->digest = docrep_md5_digest(md5);
	att->encoded_length = length;
	if (att->encoding == NULL)
		att->length = length;
	att->stub = false;
	return true;
}

/* Everything but a stub. */
static bool
take_content(DocTable *table, DocWrite *write, DocAtt *att)
{
	if (att->content_type == NULL)
		att->content_type = DOCREP_ATT_DEFAULT_TYPE;
	if (write->own_atts)
		return true;
	if (att->data)
		return take_data(table, write, att);
	if (att->file != 0)
		return take_file(table, write, att);
	return refuse(table, write, ERRCODE_DOCREP_BAD_REQUEST,
				  psprintf("attachment \"%s\": its content was to follow, but nothing does",
						   att->name));
}

static inline bool
is_stub(const DocAtt *att)
{
	return att->stub && att->data == NULL && att->file == 0;
}

/* The write's attachments, to be worked on. */
static void
copy_atts(const DocWrite *write, DocAtts *out)
{
	out->n = write->atts.n;
	out->atts = palloc(Max(out->n, 1) * sizeof(DocAtt));
	if (out->n > 0)
		memcpy(out->atts, write->atts.atts, out->n * sizeof(DocAtt));
}

bool
docrep_change_edit_atts(DocTable *table, DocChange *change, DocWrite *write, const Rev *base,
						uint32 gen, DocAtts *out)
{
	DocAtts		parent = {0};
	bool		parent_known = false;

	out->n = 0;
	out->atts = NULL;
	if (write->keep_atts)
	{
		if (base)
			leaf_atts(table, change, base, out);
		return true;
	}
	if (write->atts.n == 0)
		return true;
	copy_atts(write, out);
	for (int i = 0; i < out->n; i++)
	{
		DocAtt	   *att = &out->atts[i];

		if (is_stub(att))
		{
			const DocAtt *found;

			if (!parent_known && base)
				leaf_atts(table, change, base, &parent);
			parent_known = true;
			found = docrep_atts_find(&parent, att->name);
			if (found == NULL || !stub_fits(att, found))
				return missing_stub(table, write, att);
			*att = *found;
			continue;
		}
		/* an edit's digest is ours, whatever others may call the content */
		if (att->data && att->digest && !docrep_digest_is_md5(att->digest))
			att->digest = NULL;
		if (!take_content(table, write, att))
			return false;
		att->revpos = gen;
	}
	return true;
}

bool
docrep_change_merge_atts(DocTable *table, DocChange *change, DocWrite *write, DocAtts *out)
{
	Candidates	candidates = {0};

	copy_atts(write, out);
	for (int i = 0; i < out->n; i++)
	{
		DocAtt	   *att = &out->atts[i];

		if (is_stub(att))
		{
			const DocAtt *found;
			DocAtt		stub = *att;

			fill_candidates(table, change, &candidates);
			found = find_stub(&candidates, att);
			if (found == NULL)
				return missing_stub(table, write, att);
			*att = *found;
			att->name = stub.name;
			if (stub.content_type)
				att->content_type = stub.content_type;
			if (stub.revpos != 0)
				att->revpos = stub.revpos;
		}
		else if (!take_content(table, write, att))
			return false;
		if (att->revpos == 0)
			att->revpos = write->path.revs[0].gen;
	}
	return true;
}

/* ---------- storing ---------- */

/* A content that is to be stored. */
typedef struct Pending
{
	DocAtt	   *att;
	uint8		sha256[PG_SHA256_DIGEST_LENGTH];
} Pending;

static int
compare_pending(const void *a, const void *b)
{
	return memcmp(((const Pending *) a)->sha256, ((const Pending *) b)->sha256,
				  PG_SHA256_DIGEST_LENGTH);
}

/* Count the contents that are to be stored; into list, if it is not NULL. */
static int
collect_pending(DocChange **changes, int n, Pending *list)
{
	int			npending = 0;

	for (int i = 0; i < n; i++)
	{
		DocChange  *change = changes[i];

		for (int w = 0; change->write_atts && w < change->nwrites; w++)
		{
			for (int a = 0; a < change->write_atts[w].n; a++)
			{
				DocAtt	   *att = &change->write_atts[w].atts[a];

				if (att->file != 0 || att->data == NULL)
					continue;
				if (list)
					list[npending].att = att;
				npending++;
			}
		}
	}
	return npending;
}

void
docrep_change_store_contents(DocTable *table, DocChange **changes, int n)
{
	int			npending = collect_pending(changes, n, NULL);
	Pending    *list;

	if (npending == 0)
		return;
	list = palloc_extended(npending * sizeof(Pending), MCXT_ALLOC_HUGE);
	collect_pending(changes, n, list);
	for (int i = 0; i < npending; i++)
		docrep_content_digests(list[i].att->data, list[i].att->datalen, list[i].sha256, NULL);
	qsort(list, npending, sizeof(Pending), compare_pending);
	for (int i = 0; i < npending; i++)
	{
		DocAtt	   *att = list[i].att;
		uint8		md5[MD5_DIGEST_LENGTH];

		if (i > 0 && compare_pending(&list[i - 1], &list[i]) == 0)
		{
			att->file = list[i - 1].att->file;
			continue;
		}
		/* the digest has been compared with the data, if it is an MD5 at all */
		if (!docrep_md5_from_digest(att->digest, md5))
			docrep_content_md5(att->data, att->datalen, md5);
		att->file = docrep_content_store_known(table, att->data, att->datalen, list[i].sha256, md5);
	}
	pfree(list);
}
