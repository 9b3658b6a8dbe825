/*-------------------------------------------------------------------------
 *
 * write_isolate.c
 *		Writing a batch of which some documents may be refused.
 *
 * A range of documents runs in a subtransaction.  If one is refused, the range
 * is cut at the row that was met last and each part tried again, so that a
 * refused document costs a few statements and the others are stored.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "store/batch_rows.h"
#include "store/change.h"
#include "store/companion.h"
#include "store/policy.h"
#include "store/resolution.h"
#include "store/validation.h"
#include "store/write_internal.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* how often a range is tried that others seem to write at the same time */
#define MAX_RACES			5
#define MAX_RACES_ALONE		50

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

bool
docrep_write_is_race(WriteJob *job, ErrorData *edata)
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
		docrep_write_range(job, lo, hi);
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

/* The writes of a document that nothing has been said of yet failed with an error. */
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
		race = docrep_write_is_race(job, edata);
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

void
docrep_write_isolated(WriteJob *job)
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
