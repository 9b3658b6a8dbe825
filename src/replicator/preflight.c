/*-------------------------------------------------------------------------
 *
 * preflight.c
 *		docrep.preflight(): what in a source could not be stored as it is, or
 *		deserves attention.
 *
 * Every leaf is read once.  What matters is judged on the text that came, where
 * there is one, and whether it can be stored by trying: the same code that a write
 * goes through says no.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "replicator/json_members.h"
#include "replicator/preflight.h"
#include "replicator/reader.h"
#include "store/document.h"
#include "utils/memutils.h"

static const KindText kinds[NKINDS] = {
	[KIND_DOCUMENTS] = {"documents", "documents, deleted ones included", true},
	[KIND_LEAVES] = {"leaves", "leaf revisions, and the size of their bodies", true},
	[KIND_DELETED] = {"deleted", "deleted documents", true},
	[KIND_TOMBSTONE_BODY] = {"tombstone_with_body", "deleted revisions that have a body", false},
	[KIND_ATTACHMENTS] = {"attachments", "attachments of leaf revisions", true},
	[KIND_CONFLICT] = {"conflict", "documents with more than one live leaf", true},
	[KIND_DESIGN] = {"design_document", "design documents: stored, only validation is run", false},
	[KIND_NOT_STORABLE] = {"not_storable", "revisions that would be rejected for another reason", false},
	[KIND_NUL_IN_ID] = {"nul_in_id", "ids with \\u0000: rejected", false},
	[KIND_ID_TOO_LONG] = {"id_too_long", "ids that are too long: rejected", false},
	[KIND_INVALID_ID] = {"invalid_id", "ids that are not taken: rejected", false},
	[KIND_NUL] = {"nul_in_string", "revisions with \\u0000 in a string: rejected", false},
	[KIND_SURROGATE] = {"lone_surrogate", "revisions with half a surrogate pair: rejected", false},
	[KIND_UTF8] = {"invalid_utf8", "revisions with bytes that are no UTF-8: rejected", false},
	[KIND_DUPLICATE] = {"duplicate_member", "revisions with a member twice: the last one is kept", false},
	[KIND_NUMBER] = {"number", "revisions with numbers that are written otherwise, or beyond what is stored", false},
	[KIND_DEPTH] = {"depth", "revisions that are nested deeply", false},
	[KIND_SPECIAL] = {"special_member", "revisions with members that begin with \"_\" and are not known", false},
	[KIND_LARGE_DOCUMENT] = {"large_document", "revisions with a large body", false},
	[KIND_LARGE_ATTACHMENT] = {"large_attachment", "large attachments", false},
};

void
docrep_preflight_put_row(StringInfo out, Kind kind, const char *id, const Rev *rev, const char *detail,
						 int64 bytes, int64 n)
{
	char		text[REV_TEXT_SIZE];

	if (out->len > 1)
		appendStringInfoChar(out, ',');
	appendStringInfoChar(out, '{');
	docrep_json_put_text(out, "kind", kinds[kind].name);
	docrep_json_put_text(out, "id", id);
	if (rev)
	{
		docrep_rev_print(rev, text);
		docrep_json_put_text(out, "rev", text);
	}
	docrep_json_put_text(out, "detail", detail);
	if (bytes >= 0)
		docrep_json_put_int(out, "bytes", bytes);
	if (n >= 0)
		docrep_json_put_int(out, "n", n);
	appendStringInfoChar(out, '}');
}

/* ---------- the feed ---------- */

/* Note which documents of a batch have several leaves. */
static void
begin_batch(Preflight *p, ReaderBatch *batch)
{
	const DocrepChanges *changes = &batch->changes;

	p->branching = MemoryContextAlloc(batch->cxt, Max(changes->n, 1) * sizeof(Branching));
	p->nbranching = 0;
	p->counts[KIND_DOCUMENTS].n += changes->n;
	for (int i = 0; i < changes->n; i++)
	{
		const DocrepChange *change = &changes->rows[i];

		p->stats.revisions_checked += change->nrevs;
		if (change->deleted)
			p->counts[KIND_DELETED].n++;
		if (change->nrevs > 1)
		{
			p->branching[p->nbranching].id = change->id;
			p->branching[p->nbranching++].live = 0;
		}
	}
	qsort(p->branching, p->nbranching, sizeof(Branching), docrep_preflight_compare);
}

/* Report those of them that are in conflict. */
static void
end_batch(Preflight *p)
{
	for (int i = 0; i < p->nbranching; i++)
	{
		if (p->branching[i].live > 1)
			docrep_preflight_add_finding(p, KIND_CONFLICT, p->branching[i].id, NULL,
										 psprintf("%d live leaves", p->branching[i].live), -1);
	}
}

/* Read all of the source, until somebody wants us to stop. */
static void
read_source(Preflight *p)
{
	const Inspection *inspection = p->inspection;
	Reader		reader;

	docrep_reader_begin(&reader, p->peer, p->cxt, inspection->peer_options.worker_batch_size,
						true, true);
	reader.doc_ids = (const char *const *) inspection->doc_ids;
	reader.ndoc_ids = inspection->ndoc_ids;
	p->stats.changes_pending = -1;
	p->hooks->progress(p->hooks->arg, &p->stats, false);
	while (!p->hooks->should_stop(p->hooks->arg) && docrep_reader_next(&reader))
	{
		begin_batch(p, reader.batch);
		docrep_reader_docs(&reader, docrep_preflight_judge, p);
		end_batch(p);
		p->stats.changes_pending = reader.pending;
		strlcpy(p->stats.source_seq, reader.since.data, sizeof(p->stats.source_seq));
		p->hooks->progress(p->hooks->arg, &p->stats, false);
	}
}

/* Counts of all kinds, and then the findings: an array of rows. */
static char *
result_of(Preflight *p)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '[');
	for (Kind kind = 0; kind < NKINDS; kind++)
	{
		const KindCount *count = &p->counts[kind];
		bool		sized = kind != KIND_DOCUMENTS && kind != KIND_DELETED && count->bytes > 0;

		if (count->n > 0 || kinds[kind].always)
			docrep_preflight_put_row(&out, kind, NULL, NULL, kinds[kind].meaning, sized ? count->bytes : -1,
									 count->n);
	}
	appendStringInfo(&out, "%s]", p->findings.data);
	return out.data;
}

char *
docrep_preflight_run(Inspection *inspection, const ReplicationHooks *hooks)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext cxt = AllocSetContextCreate(caller, "docrep preflight", ALLOCSET_DEFAULT_SIZES);
	Preflight  *p = MemoryContextAllocZero(cxt, sizeof(Preflight));
	char	   *result;

	p->cxt = cxt;
	p->scratch = AllocSetContextCreate(cxt, "docrep preflight scratch", ALLOCSET_DEFAULT_SIZES);
	p->inspection = inspection;
	p->hooks = hooks;
	PG_TRY();
	{
		MemoryContextSwitchTo(cxt);
		initStringInfo(&p->findings);
		appendStringInfoString(&p->findings, "\n\n");	/* docrep_preflight_put_row puts its comma behind this */
		(void) docrep_open_peer(inspection->source, &inspection->peer_options, false, cxt,
								&p->peer);
		MemoryContextSwitchTo(cxt);
		read_source(p);
		MemoryContextSwitchTo(caller);
		result = result_of(p);
	}
	PG_CATCH();
	{
		if (p->peer)
			p->peer->ops->close(p->peer);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(cxt);
		PG_RE_THROW();
	}
	PG_END_TRY();

	p->peer->ops->close(p->peer);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(cxt);
	return result;
}
