/*-------------------------------------------------------------------------
 *
 * task_secrets.h
 *		Credentials in replication documents: taken out, and put back in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_SCHEDULER_TASK_SECRETS_H
#define DOCREP_SCHEDULER_TASK_SECRETS_H

#include "postgres.h"

#include "utils/jsonb.h"

/*
 * The document without credentials, itself if it has none.  *secrets: an object
 * with those of its members that had some, as they were; NULL: none had.  Fails
 * on no document, however malformed.
 */
extern Jsonb *docrep_task_strip(Jsonb *document, Jsonb **secrets);

/*
 * The document with credentials from "kept", the secrets of an earlier one, in
 * endpoints and proxies that have none and are the same place.  Itself if
 * nothing was put in.
 */
extern Jsonb *docrep_task_fill(Jsonb *document, Jsonb *kept);

/* DR400 if an endpoint of a stripped document still holds what a peer would take for credentials. */
extern void docrep_task_check_stripped(Jsonb *document);

/* A URL's text without its user information; itself if it has none. */
extern char *docrep_task_strip_url(const char *url);

/* ---------- task_secrets_url.c ---------- */

/* Does it begin with the scheme of a Postgres endpoint? */
extern bool docrep_task_url_is_postgres(const char *text);

/* A Postgres endpoint with the passwords of another one; NULL: that is another place. */
extern char *docrep_task_url_fill(const char *given, const char *kept);

/* Has the URL of a Postgres endpoint a parameter that is a secret? */
extern bool docrep_task_url_has_secret(const char *url);

#endif							/* DOCREP_SCHEDULER_TASK_SECRETS_H */
