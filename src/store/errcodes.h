/*-------------------------------------------------------------------------
 *
 * errcodes.h
 *		The SQLSTATEs of docrep, named after the HTTP codes that CouchDB gives.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_ERRCODES_H
#define DOCREP_STORE_ERRCODES_H

#include "utils/elog.h"

#define ERRCODE_DOCREP_BAD_REQUEST			MAKE_SQLSTATE('D','R','4','0','0')
#define ERRCODE_DOCREP_UNAUTHORIZED			MAKE_SQLSTATE('D','R','4','0','1')
#define ERRCODE_DOCREP_FORBIDDEN			MAKE_SQLSTATE('D','R','4','0','3')
#define ERRCODE_DOCREP_NOT_FOUND			MAKE_SQLSTATE('D','R','4','0','4')
#define ERRCODE_DOCREP_CONFLICT				MAKE_SQLSTATE('D','R','4','0','9')
#define ERRCODE_DOCREP_PRECONDITION_FAILED	MAKE_SQLSTATE('D','R','4','1','2')
#define ERRCODE_DOCREP_TOO_LARGE			MAKE_SQLSTATE('D','R','4','1','3')
#define ERRCODE_DOCREP_INTERNAL				MAKE_SQLSTATE('D','R','5','0','0')
#define ERRCODE_DOCREP_UNAVAILABLE			MAKE_SQLSTATE('D','R','5','0','3')

#endif							/* DOCREP_STORE_ERRCODES_H */
