-- src/store/purge.sql: forgetting revisions

CREATE FUNCTION docrep.purge(tbl regclass, revs jsonb) RETURNS jsonb
	LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_purge';
COMMENT ON FUNCTION docrep.purge(regclass, jsonb) IS
	'Forget leaf revisions, as CouchDB''s POST /db/_purge; revs is {"id": ["rev", ...], ...}. Does not replicate';
