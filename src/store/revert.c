/*-------------------------------------------------------------------------
 *
 * revert.c
 *		docrep.revert(): documents as they were at a time, as new revisions.
 *
 * In batches, each in order of id: the documents' rows are locked, what they
 * were is looked up, and the edits that bring them back are made as a user's
 * would be.  As they are locked first, nobody comes in between; who writes a
 * document meanwhile has written it before, and that is undone, or waits.
 *
 * What another document is in the way of (it has a value now that must be unique) is
 * tried again when all others are as they were, for as long as that helps, within bounds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/revert.h"
#include "store/sql_support.h"
#include "store/write.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* documents, and bytes of bodies, that are written together */
#define BATCH_DOCS		500
#define BATCH_BYTES		(4 * 1024 * 1024)

/* how often a document is looked for, by turns among the live and the deleted */
#define LOOKS			6

/* ids that are named in the report */
#define MAX_NAMED		100

/* documents that are tried again when others are as they were */
#define MAX_AGAIN		100000
/* ... and so often: this many tries, and so many for each. */
#define AGAIN_TRIES		1000
#define AGAIN_ROUNDS	20

typedef enum Outcome
{
	UNCHANGED,
	REVERTED,
	RECREATED,
	DELETED,
	UNKNOWN,
	REFUSED,
	NOUTCOMES
} Outcome;

static const char *const outcome_names[] = {"unchanged", "reverted", "recreated", "deleted",
"unknown", "refused"};

/* A document of the batch: its writes follow one another. */
typedef struct Planned
{
	Outcome		outcome;		/* what it will be if they are stored */
	int			first;
	int			n;
} Planned;

typedef struct Revert
{
	DocTable   *table;
	TimestampTz at;
	int64		counts[NOUTCOMES];
	RawBuilder	unknown_ids;
	RawBuilder	refused_ids;
	List	   *again;			/* ids that are to be tried again */
	bool		last_try;		/* nothing will be */

	/* the batch; in cxt */
	MemoryContext cxt;
	DocWrite   *writes;
	int			nwrites;
	int			cap;
	Planned		items[BATCH_DOCS];
	int			nitems;
	Size		bytes;
} Revert;

/* ---------- one document ---------- */

static DocWrite *
add_write(Revert *r, const char *id)
{
	DocWrite   *write;

	if (r->nwrites >= r->cap)
	{
		r->cap = Max(64, r->cap * 2);
		r->writes = r->writes ? repalloc_huge(r->writes, r->cap * sizeof(DocWrite)) :
			palloc(r->cap * sizeof(DocWrite));
	}
	write = &r->writes[r->nwrites++];
	memset(write, 0, sizeof(*write));
	write->id = id;
	return write;
}

/* The edit goes on from this revision. */
static void
set_base(DocWrite *write, const Rev *rev)
{
	write->path.n = 1;
	write->path.revs = palloc(sizeof(Rev));
	write->path.revs[0] = *rev;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/*
 * The attachments that the edit brings: what the document has already stays what
 * it is, the others are taken up by the file with their content.
 */
static void
atts_to_write(const DocAtts *then, const DocAtts *now, DocWrite *write)
{
	write->atts = *then;
	for (int i = 0; i < write->atts.n; i++)
	{
		DocAtt	   *att = &write->atts.atts[i];
		const DocAtt *same = docrep_atts_find(now, att->name);

		if (same == NULL || !same_text(same->digest, att->digest) ||
			!same_text(same->content_type, att->content_type))
			continue;
		att->stub = true;
		att->file = 0;
		att->revpos = 0;
	}
}

/* The document is to have the body of a version. */
static Outcome
bring_back(Revert *r, const char *id, const DocState *state, const KeptVersion *version)
{
	const Rev  *current = &state->tree->nodes[state->winner].rev;
	DocAtts		then;
	DocAtts		now;
	DocWrite   *write;

	if (version->current)
		return UNCHANGED;
	docrep_atts_from_column(version->atts, &then);
	docrep_atts_from_column(state->live ? state->atts : NULL, &now);
	if (state->live && docrep_bodies_equal(version->doc, state->doc) && docrep_atts_equal(&then, &now))
		return UNCHANGED;
	write = add_write(r, id);
	write->body = version->doc;
	set_base(write, current);
	atts_to_write(&then, &now, write);
	if (write->body)
		r->bytes += VARSIZE(write->body);
	return state->live ? REVERTED : RECREATED;
}

/* The document is to be deleted, with all its live revisions. */
static Outcome
take_away(Revert *r, const char *id, const DocState *state)
{
	int32	   *leaves;
	int32		n = docrep_revtree_leaves(state->tree, &leaves);

	if (!state->live)
		return UNCHANGED;
	for (int32 i = 0; i < n; i++)
	{
		const RevNode *node = &state->tree->nodes[leaves[i]];
		DocWrite   *write;

		if (node->deleted)
			continue;
		write = add_write(r, id);
		write->deleted = true;
		set_base(write, &node->rev);
	}
	return DELETED;
}

/* Lock a document, and plan what has to be done to it. */
static Outcome
plan_document(Revert *r, const char *id)
{
	TupleTableSlot *slot = NULL;
	bool		in_dead = false;
	DocState	state;
	KeptVersion version;

	/* it may be on its way from one table to the other just now */
	for (int i = 0; i < LOOKS && slot == NULL; i++)
	{
		in_dead = i % 2 == 1;
		slot = docrep_lock_row(r->table, in_dead ? DOC_IN_DEAD : DOC_IN_REL, id);
	}
	if (slot == NULL)
		return UNKNOWN;
	docrep_state_from_slot(r->table, in_dead, slot, DOCSTATE_BODY, &state);
	docrep_state_unmark(r->table, GetLatestSnapshot(), id, &state);
	switch (docrep_revision_shown_at(r->table, GetLatestSnapshot(), id, &state, r->at, &version))
	{
		case SHOWN_UNKNOWN:
			return UNKNOWN;
		case SHOWN_NOTHING:
			return take_away(r, id, &state);
		case SHOWN_VERSION:
			break;
	}
	return version.deleted ? take_away(r, id, &state) : bring_back(r, id, &state, &version);
}

/* ---------- batches ---------- */

/*
 * Count a document, and name it if that is of interest: in memory that outlives the
 * batch, as the report is put together at the end.
 */
static void
count_document(Revert *r, const char *id, Outcome outcome, const DocWrite *refused)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(r));

	r->counts[outcome]++;
	if (outcome == UNKNOWN && r->counts[outcome] <= MAX_NAMED)
		docrep_raw_add_text(&r->unknown_ids, NULL, pstrdup(id));
	else if (outcome == REFUSED && r->counts[outcome] <= MAX_NAMED)
	{
		RawBuilder	item;

		docrep_raw_init(&item, true, 3);
		docrep_raw_add_text(&item, "id", pstrdup(id));
		docrep_raw_add_text(&item, "sqlstate", pstrdup(unpack_sql_state(refused->sqlstate)));
		docrep_raw_add_text(&item, "reason", refused->reason ? pstrdup(refused->reason) : "");
		docrep_raw_add_built(&r->refused_ids, NULL, &item);
	}
	MemoryContextSwitchTo(old);
}

/* May it be stored when other documents have been written? */
static bool
is_worth_another_try(const Revert *r, const DocWrite *refused)
{
	return !r->last_try && ERRCODE_TO_CATEGORY(refused->sqlstate) == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION &&
		refused->sqlstate != ERRCODE_CHECK_VIOLATION &&
		refused->sqlstate != ERRCODE_NOT_NULL_VIOLATION &&
		list_length(r->again) < MAX_AGAIN;
}

/* Have a document tried again later. */
static void
note_again(Revert *r, const char *id)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(r));

	r->again = lappend(r->again, pstrdup(id));
	MemoryContextSwitchTo(old);
}

/* Write what is planned, count what has become of it, and begin a new batch. */
static void
flush(Revert *r)
{
	docrep_write_edits(r->table, r->writes, r->nwrites, true);
	for (int i = 0; i < r->nitems; i++)
	{
		const Planned *item = &r->items[i];
		const DocWrite *refused = NULL;

		for (int w = item->first; w < item->first + item->n; w++)
		{
			if (r->writes[w].sqlstate != 0)
				refused = &r->writes[w];
		}
		if (refused && is_worth_another_try(r, refused))
			note_again(r, r->writes[item->first].id);
		else
			count_document(r, r->writes[item->first].id, refused ? REFUSED : item->outcome,
						   refused);
	}
	r->writes = NULL;
	r->nwrites = r->cap = r->nitems = 0;
	r->bytes = 0;
	MemoryContextReset(r->cxt);
}

/* Take a document into the batch.  The role may see it only if its policies say so. */
static void
revert_document(Revert *r, const char *given)
{
	MemoryContext old = MemoryContextSwitchTo(r->cxt);
	const char *id = pstrdup(given);
	int			first = r->nwrites;
	Outcome		outcome;
	bool		visible;

	CHECK_FOR_INTERRUPTS();
	docrep_visible_ids(r->table, &id, 1, &visible);
	if (visible)
	{
		outcome = plan_document(r, id);
		if (r->nwrites == first)
			count_document(r, id, outcome, NULL);
		else
		{
			Planned	   *item = &r->items[r->nitems++];

			item->outcome = outcome;
			item->first = first;
			item->n = r->nwrites - first;
		}
	}
	if (r->nitems >= BATCH_DOCS || r->bytes >= BATCH_BYTES)
		flush(r);
	MemoryContextSwitchTo(old);
}

static void
revert_all(Revert *r)
{
	RevertScan *scan = docrep_revert_scan(r->table, r->at);
	char	   *id;

	while ((id = docrep_revert_next(scan, &r->counts[UNCHANGED])) != NULL)
	{
		revert_document(r, id);
		pfree(id);
	}
	docrep_revert_scan_end(scan);
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The documents named, in order of id as all writers, each once. */
static void
revert_some(Revert *r, ArrayType *array)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;
	char	  **ids;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	ids = palloc(Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_BAD_REQUEST),
					 errmsg("\"ids\" must not contain NULL")));
		ids[i] = TextDatumGetCString(elems[i]);
	}
	qsort(ids, n, sizeof(char *), compare_ids);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || strcmp(ids[i - 1], ids[i]) != 0)
			revert_document(r, ids[i]);
	}
}

/*
 * Try those again that others were in the way of, until that helps none of them, or
 * has taken far more tries than there are: each round may help only one.
 */
static void
revert_again(Revert *r)
{
	int64		tries = AGAIN_TRIES + (int64) AGAIN_ROUNDS * list_length(r->again);

	while (r->again != NIL)
	{
		List	   *ids = r->again;
		ListCell   *lc;

		r->again = NIL;
		foreach(lc, ids)
			revert_document(r, lfirst(lc));
		flush(r);
		tries -= list_length(ids);
		r->last_try = list_length(r->again) == list_length(ids) || tries <= 0;
		list_free_deep(ids);
	}
}

/* ---------- the function ---------- */

static void
check_request(DocTable *table, TimestampTz at)
{
	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	PreventCommandIfReadOnly("docrep.revert()");
	if (table->info.revisions_keep < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no former versions of documents are kept of this table"),
				 errhint("SELECT docrep.set_revisions(...) keeps them from then on.")));
	if (at > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"at\" must not be in the future")));
}

static Jsonb *
report(Revert *r)
{
	RawBuilder	result;

	docrep_raw_init(&result, true, NOUTCOMES + 2);
	for (int i = 0; i < NOUTCOMES; i++)
		docrep_raw_add_int64(&result, outcome_names[i], r->counts[i]);
	docrep_raw_add_built(&result, "unknown_ids", &r->unknown_ids);
	docrep_raw_add_built(&result, "refused_ids", &r->refused_ids);
	return docrep_raw_finish(&result);
}

PG_FUNCTION_INFO_V1(docrep_revert);

/* docrep.revert(tbl, at, ids): how many documents were changed in which way. */
Datum
docrep_revert(PG_FUNCTION_ARGS)
{
	Revert	   *r = palloc0(sizeof(Revert));
	Jsonb	   *result;

	r->table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock, ACL_SELECT);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("\"at\" must not be NULL")));
	r->at = PG_GETARG_TIMESTAMPTZ(1);
	check_request(r->table, r->at);
	r->cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep revert", ALLOCSET_DEFAULT_SIZES);
	docrep_raw_init(&r->unknown_ids, false, 8);
	docrep_raw_init(&r->refused_ids, false, 8);
	if (PG_ARGISNULL(2))
		revert_all(r);
	else
		revert_some(r, PG_GETARG_ARRAYTYPE_P(2));
	flush(r);
	revert_again(r);
	docrep_table_close(r->table, NoLock);
	result = report(r);
	PG_RETURN_JSONB_P(result);
}
