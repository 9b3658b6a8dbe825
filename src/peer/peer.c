/*-------------------------------------------------------------------------
 *
 * peer.c
 *		Making a peer from an endpoint, and the setting that limits which.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "peer/couchdb_source.h"
#include "peer/peers.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define DEFAULT_CONNECTION_TIMEOUT	30000

/* CouchDB itself takes 8 MB unless it is told otherwise. */
#define DEFAULT_DOCUMENT_SIZE		(32 * 1024)
#define LARGEST_DOCUMENT_SIZE		(255 * 1024)

int			docrep_max_document_size = DEFAULT_DOCUMENT_SIZE;

DocrepPeer *
docrep_peer_make(const DocrepEndpoint *endpoint, const DocrepPeerOptions *options,
				 MemoryContext parent)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "docrep peer", ALLOCSET_DEFAULT_SIZES);
	DocrepPeer *peer;

	if (strcmp(endpoint->kind, "local") == 0)
		peer = docrep_local_peer_make(endpoint, cxt);
	else if (strcmp(endpoint->kind, "postgres") == 0)
		peer = docrep_postgres_peer_make(endpoint, cxt);
	else if (strcmp(endpoint->kind, "couchdb") == 0)
		peer = docrep_couchdb_peer_make(endpoint, cxt);
	else
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("peers of kind \"%s\" are not supported", endpoint->kind)));
	peer->cxt = cxt;
	peer->options = *options;
	if (peer->options.connection_timeout <= 0)
		peer->options.connection_timeout = DEFAULT_CONNECTION_TIMEOUT;
	peer->display = MemoryContextStrdup(cxt, endpoint->display);
	peer->identity = MemoryContextStrdup(cxt, endpoint->identity);
	return peer;
}

int
docrep_peer_option_given(const char *name)
{
	if (strcmp(name, "connection_timeout") == 0)
		return DOCREP_GIVEN_CONNECTION_TIMEOUT;
	if (strcmp(name, "request_timeout") == 0)
		return DOCREP_GIVEN_REQUEST_TIMEOUT;
	if (strcmp(name, "http_connections") == 0)
		return DOCREP_GIVEN_HTTP_CONNECTIONS;
	if (strcmp(name, "retries_per_request") == 0)
		return DOCREP_GIVEN_RETRIES_PER_REQUEST;
	return 0;
}

void
docrep_peer_define_gucs(void)
{
	DefineCustomIntVariable("docrep.max_document_size",
							"Largest document, as JSON, that is read from a CouchDB.",
							"Larger ones are kept as rejected, without their text.",
							&docrep_max_document_size,
							DEFAULT_DOCUMENT_SIZE, 64, LARGEST_DOCUMENT_SIZE,
							PGC_SUSET, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("docrep.allowed_hosts",
							   "Hosts that replications of ordinary roles may connect to.",
							   "A comma-separated list of names (*.example.com too), addresses and "
							   "networks (10.0.0.0/8). Empty: any. Superusers are not limited.",
							   &docrep_allowed_hosts,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("docrep.denied_hosts",
							   "Hosts that no replication may connect to.",
							   "A list as docrep.allowed_hosts, compared with every address that "
							   "is connected to. It counts for superusers, too.",
							   &docrep_denied_hosts,
							   "169.254.0.0/16, fe80::/10, fd00:ec2::254, 100.100.100.200, "
							   "168.63.129.16, 64:ff9b::a9fe:0/112, 0.0.0.0/8, ::",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("docrep.ssl_ca_file",
							   "File of the CA certificates that CouchDB peers over TLS are "
							   "verified with.",
							   "Empty: those of the system.",
							   &docrep_ssl_ca_file,
							   "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);
}
