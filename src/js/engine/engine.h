/*-------------------------------------------------------------------------
 *
 * engine.h
 *		What the parts of docrep_js share.
 *
 * One process, one JSContext; all that is here runs in one thread (worker.cc is for the engine).  Errors of the program itself (frames
 * that make no sense, no memory) end it; the backend knows what to do then.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_JS_ENGINE_H
#define DOCREP_JS_ENGINE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../js_protocol.h"
#include "mozjs.h"

/* ---- frames.cc: what comes in and goes out ---- */

/* A string in a frame, which goes with it. */
struct Text
{
	const char *data;
	uint32_t	len;
};

/* A frame that is being read; taking more than there is ends the program. */
struct Frame
{
	char		type;
	const char *at;
	const char *end;

	uint8_t		take_byte();
	uint32_t	take_number();
	Text		take_string();
	Text		take_rest();
	void		expect_end();
};

extern void frames_limit(size_t bytes);
extern bool frames_next(Frame *frame, void (*idle) ());
extern void frames_put(char type, const char *data, size_t len);
extern void frames_put_verdict(char type, uint8_t verdict, const char *reason, size_t len);
extern void frames_flush();
[[noreturn]] extern void frames_garbage();

/* ---- limits.cc: how long a call may take, and how much memory ---- */

enum LimitsReached
{
	LIMITS_NOT,
	LIMITS_TIME,
	LIMITS_MEMORY
};

extern void limits_start(JSContext *cx, size_t memory);
extern void limits_begin(uint32_t milliseconds);
extern void limits_end();
extern LimitsReached limits_reached();
extern bool limits_slow();

/* ---- worker.cc: a thread for the engine ---- */

extern bool worker_start();

/* ---- sandbox.cc: what the process may do ---- */

extern void sandbox_first(pid_t parent);
extern void sandbox_limit_memory(size_t bytes);
extern bool sandbox_close();
extern int	sandbox_try(const char *what);

/* ---- realm.cc: the world that a design document's functions live in ---- */

struct Realm
{
	uint32_t	number;
	bool		views;			/* has emit() */
	char	   *text;			/* the design document */
	size_t		len;
	JS::PersistentRootedObject global;	/* nullptr until it is needed */
	JS::PersistentRootedValue ddoc;		/* what functions see as "this" */
	Realm	   *next;
};

extern Realm *realm_find(uint32_t number);
extern void realm_put(JSContext *cx, uint32_t number, bool views, Text ddoc);
extern void realm_forget(uint32_t number);
extern bool realm_open(JSContext *cx, Realm *realm);
extern bool realm_evaluate(JSContext *cx, const char *source, size_t len, const char *filename,
						   JS::MutableHandleValue result);

/* What natives of the realms tell about the call that is being made. */
struct CallState
{
	bool		emitted;
	uint32_t	log_lines;		/* that may still be sent in this batch */
	uint64_t	random;
};

extern CallState call_state;

extern const char *const prelude_source;

/* ---- function.cc: functions of design documents ---- */

extern void function_put(JSContext *cx, Frame *frame);
extern void function_batch(JSContext *cx, Frame *frame);
extern void function_call(JSContext *cx, Frame *frame);
extern void function_forget_realm(Realm *realm);

/* ---- thrown.cc: what is made of an exception ---- */

struct Thrown
{
	uint8_t		verdict;
	size_t		len;
	char		reason[DOCREP_JS_REASON_MAX];

	void		set(uint8_t verdict, const char *text);
};

extern const char *const thrown_no_memory;
extern bool thrown_take(JSContext *cx, Thrown *thrown);
extern bool thrown_is_syntax_error(JSContext *cx);

#endif							/* DOCREP_JS_ENGINE_H */
