/*-------------------------------------------------------------------------
 *
 * docrep_js.cc
 *		The helper program: JavaScript functions of design documents.
 *
 * Usage: docrep_js serve PARENT BYTES
 *			what a backend starts, with one end of a socket pair as descriptor 3.
 *			PARENT: its process id; BYTES: what JavaScript may use of memory.
 *		  docrep_js --version
 *		  docrep_js --try WHAT
 *			for the tests: tries what must be impossible; see sandbox.cc.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* JavaScript may be nested as deep as this much of the C stack allows. */
#define STACK_QUOTA		(1024 * 1024)

/* New objects are collected separately, in so much memory. */
#define NURSERY_BYTES	(4 * 1024 * 1024)

static JSContext *context = nullptr;

[[noreturn]] static void
give_up(const char *what)
{
	fprintf(stderr, "docrep_js: %s\n", what);
	_exit(DOCREP_JS_EXIT_START);
}

/* Starts the engine.  The compiler is turned off first. */
static JSContext *
start_engine(size_t memory)
{
	static NoJobs no_jobs;
	JSContext  *cx;

	JS::DisableJitBackend();
	if (!JS_Init())
		give_up("the engine cannot be initialized");
	if (!worker_start())
		give_up("no thread can be started");
	JS::SetHelperThreadTaskCallback(mozjs_add_task, 1, 8 * 1024 * 1024);
	cx = JS_NewContext((uint32_t) (memory + memory / 2));
	if (cx == nullptr)
		give_up("the engine has no memory");

	/*
	 * limits.cc ends a call that has more than "memory".  Were this the same, the engine
	 * would collect garbage again and again just below it instead of getting there.
	 */
	JS_SetGCParameter(cx, JSGC_MAX_BYTES, (uint32_t) (memory + memory / 2));
	JS_SetGCParameter(cx, JSGC_MAX_NURSERY_BYTES, NURSERY_BYTES);
	JS_SetNativeStackQuota(cx, STACK_QUOTA);
	JS::ContextOptionsRef(cx).setAsmJS(false).setWasm(false);
	JS::SetJobQueue(cx, &no_jobs);
	if (!JS::InitSelfHostedCode(cx) || !JS_SetDefaultLocale(JS_GetRuntime(cx), "en-US"))
		give_up("the engine has no memory");
	return cx;
}

/*
 * Uses once what may look for files when it is used first, while that is allowed
 * (time zone, order and form of words and numbers).
 */
static void
warm_up(JSContext *cx)
{
	static const char everything[] =
		"new Date(0).toString() + new Date(0).toLocaleString() + (1.5).toLocaleString() +"
		"'a'.localeCompare('b') + 'a'.normalize() + 'a'.toLocaleUpperCase() + /a/iu.test('b') +"
		"(typeof Intl === 'object' ? new Intl.DateTimeFormat().format(new Date(0)) +"
		" new Intl.Collator().compare('a', 'b') : '')";
	JS::RealmOptions options;
	static const JSClass plain = {"warm", JSCLASS_GLOBAL_FLAGS, &JS::DefaultGlobalClassOps, nullptr, nullptr, nullptr};
	JS::RootedObject global(cx, JS_NewGlobalObject(cx, &plain, nullptr, JS::FireOnNewGlobalHook, options));
	JS::RootedValue ignored(cx);

	tzset();
	if (!global)
		give_up("the engine has no memory");

	JSAutoRealm inside(cx, global);

	if (!realm_evaluate(cx, everything, strlen(everything), "warm", &ignored))
		give_up("the engine does not work");
}

/* Nothing to do for a while: memory that is not needed goes back. */
static void
tidy()
{
	JS::PrepareForFullGC(context);
	JS::NonIncrementalGC(context, JS::GCOptions::Shrink, JS::GCReason::API);
	malloc_trim(0);
}

/* Does what the backend asks for until it goes. */
static void
serve()
{
	Frame		frame;

	while (frames_next(&frame, tidy))
	{
		switch (frame.type)
		{
			case DOCREP_JS_REALM:
				{
					uint32_t	number = frame.take_number();
					bool		views = frame.take_byte() != 0;

					realm_put(context, number, views, frame.take_rest());
					break;
				}
			case DOCREP_JS_FORGET:
				realm_forget(frame.take_number());
				frame.expect_end();
				break;
			case DOCREP_JS_FUNCTION:
				function_put(context, &frame);
				break;
			case DOCREP_JS_BATCH:
				function_batch(context, &frame);
				break;
			case DOCREP_JS_CALL:
				function_call(context, &frame);
				break;
			default:
				frames_garbage();
		}
	}
}

/* Output of libraries goes nowhere from now on. */
static void
silence()
{
	int			fd = open("/dev/null", O_RDWR);

	if (fd < 0)
		give_up("no /dev/null");
	for (int i = 0; i < 3; i++)
		dup2(fd, i);
	if (fd > 2 && fd != DOCREP_JS_FD)
		close(fd);
}

static void
say_ready()
{
	char		text[100];
	uint32_t	protocol = DOCREP_JS_PROTOCOL;

	memcpy(text, &protocol, sizeof(protocol));
	snprintf(text + sizeof(protocol), sizeof(text) - sizeof(protocol), "%s", JS_GetImplementationVersion());
	frames_put(DOCREP_JS_READY, text, sizeof(protocol) + strlen(text + sizeof(protocol)));
}

/* Sets up everything and closes the door behind. */
static void
start(pid_t parent, size_t memory)
{
	sandbox_first(parent);
	context = start_engine(memory);
	warm_up(context);
	tidy();
	limits_start(context, memory);

	/* The hard limit leaves room between ticks, and for what is being read. */
	sandbox_limit_memory(2 * memory + NURSERY_BYTES);
	frames_limit(memory);
	silence();
	if (!sandbox_close())
		_exit(DOCREP_JS_EXIT_START);
}

int
main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
	{
		printf("docrep_js protocol %d, %s, seccomp\n", DOCREP_JS_PROTOCOL, JS_GetImplementationVersion());
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "--try") == 0)
	{
		start(0, 64 << 20);
		_exit(sandbox_try(argv[2]));
	}
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
	{
		start((pid_t) atol(argv[2]), (size_t) strtoull(argv[3], nullptr, 10));
		say_ready();
		serve();
		_exit(0);
	}
	fprintf(stderr, "usage: docrep_js serve PARENT BYTES | --version | --try WHAT\n");
	return 1;
}
