/*-------------------------------------------------------------------------
 *
 * keep_back.c
 *		Selectors in what a table keeps back from replications.
 *
 * The rule is applied on the floor below (store/not_replicated.c), in batches
 * that are fetched, too; what it cannot do by itself it asks here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "filter/filter.h"
#include "filter/selector_find.h"
#include "store/not_replicated.h"

/* KeepBackSelector.compile */
static void *
compile(Jsonb *selector)
{
	return docrep_selector_compile(selector);
}

/* KeepBackSelector.matches */
static bool
matches(void *compiled, const char *id, const Rev *rev, bool deleted, Jsonb *body)
{
	char	   *text = palloc(REV_TEXT_SIZE);
	bool		result;

	(void) docrep_rev_print(rev, text);
	/* attachments are not looked at: a rule is about what a document says */
	result = docrep_selector_matches(compiled, &body->root, id, text, deleted, NULL);
	pfree(text);
	return result;
}

void
docrep_filter_install_hooks(void)
{
	static const KeepBackSelector selector = {compile, matches};

	docrep_keep_back_selector = &selector;
	docrep_find_install_hook();
}
