/*-------------------------------------------------------------------------
 *
 * write.c
 *		Writing documents in batches: edits, and revisions as they are.
 *
 * A batch is worked off in order of id, so that two of them never wait for
 * each other crosswise.  For each document the stored row is locked, the
 * change made in memory, and then all rows are written: the document table's
 * through the executor (batch_rows.c), the companions' directly.
 *
 * With "isolate", a range of documents runs in a subtransaction.  If one is
 * refused, the range is cut at the row that was met last and each part tried
 * again, so that a refused document costs a few statements and the others
 * are stored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "store/batch_rows.h"
#include "store/change.h"
#include "store/change_atts.h"
#include "store/companion.h"
#include "store/errcodes.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/seqs.h"
#include "store/validation.h"
#include "store/write.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* how often a range is tried that others seem to write at the same time */
#define MAX_RACES			5
#define MAX_RACES_ALONE		50

/* All writes of one document. */
typedef struct DocGroup
{
	DocWrite  **writes;
	int			n;
} DocGroup;

typedef struct WriteJob
{
	DocTable   *table;
	DocGroup	   *groups;			/* in order of id */
	int			ngroups;
	bool		edits;
	bool		isolate;
	bool		again;			/* docrep_write_again */
	bool		ask;			/* validators, and the hook */
	MemoryContext cxt;			/* the caller's: for what is said of the writes */
} WriteJob;

DocWriteHook docrep_write_hook = NULL;

static int
compare_writes(const void *a, const void *b)
{
	DocWrite   *wa = *(DocWrite *const *) a;
	DocWrite   *wb = *(DocWrite *const *) b;
	int			c = strcmp(wa->id, wb->id);

	if (c != 0)
		return c;
	return wa < wb ? -1 : wa > wb;	/* one document's writes stay in order */
}

static void
make_groups(WriteJob *job, DocWrite *writes, int n)
{
	DocWrite  **sorted = palloc(Max(n, 1) * sizeof(DocWrite *));

	for (int i = 0; i < n; i++)
		sorted[i] = &writes[i];
	qsort(sorted, n, sizeof(DocWrite *), compare_writes);
	job->groups = palloc(Max(n, 1) * sizeof(DocGroup));
	job->ngroups = 0;
	for (int i = 0; i < n; i++)
	{
		DocGroup	   *last = job->ngroups > 0 ? &job->groups[job->ngroups - 1] : NULL;

		if (last && strcmp(last->writes[0]->id, sorted[i]->id) == 0)
			last->n++;
		else
		{
			job->groups[job->ngroups].writes = &sorted[i];
			job->groups[job->ngroups++].n = 1;
		}
	}
}

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

/* Write the groups [lo, hi). */
static void
run_range(WriteJob *job, int lo, int hi)
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

bool
docrep_is_row_error(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case MAKE_SQLSTATE('2', '1', '0', '0', '0'):	/* cardinality */
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):	/* data exception */
		case MAKE_SQLSTATE('2', '3', '0', '0', '0'):	/* integrity constraint */
		case MAKE_SQLSTATE('2', '7', '0', '0', '0'):	/* triggered data change */
		case MAKE_SQLSTATE('3', '8', '0', '0', '0'):	/* external routine */
		case MAKE_SQLSTATE('3', '9', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):	/* access rule, undefined */
		case MAKE_SQLSTATE('4', '4', '0', '0', '0'):	/* with check option */
		case MAKE_SQLSTATE('5', '4', '0', '0', '0'):	/* program limit, such as a large index key */
		case MAKE_SQLSTATE('P', '0', '0', '0', '0'):	/* raised in PL/pgSQL */
		case MAKE_SQLSTATE('D', 'R', '0', '0', '0'):
			return true;
		default:
			return false;
	}
}

/*
 * A role without the privilege on the table fails as a whole; a policy that
 * refuses one row, which has the same SQLSTATE, does not.
 */
static bool
is_missing_privilege(WriteJob *job, ErrorData *edata)
{
	const AclMode needed = ACL_INSERT | ACL_UPDATE | ACL_DELETE | ACL_SELECT;

	return edata->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE &&
		(pg_class_aclmask(job->table->info.relid, GetUserId(), needed, ACLMASK_ALL) & needed) != needed;
}

/* Somebody inserted the same id between our look and our INSERT. */
static bool
is_race(WriteJob *job, ErrorData *edata)
{
	char	   *pk;

	if (edata->sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE)
		return !IsolationUsesXactSnapshot();
	if (edata->sqlerrcode != ERRCODE_UNIQUE_VIOLATION || edata->constraint_name == NULL)
		return false;
	pk = get_rel_name(job->table->info.pk_oid);
	return pk && strcmp(pk, edata->constraint_name) == 0;
}

/*
 * Run a range in a subtransaction; NULL or the error.  What the writes then
 * point to is in a context below the caller's.
 */
static ErrorData *
try_range(WriteJob *job, int lo, int hi)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	struct Companions *outer = job->table->companions;
	MemoryContext attempt = AllocSetContextCreate(caller, "docrep write attempt",
												  ALLOCSET_DEFAULT_SIZES);
	ErrorData  *volatile edata = NULL;

	job->table->companions = NULL;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(attempt);
	PG_TRY();
	{
		run_range(job, lo, hi);
		docrep_companions_close(job->table);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		docrep_companions_forget(job->table);
		MemoryContextDelete(attempt);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	job->table->companions = outer;
	return edata;
}

static void
refuse_group(DocGroup *group, ErrorData *edata)
{
	for (int i = 0; i < group->n; i++)
	{
		if (group->writes[i]->sqlstate != 0 || group->writes[i]->known)
			continue;
		group->writes[i]->sqlstate = edata->sqlerrcode;
		group->writes[i]->reason = pstrdup(edata->message ? edata->message : "refused");
	}
}

/*
 * Write the groups [lo, hi) together, or return why that cannot be.
 *
 * What looks like a race may be a user's trigger that writes another document
 * of the range each time; so after a few rounds it counts as the range's own
 * error, and alone each of the two is stored.
 */
static ErrorData *
write_together(WriteJob *job, int lo, int hi)
{
	const int	max = hi - lo == 1 ? MAX_RACES_ALONE : MAX_RACES;

	for (int rounds = 1;; rounds++)
	{
		ErrorData  *edata;
		bool		race;

		CHECK_FOR_INTERRUPTS();
		edata = try_range(job, lo, hi);
		if (edata == NULL)
			return NULL;
		/* the other transaction has ended: what it did is now there to be merged with */
		race = is_race(job, edata);
		if (race && rounds < max)
		{
			FreeErrorData(edata);
			continue;
		}
		if ((!race && !docrep_is_row_error(edata->sqlerrcode)) || is_missing_privilege(job, edata))
			ReThrowError(edata);
		return edata;
	}
}

/*
 * A document could not be written.  If its table resolves or marks conflicts, it may be that,
 * and not what came in, that a constraint or trigger refuses: then the conflict is stored
 * as it is, and the error is a problem of the policy's.
 */
static bool
write_without_policy(WriteJob *job, int at, const ErrorData *edata)
{
	DocTable   *table = job->table;
	const char *id = job->groups[at].writes[0]->id;
	int			policy = table->info.conflict_policy;
	ErrorData  *again;

	if ((policy & ~DOCREP_POLICY_IDENTICAL) == 0 || job->edits || job->again)
		return false;
	/* what is merged stays so: that is in no row that could be refused */
	table->info.conflict_policy = policy & DOCREP_POLICY_IDENTICAL;
	again = write_together(job, at, at + 1);
	table->info.conflict_policy = policy;
	if (again)
	{
		FreeErrorData(again);
		return false;
	}
	if (job->groups[at].writes[0]->sqlstate == 0)
		docrep_rounds_problem(table, id, edata);
	return true;
}

/*
 * Write all groups, each in the end stored or refused.
 *
 * When some cannot be written together, the row that was met last is the
 * likely reason, unless it was the very first or last: then the error may have
 * come from the end of the statement.  What comes before it is tried again,
 * then it alone.  How many are tried at a time shrinks with each failure and
 * grows with each success, so that neither few refusals nor many make the
 * rest be worked through again and again.
 */
static void
write_all(WriteJob *job)
{
	int			lo = 0;
	int			window = job->ngroups;
	int			suspect = -1;

	while (lo < job->ngroups)
	{
		int			n = Min(window, job->ngroups - lo);
		ErrorData  *edata;
		int			met;

		if (suspect >= lo)
			n = suspect == lo ? 1 : Min(n, suspect - lo);
		edata = write_together(job, lo, lo + n);
		if (edata == NULL)
		{
			lo += n;
			window = window > job->ngroups / 2 ? job->ngroups : window * 2;
			continue;
		}
		if (n == 1)
		{
			if (!write_without_policy(job, lo, edata))
				refuse_group(&job->groups[lo], edata);
			lo++;
		}
		else
		{
			met = docrep_batch_last_seen();
			suspect = met > 0 && met < n - 1 ? lo + met : -1;
			window = n / 2;
		}
		FreeErrorData(edata);
	}
}

/* Run without a subtransaction; who loses a race for a new id gets a conflict. */
static void
run_or_conflict(WriteJob *job)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		run_range(job, 0, job->ngroups);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (edata->sqlerrcode != ERRCODE_UNIQUE_VIOLATION || !is_race(job, edata))
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_CONFLICT),
				 errmsg("Document update conflict."),
				 errdetail("Another session has just created a document of this id.")));
	}
	PG_END_TRY();
}

/* Check what comes in, and write it. */
static void
run_job(DocTable *table, DocWrite *writes, int n, bool edits, bool isolate, bool ask)
{
	WriteJob	job;

	if (n == 0)
		return;
	/* tombstones are written below the executor, which would say it */
	PreventCommandIfReadOnly("a write to a document table");
	/* before rows are locked, or anything is told */
	docrep_table_check_any(table, ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	if (ask && docrep_write_hook)
		docrep_write_hook(table, writes, n, edits);
	job.table = table;
	job.edits = edits;
	job.isolate = isolate;
	job.again = false;
	job.ask = ask;
	job.cxt = CurrentMemoryContext;
	make_groups(&job, writes, n);
	if (isolate)
		write_all(&job);
	else
		run_or_conflict(&job);
}

void
docrep_write_revisions(DocTable *table, DocWrite *writes, int n, bool isolate)
{
	run_job(table, writes, n, false, isolate, true);
}

void
docrep_write_merged(DocTable *table, DocWrite *writes, int n)
{
	/* if the policy's row is refused, the document is written without the policy */
	bool		isolate = (table->info.conflict_policy & ~DOCREP_POLICY_IDENTICAL) != 0;

	run_job(table, writes, n, false, isolate, false);
	for (int i = 0; i < n; i++)
	{
		if (writes[i].sqlstate != 0)
			ereport(ERROR,
					(errcode(writes[i].sqlstate),
					 errmsg("%s", writes[i].reason)));
	}
}

void
docrep_write_again(DocTable *table, DocWrite *writes, int n)
{
	WriteJob	job = {.table = table, .isolate = true, .again = true};

	if (n == 0)
		return;
	PreventCommandIfReadOnly("a write to a document table");
	make_groups(&job, writes, n);
	write_all(&job);
	for (int i = 0; i < n; i++)
	{
		ErrorData	error = {.sqlerrcode = writes[i].sqlstate, .message = writes[i].reason};

		if (writes[i].sqlstate != 0)
			docrep_rounds_problem(table, writes[i].id, &error);
	}
}

void
docrep_write_edits(DocTable *table, DocWrite *writes, int n, bool isolate)
{
	run_job(table, writes, n, true, isolate, true);
}
