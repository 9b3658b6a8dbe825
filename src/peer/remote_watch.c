/*-------------------------------------------------------------------------
 *
 * remote_watch.c
 *		Waiting for changes of many sources at once: keys, their news, and the
 *		event loop.
 *
 * All sockets are in one epoll descriptor, since a WaitEventSet can neither drop
 * one nor tell cheaply which of 1,000 is ready.  That descriptor is in a
 * WaitEventSet together with the latch, which is kept: putting it into a new
 * one has the kernel look at every socket in it.
 *
 * A key is handed out once, and then not waited for until it is added again.
 * It is remembered, so that a source which has news at once every time is
 * not asked more often than each WATCH_PAUSE ms.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/resource.h>
#include <unistd.h>
#ifdef HAVE_SYS_EPOLL_H
#include <sys/epoll.h>
#endif

#include "compat.h"
#include "miscadmin.h"
#include "peer/remote_watch_internal.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* between two waits of one key, in ms */
#define WATCH_PAUSE			50

/* one of the keys that there is no means to wait for has news so often, in ms */
#define LATE_INTERVAL		1000

/* between two lines in the log of the same kind, in ms */
#define COMPLAINT_INTERVAL	(10 * 60 * 1000)

/* descriptors that are left to others: files, threads that resolve names, libraries */
#define SPARE_DESCRIPTORS	64

/* events taken at a time */
#define MAX_EVENTS			256

MemoryContext docrep_watch_cxt = NULL;

static HTAB *watch_keys = NULL;
static int	ncounted = 0;		/* keys that are not idle */
static dlist_head deferred = DLIST_STATIC_INIT(deferred);	/* by start_at */
static dlist_head late = DLIST_STATIC_INIT(late);
static dlist_head news = DLIST_STATIC_INIT(news);
static TimestampTz late_at = 0; /* when the next late one has news */

static int	epoll_fd = -1;
static WaitEventSet *wait_set = NULL;
static WatchSocket **watch_sockets = NULL;	/* by descriptor; malloc'd */
static int	max_sockets = 0;
static int	nsockets = 0;
static long max_descriptors = 0;

/* ---------- complaints ---------- */

void
docrep_watch_complain(const char *what, const char *hint)
{
	static const char *last = NULL;
	static TimestampTz last_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (last == what && !TimestampDifferenceExceeds(last_at, now, COMPLAINT_INTERVAL))
		return;
	last = what;
	last_at = now;
	ereport(LOG,
			(errmsg("the docrep watcher cannot wait for all sources: %s", what),
			 errdetail("The others are looked at one after the other."),
			 errhint("%s", hint)));
}

/* ---------- sockets ---------- */

/* Room in watch_sockets for a descriptor; false: no memory. */
static bool
make_room(int fd)
{
	int			n = Max(1024, max_sockets * 2);
	WatchSocket **larger;

	if (fd < max_sockets)
		return true;
	while (n <= fd)
		n *= 2;
	larger = realloc(watch_sockets, n * sizeof(WatchSocket *));
	if (larger == NULL)
		return false;
	memset(larger + max_sockets, 0, (n - max_sockets) * sizeof(WatchSocket *));
	watch_sockets = larger;
	max_sockets = n;
	return true;
}

bool
docrep_watch_socket(int fd, uint32 events, WatchSocket *socket)
{
#ifdef HAVE_SYS_EPOLL_H
	struct epoll_event event = {0};

	if (fd < 0 || !make_room(fd))
		return false;
	event.events = events;
	event.data.fd = fd;
	/* the number may be another socket's than it was */
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0 &&
		(errno != ENOENT || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0))
		return false;
	if (watch_sockets[fd] == NULL)
		nsockets++;
	watch_sockets[fd] = socket;
	return true;
#else
	return false;
#endif
}

void
docrep_watch_forget_socket(int fd)
{
#ifdef HAVE_SYS_EPOLL_H
	struct epoll_event event = {0};

	if (fd < 0 || fd >= max_sockets || watch_sockets[fd] == NULL)
		return;
	watch_sockets[fd] = NULL;
	nsockets--;
	(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, &event);
#endif
}

bool
docrep_watch_has_descriptor(void)
{
	if (nsockets < max_descriptors)
		return true;
	docrep_watch_complain("it has too many open files",
						  "Raise the operating system's limit of open files for the server.");
	return false;
}

/*
 * Use as many descriptors as the system lets us.  fd.c's own limit is for
 * processes that share max_files_per_process with data files; this one opens none.
 */
static void
raise_limit(void)
{
	struct rlimit limit;

	max_descriptors = 256;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	if (limit.rlim_cur < limit.rlim_max)
	{
		rlim_t		before = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			limit.rlim_cur = before;
	}
	max_descriptors = (long) Min(limit.rlim_cur, 1000000) - SPARE_DESCRIPTORS;
	/* AcquireExternalFD gives a third of it */
	max_safe_fds = (int) Max(max_safe_fds, max_descriptors * 3);
}

void
docrep_remote_watch_start(void)
{
	HASHCTL		ctl = {0};

	docrep_watch_cxt = AllocSetContextCreate(TopMemoryContext, "docrep watch",
											 ALLOCSET_DEFAULT_SIZES);
	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(WatchKey);
	watch_keys = hash_create("docrep watched keys", 256, &ctl, HASH_ELEM | HASH_BLOBS);
	raise_limit();
#ifdef HAVE_SYS_EPOLL_H
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(ERROR,
				(errcode_for_socket_access(),
				 errmsg("could not make an epoll descriptor: %m")));
#endif
	wait_set = docrep_create_wait_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (epoll_fd >= 0)
		AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
}

/* ---------- keys ---------- */

/* Take a key out of the state it is in. */
static void
make_idle(WatchKey *key)
{
	MemoryContext cxt = key->cxt;

	if (key->state == WATCH_DEFERRED || key->state == WATCH_LATE || key->state == WATCH_NEWS)
		dlist_delete(&key->link);
	if (key->state != WATCH_IDLE)
		ncounted--;
	key->state = WATCH_IDLE;
	if (key->release != NULL)
		key->release(key);
	key->release = NULL;
	key->waiter = NULL;
	key->place = NULL;
	key->cxt = NULL;
	if (cxt != NULL)
		MemoryContextDelete(cxt);
}

/* Move a key to a state with a list. */
static void
move_to(WatchKey *key, WatchState state, dlist_head *list)
{
	if (key->state == WATCH_DEFERRED || key->state == WATCH_LATE || key->state == WATCH_NEWS)
		dlist_delete(&key->link);
	key->state = state;
	dlist_push_tail(list, &key->link);
}

void
docrep_watch_news(WatchKey *key)
{
	if (key->state != WATCH_NEWS && key->state != WATCH_IDLE)
		move_to(key, WATCH_NEWS, &news);
}

void
docrep_watch_late(WatchKey *key)
{
	if (key->state != WATCH_WAITING)
		return;
	if (dlist_is_empty(&late))
		late_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LATE_INTERVAL);
	move_to(key, WATCH_LATE, &late);
}

/* Begin to wait for a key; what fails is news. */
static void
begin(WatchKey *key)
{
	MemoryContext caller = CurrentMemoryContext;

	key->state = WATCH_WAITING;
	PG_TRY();
	{
		if (strcmp(key->place->endpoint->kind, "postgres") == 0)
			docrep_watch_pg_add(key, key->place);
		else if (strcmp(key->place->endpoint->kind, "couchdb") == 0)
			docrep_watch_couch_add(key, key->place);
		else
			docrep_watch_news(key);
	}
	PG_CATCH();
	{
		/* the job's own run will say what is wrong */
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		docrep_watch_news(key);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

/* A copy of a place in the current context. */
static DocrepWaitPlace *
copy_place(const DocrepWaitPlace *place)
{
	char	   *text = docrep_wait_place_serialize(place);
	DocrepWaitPlace *copy = docrep_wait_place_deserialize(text);

	pfree(text);
	return copy;
}

void
docrep_remote_watch_add(uint64 number, const DocrepWaitPlace *place)
{
	bool		there;
	WatchKey   *key = hash_search(watch_keys, &number, HASH_ENTER, &there);
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz now = GetCurrentTimestamp();

	if (there)
		make_idle(key);
	else
	{
		memset(key, 0, sizeof(WatchKey));
		key->key = number;
	}
	ncounted++;
	key->cxt = AllocSetContextCreate(docrep_watch_cxt, "docrep watched key",
									 ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(key->cxt);
	key->place = copy_place(place);
	MemoryContextSwitchTo(caller);
	if (key->told != 0)
		key->start_at = TimestampTzPlusMilliseconds(key->told, WATCH_PAUSE);
	if (key->start_at > now)
	{
		key->state = WATCH_DEFERRED;
		dlist_push_tail(&deferred, &key->link);
	}
	else
		begin(key);
}

void
docrep_remote_watch_remove(uint64 number)
{
	WatchKey   *key = hash_search(watch_keys, &number, HASH_FIND, NULL);

	if (key != NULL)
		make_idle(key);
}

int
docrep_remote_watch_count(void)
{
	return ncounted;
}

/* ---------- the loop ---------- */

void
docrep_watch_until(long *timeout, TimestampTz at, TimestampTz now)
{
	long		left;

	if (at == 0)
		return;
	left = at > now ? (long) ((at - now + 999) / 1000) : 0;
	if (*timeout < 0 || left < *timeout)
		*timeout = left;
}

/* Begin what was put off, and give late keys their turn. */
static void
tend_keys(TimestampTz now, long *timeout)
{
	while (!dlist_is_empty(&deferred))
	{
		WatchKey   *key = dlist_head_element(WatchKey, link, &deferred);

		if (key->start_at > now)
		{
			docrep_watch_until(timeout, key->start_at, now);
			break;
		}
		dlist_delete(&key->link);
		begin(key);
	}
	if (!dlist_is_empty(&late))
	{
		if (late_at <= now)
		{
			docrep_watch_news(dlist_head_element(WatchKey, link, &late));
			late_at = TimestampTzPlusMilliseconds(now, LATE_INTERVAL);
		}
		docrep_watch_until(timeout, late_at, now);
	}
}

/* Serve the sockets that are ready; does not wait. */
static void
serve_sockets(void)
{
#ifdef HAVE_SYS_EPOLL_H
	struct epoll_event events[MAX_EVENTS];
	int			n = epoll_wait(epoll_fd, events, MAX_EVENTS, 0);

	for (int i = 0; i < n; i++)
	{
		int			fd = events[i].data.fd;

		/* one served before it may have closed it */
		if (fd < max_sockets && watch_sockets[fd] != NULL)
			watch_sockets[fd]->ready(watch_sockets[fd], fd, events[i].events);
	}
#endif
}

/* Hand out news. */
static int
take_news(TimestampTz now, uint64 *keys, int max)
{
	int			n = 0;

	while (n < max && !dlist_is_empty(&news))
	{
		WatchKey   *key = dlist_head_element(WatchKey, link, &news);

		key->told = now;
		keys[n++] = key->key;
		make_idle(key);
	}
	return n;
}

/* Do what is due; lowers *timeout to when there is more. */
static void
tend(long *timeout)
{
	TimestampTz now = GetCurrentTimestamp();

	tend_keys(now, timeout);
	docrep_watch_pg_tend(now, timeout);
	docrep_watch_couch_tend(now, timeout);
	if (!dlist_is_empty(&news))
		*timeout = 0;
}

int
docrep_remote_watch_step(long timeout, bool *woken, uint64 *keys, int max)
{
	WaitEvent	events[3];
	uint32		happened = 0;
	long		rest = -1;
	int			n;

	tend(&timeout);
	n = WaitEventSetWait(wait_set, timeout, events, lengthof(events), PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
		happened |= events[i].events;
	if (happened & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		*woken = true;
	}
	if (happened & WL_SOCKET_READABLE)
	{
		serve_sockets();
		/* what they have led to, such as the next call of a connection */
		tend(&rest);
	}
	return take_news(GetCurrentTimestamp(), keys, max);
}
