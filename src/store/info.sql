-- src/store/info.sql: a document table described

CREATE FUNCTION docrep.info(tbl regclass) RETURNS jsonb
	LANGUAGE C STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'docrep_info';
COMMENT ON FUNCTION docrep.info(regclass) IS
	'A document table as CouchDB''s GET /db: db_name, doc_count, doc_del_count, update_seq, ...; counts are exact';
