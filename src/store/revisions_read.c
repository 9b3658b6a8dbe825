/*-------------------------------------------------------------------------
 *
 * revisions_read.c
 *		Reading former versions: by revision, by time, all of a document.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/tuptable.h"
#include "store/companion.h"
#include "store/rev_type.h"
#include "store/revisions_internal.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* A jsonb column of the row, copied; NULL for NULL. */
static Jsonb *
jsonb_column(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;
	Datum		d = slot_getattr(slot, attno, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(d);
}

void
docrep_kept_from_slot(TupleTableSlot *slot, bool bodies, KeptVersion *version)
{
	bool		isnull;
	Datum		d;

	memset(version, 0, sizeof(*version));
	version->seq = DatumGetInt64(slot_getattr(slot, Anum_kept_seq, &isnull));
	d = slot_getattr(slot, Anum_kept_rev, &isnull);
	docrep_datum_rev(PointerGetDatum(DatumGetByteaPCopy(d)), &version->rev);
	version->deleted = DatumGetBool(slot_getattr(slot, Anum_kept_deleted, &isnull));
	version->modified = DatumGetTimestampTz(slot_getattr(slot, Anum_kept_modified, &isnull));
	version->replaced_at = DatumGetTimestampTz(slot_getattr(slot, Anum_kept_replaced_at,
															&isnull));
	version->kind = DatumGetChar(slot_getattr(slot, Anum_kept_kind, &isnull));
	d = slot_getattr(slot, Anum_kept_origin, &isnull);
	version->has_origin = !isnull;
	if (!isnull)
		version->origin = *DatumGetUUIDP(d);
	if (bodies)
	{
		version->doc = jsonb_column(slot, Anum_kept_doc);
		version->atts = jsonb_column(slot, Anum_kept_attachments);
	}
}

/* The stored row as a version; it must have been read with its body. */
static void
current_version(const DocState *state, KeptVersion *version)
{
	memset(version, 0, sizeof(*version));
	version->current = true;
	version->rev = state->tree->nodes[state->winner].rev;
	version->doc = state->doc;
	version->atts = state->atts;
	version->deleted = !state->live;
	version->modified = state->modified;
	version->replaced_at = DT_NOEND;
	version->seq = state->seq;
	version->kind = KEPT_WINNER;
	version->has_origin = state->origin != NULL;
	if (state->origin)
		version->origin = *state->origin;
}

/* The same revision may have been kept more than once: the newest row counts. */
bool
docrep_revision_find(DocTable *table, Snapshot snapshot, const char *id, const Rev *rev,
					 KeptVersion *version)
{
	TupleTableSlot *slot;

	for (slot = docrep_kept_first(table, snapshot, id, true); slot;
		 slot = docrep_kept_next(table))
	{
		bool		isnull;
		Rev			found;

		docrep_datum_rev(slot_getattr(slot, Anum_kept_rev, &isnull), &found);
		if (!docrep_rev_eq(&found, rev))
			continue;
		docrep_kept_from_slot(slot, true, version);
		return true;
	}
	return false;
}

int
docrep_revisions_of(DocTable *table, Snapshot snapshot, const char *id, bool bodies,
					KeptVersion **versions)
{
	int			n = 0;
	int			cap = 16;
	TupleTableSlot *slot;

	*versions = palloc(cap * sizeof(KeptVersion));
	for (slot = docrep_kept_first(table, snapshot, id, false); slot;
		 slot = docrep_kept_next(table))
	{
		if (n >= cap)
			*versions = repalloc_huge(*versions, (cap *= 2) * sizeof(KeptVersion));
		docrep_kept_from_slot(slot, bodies, &(*versions)[n++]);
	}
	return n;
}

bool
docrep_revision_as_of(DocTable *table, Snapshot snapshot, const char *id, TimestampTz at,
					  KeptVersion *version)
{
	DocState	state;
	TupleTableSlot *slot;

	if (docrep_state_read(table, snapshot, id, DOCSTATE_BODY, &state) && state.modified <= at)
	{
		current_version(&state, version);
		return true;
	}
	for (slot = docrep_kept_first(table, snapshot, id, true); slot;
		 slot = docrep_kept_next(table))
	{
		bool		isnull;

		if (docrep_kept_is_winner(DatumGetChar(slot_getattr(slot, Anum_kept_kind, &isnull))) &&
			DatumGetTimestampTz(slot_getattr(slot, Anum_kept_modified, &isnull)) <= at)
		{
			docrep_kept_from_slot(slot, true, version);
			return true;
		}
	}
	return false;
}

/* Has the document begun with one first revision only? */
static bool
has_one_root(const RevTree *tree)
{
	int			roots = 0;

	for (int32 i = 0; i < tree->n; i++)
		roots += tree->nodes[i].parent < 0;
	return roots == 1;
}

/*
 * The version has been found by when it was replaced.  One that was made after
 * the time in question has either stood here nevertheless (its maker's clock is
 * ahead), or is the document's first, or what was before it is not kept.
 */
static ShownAt
judge(DocTable *table, const DocState *state, TimestampTz at, const KeptVersion *version,
	  const KeptVersion *before)
{
	if (version->modified <= at)
		return SHOWN_VERSION;
	if (before == NULL)
		return version->rev.gen == 1 && has_one_root(state->tree) ? SHOWN_NOTHING : SHOWN_UNKNOWN;
	if (before->kind == KEPT_WINNER && table->info.revisions_keep >= 0 &&
		before->replaced_at >= table->info.revisions_since)
		return SHOWN_VERSION;
	return SHOWN_UNKNOWN;
}

ShownAt
docrep_revision_shown_at(DocTable *table, Snapshot snapshot, const char *id,
						 const DocState *state, TimestampTz at, KeptVersion *version)
{
	KeptVersion before = {0};
	bool		any_before = false;
	TupleTableSlot *slot;

	current_version(state, version);
	for (slot = docrep_kept_first(table, snapshot, id, false); slot;
		 slot = docrep_kept_next(table))
	{
		bool		isnull;

		if (!docrep_kept_is_winner(DatumGetChar(slot_getattr(slot, Anum_kept_kind, &isnull))))
			continue;
		if (DatumGetTimestampTz(slot_getattr(slot, Anum_kept_replaced_at, &isnull)) > at)
		{
			docrep_kept_from_slot(slot, true, version);
			break;
		}
		docrep_kept_from_slot(slot, false, &before);
		any_before = true;
	}
	return judge(table, state, at, version, any_before ? &before : NULL);
}
