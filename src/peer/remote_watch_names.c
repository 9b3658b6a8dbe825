/*-------------------------------------------------------------------------
 *
 * remote_watch_names.c
 *		Names of hosts, resolved without holding up the event loop.
 *
 * libpq resolves names where it connects, and getaddrinfo cannot be
 * interrupted; a name server that does not answer would hold up all sources
 * for many seconds.  So a thread does it, and libpq is given addresses.  At most
 * MAX_THREADS run; who comes then waits for one to end.
 *
 * A thread sees only what malloc made for it, with all signals blocked, and
 * says through a pipe that it is done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef HAVE_SYS_EPOLL_H
#include <sys/epoll.h>
#endif

#include "lib/stringinfo.h"
#include "peer/remote_watch_internal.h"

#define MAX_THREADS		8
#define MAX_ADDRESSES	32

typedef struct Address
{
	int			host;			/* number in the list */
	char		text[NI_MAXHOST];
} Address;

struct WatchLookup
{
	dlist_node	link;			/* among those that wait for a thread */
	bool		queued;
	void		(*done) (WatchLookup *lookup, void *arg);	/* NULL: nobody is interested */
	void	   *arg;
	char	   *hosts;			/* with NULs for commas */
	char	   *ports;
	int			nhosts;
	int			nports;
	Address		addresses[MAX_ADDRESSES];
	int			naddresses;
};

static int	pipe_fds[2] = {-1, -1};
static WatchSocket pipe_socket;
static dlist_head queue = DLIST_STATIC_INIT(queue);
static int	nthreads = 0;

/* ---------- lists ---------- */

/* Cut a copy of a list at its commas; returns the number of elements. */
static int
cut(char *list)
{
	int			n = 1;

	for (; *list != '\0'; list++)
	{
		if (*list != ',')
			continue;
		*list = '\0';
		n++;
	}
	return n;
}

/* Element number i of a list that was cut. */
static const char *
element(const char *list, int i)
{
	while (i-- > 0)
		list += strlen(list) + 1;
	return list;
}

/* ---------- the thread ---------- */

static void *
resolve(void *arg)
{
	WatchLookup *lookup = arg;

	for (int i = 0; i < lookup->nhosts; i++)
	{
		const char *host = element(lookup->hosts, i);
		struct addrinfo hints = {0};
		struct addrinfo *found = NULL;

		/* a socket of this machine has no address */
		if ((host[0] == '/' || host[0] == '@' || host[0] == '\0') &&
			lookup->naddresses < MAX_ADDRESSES)
		{
			lookup->addresses[lookup->naddresses++].host = i;
			continue;
		}
		hints.ai_family = AF_UNSPEC;
		hints.ai_socktype = SOCK_STREAM;
		if (getaddrinfo(host, NULL, &hints, &found) != 0)
			continue;
		for (struct addrinfo *a = found; a != NULL && lookup->naddresses < MAX_ADDRESSES;
			 a = a->ai_next)
		{
			Address    *address = &lookup->addresses[lookup->naddresses];

			address->host = i;
			if (getnameinfo(a->ai_addr, a->ai_addrlen, address->text, sizeof(address->text),
							NULL, 0, NI_NUMERICHOST) == 0)
				lookup->naddresses++;
		}
		freeaddrinfo(found);
	}
	/* a pointer is less than PIPE_BUF, so it is written as a whole */
	while (write(pipe_fds[1], &lookup, sizeof(lookup)) < 0 && errno == EINTR)
		;
	return NULL;
}

/* Have a thread started; false: it cannot be. */
static bool
start_thread(WatchLookup *lookup)
{
	pthread_t	thread;
	pthread_attr_t attributes;
	sigset_t	all;
	sigset_t	old;
	bool		ok;

	if (pthread_attr_init(&attributes) != 0)
		return false;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 256 * 1024);
	/* signals are this process's main thread's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ok = pthread_create(&thread, &attributes, resolve, lookup) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attributes);
	if (ok)
		nthreads++;
	return ok;
}

/* ---------- the event loop's side ---------- */

static void
free_lookup(WatchLookup *lookup)
{
	free(lookup->hosts);
	free(lookup->ports);
	free(lookup);
}

/* Tell whoever asked. */
static void
finish(WatchLookup *lookup)
{
	void		(*done) (WatchLookup *lookup, void *arg) = lookup->done;

	/* from here on whoever asked frees it */
	lookup->done = NULL;
	if (done != NULL)
		done(lookup, lookup->arg);
	else
		free_lookup(lookup);
}

/* Threads have ended: hand over, and let others begin. */
static void
take_finished(WatchSocket *socket, int fd, uint32 events)
{
	WatchLookup *lookup;

	while (read(fd, &lookup, sizeof(lookup)) == sizeof(lookup))
	{
		nthreads--;
		finish(lookup);
	}
	while (nthreads < MAX_THREADS && !dlist_is_empty(&queue))
	{
		lookup = dlist_container(WatchLookup, link, dlist_pop_head_node(&queue));
		lookup->queued = false;
		/* without a thread it is as if nothing had been found */
		if (!start_thread(lookup))
			finish(lookup);
	}
}

/* The pipe, once. */
static bool
open_pipe(void)
{
	if (pipe_fds[0] >= 0)
		return true;
	if (pipe(pipe_fds) != 0)
	{
		pipe_fds[0] = pipe_fds[1] = -1;
		return false;
	}
	for (int i = 0; i < 2; i++)
		(void) fcntl(pipe_fds[i], F_SETFD, FD_CLOEXEC);
	(void) fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
	pipe_socket.ready = take_finished;
#ifdef HAVE_SYS_EPOLL_H
	return docrep_watch_socket(pipe_fds[0], EPOLLIN, &pipe_socket);
#else
	return false;
#endif
}

WatchLookup *
docrep_watch_lookup(const char *hosts, const char *ports,
					void (*done) (WatchLookup *lookup, void *arg), void *arg)
{
	WatchLookup *lookup = open_pipe() ? calloc(1, sizeof(WatchLookup)) : NULL;

	if (lookup == NULL)
		return NULL;
	lookup->hosts = strdup(hosts);
	lookup->ports = strdup(ports ? ports : "");
	if (lookup->hosts == NULL || lookup->ports == NULL)
	{
		free_lookup(lookup);
		return NULL;
	}
	lookup->nhosts = cut(lookup->hosts);
	lookup->nports = cut(lookup->ports);
	lookup->done = done;
	lookup->arg = arg;
	if (nthreads >= MAX_THREADS)
	{
		lookup->queued = true;
		dlist_push_tail(&queue, &lookup->link);
	}
	else if (!start_thread(lookup))
	{
		free_lookup(lookup);
		return NULL;
	}
	return lookup;
}

void
docrep_watch_lookup_drop(WatchLookup *lookup)
{
	bool		finished = lookup->done == NULL;

	lookup->done = NULL;
	if (lookup->queued)
		dlist_delete(&lookup->link);
	if (lookup->queued || finished)
		free_lookup(lookup);
	/* else a thread has it, and it is freed when that ends */
}

bool
docrep_watch_lookup_result(const WatchLookup *lookup, char **hosts, char **addresses,
						   char **ports)
{
	StringInfoData h;
	StringInfoData a;
	StringInfoData p;

	initStringInfo(&h);
	initStringInfo(&a);
	initStringInfo(&p);
	for (int i = 0; i < lookup->naddresses; i++)
	{
		const Address *address = &lookup->addresses[i];
		const char *comma = i > 0 ? "," : "";

		appendStringInfo(&h, "%s%s", comma, element(lookup->hosts, address->host));
		appendStringInfo(&a, "%s%s", comma, address->text);
		appendStringInfo(&p, "%s%s", comma,
						 element(lookup->ports,
								 lookup->nports == 1 ? 0 : Min(address->host, lookup->nports - 1)));
	}
	*hosts = h.data;
	*addresses = a.data;
	*ports = p.data;
	return lookup->naddresses > 0;
}
