/*-------------------------------------------------------------------------
 *
 * replication_id.c
 *		The identity of a replication: what names its checkpoints.
 *
 * The id is a digest of everything that decides which revisions come to be at
 * the target: this database, both endpoints and the choice of documents.
 * What only decides how (batch size, intervals, where to start) is left out,
 * so that tuning a replication does not make it start over.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <xxhash.h>

#include "lib/stringinfo.h"
#include "replicator/replication.h"

/*
 * Raised when what goes into the digest changes; 4 is also what CouchDB calls
 * its own way of computing ids since 2.x, and what checkpoints carry.
 */
#define ID_SCHEME	"docrep replication 4"

/* Append a text so that no two lists of texts give the same bytes. */
static void
add_part(StringInfo parts, const char *text)
{
	appendStringInfo(parts, "%zu:%s;", strlen(text), text);
}

void
docrep_replication_identify(Replication *replication)
{
	StringInfoData parts;
	XXH128_canonical_t digest;
	char		hex[2 * sizeof(digest.digest) + 1];

	initStringInfo(&parts);
	add_part(&parts, ID_SCHEME);
	add_part(&parts, replication->node_uuid);
	add_part(&parts, replication->source->identity);
	add_part(&parts, replication->target->identity);
	add_part(&parts, replication->winning_revs_only ? "winners" : "leaves");
	add_part(&parts, replication->doc_ids ? "doc_ids" : "all");
	for (int i = 0; i < replication->ndoc_ids; i++)
		add_part(&parts, replication->doc_ids[i]);
	/* nothing where there is no filter: as before there were any */
	if (replication->filter_identity)
		add_part(&parts, replication->filter_identity);

	XXH128_canonicalFromHash(&digest, XXH3_128bits(parts.data, parts.len));
	for (size_t i = 0; i < sizeof(digest.digest); i++)
		snprintf(hex + 2 * i, 3, "%02x", digest.digest[i]);
	pfree(parts.data);

	replication->id = pstrdup(hex);
	replication->full_id = psprintf("%s%s%s", hex,
									replication->continuous ? "+continuous" : "",
									replication->create_target ? "+create_target" : "");
}
