/*-------------------------------------------------------------------------
 *
 * explain_filter.c
 *		docrep.explain(): what the filter of a replication says of a document.
 *
 * A function is called as the role that the replication runs as, if the caller could
 * become that role anyway, and whatever it does is undone.  It sees the document as it is now,
 * which need not be what it saw then.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "filter/user_context.h"
#include "miscadmin.h"
#include "replicator/user_ctx.h"
#include "scheduler/explain.h"
#include "store/open_doc.h"
#include "utils/acl.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

bool
docrep_explain_may_ask(const Replication *r)
{
	return r->role == GetUserId() || docrep_role_may_become(GetUserId(), r->role);
}

/* Ask about each leaf that would travel. */
static void
ask_leaves(const Replication *r, DocrepFilter *filter, OpenDoc *doc, ExplainFilter *answer)
{
	int32	   *nodes = &doc->state.winner;

	answer->asked = r->winning_revs_only ? 1 :
		docrep_revtree_leaves(doc->state.tree, &nodes);
	for (int i = 0; i < answer->asked; i++)
	{
		DocFeedLeaf leaf = {.id = doc->id, .tree = doc->state.tree, .node = nodes[i]};

		docrep_open_doc_leaf(doc, nodes[i], &leaf.body, &leaf.atts);
		answer->passing += docrep_filter_passes(filter, &leaf);
	}
}

/* Ask, as the current role. */
static void
ask(const Replication *r, Oid relid, const char *id, ExplainFilter *answer)
{
	DocTable   *table = docrep_table_open(relid, AccessShareLock, ACL_SELECT);
	DocrepFilter *filter = docrep_filter_compile(&r->filter, table);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	OpenDoc		doc;

	docrep_open_doc(&doc, table, snapshot, id, DOCSTATE_BODY | DOCSTATE_TRUNK);
	answer->found = doc.found;
	if (doc.found)
		ask_leaves(r, filter, &doc, answer);
	UnregisterSnapshot(snapshot);
	docrep_table_close(table, NoLock);
}

/* Become the role, in the current subtransaction, whose end takes it back. */
static void
become(Oid role)
{
	Oid			current;
	int			context;

	GetUserIdAndSecContext(&current, &context);
	SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
}

void
docrep_explain_ask_filter(const Replication *r, Oid relid, const char *id, ExplainFilter *answer)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Oid			user;
	int			context;

	memset(answer, 0, sizeof(*answer));
	GetUserIdAndSecContext(&user, &context);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		docrep_user_context_set_roles(r->roles_given ? r->user_roles : NULL, r->nuser_roles);
		become(r->role);
		ask(r, relid, id, answer);
		SetUserIdAndSecContext(user, context);
		docrep_user_context_set_roles(NULL, 0);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		docrep_user_context_set_roles(NULL, 0);
		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		answer->problem = edata->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}
