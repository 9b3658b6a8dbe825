/*-------------------------------------------------------------------------
 *
 * explain_documents.c
 *		docrep.explain(): is the document one of those that are replicated?
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "scheduler/explain_internal.h"
#include "scheduler/views.h"
#include "store/not_replicated.h"

/* Why the source's table keeps a leaf back; NULL: it does not. */
static const char *
leaf_kept_back(Explanation *e, const KeepBack *rule, DocState *state, int32 node)
{
	const RevNode *leaf = &state->tree->nodes[node];
	Jsonb	   *body = NULL;
	LeafState	stored;

	if (node == state->winner)
		body = state->doc;
	else if (docrep_leaf_state(e->source.table, e->snapshot, e->id, &leaf->rev, &stored))
		body = stored.doc;
	return docrep_keep_back_reason(rule, e->id, &leaf->rev, leaf->deleted, body);
}

void
docrep_explain_rule(Explanation *e)
{
	const KeepBack *rule = e->source.found ? docrep_keep_back_rule(e->source.table) : NULL;
	const char *reason = NULL;
	DocState	state;
	int32	   *leaves;
	int32		n;
	int32		kept = 0;

	if (rule == NULL || !docrep_state_read(e->source.table, e->snapshot, e->id, DOCSTATE_BODY, &state))
		return;
	n = docrep_revtree_leaves(state.tree, &leaves);
	for (int32 i = 0; i < n; i++)
	{
		const char *why = leaf_kept_back(e, rule, &state, leaves[i]);

		reason = why ? why : reason;
		kept += why != NULL;
	}
	if (kept == 0)
		docrep_explain_add(e, "rule", PASSES, "the source table's rule does not keep it back");
	else if (kept < n)
		docrep_explain_add(e, "rule", PASSES, "%d of its %d revisions are kept back by the source table's rule: %s",
						   kept, n, reason);
	else
		docrep_explain_add(e, "rule", STOPS, "it is kept back by the source table's rule: %s", reason);
}

/* Is the id one of them? */
static bool
is_among(const char *id, char **ids, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(ids[i], id) == 0)
			return true;
	}
	return false;
}

/* Is the id one of those that paths name? */
static bool
passes_paths(const Replication *r, const char *id)
{
	DocrepFilterSpec paths = {.paths = r->filter.paths, .npaths = r->filter.npaths};

	return docrep_filter_is_empty(&paths) ||
		docrep_filter_id_passes(docrep_filter_compile(&paths, NULL), id, false);
}

/* What a replication's filter is called. */
static const char *
filter_name(const Replication *r)
{
	if (r->filter.filter && strcmp(r->filter.filter, "_view") == 0)
		return psprintf("filter \"_view\" of \"%s\"", docrep_filter_view_param(&r->filter));
	if (r->filter.filter)
		return psprintf("filter \"%s\"", r->filter.filter);
	return r->filter.selector ? "the selector" : "prevent_deletions";
}

/* Ask the filter of a source that is here. */
static void
explain_answer(Explanation *e)
{
	const Replication *r = e->task->replication;
	const char *name = filter_name(r);
	ExplainFilter answer;

	docrep_explain_ask_filter(r, e->source.table->info.relid, e->id, &answer);
	if (answer.problem)
		docrep_explain_add(e, "filter", STOPS, "%s has no answer: %s", name, answer.problem);
	else if (!answer.found)
		docrep_explain_add(e, "filter", STOPS, "role %s, as which the replication reads, does not see the document",
						   GetUserNameFromId(r->role, false));
	else if (answer.passing == 0)
		docrep_explain_add(e, "filter", STOPS, "%s does not let it pass", name);
	else if (answer.passing < answer.asked)
		docrep_explain_add(e, "filter", PASSES, "%s lets %d of its %d revisions pass", name, answer.passing,
						   answer.asked);
	else
		docrep_explain_add(e, "filter", PASSES, "%s lets it pass", name);
}

/* Is anything asked but the id? */
static bool
looks_at_revisions(const DocrepFilterSpec *filter)
{
	return filter->filter || filter->selector || filter->prevent_deletions;
}

/* filter, selector, prevent_deletions. */
static void
explain_asked(Explanation *e)
{
	const Replication *r = e->task->replication;

	if (e->source.table == NULL)
		docrep_explain_add(e, "filter", UNKNOWN, "%s is asked at %s, which cannot be looked at from here",
						   filter_name(r), r->source->display);
	else if (!e->source.found)
		docrep_explain_add(e, "filter", UNKNOWN, "there is no document about which %s could be asked",
						   filter_name(r));
	else if (!docrep_explain_may_ask(r))
		docrep_explain_add(e, "filter", UNKNOWN, "%s is asked as role %s, which this role may not become",
						   filter_name(r), GetUserNameFromId(r->role, false));
	else
		explain_answer(e);
}

void
docrep_explain_filter(Explanation *e)
{
	const Replication *r = e->task->replication;

	if (!passes_paths(r, e->id))
		docrep_explain_add(e, "filter", STOPS, "its id is not among those of paths");
	else if (r->doc_ids && !is_among(e->id, r->doc_ids, r->ndoc_ids))
		docrep_explain_add(e, "filter", STOPS, "its id is not among the %d of doc_ids", r->ndoc_ids);
	else if (looks_at_revisions(&r->filter))
		explain_asked(e);
	else if (r->doc_ids)
		docrep_explain_add(e, "filter", PASSES, "its id is among those of doc_ids");
	else if (r->filter.paths)
		docrep_explain_add(e, "filter", PASSES, "its id is among those of paths");
	else
		docrep_explain_add(e, "filter", PASSES, "all documents are replicated");
	if (strncmp(e->id, "_design/", 8) == 0 && strcmp(r->target->kind, "local") == 0 &&
		!r->user_is_admin)
		docrep_explain_add(e, "design document", STOPS,
						   "a replication without the admin role does not write design documents into tables here");
	if (r->winning_revs_only && e->source.found)
		docrep_explain_add(e, "revisions", PASSES, "of its revisions only the winner is replicated (winning_revs_only)");
}
