/*-------------------------------------------------------------------------
 *
 * json_scan.h
 *		Looking through JSON text for what jsonb or text would not keep.
 *
 * Pure C, as the revision floor is, so that it is tested alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_REPLICATOR_JSON_SCAN_H
#define DOCREP_REPLICATOR_JSON_SCAN_H

#include "revision/port.h"

typedef enum JsonScanKind
{
	JSON_SCAN_NUL,				/* \u0000, or a NUL as it is */
	JSON_SCAN_SURROGATE,		/* half of a pair */
	JSON_SCAN_UTF8,				/* bytes that are no UTF-8 */
	JSON_SCAN_DUPLICATE,		/* a second member of the same name in an object */
	JSON_SCAN_NUMBER,			/* a number that plain notation does not show as it is */
	JSON_SCAN_SPECIAL			/* a member of the top object that begins with "_" */
} JsonScanKind;

#define JSON_SCAN_KINDS		(JSON_SCAN_SPECIAL + 1)

/*
 * Something was found: its text, and the raw name of the top object's member in
 * which it is (len 0: not known).  Nothing is NUL-terminated.
 */
typedef void (*JsonScanFound) (void *arg, JsonScanKind kind, const char *text, int len,
							   const char *member, int memberlen);

/*
 * Look through a text.  Returns how deep it is nested.  Numbers are reported
 * that have an exponent, are negative zero or have 1,000 characters or more.
 * Any text will do: what is no JSON is passed over.  Memory is taken from
 * CurrentMemoryContext and given back.
 */
extern int	docrep_json_scan(const char *text, size_t len, JsonScanFound found, void *arg);

#endif							/* DOCREP_REPLICATOR_JSON_SCAN_H */
