/*-------------------------------------------------------------------------
 *
 * postgres_local.c
 *		Another Postgres server: local documents, leases.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "peer/postgres_internal.h"
#include "store/errcodes.h"
#include "store/wire_format.h"
#include "utils/builtins.h"

char *
docrep_postgres_get_local(DocrepPeer *base, const char *id)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "reading a local document";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	const char *data;
	char	   *doc = NULL;
	Size		len;

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	(void) docrep_postgres_send(peer, REQUEST_OTHER,
								"SELECT docrep.peer_get_local($1, $2)::pg_catalog.text", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	if (docrep_postgres_value(peer, doing, &data, &len))
	{
		doc = pg_any_to_server(data, (int) len, PG_UTF8);
		if (doc == data)
			doc = pnstrdup(data, len);
	}
	docrep_postgres_end_answer(peer, request, doing);
	return doc;
}

void
docrep_postgres_put_local(DocrepPeer *base, const char *id, const char *doc)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "writing a local document";
	DocrepPgParams params = {0};
	DocrepRequest *request;

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	docrep_pgparam_json(&params, doc);
	(void) docrep_postgres_send(peer, REQUEST_OTHER,
								"SELECT docrep.peer_put_local($1, $2, $3)", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	(void) docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	docrep_postgres_end_answer(peer, request, doing);
}

/* Leases came with a later protocol; the server may be older. */
static void
need_leases(PostgresPeer *peer)
{
	if (peer->protocol < DOCREP_WIRE_LEASES)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("%s has a version of docrep that knows no leases", peer->base.display),
				 errhint("Update docrep there, or leave \"mentor\" out.")));
}

bool
docrep_postgres_swap_local(DocrepPeer *base, const char *id, const char *expected, const char *doc)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "writing a local document";
	DocrepPgParams params = {0};
	DocrepRequest *request;
	const char *data;
	Size		len;
	bool		done;

	need_leases(peer);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	docrep_pgparam_json(&params, expected);
	docrep_pgparam_json(&params, doc);
	(void) docrep_postgres_send(peer, REQUEST_OTHER,
								"SELECT docrep.peer_swap_local($1, $2, $3, $4)", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	done = docrep_postgres_value(peer, doing, &data, &len) && len == 1 && data[0] != 0;
	docrep_postgres_end_answer(peer, request, doing);
	return done;
}

void
docrep_postgres_fence(DocrepPeer *base, const char *id, const char *token)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "fencing the target";
	DocrepPgParams params = {0};
	DocrepRequest *request;

	need_leases(peer);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_text(&params, id);
	docrep_pgparam_text(&params, token);
	(void) docrep_postgres_send(peer, REQUEST_OTHER,
								"SELECT docrep.peer_fence($1, $2, $3)", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	(void) docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	docrep_postgres_end_answer(peer, request, doing);
}
