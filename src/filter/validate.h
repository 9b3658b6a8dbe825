/*-------------------------------------------------------------------------
 *
 * validate.h
 *		Validators: shared among validate*.c only, but for the set-up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_FILTER_VALIDATE_H
#define DOCREP_FILTER_VALIDATE_H

#include "js/js.h"
#include "store/validation.h"

/* docrep.validation, and makes the store ask us. */
extern void docrep_validate_define_gucs(void);

/* ---------- what all of them do ---------- */

/* What is asked about, with what all documents have in common, and as text once it is needed. */
typedef struct ValidationRun
{
	DocTable   *table;
	DocValidation *docs;
	int			n;
	bool		isolate;
	Jsonb	   *user_ctx;
	Jsonb	   *sec_obj;
	char	  **new_texts;		/* NULL: not needed yet */
	char	  **old_texts;
	char	   *user_ctx_text;
	char	   *sec_obj_text;
} ValidationRun;

/*
 * A document is refused: noted if the run isolates, else raised.  by: what says so, the
 * subject of a sentence.
 */
extern void docrep_validate_refuse(ValidationRun *run, DocValidation *doc, int sqlstate,
								   const char *reason, const char *by);

/* ---------- validate_function.c: SQL functions ---------- */

typedef struct ValidatorFunction ValidatorFunction;

/* Remember a function by its signature, in the current context; it is looked up when it is called. */
extern ValidatorFunction *docrep_validator_function_make(const char *signature);

/* Ask it about all documents that nobody has refused yet.  Not there any more: 55000. */
extern void docrep_validator_function_ask(ValidatorFunction *function, ValidationRun *run);

/* What is wrong with it, allocated, or NULL. */
extern char *docrep_validator_function_problem(ValidatorFunction *function);

extern const char *docrep_validator_function_signature(const ValidatorFunction *function);

/* ---------- validate_design.c: JavaScript of design documents ---------- */

/* A design document with validate_doc_update. */
typedef struct ValidatorDesign
{
	char	   *id;
	char	   *json;			/* the whole document */
	char	   *language;		/* NULL: it is JavaScript */
	DocrepJs   *js;				/* NULL: not compiled yet */
	MemoryContext js_cxt;		/* with which that goes */
	Oid			js_role;		/* for whom it was compiled */
} ValidatorDesign;

/* The design document if it validates, allocated, or NULL. */
extern ValidatorDesign *docrep_validator_design_make(const char *id, Jsonb *body);

/* Ask it about all documents that nobody has refused yet.  Without the engine: 0A000. */
extern void docrep_validator_design_ask(ValidatorDesign *design, ValidationRun *run);

/* What is wrong with it, allocated, or NULL. */
extern char *docrep_validator_design_problem(ValidatorDesign *design);

/* DocValidators.check_design */
extern void docrep_validator_design_check(const char *id, Jsonb *body);

#endif							/* DOCREP_FILTER_VALIDATE_H */
