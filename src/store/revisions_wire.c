/*-------------------------------------------------------------------------
 *
 * revisions_wire.c
 *		The SQL functions by which former versions travel, and their message.
 *
 * A message is the row and the number to go on from, a byte that says whether
 * versions are kept at all, the number of versions, for each the time when it
 * was replaced and its kind, and the documents in the form of wire_format.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "port/pg_bswap.h"
#include "store/errcodes.h"
#include "store/fence.h"
#include "store/revisions_peer.h"
#include "store/serve.h"
#include "store/wire_format.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

/* bytes of a version's facts */
#define FACTS_SIZE		9

PG_FUNCTION_INFO_V1(docrep_peer_versions_have);
PG_FUNCTION_INFO_V1(docrep_peer_versions_fetch);
PG_FUNCTION_INFO_V1(docrep_peer_versions_write);

bytea *
docrep_versions_pack(const DocrepVersions *versions)
{
	bytea	   *docs = docrep_wire_pack_docs(&versions->docs, DOCREP_WIRE_PROTOCOL);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint32(&buf, versions->row);
	pq_sendint32(&buf, versions->passed);
	pq_sendbyte(&buf, versions->kept);
	pq_sendint32(&buf, versions->docs.n);
	for (int i = 0; i < versions->docs.n; i++)
	{
		pq_sendint64(&buf, versions->facts[i].replaced_at);
		pq_sendbyte(&buf, versions->facts[i].kind);
	}
	pq_sendbytes(&buf, VARDATA_ANY(docs), VARSIZE_ANY_EXHDR(docs));
	pfree(docs);
	return pq_endtypsend(&buf);
}

DOCREP_NORETURN static void
malformed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("a peer's message of former versions is malformed")));
}

/* Is this a kind of versions? */
static bool
is_kind(char kind)
{
	return kind == KEPT_WINNER || kind == KEPT_CONFLICT || kind == KEPT_PEER_WINNER ||
		kind == KEPT_PEER_CONFLICT;
}

void
docrep_versions_unpack(const char *data, Size len, DocrepVersions *out)
{
	StringInfoData buf;
	int			n;

	buf.data = unconstify(char *, data);
	buf.len = buf.maxlen = (int) len;
	buf.cursor = 0;
	if (len < 13)
		malformed();
	out->row = (int) pq_getmsgint(&buf, 4);
	out->passed = (int) pq_getmsgint(&buf, 4);
	out->kept = pq_getmsgbyte(&buf) != 0;
	n = (int) pq_getmsgint(&buf, 4);
	if (n < 0 || n > (buf.len - buf.cursor) / FACTS_SIZE || out->row < 0 || out->passed < 0)
		malformed();
	out->facts = MemoryContextAllocHuge(out->docs.cxt, Max(n, 1) * sizeof(VersionFacts));
	for (int i = 0; i < n; i++)
	{
		out->facts[i].replaced_at = pq_getmsgint64(&buf);
		out->facts[i].kind = (char) pq_getmsgbyte(&buf);
		if (!is_kind(out->facts[i].kind) || !IS_VALID_TIMESTAMP(out->facts[i].replaced_at))
			malformed();
	}
	docrep_wire_unpack_docs(data + buf.cursor, len - buf.cursor, &out->docs);
	if (out->docs.n != n)
		malformed();
}

bytea *
docrep_versions_pack_have(int keep, const DocrepChanges *have)
{
	bytea	   *revs = docrep_wire_pack_revs(have, false, NULL);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint32(&buf, keep);
	pq_sendbytes(&buf, VARDATA_ANY(revs), VARSIZE_ANY_EXHDR(revs));
	pfree(revs);
	return pq_endtypsend(&buf);
}

int
docrep_versions_unpack_have(const char *data, Size len, DocrepChanges *have)
{
	uint32		keep;

	if (len < sizeof(keep))
		malformed();
	memcpy(&keep, data, sizeof(keep));
	docrep_wire_unpack_revs(data + sizeof(keep), len - sizeof(keep), have);
	return (int) pg_ntoh32(keep);
}

/* peer_versions_have(tbl uuid, ids bytea) returns bytea: how many the table keeps, and which */
Datum
docrep_peer_versions_have(PG_FUNCTION_ARGS)
{
	bytea	   *packed = PG_GETARG_BYTEA_PP(1);
	DocTable   *table;
	DocrepChanges have;
	const char **ids;
	int			n;
	int			keep;

	ids = docrep_wire_unpack_ids(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed), &n);
	docrep_changes_init(&have, CurrentMemoryContext);
	table = docrep_serve_open(PG_GETARG_UUID_P(0), AccessShareLock, ACL_SELECT);
	keep = docrep_versions_have(table, ids, n, &have);
	docrep_table_close(table, NoLock);
	PG_RETURN_BYTEA_P(docrep_versions_pack_have(keep, &have));
}

/* peer_versions_fetch(tbl uuid, have bytea, first int, passed int, keep int) returns bytea */
Datum
docrep_peer_versions_fetch(PG_FUNCTION_ARGS)
{
	bytea	   *packed = PG_GETARG_BYTEA_PP(1);
	DocTable   *table;
	DocrepChanges have;
	DocrepVersions versions;

	docrep_changes_init(&have, CurrentMemoryContext);
	docrep_wire_unpack_revs(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed), &have);
	docrep_versions_init(&versions, CurrentMemoryContext);
	versions.row = PG_GETARG_INT32(2);
	versions.passed = PG_GETARG_INT32(3);
	versions.keep = PG_GETARG_INT32(4);
	if (versions.row < 0 || versions.passed < 0)
		malformed();
	table = docrep_serve_open(PG_GETARG_UUID_P(0), AccessShareLock, ACL_SELECT);
	docrep_versions_read(table, &have, DOCREP_WIRE_FRAME, &versions);
	docrep_table_close(table, NoLock);
	PG_RETURN_BYTEA_P(docrep_versions_pack(&versions));
}

/* peer_versions_write(tbl uuid, versions bytea) returns void */
Datum
docrep_peer_versions_write(PG_FUNCTION_ARGS)
{
	bytea	   *packed = PG_GETARG_BYTEA_PP(1);
	DocrepVersions versions;

	docrep_versions_init(&versions, CurrentMemoryContext);
	docrep_versions_unpack(VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed), &versions);
	for (int i = 0; i < versions.docs.n; i++)
		versions.docs.docs[i].atts_at_target = true;	/* the files it names are this table's */
	docrep_serve_versions_write(PG_GETARG_UUID_P(0), &versions);
	PG_RETURN_VOID();
}
