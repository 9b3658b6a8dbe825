-- docrep.explain(): why did this document replicate or not?

CREATE FUNCTION docrep.explain(id text, tbl regclass, doc_id text,
	OUT step text, OUT verdict text, OUT detail text)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, docrep, pg_temp
AS 'MODULE_PATHNAME', 'docrep_explain';
COMMENT ON FUNCTION docrep.explain(text, regclass, text) IS
	'Why did a replication carry a document or not? id is a task''s or a replication''s, tbl its source or target; the last row sums up';
