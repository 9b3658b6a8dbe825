/*-------------------------------------------------------------------------
 *
 * validation.c
 *		Asking validators about what comes to be written.
 *
 * As in CouchDB: the new document has the _rev that was given (an edit's own is
 * not known to anybody yet), or its own if it comes with one; the old one is the
 * leaf that an edit names, or the nearest ancestor of a replicated revision that
 * still has a body.  Revisions that are there already are not asked about, nor
 * those that are no leaf, nor design documents.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "store/companion.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/validation.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

/* Documents are asked about so many at a time, or fewer if they are large. */
#define MAX_ASKED			500
#define MAX_ASKED_BYTES		(8 * 1024 * 1024)

#define DESIGN_PREFIX		"_design/"

const DocValidators *docrep_validators = NULL;

/* What is asked about together, and whose answers they are. */
typedef struct Round
{
	DocTable   *table;
	bool		isolate;
	MemoryContext result_cxt;	/* for reasons */
	MemoryContext cxt;			/* for the rest */
	DocValidation *docs;
	DocWrite  **writes;
	int			n;
	int			max;			/* then they are asked about */
	Size		bytes;
	int			refused;
} Round;

static bool
is_design(const char *id)
{
	return strncmp(id, DESIGN_PREFIX, strlen(DESIGN_PREFIX)) == 0;
}

bool
docrep_validated(Relation rel)
{
	const DocTableInfo *info = docrep_table_info(rel);

	return docrep_validators != NULL && info->validated != DOC_VALIDATED_NO &&
		docrep_validators->wanted(rel);
}

void
docrep_validation_forget(Oid relid, const char *id)
{
	if (is_design(id))
		CacheInvalidateRelcacheByRelid(relid);
}

/* ---------- the documents ---------- */

/* Add _rev and _revisions. */
static void
add_path(RawBuilder *doc, const Rev *revs, int n)
{
	RawBuilder	object;
	RawBuilder	ids;

	docrep_raw_add_rev(doc, "_rev", &revs[0]);
	docrep_raw_init(&ids, false, n);
	for (int i = 0; i < n; i++)
	{
		char	   *text = palloc(2 * (Size) revs[i].len + 1);
		size_t		len = docrep_rev_print_id(&revs[i], text);

		docrep_raw_add_text_len(&ids, NULL, text, len);
	}
	docrep_raw_init(&object, true, 2);
	docrep_raw_add_int64(&object, "start", revs[0].gen);
	docrep_raw_add_built(&object, "ids", &ids);
	docrep_raw_add_built(doc, "_revisions", &object);
}

/* The new document; revs: the _rev that it names, with its ancestors (n = 0: none). */
static Jsonb *
new_doc(const DocWrite *write, const Jsonb *body, const DocAtts *atts, const Rev *revs, int n)
{
	static const DocShow stubs = {0};
	RawBuilder	doc;
	RawCursor	cursor;
	RawMember	member;

	docrep_raw_init(&doc, true, 5 + (body ? JB_ROOT_COUNT(body) : 0));
	if (body)
	{
		docrep_raw_begin(&cursor, &body->root);
		while (docrep_raw_next(&cursor, &member))
			docrep_raw_add_member(&doc, &member);
	}
	docrep_raw_add_text(&doc, "_id", write->id);
	if (n > 0)
		add_path(&doc, revs, n);
	if (write->deleted)
		docrep_raw_add_bool(&doc, "_deleted", true);
	if (atts && atts->n > 0)
		docrep_document_add_atts(&doc, NULL, 0, docrep_atts_to_column(atts), &stubs);
	return docrep_raw_finish(&doc);
}

/*
 * The body and attachments of a node, if the change or the table has them: that of
 * an edit of the same batch, in the stored row, or among the losing leaves.
 */
static bool
find_body(DocTable *table, DocChange *change, int32 node, Jsonb **doc, Jsonb **atts)
{
	const RevNode *n = &change->tree->nodes[node];

	*doc = NULL;
	*atts = NULL;
	for (int i = 0; change->edit && i < change->nwrites; i++)
	{
		if (!docrep_rev_eq(&change->writes[i]->rev, &n->rev))
			continue;
		*doc = change->writes[i]->body;
		if (change->write_atts)
			*atts = docrep_atts_to_column(&change->write_atts[i]);
		return true;
	}
	for (int i = 0; i < change->nold_leaves; i++)
	{
		if (!docrep_rev_eq(&change->old_leaves[i], &n->rev))
			continue;
		if (docrep_rev_eq(&change->old_winner, &n->rev))
		{
			*doc = docrep_change_old_doc(table, change);
			*atts = docrep_change_old_atts(table, change);
			return true;
		}
		return docrep_leaf_read(table, GetLatestSnapshot(), change->id, &n->rev, doc, atts,
								NULL) || n->deleted;
	}
	return false;
}

/* The document that a write goes on from, or NULL. */
static Jsonb *
old_doc(DocTable *table, DocChange *change, const DocWrite *write)
{
	static const DocShow show = {.revs = true};
	int32		node = docrep_revtree_find(change->tree, &write->rev);
	Jsonb	   *doc;
	Jsonb	   *atts;

	/* created anew on top of a tombstone, without naming it */
	if (change->edit && write->path.n == 0)
		return NULL;
	while (node >= 0 && (node = change->tree->nodes[node].parent) >= 0)
	{
		if (find_body(table, change, node, &doc, &atts))
			return docrep_document_show(change->id, change->tree, node, doc, atts, &show);
	}
	return NULL;
}

/* ---------- asking ---------- */

/* Ask about what has been gathered, and note the answers. */
static void
finish_round(Round *round)
{
	MemoryContext old = MemoryContextSwitchTo(round->cxt);

	if (round->n > 0)
		docrep_validators->ask(round->table, round->docs, round->n, round->isolate);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < round->n; i++)
	{
		if (round->docs[i].sqlstate == 0)
			continue;
		round->writes[i]->sqlstate = round->docs[i].sqlstate;
		round->writes[i]->reason = MemoryContextStrdup(round->result_cxt, round->docs[i].reason);
		round->writes[i]->refused = true;
		round->refused++;
	}
	round->n = 0;
	round->bytes = 0;
	MemoryContextReset(round->cxt);
}

/* Gather a write of a change, with this body. */
static void
ask_write(Round *round, DocChange *change, int w, const Jsonb *body, bool old_visible)
{
	DocWrite   *write = change->writes[w];
	DocValidation *doc = &round->docs[round->n];
	MemoryContext old = MemoryContextSwitchTo(round->cxt);

	doc->id = change->id;
	doc->new_doc = new_doc(write, body, change->write_atts ? &change->write_atts[w] : NULL,
						   write->path.revs, write->path.n);
	doc->old_doc = old_visible ? old_doc(round->table, change, write) : NULL;
	doc->sqlstate = 0;
	doc->reason = NULL;
	MemoryContextSwitchTo(old);
	round->writes[round->n++] = write;
	round->bytes += VARSIZE(doc->new_doc) + (doc->old_doc ? VARSIZE(doc->old_doc) : 0);
	if (round->n == round->max || round->bytes >= MAX_ASKED_BYTES)
		finish_round(round);
}

/* Begin to gather, of about so many documents. */
static Round *
begin_round(DocTable *table, int expected, bool isolate, MemoryContext result_cxt)
{
	Round	   *round = palloc(sizeof(Round));

	round->max = Min(expected, MAX_ASKED);
	round->docs = palloc(round->max * sizeof(DocValidation));
	round->writes = palloc(round->max * sizeof(DocWrite *));
	round->table = table;
	round->isolate = isolate;
	round->result_cxt = result_cxt;
	round->cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep validation",
									   ALLOCSET_DEFAULT_SIZES);
	round->n = 0;
	round->bytes = 0;
	round->refused = 0;
	return round;
}

static int
end_round(Round *round)
{
	int			refused;

	finish_round(round);
	refused = round->refused;
	MemoryContextDelete(round->cxt);
	pfree(round->docs);
	pfree(round->writes);
	pfree(round);
	return refused;
}

/* Has the table a user's trigger that may change a row before it is stored? */
static bool
has_row_triggers(Relation rel)
{
	const TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
	{
		const Trigger *t = &desc->triggers[i];

		if (TRIGGER_FOR_ROW(t->tgtype) && TRIGGER_FOR_BEFORE(t->tgtype) &&
			(t->tgtype & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE)) &&
			t->tgenabled != TRIGGER_DISABLED && strcmp(t->tgname, DOCREP_TRACK_TRIGGER) != 0)
			return true;
	}
	return false;
}

/* Will this write of a batch come to the trigger, perhaps with another body? */
static bool
is_for_trigger(DocTable *table, const DocChange *change, const DocWrite *write)
{
	int32		winner;

	if (!change->edit || write->deleted || !has_row_triggers(table->rel))
		return false;
	winner = docrep_revtree_winner(change->tree);
	return docrep_rev_eq(&change->tree->nodes[winner].rev, &write->rev);
}

/* Is the write's revision one that nothing follows? */
static bool
is_leaf(const DocChange *change, const DocWrite *write)
{
	int32		node = docrep_revtree_find(change->tree, &write->rev);

	return node >= 0 && change->tree->nodes[node].nchildren == 0;
}

/* Design documents that are written by edits. */
static void
check_design(const DocChange *change)
{
	for (int i = 0; docrep_validators && change->edit && i < change->nwrites; i++)
	{
		if (!change->writes[i]->deleted)
			docrep_validators->check_design(change->id, change->writes[i]->body);
	}
}

/*
 * Which documents are there that the role may not see?  Validators are not told of
 * them, since what they say of a document is shown.  NULL: none.
 */
static bool *
visible_changes(DocTable *table, DocChange *changes, int n)
{
	const char **ids;
	bool	   *visible;

	if (!table->row_security)
		return NULL;
	ids = palloc(n * sizeof(char *));
	visible = palloc(n * sizeof(bool));
	for (int i = 0; i < n; i++)
		ids[i] = changes[i].id;
	docrep_visible_ids(table, ids, n, visible);
	return visible;
}

int
docrep_validate_changes(DocTable *table, DocChange *changes, int n, bool isolate,
						MemoryContext cxt)
{
	bool		wanted = docrep_validated(table->rel);
	bool	   *visible = wanted ? visible_changes(table, changes, n) : NULL;
	Round	   *round = wanted ? begin_round(table, n, isolate, cxt) : NULL;

	for (int i = 0; i < n; i++)
	{
		DocChange  *change = &changes[i];

		if (is_design(change->id))
			check_design(change);
		else if (wanted)
		{
			for (int w = 0; w < change->nwrites; w++)
			{
				DocWrite   *write = change->writes[w];

				if ((change->edit || is_leaf(change, write)) &&
					!is_for_trigger(table, change, write))
					ask_write(round, change, w, write->body, visible == NULL || visible[i]);
			}
		}
	}
	return wanted ? end_round(round) : 0;
}

/* May the role see what the change goes on from?  The row of a live document came by its policies. */
static bool
sees_old(Relation rel, const DocChange *change)
{
	return change->was_live ||
		check_enable_rls(RelationGetRelid(rel), InvalidOid, true) != RLS_ENABLED;
}

/* Ask about one write of a change, with this body; raises. */
static void
ask_alone(DocTable *table, DocChange *change, int w, const Jsonb *body)
{
	Round	   *round = begin_round(table, 1, false, CurrentMemoryContext);

	ask_write(round, change, w, body, sees_old(table->rel, change));
	(void) end_round(round);
}

void
docrep_validate_edit(DocTable *table, DocChange *change)
{
	if (is_design(change->id))
		check_design(change);
	else if (docrep_validated(table->rel))
		ask_alone(table, change, 0, change->writes[0]->body);
}

void
docrep_validate_arrived(DocTable *table, DocChange *change)
{
	if (is_design(change->id) || !has_row_triggers(table->rel) || !docrep_validated(table->rel))
		return;
	for (int w = 0; w < change->nwrites; w++)
	{
		if (docrep_rev_eq(&change->writes[w]->rev, &change->winner))
			/* a marked document's row shows the conflict and not the body */
			ask_alone(table, change, w, change->marked ? change->writes[w]->body : change->doc);
	}
}

/* ---------- INSERT ---------- */

/*
 * Is there a live row of the id?  One of another transaction is locked, so that it
 * is still there when the INSERT meets it.
 */
static bool
is_live(DocTable *table, const char *id)
{
	TransactionId xwait;
	uint32		token;
	TupleTableSlot *slot = docrep_probe_row(table, DOC_IN_REL, id, &xwait, &token);
	Datum		xmin;
	bool		isnull;

	if (slot == NULL)
		return false;
	xmin = slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull);
	if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin)))
		return true;
	return docrep_lock_row(table, DOC_IN_REL, id) != NULL;
}

/* Ask about a row of an id that has no tombstone. */
static void
ask_first(DocTable *table, DocWrite *write, const Rev *base)
{
	DocValidation doc = {.id = write->id};

	doc.new_doc = new_doc(write, write->body, NULL, base, base ? 1 : 0);
	docrep_validators->ask(table, &doc, 1, false);
}

void
docrep_validate_insert(Relation rel, DocChange *change, DocWrite *write, const Rev *base)
{
	DocTable   *table;

	if (is_design(write->id))
	{
		if (docrep_validators)
			docrep_validators->check_design(write->id, write->body);
		return;
	}
	if (!docrep_validated(rel))
		return;
	table = docrep_table_attach(rel);
	if (!is_live(table, write->id))
	{
		RevPath		given = write->path;

		if (change == NULL)
			ask_first(table, write, base);
		else
		{
			Round	   *round = begin_round(table, 1, false, CurrentMemoryContext);

			write->path.n = base ? 1 : 0;
			write->path.revs = (Rev *) base;
			ask_write(round, change, 0, write->body, sees_old(rel, change));
			(void) end_round(round);
			write->path = given;
		}
	}
	docrep_table_close(table, NoLock);
}
