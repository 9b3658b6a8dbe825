/*-------------------------------------------------------------------------
 *
 * realm.cc
 *		The worlds that design documents live in.
 *
 * Every design document has a realm: a global object with everything that is
 * built in, of its own.  Functions of one document share it, as in CouchDB; no
 * object of one realm ever gets into another.  The backend says which realms there
 * are, and forgets those that have not been used for long.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

CallState	call_state;

static Realm *realms = nullptr;

static const JSClass global_class = {
	"global", JSCLASS_GLOBAL_FLAGS, &JS::DefaultGlobalClassOps, nullptr, nullptr, nullptr
};

/* The realm of that number, or nullptr. */
Realm *
realm_find(uint32_t number)
{
	Realm	   *realm = realms;

	while (realm != nullptr && realm->number != number)
		realm = realm->next;
	return realm;
}

void
realm_forget(uint32_t number)
{
	for (Realm **link = &realms; *link != nullptr; link = &(*link)->next)
	{
		Realm	   *realm = *link;

		if (realm->number != number)
			continue;
		function_forget_realm(realm);
		*link = realm->next;
		free(realm->text);
		delete realm;
		return;
	}
}

/* A realm that may be needed; it is made when it is. */
void
realm_put(JSContext *cx, uint32_t number, bool views, Text ddoc)
{
	Realm	   *realm;

	realm_forget(number);
	realm = new Realm();
	realm->number = number;
	realm->views = views;
	realm->len = ddoc.len;
	realm->text = (char *) malloc(ddoc.len + 1);
	if (realm->text == nullptr)
		_exit(DOCREP_JS_EXIT_MEMORY);
	memcpy(realm->text, ddoc.data, ddoc.len);
	realm->global.init(cx);
	realm->ddoc.init(cx);
	realm->next = realms;
	realms = realm;
}

/* Runs a script in the current realm.  The result is that of its last statement. */
bool
realm_evaluate(JSContext *cx, const char *source, size_t len, const char *filename,
			   JS::MutableHandleValue result)
{
	JS::CompileOptions options(cx);
	JS::SourceText < mozilla::Utf8Unit > text;

	options.setFileAndLine(filename, 1);
	return text.init(cx, source, len, JS::SourceOwnership::Borrowed) &&
		JS::Evaluate(cx, options, text, result);
}

/* log(text): a line for the server's log, cut to size; no more than so many in a batch. */
static bool
native_log(JSContext *cx, unsigned argc, JS::Value *vp)
{
	JS::CallArgs args = JS::CallArgsFromVp(argc, vp);
	char		line[DOCREP_JS_LOG_MAX];
	ssize_t		len;

	args.rval().setUndefined();
	if (call_state.log_lines == 0 || !args.get(0).isString())
		return true;
	call_state.log_lines--;
	len = mozjs_encode(cx, args[0].toString(), line, sizeof(line));
	if (len > 0)
		frames_put(DOCREP_JS_LOG, line, len);
	return true;
}

/* emit(key, value): a view says that the document is in it. */
static bool
native_emit(JSContext *, unsigned argc, JS::Value *vp)
{
	call_state.emitted = true;
	JS::CallArgsFromVp(argc, vp).rval().setUndefined();
	return true;
}

/* Math.random(): a sequence (xorshift) that begins anew with every call. */
static bool
native_random(JSContext *, unsigned argc, JS::Value *vp)
{
	uint64_t	x = call_state.random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	call_state.random = x;
	JS::CallArgsFromVp(argc, vp).rval().setNumber((double) (x >> 11) / 9007199254740992.0);
	return true;
}

/* compile(source, id): what a module's source is as an expression. */
static bool
native_compile(JSContext *cx, unsigned argc, JS::Value *vp)
{
	JS::CallArgs args = JS::CallArgsFromVp(argc, vp);
	JS::RootedString source(cx);
	JS::RootedString id(cx);
	JS::UniqueChars source_text;
	JS::UniqueChars id_text;

	source = JS::ToString(cx, args.get(0));
	if (!source || !(source_text = JS_EncodeStringToUTF8(cx, source)))
		return false;
	id = JS::ToString(cx, args.get(1));
	if (!id || !(id_text = JS_EncodeStringToUTF8(cx, id)))
		return false;
	return realm_evaluate(cx, source_text.get(), strlen(source_text.get()), id_text.get(), args.rval());
}

/* Calls the prelude in a new realm. */
static bool
run_prelude(JSContext *cx, Realm *realm)
{
	JS::RootedObject native(cx, JS_NewPlainObject(cx));
	JS::RootedValue prelude(cx);
	JS::RootedValue ignored(cx);
	JS::RootedValueArray<3> args(cx);

	if (!native ||
		!JS_DefineFunction(cx, native, "log", native_log, 1, 0) ||
		!JS_DefineFunction(cx, native, "emit", native_emit, 2, 0) ||
		!JS_DefineFunction(cx, native, "random", native_random, 0, 0) ||
		!JS_DefineFunction(cx, native, "compile", native_compile, 2, 0) ||
		!realm_evaluate(cx, prelude_source, strlen(prelude_source), "docrep", &prelude))
		return false;
	args[0].setObject(*native);
	args[1].set(realm->ddoc);
	args[2].setBoolean(realm->views);
	return JS::Call(cx, JS::UndefinedHandleValue, prelude, args, &ignored);
}

/* Makes a realm's global object unless it is there.  False with an exception set. */
bool
realm_open(JSContext *cx, Realm *realm)
{
	JS::RealmOptions options;

	if (realm->global)
		return true;
	options.creationOptions().setSharedMemoryAndAtomicsEnabled(false);
	options.creationOptions().setNewCompartmentAndZone();

	JS::RootedObject global(cx, JS_NewGlobalObject(cx, &global_class, nullptr,
												   JS::FireOnNewGlobalHook, options));

	if (!global)
		return false;

	JSAutoRealm inside(cx, global);
	JS::RootedString text(cx, JS_NewStringCopyUTF8N(cx, JS::UTF8Chars(realm->text, realm->len)));

	if (!text || !JS_ParseJSON(cx, text, &realm->ddoc) || !run_prelude(cx, realm))
		return false;
	realm->global = global;
	return true;
}
