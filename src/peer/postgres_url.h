/*-------------------------------------------------------------------------
 *
 * postgres_url.h
 *		Endpoints in other Postgres servers: postgresql://...#table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_POSTGRES_URL_H
#define DOCREP_PEER_POSTGRES_URL_H

#include "postgres.h"

#include "peer/socket_options.h"

typedef struct DocrepPgUrl
{
	int			n;				/* of the connection parameters that were given */
	char	  **keywords;
	char	  **values;
	char	   *table;			/* its canonical name */
	char	   *display;		/* without password and parameters */
	char	   *identity;		/* for the replication id */
	bool		certificate;	/* a superuser has named the client certificate */
	DocrepSocketOptions socket_options;
} DocrepPgUrl;

/* Read a URL into CurrentMemoryContext.  DR400 tells no part of it. */
extern DocrepPgUrl *docrep_pgurl_parse(const char *text);

/* The value of a connection parameter, or NULL. */
extern const char *docrep_pgurl_get(const DocrepPgUrl *url, const char *keyword);

/* Take over what libpq has by other names, in the current context. */
struct DocrepPeerOptions;
extern void docrep_pgurl_take_options(DocrepPgUrl *url, const struct DocrepPeerOptions *options);

/* Set a connection parameter, in the current context. */
extern void docrep_pgurl_set(DocrepPgUrl *url, const char *keyword, const char *value);

/*
 * Check what roles that are no superusers may not do: DR403.  libpq acts as
 * the server's operating system user, whose sockets, files and tickets are
 * not theirs.
 */
extern void docrep_pgurl_restrict(const DocrepPgUrl *url);

#endif							/* DOCREP_PEER_POSTGRES_URL_H */
