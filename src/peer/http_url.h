/*-------------------------------------------------------------------------
 *
 * http_url.h
 *		URLs of CouchDB endpoints, taken apart and normalized.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_HTTP_URL_H
#define DOCREP_PEER_HTTP_URL_H

#include "compat.h"
#include "peer/http_endpoint.h"

/* Does a text begin with http:// or https://, in whatever case? */
extern bool docrep_http_is_url(const char *text);

extern int	docrep_http_default_port(const char *scheme);

/* Fill in what a URL (UTF-8) says: DR400 if it is malformed. */
extern void docrep_http_url_parse(DocrepHttpEndpoint *e, const char *url);

/* DR400 unless it can be the URL of a token endpoint. */
extern void docrep_http_check_token_url(const char *url);

/* DR400 unless user and password can be sent. */
extern void docrep_http_check_credentials(const char *user, const char *password);

/* Percent-encoding, as docrep_http_escape. */
extern char *docrep_http_encode(const char *text);

/* The first 16 hexadecimal digits of a text's SHA-256. */
extern char *docrep_http_digest(const char *text);

/* http_endpoint.c: DR400 unless a header can be given by an endpoint. */
extern void docrep_http_check_header(const char *name, const char *value);

/* http_endpoint.c: raise DR400; "what" shows nothing that may be a secret. */
DOCREP_NORETURN extern void docrep_http_malformed(const char *what);

/*
 * Any URL's host without brackets, and what a proxy's URL says of a password, decoded: as libcurl
 * reads them, since it is libcurl that connects.  NULL: not a URL, or it has none.
 */
extern char *docrep_http_url_host(const char *url);
extern char *docrep_http_url_password(const char *url);

#endif							/* DOCREP_PEER_HTTP_URL_H */
