/*-------------------------------------------------------------------------
 *
 * postgres_att.h
 *		Contents of attachments of another server's table, over a connection
 *		of their own.
 *
 * The main connection's answers come in the order of its requests, so a content
 * that is read between two frames of a fetch has no place there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_POSTGRES_ATT_H
#define DOCREP_PEER_POSTGRES_ATT_H

#include "peer/postgres_conn.h"
#include "peer/upload.h"

typedef struct DocrepPgAtts DocrepPgAtts;

/*
 * In the peer's context.  url and table (the uuid's bytes) belong to the
 * peer; it connects when it is needed first.
 */
extern DocrepPgAtts *docrep_pgatts_create(DocrepPeer *peer, const DocrepPgUrl *url,
										  const uint8 *table);

/* The peer is open: is its role restricted in how it may connect? */
extern void docrep_pgatts_restrict(DocrepPgAtts *a, bool restricted);

/* Close the connection, without waiting.  Cannot fail. */
extern void docrep_pgatts_disconnect(DocrepPgAtts *a);

/* Those of a peer: postgres.c. */
extern DocrepPgAtts *docrep_pgatts_of(DocrepPeer *peer);

/* As in DocrepPeerOps. */
extern bool docrep_pgatts_open(DocrepPeer *peer, const DocrepDoc *doc, DocAtt *att);
extern Size docrep_pgatts_read(DocrepPeer *peer, char *buf, Size size);
extern void docrep_pgatts_close(DocrepPeer *peer);

extern const DocrepUploadOps docrep_pgatts_upload_ops;

#endif							/* DOCREP_PEER_POSTGRES_ATT_H */
