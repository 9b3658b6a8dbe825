/*-------------------------------------------------------------------------
 *
 * purge.c
 *		SQL function purge: forget leaves, as CouchDB's POST /db/_purge.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/sql_support.h"
#include "utils/acl.h"

PG_FUNCTION_INFO_V1(docrep_purge);

typedef struct PurgeRequest
{
	char	   *id;
	Rev		   *revs;
	int			nrevs;
	bool	   *purged;
} PurgeRequest;

/* Raise DR400 for the parameter of purge. */
static void
bad_revs(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DOCREP_BAD_REQUEST),
			 errmsg("\"revs\" must be an object of arrays of revisions, by document id")));
}

/* Read {"id": ["rev", ...], ...}. */
static PurgeRequest *
parse_requests(const Jsonb *revs, int *n)
{
	PurgeRequest *requests;
	RawCursor	cursor;
	RawMember	item;

	if (!JB_ROOT_IS_OBJECT(revs))
		bad_revs();
	docrep_raw_begin(&cursor, &revs->root);
	requests = palloc_extended(Max(cursor.n, 1) * sizeof(PurgeRequest), MCXT_ALLOC_HUGE);
	*n = cursor.n;
	for (int i = 0; docrep_raw_next(&cursor, &item); i++)
	{
		PurgeRequest *request = &requests[i];
		RawCursor	list;
		RawMember	rev;

		if (!docrep_raw_is_array(&item.value))
			bad_revs();
		docrep_raw_begin(&list, (const JsonbContainer *) item.value.data);
		request->id = pnstrdup(item.key, item.keylen);
		request->nrevs = 0;
		request->revs = palloc(Max(list.n, 1) * sizeof(Rev));
		request->purged = palloc0(Max(list.n, 1) * sizeof(bool));
		while (docrep_raw_next(&list, &rev))
		{
			if (rev.value.type != JENTRY_ISSTRING)
				bad_revs();
			request->revs[request->nrevs++] =
				docrep_rev_from_text(rev.value.data, rev.value.len, "a member of \"revs\"");
		}
	}
	return requests;
}

static int
compare_requests(const void *a, const void *b)
{
	return strcmp(((const PurgeRequest *) a)->id, ((const PurgeRequest *) b)->id);
}

/*
 * docrep.purge(tbl, revs): {"purge_seq": null, "purged": {"id": ["rev", ...]}}.
 * Every id asked for is listed, with those of its revisions that were leaves.
 */
Datum
docrep_purge(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
										  ACL_DELETE);
	PurgeRequest *requests;
	int			n;
	RawBuilder	object;
	RawBuilder	purged;

	requests = parse_requests(docrep_arg_jsonb(fcinfo, 1, "revs"), &n);
	/* in order of id, as all writers, so that none waits for another crosswise */
	qsort(requests, n, sizeof(PurgeRequest), compare_requests);
	docrep_raw_init(&purged, true, n);
	for (int i = 0; i < n; i++)
	{
		PurgeRequest *request = &requests[i];
		RawBuilder	list;

		CHECK_FOR_INTERRUPTS();
		docrep_write_purge(table, request->id, request->revs, request->nrevs, request->purged);
		docrep_raw_init(&list, false, request->nrevs);
		for (int j = 0; j < request->nrevs; j++)
		{
			if (request->purged[j])
				docrep_raw_add_rev(&list, NULL, &request->revs[j]);
		}
		docrep_raw_add_built(&purged, request->id, &list);
	}
	docrep_table_close(table, NoLock);
	docrep_raw_init(&object, true, 2);
	docrep_raw_add_null(&object, "purge_seq");
	docrep_raw_add_built(&object, "purged", &purged);
	PG_RETURN_JSONB_P(docrep_raw_finish(&object));
}
