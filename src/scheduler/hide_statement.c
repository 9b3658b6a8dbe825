/*-------------------------------------------------------------------------
 *
 * hide_statement.c
 *		Statements that may hold credentials stay out of the server's log.
 *
 * They call docrep.replicate() and the like, or write tasks.  Most errors of a
 * replication are raised without the statement, but a cancel, a time-out, a
 * violated constraint or a termination is Postgres' own report, so the log's
 * hook is asked.  What the administrator logs on purpose (log_statement,
 * log_min_duration_statement) is not touched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "scheduler/jobs.h"
#include "utils/elog.h"

static emit_log_hook_type previous_emit_log = NULL;
static TimestampTz hidden = 0;	/* when the statement came that is not shown, 0: none did */

/*
 * From here on, what the client has sent is not shown.  That is all of its text,
 * whatever part of it fails, and whether or not this part has credentials: the log
 * has the text as a whole.  It ends with the client's next statement.
 */
void
docrep_statement_hidden(void)
{
	hidden = GetCurrentStatementStartTimestamp();
}

static void
emit_log(ErrorData *edata)
{
	if (hidden != 0 && hidden == GetCurrentStatementStartTimestamp())
	{
		edata->hide_stmt = true;
		edata->hide_ctx = true;
	}
	if (previous_emit_log)
		previous_emit_log(edata);
}

void
docrep_statement_install_hook(void)
{
	previous_emit_log = emit_log_hook;
	emit_log_hook = emit_log;
}
