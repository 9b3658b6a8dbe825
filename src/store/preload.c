/*-------------------------------------------------------------------------
 *
 * preload.c
 *		Did the library come in through shared_preload_libraries?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/preload.h"

bool		docrep_preloaded = false;

void
docrep_require_preload(void)
{
	if (!docrep_preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("docrep must be loaded through shared_preload_libraries"),
				 errdetail("Its changes feed needs shared memory that only a server start can set up."),
				 errhint("Add docrep to shared_preload_libraries in postgresql.conf and restart the server.")));
}
