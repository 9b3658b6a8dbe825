/*-------------------------------------------------------------------------
 *
 * inspection.h
 *		Reading endpoints without writing: docrep.verify() and
 *		docrep.preflight().
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_INSPECTION_H
#define DOCREP_REPLICATOR_INSPECTION_H

#include "replicator/replication.h"

typedef enum InspectAtts
{
	INSPECT_ATTS_NONE,
	INSPECT_ATTS_DIGESTS,
	INSPECT_ATTS_CONTENTS		/* where digests differ but contents may not */
} InspectAtts;

typedef enum InspectAncestry
{
	INSPECT_ANCESTRY_NONE,
	INSPECT_ANCESTRY_KNOWN,		/* as far as both sides remember */
	INSPECT_ANCESTRY_FULL		/* equally far, too */
} InspectAncestry;

/* What is asked for, read and checked. */
typedef struct Inspection
{
	bool		verify;			/* else preflight */
	DocrepEndpoint *source;
	DocrepEndpoint *target;		/* of verify */
	char	   *id;				/* of the job; every request has its own */
	Jsonb	   *options;		/* as given */

	/* from the options */
	DocrepPeerOptions peer_options;
	char	  **doc_ids;		/* sorted, unique; NULL: all */
	int			ndoc_ids;
	bool		bodies;
	InspectAtts attachments;
	InspectAncestry ancestry;
	int			max_differences;
	int			settle;			/* ms that a difference must last */
	int			max_per_kind;
	int			large_document; /* bytes, from which on they are listed */
	int			large_attachment;
} Inspection;

/*
 * Read a request in the caller's session; target NULL: preflight.  What is
 * wrong with it is raised as DR400.
 */
extern Inspection *docrep_inspection_parse(const char *source, const char *target,
										   Jsonb *options);

/* Flat text for handing it to a worker, and back.  It holds credentials. */
extern char *docrep_inspection_serialize(const Inspection *inspection);
extern Inspection *docrep_inspection_deserialize(const char *text);

/*
 * Do it, outside of a transaction in a background worker.  Returns the rows
 * as JSON text, an array of objects, in CurrentMemoryContext; what there is so
 * far when should_stop said so.
 */
extern char *docrep_verify_run(Inspection *inspection, const ReplicationHooks *hooks);
extern char *docrep_preflight_run(Inspection *inspection, const ReplicationHooks *hooks);

#endif							/* DOCREP_REPLICATOR_INSPECTION_H */
