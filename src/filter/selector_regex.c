/*-------------------------------------------------------------------------
 *
 * selector_regex.c
 *		$regex: Perl's regular expressions on bytes, as CouchDB.
 *
 * The library's memory is its own and goes with the memory context in which the
 * expression was compiled.  Backtracking is limited by steps, as in CouchDB: an
 * expression that needs more does not match.  The heap is limited too, so that a
 * document cannot take the server's memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "filter/selector_internal.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* What a match may take: steps (a second or so), and kilobytes. */
#define MATCH_LIMIT		10000000
#define HEAP_LIMIT_KB	20000

struct SelectorRegex
{
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *context;
	MemoryContextCallback callback;
};

/* The memory context goes: so does what belongs to the library. */
static void
free_regex(void *arg)
{
	SelectorRegex *regex = (SelectorRegex *) arg;

	pcre2_code_free(regex->code);
	pcre2_match_data_free(regex->data);
	pcre2_match_context_free(regex->context);
}

/*
 * Compile an expression in the current context.  NULL: it is malformed, and
 * *problem says how.
 */
SelectorRegex *
docrep_selector_regex_compile(const char *pattern, int len, char **problem)
{
	SelectorRegex *regex = palloc0(sizeof(SelectorRegex));
	int			code;
	PCRE2_SIZE	offset;

	/* before there is anything to free */
	regex->callback.func = free_regex;
	regex->callback.arg = regex;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &regex->callback);

	regex->code = pcre2_compile((PCRE2_SPTR) pattern, len, 0, &code, &offset, NULL);
	if (regex->code == NULL)
	{
		PCRE2_UCHAR message[256];

		if (pcre2_get_error_message(code, message, sizeof(message)) < 0)
			message[0] = '\0';
		*problem = psprintf("%s, at byte %d", (char *) message, (int) offset);
		return NULL;
	}
	regex->data = pcre2_match_data_create(1, NULL);
	regex->context = pcre2_match_context_create(NULL);
	if (regex->data == NULL || regex->context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	pcre2_set_match_limit(regex->context, MATCH_LIMIT);
	pcre2_set_heap_limit(regex->context, HEAP_LIMIT_KB);
	return regex;
}

/*
 * Does it match somewhere in a text?  Whatever the library gives up on does not.
 */
bool
docrep_selector_regex_matches(const SelectorRegex *regex, const char *text, int len)
{
	CHECK_FOR_INTERRUPTS();
	return pcre2_match(regex->code, (PCRE2_SPTR) text, len, 0, 0, regex->data,
					   regex->context) >= 0;
}
