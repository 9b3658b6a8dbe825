/*-------------------------------------------------------------------------
 *
 * validate_design.c
 *		validate_doc_update of design documents.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/validate.h"
#include "miscadmin.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "utils/memutils.h"

#define VALIDATE_MEMBER "validate_doc_update"

/* A string member of an object, allocated, or NULL. */
static char *
string_member(Jsonb *body, const char *key)
{
	RawValue	value;

	if (!docrep_raw_find(&body->root, key, &value) || value.type != JENTRY_ISSTRING)
		return NULL;
	return docrep_raw_to_cstring(&value);
}

/* The design document as JSON text, with its _id. */
static char *
design_json(const char *id, Jsonb *body)
{
	RawBuilder	doc;
	RawCursor	cursor;
	RawMember	member;
	Jsonb	   *whole;

	docrep_raw_init(&doc, true, JB_ROOT_COUNT(body) + 1);
	docrep_raw_begin(&cursor, &body->root);
	while (docrep_raw_next(&cursor, &member))
		docrep_raw_add_member(&doc, &member);
	docrep_raw_add_text(&doc, "_id", id);
	whole = docrep_raw_finish(&doc);
	return docrep_json_print(whole);
}

ValidatorDesign *
docrep_validator_design_make(const char *id, Jsonb *body)
{
	ValidatorDesign *design;
	RawValue	source;
	char	   *language;

	if (body == NULL || !docrep_raw_find(&body->root, VALIDATE_MEMBER, &source))
		return NULL;
	design = palloc0(sizeof(ValidatorDesign));
	design->id = pstrdup(id);
	design->json = design_json(id, body);
	language = string_member(body, "language");
	if (language && strcmp(language, "javascript") != 0)
		design->language = language;
	return design;
}

/* 0A000 unless it can be asked at all. */
static void
require(const ValidatorDesign *design)
{
	if (design->language)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("design document \"%s\" validates in language \"%s\", which cannot be run",
						design->id, design->language),
				 errhint("Remove its validate_doc_update, or set docrep.validation to off.")));
	if (!docrep_js_available())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("design document \"%s\" validates every write with JavaScript, which cannot be run here",
						design->id),
				 errdetail("docrep was installed without its JavaScript engine."),
				 errhint("Install the engine, remove validate_doc_update from the design document, or set docrep.validation to off.")));
}

/*
 * Compile it for the current role, if it is not yet.  What the function keeps in
 * its globals is not for others.
 */
static void
compile(ValidatorDesign *design)
{
	static const char *const path[] = {VALIDATE_MEMBER};
	MemoryContext old;
	MemoryContext cxt;
	DocrepJs   *js;

	if (design->js && design->js_role == GetUserId())
		return;
	design->js = NULL;
	if (design->js_cxt)
		MemoryContextDelete(design->js_cxt);
	design->js_cxt = NULL;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "docrep validator", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	js = docrep_js_compile(design->json, DOCREP_JS_VALIDATE, path, 1, design->id);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(cxt, GetMemoryChunkContext(design));
	design->js_cxt = cxt;
	design->js_role = GetUserId();
	design->js = js;
}

/*
 * The same; NULL, or why it does not compile.  Nothing but the engine is involved, so no
 * subtransaction is needed to recover from that.
 */
static ErrorData *
try_compile(ValidatorDesign *design)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile problem = NULL;

	PG_TRY();
	{
		compile(design);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != MAKE_SQLSTATE('D', 'R', '0', '0', '0'))
			PG_RE_THROW();
		FlushErrorState();
		problem = edata;
	}
	PG_END_TRY();
	return problem;
}

/* ---------- asking ---------- */

/* The run's documents as JSON text, made once. */
static void
make_texts(ValidationRun *run)
{
	if (run->new_texts)
		return;
	run->new_texts = palloc(run->n * sizeof(char *));
	run->old_texts = palloc(run->n * sizeof(char *));
	for (int i = 0; i < run->n; i++)
	{
		Jsonb	   *new_doc = run->docs[i].new_doc;
		Jsonb	   *old_doc = run->docs[i].old_doc;

		run->new_texts[i] = docrep_json_print(new_doc);
		run->old_texts[i] = old_doc ? docrep_json_print(old_doc) : "null";
	}
	run->user_ctx_text = docrep_json_print(run->user_ctx);
	run->sec_obj_text = docrep_json_print(run->sec_obj);
}

static void
set_argument(DocrepJsCall *call, int i, const char *text)
{
	call->args[i] = text;
	call->lens[i] = strlen(text);
}

static void
refuse(ValidatorDesign *design, ValidationRun *run, DocValidation *doc, int sqlstate,
	   const char *reason)
{
	if (sqlstate != ERRCODE_DOCREP_FORBIDDEN && sqlstate != ERRCODE_DOCREP_UNAUTHORIZED)
		reason = psprintf("validate_doc_update of \"%s\" failed for document \"%s\": %s",
						  design->id, doc->id, reason);
	docrep_validate_refuse(run, doc, sqlstate, reason,
						   psprintf("The validation function of design document \"%s\"", design->id));
}

/* It does not compile: nothing can be written. */
static void
refuse_all(ValidatorDesign *design, ValidationRun *run, const ErrorData *problem)
{
	for (int i = 0; i < run->n; i++)
	{
		if (run->docs[i].sqlstate == 0)
			refuse(design, run, &run->docs[i], ERRCODE_DOCREP_INTERNAL,
				   problem->message ? problem->message : "it does not compile");
	}
}

void
docrep_validator_design_ask(ValidatorDesign *design, ValidationRun *run)
{
	DocrepJsCall *calls = palloc0(run->n * sizeof(DocrepJsCall));
	int		   *whose = palloc(run->n * sizeof(int));
	int			n = 0;
	ErrorData  *problem;

	require(design);
	problem = try_compile(design);
	if (problem)
	{
		refuse_all(design, run, problem);
		return;
	}
	make_texts(run);
	for (int i = 0; i < run->n; i++)
	{
		if (run->docs[i].sqlstate != 0)
			continue;
		set_argument(&calls[n], 0, run->new_texts[i]);
		set_argument(&calls[n], 1, run->old_texts[i]);
		set_argument(&calls[n], 2, run->user_ctx_text);
		set_argument(&calls[n], 3, run->sec_obj_text);
		whose[n++] = i;
	}
	if (n > 0)
		docrep_js_call(design->js, calls, n);
	for (int i = 0; i < n; i++)
	{
		if (calls[i].sqlstate != 0)
			refuse(design, run, &run->docs[whose[i]], calls[i].sqlstate,
				   calls[i].reason ? calls[i].reason : "");
	}
}

char *
docrep_validator_design_problem(ValidatorDesign *design)
{
	ErrorData  *problem;

	if (design->language)
		return psprintf("language \"%s\" cannot be run", design->language);
	if (!docrep_js_available())
		return "the JavaScript engine is not installed";
	problem = try_compile(design);
	return problem ? problem->message : NULL;
}

void
docrep_validator_design_check(const char *id, Jsonb *body)
{
	ValidatorDesign *design = docrep_validator_design_make(id, body);
	ErrorData  *problem;

	if (design == NULL)
		return;
	if (string_member(body, VALIDATE_MEMBER) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("`%s` of design document \"%s\" must be a string", VALIDATE_MEMBER, id)));
	if (design->language || !docrep_js_available())
		return;
	problem = try_compile(design);
	if (problem)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("%s", problem->message),
				 errdetail("Design document \"%s\" could not validate anything, and every write would fail.", id)));
	MemoryContextDelete(design->js_cxt);
}
