/*-------------------------------------------------------------------------
 *
 * socket_options.h
 *		socket_options of replication documents, as CouchDB writes them:
 *		"[{keepalive, true}, {nodelay, false}]".
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_SOCKET_OPTIONS_H
#define DOCREP_PEER_SOCKET_OPTIONS_H

#include "postgres.h"

/* What is said about sockets; -1: nothing. */
typedef struct DocrepSocketOptions
{
	int			keepalive;
	int			nodelay;
	int			sndbuf;			/* bytes */
	int			recbuf;
} DocrepSocketOptions;

/*
 * Read a list (NULL: nothing is said).  DR400 on what is no such list, names an
 * option that is not known, or gives it a wrong value.
 */
extern void docrep_socket_options_parse(const char *text, DocrepSocketOptions *out);

/* Set them at a TCP socket.  Raises nothing: a system may know better. */
extern void docrep_socket_options_apply(const DocrepSocketOptions *options, int fd);

#endif							/* DOCREP_PEER_SOCKET_OPTIONS_H */
