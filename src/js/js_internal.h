/*-------------------------------------------------------------------------
 *
 * js_internal.h
 *		What the files of src/js share among themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_JS_INTERNAL_H
#define DOCREP_JS_INTERNAL_H

#include "js/js.h"
#include "js/js_protocol.h"

/* ---- js_process.c: the helper of this backend ---- */

/*
 * A conversation: what is sent, and what is done with the answers.  produce()
 * appends frames and returns false when there is nothing more to send; consume()
 * takes an answer and returns true when it was the last.  Both may raise.
 */
typedef struct JsTalk
{
	bool		(*produce) (void *arg, StringInfo out);
	bool		(*consume) (void *arg, char type, const char *data, int len);
	void	   *arg;
} JsTalk;

extern void docrep_js_start(void);
extern uint64 docrep_js_generation(void);
extern bool docrep_js_talk(JsTalk *talk);
extern const char *docrep_js_last_end(void);
extern bool docrep_js_was_spent(void);

/* ---- js_frame.c: frames and texts ---- */

extern int	docrep_js_frame_begin(StringInfo out, char type);
extern void docrep_js_frame_end(StringInfo out, int start);
extern void docrep_js_put_number(StringInfo out, uint32 number);
extern void docrep_js_put_text(StringInfo out, const char *text, int len);
extern void docrep_js_put_bytes(StringInfo out, const char *text, int len);
extern char *docrep_js_text(const char *data, int len);

/* ---- js_realm.c: design documents that the helper knows ---- */

typedef struct JsFunction
{
	uint32		number;
	DocrepJsKind kind;
	int			npath;
	char	  **path;
	uint64		generation;		/* of the helper that has it */
	struct JsFunction *next;
} JsFunction;

typedef struct JsRealm
{
	uint32		number;
	Oid			role;
	bool		views;
	char	   *ddoc;			/* JSON text */
	Size		len;
	uint64		used;			/* the greater, the later */
	uint64		generation;
	JsFunction *functions;
	MemoryContext context;		/* all of the above */
} JsRealm;

extern JsRealm *docrep_js_realm(uint32 number, Oid role, bool views, const char *ddoc, Size len);
extern JsFunction *docrep_js_function(JsRealm *realm, DocrepJsKind kind, char *const *path, int npath);
extern bool docrep_js_define(JsRealm *realm, JsFunction *function, uint8 *verdict, char **reason);

/* ---- js_client.c ---- */

extern int	docrep_js_timeout;
extern int	docrep_js_memory;

#endif							/* DOCREP_JS_INTERNAL_H */
