/*-------------------------------------------------------------------------
 *
 * local_versions.c
 *		Former versions of a document table of this database.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/local.h"
#include "store/serve.h"
#include "store/wire_format.h"
#include "utils/acl.h"

/* The work of one transaction. */
typedef struct VersionsWork
{
	const char *const *ids;
	int			n;
	DocrepChanges *have;		/* filled, or asked about */
	DocrepVersions *versions;
	int			keep;
} VersionsWork;

static void
look(LocalPeer *peer, void *arg)
{
	VersionsWork *work = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	work->keep = docrep_versions_have(table, work->ids, work->n, work->have);
	docrep_table_close(table, NoLock);
}

int
docrep_local_versions_have(DocrepPeer *base, const char *const *ids, int n, DocrepChanges *have)
{
	VersionsWork work = {.ids = ids, .n = n, .have = have};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: looking for former versions",
								look, &work);
	return work.keep;
}

static void
read_versions(LocalPeer *peer, void *arg)
{
	VersionsWork *work = arg;
	DocTable   *table = docrep_serve_open(&peer->table, AccessShareLock, ACL_SELECT);

	docrep_versions_read(table, work->have, DOCREP_WIRE_FRAME, work->versions);
	docrep_table_close(table, NoLock);
}

void
docrep_local_versions_read(DocrepPeer *base, const DocrepChanges *have, DocrepVersions *out)
{
	VersionsWork work = {.have = unconstify(DocrepChanges *, have), .versions = out};

	docrep_local_in_transaction((LocalPeer *) base, "docrep: reading former versions",
								read_versions, &work);
}

static void
write_versions(LocalPeer *peer, void *arg)
{
	VersionsWork *work = arg;

	docrep_serve_versions_write(&peer->table, work->versions);
}

void
docrep_local_versions_write(DocrepPeer *base, DocrepVersions *versions, DocrepPeer *source)
{
	VersionsWork work = {.versions = versions};

	docrep_upload_contents(base, &docrep_local_upload_ops, &versions->docs, source);
	docrep_local_in_transaction((LocalPeer *) base, "docrep: keeping former versions",
								write_versions, &work);
}
