/*-------------------------------------------------------------------------
 *
 * io.h
 *		One wait for everything that a process waits for.
 *
 * A worker talks to two peers over several sockets.  Whoever waits, for
 * whichever of them, waits in docrep_io_wait, which serves all: what one peer
 * sends is taken in while the other is waited for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_IO_H
#define DOCREP_PEER_IO_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/ilist.h"

/* A socket and what it waits for: WL_SOCKET_READABLE, WL_SOCKET_WRITEABLE. */
typedef struct DocrepIoSocket
{
	pgsocket	fd;
	uint32		events;
} DocrepIoSocket;

typedef struct DocrepIo DocrepIo;

/* Something with sockets: a libpq connection, all of a peer's HTTP calls. */
struct DocrepIo
{
	dlist_node	link;
	bool		registered;

	/* Fill at most max sockets that matter now; returns their number.  *timeout,
	 * in ms, may be lowered (to 0 or more; -1: none). */
	int			(*sockets) (DocrepIo *io, DocrepIoSocket *sockets, int max, long *timeout);

	/* A socket is ready (events), or PGINVALID_SOCKET: the time is up.  Must not raise. */
	void		(*ready) (DocrepIo *io, pgsocket fd, uint32 events);
};

extern void docrep_io_register(DocrepIo *io);
extern void docrep_io_unregister(DocrepIo *io); /* no-op if it is not registered */

/*
 * Say that a descriptor is closed, or may be closed before the next wait.  The
 * kernel's set of sockets is kept from wait to wait, and another socket
 * may get the number.  Cannot fail.  docrep_io_unregister implies it for all.
 */
extern void docrep_io_forget(pgsocket fd);

/*
 * Wait until something happened at any socket, or the latch was set, or the
 * deadline is there (0: none), and serve what happened.  Handles interrupts.
 * Returns WL_LATCH_SET, WL_TIMEOUT (of the deadline), or 0: look again.
 */
extern int	docrep_io_wait(TimestampTz deadline);

/* Serve what can be served without waiting. */
extern void docrep_io_pump(void);

#endif							/* DOCREP_PEER_IO_H */
