/*-------------------------------------------------------------------------
 *
 * http_sockets.c
 *		Callbacks of libcurl about sockets and its timer.
 *
 * Nothing in this file raises or pallocs: see http_curl.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer/http_internal.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

/* curl says what it waits for at a socket. */
int
docrep_http_on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
	DocrepHttp *http = arg;
	uint32		events = 0;
	int			i;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_READABLE;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= WL_SOCKET_WRITEABLE;
	for (i = 0; i < http->nsockets; i++)
		if (http->sockets[i].fd == fd)
			break;
	if (what == CURL_POLL_REMOVE)
	{
		/* connections tell when they are closed; what else curl opens does not */
		if (i < http->nsockets)
			http->sockets[i] = http->sockets[--http->nsockets];
		if (fd >= http->max_fd || !http->is_connection[fd])
			docrep_io_forget(fd);
		return 0;
	}
	if (i == http->max_sockets)
	{
		int			n = Max(16, http->max_sockets * 2);
		HttpSocket *larger = realloc(http->sockets, n * sizeof(HttpSocket));

		if (larger == NULL)
		{
			http->out_of_memory = true;
			return -1;
		}
		http->sockets = larger;
		http->max_sockets = n;
	}
	if (i == http->nsockets)
		http->nsockets++;
	http->sockets[i].fd = fd;
	http->sockets[i].events = events;
	return 0;
}

/* curl wants to be called after some time; -1: no more. */
int
docrep_http_on_timer(CURLM *multi, long timeout, void *arg)
{
	DocrepHttp *http = arg;

	http->curl_due = timeout < 0 ? 0 :
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout);
	return 0;
}

/* Remember that a descriptor is a connection's; without memory it is not, at a small cost. */
static void
mark_connection(DocrepHttp *http, int fd)
{
	if (fd >= http->max_fd)
	{
		int			n = (fd / 256 + 1) * 256;
		bool	   *larger = realloc(http->is_connection, n * sizeof(bool));

		if (larger == NULL)
			return;
		memset(larger + http->max_fd, 0, (n - http->max_fd) * sizeof(bool));
		http->is_connection = larger;
		http->max_fd = n;
	}
	http->is_connection[fd] = true;
}

/* curl wants a socket for an address, which is what a name has become. */
curl_socket_t
docrep_http_on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpTransfer *t = arg;
	int			fd;

	if (!docrep_host_rules_allow(t->rules, (struct sockaddr *) &address->addr))
	{
		t->refused = true;
		return CURL_SOCKET_BAD;
	}
	fd = socket(address->family, address->socktype, address->protocol);
	if (fd < 0)
	{
		if (errno == EMFILE || errno == ENFILE)
			t->no_fd = true;
		return CURL_SOCKET_BAD;
	}
	(void) fcntl(fd, F_SETFD, FD_CLOEXEC);
	docrep_socket_options_apply(&t->http->socket_options, fd);
	mark_connection(t->http, fd);
	return fd;
}

/* A connection ends; it may outlive the transfer that has opened it. */
int
docrep_http_on_close(void *arg, curl_socket_t fd)
{
	DocrepHttp *http = arg;

	if (fd < http->max_fd)
		http->is_connection[fd] = false;
	docrep_io_forget(fd);
	return close(fd);
}
