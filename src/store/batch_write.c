/*-------------------------------------------------------------------------
 *
 * batch_write.c
 *		Replication: revisions that have arrived are written as they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/batch.h"
#include "store/document.h"
#include "store/errcodes.h"
#include "store/json_text.h"
#include "store/local_docs.h"
#include "store/origins.h"
#include "store/rejected.h"
#include "utils/builtins.h"

/*
 * JSON text to jsonb.  On a failure the document's sqlstate and reason are
 * set.  Parsing has no effects but memory, so no subtransaction is needed to
 * recover from an error in it.
 */
static Jsonb *
parse_body(DocrepDoc *doc)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile result = NULL;
	char	   *text = pnstrdup(doc->json, doc->jsonlen);

	PG_TRY();
	{
		result = docrep_json_parse(text);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_DATA_EXCEPTION &&
			ERRCODE_TO_CATEGORY(edata->sqlerrcode) != ERRCODE_PROGRAM_LIMIT_EXCEEDED)
			PG_RE_THROW();
		FlushErrorState();
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = psprintf("%s%s%s", edata->message, edata->detail ? ": " : "",
							   edata->detail ? edata->detail : "");
	}
	PG_END_TRY();
	pfree(text);
	return result;
}

/*
 * The attachments of a document for its write.  False, and sqlstate and
 * reason set: a name that may not be.
 */
static bool
atts_to_write(DocrepDoc *doc, DocWrite *write)
{
	for (int i = 0; i < doc->atts.n; i++)
	{
		const DocAtt *att = &doc->atts.atts[i];
		const char *problem = docrep_att_name_problem(att->name, strlen(att->name));

		if (problem)
		{
			doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
			doc->reason = psprintf("_attachments: %s", problem);
			return false;
		}
		if (att->data == NULL && !att->stub && !doc->atts_at_target)
			elog(ERROR, "attachment \"%s\" of document \"%s\" was not brought to the target",
				 att->name, doc->id);
	}
	write->atts = doc->atts;
	return true;
}

/* What may not be stored is refused here, before it meets the table. */
bool
docrep_doc_to_write(DocrepDoc *doc, DocWrite *write)
{
	const char *problem;

	memset(write, 0, sizeof(*write));
	if (doc->unreadable || doc->withheld)
		return false;
	problem = docrep_id_problem(doc->id, strlen(doc->id));
	if (problem)
	{
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = psprintf("_id: %s", problem);
		return false;
	}
	write->id = doc->id;
	write->path = doc->path;
	write->deleted = doc->deleted;
	write->modified = doc->modified;
	write->origin = doc->has_origin ? &doc->origin : NULL;
	write->body = doc->body;
	if (write->body == NULL && doc->json != NULL)
	{
		write->body = parse_body(doc);
		if (write->body == NULL)
			return false;
	}
	if (write->body && (!JB_ROOT_IS_OBJECT(write->body) || JB_ROOT_IS_SCALAR(write->body)))
	{
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = "the body is not an object";
		return false;
	}
	/* a peer that keeps to the protocol sends none of these in a body */
	if (doc->json != NULL && write->body && docrep_body_has_special(&write->body->root))
	{
		doc->sqlstate = ERRCODE_DOCREP_BAD_REQUEST;
		doc->reason = "the body has a member that begins with \"_\"";
		return false;
	}
	return atts_to_write(doc, write);
}

/*
 * Contents were brought here, or found, before this transaction.  If
 * docrep.compact() has removed one since, as no revision named it yet, that is
 * no fault of the document: all of it is to be tried again.
 */
static void
check_contents(DocTable *table, const DocWrite *writes, int n)
{
	for (int i = 0; i < n; i++)
	{
		const DocWrite *write = &writes[i];

		for (int j = 0; write->sqlstate == ERRCODE_DOCREP_PRECONDITION_FAILED &&
			 j < write->atts.n; j++)
		{
			const DocAtt *att = &write->atts.atts[j];

			if (att->data == NULL && att->file != 0 &&
				!docrep_content_pin(table, att->file, NULL, NULL))
				ereport(ERROR,
						(errcode(ERRCODE_DOCREP_UNAVAILABLE),
						 errmsg("the content of attachment \"%s\" of document \"%s\" has been removed before the document was written",
								att->name, write->id),
						 errhint("The next attempt brings it again.")));
		}
	}
}

void
docrep_batch_write(DocTable *table, DocrepDocs *docs, const DocrepWriteOrigin *origin,
				   const char *local_id, const char *local_doc)
{
	DocWrite   *writes = palloc(Max(docs->n, 1) * sizeof(DocWrite));
	DocrepDoc **targets = palloc(Max(docs->n, 1) * sizeof(DocrepDoc *));
	int			n = 0;

	docrep_origins_complete(docs, origin ? origin->source : NULL);
	for (int i = 0; i < docs->n; i++)
	{
		if (!docs->docs[i].unreadable && !docs->docs[i].withheld)
			docs->docs[i].sqlstate = 0;
		if (docrep_doc_to_write(&docs->docs[i], &writes[n]))
			targets[n++] = &docs->docs[i];
	}
	docrep_origins_localize(table, writes, n);
	docrep_constraints_immediate();
	docrep_write_revisions(table, writes, n, true);
	check_contents(table, writes, n);
	for (int i = 0; i < n; i++)
	{
		targets[i]->sqlstate = writes[i].sqlstate;
		targets[i]->reason = writes[i].reason;
		targets[i]->known = writes[i].known;
	}
	docrep_rejected_keep(table, docs, origin);
	docrep_rejected_retry(table, origin);
	if (local_id)
		(void) docrep_local_put(&table->info, local_id, docrep_json_parse(local_doc));
}
