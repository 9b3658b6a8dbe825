/*-------------------------------------------------------------------------
 *
 * docrep.c
 *		The module: settings, shared memory, hooks.  Nothing else.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "filter/filter.h"
#include "filter/user_context.h"
#include "filter/validate.h"
#include "fmgr.h"
#include "js/js.h"
#include "miscadmin.h"
#include "peer/peer.h"
#include "replicator/replication.h"
#include "replicator/lease.h"
#include "scheduler/jobs.h"
#include "scheduler/node_name.h"
#include "storage/ipc.h"
#include "store/preload.h"
#include "store/revisions.h"
#include "store/seqs.h"
#include "store/tombstones.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

/*
 * Leases that this server's tasks have to do with at a time; if there are more, some
 * change hands later than they could.
 */
#define MAX_LEASES		4096

void		_PG_init(void);

static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
request_shmem(void)
{
	docrep_seqs_request_shmem(docrep_max_jobs);
	docrep_scheduler_request_shmem();
	docrep_lease_request_shmem(MAX_LEASES);
}

#ifdef DOCREP_HAVE_SHMEM_REQUEST_HOOK
static shmem_request_hook_type prev_shmem_request_hook = NULL;

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	request_shmem();
}
#endif

static void
shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	docrep_seqs_startup_shmem();
	docrep_scheduler_startup_shmem();
	docrep_lease_startup_shmem(MAX_LEASES);
}

/*
 * Without shared_preload_libraries the functions that need no shared memory
 * work (types, a restore's DDL); the others say what to set.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;

	docrep_preloaded = true;
	docrep_js_define_gucs();
	docrep_seqs_define_gucs();
	docrep_tombstones_define_gucs();
	docrep_revisions_define_gucs();
	docrep_peer_define_gucs();
	docrep_user_context_define_gucs();
	docrep_validate_define_gucs();
	docrep_replicator_define_gucs();
	docrep_scheduler_define_gucs();
	docrep_node_name_define_gucs();
	MarkGUCPrefixReserved("docrep");

#ifdef DOCREP_HAVE_SHMEM_REQUEST_HOOK
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
#else
	request_shmem();
#endif
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;

	docrep_seqs_register_callbacks();
	docrep_filter_install_hooks();
	docrep_scheduler_install_hooks();
	docrep_scheduler_register_launcher();
}
