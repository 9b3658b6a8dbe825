/*-------------------------------------------------------------------------
 *
 * io.c
 *		One wait for everything that a process waits for.
 *
 * The WaitEventSet is kept while its sockets live, since making one costs a
 * system call a socket, and a connection that is used again and again would
 * leave and come back with every request.  So the set may hold sockets that
 * nobody waits for just now: an event of such a one has the set made anew,
 * as has a descriptor that was closed (docrep_io_forget).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <poll.h>

#include "compat.h"
#include "miscadmin.h"
#include "peer/io.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* events of the set that are not sockets: latch, postmaster's death */
#define NOT_SOCKETS		2

/* how many events one wait may bring */
#define MAX_EVENTS		32

static dlist_head ios = DLIST_STATIC_INIT(ios);

/* What is wanted in this lap: sockets and who asked for them. */
typedef struct Wanted
{
	DocrepIo   *io;
	DocrepIoSocket socket;
} Wanted;

static Wanted *wanted = NULL;
static DocrepIoSocket *scratch = NULL;
static int	nwanted = 0;
static int	max_wanted = 0;
static bool collecting = false;

/* What the kernel has been told, in the order of the set's positions. */
static WaitEventSet *set = NULL;
static DocrepIoSocket *in_set = NULL;
static int	nin_set = 0;
static int	max_in_set = 0;
static bool set_is_stale = true;

/* ---------- who takes part ---------- */

void
docrep_io_register(DocrepIo *io)
{
	if (io->registered)
		return;
	dlist_push_tail(&ios, &io->link);
	io->registered = true;
}

void
docrep_io_unregister(DocrepIo *io)
{
	if (!io->registered)
		return;
	dlist_delete(&io->link);
	io->registered = false;
	set_is_stale = true;
	for (int i = 0; i < nwanted; i++)
		if (wanted[i].io == io)
			wanted[i].io = NULL;
}

void
docrep_io_forget(pgsocket fd)
{
	for (int i = 0; i < nin_set; i++)
		if (in_set[i].fd == fd)
			set_is_stale = true;
	/* what is collected just now is newer than what is said here */
	for (int i = 0; i < nwanted && !collecting; i++)
		if (wanted[i].socket.fd == fd)
			wanted[i].io = NULL;
}

/* ---------- collecting ---------- */

/* Make room for more sockets. */
static void
enlarge_wanted(void)
{
	int			n = max_wanted == 0 ? 32 : max_wanted * 2;

	if (wanted == NULL)
	{
		wanted = MemoryContextAlloc(TopMemoryContext, n * sizeof(Wanted));
		scratch = MemoryContextAlloc(TopMemoryContext, n * sizeof(DocrepIoSocket));
	}
	else
	{
		wanted = repalloc(wanted, n * sizeof(Wanted));
		scratch = repalloc(scratch, n * sizeof(DocrepIoSocket));
	}
	max_wanted = n;
}

/* Ask everybody for sockets; returns the shortest timeout in ms, -1: none. */
static long
collect(void)
{
	long		timeout = -1;
	dlist_iter	iter;

	nwanted = 0;
	if (max_wanted == 0)
		enlarge_wanted();
	collecting = true;
	dlist_foreach(iter, &ios)
	{
		DocrepIo   *io = dlist_container(DocrepIo, link, iter.cur);
		long		mine = -1;
		int			n;

		while ((n = io->sockets(io, scratch, max_wanted - nwanted, &mine)) >=
			   max_wanted - nwanted)
			enlarge_wanted();
		for (int i = 0; i < n; i++)
		{
			wanted[nwanted].io = io;
			wanted[nwanted++].socket = scratch[i];
		}
		if (mine >= 0 && (timeout < 0 || mine < timeout))
			timeout = mine;
	}
	collecting = false;
	return timeout;
}

/* All that is wanted of a socket; two parties may want the same. */
static uint32
wanted_events(pgsocket fd)
{
	uint32		events = 0;

	for (int i = 0; i < nwanted; i++)
		if (wanted[i].io != NULL && wanted[i].socket.fd == fd)
			events |= wanted[i].socket.events;
	return events;
}

/* ---------- the set ---------- */

/* The place of a socket in the set, or -1. */
static int
find_in_set(pgsocket fd)
{
	for (int i = 0; i < nin_set; i++)
		if (in_set[i].fd == fd)
			return i;
	return -1;
}

/* Start again with an empty set, large enough for what is wanted and some more. */
static void
renew_set(void)
{
	int			n = Max(nwanted * 2, 16);

	set_is_stale = true;
	nin_set = 0;
	if (set != NULL)
	{
		WaitEventSet *old = set;

		set = NULL;
		FreeWaitEventSet(old);
	}
	if (n > max_in_set)
	{
		if (in_set != NULL)
			pfree(in_set);
		in_set = NULL;
		max_in_set = 0;
		in_set = MemoryContextAlloc(TopMemoryContext, n * sizeof(DocrepIoSocket));
		max_in_set = n;
	}
	set = docrep_create_wait_set(max_in_set + NOT_SOCKETS);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
}

/* Add what is wanted and not in the set; false: it is full. */
static bool
add_missing(void)
{
	for (int i = 0; i < nwanted; i++)
	{
		pgsocket	fd = wanted[i].socket.fd;

		if (find_in_set(fd) >= 0)
			continue;
		if (nin_set == max_in_set)
			return false;
		in_set[nin_set].fd = fd;
		in_set[nin_set].events = wanted_events(fd);
		AddWaitEventToSet(set, in_set[nin_set].events, fd, NULL, NULL);
		nin_set++;
	}
	return true;
}

/*
 * Make the set wait for what is wanted.  What nobody wants now stays in it as
 * readable only: quiet, as long as its connection is.
 */
static void
update_set(void)
{
	bool		stale = set_is_stale || set == NULL;

	/* an error on the way leaves a set that is not used again */
	set_is_stale = true;
	if (stale)
		renew_set();
	for (int i = 0; i < nin_set; i++)
	{
		uint32		events = wanted_events(in_set[i].fd);

		if (events == 0)
			events = WL_SOCKET_READABLE;
		if (events != in_set[i].events)
		{
			ModifyWaitEvent(set, i + NOT_SOCKETS, events, NULL);
			in_set[i].events = events;
		}
	}
	if (!add_missing())
	{
		renew_set();
		(void) add_missing();
	}
	set_is_stale = false;
}

/* ---------- serving ---------- */

/* Tell those who wait for a socket.  What they do may end others of them. */
static void
serve(pgsocket fd, uint32 events)
{
	bool		known = false;

	for (int i = 0; i < nwanted; i++)
	{
		uint32		mine = wanted[i].socket.events & events;

		if (wanted[i].io == NULL || wanted[i].socket.fd != fd)
			continue;
		known = true;
		if (mine != 0)
			wanted[i].io->ready(wanted[i].io, fd, mine);
	}
	if (!known)
		set_is_stale = true;
}

/* Tell everybody that time has passed. */
static void
serve_timeouts(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &ios)
	{
		DocrepIo   *io = dlist_container(DocrepIo, link, iter.cur);

		io->ready(io, PGINVALID_SOCKET, 0);
	}
}

/* The earlier of a timeout in ms (-1: none) and a deadline (0: none), in ms. */
static long
until(long timeout, TimestampTz deadline)
{
	long		left;

	if (deadline == 0)
		return timeout;
	left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
	return timeout < 0 || left < timeout ? left : timeout;
}

int
docrep_io_wait(TimestampTz deadline)
{
	WaitEvent	events[MAX_EVENTS];
	pgsocket	fds[MAX_EVENTS];
	long		timeout = collect();
	bool		latch = false;
	int			n;

	update_set();
	n = WaitEventSetWait(set, until(timeout, deadline), events, MAX_EVENTS, PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			latch = true;
		fds[i] = events[i].events & WL_LATCH_SET ? PGINVALID_SOCKET : events[i].fd;
	}
	for (int i = 0; i < n; i++)
		if (fds[i] != PGINVALID_SOCKET)
			serve(fds[i], events[i].events);
	if (timeout >= 0)
		serve_timeouts();

	if (latch)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		return WL_LATCH_SET;
	}
	if (deadline != 0 && GetCurrentTimestamp() >= deadline)
		return WL_TIMEOUT;
	return 0;
}

void
docrep_io_pump(void)
{
	struct pollfd fds[64];
	int			n = 0;

	if (dlist_is_empty(&ios))
		return;
	(void) collect();
	for (int i = 0; i < nwanted && n < lengthof(fds); i++)
	{
		uint32		events = wanted[i].socket.events;

		fds[n].fd = wanted[i].socket.fd;
		fds[n].events = (events & WL_SOCKET_READABLE ? POLLIN : 0) |
			(events & WL_SOCKET_WRITEABLE ? POLLOUT : 0);
		fds[n++].revents = 0;
	}
	/* does not wait, so latch and postmaster need not be looked at */
	if (n > 0 && poll(fds, n, 0) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			short		r = fds[i].revents;

			if (r != 0)
				serve(fds[i].fd,
					  (r & (POLLIN | POLLERR | POLLHUP) ? WL_SOCKET_READABLE : 0) |
					  (r & (POLLOUT | POLLERR | POLLHUP) ? WL_SOCKET_WRITEABLE : 0));
		}
	}
	serve_timeouts();
}
