/*-------------------------------------------------------------------------
 *
 * js.h
 *		JavaScript of design documents, run by a helper process.
 *
 * The engine (SpiderMonkey, as CouchDB's) runs in a process of its own per
 * session, started when it is first needed: without files, network, processes
 * and clock, with limits of time (docrep.js_timeout) and memory
 * (docrep.js_memory).  Nothing that JavaScript does can harm more than the
 * call.  Waiting for it handles interrupts.
 *
 * Documents go in as JSON text.  What a function may do to its own globals is
 * seen by later calls of functions of the same design document in the same
 * session and role, as in CouchDB, and by nobody else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_JS_JS_H
#define DOCREP_JS_JS_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef struct DocrepJs DocrepJs;

/* What a function of a design document is for: how it is called, and what comes of it. */
typedef enum DocrepJsKind
{
	DOCREP_JS_FILTER,			/* function(doc, req): truthy passes */
	DOCREP_JS_VIEW,				/* function(doc) that calls emit(): who emits passes */
	DOCREP_JS_VALIDATE			/* function(newDoc, oldDoc, userCtx, secObj): throws or not */
} DocrepJsKind;

/* Is the helper program installed? */
extern bool docrep_js_available(void);

/* 0A000, with what to install, unless it is. */
extern void docrep_js_require(void);

/*
 * Compile a function of a design document in the current memory context, with
 * which it goes.  ddoc: JSON text of the whole design document, _id included
 * ("this" of the function, and where require() looks); path: the members that
 * lead to its source, such as {"filters", "name"}.  Without the engine: 0A000.
 * No such member: DR404 with "missing json key: name", as CouchDB.  Source that
 * does not compile or is no function: DR500 with CouchDB's "compilation_error".
 * name: what messages call it ("app/name").
 */
extern DocrepJs *docrep_js_compile(const char *ddoc, DocrepJsKind kind, const char *const *path,
								   int npath, const char *name);

/*
 * What is asked about one document, and the answer.  Arguments are JSON texts with
 * their lengths; the answer is allocated in the current context.
 */
typedef struct DocrepJsCall
{
	/* in: doc, req (a filter's); doc (a view's); newDoc, oldDoc or "null", userCtx, secObj */
	const char *args[4];
	int			lens[4];

	/* out */
	bool		passes;			/* a filter's, a view's; a validation's if it did not throw */
	int			sqlstate;		/* 0, or why there is no answer: DR403 (threw {forbidden: ...}), DR401
								 * ({unauthorized: ...}), DR500 (threw something else, ran out of time
								 * or memory, or the engine died) */
	char	   *reason;			/* with sqlstate: what was thrown, cut to a decent length */
} DocrepJsCall;

/*
 * Call the function for each of n documents.  Raises only what concerns all of them: a cancel,
 * an engine that cannot be started.  Filters and views are not called any more after the first
 * error: the documents behind it get DR500 ("an earlier call of the batch failed").  Every call
 * of a validation is made.
 */
extern void docrep_js_call(DocrepJs *js, DocrepJsCall *calls, int n);

extern void docrep_js_define_gucs(void);	/* docrep.js_timeout, docrep.js_memory */

#endif							/* DOCREP_JS_JS_H */
