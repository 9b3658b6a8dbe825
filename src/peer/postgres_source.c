/*-------------------------------------------------------------------------
 *
 * postgres_source.c
 *		Another Postgres server as a source: changes and revisions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/postgres_internal.h"
#include "port/pg_bswap.h"
#include "store/age.h"
#include "store/errcodes.h"
#include "store/wire_format.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Filters came with a later protocol, too. */
static void
need_filters(const PostgresPeer *peer)
{
	if (peer->protocol < DOCREP_WIRE_FILTERS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("docrep on the server of %s is too old for filters", peer->base.display),
				 errhint("Update docrep there.")));
}

char *
docrep_postgres_filter_identity(DocrepPeer *base, const DocrepFilterSpec *filter)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "looking at the filter";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	const char *data;
	char	   *identity;
	Size		len;

	need_filters(peer);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, docrep_filter_spec_to_text(filter));
	(void) docrep_postgres_send(peer, REQUEST_OTHER, "SELECT docrep.peer_filter($1, $2)", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	data = docrep_postgres_copied_value(peer, doing, CurrentMemoryContext, &len);
	identity = pnstrdup(data, len);
	docrep_postgres_end_answer(peer, request, doing);
	return identity;
}

/* The same for changes of a certain age. */
static void
need_delays(const PostgresPeer *peer)
{
	if (peer->protocol < DOCREP_WIRE_DELAYS)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("docrep on the server of %s is too old for delays", peer->base.display),
				 errhint("Update docrep there.")));
}

void
docrep_postgres_send_changes(DocrepPeer *base, const DocrepChangesRequest *request)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *ids = NULL;
	char	   *filter = NULL;

	if (request->doc_ids != NULL)
		ids = docrep_wire_pack_ids(request->doc_ids, request->ndoc_ids);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, request->since);
	docrep_pgparam_int(&params, request->max_rows);
	docrep_pgparam_bigint(&params, (int64) request->max_bytes);
	docrep_pgparam_bool(&params, request->winners_only);
	docrep_pgparam_bool(&params, request->with_docs);
	docrep_pgparam_bytea(&params, ids);
	if (!docrep_filter_is_empty(request->filter))
	{
		need_filters(peer);
		filter = docrep_filter_spec_to_text(request->filter);
	}
	if (request->min_age > 0)
	{
		need_delays(peer);
		docrep_pgparam_text(&params, filter);
		docrep_pgparam_bigint(&params, request->min_age);
		docrep_postgres_send(peer, REQUEST_CHANGES,
							 "SELECT changes, young, due_in, now"
							 " FROM docrep.peer_aged_changes($1, $2, $3, $4, $5, $6, $7, $8, $9)",
							 &params)->sent = GetCurrentTimestamp();
	}
	else if (filter == NULL)
		(void) docrep_postgres_send(peer, REQUEST_CHANGES,
									"SELECT docrep.peer_changes($1, $2, $3, $4, $5, $6, $7)",
									&params);
	else
	{
		docrep_pgparam_text(&params, filter);
		(void) docrep_postgres_send(peer, REQUEST_CHANGES,
									"SELECT docrep.peer_changes($1, $2, $3, $4, $5, $6, $7, $8)",
									&params);
	}
	if (ids != NULL)
		pfree(ids);
}

/* A number of 8 bytes in an answer's only row. */
static int64
int64_value(PGresult *result, int column)
{
	uint64		value = 0;

	if (PQgetlength(result, 0, column) == sizeof(value))
		memcpy(&value, PQgetvalue(result, 0, column), sizeof(value));
	return (int64) pg_ntoh64(value);
}

/*
 * Take an answer to a request with min_age.  What its server's clock says is compared
 * with ours.
 */
static void
recv_aged_changes(PostgresPeer *peer, DocrepRequest *request, const char *doing,
				  DocrepChanges *out)
{
	TimestampTz sent = request->sent;
	PGresult   *result = docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK,
											  peer->base.options.request_timeout, doing);
	Size		len;
	char	   *data;

	if (PQntuples(result) != 1 || PQnfields(result) != 4)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("%s failed at %s", doing, peer->base.display),
				 errdetail("Its answer has not the form that was agreed on.")));
	len = PQgetlength(result, 0, 0);
	data = MemoryContextAlloc(out->cxt, len + 1);
	memcpy(data, PQgetvalue(result, 0, 0), len);
	out->young = Max(int64_value(result, 1), 0);
	out->due_in = Max(int64_value(result, 2), 0);
	out->source_now = int64_value(result, 3);
	out->skew = docrep_clock_skew(out->source_now, sent, GetCurrentTimestamp());
	docrep_postgres_end_answer(peer, request, doing);
	docrep_wire_unpack_changes(data, len, out);
}

void
docrep_postgres_recv_changes(DocrepPeer *base, DocrepChanges *out)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "reading changes";
	DocrepRequest *request = docrep_postgres_oldest(peer, REQUEST_CHANGES);
	const char *data;
	Size		len;

	if (request->sent != 0)
	{
		recv_aged_changes(peer, request, doing, out);
		return;
	}
	data = docrep_postgres_copied_value(peer, doing, out->cxt, &len);
	docrep_postgres_end_answer(peer, request, doing);
	docrep_wire_unpack_changes(data, len, out);
}

/* A server that is a standby, or older than this, keeps nothing for us. */
bool
docrep_postgres_hold_versions(DocrepPeer *base, const char *holder, int64 ms)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "holding versions";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	PGresult   *result;
	bool		held;

	if (peer->protocol < DOCREP_WIRE_VERSIONS)
		return false;
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, holder);
	docrep_pgparam_bigint(&params, ms);
	(void) docrep_postgres_send(peer, REQUEST_OTHER,
								"SELECT docrep.peer_hold_versions($1, $2, $3 * interval '1 ms')"
								" WHERE NOT pg_catalog.pg_is_in_recovery()", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	result = docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	held = PQntuples(result) == 1 && PQnfields(result) == 1 && PQgetlength(result, 0, 0) == 1 &&
		*PQgetvalue(result, 0, 0) != 0;
	docrep_postgres_end_answer(peer, request, doing);
	return held;
}

void
docrep_postgres_send_fetch(DocrepPeer *base, const DocrepChanges *changes, bool latest)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *revs = docrep_wire_pack_revs(changes, true, NULL);

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_bytea(&params, revs);
	docrep_pgparam_bool(&params, latest);
	(void) docrep_postgres_send(peer, REQUEST_FETCH, "SELECT docrep.peer_fetch($1, $2, $3)",
								&params);
	pfree(revs);
}

/* Frames come as rows of their own; what is not read stays at the server. */
bool
docrep_postgres_recv_fetch(DocrepPeer *base, Size max_bytes, DocrepDocs *out)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "fetching revisions";
	DocrepRequest *request = docrep_postgres_oldest(peer, REQUEST_FETCH);
	Size		begin = out->bytes;

	if (!request->begun && !PQsetSingleRowMode(peer->c->conn))
		elog(ERROR, "could not set libpq's single-row mode");
	request->begun = true;
	for (;;)
	{
		TimestampTz deadline = base->options.request_timeout > 0 ?
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										base->options.request_timeout) : 0;
		PGresult   *result;
		char	   *frame;
		int			len;

		if (docrep_pgconn_wait(peer->c, deadline, false) == PGWAIT_TIMEOUT)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_UNAVAILABLE),
					 errmsg("%s failed at %s", doing, base->display),
					 errdetail("It did not answer in time.")));
		result = peer->c->result;
		if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK)
			break;
		if (result == NULL || PQresultStatus(result) != PGRES_SINGLE_TUPLE ||
			PQnfields(result) != 1)
			docrep_pgconn_raise(peer->c, result, doing);
		len = PQgetlength(result, 0, 0);
		frame = MemoryContextAlloc(out->cxt, len + 1);
		memcpy(frame, PQgetvalue(result, 0, 0), len);
		docrep_wire_unpack_docs(frame, len, out);
		if (out->bytes - begin >= max_bytes)
			return true;
	}
	docrep_postgres_end_answer(peer, request, doing);
	return false;
}
