/*-------------------------------------------------------------------------
 *
 * thrown.cc
 *		What is made of something that was thrown.
 *
 * Anything can be thrown, and looking at it may run code of whoever threw it:
 * getters, proxies, toString().  All of that happens within the time of the call,
 * and what is thrown meanwhile is ignored.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <string.h>

const char *const thrown_no_memory = "ran out of memory, of which docrep.js_memory says how much there is";

/* Sets verdict and reason. */
void
Thrown::set(uint8_t new_verdict, const char *text)
{
	verdict = new_verdict;
	len = strlen(text);
	if (len > sizeof(reason))
		len = sizeof(reason);
	memcpy(reason, text, len);
}

/* Is the pending exception a SyntaxError (of whichever realm)?  It remains pending. */
bool
thrown_is_syntax_error(JSContext *cx)
{
	JS::RootedValue value(cx);
	JS::RootedObject object(cx);
	JSErrorReport *report;

	if (!JS_GetPendingException(cx, &value) || !value.isObject())
		return false;
	object = &value.toObject();
	report = JS_ErrorFromException(cx, object);
	return report != nullptr && report->exnType == JSEXN_SYNTAXERR;
}

/* Collects the text of JSON up to what a reason holds. */
struct Collected
{
	char16_t	text[DOCREP_JS_REASON_MAX];
	size_t		len;
};

static bool
collect(const char16_t *text, uint32_t len, void *data)
{
	Collected  *collected = (Collected *) data;
	size_t		room = DOCREP_JS_REASON_MAX - collected->len;

	if (len > room)
		len = room;
	memcpy(collected->text + collected->len, text, len * sizeof(char16_t));
	collected->len += len;
	return true;
}

/* The value as JSON, or nullptr. */
static JSString *
to_json(JSContext *cx, JS::HandleValue value)
{
	Collected	collected;
	JS::RootedValue copy(cx, value);

	collected.len = 0;
	if (!JS_Stringify(cx, &copy, nullptr, JS::NullHandleValue, collect, &collected) ||
		collected.len == 0)
		return nullptr;
	return JS_NewUCStringCopyN(cx, collected.text, collected.len);
}

/*
 * Sets the reason: a string as it is, an Error as "TypeError: ...", other objects as
 * JSON, whatever is left in words.
 */
static void
describe(JSContext *cx, JS::HandleValue value, Thrown *thrown)
{
	JS::RootedString text(cx);
	ssize_t		len = -1;

	if (value.isObject())
	{
		JS::RootedObject object(cx, &value.toObject());
		bool		is_error = JS_ErrorFromException(cx, object) != nullptr;

		if (!is_error && !JS::IsCallable(object))
			text = to_json(cx, value);
		if (!text && limits_reached() == LIMITS_NOT)
		{
			JS_ClearPendingException(cx);
			text = JS::ToString(cx, value);
		}
	}
	else if (!value.isSymbol())
		text = JS::ToString(cx, value);
	JS_ClearPendingException(cx);
	if (text)
		len = mozjs_encode(cx, text, thrown->reason, sizeof(thrown->reason));
	if (len < 0)
		thrown->set(thrown->verdict, "something was thrown that cannot be shown");
	else
		thrown->len = len;
	JS_ClearPendingException(cx);
}

/*
 * Is there such a member?  Then the verdict is set, and the member's value is the
 * reason.
 */
static bool
take_member(JSContext *cx, JS::HandleObject object, const char *name, uint8_t verdict, Thrown *thrown)
{
	JS::RootedValue value(cx);

	if (limits_reached() != LIMITS_NOT)
		return false;
	if (!JS_GetProperty(cx, object, name, &value))
	{
		JS_ClearPendingException(cx);
		return false;
	}
	if (value.isUndefined())
		return false;
	thrown->verdict = verdict;
	describe(cx, value, thrown);
	return true;
}

/*
 * Takes the pending exception and says what it means.  Without one, the call was ended.
 * True if it means that there was no memory.
 */
bool
thrown_take(JSContext *cx, Thrown *thrown)
{
	JS::ExceptionStack stack(cx);
	bool		no_memory = JS_IsThrowingOutOfMemory(cx);

	thrown->set(DOCREP_JS_FAILED, "the call was ended");
	if (no_memory)
	{
		JS_ClearPendingException(cx);
		thrown->set(DOCREP_JS_FAILED, thrown_no_memory);
		JS_GC(cx);
		return true;
	}
	if (!JS_IsExceptionPending(cx) || !JS::StealPendingExceptionStack(cx, &stack))
	{
		JS_ClearPendingException(cx);
		return false;
	}

	JS::RootedValue value(cx, stack.exception());

	if (value.isObject())
	{
		JS::RootedObject object(cx, &value.toObject());

		if (take_member(cx, object, "forbidden", DOCREP_JS_FORBIDDEN, thrown) ||
			take_member(cx, object, "unauthorized", DOCREP_JS_UNAUTHORIZED, thrown))
			return false;
	}
	if (limits_reached() == LIMITS_NOT)
		describe(cx, value, thrown);
	return false;
}
