/*-------------------------------------------------------------------------
 *
 * revisions_peer.c
 *		Former versions on their way: what a table has, gives and takes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/companion.h"
#include "store/not_replicated.h"
#include "store/origins.h"
#include "store/revisions_internal.h"
#include "store/revisions_peer.h"
#include "store/seqs.h"
#include "store/table_settings.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

void
docrep_versions_init(DocrepVersions *versions, MemoryContext cxt)
{
	memset(versions, 0, sizeof(*versions));
	docrep_docs_init(&versions->docs, cxt);
}

static bool
is_visible(DocTable *table, const char *id)
{
	bool		visible;

	docrep_visible_ids(table, &id, 1, &visible);
	return visible;
}

/* ---------- the target: what is here ---------- */

int
docrep_versions_have(DocTable *table, const char *const *ids, int n, DocrepChanges *have)
{
	MemoryContext old = MemoryContextSwitchTo(have->cxt);

	for (int i = 0; table->info.revisions_keep >= 0 && i < n; i++)
	{
		DocState	state;
		KeptVersion *kept;
		DocrepChange *change;
		int			nkept;

		CHECK_FOR_INTERRUPTS();
		if (!is_visible(table, ids[i]) ||
			!docrep_state_read(table, GetActiveSnapshot(), ids[i], 0, &state))
			continue;
		nkept = docrep_revisions_of(table, GetActiveSnapshot(), ids[i], false, &kept);
		change = docrep_changes_add(have);
		change->id = pstrdup(ids[i]);
		change->nrevs = nkept + 1;
		change->revs = palloc(change->nrevs * sizeof(Rev));
		change->revs[0] = state.tree->nodes[state.winner].rev;
		for (int j = 0; j < nkept; j++)
			change->revs[j + 1] = kept[j].rev;
		pfree(kept);
	}
	MemoryContextSwitchTo(old);
	return table->info.revisions_keep;
}

/* ---------- the source: what is not there ---------- */

static bool
is_among(const Rev *rev, const DocrepChange *change)
{
	for (int i = 0; i < change->nrevs; i++)
	{
		if (docrep_rev_eq(rev, &change->revs[i]))
			return true;
	}
	return false;
}

/* Add a version as a document; of its history only its own revision travels. */
static void
add_version(DocTable *table, const char *id, const KeptVersion *version, DocrepVersions *out)
{
	DocrepDoc  *doc = docrep_docs_add(&out->docs);

	if (out->docs.n > out->cap)
	{
		out->cap = Max(64, out->cap * 2);
		out->facts = out->facts ? repalloc_huge(out->facts, out->cap * sizeof(VersionFacts)) :
			palloc(out->cap * sizeof(VersionFacts));
	}
	doc->id = pstrdup(id);
	doc->path.n = 1;
	doc->path.revs = palloc(sizeof(Rev));
	doc->path.revs[0] = version->rev;
	doc->deleted = version->deleted;
	doc->body = version->doc;
	doc->modified = version->modified;
	doc->has_origin = true;
	doc->origin = version->has_origin ? version->origin : *docrep_table_node(table);
	docrep_doc_fill_atts(table, GetActiveSnapshot(), version->atts, doc);
	out->docs.bytes += docrep_doc_size(doc);
	out->facts[out->docs.n - 1].replaced_at = version->replaced_at;
	out->facts[out->docs.n - 1].kind = version->kind;
}

/* The versions of one document that rule (or NULL) does not keep back; false: there is no room for more. */
static bool
read_document(DocTable *table, const KeepBack *rule, const DocrepChange *change, Size max_bytes,
			  DocrepVersions *out)
{
	KeptVersion *kept;
	int			n = docrep_revisions_of(table, GetActiveSnapshot(), change->id, false, &kept);

	for (; out->passed < Min(n, out->keep); out->passed++)
	{
		const Rev  *rev = &kept[n - 1 - out->passed].rev;
		KeptVersion version;

		if (out->docs.bytes >= max_bytes)
			return false;
		if (!is_among(rev, change) &&
			docrep_revision_find(table, GetActiveSnapshot(), change->id, rev, &version) &&
			(rule == NULL || docrep_keep_back_reason(rule, change->id, rev, version.deleted,
													 version.doc) == NULL))
			add_version(table, change->id, &version, out);
	}
	pfree(kept);
	return true;
}

void
docrep_versions_read(DocTable *table, const DocrepChanges *have, Size max_bytes,
					 DocrepVersions *out)
{
	MemoryContext old = MemoryContextSwitchTo(out->docs.cxt);
	const KeepBack *rule = docrep_keep_back_rule(table);

	out->kept = table->info.revisions_keep >= 0;
	if (!out->kept)
		out->row = have->n;
	for (; out->row < have->n; out->row++, out->passed = 0)
	{
		const DocrepChange *change = &have->rows[out->row];

		CHECK_FOR_INTERRUPTS();
		if (is_visible(table, change->id) && !read_document(table, rule, change, max_bytes, out))
			break;
	}
	MemoryContextSwitchTo(old);
}

/* ---------- the target: keeping them ---------- */

/* A document that versions are for; its row is locked. */
typedef struct Receiver
{
	DocTable   *table;
	const char *id;
	DocState	state;
	KeptVersion *kept;
	int			nkept;
	int			taken;			/* versions that have come to be kept */
	TimestampTz oldest;			/* what was replaced before this is too old */
	int64		kept_seq;
} Receiver;

/* Lock the document.  False: it is not here, not shown, or nothing is kept of it. */
static bool
begin_document(Receiver *r, const char *id)
{
	DocTable   *table = r->table;
	TupleTableSlot *slot = docrep_lock_row(table, DOC_IN_REL, id);
	bool		in_dead = slot == NULL;

	if (in_dead && !table->info.revisions_keep_deleted)
		return false;
	if (in_dead)
		slot = docrep_lock_row(table, DOC_IN_DEAD, id);
	if (slot == NULL || !is_visible(table, id))
		return false;
	r->id = id;
	docrep_state_from_slot(table, in_dead, slot, DOCSTATE_TRUNK, &r->state);
	r->nkept = docrep_revisions_of(table, GetLatestSnapshot(), id, false, &r->kept);
	r->taken = 0;
	return true;
}

/* May the document have had this version, and is it not here? */
static bool
is_wanted(const Receiver *r, const Rev *rev, TimestampTz replaced_at)
{
	const RevTree *tree = r->state.tree;
	int32		node = docrep_revtree_find(tree, rev);

	if (r->taken >= r->table->info.revisions_keep || replaced_at < r->oldest)
		return false;
	if (node >= 0 ? tree->nodes[node].nchildren == 0 :
		rev->gen >= tree->nodes[r->state.winner].rev.gen)
		return false;
	for (int i = 0; i < r->nkept; i++)
	{
		if (docrep_rev_eq(rev, &r->kept[i].rev))
			return false;
	}
	return true;
}

/*
 * Where the version belongs: beside the winner that came next, of those that are
 * known here.  One that none came after was no winner's predecessor.
 */
static void
place_version(const Receiver *r, KeptVersion *version)
{
	const Rev  *current = &r->state.tree->nodes[r->state.winner].rev;
	uint32		next = current->gen;
	bool		was_winner = docrep_kept_is_winner(version->kind) && version->rev.gen < next;

	version->seq = r->state.seq;
	for (int i = 0; i < r->nkept; i++)
	{
		const KeptVersion *kept = &r->kept[i];

		if (docrep_kept_is_winner(kept->kind) && kept->rev.gen > version->rev.gen &&
			kept->rev.gen <= next)
		{
			next = kept->rev.gen;
			version->seq = kept->seq;
		}
	}
	version->kind = was_winner ? KEPT_PEER_WINNER : KEPT_PEER_CONFLICT;
}

/* With as many kept as there may be, only what is younger than the oldest of them is of use. */
static bool
has_room(const Receiver *r, const KeptVersion *version)
{
	const KeptVersion *oldest = &r->kept[0];

	if (r->nkept + r->taken < r->table->info.revisions_keep)
		return true;
	return r->nkept > 0 && (version->seq > oldest->seq ||
							(version->seq == oldest->seq && version->rev.gen > oldest->rev.gen));
}

/*
 * The contents of a version's attachments: stored, or held fast where they were put
 * before.  False: one of them has gone.
 */
static bool
take_contents(DocTable *table, DocAtts *atts)
{
	for (int i = 0; i < atts->n; i++)
	{
		DocAtt	   *att = &atts->atts[i];

		if (att->data)
			att->file = docrep_content_store(table, att->data, att->datalen, NULL);
		else if (att->file == 0 || !docrep_content_pin(table, att->file, NULL, NULL))
			return false;
	}
	return true;
}

/* Keep one version, if it is wanted. */
static void
take_version(Receiver *r, DocrepDoc *doc, const VersionFacts *facts)
{
	KeptVersion version = {0};
	DocWrite	write;

	if (doc->path.n < 1 || !is_wanted(r, &doc->path.revs[0], facts->replaced_at))
		return;
	version.rev = doc->path.revs[0];
	version.kind = facts->kind;
	place_version(r, &version);
	if (!has_room(r, &version) || !docrep_doc_to_write(doc, &write) ||
		!take_contents(r->table, &write.atts))
		return;
	docrep_origins_localize(r->table, &write, 1);
	version.doc = write.body;
	version.atts = docrep_atts_to_column(&write.atts);
	version.deleted = doc->deleted;
	version.modified = doc->modified;
	version.replaced_at = facts->replaced_at;
	version.has_origin = write.origin != NULL;
	if (write.origin)
		version.origin = *write.origin;
	if (r->kept_seq == 0)
		r->kept_seq = docrep_seq_take(&r->table->info);
	docrep_kept_insert(r->table, r->id, &version, r->kept_seq);
	r->taken++;
}

/* What is too old to be kept. */
static TimestampTz
oldest_wanted(DocTable *table)
{
	TableSettings *settings = docrep_settings_read(&table->info.uuid);

	return settings->revisions_max_age == NULL ? DT_NOBEGIN :
		docrep_time_before(GetCurrentTimestamp(), settings->revisions_max_age);
}

void
docrep_versions_write(DocTable *table, DocrepVersions *versions)
{
	Receiver	r = {.table = table};
	MemoryContext scratch;
	DocrepDocs *docs = &versions->docs;

	docrep_table_check(table, ACL_INSERT);
	PreventCommandIfReadOnly("a write to a document table");
	if (table->info.revisions_keep < 0)
		return;
	docrep_seq_register(&table->info);
	r.oldest = oldest_wanted(table);
	scratch = AllocSetContextCreate(CurrentMemoryContext, "docrep versions",
									ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < docs->n;)
	{
		const char *id = docs->docs[i].id;
		MemoryContext old = MemoryContextSwitchTo(scratch);
		bool		takes;

		CHECK_FOR_INTERRUPTS();
		takes = begin_document(&r, id);
		for (; i < docs->n && strcmp(docs->docs[i].id, id) == 0; i++)
		{
			if (takes)
				take_version(&r, &docs->docs[i], &versions->facts[i]);
		}
		if (takes && r.taken > 0)
			docrep_kept_trim(table, id);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
}
