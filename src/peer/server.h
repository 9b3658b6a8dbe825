/*-------------------------------------------------------------------------
 *
 * server.h
 *		Foreign servers as named connections: CREATE SERVER ... FOREIGN DATA
 *		WRAPPER docrep, and endpoints "server:database".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_SERVER_H
#define DOCREP_PEER_SERVER_H

#include "peer/peer.h"

/* What a server's options and the user mapping of one role say; NULL, 0: nothing. */
typedef struct DocrepServer
{
	char	   *name;
	char	   *url;			/* as given: a list */
	char	  **urls;
	int			nurls;
	bool		postgres;		/* they are postgresql://, else http:// and https:// */
	char	   *proxy;
	char	   *ssl_ca_file;
	char	   *ssl_cert_file;
	char	   *ssl_key_file;
	char	   *ssl_verify;
	int			connection_timeout;
	int			http_connections;
	int			retries_per_request;
	int			request_timeout;
	int			given;			/* DOCREP_GIVEN_* of these four */
	bool		restricted;		/* its owner is no superuser, nor to be trusted by one */

	/* the user mapping; everything of it may be a secret */
	char	   *user;
	char	   *password;
	char	   *bearer_token;
	char	   *header;			/* lines "Name: value" */
	char	   *iam_api_key;
	char	   *iam_token_url;
	char	   *proxy_user;
	char	   *proxy_password;
} DocrepServer;

/* ---------- server_options.c ---------- */

/*
 * Take options into *server.  Unknown names, wrong values: the SQLSTATEs of
 * foreign data wrappers; no value is repeated that may be a secret.
 */
extern void docrep_server_read_options(DocrepServer *server, List *options, bool mapping);

/* ---------- server.c ---------- */

/* The name of the server in "server:database", folded as SQL does; NULL: malformed. */
extern char *docrep_server_split(const char *text, char **database);

/*
 * Look a server up by its name, with the user mapping of the current role or else
 * PUBLIC's.  In a transaction.  DR404: there is none (missing_ok: NULL); 42501 without USAGE.
 */
extern DocrepServer *docrep_server_get(const char *name, bool missing_ok);

/* The one way of writing the name of a database there, for identities: DR400. */
extern char *docrep_server_database(const DocrepServer *server, const char *database);

/*
 * The endpoint at one of the URLs, credentials included: DR403 if the current role, or
 * the server's owner, may not use it.
 */
extern DocrepEndpoint *docrep_server_endpoint(const DocrepServer *server, int url,
											  const char *database);

/* What the server says beside URL and credentials, where *options says nothing. */
extern void docrep_server_complete_options(const DocrepServer *server,
										   DocrepPeerOptions *options);

/* 0A000 if the server is a Postgres and the options want what only HTTP has. */
extern void docrep_server_check_options(const DocrepServer *server,
										const DocrepPeerOptions *options);

#endif							/* DOCREP_PEER_SERVER_H */
