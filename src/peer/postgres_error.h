/*-------------------------------------------------------------------------
 *
 * postgres_error.h
 *		What libpq and another server say, as errors of ours.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_POSTGRES_ERROR_H
#define DOCREP_PEER_POSTGRES_ERROR_H

#include "compat.h"
#include "peer/postgres_conn.h"

/* The SQLSTATE to raise for one of another server; NULL: there was no answer. */
extern int	docrep_pgerror_map(const char *state);

/* A text of libpq's in the server's encoding, or a substitute if it shows credentials. */
extern char *docrep_pgerror_redact(const char *text, const char *password);

/*
 * The SQLSTATE in the verbose message of a connection that failed
 * ("FATAL:  28P01: ..."), taken out of it together with the lines that tell
 * of the other server's source code; or NULL, when the other side said nothing.
 * Good until the next call.
 */
extern char *docrep_pgerror_take_state(char *message);

/* Did libpq give a connection up because the server did not want the password? */
extern bool docrep_pgerror_is_no_password(const PGconn *conn);

/* Raise that it did not. */
DOCREP_NORETURN extern void docrep_pgerror_no_password(DocrepPgConn *c);

/* Raise why connecting failed. */
DOCREP_NORETURN extern void docrep_pgerror_connect(DocrepPgConn *c);

#endif							/* DOCREP_PEER_POSTGRES_ERROR_H */
