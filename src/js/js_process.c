/*-------------------------------------------------------------------------
 *
 * js_process.c
 *		The helper process of this backend: starting, talking, ending.
 *
 * There is one at most.  It is started when it is needed and stays for the
 * session, unless it has had nothing to do for a minute: then it ends by itself,
 * which is noticed when it is needed again.  It is killed when a conversation
 * breaks off (a cancel, an error), for it would go on with the rest of it, and
 * when the backend ends.  Should the backend not get to that, the kernel does it.
 *
 * posix_spawn() and not fork(): no code of ours runs in the child, so no handler,
 * exit callback or lock of the server's is in danger, and memory is not copied.
 * Everything else that separates the helper from the server it does itself, before
 * it hears a word (engine/sandbox.cc).  It has a session of its own, so signals
 * that are sent to the backend's process group do not reach it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat.h"
#include "js/js_internal.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/errcodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* How much is sent at a time. */
#define SEND_SIZE		(64 * 1024)

/*
 * The helper watches the time of calls itself, and this is for the case that it cannot:
 * milliseconds without a sign of life, in addition to twice the time of a call.
 */
#define EXTRA_TIME		20000

static pid_t helper_pid = 0;	/* 0: there is none */
static pgsocket helper_socket = PGINVALID_SOCKET;
static int	helper_memory;		/* docrep.js_memory when it was started */
static uint64 generation = 0;	/* how many there have been */
static char last_end[100] = "";
static bool last_spent = false;	/* did the last one end because its memory was spent? */
static StringInfoData input;	/* what was received and not used, in TopMemoryContext */

/* Where the program is: beside our own library. */
static const char *
program_path(void)
{
	static char path[MAXPGPATH] = "";
	Dl_info		info;

	if (path[0] == '\0' && dladdr((void *) docrep_js_available, &info) != 0 && info.dli_fname != NULL)
	{
		strlcpy(path, info.dli_fname, sizeof(path));
		get_parent_directory(path);
		join_path_components(path, path, "docrep_js");
	}
	return path;
}

/* Is the helper program installed? */
bool
docrep_js_available(void)
{
	return access(program_path(), X_OK) == 0;
}

/* 0A000, with what to install, unless it is. */
void
docrep_js_require(void)
{
	if (docrep_js_available())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("JavaScript functions of design documents need the program \"docrep_js\", which is not installed"),
			 errhint("It is built and installed with docrep where SpiderMonkey and libseccomp are: "
					 "libmozjs-102-dev (Debian 13: libmozjs-128-dev) and libseccomp-dev on Debian 12.")));
}

/* What has become of the last helper, for messages. */
const char *
docrep_js_last_end(void)
{
	return last_end;
}

/*
 * Has the last helper ended because of what functions had kept?  Then no call is to
 * blame, and a new one makes those that have no answer.
 */
bool
docrep_js_was_spent(void)
{
	return last_spent;
}

/* A number that changes with every new helper, which knows nothing yet. */
uint64
docrep_js_generation(void)
{
	return helper_pid != 0 ? generation : 0;
}

/* Says in last_end how a process has ended. */
static void
note_end(int status)
{
	last_spent = WIFEXITED(status) && WEXITSTATUS(status) == DOCREP_JS_EXIT_SPENT;
	if (WIFSIGNALED(status))
		snprintf(last_end, sizeof(last_end), "the JavaScript engine was ended by signal %d", WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status) == DOCREP_JS_EXIT_TIME)
		snprintf(last_end, sizeof(last_end), "ran longer than docrep.js_timeout allows, %d ms", docrep_js_timeout);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == DOCREP_JS_EXIT_MEMORY)
		snprintf(last_end, sizeof(last_end), "the JavaScript engine ran out of memory");
	else
		snprintf(last_end, sizeof(last_end), "the JavaScript engine ended with status %d", WEXITSTATUS(status));
}

/* Ends the helper, if there is one, at once. */
static void
kill_helper(void)
{
	pid_t		pid = helper_pid;
	int			status;
	pid_t		got;

	if (helper_socket != PGINVALID_SOCKET)
		closesocket(helper_socket);
	helper_socket = PGINVALID_SOCKET;
	if (pid == 0)
		return;
	helper_pid = 0;
	last_spent = false;

	/* If it has ended already this changes nothing: it has not been waited for. */
	kill(pid, SIGKILL);
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	if (got == pid)
		note_end(status);
	else
		strlcpy(last_end, "the JavaScript engine ended", sizeof(last_end));
}

static void
kill_at_exit(int code, Datum arg)
{
	kill_helper();
}

/* Starts the program with our end of "pair" being [0].  Returns 0 or an error number. */
static int
spawn(int pair[2])
{
	char		parent[32];
	char		bytes[32];
	char	   *argv[] = {"docrep_js", "serve", parent, bytes, NULL};
	char	   *envp[] = {"TZ=UTC", NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t	all;
	sigset_t	none;
	int			error;

	snprintf(parent, sizeof(parent), "%d", (int) getpid());
	snprintf(bytes, sizeof(bytes), "%lld", (long long) docrep_js_memory * 1024);
	sigfillset(&all);
	sigemptyset(&none);
	if ((error = posix_spawn_file_actions_init(&actions)) != 0)
		return error;
	if ((error = posix_spawnattr_init(&attributes)) != 0)
	{
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}
	error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (error == 0)
		error = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (error == 0)
		error = posix_spawn_file_actions_adddup2(&actions, pair[1], DOCREP_JS_FD);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes,
							 POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	if (error == 0)
		error = posix_spawn(&helper_pid, program_path(), &actions, &attributes, argv, envp);
	if (error != 0)
		helper_pid = 0;
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/*
 * The SQLSTATE for a helper that could not be started.  Neither is about a document: a write is
 * tried again as a whole, and nothing is refused for good.
 */
static int
sqlstate_of_start(int error)
{
	switch (error)
	{
		case EAGAIN:
		case ENOMEM:
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
			return ERRCODE_INSUFFICIENT_RESOURCES;
		default:
			return ERRCODE_SYSTEM_ERROR;
	}
}

/* Receives the helper's first words. */
static bool
consume_ready(void *arg, char type, const char *data, int len)
{
	uint32		protocol = 0;

	if (type == DOCREP_JS_READY && len >= sizeof(protocol))
		memcpy(&protocol, data, sizeof(protocol));
	if (protocol != DOCREP_JS_PROTOCOL)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the program \"%s\" is not of this version of docrep", program_path()),
				 errhint("After an upgrade the server must be restarted.")));
	return true;
}

static bool
produce_nothing(void *arg, StringInfo out)
{
	return false;
}

/*
 * Sees to it that there is a helper, with the present docrep.js_memory.  It may
 * have ended since without us knowing.
 */
void
docrep_js_start(void)
{
	static bool registered = false;
	JsTalk		hello = {produce_nothing, consume_ready, NULL};
	int			pair[2];
	int			error;

	if (helper_pid != 0 && helper_memory == docrep_js_memory)
		return;
	kill_helper();
	docrep_js_require();
	if (!registered)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&input);
		MemoryContextSwitchTo(old);
		on_proc_exit(kill_at_exit, 0);
		registered = true;
	}
	resetStringInfo(&input);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
	{
		error = errno;
		ereport(ERROR,
				(errcode(sqlstate_of_start(error)),
				 errmsg("could not create sockets for the JavaScript engine: %m")));
	}
	error = spawn(pair);
	closesocket(pair[1]);
	helper_socket = pair[0];
	if (error != 0)
	{
		kill_helper();
		errno = error;
		ereport(ERROR,
				(errcode(sqlstate_of_start(error)),
				 errmsg("could not start \"%s\": %m", program_path())));
	}
	generation++;
	helper_memory = docrep_js_memory;
	if (!pg_set_noblock(helper_socket) || !docrep_js_talk(&hello))
	{
		kill_helper();
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("the JavaScript engine could not be started"),
				 errdetail_internal("%s", last_end),
				 errhint("The server's log may tell more; \"docrep_js --version\" must work.")));
	}
}

/*
 * Sends from "out" what can be sent without waiting.  Returns false if the helper has
 * gone; *sent is how far we are.
 */
static bool
send_some(StringInfo out, int *sent, bool *progress)
{
	ssize_t		done = send(helper_socket, out->data + *sent, out->len - *sent, MSG_NOSIGNAL);

	if (done > 0)
	{
		*sent += done;
		*progress = true;
		return true;
	}
	return done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Receives what is there.  Returns false if the helper has gone. */
static bool
receive_some(bool *progress)
{
	ssize_t		got;

	enlargeStringInfo(&input, SEND_SIZE);
	got = recv(helper_socket, input.data + input.len, SEND_SIZE, 0);
	if (got > 0)
	{
		input.len += got;
		*progress = true;
		return true;
	}
	return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* A line that a function has logged. */
static void
log_line(const char *data, int len)
{
	char	   *line;

	if (!message_level_is_interesting(DEBUG1))
		return;
	line = docrep_js_text(data, Min(len, DOCREP_JS_LOG_MAX));
	ereport(DEBUG1, (errmsg_internal("log of a JavaScript function: %s", line)));
	pfree(line);
}

/* Hands out the frames that have been received in full.  True when the last was among them. */
static bool
consume_input(JsTalk *talk)
{
	int			at = 0;
	bool		last = false;

	while (!last && input.len - at >= (int) sizeof(uint32))
	{
		uint32		len;
		const char *data = input.data + at + sizeof(len);

		memcpy(&len, input.data + at, sizeof(len));
		if (len < 1 || len > SEND_SIZE)
			ereport(ERROR,
					(errcode(ERRCODE_DOCREP_INTERNAL),
					 errmsg("the JavaScript engine answered nonsense")));
		if (input.len - at - sizeof(len) < len)
			break;
		at += sizeof(len) + len;
		if (*data == DOCREP_JS_LOG)
			log_line(data + 1, len - 1);
		else
			last = talk->consume(talk->arg, *data, data + 1, len - 1);
	}
	memmove(input.data, input.data + at, input.len - at);
	input.len -= at;
	return last;
}

/* Waits until something can be done, but not longer than until "limit".  False if that is over. */
static bool
wait_for_helper(bool want_to_send, TimestampTz limit)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | WL_TIMEOUT | WL_SOCKET_READABLE;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), limit);

	if (ms <= 0)
		return false;
	if (want_to_send)
		events |= WL_SOCKET_WRITEABLE;
	if (WaitLatchOrSocket(MyLatch, events, helper_socket, ms, PG_WAIT_EXTENSION) & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* The loop of a conversation.  Returns false if the helper has gone or says nothing. */
static bool
talk_on(JsTalk *talk, StringInfo out)
{
	int			sent = 0;
	bool		more = true;
	TimestampTz limit = 0;
	bool		alive = true;

	for (;;)
	{
		bool		progress = false;

		if (more && sent == out->len)
		{
			resetStringInfo(out);
			sent = 0;
			while (more && out->len < SEND_SIZE)
				more = talk->produce(talk->arg, out);
		}
		if (alive && sent < out->len)
			alive = send_some(out, &sent, &progress);

		/* What it has still said counts, even if it has gone. */
		if (!receive_some(&progress))
			return consume_input(talk);
		if (consume_input(talk))
			return true;
		if (progress || limit == 0)
			limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												2 * docrep_js_timeout + EXTRA_TIME);
		if (progress)
			CHECK_FOR_INTERRUPTS();
		else if (!wait_for_helper(alive && sent < out->len, limit))
		{
			kill_helper();
			strlcpy(last_end, "the JavaScript engine gave no answer", sizeof(last_end));
			return false;
		}
	}
}

/*
 * Talks to the helper, which has been started.  Returns true when all has been said,
 * and false if it has gone meanwhile (docrep_js_last_end() says how).  A helper that
 * is in the middle of something when an error is raised here is ended.
 */
bool
docrep_js_talk(JsTalk *talk)
{
	StringInfoData out;
	bool		done = false;

	initStringInfo(&out);
	PG_TRY();
	{
		done = talk_on(talk, &out);
	}
	PG_CATCH();
	{
		kill_helper();
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(out.data);
	if (!done)
		kill_helper();
	return done;
}
