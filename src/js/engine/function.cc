/*-------------------------------------------------------------------------
 *
 * function.cc
 *		Functions of design documents: compiling and calling them.
 *
 * The arguments of a call are parsed for that call, so that nothing that a
 * function does to them is seen by another.  What it returns is asked for its
 * truth, which runs no code of anybody.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <string.h>
#include <unistd.h>

/* The kinds are those of js.h: 0 filter, 1 view, 2 validation. */
#define KIND_VIEW		1
#define KIND_VALIDATE	2

struct Function
{
	uint32_t	number;
	uint8_t		kind;
	Realm	   *realm;
	JS::PersistentRootedValue value;
	Function   *next;
};

static Function *functions = nullptr;

/* Has a call been made by this process, which may have left something? */
static bool used = false;

/* The batch that calls belong to. */
static struct
{
	Function   *function;
	uint32_t	milliseconds;
	uint8_t		flags;
	uint32_t	left;			/* calls that are still to come */
	bool		failed;
	JS::PersistentRootedString *args;	/* the texts of the call before */
}			batch;

static Function *
find(uint32_t number)
{
	Function   *function = functions;

	while (function != nullptr && function->number != number)
		function = function->next;
	return function;
}

/* Forgets the functions of a realm. */
void
function_forget_realm(Realm *realm)
{
	for (Function **link = &functions; *link != nullptr;)
	{
		Function   *function = *link;

		if (function->realm != realm)
		{
			link = &function->next;
			continue;
		}
		*link = function->next;
		if (batch.function == function)
			batch.function = nullptr;
		delete function;
	}
}

/* What a call begins with, of any kind. */
static void
begin(uint32_t milliseconds)
{
	call_state.emitted = false;
	call_state.random = UINT64_C(0x9E3779B97F4A7C15);
	limits_begin(milliseconds);
}

/*
 * Memory is short for something of this realm, which need not be to blame: what earlier
 * calls have kept in their globals, and the other realms, are part of it.  Then this
 * process ends, and a new one does it again, where it has nobody else to blame.
 */
static void
leave_if_shared(const Realm *realm)
{
	bool		shared = used;

	for (Function *function = functions; function != nullptr && !shared; function = function->next)
		shared = function->realm != realm;
	if (!shared)
		return;
	frames_flush();
	_exit(DOCREP_JS_EXIT_SPENT);
}

/* What went wrong, as a verdict.  True if memory was short. */
static bool
failed(JSContext *cx, Thrown *thrown, uint32_t milliseconds)
{
	char		text[100];
	bool		no_memory = false;

	/* Looking at what was thrown may be too much, too. */
	if (limits_reached() == LIMITS_NOT)
		no_memory = thrown_take(cx, thrown);
	switch (limits_reached())
	{
		case LIMITS_NOT:
			return no_memory;
		case LIMITS_TIME:
			snprintf(text, sizeof(text), "ran longer than docrep.js_timeout allows, %u ms", milliseconds);
			thrown->set(DOCREP_JS_FAILED, text);
			break;
		case LIMITS_MEMORY:
			thrown->set(DOCREP_JS_FAILED, thrown_no_memory);
			no_memory = true;
			break;
	}
	JS_ClearPendingException(cx);
	limits_end();
	JS_GC(cx);
	return no_memory;
}

/*
 * Finds a function's source in the design document, in the text and not in the
 * object that functions see.  False with "thrown" set, or with an exception.
 */
static bool
find_source(JSContext *cx, Realm *realm, const Text *path, int npath, JS::MutableHandleValue value,
			Thrown *thrown)
{
	JS::RootedString text(cx, JS_NewStringCopyUTF8N(cx, JS::UTF8Chars(realm->text, realm->len)));
	JS::RootedObject object(cx);
	JS::RootedString name(cx);
	JS::RootedId id(cx);

	if (!text || !JS_ParseJSON(cx, text, value))
		return false;
	for (int i = 0; i < npath; i++)
	{
		bool		found = false;

		if (value.isObject())
		{
			object = &value.toObject();
			name = JS_NewStringCopyUTF8N(cx, JS::UTF8Chars(path[i].data, path[i].len));
			if (!name || !JS_StringToId(cx, name, &id) || !JS_HasOwnPropertyById(cx, object, id, &found) ||
				(found && !JS_GetPropertyById(cx, object, id, value)))
				return false;
		}
		if (!found)
		{
			char		reason[DOCREP_JS_REASON_MAX];

			snprintf(reason, sizeof(reason), "missing json key: %.*s", (int) path[i].len, path[i].data);
			thrown->set(DOCREP_JS_MISSING, reason);
			return false;
		}
	}
	return true;
}

/* Appends a function's source, in brackets, to the reason why it cannot be used, as CouchDB does. */
static void
add_source(JSContext *cx, Thrown *thrown, JS::HandleString source)
{
	ssize_t		len;

	if (thrown->len + 4 > sizeof(thrown->reason))
		return;
	memcpy(thrown->reason + thrown->len, " (", 2);
	thrown->len += 2;
	len = mozjs_encode(cx, source, thrown->reason + thrown->len, sizeof(thrown->reason) - thrown->len - 1);
	thrown->len += len > 0 ? len : 0;
	thrown->reason[thrown->len++] = ')';
}

/*
 * Evaluates a function's source: as an expression, as in "function(doc) {...}",
 * whatever may follow it; or, if that is no JavaScript, as a script whose last
 * statement says what it is.  (After "0," a function is an expression, and
 * remains the value of the script when there is a semicolon or a comment behind.)
 */
static bool
evaluate(JSContext *cx, JS::HandleString source, const char *filename, JS::MutableHandleValue value)
{
	JS::RootedString prefix(cx, JS_NewStringCopyZ(cx, "0,"));
	JS::RootedString whole(cx);
	JS::UniqueChars text;

	if (!prefix || !(whole = JS_ConcatStrings(cx, prefix, source)) ||
		!(text = JS_EncodeStringToUTF8(cx, whole)))
		return false;
	if (realm_evaluate(cx, text.get(), strlen(text.get()), filename, value))
		return true;
	if (!thrown_is_syntax_error(cx))
		return false;

	JS::ExceptionStack first(cx);

	if (!JS::StealPendingExceptionStack(cx, &first))
		return false;
	if (realm_evaluate(cx, text.get() + 2, strlen(text.get() + 2), filename, value) &&
		value.isObject() && JS::IsCallable(&value.toObject()))
		return true;
	if (JS_IsExceptionPending(cx) && !thrown_is_syntax_error(cx))
		return false;
	JS_ClearPendingException(cx);
	JS::SetPendingExceptionStack(cx, first);
	return false;
}

/* Compiles in the realm.  False with "thrown" set, or with an exception. */
static bool
compile(JSContext *cx, Realm *realm, const Text *path, int npath, JS::MutableHandleValue value,
		Thrown *thrown)
{
	JS::RootedValue found(cx);
	JS::RootedString source(cx);
	char		filename[128] = "";

	if (!find_source(cx, realm, path, npath, &found, thrown))
		return false;
	if (!found.isString())
	{
		thrown->set(DOCREP_JS_FAILED, "the source of a function must be a string");
		return false;
	}
	source = found.toString();
	for (int i = 0; i < npath; i++)
	{
		size_t		len = strlen(filename);

		snprintf(filename + len, sizeof(filename) - len, "%s%.*s", i > 0 ? "." : "",
				 (int) path[i].len, path[i].data);
	}
	if (!evaluate(cx, source, filename, value))
	{
		if (limits_reached() == LIMITS_NOT && JS_IsExceptionPending(cx) && thrown_is_syntax_error(cx))
		{
			thrown_take(cx, thrown);
			add_source(cx, thrown, source);
		}
		return false;
	}
	if (value.isObject() && JS::IsCallable(&value.toObject()))
		return true;
	thrown->set(DOCREP_JS_FAILED, "Expression does not eval to a function.");
	add_source(cx, thrown, source);
	return false;
}

/* FUNCTION: compiles one and says how that went. */
void
function_put(JSContext *cx, Frame *frame)
{
	uint32_t	number = frame->take_number();
	Realm	   *realm = realm_find(frame->take_number());
	uint8_t		kind = frame->take_byte();
	uint32_t	milliseconds = frame->take_number();
	int			npath = frame->take_byte();
	Text		path[DOCREP_JS_PATH];
	Thrown		thrown;
	bool		ok;

	if (realm == nullptr || npath > DOCREP_JS_PATH || kind > KIND_VALIDATE || find(number) != nullptr)
		frames_garbage();
	for (int i = 0; i < npath; i++)
	{
		path[i] = frame->take_string();
		if (path[i].data == nullptr)
			frames_garbage();
	}
	frame->expect_end();

	JS::RootedValue value(cx);

	thrown.set(DOCREP_JS_YES, "");
	call_state.log_lines = DOCREP_JS_LOG_LINES;
	begin(milliseconds);
	ok = realm_open(cx, realm);
	if (ok)
	{
		JSAutoRealm inside(cx, realm->global);

		ok = compile(cx, realm, path, npath, &value, &thrown);
		if (!ok && thrown.verdict == DOCREP_JS_YES && failed(cx, &thrown, milliseconds))
			leave_if_shared(realm);
	}
	else
	{
		leave_if_shared(realm);
		thrown.set(DOCREP_JS_FAILED, "the design document cannot be read, or needs more than docrep.js_memory");
	}
	limits_end();
	JS_ClearPendingException(cx);
	if (ok)
	{
		Function   *function = new Function();

		function->number = number;
		function->kind = kind;
		function->realm = realm;
		function->value.init(cx, value);
		function->next = functions;
		functions = function;
	}
	frames_put_verdict(DOCREP_JS_COMPILED, thrown.verdict, thrown.reason, thrown.len);
}

/* BATCH: calls follow. */
void
function_batch(JSContext *cx, Frame *frame)
{
	if (batch.args == nullptr)
	{
		batch.args = new JS::PersistentRootedString[DOCREP_JS_ARGS];
		for (int i = 0; i < DOCREP_JS_ARGS; i++)
			batch.args[i].init(cx);
	}
	for (int i = 0; i < DOCREP_JS_ARGS; i++)
		batch.args[i] = nullptr;
	batch.function = find(frame->take_number());
	batch.milliseconds = frame->take_number();
	batch.flags = frame->take_byte();
	batch.left = frame->take_number();
	batch.failed = false;
	frame->expect_end();
	if (batch.function == nullptr || batch.milliseconds == 0)
		frames_garbage();
	call_state.log_lines = DOCREP_JS_LOG_LINES;
}

/* Takes the arguments from the frame.  False with an exception. */
static bool
take_arguments(JSContext *cx, Frame *frame, int nargs, JS::RootedValueArray < DOCREP_JS_ARGS > &values)
{
	Text		texts[DOCREP_JS_ARGS];

	for (int i = 0; i < nargs; i++)
	{
		texts[i] = frame->take_string();
		if (texts[i].data == nullptr && !batch.args[i])
			frames_garbage();
	}
	frame->expect_end();
	for (int i = 0; i < nargs; i++)
	{
		if (texts[i].data != nullptr)
			batch.args[i] = JS_NewStringCopyUTF8N(cx, JS::UTF8Chars(texts[i].data, texts[i].len));
		if (!batch.args[i])
			return false;
	}
	for (int i = 0; i < nargs; i++)
	{
		JS::RootedString text(cx, batch.args[i]);

		if (!JS_ParseJSON(cx, text, values[i]))
			return false;
	}
	return true;
}

/*
 * A validation that is asynchronous would refuse nothing: what its promise will say comes too
 * late.  False, with an exception, if this is what one returned.
 */
static bool
is_no_promise(JSContext *cx, JS::HandleValue result)
{
	if (!result.isObject())
		return true;

	JS::RootedObject object(cx, &result.toObject());

	if (!JS::IsPromiseObject(object))
		return true;
	JS_ReportErrorASCII(cx, "a validation function must not be async, nor return a promise");
	return false;
}

/* Makes one call.  False with an exception, or interrupted. */
static bool
call(JSContext *cx, Frame *frame, int nargs, bool *passes)
{
	Function   *function = batch.function;
	JS::RootedValueArray<DOCREP_JS_ARGS> values(cx);
	JS::RootedValue self(cx);
	JS::RootedValue result(cx);

	if (!take_arguments(cx, frame, nargs, values))
		return false;
	if (function->kind != KIND_VIEW)
		self = function->realm->ddoc;
	if (!JS::Call(cx, self, function->value, JS::HandleValueArray::subarray(values, 0, nargs), &result))
		return false;
	if (function->kind == KIND_VALIDATE && !is_no_promise(cx, result))
		return false;
	*passes = function->kind == KIND_VIEW ? call_state.emitted :
		function->kind == KIND_VALIDATE || JS::ToBoolean(result);
	return true;
}

/* CALL: makes one and answers. */
void
function_call(JSContext *cx, Frame *frame)
{
	int			nargs = frame->take_byte();
	bool		passes = false;
	bool		no_memory = false;
	Thrown		thrown;

	if (batch.left == 0 || batch.function == nullptr || nargs > DOCREP_JS_ARGS)
		frames_garbage();
	batch.left--;
	thrown.set(DOCREP_JS_NOT_CALLED, "an earlier call of the batch failed");
	if (!batch.failed || !(batch.flags & DOCREP_JS_STOP))
	{
		JSAutoRealm inside(cx, batch.function->realm->global);

		begin(batch.milliseconds);
		if (limits_slow())
			frames_flush();
		if (call(cx, frame, nargs, &passes))
			thrown.set(passes ? DOCREP_JS_YES : DOCREP_JS_NO, "");
		else
		{
			no_memory = failed(cx, &thrown, batch.milliseconds);
			if (no_memory)
				leave_if_shared(batch.function->realm);
			batch.failed = true;
		}
		limits_end();
		used = true;
	}
	frames_put_verdict(DOCREP_JS_ANSWER, thrown.verdict, thrown.reason, thrown.len);
	if (batch.flags & DOCREP_JS_CAREFUL)
		frames_flush();

	/* The next call shall not pay for this one. */
	if (no_memory)
		leave_if_shared(batch.function->realm);
}
