/*-------------------------------------------------------------------------
 *
 * revisions.c
 *		Keeping former versions of documents, and forgetting them.
 *
 * Called below the executor where a change writes its companions, so that a
 * version is kept in the transaction that replaces it, and while the document's
 * row is locked.  How many are kept of a document is seen to right here; how
 * long, by docrep.clean_revisions().
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/tuptable.h"
#include "store/change.h"
#include "store/companion.h"
#include "store/rev_type.h"
#include "store/revisions_internal.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* up to here the rows of a document are counted at every write, beyond that now and then */
#define COUNT_ALWAYS		64

void
docrep_kept_insert(DocTable *table, const char *id, const KeptVersion *version, int64 kept_seq)
{
	Datum		values[Natts_kept];
	bool		nulls[Natts_kept] = {false};

	values[Anum_kept_id - 1] = CStringGetTextDatum(id);
	values[Anum_kept_seq - 1] = Int64GetDatum(version->seq);
	values[Anum_kept_rev - 1] = docrep_rev_datum(&version->rev);
	nulls[Anum_kept_doc - 1] = version->doc == NULL;
	values[Anum_kept_doc - 1] = PointerGetDatum(version->doc);
	values[Anum_kept_deleted - 1] = BoolGetDatum(version->deleted);
	values[Anum_kept_modified - 1] = TimestampTzGetDatum(version->modified);
	values[Anum_kept_replaced_at - 1] = TimestampTzGetDatum(version->replaced_at);
	values[Anum_kept_kept_seq - 1] = Int64GetDatum(kept_seq);
	values[Anum_kept_kind - 1] = CharGetDatum(version->kind);
	nulls[Anum_kept_origin - 1] = !version->has_origin;
	values[Anum_kept_origin - 1] = UUIDPGetDatum(&version->origin);
	nulls[Anum_kept_attachments - 1] = version->atts == NULL;
	values[Anum_kept_attachments - 1] = PointerGetDatum(version->atts);
	nulls[Anum_kept_led_to - 1] = version->led_to.n == 0;
	if (version->led_to.n > 0)
		values[Anum_kept_led_to - 1] = docrep_line_datum(&version->led_to);
	docrep_companion_insert(table, docrep_kept_rel(table), values, nulls);
}

TimestampTz
docrep_kept_held_since(const DocTableInfo *info, TimestampTz now)
{
	return info->revisions_held > 0 ? now - info->revisions_held : DT_NOEND;
}

/*
 * Delete the oldest versions of a document, up to this one, as far as nobody holds them.
 * From the oldest on, so that the many that may be held are not looked at.
 */
static void
delete_up_to(DocTable *table, const char *id, ItemPointerData last, TimestampTz now)
{
	TimestampTz held = docrep_kept_held_since(&table->info, now);
	TupleTableSlot *slot;
	bool		isnull;
	bool		more = true;

	for (slot = docrep_kept_first(table, GetLatestSnapshot(), id, false); slot && more;
		 slot = docrep_kept_next(table))
	{
		if (DatumGetTimestampTz(slot_getattr(slot, Anum_kept_replaced_at, &isnull)) >= held)
			return;
		more = !ItemPointerEquals(&slot->tts_tid, &last);
		(void) docrep_kept_delete(table, &slot->tts_tid, false);
	}
}

/*
 * Make room for n more versions of a document: of those that are there the newest
 * keep - n stay, and what somebody holds.
 */
static void
make_room(DocTable *table, const char *id, int64 keep, int64 n, TimestampTz now)
{
	TupleTableSlot *slot;

	for (slot = docrep_kept_first(table, GetLatestSnapshot(), id, true); slot;
		 slot = docrep_kept_next(table))
	{
		if (++n > keep)
		{
			delete_up_to(table, id, slot->tts_tid, now);
			return;
		}
	}
}

void
docrep_kept_trim(DocTable *table, const char *id)
{
	CommandCounterIncrement();
	make_room(table, id, table->info.revisions_keep, 0, GetCurrentTimestamp());
}

/*
 * Is this the write at which the versions are counted?  With many of them one
 * in so many writes has to do, as the sequence numbers fall.
 */
static bool
time_to_count(int64 keep, int64 seq)
{
	return keep <= COUNT_ALWAYS || seq % (keep / (COUNT_ALWAYS / 2)) == 0;
}

/* What is known of where a version was made. */
static void
set_origin(KeptVersion *version, const pg_uuid_t *origin)
{
	version->has_origin = origin != NULL;
	if (origin)
		version->origin = *origin;
}

/* The winner as it was stored. */
static void
read_old(DocTable *table, DocChange *change, KeptVersion *version)
{
	memset(version, 0, sizeof(*version));
	version->rev = change->old_winner;
	version->doc = docrep_change_old_doc(table, change);
	version->atts = docrep_change_old_atts(table, change);
	version->deleted = !change->was_live;
	version->modified = change->old_modified;
	version->replaced_at = GetCurrentTimestamp();
	version->seq = change->old_seq;
	version->kind = KEPT_WINNER;
	version->led_to = change->led_to;
	set_origin(version, docrep_change_old_origin(table, change));
}

/* Is a losing leaf's row only replaced, as when it is found to say what the winner says? */
static bool
is_written_again(const DocChange *change, const Rev *rev)
{
	ListCell   *lc;

	foreach(lc, change->leaf_inserts)
	{
		if (docrep_rev_eq(&((LeafRow *) lfirst(lc))->rev, rev))
			return true;
	}
	return false;
}

/*
 * The losing leaves that the change closes, with their bodies: a list of
 * KeptVersion.  A tombstone without a body has no row, and is no loss.
 */
static List *
closed_leaves(DocTable *table, DocChange *change, TimestampTz now)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (change->leaf_deletes == NIL)
		return NIL;
	CommandCounterIncrement();
	foreach(lc, change->leaf_deletes)
	{
		const Rev  *rev = lfirst(lc);
		KeptVersion *version;
		LeafState	leaf;

		/* not closed: it has won, or was the winner of a row that showed a conflict */
		if (docrep_rev_eq(rev, &change->winner) || docrep_rev_eq(rev, &change->old_winner) ||
			is_written_again(change, rev))
			continue;
		if (!docrep_leaf_state(table, GetLatestSnapshot(), change->id, rev, &leaf))
			continue;
		version = palloc0(sizeof(KeptVersion));
		version->rev = *rev;
		version->doc = leaf.doc;
		version->atts = leaf.atts;
		version->deleted = leaf.deleted;
		version->modified = leaf.modified;
		set_origin(version, leaf.origin);
		version->replaced_at = now;
		version->seq = change->seq;
		version->kind = KEPT_CONFLICT;
		result = lappend(result, version);
	}
	return result;
}

/* Write versions and forget the oldest, as the table's settings and holds ask. */
static void
keep_versions(DocTable *table, DocChange *change, List *versions, TimestampTz now)
{
	const DocTableInfo *info = &table->info;
	bool		deletion = !change->now_live && !info->revisions_keep_deleted;
	int64		keep = info->revisions_keep < 0 || deletion ? 0 : info->revisions_keep;
	ListCell   *lc;

	if (deletion || (versions != NIL && time_to_count(keep, change->seq)))
		make_room(table, change->id, keep, list_length(versions), now);
	if (keep == 0 && info->revisions_held == 0)
		return;
	foreach(lc, versions)
		docrep_kept_insert(table, change->id, lfirst(lc), change->seq);
}

void
docrep_revisions_keep(DocTable *table, DocChange *change)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *versions = NIL;

	if (!change->exists || change->action == CHANGE_NONE)
		return;
	if (!docrep_rev_eq(&change->old_winner, &change->winner))
	{
		KeptVersion *version = palloc(sizeof(KeptVersion));

		read_old(table, change, version);
		versions = lappend(versions, version);
	}
	versions = list_concat(versions, closed_leaves(table, change, now));
	keep_versions(table, change, versions, now);
}

List *
docrep_revisions_ended(DocTable *table, DocChange *change)
{
	KeptVersion *version = palloc(sizeof(KeptVersion));

	read_old(table, change, version);
	return list_concat(list_make1(version), closed_leaves(table, change, version->replaced_at));
}

void
docrep_revisions_keep_settled(DocTable *table, DocChange *change, List *versions)
{
	DocState	state;
	ListCell   *lc;

	CommandCounterIncrement();
	if (!docrep_state_read(table, GetLatestSnapshot(), change->id, 0, &state))
		return;
	change->seq = state.seq;
	change->now_live = state.live;
	foreach(lc, versions)
	{
		KeptVersion *version = lfirst(lc);

		if (version->kind == KEPT_CONFLICT)
			version->seq = state.seq;	/* that of the change that closed it */
	}
	keep_versions(table, change, versions, GetCurrentTimestamp());
}

void
docrep_revisions_forget(DocTable *table, const char *id)
{
	TupleTableSlot *slot;

	for (slot = docrep_kept_first(table, GetLatestSnapshot(), id, false); slot;
		 slot = docrep_kept_next(table))
		(void) docrep_kept_delete(table, &slot->tts_tid, true);
}

void
docrep_revisions_forget_missing(DocTable *table, const char *id, const RevTree *tree)
{
	TupleTableSlot *slot;

	for (slot = docrep_kept_first(table, GetLatestSnapshot(), id, false); slot;
		 slot = docrep_kept_next(table))
	{
		bool		isnull;
		Rev			rev;

		docrep_datum_rev(slot_getattr(slot, Anum_kept_rev, &isnull), &rev);
		if (docrep_revtree_find(tree, &rev) < 0)
			(void) docrep_kept_delete(table, &slot->tts_tid, true);
	}
}
