/*-------------------------------------------------------------------------
 *
 * bgworker.c
 *		What all processes of ours have in common: for the postmaster, and their settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "scheduler/slots.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

void
docrep_describe_process(BackgroundWorker *worker, const char *function, const char *name)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "docrep", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, name, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, name, sizeof(worker->bgw_type));
	worker->bgw_notify_pid = IsUnderPostmaster ? MyProcPid : 0;
}

static void
set_option(const char *name, const char *value)
{
	SetConfigOption(name, value, PGC_SUSET, PGC_S_SESSION);
}

void
docrep_pin_settings(const char *application_name, const char *search_path)
{
	set_option("application_name", application_name);
	set_option("search_path", search_path);
	set_option("statement_timeout", "0");
	/* who finds a table locked gives up after this time and tries again */
	set_option("lock_timeout", "30s");
	set_option("idle_in_transaction_session_timeout", "0");
	set_option("idle_session_timeout", "0");
#ifdef DOCREP_HAVE_TRANSACTION_TIMEOUT
	set_option("transaction_timeout", "0");
#endif
	set_option("default_transaction_isolation", "read committed");
	set_option("default_transaction_read_only", "off");
	set_option("default_transaction_deferrable", "off");
	set_option("session_replication_role", "origin");
}

void
docrep_report_shortage(TimestampTz *said, const char *message, const char *hint)
{
	TimestampTz now = GetCurrentTimestamp();

	if (*said != 0 && !TimestampDifferenceExceeds(*said, now, 60000))
		return;
	*said = now;
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg_internal("%s", message),
			 errhint("%s", hint)));
}
