/*-------------------------------------------------------------------------
 *
 * mozjs.h
 *		SpiderMonkey's headers, and what differs between its versions 102 to 140.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_JS_MOZJS_H
#define DOCREP_JS_MOZJS_H

#include <type_traits>

#include <jsapi.h>

#include <js/Array.h>
#include <js/CallAndConstruct.h>
#include <js/CharacterEncoding.h>
#include <js/CompilationAndEvaluation.h>
#include <js/CompileOptions.h>
#include <js/Context.h>
#include <js/ContextOptions.h>
#include <js/Conversions.h>
#include <js/Exception.h>
#include <js/GCAPI.h>
#include <js/GlobalObject.h>
#include <js/HelperThreadAPI.h>
#include <js/Initialization.h>
#include <js/Interrupt.h>
#include <js/JSON.h>
#include <js/LocaleSensitive.h>
#include <js/Object.h>
#include <js/Promise.h>
#include <js/PropertyAndElement.h>
#include <js/Realm.h>
#include <js/RealmOptions.h>
#include <js/SourceText.h>
#include <js/Stack.h>
#include <js/String.h>
#include <js/Value.h>

#if MOZJS_MAJOR_VERSION < 102
#error "docrep_js needs SpiderMonkey 102 or newer"
#endif

/*
 * A queue for what promises want to be done later.  Nothing is ever done later
 * here: a job that is put into it is dropped.
 */
class NoJobs final : public JS::JobQueue
{
public:
#if MOZJS_MAJOR_VERSION < 140
	JSObject   *getIncumbentGlobal(JSContext *cx) override
	{
		return JS::CurrentGlobalOrNull(cx);
	}
#else
	/* what a job is to be given of ours: nothing */
	bool		getHostDefinedData(JSContext *, JS::MutableHandle < JSObject * >data) const override
	{
		data.set(nullptr);
		return true;
	}
#endif
	bool		enqueuePromiseJob(JSContext *, JS::HandleObject, JS::HandleObject,
								  JS::HandleObject, JS::HandleObject) override
	{
		return true;
	}
	void		runJobs(JSContext *) override
	{
	}
	bool		empty() const override
	{
		return true;
	}

	/* newer versions ask; no "override", as 102 does not */
	bool		isDrainingStopped() const
	{
		return false;
	}

protected:
	js::UniquePtr < SavedJobQueue > saveJobQueue(JSContext *) override
	{
		return js::MakeUnique < SavedJobQueue > ();
	}
};

/*
 * The engine has something to do for a thread.  Older versions say only that, and newer
 * ones what it is; which form there is, the compiler finds out.
 */
extern void worker_add(void (*run) (void *), void *task);

template < typename...Task >
void
mozjs_run_task(Task...task)
{
	JS::RunHelperThreadTask(task...);
}

template < typename Task >
void
mozjs_add_task(Task task)
{
	if constexpr (std::is_pointer_v < Task >)
		worker_add([](void *p) { mozjs_run_task((Task) p); }, (void *) task);
	else
		worker_add([](void *) { mozjs_run_task <> (); }, nullptr);
}

/* Encodes a string as UTF-8 into a buffer, as much of it as fits.  Returns the bytes, or -1. */
inline ssize_t
mozjs_encode(JSContext *cx, JSString *string, char *buffer, size_t size)
{
	auto		done = JS_EncodeStringToUTF8BufferPartial(cx, string, mozilla::Span < char >(buffer, size));

	if (!done)
		return -1;
#if MOZJS_MAJOR_VERSION < 115
	return mozilla::Get < 1 > (*done);
#else
	return std::get < 1 > (*done);
#endif
}

#endif							/* DOCREP_JS_MOZJS_H */
