/*-------------------------------------------------------------------------
 *
 * js_protocol.h
 *		What backend and helper program say to each other.
 *
 * Both are built from the same source and run on the same machine, so numbers
 * are in its byte order.  A frame is the length of what follows (4 bytes), a
 * type (1 byte) and the rest; a string in it is its length (4 bytes) and its
 * bytes, in UTF-8, without a terminating zero.
 *
 * This header is C and C++ and includes nothing of PostgreSQL or SpiderMonkey.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_JS_PROTOCOL_H
#define DOCREP_JS_PROTOCOL_H

/* The helper says it first of all; another one is not spoken to. */
#define DOCREP_JS_PROTOCOL	1

/* The helper's end of the socket pair. */
#define DOCREP_JS_FD		3

/* Bytes of a reason and of a line of log(), and lines for one batch. */
#define DOCREP_JS_REASON_MAX	1000
#define DOCREP_JS_LOG_MAX		1000
#define DOCREP_JS_LOG_LINES		100

#define DOCREP_JS_ARGS			4	/* arguments that a function has at most */
#define DOCREP_JS_PATH			8	/* members that lead to a function at most */

/* Seconds without work after which the helper ends by itself. */
#define DOCREP_JS_IDLE			60

/* A function that cannot even be interrupted is let run so much longer (ms). */
#define DOCREP_JS_GRACE			1000

/*
 * From the backend.
 *
 * REALM:    number, 1 byte (1: for views), text of the design document.  Replaces one
 *           of the same number.  No answer.
 * FORGET:   number of a realm; its functions go, too.  No answer.
 * FUNCTION: number, number of its realm, kind (1 byte), milliseconds, number of
 *           members (1 byte), as many strings: where its source is.  Answer: COMPILED.
 * BATCH:    number of the function, milliseconds for a call, flags (1 byte), number of
 *           calls.  No answer.
 * CALL:     number of arguments (1 byte), as many strings, where the length
 *           DOCREP_JS_SAME stands for that argument of the call before.  Answer: ANSWER.
 */
#define DOCREP_JS_REALM			'D'
#define DOCREP_JS_FORGET		'X'
#define DOCREP_JS_FUNCTION		'F'
#define DOCREP_JS_BATCH			'B'
#define DOCREP_JS_CALL			'K'

#define DOCREP_JS_SAME			0xFFFFFFFFu

#define DOCREP_JS_CAREFUL		1	/* every answer is sent before the next call is made */
#define DOCREP_JS_STOP			2	/* no call is made after the first that fails */

/*
 * From the helper.
 *
 * READY:    DOCREP_JS_PROTOCOL, name of the engine
 * COMPILED: DOCREP_JS_OK or what is wrong (1 byte), reason
 * ANSWER:   verdict (1 byte), reason
 * LOG:      a line
 */
#define DOCREP_JS_READY			'R'
#define DOCREP_JS_COMPILED		'C'
#define DOCREP_JS_ANSWER		'A'
#define DOCREP_JS_LOG			'L'

/* Verdicts.  The first two are those of a call that did not fail. */
#define DOCREP_JS_NO			0
#define DOCREP_JS_YES			1
#define DOCREP_JS_FAILED		2
#define DOCREP_JS_FORBIDDEN		3
#define DOCREP_JS_UNAUTHORIZED	4
#define DOCREP_JS_MISSING		5	/* of FUNCTION only: no such member */
#define DOCREP_JS_NOT_CALLED	6	/* of CALL only: an earlier one failed */

/* Exit statuses of the helper that mean something. */
#define DOCREP_JS_EXIT_GARBAGE	2	/* a frame that makes no sense */
#define DOCREP_JS_EXIT_TIME		3	/* a call that could not be interrupted */
#define DOCREP_JS_EXIT_START	4	/* the engine or the sandbox cannot be set up */
#define DOCREP_JS_EXIT_MEMORY	5	/* no memory for a frame */
#define DOCREP_JS_EXIT_SPENT	6	/* functions have kept so much that a new one must go on; no
								 * call is to blame */

#endif							/* DOCREP_JS_PROTOCOL_H */
