/*-------------------------------------------------------------------------
 *
 * bgworker.c
 *		What all processes of ours have in common for the postmaster.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "scheduler/slots.h"
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
