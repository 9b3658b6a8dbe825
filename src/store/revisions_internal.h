/*-------------------------------------------------------------------------
 *
 * revisions_internal.h
 *		What the files about former versions share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_REVISIONS_INTERNAL_H
#define DOCREP_STORE_REVISIONS_INTERNAL_H

#include "executor/tuptable.h"
#include "store/revisions.h"

/* A row of docrep.version_holds counts: those that were not renewed for long are over. */
#define DOCREP_HOLD_IN_FORCE \
	"renewed_at + keep + interval '1 day' > pg_catalog.clock_timestamp()"

/* Add a row, written by the change with this number. */
extern void docrep_kept_insert(DocTable *table, const char *id, const KeptVersion *version,
							   int64 kept_seq);

/* The value of led_to. */
extern Datum docrep_line_datum(const RevPath *line);

/* Delete what a document has too many of. */
extern void docrep_kept_trim(DocTable *table, const char *id);

/* A row as a version, copied; its body and attachments if asked for. */
extern void docrep_kept_from_slot(TupleTableSlot *slot, bool bodies, KeptVersion *version);

/* What was replaced from here on is held by somebody; DT_NOEND: nothing is. */
extern TimestampTz docrep_kept_held_since(const DocTableInfo *info, TimestampTz now);

/* "now" less an interval. */
extern TimestampTz docrep_time_before(TimestampTz now, const Interval *interval);

/* Have docrep.clean_revisions() look at all documents again: the bounds are narrower than they were. */
extern void docrep_revisions_recheck(const pg_uuid_t *uuid);

static inline bool
docrep_kept_is_winner(char kind)
{
	return kind == KEPT_WINNER || kind == KEPT_PEER_WINNER;
}

#endif							/* DOCREP_STORE_REVISIONS_INTERNAL_H */
