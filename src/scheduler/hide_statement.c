/*-------------------------------------------------------------------------
 *
 * hide_statement.c
 *		Statements that call docrep.replicate() stay out of the server's log.
 *
 * Their text may hold the credentials of an endpoint.  Most errors of a
 * replication are raised without the statement, but a cancel, a time-out or
 * a termination is Postgres' own report, so the log's hook is asked.  What
 * the administrator logs on purpose (log_statement, log_min_duration_statement)
 * is not touched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "scheduler/jobs.h"
#include "utils/elog.h"

static emit_log_hook_type previous_emit_log = NULL;
static int	hiding = 0;			/* nesting level of the transaction that hides, 0: none */

/*
 * From here on to the end of the call: docrep_statement_shown(), or the abort
 * of the (sub)transaction, which comes after an error was logged.  One within
 * the call, of a document that was refused, is no end of it.
 */
void
docrep_statement_hidden(void)
{
	if (hiding == 0)
		hiding = GetCurrentTransactionNestLevel();
}

void
docrep_statement_shown(void)
{
	hiding = 0;
}

static void
emit_log(ErrorData *edata)
{
	if (hiding > 0)
	{
		edata->hide_stmt = true;
		edata->hide_ctx = true;
	}
	if (previous_emit_log)
		previous_emit_log(edata);
}

static void
transaction_ended(XactEvent event, void *arg)
{
	hiding = 0;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && GetCurrentTransactionNestLevel() <= hiding)
		hiding = 0;
}

void
docrep_statement_install_hook(void)
{
	previous_emit_log = emit_log_hook;
	emit_log_hook = emit_log;
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}
