/*-------------------------------------------------------------------------
 *
 * keeper_task.c
 *		What a keeper has to say of one task: of its job, or why it has none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/foreign.h"
#include "peer/server.h"
#include "replicator/user_ctx.h"
#include "scheduler/keeper.h"
#include "utils/guc.h"
#include "utils/syscache.h"

KeeperReport *
docrep_keeper_add_report(KeeperLook *look, const KeeperTask *task, const char *shown, const char *state,
						 const char *reason)
{
	KeeperReport *report = palloc0(sizeof(KeeperReport));

	report->id = task->id;
	report->version = task->version;
	report->replication_id = task->replication_id;
	report->shown = shown;
	report->state = state;
	report->reason = reason;
	report->stats = task->stats;
	look->reports = lappend(look->reports, report);
	return report;
}

/* The name of a foreign server that an endpoint names and that is not there any more, or NULL. */
static char *
lost_server(const char *endpoint)
{
	char	   *database;
	char	   *name;

	if (endpoint == NULL || strstr(endpoint, "://") != NULL)
		return NULL;
	name = docrep_server_split(endpoint, &database);
	return name && !OidIsValid(get_foreign_server_oid(name, true)) ? name : NULL;
}

/* Is there such a role (still)? */
static bool
role_exists(Oid role)
{
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
}

const char *
docrep_keeper_lost_right(const KeeperTask *task)
{
	if (!role_exists(task->role) || !role_exists(task->owner))
		return "the role that the task belongs to does not exist any more";
	if (!docrep_role_may_become(task->owner, task->role))
		return "the owner of the task may not SET ROLE to the role that it runs as any more";
	return NULL;
}

/* Why a task whose run has failed can never go on; NULL: it may. */
static char *
lost_cause(const KeeperTask *task)
{
	char	   *server = lost_server(task->source);

	if (server == NULL)
		server = lost_server(task->target);
	return server ? psprintf("server \"%s\" does not exist any more", server) : NULL;
}

void
docrep_keeper_report_job(KeeperLook *look, const KeeperTask *task, const KeeperJob *job)
{
	KeeperReport *report;
	char	   *lost = job->failing && !job->reported ? lost_cause(task) : NULL;

	if (lost)
	{
		docrep_keeper_add_report(look, task, TASK_FAILED, TASK_FAILED, lost);
		docrep_job_stop(job->ref, JOB_STOP_CANCELLED, JOB_GRACE);
		return;
	}
	if (job->reported && task->shown != NULL)
		return;
	report = docrep_keeper_job_report(task, job);
	if (report)
		look->reports = lappend(look->reports, report);
	else
		docrep_job_reported(job->ref, job->state, job->start_no);
}

void
docrep_keeper_cannot_submit(KeeperLook *look, const KeeperTask *task, const char *reason)
{
	if (task->state == NULL)
		look->told = false;
	docrep_keeper_set_error(task->id, task->version, reason);
	if (task->shown == NULL || strcmp(task->shown, TASK_ERROR) != 0 ||
		task->reason == NULL || strcmp(task->reason, reason) != 0)
		docrep_keeper_add_report(look, task, TASK_ERROR, TASK_ERROR, reason);
}
