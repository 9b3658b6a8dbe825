/*-------------------------------------------------------------------------
 *
 * local_functions.c
 *		SQL functions on local documents.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "store/document.h"
#include "store/errcodes.h"
#include "store/local_docs.h"
#include "store/sql_support.h"
#include "utils/acl.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(docrep_put_local);
PG_FUNCTION_INFO_V1(docrep_get_local);
PG_FUNCTION_INFO_V1(docrep_delete_local);

/* A local document's id, without "_local/"; DR400 if it cannot be one. */
static char *
local_id(FunctionCallInfo fcinfo)
{
	char	   *id = docrep_arg_id(fcinfo, 1, "id");

	if (id[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad id: a local document's id must not be empty")));
	if (strlen(id) > DOCREP_MAX_ID_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_BAD_REQUEST),
				 errmsg("bad id: a local document's id must not be longer than %d bytes",
						DOCREP_MAX_ID_LEN)));
	return id;
}

/* docrep.put_local(tbl, id, doc): the revision 0-N; 0-0 if doc says _deleted. */
Datum
docrep_put_local(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
										  ACL_INSERT | ACL_UPDATE);
	char	   *id = local_id(fcinfo);
	bool		deleted;
	Jsonb	   *body = docrep_local_body(docrep_arg_jsonb(fcinfo, 2, "doc"), &deleted);
	int			n = 0;

	if (deleted)
	{
		docrep_table_check(table, ACL_DELETE);
		docrep_local_delete(&table->info, id);
	}
	else
		n = docrep_local_put(&table->info, id, body);
	docrep_table_close(table, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("0-%d", n)));
}

/* docrep.get_local(tbl, id): the document with _id and _rev, or NULL. */
Datum
docrep_get_local(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), AccessShareLock,
										  ACL_SELECT);
	Jsonb	   *doc = docrep_local_get(&table->info, local_id(fcinfo));

	docrep_table_close(table, NoLock);
	if (doc == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(doc);
}

/* docrep.delete_local(tbl, id): was there one? */
Datum
docrep_delete_local(PG_FUNCTION_ARGS)
{
	DocTable   *table = docrep_table_open(docrep_arg_table(fcinfo, 0), RowExclusiveLock,
										  ACL_DELETE);
	bool		found = docrep_local_delete(&table->info, local_id(fcinfo));

	docrep_table_close(table, NoLock);
	PG_RETURN_BOOL(found);
}
