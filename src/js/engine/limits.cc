/*-------------------------------------------------------------------------
 *
 * limits.cc
 *		How long a call may take, and how much memory.
 *
 * Time is that of the processor: a function does nothing but compute, and one
 * that waits for its turn on a busy machine is not to blame.  While calls are
 * made a timer ticks; at a tick the engine is interrupted and looks at both.
 * A call that has had enough is ended in a way that no JavaScript can catch.
 *
 * Few things in the engine cannot be interrupted; where one goes on and on, the
 * process ends.  What is allocated between two ticks is limited by the kernel
 * (sandbox.cc): the engine survives that often, but not always.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS	UINT64_C(1000000)

/* Answers are kept back for this long at most (ns of processor time). */
#define SLOW		(50 * NS_PER_MS)

/* The timer ticks this often (ns of processor time). */
#define TICK		(10 * NS_PER_MS)

static JSContext *context = nullptr;

/* Written by the program, read by the handler; 0: no call is being made. */
static volatile uint64_t deadline = 0;
static volatile sig_atomic_t ticking = 0;
static volatile sig_atomic_t expired = 0;
static bool no_memory = false;
static size_t memory_limit = 0;
static uint64_t last_flush = 0;
static uint64_t call_began = 0;

static uint64_t
processor_time()
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (uint64_t) now.tv_sec * 1000 * NS_PER_MS + now.tv_nsec;
}

/* Lets the timer tick once. */
static void
tick_again()
{
	struct itimerval timer;

	memset(&timer, 0, sizeof(timer));
	timer.it_value.tv_usec = TICK / 1000;
	ticking = 1;
	setitimer(ITIMER_PROF, &timer, nullptr);
}

/*
 * The timer has ticked.  Nothing here but system calls and the setting of flags: the
 * engine takes locks when it is interrupted urgently, but only of what is turned off
 * here (Atomics.wait, WebAssembly).  That is done when the time is over, and not
 * before, as a regular expression that is interrupted begins again; the other way
 * does not reach into them.
 */
static void
handle_tick(int)
{
	uint64_t	limit = deadline;
	uint64_t	now;

	ticking = 0;
	if (limit == 0)
		return;
	now = processor_time();
	if (now > limit + DOCREP_JS_GRACE * NS_PER_MS)
		_exit(DOCREP_JS_EXIT_TIME);
	if (now > limit)
	{
		expired = 1;
		JS_RequestInterruptCallback(context);
	}
	else
		JS_RequestInterruptCallbackCanWait(context);
	tick_again();
}

/* What the engine has of memory: objects, and what hangs on them. */
static size_t
memory_used()
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd + JS_GetGCParameter(context, JSGC_BYTES);
}

/* The engine asks, after a tick, whether it shall go on. */
static bool
go_on(JSContext *)
{
	if (!expired && deadline != 0 && memory_used() > memory_limit)
		no_memory = true;
	return !expired && !no_memory;
}

/* Sets up the limits: so many bytes more than now are in use. */
void
limits_start(JSContext *cx, size_t memory)
{
	struct sigaction action;

	context = cx;
	memory_limit = memory_used() + memory;
	JS_AddInterruptCallback(cx, go_on);
	memset(&action, 0, sizeof(action));
	action.sa_handler = handle_tick;
	action.sa_flags = SA_RESTART;
	sigaction(SIGPROF, &action, nullptr);
}

/* A call begins that may take so long. */
void
limits_begin(uint32_t milliseconds)
{
	call_began = processor_time();
	if (last_flush == 0)
		last_flush = call_began;
	expired = 0;
	no_memory = false;
	deadline = call_began + milliseconds * NS_PER_MS;
	if (!ticking)
		tick_again();
}

void
limits_end()
{
	deadline = 0;
}

/* Why the call had to be ended, if it had to. */
LimitsReached
limits_reached()
{
	return expired ? LIMITS_TIME : no_memory ? LIMITS_MEMORY : LIMITS_NOT;
}

/* When a call begins: have answers been kept back for long?  If so, the caller sends them. */
bool
limits_slow()
{
	if (call_began - last_flush < SLOW)
		return false;
	last_flush = call_began;
	return true;
}

/*
 * The engine's clock.  It asks the C library, which finds this one first: time
 * stands still, whatever way leads to it.  (That new Date() says so instead of
 * telling 1970 is the prelude's work.)
 */
extern "C" int
gettimeofday(struct timeval *__restrict now, void *__restrict) noexcept
{
	now->tv_sec = 0;
	now->tv_usec = 0;
	return 0;
}
