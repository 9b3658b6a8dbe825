/*-------------------------------------------------------------------------
 *
 * document_atts.c
 *		The member _attachments of a document that goes out.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "store/base64.h"
#include "store/content.h"
#include "store/document.h"
#include "store/errcodes.h"

/* The generation after which attachments are new to somebody who has these revisions; 0: all are. */
static int64
known_up_to(const RevTree *tree, int32 node, const DocShow *show)
{
	RevPath		path;

	if (!show->has_since)
		return 0;
	path = docrep_revtree_path(tree, node);
	for (int i = 0; i < path.n; i++)
	{
		for (int j = 0; j < show->nsince; j++)
		{
			if (docrep_rev_eq(&path.revs[i], &show->since[j]))
				return path.revs[i].gen;
		}
	}
	return 0;
}

/* Add "digest" and "data".  What is shown decoded gets the digest of that. */
static void
add_data(RawBuilder *object, const DocAtt *att, const DocShow *show)
{
	bytea	   *content;
	Size		len;
	Size		textlen;
	char	   *text;
	const char *digest = att->digest;

	/* CHECK_FOR_INTERRUPTS is in the reading */
	if (docrep_base64_length(att->length) > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_DOCREP_TOO_LARGE),
				 errmsg("attachment \"%s\" is too large to be shown in a document", att->name),
				 errhint("Read it with docrep.get_attachment_part().")));
	content = docrep_content_get(show->table, att);
	len = VARSIZE_ANY_EXHDR(content);
	textlen = docrep_base64_length(len);
	text = palloc_extended(Max(textlen, 1), MCXT_ALLOC_HUGE);
	docrep_base64_encode(VARDATA_ANY(content), len, text);
	if (att->encoding)
	{
		uint8		md5[MD5_DIGEST_LENGTH];

		docrep_content_md5(VARDATA_ANY(content), len, md5);
		digest = docrep_md5_digest(md5);
	}
	pfree(content);
	if (digest)
		docrep_raw_add_text(object, "digest", digest);
	docrep_raw_add_text_len(object, "data", text, textlen);
}

void
docrep_document_add_atts(RawBuilder *builder, const RevTree *tree, int32 node, Jsonb *column,
						 const DocShow *show)
{
	DocAtts		atts;
	RawBuilder	result;
	int64		known = show->attachments ? known_up_to(tree, node, show) : 0;

	docrep_atts_from_column(column, &atts);
	if (atts.n == 0)
		return;
	docrep_raw_init(&result, true, atts.n);
	for (int i = 0; i < atts.n; i++)
	{
		const DocAtt *att = &atts.atts[i];
		RawBuilder	object;

		docrep_raw_init(&object, true, 5);
		docrep_raw_add_text(&object, "content_type", att->content_type);
		docrep_raw_add_int64(&object, "revpos", att->revpos);
		if (show->attachments && att->revpos > known)
			add_data(&object, att, show);
		else
		{
			if (att->digest)
				docrep_raw_add_text(&object, "digest", att->digest);
			docrep_raw_add_int64(&object, "length", att->length);
			docrep_raw_add_bool(&object, "stub", true);
		}
		docrep_raw_add_built(&result, att->name, &object);
	}
	docrep_raw_add_built(builder, "_attachments", &result);
}
