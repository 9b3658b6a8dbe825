/*-------------------------------------------------------------------------
 *
 * sql_support.h
 *		What the SQL functions of the store have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DOCREP_STORE_SQL_SUPPORT_H
#define DOCREP_STORE_SQL_SUPPORT_H

#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "store/jsonb_raw.h"
#include "store/table.h"
#include "utils/tuplestore.h"

/*
 * Arguments of functions that are not strict.  "name" is the parameter's; a
 * required one that is NULL is DR400.
 */
extern Oid	docrep_arg_table(FunctionCallInfo fcinfo, int argno);
extern char *docrep_arg_id(FunctionCallInfo fcinfo, int argno, const char *name);
extern Jsonb *docrep_arg_jsonb(FunctionCallInfo fcinfo, int argno, const char *name);
extern int32 docrep_arg_int32(FunctionCallInfo fcinfo, int argno, const char *name);

static inline bool
docrep_arg_bool(FunctionCallInfo fcinfo, int argno)
{
	return !PG_ARGISNULL(argno) && PG_GETARG_BOOL(argno);
}

/* Start a set-returning function that fills a tuplestore, which is returned. */
extern Tuplestorestate *docrep_srf_begin(FunctionCallInfo fcinfo, TupleDesc *tupdesc);

/*
 * The array in a parameter that may be the array itself or, as in the body of
 * CouchDB's request, an object with it as member "docs".  DR400 otherwise.
 */
extern const JsonbContainer *docrep_docs_array(const Jsonb *value, const char *name);

#endif							/* DOCREP_STORE_SQL_SUPPORT_H */
