/*-------------------------------------------------------------------------
 *
 * postgres_versions.c
 *		Former versions of a table of another Postgres server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/postgres_att.h"
#include "peer/postgres_versions.h"
#include "peer/upload.h"
#include "store/wire_format.h"

#define DOING	"bringing former versions"

int
docrep_postgres_versions_have(DocrepPeer *base, const char *const *ids, int n,
							  DocrepChanges *have)
{
	DocrepPgParams params;
	bytea	   *packed;
	const char *data;
	Size		len;

	if (!docrep_postgres_begin_call(base, DOCREP_WIRE_VERSIONS, &params))
		return -1;
	packed = docrep_wire_pack_ids(ids, n);
	docrep_pgparam_bytea(&params, packed);
	data = docrep_postgres_call(base, "SELECT docrep.peer_versions_have($1, $2)", &params,
								DOING, have->cxt, &len);
	pfree(packed);
	return docrep_versions_unpack_have(data, data ? len : 0, have);
}

void
docrep_postgres_versions_read(DocrepPeer *base, const DocrepChanges *have, DocrepVersions *out)
{
	DocrepPgParams params;
	bytea	   *packed;
	const char *data;
	Size		len;

	if (!docrep_postgres_begin_call(base, DOCREP_WIRE_VERSIONS, &params))
	{
		out->row = have->n;
		return;
	}
	packed = docrep_wire_pack_revs(have, false, NULL);
	docrep_pgparam_bytea(&params, packed);
	docrep_pgparam_int(&params, out->row);
	docrep_pgparam_int(&params, out->passed);
	docrep_pgparam_int(&params, out->keep);
	data = docrep_postgres_call(base, "SELECT docrep.peer_versions_fetch($1, $2, $3, $4, $5)",
								&params, DOING, out->docs.cxt, &len);
	pfree(packed);
	docrep_versions_unpack(data ? data : "", data ? len : 0, out);
}

void
docrep_postgres_versions_write(DocrepPeer *base, DocrepVersions *versions, DocrepPeer *source)
{
	DocrepPgParams params;
	bytea	   *packed;
	Size		len;

	docrep_upload_contents(base, &docrep_pgatts_upload_ops, &versions->docs, source);
	(void) docrep_postgres_begin_call(base, DOCREP_WIRE_VERSIONS, &params);
	packed = docrep_versions_pack(versions);
	docrep_pgparam_bytea(&params, packed);
	(void) docrep_postgres_call(base, "SELECT docrep.peer_versions_write($1, $2)", &params,
								DOING, versions->docs.cxt, &len);
	pfree(packed);
	docrep_postgres_wrote(base);
}
