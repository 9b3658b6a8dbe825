/*-------------------------------------------------------------------------
 *
 * couch_json.h
 *		JSON as CouchDB peers send it, taken apart without loss.
 *
 * Pure C: no Postgres, so that it can be fuzzed alone (compile with
 * revision/port.h's allocation).  Nothing is copied that need not be:
 * results point into the text.  Documents may hold what jsonb or text cannot (NUL, lone
 * surrogates, numbers of 10,000 digits, great depth): they are passed on as
 * they came and meet their judge in the store.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_PEER_COUCH_JSON_H
#define DOCREP_PEER_COUCH_JSON_H

#include "revision/revtree.h"

/* ---------- a value in complete text ---------- */

typedef enum CouchJsonKind
{
	CJ_NONE = 0,				/* not there */
	CJ_NULL, CJ_TRUE, CJ_FALSE, CJ_NUMBER, CJ_STRING, CJ_OBJECT, CJ_ARRAY
} CouchJsonKind;

/* A value: its raw text, quotes and brackets included. */
typedef struct CouchJson
{
	CouchJsonKind	kind;
	const char *text;
	size_t		len;
} CouchJson;

/* Recognise the one value of a text (blanks around it).  False: it is no JSON. Depth is
 * unlimited and costs no stack. */
extern bool docrep_cj_value(const char *text, size_t len, CouchJson *out);

/* The value that is all of a text which was checked before. */
extern CouchJson docrep_cj_checked(const char *text, size_t len);

/* Members of an object, elements of an array, in order. */
typedef struct CouchJsonWalk
{
	const char *p;
	const char *end;
	bool		object;
	CouchJson	key;			/* of an object: the raw string */
	CouchJson	value;
} CouchJsonWalk;

extern void docrep_cj_walk(CouchJsonWalk *walk, const CouchJson *container);
extern bool docrep_cj_next(CouchJsonWalk *walk);

/* Is a raw string equal to a plain one, its escapes decoded? */
extern bool docrep_cj_equals(const CouchJson *string, const char *plain);

/* The last member of that name (duplicates: the last counts, as in jsonb); kind CJ_NONE if none. */
extern CouchJson docrep_cj_get(const CouchJson *object, const char *name);

/*
 * Decode a raw string to UTF-8 into out (at least string->len bytes); returns
 * the length.  *nul: it holds \u0000 (written as a 0 byte); *broken: lone surrogates
 * (written as their three bytes) or invalid UTF-8.
 */
extern size_t docrep_cj_decode(const CouchJson *string, char *out, bool *nul, bool *broken);

/* An integer without fraction or exponent that fits; false otherwise. */
extern bool docrep_cj_int64(const CouchJson *number, int64 *out);

/* ---------- elements as they arrive ---------- */

/*
 * Cuts a stream of JSON into the elements that matter: those directly in an
 * array that is the member "array" of the top object ("results"), or in the
 * top array (array NULL); or, with lines, the values of a stream of lines.
 * Everything else of the top object is kept as "rest": the object, the array
 * in it empty.
 */
typedef struct CouchSplit CouchSplit;

typedef enum CouchSplitResult
{
	COUCHSPLIT_MORE,				/* feed more */
	COUCHSPLIT_ELEMENT,			/* *element is one; call again with what is left */
	COUCHSPLIT_END,				/* the top value is complete */
	COUCHSPLIT_BAD,				/* no JSON, or another shape; docrep_cj_split_problem says what */
	COUCHSPLIT_TOO_LARGE			/* an element or the rest is longer than max */
} CouchSplitResult;

extern CouchSplit *docrep_cj_split_new(const char *array, bool lines, size_t max);
extern void docrep_cj_split_free(CouchSplit *split);
extern void docrep_cj_split_reset(CouchSplit *split);

/*
 * Feed [*data, *data + *len); they advance by what was taken.  An element
 * points into data or into the split's buffer and is good until the next call.
 */
extern CouchSplitResult docrep_cj_split(CouchSplit *split, const char **data, size_t *len,
										 CouchJson *element);
/* The top object with the array empty; after END. */
extern CouchJson docrep_cj_split_rest(CouchSplit *split);
extern const char *docrep_cj_split_problem(const CouchSplit *split);
/* Bytes of an element that has begun and is not complete. */
extern size_t docrep_cj_split_held(const CouchSplit *split);

/* ---------- documents ---------- */

/* A document as GET gives it, taken apart; slices point into the text. */
typedef struct CouchDoc
{
	CouchJson	id;				/* raw strings; kind CJ_NONE: missing */
	CouchJson	rev;
	CouchJson	deleted;
	CouchJson	revisions;		/* the object */
	CouchJson	attachments;	/* the object */
	bool		other_special;	/* has members that begin with "_" other than those that
								 * CouchDB itself adds (they are left out of the body) */
	char	   *body;			/* allocated: the object without "_" members */
	size_t		bodylen;
} CouchDoc;

/* False: it is no object. */
extern bool docrep_couch_doc_parse(const char *text, size_t len, CouchDoc *doc);

/* _revisions ({start, ids}) as a path, newest first; NULL or what is wrong (static). Allocated. */
extern const char *docrep_couch_revisions(const CouchJson *revisions, RevPath *path);

/* ---------- multipart ---------- */

/* Cuts multipart/mixed and multipart/related as it arrives; parts may nest (call again). */
typedef struct Multipart Multipart;

typedef enum MultipartEvent
{
	MULTIPART_MORE,				/* feed more */
	MULTIPART_HEADERS,			/* a part begins: docrep_multipart_header */
	MULTIPART_DATA,				/* *data, *datalen: some of its content */
	MULTIPART_PART_END,
	MULTIPART_END,				/* the closing boundary */
	MULTIPART_BAD
} MultipartEvent;

/* boundary: of the Content-Type header, unquoted (docrep_multipart_boundary finds it). */
extern Multipart *docrep_multipart_new(const char *boundary);
extern void docrep_multipart_free(Multipart *multipart);
extern MultipartEvent docrep_multipart_feed(Multipart *multipart, const char **in, size_t *inlen,
											const char **data, size_t *datalen);
/* A header of the current part, trimmed; NULL: none.  Name in any case. */
extern const char *docrep_multipart_header(Multipart *multipart, const char *name);
/* The boundary of a Content-Type "multipart/…; boundary=…" into out; false: none. */
extern bool docrep_multipart_boundary(const char *content_type, char *out, size_t size);

#endif							/* DOCREP_PEER_COUCH_JSON_H */
