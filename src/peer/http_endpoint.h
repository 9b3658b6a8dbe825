/*-------------------------------------------------------------------------
 *
 * http_endpoint.h
 *		CouchDB endpoints: a URL, or CouchDB's object form.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_HTTP_ENDPOINT_H
#define DOCREP_PEER_HTTP_ENDPOINT_H

#include "peer/peer.h"

typedef struct DocrepHttpHeader
{
	char	   *name;
	char	   *value;			/* may be a secret */
} DocrepHttpHeader;

/*
 * What an endpoint says.  Where it gives credentials twice, auth counts, then
 * the URL's, then an Authorization header (CouchDB's order).
 */
typedef struct DocrepHttpEndpoint
{
	char	   *scheme;			/* "http" or "https" */
	char	   *host;			/* lower case, without brackets */
	int			port;
	char	   *server;			/* "scheme://host[:port]", no slash at the end */
	char	   *path;			/* of the database as given, percent-encoded: "/a/db",
								 * no slash at the end */
	char	   *root;			/* path without the database's name: "/a" or "" */
	char	   *user;			/* decoded, or NULL */
	char	   *password;
	char	   *iam_api_key;	/* auth.iam.api_key, or NULL */
	char	   *iam_url;		/* auth.iam.url: of the token endpoint; NULL: IBM's */
	DocrepHttpHeader *headers;	/* without those that user and password override */
	int			nheaders;
	char	   *display;		/* without credentials: "https://host/db/" */
	char	   *identity;		/* host, user, non-default port, path, other headers' names
								 * and values but no secret: see docs */
} DocrepHttpEndpoint;

/*
 * Parse a URL or the object form as JSON text.  Malformed: DR400, which repeats
 * nothing of it.  Allocated in CurrentMemoryContext.
 */
extern DocrepHttpEndpoint *docrep_http_endpoint_parse(const char *text);

#endif							/* DOCREP_PEER_HTTP_ENDPOINT_H */
