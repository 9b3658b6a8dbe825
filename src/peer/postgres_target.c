/*-------------------------------------------------------------------------
 *
 * postgres_target.c
 *		Another Postgres server as a target.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/postgres_internal.h"
#include "store/wire_format.h"

void
docrep_postgres_send_diff(DocrepPeer *base, DocrepChanges *changes)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *revs = docrep_wire_pack_revs(changes, false, NULL);

	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_bytea(&params, revs);
	(void) docrep_postgres_send(peer, REQUEST_DIFF, "SELECT docrep.peer_diff($1, $2)", &params);
	pfree(revs);
}

void
docrep_postgres_recv_diff(DocrepPeer *base, DocrepChanges *changes)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "comparing revisions";
	DocrepRequest *request = docrep_postgres_oldest(peer, REQUEST_DIFF);
	const char *data;
	Size		len;

	if (!docrep_postgres_value(peer, doing, &data, &len))
		len = 0;
	docrep_wire_unpack_missing(data, len, changes);
	docrep_postgres_end_answer(peer, request, doing);
}

void
docrep_postgres_send_write(DocrepPeer *base, DocrepDocs *docs, DocrepPeer *source,
						   const DocrepWriteOrigin *origin, const char *local_id,
						   const char *local_doc)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	DocrepPgParams params = {0};
	bytea	   *packed;

	docrep_upload_contents(base, &docrep_pgatts_upload_ops, docs, source);
	packed = docrep_wire_pack_docs(docs, peer->protocol >= DOCREP_WIRE_ORIGINS);
	docrep_pgparam_uuid(&params, peer->table);
	docrep_pgparam_bytea(&params, packed);
	docrep_pgparam_int(&params, ++peer->writes);
	docrep_pgparam_text(&params, origin ? origin->replication_id : NULL);
	docrep_pgparam_text(&params, origin ? origin->source : NULL);
	docrep_pgparam_text(&params, local_id);
	docrep_pgparam_text(&params, local_doc);
	(void) docrep_postgres_send(peer, REQUEST_WRITE,
								"SELECT docrep.peer_write($1, $2, $3, $4, $5, $6, $7)", &params);
	pfree(packed);
}

void
docrep_postgres_recv_write(DocrepPeer *base, DocrepDocs *docs)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "writing documents";
	DocrepRequest *request = docrep_postgres_oldest(peer, REQUEST_WRITE);
	const char *data;
	Size		len;

	data = docrep_postgres_copied_value(peer, doing, docs->cxt, &len);
	docrep_postgres_end_answer(peer, request, doing);
	docrep_wire_unpack_written(data, len, docs);
}

void
docrep_postgres_flush(DocrepPeer *base)
{
	PostgresPeer *peer = (PostgresPeer *) base;
	const char *doing = "flushing";
	DocrepPgParams params = {0};
	DocrepRequest *request;

	if (peer->writes == 0 && !peer->unflushed)
		return;
	(void) docrep_postgres_send(peer, REQUEST_OTHER, "SELECT docrep.peer_flush()", &params);
	request = docrep_postgres_oldest(peer, REQUEST_OTHER);
	(void) docrep_pgconn_expect(peer->c, PGRES_TUPLES_OK, base->options.request_timeout, doing);
	docrep_postgres_end_answer(peer, request, doing);
}
