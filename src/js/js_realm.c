/*-------------------------------------------------------------------------
 *
 * js_realm.c
 *		The design documents that the helper knows, with their functions.
 *
 * Documents are told apart by their text and by the role that uses them, so that
 * nobody sees what functions do to their globals on behalf of another.  Few are
 * kept, the last that were used; the helper knows no more than we do.  A helper
 * that is new is told again what is needed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "js/js_internal.h"
#include "utils/memutils.h"

#define MAX_REALMS		64

static JsRealm *realms[MAX_REALMS];
static uint32 last_number = 0;	/* of realms and functions; no number is ever used again */
static uint64 clock_of_use = 0;

/* Numbers of realms that the helper still has to be told to forget. */
static uint32 forgotten[MAX_REALMS];
static int	nforgotten = 0;

/* Removes a realm. */
static void
drop_realm(int i)
{
	if (realms[i]->generation != 0 && realms[i]->generation == docrep_js_generation() &&
		nforgotten < MAX_REALMS)
		forgotten[nforgotten++] = realms[i]->number;
	MemoryContextDelete(realms[i]->context);
	realms[i] = NULL;
}

/* A free place; if need be, that of the realm that has not been used for the longest time. */
static int
free_place(Size wanted)
{
	for (;;)
	{
		Size		total = wanted;
		int			oldest = -1;
		int			place = -1;

		for (int i = 0; i < MAX_REALMS; i++)
		{
			if (realms[i] == NULL)
			{
				place = i;
				continue;
			}
			total += realms[i]->len;
			if (oldest < 0 || realms[i]->used < realms[oldest]->used)
				oldest = i;
		}
		if (oldest < 0 || (place >= 0 && total <= (Size) docrep_js_memory * 1024 / 8))
			return place;
		drop_realm(oldest);
	}
}

static JsRealm *
make_realm(Oid role, bool views, const char *ddoc, Size len)
{
	int			place = free_place(len);
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "docrep design document",
												  ALLOCSET_SMALL_SIZES);
	JsRealm    *realm = MemoryContextAllocZero(context, sizeof(JsRealm));

	realm->context = context;
	realm->number = ++last_number;
	realm->role = role;
	realm->views = views;
	realm->len = len;
	realm->ddoc = MemoryContextAllocHuge(context, len + 1);
	memcpy(realm->ddoc, ddoc, len);
	realm->ddoc[len] = '\0';
	realms[place] = realm;
	return realm;
}

/*
 * The realm of a design document, which is made if there is none.  number: what it was
 * when the caller last asked, or 0.  Good until the next call.
 */
JsRealm *
docrep_js_realm(uint32 number, Oid role, bool views, const char *ddoc, Size len)
{
	JsRealm    *found = NULL;

	for (int i = 0; i < MAX_REALMS && found == NULL; i++)
	{
		if (realms[i] != NULL && realms[i]->number == number)
			found = realms[i];
	}
	for (int i = 0; i < MAX_REALMS && found == NULL; i++)
	{
		JsRealm    *realm = realms[i];

		if (realm != NULL && realm->role == role && realm->views == views && realm->len == len &&
			memcmp(realm->ddoc, ddoc, len) == 0)
			found = realm;
	}
	if (found == NULL)
		found = make_realm(role, views, ddoc, len);
	found->used = ++clock_of_use;
	return found;
}

/* The function of a realm that is found there, compiled or not. */
JsFunction *
docrep_js_function(JsRealm *realm, DocrepJsKind kind, char *const *path, int npath)
{
	JsFunction *function;
	MemoryContext old;

	for (function = realm->functions; function != NULL; function = function->next)
	{
		bool		same = function->kind == kind && function->npath == npath;

		for (int i = 0; i < npath && same; i++)
			same = strcmp(function->path[i], path[i]) == 0;
		if (same)
			return function;
	}
	old = MemoryContextSwitchTo(realm->context);
	function = palloc0(sizeof(JsFunction));
	function->number = ++last_number;
	function->kind = kind;
	function->npath = npath;
	function->path = palloc(sizeof(char *) * Max(npath, 1));
	for (int i = 0; i < npath; i++)
		function->path[i] = pstrdup(path[i]);
	function->next = realm->functions;
	realm->functions = function;
	MemoryContextSwitchTo(old);
	return function;
}

/* What is said and heard when a function is defined. */
typedef struct Definition
{
	JsRealm    *realm;
	JsFunction *function;
	uint8		verdict;
	char	   *reason;
} Definition;

/* Frames that make the realm known, if it is not, and the function. */
static bool
produce_definition(void *arg, StringInfo out)
{
	Definition *definition = arg;
	JsRealm    *realm = definition->realm;
	JsFunction *function = definition->function;
	int			start;

	for (int i = 0; i < nforgotten; i++)
	{
		start = docrep_js_frame_begin(out, DOCREP_JS_FORGET);
		docrep_js_put_number(out, forgotten[i]);
		docrep_js_frame_end(out, start);
	}
	nforgotten = 0;
	if (realm->generation != docrep_js_generation())
	{
		start = docrep_js_frame_begin(out, DOCREP_JS_REALM);
		docrep_js_put_number(out, realm->number);
		appendStringInfoChar(out, realm->views ? 1 : 0);
		docrep_js_put_bytes(out, realm->ddoc, realm->len);
		docrep_js_frame_end(out, start);
	}
	start = docrep_js_frame_begin(out, DOCREP_JS_FUNCTION);
	docrep_js_put_number(out, function->number);
	docrep_js_put_number(out, realm->number);
	appendStringInfoChar(out, function->kind);
	docrep_js_put_number(out, docrep_js_timeout);
	appendStringInfoChar(out, function->npath);
	for (int i = 0; i < function->npath; i++)
		docrep_js_put_text(out, function->path[i], strlen(function->path[i]));
	docrep_js_frame_end(out, start);
	return false;
}

static bool
consume_definition(void *arg, char type, const char *data, int len)
{
	Definition *definition = arg;

	if (type != DOCREP_JS_COMPILED || len < 1)
		elog(ERROR, "unexpected answer of the JavaScript engine");
	definition->verdict = (uint8) data[0];
	definition->reason = docrep_js_text(data + 1, len - 1);
	return true;
}

/*
 * Sees to it that the helper knows a function.  Returns false if it has gone; else
 * *verdict is DOCREP_JS_YES or says what is wrong, with the reason in the current
 * context.
 */
bool
docrep_js_define(JsRealm *realm, JsFunction *function, uint8 *verdict, char **reason)
{
	Definition	definition = {realm, function, DOCREP_JS_YES, NULL};
	JsTalk		talk = {produce_definition, consume_definition, &definition};
	uint64		generation;

	docrep_js_start();
	generation = docrep_js_generation();
	if (function->generation != generation)
	{
		if (!docrep_js_talk(&talk))
			return false;
		realm->generation = generation;
		if (definition.verdict == DOCREP_JS_YES)
			function->generation = generation;
	}
	*verdict = definition.verdict;
	*reason = definition.reason;
	return true;
}
