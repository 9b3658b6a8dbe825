/*-------------------------------------------------------------------------
 *
 * js_client.c
 *		Compiling and calling JavaScript functions: what js.h offers.
 *
 * Calls are sent in a stream and answered in the same order.  When the helper
 * goes in the middle of it, some answers may be lost with it, so nobody knows
 * which call has killed it: a new one gets the calls that have no answer, and is
 * told to be careful, that is, to send every answer before it makes the next
 * call.  If it goes again, the first call without an answer is the culprit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "js/js_internal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "store/errcodes.h"
#include "utils/guc.h"

int			docrep_js_timeout = 5000;
int			docrep_js_memory = 64 * 1024;

struct DocrepJs
{
	DocrepJsKind kind;
	char	   *name;
	Oid			role;
	char	   *ddoc;
	Size		len;
	int			npath;
	char	  **path;
	uint32		realm;			/* its number when it was last asked for */
};

/*
 * Only a superuser, or somebody who has been granted SET on them, changes these: they
 * protect the machine from those who write design documents.
 */
void
docrep_js_define_gucs(void)
{
	DefineCustomIntVariable("docrep.js_timeout",
							"Time of the processor that a JavaScript function may take for a document.",
							NULL, &docrep_js_timeout, 5000, 10, 3600 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("docrep.js_memory",
							"Memory that JavaScript functions of a session may take.",
							NULL, &docrep_js_memory, 64 * 1024, 16 * 1024, 2 * 1024 * 1024 - 1,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
}

/* Raises what a function's compilation has come to, unless it went well. */
static void
check_compiled(const DocrepJs *js, uint8 verdict, const char *reason)
{
	if (verdict == DOCREP_JS_YES)
		return;
	if (verdict == DOCREP_JS_MISSING)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_NOT_FOUND),
				 errmsg("%s", reason),
				 errdetail("The function \"%s\" is asked for.", js->name)));
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_INTERNAL),
			 errmsg("compilation_error: %s", reason),
			 errdetail("This is about the function \"%s\".", js->name)));
}

/*
 * The function in the helper, which is started and told if need be.  A helper that has
 * gone is replaced once: it may have ended long ago for want of work.
 */
static JsFunction *
open_function(DocrepJs *js)
{
	for (int attempt = 0; attempt < 2; attempt++)
	{
		JsRealm    *realm = docrep_js_realm(js->realm, js->role, js->kind == DOCREP_JS_VIEW,
											js->ddoc, js->len);
		JsFunction *function = docrep_js_function(realm, js->kind, js->path, js->npath);
		uint8		verdict;
		char	   *reason;

		js->realm = realm->number;
		if (docrep_js_define(realm, function, &verdict, &reason))
		{
			check_compiled(js, verdict, reason);
			return function;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_INTERNAL),
			 errmsg("compilation_error: %s", docrep_js_last_end()),
			 errdetail("This is about the function \"%s\".", js->name)));
}

/* See js.h. */
DocrepJs *
docrep_js_compile(const char *ddoc, DocrepJsKind kind, const char *const *path, int npath,
				  const char *name)
{
	DocrepJs   *js = palloc0(sizeof(DocrepJs));

	docrep_js_require();
	Assert(npath <= DOCREP_JS_PATH);
	js->kind = kind;
	js->name = pstrdup(name);
	js->role = GetUserId();
	js->ddoc = pstrdup(ddoc);
	js->len = strlen(ddoc);
	js->npath = npath;
	js->path = palloc(sizeof(char *) * Max(npath, 1));
	for (int i = 0; i < npath; i++)
		js->path[i] = pstrdup(path[i]);
	if (js->len > (Size) docrep_js_memory * 1024 / 4)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_INTERNAL),
				 errmsg("compilation_error: the design document is too large for docrep.js_memory"),
				 errdetail("This is about the function \"%s\".", js->name)));
	(void) open_function(js);
	return js;
}

/* A batch that is being talked about. */
typedef struct Batch
{
	DocrepJs   *js;
	uint32		function;
	DocrepJsCall *calls;
	int			n;
	bool		careful;
	bool		begun;
	int			sent;			/* calls that have been put into frames */
	int			answered;
} Batch;

/* How many arguments a function of this kind gets. */
static int
count_args(DocrepJsKind kind)
{
	return kind == DOCREP_JS_VIEW ? 1 : kind == DOCREP_JS_FILTER ? 2 : 4;
}

/* Filters and views are not asked any further after an error, as nobody wants to know. */
static bool
stops_at_error(const DocrepJs *js)
{
	return js->kind != DOCREP_JS_VALIDATE;
}

/* Is argument i the same as in the call before? */
static bool
same_as_before(const DocrepJsCall *call, const DocrepJsCall *before, int i)
{
	if (call->lens[i] != before->lens[i])
		return false;
	return call->args[i] == before->args[i] ||
		(i > 0 && memcmp(call->args[i], before->args[i], call->lens[i]) == 0);
}

static void
put_batch(Batch *batch, StringInfo out)
{
	int			start = docrep_js_frame_begin(out, DOCREP_JS_BATCH);

	docrep_js_put_number(out, batch->function);
	docrep_js_put_number(out, docrep_js_timeout);
	appendStringInfoChar(out, (batch->careful ? DOCREP_JS_CAREFUL : 0) |
						 (stops_at_error(batch->js) ? DOCREP_JS_STOP : 0));
	docrep_js_put_number(out, batch->n);
	docrep_js_frame_end(out, start);
}

static void
put_call(Batch *batch, StringInfo out)
{
	DocrepJsCall *call = &batch->calls[batch->sent];
	int			nargs = count_args(batch->js->kind);
	int			start = docrep_js_frame_begin(out, DOCREP_JS_CALL);

	appendStringInfoChar(out, nargs);
	for (int i = 0; i < nargs; i++)
	{
		if (batch->sent > 0 && same_as_before(call, call - 1, i))
			docrep_js_put_number(out, DOCREP_JS_SAME);
		else
			docrep_js_put_text(out, call->args[i], call->lens[i]);
	}
	docrep_js_frame_end(out, start);
	batch->sent++;
}

/* The next frame of a batch. */
static bool
produce_batch(void *arg, StringInfo out)
{
	Batch	   *batch = arg;

	if (!batch->begun)
	{
		put_batch(batch, out);
		batch->begun = true;
	}
	else
		put_call(batch, out);
	return batch->sent < batch->n;
}

/* Sets a call's answer. */
static void
set_answer(DocrepJsCall *call, uint8 verdict, char *reason)
{
	call->passes = verdict == DOCREP_JS_YES;
	call->reason = NULL;
	call->sqlstate = 0;
	if (verdict == DOCREP_JS_YES || verdict == DOCREP_JS_NO)
		return;
	call->reason = reason;
	call->sqlstate = verdict == DOCREP_JS_FORBIDDEN ? ERRCODE_DOCREP_FORBIDDEN :
		verdict == DOCREP_JS_UNAUTHORIZED ? ERRCODE_DOCREP_UNAUTHORIZED : ERRCODE_DOCREP_INTERNAL;
}

/* An answer has come. */
static bool
consume_answer(void *arg, char type, const char *data, int len)
{
	Batch	   *batch = arg;

	if (type != DOCREP_JS_ANSWER || len < 1 || batch->answered >= batch->sent)
		elog(ERROR, "unexpected answer of the JavaScript engine");
	set_answer(&batch->calls[batch->answered], (uint8) data[0],
			   len > 1 || data[0] > DOCREP_JS_YES ? docrep_js_text(data + 1, len - 1) : NULL);
	batch->answered++;
	return batch->answered == batch->n;
}

/* Does a call fit into the memory that there is? */
static bool
is_too_large(const DocrepJs *js, const DocrepJsCall *call)
{
	int64		total = 0;

	for (int i = 0; i < count_args(js->kind); i++)
		total += call->lens[i];

	/* three bytes for one, if the database's encoding is not UTF-8 */
	if (GetDatabaseEncoding() != PG_UTF8)
		total *= 3;
	return total > (int64) docrep_js_memory * 1024 / 2;
}

/*
 * Makes calls, of which each fits.  Returns how many have an answer now, at least
 * one: or none, when the helper went and another one shall try again.
 */
static int
run_batch(DocrepJs *js, DocrepJsCall *calls, int n, bool *careful)
{
	Batch		batch = {0};
	JsTalk		talk = {produce_batch, consume_answer, &batch};

	batch.js = js;
	batch.function = open_function(js)->number;
	batch.calls = calls;
	batch.n = n;
	batch.careful = *careful;
	if (docrep_js_talk(&talk))
		return n;
	if (docrep_js_was_spent())
		return batch.answered;
	if (*careful)
	{
		set_answer(&calls[batch.answered], DOCREP_JS_FAILED, pstrdup(docrep_js_last_end()));
		batch.answered++;
	}
	*careful = true;
	return batch.answered;
}

/* Makes calls up to the first that is too large, which gets its answer here. */
static int
run_calls(DocrepJs *js, DocrepJsCall *calls, int n, bool *careful)
{
	int			fitting = 0;

	while (fitting < n && !is_too_large(js, &calls[fitting]))
		fitting++;
	if (fitting > 0)
		return run_batch(js, calls, fitting, careful);
	set_answer(&calls[0], DOCREP_JS_FAILED, pstrdup("the document is too large for docrep.js_memory"));
	return 1;
}

/* See js.h. */
void
docrep_js_call(DocrepJs *js, DocrepJsCall *calls, int n)
{
	bool		careful = false;
	bool		failed = false;
	int			done = 0;

	while (done < n && !failed)
	{
		int			before = done;

		done += run_calls(js, calls + done, n - done, &careful);
		for (int i = before; i < done && stops_at_error(js); i++)
			failed = failed || calls[i].sqlstate != 0;
	}
	for (; done < n; done++)
		set_answer(&calls[done], DOCREP_JS_NOT_CALLED, pstrdup("an earlier call of the batch failed"));
}
