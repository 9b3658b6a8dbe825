/*-------------------------------------------------------------------------
 *
 * write_range.c
 *		Writing a range of a batch's documents.
 *
 * For each document the stored row is locked, the change made in memory, and
 * then all rows are written: the document table's through the executor
 * (batch_rows.c), the companions' directly.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/batch_rows.h"
#include "store/change.h"
#include "store/change_atts.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/seqs.h"
#include "store/validation.h"
#include "store/write_internal.h"
#include "utils/snapmgr.h"

/*
 * What makes no statement asks for no privilege.  But neither that a revision
 * is stale nor that it is known is told to a role that could not write it.
 */
static void
check_without_statement(DocTable *table, const DocWrite *write)
{
	docrep_table_check(table, write->deleted ? ACL_DELETE :
					   write->path.n > 0 ? ACL_UPDATE : ACL_INSERT);
}

/* A write of a revision as it is was refused; without isolation that is raised. */
static void
refused_as_it_is(WriteJob *job, const DocWrite *write)
{
	if (!job->isolate)
		ereport(ERROR,
				(errcode(write->sqlstate),
				 errmsg("%s", write->reason)));
}

/*
 * A stub was not found, of a document that was not there.  If it is there now,
 * it was on its way from the tombstones to the live rows when we looked.
 */
static void
check_still_missing(WriteJob *job, DocWrite *write)
{
	if (write->sqlstate != ERRCODE_DOCREP_PRECONDITION_FAILED ||
		docrep_lock_row(job->table, DOC_IN_REL, write->id) == NULL)
		return;
	if (job->isolate)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("document \"%s\" was written by another transaction at the same time",
						write->id),
				 errhint("Try again.")));
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_CONFLICT),
			 errmsg("Document update conflict."),
			 errdetail("Another session has just written document \"%s\".", write->id)));
}

/* Lock the stored row, work the group's writes into it.  Returns whether there is anything new. */
static bool
prepare_change(WriteJob *job, DocGroup *group, DocChange *change)
{
	DocTable   *table = job->table;
	const char *id = group->writes[0]->id;
	TupleTableSlot *slot = docrep_lock_row(table, DOC_IN_REL, id);
	bool		in_dead = false;
	bool		anything_new = false;

	if (slot == NULL && docrep_dead_maybe_used(&table->info))
	{
		in_dead = true;
		slot = docrep_lock_row(table, DOC_IN_DEAD, id);
	}
	docrep_change_begin(table, change, id, in_dead, slot, true);
	if (job->again)
	{
		change->again = true;
		group->writes[0]->sqlstate = 0;
		return change->nold_live > 1;
	}
	for (int i = 0; i < group->n; i++)
	{
		DocWrite   *write = group->writes[i];

		if (write->refused)
			continue;
		write->sqlstate = 0;
		write->reason = NULL;
		write->known = false;
		if (job->edits)
		{
			if (docrep_change_edit(table, change, write))
				anything_new = true;
			else
				check_without_statement(table, write);
		}
		else
		{
			if (docrep_change_merge(table, change, write))
				anything_new |= !write->known;
		}
		if (write->sqlstate != 0 && !change->exists)
			check_still_missing(job, write);
		if (write->sqlstate != 0 && !job->edits)
			refused_as_it_is(job, write);
	}
	/* a known revision may have come with ancestors that were not */
	return anything_new || change->tree->changed;
}

/* Whatever validators have said when the group was tried before, they are asked again. */
static void
forget_refusals(DocGroup *group)
{
	for (int i = 0; i < group->n; i++)
		group->writes[i]->refused = false;
}

/* Has a validator refused something in the change? */
static bool
has_refused(const DocChange *change)
{
	for (int i = 0; i < change->nwrites; i++)
	{
		if (change->writes[i]->refused)
			return true;
	}
	return false;
}

/*
 * Ask validators about all changes of a range.  Those in which something is refused are
 * prepared again without it; what then is another change is asked about again.
 */
static void
validate_range(WriteJob *job, int lo, DocChange *changes, bool *anything_new, int n)
{
	if (docrep_validate_changes(job->table, changes, n, job->isolate, job->cxt) == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		while (has_refused(&changes[i]))
		{
			anything_new[i] = prepare_change(job, &job->groups[lo + i], &changes[i]);
			(void) docrep_validate_changes(job->table, &changes[i], 1, job->isolate, job->cxt);
		}
	}
}

/* None of the writes of a change was stored, and why. */
/* Ask the table's resolver, if it has one, about the conflicts of a range. */
static void
ask_resolver(DocTable *table, DocChange *changes, const bool *anything_new, int n)
{
	DocChange **asked;
	int			nasked = 0;

	if ((table->info.conflict_policy & DOCREP_POLICY_FUNCTION) == 0)
		return;
	asked = palloc(n * sizeof(DocChange *));
	for (int i = 0; i < n; i++)
	{
		if (anything_new[i])
			asked[nasked++] = &changes[i];
	}
	docrep_changes_ask(table, asked, nasked);
	pfree(asked);
}

static void
refuse(DocChange *change, int sqlstate, const char *reason)
{
	for (int i = 0; i < change->nwrites; i++)
	{
		change->writes[i]->sqlstate = sqlstate;
		change->writes[i]->reason = pstrdup(reason);
	}
}

/*
 * A row that was to be written did not come to the trigger.  Either something
 * of the user's kept it away, or it is newer than this transaction's snapshot,
 * with which our statement looks for it.
 */
static void
not_arrived(WriteJob *job, DocChange *change)
{
	const char *reason = "a trigger or a row security policy of the table kept the row away";

	if (IsolationUsesXactSnapshot() && change->was_live &&
		docrep_find_row(job->table, DOC_IN_REL, GetTransactionSnapshot(), change->id) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent insert of document \"%s\"",
						change->id)));
	/* what the policy has made of it may be the reason: see write_without_policy */
	if (!job->isolate || (!job->edits && !job->again && (change->nadded > 0 || change->marked)))
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_FORBIDDEN),
				 errmsg("document \"%s\" could not be written", change->id),
				 errdetail("A trigger or a row security policy of the table kept the row away.")));
	refuse(change, ERRCODE_DOCREP_FORBIDDEN, reason);
}

void
docrep_write_range(WriteJob *job, int lo, int hi)
{
	DocTable   *table = job->table;
	int			n = hi - lo;
	DocChange  *changes = palloc0(n * sizeof(DocChange));
	DocChange **pointers = palloc(n * sizeof(DocChange *));
	bool	   *anything_new = palloc(n * sizeof(bool));
	bool		has[CHANGE_DEAD + 1] = {false};

	docrep_seq_register(&table->info);
	for (int i = 0; i < n; i++)
	{
		forget_refusals(&job->groups[lo + i]);
		anything_new[i] = prepare_change(job, &job->groups[lo + i], &changes[i]);
		pointers[i] = &changes[i];
	}
	if (job->ask)
		validate_range(job, lo, changes, anything_new, n);
	docrep_change_store_contents(table, pointers, n);
	ask_resolver(table, changes, anything_new, n);
	for (int i = 0; i < n; i++)
	{
		docrep_change_finish(table, &changes[i], anything_new[i]);
		if (job->again)
			job->groups[lo + i].writes[0]->unresolved = changes[i].unresolved;
		has[changes[i].action] = true;
	}

	/*
	 * Tombstones of documents that have no row need the privilege that their
	 * deletion would.
	 */
	if (has[CHANGE_DEAD])
		docrep_table_check(table, ACL_DELETE);
	for (int action = CHANGE_INSERT; action <= CHANGE_DELETE; action++)
	{
		if (has[action])
			docrep_batch_execute(table, pointers, n, action);
	}
	for (int i = 0; i < n; i++)
	{
		if (changes[i].action == CHANGE_DEAD || changes[i].seen)
			docrep_change_write_companions(table, &changes[i]);
		else if (changes[i].action != CHANGE_NONE)
		{
			not_arrived(job, &changes[i]);
			if (job->again)
			{
				job->groups[lo + i].writes[0]->sqlstate = ERRCODE_DOCREP_FORBIDDEN;
				job->groups[lo + i].writes[0]->reason = "a trigger or a row security policy of the table kept the row away";
			}
		}
	}
}
